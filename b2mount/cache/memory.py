"""Blocks in memory, kept and dropped together with the buffer that they arrived in.

What a request brought lies in one buffer, and its blocks are views of it, so a single block would keep all of
it alive. Hence buffers, not blocks, are counted and leave: the one used longest ago first.
"""

from collections.abc import Sequence

from cachetools import LRUCache


class _Buffer:
    """Blocks [first, first + len(blocks)) of a version."""

    __slots__ = ("blocks", "file_id", "first", "size")

    def __init__(self, file_id: str, first: int, blocks: Sequence[memoryview]) -> None:
        self.file_id = file_id
        self.first = first
        self.blocks = blocks
        self.size = sum(len(block) for block in blocks)


class _Buffers(LRUCache[int, _Buffer]):
    """Buffers by their identity; the index of blocks follows what leaves."""

    def __init__(self, limit: int, index: dict[tuple[str, int], _Buffer]) -> None:
        super().__init__(limit, getsizeof=lambda buffer: buffer.size)
        self._index = index

    def popitem(self) -> tuple[int, _Buffer]:
        """Drop the buffer that was used longest ago."""
        key, buffer = super().popitem()
        self.unlist(buffer)
        return key, buffer

    def unlist(self, buffer: _Buffer) -> None:
        """Take a buffer's blocks off the index, unless a newer buffer holds them."""
        for at in range(buffer.first, buffer.first + len(buffer.blocks)):
            if self._index.get((buffer.file_id, at)) is buffer:
                del self._index[buffer.file_id, at]


class BlockMemory:
    """The blocks in memory, at most *limit* bytes of buffers."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._index: dict[tuple[str, int], _Buffer] = {}
        self._buffers = _Buffers(limit, self._index)

    @property
    def size(self) -> int:
        """Bytes of all buffers."""
        return int(self._buffers.currsize)

    def __contains__(self, key: tuple[str, int]) -> bool:
        return key in self._index

    def get(self, key: tuple[str, int]) -> memoryview | None:
        """Return a block by file ID and number, and count its buffer as used."""
        buffer = self._index.get(key)
        if buffer is None:
            return None
        self._buffers[id(buffer)]  # cachetools counts a look as a use
        return buffer.blocks[key[1] - buffer.first]

    def put(self, file_id: str, first: int, blocks: Sequence[memoryview]) -> None:
        """Keep what one request brought; more than there is room for is not kept."""
        buffer = _Buffer(file_id, first, blocks)
        if not blocks or buffer.size > self.limit:
            return
        for at in range(first, first + len(blocks)):
            self._index[file_id, at] = buffer
        self._buffers[id(buffer)] = buffer

    def forget(self, file_id: str) -> None:
        """Drop all blocks of a version."""
        for key, buffer in list(self._buffers.items()):
            if buffer.file_id == file_id:
                self._buffers.unlist(buffer)
                del self._buffers[key]
