"""Journals that run without a mount: one directory, one store, one life after the other."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import trio

from b2mount.core.errors import B2MountError
from b2mount.core.posix import Attributes, Kind
from b2mount.journal.drafts import Draft
from b2mount.journal.journal import Journal
from b2mount.journal.large import LargeFiles
from b2mount.journal.ops import Kind as OpKind
from b2mount.journal.ops import Op
from b2mount.journal.seal import COUNT_FILE
from b2mount.journal.sender import Sender
from b2mount.journal.streams import Streams
from b2mount.store.memory import MemoryStore
from b2mount.store.memory_account import MemoryB2
from b2mount.store.store import Action, FileVersion, Store

FILE = Attributes(Kind.FILE, 1_600_000_000_123_456_789)
SETTLE = 600.0  # seconds: nothing is sent before it is flushed, however slow the machine is


@dataclass(slots=True)
class Life:
    """One process's journal, with what it was told."""

    journal: Journal
    store: Store
    bucket_id: str
    left: list[Op]
    done: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def draft(self, data: bytes = b"", base: FileVersion | Draft | None = None, at: int = 0) -> Draft:
        """Begin a draft over *base* with *data* written."""
        draft = self.journal.new_draft(FILE, base=base)
        draft.write(at, data)
        return draft

    def put(self, name: str, data: bytes, *, after: Iterable[Op] = ()) -> Op:
        """Promise a new file."""
        return self.journal.put(self.bucket_id, name, self.draft(data), after=after)

    def hide(self, name: str, *, exists: bool = True, after: Iterable[Op] = ()) -> Op | None:
        return self.journal.hide(self.bucket_id, name, exists=exists, after=after)

    def rename(self, sent: Op, name: str) -> Op:
        """Give what B2 has another name, as the mount does: a copy, and the old name hidden."""
        assert sent.draft is not None and sent.draft.result is not None
        version = sent.draft.result
        copy = self.journal.new_draft(
            FILE, base=version, content_type=version.content_type, keep=version.info
        )
        op = self.journal.put(self.bucket_id, name, copy)
        self.hide(sent.name, after=[op])
        return op

    async def flush(self) -> list[B2MountError]:
        """Send all that is queued."""
        with trio.fail_after(120):
            return [failure.error for failure in await self.journal.uploader.wait_all()]


@contextlib.contextmanager
def made_older(directory: Path, form: int) -> Iterator[sqlite3.Connection]:
    """Give the journal of a life that has ended, to be made one of an older format."""
    db = sqlite3.connect(directory / "journal.sqlite")
    try:
        with db:
            yield db
            db.execute("DELETE FROM meta WHERE key='seal'")
            db.execute("UPDATE meta SET value=?", (str(form),))
    finally:
        db.close()
    (directory / COUNT_FILE).unlink()


async def until(condition: Callable[[], object]) -> None:
    """Wait for what threads still have to do; trio's testing tools do not see them."""
    with trio.fail_after(60):
        while not condition():  # noqa: ASYNC110  # nobody tells of it
            await trio.sleep(0.002)


@contextlib.asynccontextmanager
async def living(
    directory: Path,
    store: Store,
    bucket_id: str,
    *,
    settle: float = SETTLE,
    hard_delete: bool = False,
    running: bool = True,
    width: int = 4,
    spool_size: int | None = None,
) -> AsyncIterator[Life]:
    """Open the journal of a directory and send from it, until the block ends; what is unsent then stays."""
    journal = Journal(directory, hard_delete=hard_delete, spool_size=spool_size)
    life = Life(journal, store, bucket_id, [])
    large = LargeFiles(store, journal.database, journal.room.tell)
    sender = Sender(store, large, new_id=journal.new_id, hard_delete=hard_delete, info_limits={})

    streams = Streams(
        store,
        sender,
        large,
        journal,
        eager=lambda _bucket_id: True,
    )

    def on_refused(op: Op, _error: B2MountError) -> bool:
        life.refused.append(op.name)
        return op.kind is OpKind.HIDE

    async def on_spool_free(_op: Op) -> None:
        await trio.lowlevel.checkpoint()

    try:
        life.left = journal.start(
            sender.send,
            settle=settle,
            width=width,
            on_done=lambda op, _version: life.done.append(f"{op.kind.value} {op.name}"),
            on_refused=on_refused,
            on_spool_free=on_spool_free,
            large=large,
            streams=streams,
        )
        async with trio.open_nursery() as nursery:
            if running:
                nursery.start_soon(journal.uploader.run)
            yield life
            nursery.cancel_scope.cancel()
    finally:
        journal.close()


def shown(account: MemoryB2, bucket_id: str) -> dict[str, bytes]:
    """Return what a bucket shows: content by name."""
    bucket = account.bucket(bucket_id)
    names = {row.name for row in bucket.versions_from("")}
    rows = ((name, bucket.visible(name)) for name in names)
    return {name: account.files[row.file_id].data for name, row in rows if row is not None}


def unfinished(account: MemoryB2) -> list[str]:
    """Return the names of large files that nobody finished or cancelled."""
    return [stored.row.name for stored in account.files.values() if stored.row.action is Action.START]


def memory(*, minimum_part: int = 5_000_000) -> tuple[MemoryStore, str]:
    """Return a store with one empty bucket, and the bucket's ID."""
    account = MemoryB2(minimum_part=minimum_part)
    return MemoryStore(account), account.create_bucket("bucket-one").bucket_id
