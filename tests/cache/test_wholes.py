"""Files that are read whole in several ranges are checked against the SHA-1 that B2 holds."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from b2mount.cache.blocks import BLOCK, Blocks
from b2mount.cache.disk import DiskCache
from b2mount.core.errors import DataCorrupt
from b2mount.store.memory import MemoryStore
from tests.cache.test_blocks import Bench

SIZE = 20 * BLOCK + 77
STEP = 3 * BLOCK  # of the ranges


class Flawed:
    """A store whose ranges come with one wrong byte, as often as told."""

    def __init__(self, store: MemoryStore, at: int, times: int) -> None:
        self._store = store
        self._at = at
        self.times = times

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def read_into(
        self, file_id: str, start: int, buffer: memoryview, arrived: Callable[[int], None]
    ) -> None:
        await trio.sleep(random.random() / 100)  # ranges arrive in any order
        await self._store.read_into(file_id, start, buffer, lambda _: None)
        if start <= self._at < start + len(buffer) and self.times > 0:
            self.times -= 1
            buffer[self._at - start] ^= 1
        arrived(len(buffer))


async def read_all(blocks: Blocks, bench: Bench) -> bytes:
    """Read a version in sequence, everything sent for at once."""
    blocks.prefetch(bench.version, 0, SIZE, STEP)
    pieces = [
        bytes(await blocks.read(bench.version, at, min(at + BLOCK, SIZE))) for at in range(0, SIZE, BLOCK)
    ]
    return b"".join(pieces)


@pytest.mark.parametrize("at", [0, STEP, SIZE // 2, SIZE - 1])
async def test_a_wrong_byte_is_told_before_the_end_is_read_and_all_is_fetched_again(
    tmp_path: Path, at: int, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(1, SIZE)
    disk = DiskCache(tmp_path, 1 << 30, BLOCK)
    async with trio.open_nursery() as nursery:
        blocks = Blocks(Flawed(bench.store, at, 1), nursery, 64 * BLOCK, disk)  # type: ignore[arg-type]  # it passes the rest on
        told: list[str] = []
        blocks.on_damaged = told.append
        with pytest.raises(DataCorrupt):
            await read_all(blocks, bench)
        with pytest.raises(DataCorrupt):
            await blocks.read(bench.version, SIZE - 10, SIZE)  # nor by asking for the end once more
        assert told == [bench.version.file_id]
        assert await read_all(blocks, bench) == bench.data[0]
    disk.close()
    assert "does not have the SHA-1" in caplog.text


async def test_what_stays_wrong_is_refused_each_time() -> None:
    bench = Bench(1, SIZE)
    async with trio.open_nursery() as nursery:
        blocks = Blocks(Flawed(bench.store, 5, 1000), nursery, 64 * BLOCK)  # type: ignore[arg-type]  # as above
        for _ in range(3):
            with pytest.raises(DataCorrupt):
                await read_all(blocks, bench)


async def test_who_leaves_out_a_part_reads_on_unchecked() -> None:
    bench = Bench(1, SIZE)
    async with trio.open_nursery() as nursery:
        blocks = Blocks(Flawed(bench.store, 5, 1000), nursery, 64 * BLOCK)  # type: ignore[arg-type]  # as above
        blocks.prefetch(bench.version, 0, STEP, STEP)
        blocks.prefetch(bench.version, 2 * STEP, SIZE, STEP)
        with trio.fail_after(60):
            assert await blocks.read(bench.version, SIZE - 9, SIZE) == bench.data[0][-9:]


@pytest.mark.parametrize("memory_size", [0, 4 * BLOCK, 64 * BLOCK])
async def test_a_part_that_was_there_before_counts_or_ends_the_check(memory_size: int) -> None:
    bench = Bench(1, SIZE)
    async with trio.open_nursery() as nursery:
        blocks = Blocks(bench.store, nursery, memory_size)
        await blocks.read(bench.version, 7 * BLOCK, 8 * BLOCK)
        with trio.fail_after(60):
            assert await read_all(blocks, bench) == bench.data[0]


class Gated:
    """A store whose ranges from an offset on come once a gate is open."""

    def __init__(self, store: MemoryStore, at: int) -> None:
        self._store = store
        self._at = at
        self.gate = trio.Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def read_into(
        self, file_id: str, start: int, buffer: memoryview, arrived: Callable[[int], None]
    ) -> None:
        if start >= self._at:
            await self.gate.wait()
        await self._store.read_into(file_id, start, buffer, arrived)


async def test_the_end_of_a_file_does_not_wait_for_a_range_that_waits_for_its_place() -> None:
    size, end = 3 << 20, 2 << 20
    bench = Bench(1, size)
    store = Gated(bench.store, end)
    async with trio.open_nursery() as nursery:
        blocks = Blocks(store, nursery, size, downloads=1)  # type: ignore[arg-type]  # it passes the rest on
        (start,) = blocks.prefetch(bench.version, 0, end, end)
        blocks.cancel(start)  # its reader went elsewhere
        blocks.prefetch(bench.version, end, size, end)
        await trio.testing.wait_all_tasks_blocked()  # it has the only place
        blocks.prefetch(bench.version, 0, end, end)
        store.gate.set()
        with trio.fail_after(60):
            assert await blocks.read(bench.version, size - 9, size) == bench.data[0][-9:]
            assert await blocks.read(bench.version, 0, end) == bench.data[0][:end]
        nursery.cancel_scope.cancel()
