"""Memory for what requests bring: areas in huge pages, taken again once nobody looks at them any more.

Fresh memory is zeroed by the kernel and mapped page by page, a sixth of what reading costs. An area comes
back by itself with its last view, in whatever thread that happens. Knows nothing of what is put in.
"""

import contextlib
import ctypes
import mmap
import weakref
from collections import deque
from functools import cache

MIB = 1 << 20
LARGE = MIB  # bytes; from here on areas are used, which begin on a page; below, bytearrays are as good
HUGE = 2 * MIB  # bytes of a huge page: one fault instead of 512
KEPT = 32 * MIB  # bytes that lie ready: a few requests, as many as end before the next ones begin


class Areas:
    """What large buffers are taken from; any thread may ask."""

    def __init__(self, kept: int = KEPT) -> None:
        """Keep areas of *kept* bytes at the most ready."""
        self._kept = kept
        # Its methods are atomic, and a lock could be asked for by the collector while its own thread has it.
        self._free: deque[mmap.mmap] = deque()

    @property
    def free_bytes(self) -> int:
        """Bytes that lie ready."""
        return sum(map(len, list(self._free)))

    def take(self, size: int) -> memoryview:
        """Return *size* writable bytes, whatever they hold; large ones begin on a page."""
        if size < LARGE:
            return memoryview(bytearray(size))
        length = -(-size // MIB) * MIB  # so that areas fit each other
        area = self._free_area(length) or _new_area(length)
        carrier = _carrier(length).from_buffer(area)  # lives as long as any view of it
        weakref.finalize(carrier, self._give_back, area).atexit = False
        return memoryview(carrier).cast("B")[:size]

    def _free_area(self, length: int) -> mmap.mmap | None:
        for _ in range(len(self._free)):
            try:
                area = self._free.pop()  # what was used last is in the processor's cache
            except IndexError:
                break  # another thread took the last one
            if len(area) == length:
                return area
            self._free.appendleft(area)
        return None

    def _give_back(self, area: mmap.mmap) -> None:
        self._free.append(area)
        while self.free_bytes > self._kept:
            with contextlib.suppress(IndexError):  # another thread took the last one
                self._free.popleft()


def _new_area(length: int) -> mmap.mmap:
    area = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if length >= HUGE:
        area.madvise(mmap.MADV_HUGEPAGE)
    return area


@cache
def _carrier(length: int) -> type[ctypes.Array[ctypes.c_char]]:
    """Return a type whose objects lend *length* bytes and can be watched; a memoryview's slices cannot."""
    return type("Carrier", (ctypes.c_char * length,), {})
