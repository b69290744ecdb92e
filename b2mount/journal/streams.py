"""Send large files while they are written, and let go of the spool what B2 has when room is short.

A working draft that is written from one end to the other is begun as a large file once enough of it is there.
Parts are planned as the writer moves on, and sent in parallel; closing plans the rest. The file's name and
attributes are those of the beginning: what differs at the end, sender.py corrects by a copy inside B2. Bytes
leave the spool only after the journal holds that B2 has their part. Knows neither nodes nor handles.
"""

import errno
import functools
import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import trio

from b2mount.core.errors import B2MountError, LocalStorageError
from b2mount.core.grant import Capability
from b2mount.core.parts import (
    STREAM_PARTS,
    UPLOAD_PART_SIZE,
    Limits,
    UploadPart,
    plan_head,
    plan_tail,
    stream_part_size,
)
from b2mount.journal.database import Database
from b2mount.journal.drafts import Draft
from b2mount.journal.large import WORTH_KEEPING, LargeFiles
from b2mount.journal.ops import OpQueue
from b2mount.journal.room import Room
from b2mount.journal.sender import Sender
from b2mount.journal.sums import RunningSum
from b2mount.journal.unfinished import LargeFile, Part
from b2mount.store.store import Store

log = logging.getLogger("b2mount.journal")

BEGIN_AT = 8 * UPLOAD_PART_SIZE  # bytes; what is smaller goes after close, with its last attributes at once
SHARES = 16  # parts that the spool should hold at the least, so that several are on the way at once
RETRY_FIRST = 2.0  # seconds; doubled each time
RETRY_LAST = 60.0


@dataclass(frozen=True, slots=True)
class Where:
    """The name that a draft is begun under."""

    bucket_id: str
    name: str


class Books(Protocol):
    """The part of the journal that streams need."""

    database: Database
    queue: OpQueue
    room: Room

    def new_id(self) -> int: ...

    def abandon(self, large: LargeFile) -> None: ...


class Streams:
    """All drafts that are sent while they are written. `run` is the owner of the tasks."""

    def __init__(
        self,
        store: Store,
        sender: Sender,
        large: LargeFiles,
        books: Books,
        *,
        eager: Callable[[str], bool],
    ) -> None:
        """Prepare; *eager* says of a bucket whether to send early, or only once room is short.

        The version that a stream makes is corrected by a copy; it stays where the key may not delete it.
        """
        self._store = store
        self._sender = sender
        self._large = large
        self._database = books.database
        self._queue = books.queue
        self._room = books.room
        self._new_id = books.new_id
        self._abandon = books.abandon
        self._eager = eager
        limit = books.room.limit
        self._largest_part = limit // SHARES if limit is not None else Limits().maximum_part
        self.begin_at = BEGIN_AT if limit is None else min(BEGIN_AT, limit // 4)
        self._wanted: dict[int, tuple[Draft, Where]] = {}
        self._active: dict[int, Draft] = {}
        self._punching = trio.Lock()
        self._wake = trio.Event()
        self._punches = True  # as far as is known, the disk takes back parts of files

    # --- what writers say --------------------------------------------------------------------------------

    def offer(self, draft: Draft, bucket_id: str, name: str, *, pressed: bool = False) -> None:
        """Take note that a working draft has grown; *pressed*: room is short, so begin early."""
        draft.stream_at = draft.extents.dirty_bytes + self._part_size(0) // 2
        if draft.large is not None:
            draft.large.tell()
        elif not pressed and not self._eager(bucket_id):
            draft.stream_at = float("inf")
        elif self._may_begin(draft, bucket_id, name):
            self._wanted[draft.id] = (draft, Where(bucket_id, name))
            self._wake.set()

    def close(self, draft: Draft) -> None:
        """Plan the rest of a draft that takes no more writes; give up one that is too small for parts."""
        self._wanted.pop(draft.id, None)
        large = draft.large
        if large is None:
            return
        base = draft.resolve_base()
        parts = plan_tail(
            draft.extents.segments(large.planned_to, draft.size),
            base_size=base.size if base is not None else 0,
            parts_before=len(large.parts),
            limits=self._limits,
        )
        if len(large.parts) + len(parts) < 2:
            self.give_up(draft)
            return
        self._database.record_parts(large, large.plan(parts))
        large.tell()

    def give_up(self, draft: Draft) -> None:
        """Have a draft be sent another way; none of its bytes is away."""
        self._wanted.pop(draft.id, None)  # not begun a moment later either
        large, draft.large = draft.large, None
        draft.stream_at = draft.extents.dirty_bytes + self.begin_at
        if large is not None:
            self._abandon(large)

    # --- beginning ---------------------------------------------------------------------------------------

    @property
    def _limits(self) -> Limits:
        return Limits(minimum_part=self._store.grant.absolute_minimum_part_size)

    def _part_size(self, uploaded: int) -> int:
        return stream_part_size(uploaded, at_most=self._largest_part, limits=self._limits)

    def _may_begin(self, draft: Draft, bucket_id: str, name: str) -> bool:
        """Say whether all before the place of writing is known, and nothing else goes to the name."""
        ranges, base = draft.extents.dirty, draft.resolve_base()
        if draft.frozen or draft.id in self._active or len(ranges) != 1 or isinstance(base, Draft):
            return False
        start, end = ranges[0]
        if start > draft.extents.base_limit or end - start < 2 * self._part_size(0):
            return False
        if start and not self._store.grant.has(Capability.READ_FILES):
            return False
        return self._queue.tail(bucket_id, name) is None

    def _begun(self, draft: Draft, where: Where) -> LargeFile:
        base, start = draft.resolve_base(), draft.extents.dirty[0][0]
        assert not isinstance(base, Draft)
        draft.large = large = LargeFile(
            self._new_id(),
            draft.id,
            where.bucket_id,
            where.name,
            content_type=draft.content_type,
            info=self._sender.marked(
                where.bucket_id, where.name, self._sender.info(where.bucket_id, where.name, draft)
            ),
            source_id=base.file_id if base is not None else None,
            streamed=True,
        )
        if start == 0:
            large.total = RunningSum()
        large.plan(plan_head(start, limits=self._limits))
        return large

    # --- the tasks ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Send until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                self._wake = trio.Event()
                wanted, self._wanted = self._wanted, {}
                for draft, where in wanted.values():
                    if draft.large is None and self._may_begin(draft, where.bucket_id, where.name):
                        large = self._begun(draft, where)
                        self._active[draft.id] = draft
                        nursery.start_soon(self._stream, draft, large)
                await self._wake.wait()

    async def _stream(self, draft: Draft, large: LargeFile) -> None:
        """Send one draft for as long as it is written; failures end it once it is closed, or for good."""
        base = draft.resolve_base()
        assert not isinstance(base, Draft)
        body_of = functools.partial(self._sender.body, draft, base)
        wait = RETRY_FIRST
        try:
            while not large.dropped:
                try:
                    await self._large.stream(large, body_of, functools.partial(self._extend, draft, large))
                    return
                except B2MountError as exc:
                    if large.dropped or draft.frozen or not self._goes_on(draft, large, exc):
                        return
                except Exception:
                    log.exception("%s: sent when it is closed: a bug in sending it earlier", large.name)
                    return
                with trio.move_on_after(wait):
                    await self._closed(draft, large)
                wait = min(2 * wait, RETRY_LAST)
        finally:
            self._active.pop(draft.id, None)

    async def _closed(self, draft: Draft, large: LargeFile) -> None:
        while not (large.dropped or draft.frozen):
            await large.changed.wait()

    def _goes_on(self, draft: Draft, large: LargeFile, error: B2MountError) -> bool:
        """Say whether to try again; what B2 refuses is left to the moment when the file is closed."""
        log.info("%s: not sent while it is written: %s", large.name, error)
        if isinstance(error, WORTH_KEEPING):
            return True
        if not large.away_bytes:
            self.give_up(draft)
            draft.stream_at = float("inf")
        return False

    def _extend(self, draft: Draft, large: LargeFile, todo: deque[int]) -> bool:
        """Plan the parts that the writer has moved on from; False once all are planned."""
        numbers = self._plan_more(draft, large) if not draft.frozen else []
        self._database.record_parts(large, numbers)
        todo.extend(range(large.queued + 1, len(large.parts) + 1))
        large.queued = len(large.parts)
        return not draft.frozen

    def _plan_more(self, draft: Draft, large: LargeFile) -> list[int]:
        planned: list[int] = []
        extents, copies = draft.extents, sum(part.copied for part in large.parts[:STREAM_PARTS])
        begin = extents.dirty[0][0] if extents.dirty else 0
        while len(large.parts) < STREAM_PARTS:
            start = large.planned_to
            size = self._part_size(len(large.parts) - copies)
            written_to = extents.written_to(max(start, begin) if start + size > begin else start)
            if written_to < start + size + (0 if self._room.is_tight else size):
                break
            planned += large.plan((UploadPart(start, start + size, ()),))
        return planned

    # --- room --------------------------------------------------------------------------------------------

    @property
    def sent_bytes(self) -> int:
        """Count what of all streams B2 has, to see whether anything moves."""
        return sum(draft.large.sent_bytes for draft in self._active.values() if draft.large is not None)

    @property
    def is_idle(self) -> bool:
        """Whether no part is on its way."""
        return not self._wanted and not any(
            part.scope is not None
            for draft in self._active.values()
            if draft.large is not None
            for part in draft.large.parts
        )

    async def make_room(self, size: int) -> None:
        """Let *size* bytes go, and some more, whose parts B2 has. Raises OutOfSpace, LocalStorageError."""
        async with self._punching:
            chosen = self._choose(size)
            if not chosen:
                return
            for draft, large, number, _ in chosen:
                large.set_away(number, True)
                draft.torn = True
            for _, large, number, _ in chosen:
                self._database.record_parts(large, [number])
            try:
                await self._database.commit()
            except LocalStorageError:
                for _, large, number, _ in chosen:
                    large.set_away(number, False)
                    self._database.record_parts(large, [number])
                raise
            for draft, _, _, part in chosen:
                await self._punch(draft, part)

    async def _punch(self, draft: Draft, part: Part) -> None:
        try:
            await trio.to_thread.run_sync(draft.spool.punch, part.start, part.end)
        except LocalStorageError as exc:
            cause = exc.__cause__
            if not isinstance(cause, OSError) or cause.errno != errno.EOPNOTSUPP:
                raise
            if self._punches:
                log.warning("the state directory's file system cannot let go of parts of files")
            self._punches = False
        else:
            draft.count()

    def _choose(self, size: int) -> list[tuple[Draft, LargeFile, int, Part]]:
        """Choose parts to let go: the first of a file last, as headers are written and read again."""
        drafts = {draft.id: draft for draft in self._active.values()}
        drafts.update((op.draft.id, op.draft) for op in self._queue.ops.values() if op.draft is not None)
        found: list[tuple[Draft, LargeFile, int, Part]] = []
        if not self._punches:
            return found
        for draft in drafts.values():
            large = draft.large
            if large is None or not large.streamed or len(large.parts) < 2:
                continue
            found += (
                (draft, large, number, part)
                for number, part in enumerate(large.parts, 1)
                if part.sha1 is not None and not part.copied and not part.away
            )
        found.sort(key=lambda one: (one[2] == 1, one[3].start))
        return list(_until(found, size))


def _until(
    found: Iterable[tuple[Draft, LargeFile, int, Part]], size: int
) -> Iterable[tuple[Draft, LargeFile, int, Part]]:
    """Yield as many as hold *size* bytes."""
    for one in found:
        if size <= 0:
            return
        yield one
        size -= one[3].size
