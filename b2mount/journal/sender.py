"""Carry out one operation of the journal in B2: the cheapest way that its draft allows.

Content that did not change is copied inside B2, changed content is uploaded whole or assembled from copied
and uploaded parts (core/parts.py plans). Knows the store; knows neither the order of operations nor the tree.
"""

import logging
from collections.abc import Mapping

import trio

from b2mount.core.errors import B2MountError, NoSuchFile
from b2mount.core.extents import Origin, Segment
from b2mount.core.grant import Capability
from b2mount.core.parts import Assemble, CopyPart, CopyWhole, Limits, UploadPart, UploadWhole, plan_parts
from b2mount.core.posix import INFO_LIMIT, to_info
from b2mount.journal.drafts import Draft, Spool
from b2mount.journal.ops import Kind, Op
from b2mount.store.store import Action, Body, FileVersion, Store

log = logging.getLogger("b2mount.journal")

CONTENT_KEYS = frozenset(["large_file_sha1"])  # file info about the content: not for a changed one
PARTS_AT_ONCE = 4  # of one file; a guess: other files want connections too
FETCH = 8 << 20  # bytes a request for what goes into a part


class SpoolBody:
    """Bytes [start, end) of a spool file, as a body to send."""

    def __init__(self, spool: Spool, start: int, end: int) -> None:
        self._spool = spool
        self._start = start
        self._end = end

    @property
    def size(self) -> int:
        return self._end - self._start

    def read_at(self, offset: int, size: int) -> bytes:
        return self._spool.read(self._start + offset, min(size, self.size - offset))


class ZeroBody:
    """Zeros, as a body to send."""

    def __init__(self, size: int) -> None:
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    def read_at(self, offset: int, size: int) -> bytes:
        return bytes(min(size, self._size - offset))


class BytesBody:
    """Bytes in memory, as a body to send."""

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = memoryview(data)

    @property
    def size(self) -> int:
        return len(self._data)

    def read_at(self, offset: int, size: int) -> memoryview:
        return self._data[offset : offset + size]


class Sender:
    """The way from operations to B2's calls."""

    def __init__(self, store: Store, *, hard_delete: bool, info_limits: Mapping[str, int]) -> None:
        """Send through *store*. *info_limits* has the bytes of file info by bucket where they are fewer."""
        self._store = store
        self._hard_delete = hard_delete
        self._info_limits = info_limits

    async def send(self, op: Op) -> FileVersion | None:
        """Carry out *op*; return the version that a put made. Raises B2MountError; it may be sent again."""
        if op.kind is Kind.HIDE:
            await self._hide(op)
            return None
        assert op.draft is not None
        return await self._put(op, op.draft)

    # --- hides -------------------------------------------------------------------------------------------

    async def _hide(self, op: Op) -> None:
        if not self._hard_delete:
            await self._store.hide(op.bucket_id, op.name)
            return
        start, start_id = op.name, None
        while True:
            page = await self._store.list_versions(
                op.bucket_id, op.name, start=start, start_id=start_id, limit=1000
            )
            for row in page.rows:
                if row.name == op.name and row.action is not Action.START:
                    await self._store.delete_version(row.name, row.file_id)
            if page.next_name != op.name:
                return
            start, start_id = page.next_name, page.next_id

    # --- puts --------------------------------------------------------------------------------------------

    async def _put(self, op: Op, draft: Draft) -> FileVersion:
        base = draft.resolve_base()
        if isinstance(base, Draft):
            raise B2MountError("an earlier version of the file is not in B2 yet")
        if draft.only_metadata and base is not None and 0 < base.size <= Limits().maximum_single:
            return await self._copy(op, draft, base, 0, None)
        segments = list(draft.extents.segments(0, draft.size))
        grant = self._store.grant
        plan = plan_parts(
            segments,
            base_size=base.size if base is not None else 0,
            may_read_base=grant.has(Capability.READ_FILES),
            limits=Limits(minimum_part=grant.absolute_minimum_part_size),
        )
        if isinstance(plan, UploadWhole):
            return await self._store.upload(
                op.bucket_id,
                op.name,
                await self._body(draft, base, 0, draft.size),
                content_type=draft.content_type,
                info=self._info(op, draft),
            )
        if isinstance(plan, CopyWhole):
            assert base is not None
            return await self._copy(op, draft, base, plan.start, plan.end)
        return await self._assemble(op, draft, base, plan)

    def _info(self, op: Op, draft: Draft) -> dict[str, str]:
        keep = draft.keep
        if not draft.only_metadata:
            keep = {key: value for key, value in keep.items() if key not in CONTENT_KEYS}
        limit = self._info_limits.get(op.bucket_id, INFO_LIMIT)
        return to_info(draft.attributes, keep, limit=limit, file_name=op.name)

    async def _copy(
        self, op: Op, draft: Draft, base: FileVersion, start: int, end: int | None
    ) -> FileVersion:
        return await self._store.copy_file(
            base.file_id,
            op.bucket_id,
            op.name,
            content_type=draft.content_type,
            info=self._info(op, draft),
            start=start,
            end=end,
        )

    async def _assemble(self, op: Op, draft: Draft, base: FileVersion | None, plan: Assemble) -> FileVersion:
        """Make a large file of parts; one that cannot be finished is cancelled."""
        file_id = await self._store.start_large(
            op.bucket_id, op.name, content_type=draft.content_type, info=self._info(op, draft)
        )
        try:
            sha1s = await self._send_parts(file_id, draft, base, plan)
            return await self._store.finish_large(file_id, sha1s)
        except BaseException:
            with trio.move_on_after(10, shield=True):
                try:
                    await self._store.cancel_large(file_id)
                except B2MountError as exc:
                    log.warning("%s: unfinished large file %s is left in B2: %s", op.name, file_id, exc)
            raise

    async def _send_parts(
        self, file_id: str, draft: Draft, base: FileVersion | None, plan: Assemble
    ) -> list[str]:
        sha1s = [""] * len(plan.parts)
        slots = trio.CapacityLimiter(PARTS_AT_ONCE)
        failures: list[B2MountError] = []

        async def send_part(index: int, part: CopyPart | UploadPart) -> None:
            try:
                async with slots:
                    if isinstance(part, CopyPart):
                        assert base is not None
                        row = await self._store.copy_part(
                            base.file_id, part.start, part.end, file_id, index + 1
                        )
                    else:
                        body = await self._body(draft, base, part.start, part.end)
                        row = await self._store.upload_part(file_id, index + 1, body)
                    sha1s[index] = row.sha1
            except B2MountError as exc:
                failures.append(exc)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for index, part in enumerate(plan.parts):
                nursery.start_soon(send_part, index, part)
        if failures:
            raise failures[0]
        return sha1s

    async def _body(self, draft: Draft, base: FileVersion | None, start: int, end: int) -> Body:
        """Return bytes [start, end) of a draft: from the spool, or put together where the base shows."""
        segments = list(draft.extents.segments(start, end))
        if all(segment.origin is Origin.NEW for segment in segments) and segments:
            return SpoolBody(draft.spool, start, end)
        if all(segment.origin is Origin.ZERO for segment in segments) and not draft.extents.dirty_bytes:
            return ZeroBody(end - start)
        if all(segment.origin is not Origin.BASE for segment in segments):
            return SpoolBody(draft.spool, start, end)  # what was never written to it reads as zeros
        data = bytearray(end - start)
        for segment in segments:
            await self._fill(data, start, segment, draft, base)
        return BytesBody(data)

    async def _fill(
        self, data: bytearray, start: int, segment: Segment, draft: Draft, base: FileVersion | None
    ) -> None:
        at = segment.start - start
        if segment.origin is Origin.NEW:
            data[at : at + segment.size] = draft.spool.read(segment.start, segment.size)
        elif segment.origin is Origin.BASE:
            if base is None:
                raise NoSuchFile("the version that the change builds on is not known")
            for low in range(segment.start, segment.end, FETCH):
                high = min(low + FETCH, segment.end)
                data[low - start : high - start] = await self._store.read_range(base.file_id, low, high)
