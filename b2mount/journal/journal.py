"""What the file system promises to B2: take changes of names, keep them through a crash, see them sent.

Each change is made in memory at once and recorded; `commit` makes it durable, and a file operation returns
to its caller only after that. Later changes of a name take the place of earlier ones not sent yet, where
nothing else builds on them. Knows names and drafts; knows neither inodes nor listings.
"""

import contextlib
import fcntl
import functools
import itertools
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import trio

from b2mount.core.errors import B2MountError, LocalStorageError, OutOfSpace
from b2mount.core.posix import Attributes
from b2mount.core.words import show_count
from b2mount.journal.database import Database
from b2mount.journal.drafts import AUTOMATIC_CONTENT_TYPE, Draft, Spool, local_error, sync_directory
from b2mount.journal.label import read_label
from b2mount.journal.large import LargeFiles
from b2mount.journal.moves import Move, Moves
from b2mount.journal.ops import Kind, Op, OpQueue, State
from b2mount.journal.room import Room, default_limit
from b2mount.journal.strays import Stray, are_marked, begin_marking, sweep
from b2mount.journal.streams import Streams
from b2mount.journal.unfinished import LargeFile
from b2mount.journal.uploader import Done, Refused, Send, SpoolFree, Uploader
from b2mount.store.steady import steady_ms
from b2mount.store.store import FileVersion

log = logging.getLogger("b2mount.journal")

PARENTS = 3  # of the state directory, which a first mount may have made: ~/.local/state/b2mount
FLATTEN_LIMIT = 256 << 20  # bytes copied between spools to save an upload; a guess: a second of disk time


class Journal:
    """The journal of one scope, locked by the mount that uses it."""

    def __init__(self, directory: Path, *, hard_delete: bool = False, spool_size: int | None = None) -> None:
        """Open or create in *directory*. Raises LocalStorageError, also when another mount uses it.

        *spool_size* limits what is written and not yet in B2, in bytes; None: by the disk, 0: not at all.
        """
        self.directory = directory
        self._spool_directory = directory / "spool"
        self._hard_delete = hard_delete
        self._lock_fd = _lock(directory)
        try:
            self.database = self._prepare()
        except B2MountError:
            os.close(self._lock_fd)
            raise
        limit = default_limit(directory) if spool_size is None else spool_size
        self.room = Room(limit or None)
        self.queue = OpQueue()
        self.moves = Moves(self.database.forget_move)
        self._ids = itertools.count(1)
        self._garbage: list[Spool] = []
        self._gone: set[tuple[str, str]] = set()
        self._may_show: set[tuple[str, str]] = set()  # names at which B2 may show what listings do not tell
        # Which version a name shows in B2 as far as is known: its id, "" for none, None where it is not.
        self.shows: Callable[[str, str], str | None] = lambda _bucket_id, _name: None
        self.kept: list[Stray] = []  # files of an earlier life of which no change tells
        self.server_ms: Callable[[], int] = steady_ms  # by which promises are dated
        self.uploader: Uploader  # set by `start`
        self.streams: Streams

    def _prepare(self) -> Database:
        try:
            self._spool_directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as exc:
            raise local_error(exc, f"preparing {self.directory}") from exc
        database = Database(self.directory / "journal.sqlite")
        if database.is_new and any(self._spool_directory.iterdir()):
            database.close()
            database.path.unlink()
            raise LocalStorageError(
                f"{self.directory} has a spool but no journal: what is in it cannot be told apart\n"
                f"b2mount recover --state-dir {self.directory} --export DIR saves what is there"
            )
        if database.is_new:
            for made in (self._spool_directory, self.directory, *self.directory.absolute().parents[:PARENTS]):
                with contextlib.suppress(LocalStorageError):  # of a directory that is not ours
                    sync_directory(made)
        return database

    def start(
        self,
        send: Send,
        *,
        settle: float,
        width: int,
        on_done: Done,
        on_refused: Refused,
        on_spool_free: SpoolFree,
        large: LargeFiles,
        streams: Streams,
    ) -> list[Op]:
        """Make the uploader, and queue what an earlier life left unsent; return that, in order.

        Call once; then run `self.uploader.run` in the mount's nursery.
        """
        self.streams = streams
        self.uploader = Uploader(
            self.queue,
            self.database,
            send,
            settle=settle,
            width=width,
            on_done=functools.partial(self._done, on_done),
            on_refused=on_refused,
            on_spool_free=on_spool_free,
            abandon=large.abandon,
            beside=streams.run,
        )
        left = self.database.load(lambda draft_id: Spool(self._spool_path(draft_id), self.room))
        larges = self.database.load_large()
        moves = self.database.load_moves(left)
        used = [number for op in left for number in (op.id, op.order)]
        used += [large.id for large in larges] + [move.id for move in moves]
        self._ids = itertools.count(max(used, default=0) + 1)
        known = {op.id for op in left if op.draft is not None}
        told = self.database.is_proven or are_marked(self._spool_directory)
        self.kept = sweep(self._spool_directory, known, self.database.writes, told=told)
        begin_marking(self._spool_directory)
        self._restore_large(larges, {op.id: op.draft for op in left if op.draft is not None})
        self.queue.restore(left)
        for move in moves:
            self.moves.begin(move)
        for op in left:
            if op.over is None and op.draft is not None:
                op.over = base_id(op.draft, op.name)
            self.uploader.submit(op)
            self.uploader.hurry(op)
        if left:
            log.warning("left unsent by an earlier mount: %s; going out now", show_count(len(left), "change"))
        return left

    def _restore_large(self, larges: list[LargeFile], drafts: Mapping[int, Draft]) -> None:
        """Give drafts the large files that an earlier life sent them as; have the rest cancelled."""
        for large in larges:
            draft = drafts.get(large.draft_id)
            if draft is None:
                self.uploader.abandon(large)
            elif large.version is not None:
                draft.interim = large
            else:
                draft.large = large
            if draft is not None and large.away_bytes:
                draft.torn = True
        for draft in drafts.values():
            draft.count()

    def abandon(self, large: LargeFile) -> None:
        """Have B2 keep nothing of a large file that no draft is sent as any more."""
        self.uploader.abandon(large)

    def new_id(self) -> int:
        """Return a number that nothing in the journal has yet."""
        return next(self._ids)

    def _done(self, on_done: Done, op: Op, version: FileVersion | None) -> None:
        if op.kind is Kind.PUT:
            self._may_show.add(op.key)  # until the listings tell of it
        else:
            self._may_show.discard(op.key)
        following = self.queue.chain(*op.key)
        if following:
            following[0].over = version.file_id if version is not None else ""
            self.database.record(following[0])
        on_done(op, version)
        if not self.queue.ops:
            self.moves.sweep()

    def may_show(self, bucket_id: str, name: str) -> None:
        """Take note that B2 may show *name*, though the listings will not tell."""
        self._may_show.add((bucket_id, name))

    def is_told(self, bucket_id: str, name: str) -> None:
        """Take note that the listings tell of what was put at *name*."""
        self._may_show.discard((bucket_id, name))

    def _spool_path(self, draft_id: int) -> Path:
        return self._spool_directory / str(draft_id)

    # --- drafts ------------------------------------------------------------------------------------------

    def new_draft(
        self,
        attributes: Attributes,
        *,
        base: FileVersion | Draft | None = None,
        content_type: str = AUTOMATIC_CONTENT_TYPE,
        keep: Mapping[str, str] | None = None,
    ) -> Draft:
        """Begin a draft, as a copy of *base* or empty."""
        draft_id = next(self._ids)
        draft = Draft(
            draft_id,
            Spool(self._spool_path(draft_id), self.room),
            attributes=attributes,
            base=base,
            content_type=content_type,
            keep=keep,
        )
        draft.stream_at = self.streams.begin_at
        return draft

    def discard(self, draft: Draft) -> None:
        """Forget a draft that was never put: no row of the journal needs its bytes."""
        self.streams.give_up(draft)
        self.uploader.abandon_large(draft)
        draft.spool.remove()

    async def flatten(self, draft: Draft) -> None:
        """Free *draft* from an unsent draft it builds on, where copying is cheaper than sending both.

        Afterwards a put of *draft* can take the earlier one's place. Raises OutOfSpace, LocalStorageError.
        """
        base = draft.resolve_base()
        op = self.queue.ops.get(base.id) if isinstance(base, Draft) else None
        if op is None or not isinstance(base, Draft) or op.state is not State.QUEUED:
            return
        size = base.extents.dirty_bytes
        if size > FLATTEN_LIMIT or isinstance(base.resolve_base(), Draft) or self.room.lacks(size):
            return
        if base.large is not None or draft.large is not None:
            return  # what is on its way already is not sent again
        self.uploader.hold(op)
        try:
            merged, copies = base.extents.copy(), base.extents.dirty
            limit = draft.extents.base_limit
            merged.resize(min(limit, merged.size))
            for start, end in draft.extents.dirty:
                merged.write(start, end)
            merged.resize(draft.extents.size)
            wanted = _minus([(s, min(e, limit)) for s, e in copies if s < limit], draft.extents.dirty)
            for start, end in wanted:
                await trio.to_thread.run_sync(draft.spool.copy_range_from, base.spool, start, end)
            draft.extents = merged
            draft.base = base.base
            draft.count()
        finally:
            if op.state is State.QUEUED:  # not dropped meanwhile
                self.uploader.submit(op)

    # --- changes of names --------------------------------------------------------------------------------

    def put(
        self,
        bucket_id: str,
        name: str,
        draft: Draft,
        *,
        after: Iterable[Op] = (),
        over: str | None = None,
    ) -> Op:
        """Promise that *name* will hold *draft*, which is frozen from now on.

        *over* is the id of the version that the change began with, where that is known to be the name's.
        """
        draft.settle_mtime()
        draft.frozen = True
        self.streams.close(draft)
        op = Op(draft.id, Kind.PUT, bucket_id, name, draft=draft)
        op.promised_ms = self.server_ms()
        op.after = {other.id for other in after}
        chain = self.queue.chain(bucket_id, name)
        heirs = self._supersede(bucket_id, name, op, sparing=draft.resolve_base())
        op.over = self._over(chain, bucket_id, name, over)
        self.queue.add(op)
        self._inherit(op, heirs)
        if draft.extents.dirty_bytes:
            self.database.keep(draft, name)
        self.database.record(op)
        self.uploader.submit(op)
        return op

    def hide(self, bucket_id: str, name: str, *, exists: bool, after: Iterable[Op] = ()) -> Op | None:
        """Promise that *name* will hold nothing; None where nothing has to be sent for it.

        *exists* says whether B2 shows, or may show, a file of that name now.
        """
        tail = self.queue.tail(bucket_id, name)
        if tail is not None and tail.kind is Kind.HIDE:
            return tail
        op = Op(next(self._ids), Kind.HIDE, bucket_id, name)
        op.promised_ms = self.server_ms()
        op.after = {other.id for other in after}
        chain = self.queue.chain(bucket_id, name)
        self._supersede(bucket_id, name, op, sparing=None)
        op.over = self._over(chain, bucket_id, name, None)
        exists = exists or op.key in self._may_show
        self._may_show.discard(op.key)
        if not exists and self.queue.tail(bucket_id, name) is None:
            op.state = State.DROPPED
            op.finished.set()
            return None
        self.queue.add(op)
        self.database.record(op)
        self.uploader.submit(op)
        return op

    def update(self, op: Op) -> None:
        """Write down that the draft's attributes changed, and let the settle time begin anew."""
        assert op.state is State.QUEUED
        assert op.draft is not None
        if op.draft.large is not None and not op.draft.large.streamed:
            self.uploader.abandon(op.draft.large)  # B2 took the attributes when the file was begun
            op.draft.large = None
        self.database.record(op)
        self.uploader.submit(op)

    def move(self, op: Op, bucket_id: str, name: str) -> bool:
        """Let a queued put go to another name instead; False where it has to be done in two steps."""
        if op.state is not State.QUEUED or op.sent_before:
            return False
        there = self.queue.chain(bucket_id, name)
        if any(op in self.queue.waited_for(other) for other in there):
            return False
        heirs = self._supersede(bucket_id, name, op, sparing=None)
        op.over = self._over(there, bucket_id, name, None)
        self.queue.move(op, bucket_id, name)
        self._inherit(op, heirs)
        op.order = next(self._ids)
        self.database.record(op)
        self.uploader.submit(op)
        return True

    def _supersede(
        self, bucket_id: str, name: str, by: Op, *, sparing: FileVersion | Draft | None
    ) -> list[Op]:
        """Drop the unsent operations at the end of a name's chain that nothing builds on.

        Return those that were told to come after one of them.
        """
        heirs: list[Op] = []
        while (tail := self.queue.tail(bucket_id, name)) is not None:
            if tail.state is not State.QUEUED or tail is by:
                break
            if tail.kind is Kind.HIDE and self._hard_delete:
                break
            if tail.draft is not None and (tail.draft is sparing or self.queue.needed_by(tail)):
                break
            if tail.draft is not None and tail.draft.pinned:
                break
            if tail.sent_before or tail.kind is Kind.HIDE:
                self._may_show.add(tail.key)
            heirs += self.queue.heirs(tail)
            tail.successor = by
            self.database.forget(tail)
            self.uploader.take_out(tail, State.DROPPED)
            if tail.draft is not None:
                self._garbage.append(tail.draft.spool)
        return [heir for heir in heirs if heir.state is State.QUEUED]

    def _over(self, chain: tuple[Op, ...], bucket_id: str, name: str, known: str | None) -> str | None:
        """Say which version B2 shows at *name* before an operation that is to be queued is sent.

        *chain* is what was queued for the name before the operation took the place of some of it.
        """
        left = len(self.queue.chain(bucket_id, name))
        if left < len(chain):  # what was begun before may have reached B2, and would lie between
            return None if any(dropped.sent_before for dropped in chain[left:]) else chain[left].over
        if left:
            return None  # told once what it waits for is done
        return known if known is not None else self.shows(bucket_id, name)

    def _inherit(self, op: Op, heirs: Iterable[Op]) -> None:
        """Have those that were to come after what *op* took the place of come after *op*.

        So the old name of a renamed file goes only once the new one holds what was made of it since: with
        hard deletion its bytes are taken from there.
        """
        for heir in heirs:
            if self.queue.wait_for(heir, op):
                self.database.record(heir)

    # --- directories -------------------------------------------------------------------------------------

    def remember_gone(self, bucket_id: str, prefix: str, gone: bool) -> None:
        """Keep through a crash whether a directory was removed here.

        Which names B2 shows under it until then cannot be told from what is queued alone.
        """
        key = (bucket_id, prefix)
        if gone and key not in self._gone:
            self._gone.add(key)
            self.database.record_gone(bucket_id, prefix)
        elif not gone and key in self._gone:
            self._gone.remove(key)
            self.database.forget_gone(bucket_id, prefix)

    def left_gone(self) -> list[tuple[str, str]]:
        """Return the directories that an earlier life removed and whose names are not all removed in B2."""
        self._gone = set(self.database.load_gone())
        for bucket_id, prefix in list(self._gone):
            if not self.queue.pending_below(bucket_id, prefix):
                self.remember_gone(bucket_id, prefix, False)
        return sorted(self._gone)

    def begin_move(
        self, old: tuple[str, str], new: tuple[str, str], files: Sequence[tuple[tuple[Op, ...], int]]
    ) -> None:
        """Tell of the rename of a directory, from bucket and prefix to bucket and prefix, until it is over.

        *files* has for each the operations that move it, and its size.
        """
        move = Move(self.new_id(), old, new, files)
        self.database.record_move(move)
        self.moves.begin(move)

    async def commit(self) -> None:
        """Return when every change made so far survives a crash: it is in the journal, or else in B2.

        Where the disk is full, what the journal cannot take is sent at once, and waited for: so removing
        works on a full disk. Raises OutOfSpace, LocalStorageError where neither has it.
        """
        garbage, self._garbage = self._garbage, []
        try:
            await self.database.commit()
        except B2MountError as exc:
            self._garbage[:0] = garbage  # a crash now would find their rows
            if not isinstance(exc, OutOfSpace) or await self.uploader.wait_all():
                raise
            log.warning("%s; what was changed is in B2 already", exc)
            return
        for spool in garbage:
            spool.remove()

    # --- looking -----------------------------------------------------------------------------------------

    def pending_bytes(self) -> int:
        """Count the new bytes that are not in B2 yet."""
        return sum(op.draft.extents.dirty_bytes for op in self.queue.ops.values() if op.draft is not None)

    def close(self) -> None:
        """Let go of the files; what is queued stays in them."""
        self.database.close()
        for op in self.queue.ops.values():
            if op.draft is not None:
                op.draft.spool.close()
        os.close(self._lock_fd)


def base_id(draft: Draft, name: str) -> str | None:
    """Return the id of the version that *draft* changes; None where that is not one of *name*."""
    base = draft.resolve_base()
    return base.file_id if isinstance(base, FileVersion) and base.name == name else None


def _lock(directory: Path) -> int:
    """Lock a state directory for this process. Raises LocalStorageError where another mount holds it."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Not through a link: in a directory that others can write to, it may lead to any file of ours.
        fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise local_error(exc, f"the state directory {directory} cannot be used") from exc
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip()
        os.close(fd)
        process = f" (process {holder})" if holder else ""
        label = read_label(directory)
        where = f"\nit is mounted at {label.mountpoint}" if label is not None and label.mountpoint else ""
        raise LocalStorageError(
            f"another mount of the same scope is using {directory}{process}{where}"
        ) from exc
    with contextlib.suppress(OSError):  # only told to people; a full disk is no reason to refuse
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def _minus(ranges: list[tuple[int, int]], holes: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return *ranges* less *holes*; both sorted and disjoint."""
    left = ranges
    for hole_start, hole_end in holes:
        cut: list[tuple[int, int]] = []
        for start, end in left:
            if start < min(end, hole_start):
                cut.append((start, min(end, hole_start)))
            if max(start, hole_end) < end:
                cut.append((max(start, hole_end), end))
        left = cut
    return left
