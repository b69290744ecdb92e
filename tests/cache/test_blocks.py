"""Blocks: one request however many wait, whatever memory holds, and never other bytes than the version's."""

import gc
import shutil
import sqlite3
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.lowlevel
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from b2mount.cache.blocks import BLOCK, DIRECT_THREADS, Blocks
from b2mount.cache.disk import CachedVersion, DiskCache
from b2mount.core.errors import B2Unavailable
from b2mount.store.store import FileVersion
from tests.journal.lives import memory

SIZE = 10 * BLOCK + 1234
MIB = 1 << 20
GiB = 1 << 30


def content(size: int, seed: int = 0) -> bytes:
    return b"".join((number * 31 + seed).to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


class Bench:
    """A store with some versions, and the requests that reach it."""

    def __init__(self, count: int = 1, size: int = SIZE) -> None:
        self.store, bucket_id = memory()
        self.data = [content(size, seed) for seed in range(count)]
        self.versions = [
            self.store.account.add(bucket_id, f"f{seed}", data) for seed, data in enumerate(self.data)
        ]
        self.requests = 0
        self.store.account.on_call = self._count

    @property
    def version(self) -> FileVersion:
        return self.versions[0]

    def _count(self, _call: str) -> None:
        self.requests += 1


async def test_many_readers_of_one_block_cost_one_request() -> None:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        blocks = Blocks(bench.store, nursery, 64 * BLOCK)

        async def read(start: int) -> None:
            assert await blocks.read(bench.version, start, start + 100) == bench.data[0][start : start + 100]

        async with trio.open_nursery() as readers:
            for start in range(0, 5000, 100):
                readers.start_soon(read, start)
        assert bench.requests == 1


@pytest.mark.parametrize("memory_size", [0, 100, BLOCK, 2 * BLOCK])
async def test_with_hardly_any_memory_a_read_is_right_and_fetched_once(memory_size: int) -> None:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        blocks = Blocks(bench.store, nursery, memory_size)
        assert await blocks.read(bench.version, 5, SIZE) == bench.data[0][5:]
        assert bench.requests == 1
        assert blocks.memory_bytes <= memory_size


async def test_a_reader_that_gives_up_leaves_the_flight_to_the_others() -> None:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        blocks = Blocks(bench.store, nursery, 64 * BLOCK)
        with trio.CancelScope() as scope:
            scope.cancel()
            await blocks.read(bench.version, 0, BLOCK)
        assert scope.cancelled_caught
        assert await blocks.read(bench.version, 0, BLOCK) == bench.data[0][:BLOCK]
        assert bench.requests == 1


async def test_what_came_of_a_request_that_was_broken_off_keeps_no_more_memory_than_it_counts_as() -> None:
    bench = Bench(size=4 * MIB)
    areas = []

    async def break_off(_file_id: str, _start: int, buffer: memoryview, note: Callable[[int], None]) -> None:
        areas.append(weakref.ref(buffer.obj))
        buffer[: BLOCK + 5] = bench.data[0][: BLOCK + 5]
        note(BLOCK + 5)
        raise B2Unavailable("broken off")

    async with trio.open_nursery() as nursery:
        blocks = Blocks(bench.store, nursery, 64 * BLOCK)
        bench.store.read_into = break_off  # type: ignore[method-assign, assignment]
        blocks.prefetch(bench.version, 0, 2 * MIB, 2 * MIB)
        await trio.testing.wait_all_tasks_blocked()
        assert blocks.read_cached(bench.version, 0, BLOCK) == bench.data[0][:BLOCK]
        assert blocks.memory_bytes == BLOCK
        gc.collect()  # the error knows the frames that raised it
        assert [area() for area in areas] == [None]


async def test_a_failed_flight_tells_all_who_wait_and_the_next_read_asks_again() -> None:
    bench = Bench()

    def fail(_call: str) -> None:
        bench.requests += 1
        raise B2Unavailable("not now")

    bench.store.account.on_call = fail
    told = 0
    async with trio.open_nursery() as nursery:
        blocks = Blocks(bench.store, nursery, 64 * BLOCK)

        async def read() -> None:
            nonlocal told
            try:
                await blocks.read(bench.version, 0, 10)
            except B2Unavailable:
                told += 1

        async with trio.open_nursery() as readers:
            for _ in range(10):
                readers.start_soon(read)
        assert (told, bench.requests) == (10, 1)
        bench.store.account.on_call = lambda _call: None
        assert await blocks.read(bench.version, 0, 10) == bench.data[0][:10]


READS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, SIZE), st.integers(0, 4 * BLOCK), st.booleans()), max_size=25
)


@given(READS, st.sampled_from([0, BLOCK, 3 * BLOCK, 64 * BLOCK]), st.sampled_from([0, 2, 7, 100]))
@settings(max_examples=6, deadline=None)
def test_every_read_gives_the_versions_bytes_and_the_disk_keeps_its_limit(
    tmp_path_factory: pytest.TempPathFactory,
    reads: list[tuple[int, int, int, bool]],
    memory_size: int,
    disk_blocks: int,
) -> None:
    directory = tmp_path_factory.mktemp("blocks")
    bench = Bench(3)
    limit = disk_blocks * BLOCK

    async def play(reads: list[tuple[int, int, int, bool]]) -> None:
        disk = DiskCache(directory, limit, BLOCK) if disk_blocks else None
        async with trio.open_nursery() as nursery:
            blocks = Blocks(bench.store, nursery, memory_size, disk)

            async def read(which: int, start: int, end: int) -> None:
                assert await blocks.read(bench.versions[which], start, end) == bench.data[which][start:end]

            async with trio.open_nursery() as readers:
                for which, start, length, ahead in reads:
                    end = min(start + length, SIZE)
                    if ahead and start < end:
                        blocks.prefetch(bench.versions[which], start, end, 2 * BLOCK)
                    readers.start_soon(read, which, start, end)
                    await trio.lowlevel.checkpoint()
                    if disk is not None:
                        assert on_disk(directory) <= limit
        if disk is not None:
            assert on_disk(directory) <= limit
            assert disk.used_bytes <= limit
            disk.close()

    trio.run(play, reads)
    trio.run(play, reads[::-1])  # another life, with what the first one left
    shutil.rmtree(directory)


def block_files(directory: Path) -> list[Path]:
    return list(directory.glob("*.blocks"))


def on_disk(directory: Path) -> int:
    """Return the bytes that block files take, blocks of the file system included."""
    total = 0
    for path in block_files(directory):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total


async def filled(bench: Bench, directory: Path, limit: int = GiB) -> None:
    """Read all of every version once, into a disk cache that is then closed."""
    disk = DiskCache(directory, limit, BLOCK)
    async with trio.open_nursery() as nursery:
        blocks = Blocks(bench.store, nursery, 0, disk)
        for version in bench.versions:
            await blocks.read(version, 0, SIZE)
    disk.close()


async def read_again(bench: Bench, directory: Path, limit: int = GiB) -> int:
    """Read all in a new life; return how many requests that took."""
    bench.requests = 0
    disk = DiskCache(directory, limit, BLOCK)
    async with trio.open_nursery() as nursery:
        blocks = Blocks(bench.store, nursery, 0, disk)
        for version, data in zip(bench.versions, bench.data, strict=True):
            assert await blocks.read(version, 0, SIZE) == data
    disk.close()
    return bench.requests


async def test_the_next_mount_reads_from_disk(tmp_path: Path) -> None:
    bench = Bench(2)
    await filled(bench, tmp_path)
    assert await read_again(bench, tmp_path) == 0


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "zero"])
async def test_damaged_blocks_are_fetched_again(tmp_path: Path, damage: str) -> None:
    bench = Bench(1)
    await filled(bench, tmp_path)
    (path,) = block_files(tmp_path)
    if damage == "remove":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[: 3 * BLOCK + 7])
    else:
        data = bytearray(path.read_bytes())
        at = 4 * BLOCK + 99
        data[at : at + 5] = bytes(5) if damage == "zero" else bytes(byte ^ 1 for byte in data[at : at + 5])
        path.write_bytes(data)
    assert await read_again(bench, tmp_path) >= 1
    assert await read_again(bench, tmp_path) == 0


async def test_a_smaller_limit_at_the_next_mount_is_kept(tmp_path: Path) -> None:
    bench = Bench(3)
    await filled(bench, tmp_path)
    DiskCache(tmp_path, 12 * BLOCK, BLOCK).close()
    assert 0 < on_disk(tmp_path) <= 12 * BLOCK


@pytest.mark.parametrize("what", ["rubbish", "truncated", "wrong sums", "text in sums"])
async def test_a_damaged_index_begins_anew(tmp_path: Path, what: str) -> None:
    bench = Bench(2)
    await filled(bench, tmp_path)
    path = tmp_path / "index.sqlite"
    if what == "rubbish":
        path.write_bytes(b"rubbish" * 5000)
    elif what == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    else:
        with sqlite3.connect(path) as db:
            db.execute("UPDATE versions SET sums=?", (b"12345" if what == "wrong sums" else "text",))
        db.close()
    assert await read_again(bench, tmp_path) >= 1
    assert await read_again(bench, tmp_path) == 0


async def test_a_directory_deleted_under_a_mount_costs_fetching_and_nothing_else(tmp_path: Path) -> None:
    bench = Bench(3)
    directory = tmp_path / "cache"
    disk = DiskCache(directory, GiB, BLOCK)
    async with trio.open_nursery() as nursery:
        blocks = Blocks(bench.store, nursery, 0, disk)
        await blocks.read(bench.versions[0], 0, SIZE)
        await trio.testing.wait_all_tasks_blocked(0.05)
        shutil.rmtree(directory)
        for _ in range(2):
            for version, data in zip(bench.versions, bench.data, strict=True):
                assert await blocks.read(version, 0, SIZE) == data
    disk.close()


async def test_a_second_mount_is_told_that_the_cache_is_taken(tmp_path: Path) -> None:
    disk = DiskCache(tmp_path, GiB, BLOCK)
    for _ in range(3):
        with pytest.raises(BlockingIOError):
            DiskCache(tmp_path, GiB, BLOCK)
    disk.close()
    DiskCache(tmp_path, GiB, BLOCK).close()


async def test_a_slow_disk_is_left_to_the_page_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(DIRECT_THREADS + 2, 8 * BLOCK)
    real, written, slow = DiskCache.write, threading.Event(), []

    def write(
        disk: DiskCache, version: CachedVersion, index: int, data: memoryview, *, direct: bool
    ) -> list[int]:
        if direct:
            slow.append(version.file_id)
            assert written.wait(60)
        return real(disk, version, index, data, direct=direct)

    monkeypatch.setattr(DiskCache, "write", write)
    disk = DiskCache(tmp_path, GiB, BLOCK)
    async with trio.open_nursery() as nursery:
        blocks = Blocks(bench.store, nursery, 0, disk)
        for version, data in zip(bench.versions, bench.data, strict=True):
            assert await blocks.read(version, 0, version.size) == data
        with trio.fail_after(60):
            while disk.used_bytes < 2 * 8 * BLOCK:  # noqa: ASYNC110 (a thread has no event)
                await trio.sleep(0.01)
        assert not set(slow) & {version.file_id for version in bench.versions if disk.has(version.file_id, 0)}
        written.set()
    assert len(slow) == DIRECT_THREADS
    assert disk.used_bytes == len(bench.versions) * 8 * BLOCK
    disk.close()


async def test_a_version_dropped_while_it_is_read_keeps_the_count_right(tmp_path: Path) -> None:
    bench = Bench(1)
    await filled(bench, tmp_path)
    disk = DiskCache(tmp_path, GiB, BLOCK)
    cached = disk.use(bench.version.file_id)
    assert cached is not None
    disk.drop(bench.version.file_id)
    disk.forget_blocks(cached, 0, 3)  # as when the read under way finds the file gone
    assert disk.used_bytes == 0
    disk.close()


@pytest.mark.parametrize("size", [1, BLOCK, BLOCK + 1, SIZE])
async def test_a_sent_spool_file_serves_reads_without_a_request(tmp_path: Path, size: int) -> None:
    bench = Bench(1, size)
    spool = tmp_path / "spool"
    spool.write_bytes(bench.data[0])
    disk = DiskCache(tmp_path / "cache", GiB, BLOCK)
    async with trio.open_nursery() as nursery:
        blocks = Blocks(bench.store, nursery, 0, disk)
        assert await blocks.adopt(bench.version, spool)
        assert not spool.exists()
        assert await blocks.read(bench.version, 0, size) == bench.data[0]
    disk.close()
    assert bench.requests == 0
    assert disk.used_bytes == size


async def test_a_spool_file_too_large_for_the_cache_stays(tmp_path: Path) -> None:
    bench = Bench(1)
    spool = tmp_path / "spool"
    spool.write_bytes(bench.data[0])
    disk = DiskCache(tmp_path / "cache", SIZE - 1, BLOCK)
    async with trio.open_nursery() as nursery:
        assert not await Blocks(bench.store, nursery, 0, disk).adopt(bench.version, spool)
    assert spool.read_bytes() == bench.data[0]
    disk.close()
