"""The bytes of a file as a reader sees them: from memory, from the spool, from B2."""

from b2mount.cache.blocks import Blocks
from b2mount.core.windows import BLOCK, FLIGHT, MIB, ReadAhead
from b2mount.fs.nodes import Content
from b2mount.journal.drafts import Draft, local_segments
from b2mount.store.store import FileVersion

FLIGHTS_A_WINDOW = 4  # parallel requests that a small window is cut into; a guess


class Contents:
    """Reading of versions and drafts."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks

    def read_now(self, content: Content, start: int, end: int) -> bytes | None:
        """Return bytes [start, end) where that needs no call, else None; *end* is clipped to the size."""
        end = min(end, content.size)
        if start >= end:
            return b""
        if isinstance(content, FileVersion):
            return self._blocks.read_cached(content, start, end)
        pieces = []
        for segment, holder in local_segments(content, start, end):
            if isinstance(holder, FileVersion):
                cached = self._blocks.read_cached(holder, segment.start, segment.end)
                if cached is None:
                    return None
                pieces.append(cached)
            else:
                pieces.append(_local(holder, segment.start, segment.size))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def read(self, content: Content, start: int, end: int) -> bytes:
        """Return bytes [start, end), asking B2 for what is not here; *end* is clipped to the size.

        Raises VersionGone, B2Unavailable, DataCorrupt, LocalStorageError.
        """
        end = min(end, content.size)
        if start >= end:
            return b""
        if isinstance(content, FileVersion):
            return await self._blocks.read(content, start, end)
        # What lies in the spool is read before the first await: the spool may be gone after it.
        runs = [
            (
                segment,
                holder,
                None if isinstance(holder, FileVersion) else _local(holder, segment.start, segment.size),
            )
            for segment, holder in local_segments(content, start, end)
        ]
        pieces = []
        for segment, holder, data in runs:
            if data is None:
                assert isinstance(holder, FileVersion)
                data = await self._blocks.read(holder, segment.start, segment.end)
            pieces.append(data)
        return b"".join(pieces)

    def read_ahead(self, content: Content, reads: ReadAhead, start: int, size: int) -> None:
        """Take note of a read, and start to fetch what will be read next."""
        if not isinstance(content, FileVersion):
            return
        window = reads.on_read(start, size)
        length = window.end - window.start
        if length > 0:
            flight = min(max(length // FLIGHTS_A_WINDOW, MIB), FLIGHT)
            self._blocks.prefetch(content, window.start, window.end, flight)


def new_read_ahead(content: Content) -> ReadAhead:
    """Return the read-ahead state of a new handle on *content*."""
    return ReadAhead(content.size, block=BLOCK)


def _local(holder: Draft | None, start: int, size: int) -> bytes:
    return bytes(size) if holder is None else holder.spool.read(start, size)
