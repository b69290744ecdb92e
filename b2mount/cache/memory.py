"""What requests brought, in memory: buffers of consecutive blocks, the one used longest ago leaving first.

A buffer that was read to its end leaves before all others: whoever reads in sequence will not come back to it
soon, but was put ahead of what is fetched for him and not read yet. Few of those are kept where the disk has
them, too: their memory, taken again at once, is in the processor's cache and costs the kernel no new pages.

Blocks are views of the buffer that a request filled, so a single block would keep all of it alive. Hence
buffers, not blocks, are counted and leave. Bytes inside one buffer are handed out without a copy.
"""

from collections import OrderedDict


class Buffer:
    """The blocks of a version from number *first* on, the last one shorter at the end of the file."""

    __slots__ = ("data", "end", "file_id", "first", "is_read", "low")

    def __init__(self, file_id: str, first: int, data: memoryview, block: int) -> None:
        self.file_id = file_id
        self.first = first
        self.end = first + -(-len(data) // block)  # number of the block behind it
        self.low = first * block  # where its bytes begin in the version
        self.data = data
        self.is_read = False  # to its end


class BlockMemory:
    """The buffers in memory: at most *limit* bytes, less what is reserved for those to come."""

    def __init__(self, limit: int, block: int, *, most_read: int | None = None) -> None:
        """Keep at most *most_read* bytes of buffers that were read to their ends; None: as many as fit."""
        self.limit = limit
        self.size = 0  # bytes of all buffers
        self._block = block
        self._reserved = 0
        self._most_read = limit if most_read is None else most_read
        self._read_size = 0
        self._index: dict[tuple[str, int], Buffer] = {}
        # By identity, the one used last at the end; those that were read to their ends apart.
        self._buffers: OrderedDict[int, Buffer] = OrderedDict()
        self._read: OrderedDict[int, Buffer] = OrderedDict()

    def __contains__(self, key: tuple[str, int]) -> bool:
        return key in self._index

    def view(self, file_id: str, start: int, end: int) -> memoryview | None:
        """Return bytes from *start* on, up to *end* or the end of a buffer; None where there are none."""
        buffer = self._index.get((file_id, start // self._block))
        if buffer is None:
            return None
        view = buffer.data[start - buffer.low : end - buffer.low]
        if not buffer.is_read:
            self._buffers.move_to_end(id(buffer))
            if end - buffer.low >= len(buffer.data) > self._block:
                buffer.is_read = True
                self._read[id(buffer)] = self._buffers.pop(id(buffer))
                self._read_size += len(buffer.data)
                self._keep_limit()
        return view

    def put(self, file_id: str, first: int, data: memoryview) -> None:
        """Keep what one request brought; more than there is room for is not kept."""
        if not data or len(data) > self.limit - self._reserved:
            return
        buffer = Buffer(file_id, first, data, self._block)
        for at in range(first, buffer.end):
            self._index[file_id, at] = buffer
        self._buffers[id(buffer)] = buffer
        self.size += len(data)
        self._keep_limit()

    def reserve(self, size: int) -> None:
        """Make room for bytes that are on their way; a negative *size* gives it back."""
        self._reserved += size
        self._keep_limit()

    def forget(self, file_id: str) -> None:
        """Drop all blocks of a version."""
        for buffer in [*self._read.values(), *self._buffers.values()]:
            if buffer.file_id == file_id:
                self._drop(buffer)

    def _keep_limit(self) -> None:
        while self._read and (self._read_size > self._most_read or self.size + self._reserved > self.limit):
            self._drop(next(iter(self._read.values())))
        while self._buffers and self.size + self._reserved > self.limit:
            self._drop(next(iter(self._buffers.values())))

    def _drop(self, buffer: Buffer) -> None:
        del (self._read if buffer.is_read else self._buffers)[id(buffer)]
        self._read_size -= len(buffer.data) if buffer.is_read else 0
        self.size -= len(buffer.data)
        for at in range(buffer.first, buffer.end):  # unless a newer buffer holds the block
            if self._index.get((buffer.file_id, at)) is buffer:
                del self._index[buffer.file_id, at]
