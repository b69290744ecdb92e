"""Deal with what a mount left unsent, without mounting: send it, write it out as files, throw it away."""

import contextlib
import functools
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from b2mount.core.credentials import Credentials
from b2mount.core.errors import B2MountError, KeyForbids, LocalStorageError
from b2mount.core.posix import INFO_LIMIT_LOCKED
from b2mount.core.scope import RootBucket, Scope
from b2mount.journal.conflicts import Conflicts
from b2mount.journal.drafts import local_error
from b2mount.journal.export import Exported, Fetch, export
from b2mount.journal.journal import Journal
from b2mount.journal.large import LargeFiles
from b2mount.journal.leftover import JOURNAL, SPOOL, Leftover, hold, look
from b2mount.journal.ops import Kind, Op
from b2mount.journal.seal import COUNT_FILE
from b2mount.journal.sender import Sender
from b2mount.journal.streams import Streams
from b2mount.journal.uploader import Failure
from b2mount.mount_world import find_lock_buckets
from b2mount.store.connect import MountStore, open_store

Progress = Callable[[int, int], None]  # files and bytes left


@dataclass(frozen=True, slots=True)
class Reach:
    """How B2 is asked."""

    credentials: Credentials
    endpoint: str | None = None
    ca_file: Path | None = None
    io_timeout: float = 60.0
    uploads: int = 16

    def open(self) -> MountStore:
        return open_store(
            self.credentials,
            endpoint=self.endpoint,
            ca_file=self.ca_file,
            io_timeout=self.io_timeout,
            uploads=self.uploads,
        )


def upload_left(left: Leftover, reach: Reach, *, hard_delete: bool, progress: Progress) -> list[Failure]:
    """Send all that waits in a state directory; return what could not be sent, which stays there.

    Raises B2MountError where it cannot begin: credentials, another account, a mount that uses it, a journal
    that cannot be read.
    """
    return trio.run(functools.partial(_upload, left, reach, hard_delete, progress))


async def _upload(left: Leftover, reach: Reach, hard_delete: bool, progress: Progress) -> list[Failure]:
    store = reach.open()
    try:
        grant = await store.authorize()
        if left.label is not None and left.label.account_id != grant.account_id:
            raise B2MountError(
                f"the key is of account {grant.account_id}, what waits is of {left.label.account_id}\n"
                "use a key of that account"
            )
        journal = Journal(left.directory, hard_delete=hard_delete)
        try:
            return await _send_all(journal, store, left, hard_delete, progress)
        finally:
            journal.close()
    finally:
        with trio.move_on_after(10, shield=True):
            await store.aclose()


async def _send_all(
    journal: Journal, store: MountStore, left: Leftover, hard_delete: bool, progress: Progress
) -> list[Failure]:
    buckets = {op.bucket_id for op in left.ops if store.grant.covers_bucket(op.bucket_id)}
    touched = tuple(RootBucket(one, left.bucket_name(one)) for one in buckets)
    locked = await find_lock_buckets(store, store.grant, Scope(None, "", store.grant.prefix, touched))
    large = LargeFiles(store, journal.database, journal.room.tell)
    sender = Sender(
        store,
        large,
        new_id=journal.new_id,
        hard_delete=hard_delete,
        info_limits=dict.fromkeys(locked, INFO_LIMIT_LOCKED),
        server_ms=store.server_ms,
    )
    # What is overwritten now is looked at for changes by others by the next mount: its row is in the journal.
    conflicts = Conflicts(store, store.grant.prefix, server_ms=store.server_ms, database=journal.database)
    sender.made, sender.hid = conflicts.made, conflicts.hid
    journal.start(
        sender.send,
        settle=0,
        width=16,
        on_done=conflicts.sent,
        # As on a mount, what was written is kept; and what only this key may not do waits for one that may.
        on_refused=lambda op, error: op.kind is Kind.HIDE and not isinstance(error, KeyForbids),
        on_spool_free=_nothing_to_keep,
        large=large,
        streams=Streams(store, sender, large, journal, eager=lambda _bucket_id: False),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(journal.uploader.run)
        try:
            failures = await journal.uploader.wait_all(progress=progress)
        except BaseException:
            store.break_off()  # Ctrl-C: threads cannot be cancelled
            raise
        nursery.cancel_scope.cancel()
    journal.left_gone()
    with contextlib.suppress(B2MountError):  # what is sent already is found to be so next time
        await journal.commit()
    return failures


async def _nothing_to_keep(_op: Op) -> None:
    await trio.lowlevel.checkpoint()


def export_left(
    directory: Path,
    target: Path,
    reach: Reach | None,
    *,
    incomplete: bool,
    progress: Progress,
    on_no_b2: Callable[[B2MountError], None],
) -> Exported:
    """Write what waits in a state directory as files under *target*; with *reach*, bytes come from B2 too.

    Goes on without B2 where that does not answer or refuses the key, having told *on_no_b2*. Raises
    LocalStorageError where *target* cannot be used.
    """
    with hold(directory):
        left = look(directory, held=True)
        write = functools.partial(export, left, target, incomplete=incomplete, progress=progress)
        if reach is None:
            return write(None)
        return trio.run(_with_b2, reach, write, on_no_b2)


async def _with_b2(
    reach: Reach, write: Callable[[Fetch | None], Exported], on_no_b2: Callable[[B2MountError], None]
) -> Exported:
    """Run *write* in a thread, with the means to fetch bytes of B2."""
    store = reach.open()
    try:
        try:
            await store.authorize()
        except B2MountError as exc:
            on_no_b2(exc)
            return await trio.to_thread.run_sync(write, None)
        return await trio.to_thread.run_sync(
            write, lambda *wanted: trio.from_thread.run(store.read_range, *wanted)
        )
    finally:
        with trio.move_on_after(10, shield=True):
            await store.aclose()


def discard_left(directory: Path, count: int) -> None:
    """Throw away what waits in a state directory, if it is *count* changes still.

    Raises LocalStorageError.
    """
    with hold(directory):
        left = look(directory, held=True)
        if left.count != count:
            raise LocalStorageError(f"{left.count} changes wait here, not {count}: nothing was discarded")
        try:
            for name in (JOURNAL, f"{JOURNAL}-wal", f"{JOURNAL}-shm"):
                (directory / name).unlink(missing_ok=True)  # first: a spool without a journal is refused
            (directory / COUNT_FILE).unlink(missing_ok=True)
            if (directory / SPOOL).exists():
                shutil.rmtree(directory / SPOOL)
        except OSError as exc:
            raise local_error(exc, f"discarding {directory}") from exc
