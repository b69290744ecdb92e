"""Bytes to send, readable again from any offset: from a spool file, from memory, or zeros."""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence

from b2mount.core.extents import Origin, Segment
from b2mount.journal.drafts import Spool
from b2mount.store.store import Body

HASH_BLOCK = 1 << 20  # bytes


class SpoolBody:
    """Bytes [start, end) of a spool file."""

    def __init__(self, spool: Spool, start: int, end: int) -> None:
        self._spool = spool
        self._start = start
        self._end = end

    @property
    def size(self) -> int:
        return self._end - self._start

    def read_at(self, offset: int, size: int) -> bytes:
        return self._spool.read(self._start + offset, min(size, self.size - offset))


class SparseBody:
    """Bytes that segments describe, new ones or zeros, in order and end to end.

    Where nobody wrote, the spool file is not asked: a write that failed half-way may have left bytes there.
    """

    def __init__(self, spool: Spool, segments: Sequence[Segment]) -> None:
        self._spool = spool
        self._segments = segments
        self._ends = [segment.end for segment in segments]
        self._start = segments[0].start

    @property
    def size(self) -> int:
        return self._ends[-1] - self._start

    def read_at(self, offset: int, size: int) -> bytes:
        at = self._start + offset
        end = min(at + size, self._ends[-1])
        pieces = []
        for segment in self._segments[bisect_right(self._ends, at) :]:
            if at >= end:
                break
            stop = min(segment.end, end)
            is_new = segment.origin is Origin.NEW
            pieces.append(self._spool.read(at, stop - at) if is_new else bytes(stop - at))
            at = stop
        return b"".join(pieces)


class ZeroBody:
    """Zeros."""

    def __init__(self, size: int) -> None:
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    def read_at(self, offset: int, size: int) -> bytes:
        return bytes(min(size, self._size - offset))


class BytesBody:
    """Bytes in memory."""

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = memoryview(data)

    @property
    def size(self) -> int:
        return len(self._data)

    def read_at(self, offset: int, size: int) -> memoryview:
        return self._data[offset : offset + size]


def sha1_of(body: Body) -> str:
    """Return the SHA-1 of a body in hex. Blocks: call in a thread."""
    digest = hashlib.sha1(usedforsecurity=False)
    for offset in range(0, body.size, HASH_BLOCK):
        digest.update(body.read_at(offset, HASH_BLOCK))
    return digest.hexdigest()
