"""The bytes of a file as a reader sees them: from memory, from the spool, from B2."""

from collections import Counter
from collections.abc import Callable
from weakref import WeakSet

from b2mount.cache.blocks import Blocks
from b2mount.cache.flights import Flight
from b2mount.core.windows import BLOCK, FLIGHT, MIB, RandomReads, ReadAhead, Strides
from b2mount.fs.nodes import Content
from b2mount.journal.drafts import Draft, local_segments
from b2mount.store.store import FileVersion

HALF = 512 << 10  # bytes that requests are multiples of, so that buffers can be used again
NEAR = 4 * MIB  # bytes of a request near by; twice as many took twice the memory, and no less time
QUEUED_SHARE = 3  # for so many under way, one more waits for its turn, or has landed and not been read
RISE = 32 * MIB  # bytes from the start of a far file that come in small requests, many at once
AHEAD_SHARE = 7, 8  # of the memory may hold what all readers together are ahead by


class Reads:
    """What one handle has read of one version, and up to where it is fetched ahead."""

    __slots__ = ("ahead", "fetched_to", "file_id", "flights", "scattered", "strides")

    def __init__(self, version: FileVersion) -> None:
        self.file_id = version.file_id
        self.ahead = ReadAhead(version.size, block=BLOCK)
        self.scattered = RandomReads(version.size, block=BLOCK)
        self.strides = Strides()
        self.flights = WeakSet[Flight]()  # sent ahead for this handle; their bytes are memory's to keep
        self.fetched_to = 0  # bytes before this, from the last read on, were asked for; 0: nothing ahead


class Contents:
    """Reading of versions and drafts."""

    def __init__(self, blocks: Blocks, may_fetch_ahead: Callable[[], bool] = lambda: True) -> None:
        self._blocks = blocks
        self._may_fetch_ahead = may_fetch_ahead  # whether what nobody asked for yet is worth its price
        self._streams: Counter[str] = Counter()  # handles that are read ahead of, by version

    def read_now(self, content: Content, start: int, end: int) -> bytes | memoryview | None:
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

    async def read(self, content: Content, start: int, end: int) -> bytes | memoryview:
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
        pieces: list[bytes | memoryview] = []
        for segment, holder, data in runs:
            if data is not None:
                pieces.append(data)
            else:
                assert isinstance(holder, FileVersion)
                pieces.append(await self._blocks.read(holder, segment.start, segment.end))
        return b"".join(pieces)

    def read_ahead(self, version: FileVersion, reads: Reads, start: int, size: int) -> None:
        """Take note of a read, and start to fetch what will be read next.

        All readers together are ahead by a part of the memory, so that nothing is pushed out of it before it
        was read; each by no more than what fills the network.
        """
        window = reads.ahead.on_read(start, size)
        if not self._may_fetch_ahead():
            return
        for place in reads.strides.on_read(start, start + size):
            if place.end <= version.size and place.end - place.start <= FLIGHT:
                self._blocks.prefetch(version, place.start, place.end, FLIGHT)
        if window.end <= start + size:
            if start + size < version.size and reads.scattered.is_dense_with(start):
                self._blocks.prefetch(version, 0, version.size, FLIGHT)
            return
        if window.end <= reads.fetched_to <= window.end + FLIGHT:
            return
        if not reads.fetched_to:
            self._streams[version.file_id] += 1
        budget = self._blocks.memory_size * AHEAD_SHARE[0] // AHEAD_SHARE[1] // max(len(self._streams), 1)
        allowed = max(self._blocks.ahead_requests // max(len(self._streams), 1), 1)
        requests = self._blocks.pace.requests(allowed)
        # More than is under way: else all land while the reader waits for the first, and begin together.
        queued = requests + requests // QUEUED_SHARE + 1
        largest = self._largest_request(budget, requests)
        end = min(window.end, start + max(min(budget, queued * largest), size))
        low = reads.fetched_to if start <= reads.fetched_to <= end else start
        if low < RISE and not self._blocks.pace.is_near:
            largest = MIB  # the reader waits for each of these, while connections are idle
        if end < version.size and low > start + size and end - low < min(largest, max(low - start, MIB)):
            return  # a request of its own is not worth it yet
        if end < version.size and low > start + size:
            end -= (end - low) % largest if end - low > largest else 0  # no small ones between the large
        self._drop_unwanted(reads)
        reads.flights.update(self._blocks.prefetch(version, low, end, largest, reader=start))
        reads.fetched_to = end

    def _largest_request(self, budget: int, requests: int) -> int:
        """Return how large requests may be, so that all that one reader may need fit into his memory.

        Near by few are needed, and their number changes: sizes are powers of two there, to be few as well.
        """
        is_near = self._blocks.pace.is_near
        most = requests if is_near else self._blocks.pace.most
        share = max(budget // (most + most // QUEUED_SHARE), MIB)
        return min(1 << (share.bit_length() - 1), NEAR) if is_near else min(share // HALF * HALF, FLIGHT)

    def _drop_unwanted(self, reads: Reads) -> None:
        """Break off what was sent ahead of a place that the reader has left."""
        under_way = [flight for flight in reads.flights if not flight.is_over]
        reads.flights = WeakSet(f for f in under_way if reads.ahead.may_come_to(f.low, f.high))
        for flight in under_way:
            if flight not in reads.flights:
                self._blocks.cancel(flight)

    def end_reads(self, reads: Reads) -> None:
        """Take note that a handle reads no more."""
        if reads.fetched_to:
            self._streams[reads.file_id] -= 1
            if not self._streams[reads.file_id]:
                del self._streams[reads.file_id]
        for flight in reads.flights:
            self._blocks.cancel(flight)


def _local(holder: Draft | None, start: int, size: int) -> bytes:
    return bytes(size) if holder is None else holder.spool.read(start, size)
