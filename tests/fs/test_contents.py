"""How a stream is fetched: every byte right, in few requests, and more of them at once from afar."""

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from b2mount.cache import blocks as blocks_module
from b2mount.cache.blocks import Blocks
from b2mount.core.pace import MOST_FAR, MOST_NEAR
from b2mount.fs.contents import Contents, Reads
from tests.journal.lives import memory

MIB = 1 << 20
SIZE = 48 * MIB + 4321
DATA = (b"".join(number.to_bytes(4, "big") for number in range(65521)) * (SIZE // 262084 + 1))[:SIZE]


class FarStore:
    """Brings each range after a while, and counts how many are asked for in all and at once."""

    def __init__(self, wait: float) -> None:
        self._wait = wait
        self.requests = self.at_once = self.most = 0

    async def read_into(
        self, _file_id: str, start: int, buffer: memoryview, arrived: Callable[[int], None]
    ) -> None:
        self.requests += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await trio.sleep(self._wait)
            buffer[:] = DATA[start : start + len(buffer)]
            arrived(len(buffer))
        finally:
            self.at_once -= 1


async def read_through(store: FarStore, step: int, memory_size: int) -> int:
    """Read a file from end to end, in steps; return how many requests were allowed at once in the end."""
    real, bucket_id = memory()
    version = real.account.add(bucket_id, "f", DATA)
    async with trio.open_nursery() as nursery:
        blocks = Blocks(store, nursery, memory_size)  # type: ignore[arg-type]  # all of it that is used
        contents, reads = Contents(blocks), Reads(version)
        for start in range(0, SIZE, step):
            end = min(start + step, SIZE)
            contents.read_ahead(version, reads, start, end - start)
            assert await contents.read(version, start, end) == DATA[start:end]
        contents.end_reads(reads)
        return blocks.ahead_requests


@pytest.mark.parametrize("step", [128 << 10, MIB, 3 * MIB + 777])
@pytest.mark.parametrize("memory_size", [16 * MIB, 128 * MIB])
async def test_a_stream_from_afar_is_right_and_takes_few_requests(step: int, memory_size: int) -> None:
    store = FarStore(0.02)
    allowed = await read_through(store, step, memory_size)
    assert allowed == MOST_FAR + 8
    assert store.requests <= SIZE // MIB + 8
    assert store.most <= MOST_FAR + 8 + 1  # and what the reader himself asks for


async def test_before_the_first_answer_nobody_is_taken_for_far() -> None:
    async with trio.open_nursery() as nursery:
        blocks = Blocks(FarStore(0.02), nursery, 128 * MIB)  # type: ignore[arg-type]  # nothing of it is used
        assert blocks.ahead_requests == MOST_NEAR + 8


class PacedStore:
    """Is 40 ms away and brings 25 MB/s over each connection, in the time of trio's clock; of any content."""

    def __init__(self) -> None:
        self.requests = 0

    async def read_into(
        self, _file_id: str, _start: int, buffer: memoryview, arrived: Callable[[int], None]
    ) -> None:
        self.requests += 1
        await trio.sleep(0.04)
        for here in range(256 << 10, len(buffer) + 1, 256 << 10):
            await trio.sleep((256 << 10) / 25e6)
            arrived(here)
        arrived(len(buffer))


async def read_paced(store: PacedStore, size: int) -> float:
    """Read a file from end to end; return the seconds that it took by trio's clock."""
    real, bucket_id = memory()
    version = dataclasses.replace(real.account.add(bucket_id, "f", b""), size=size, sha1=None)
    async with trio.open_nursery() as nursery:
        blocks = Blocks(store, nursery, 128 * MIB)  # type: ignore[arg-type]  # all of it that is used
        contents, reads, began = Contents(blocks), Reads(version), trio.current_time()
        for start in range(0, size, MIB):
            contents.read_ahead(version, reads, start, MIB)
            await contents.read(version, start, start + MIB)
            await trio.sleep(0.001)  # what the reader does with it
        contents.end_reads(reads)
        return trio.current_time() - began


@pytest.fixture
def trio_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have speed measured in trio's time; with `autojump_clock`, which no machine's load can change."""
    monkeypatch.setattr(blocks_module, "time", SimpleNamespace(monotonic=trio.current_time))


async def test_a_stream_keeps_the_connections_of_a_far_network_busy(
    autojump_clock: trio.testing.MockClock, trio_time: None
) -> None:
    """With 20 at once that began together it took 1.4 s."""
    store = PacedStore()
    assert await read_paced(store, 512 * MIB) < 1.15
    assert store.requests < 200


@pytest.mark.parametrize(("mebibytes", "seconds"), [(8, 0.2), (16, 0.2), (32, 0.3)])
async def test_the_start_of_a_far_file_comes_over_many_connections(
    autojump_clock: trio.testing.MockClock, trio_time: None, mebibytes: int, seconds: float
) -> None:
    """In requests of up to 4 MiB these took 0.22, 0.26 and 0.34 s."""
    store = PacedStore()
    assert await read_paced(store, mebibytes * MIB) < seconds
    assert store.requests <= mebibytes


async def test_the_start_of_a_near_file_takes_few_requests(
    autojump_clock: trio.testing.MockClock, trio_time: None
) -> None:
    """Its first answer tells that it is near."""
    store = FarStore(0)
    await read_through(store, MIB, 128 * MIB)
    assert store.requests < SIZE // MIB // 2


class NearStore(PacedStore):
    """Is near, but its threads are slow to begin; all requests share a gigabyte a second."""

    def __init__(self) -> None:
        super().__init__()
        self.at_once = self.most = 0

    async def read_into(
        self, _file_id: str, _start: int, buffer: memoryview, arrived: Callable[[int], None]
    ) -> None:
        self.requests += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await trio.sleep(0.02)
        arrived(0)
        await trio.sleep(0.001)
        for here in range(256 << 10, len(buffer) + 1, 256 << 10):
            arrived(here)
            await trio.sleep((256 << 10) / 1e9 * self.at_once)
        arrived(len(buffer))
        self.at_once -= 1


async def test_near_by_few_large_requests_share_what_the_machine_can_do(
    autojump_clock: trio.testing.MockClock, trio_time: None
) -> None:
    store = NearStore()
    await read_paced(store, 512 * MIB)
    assert store.most < MOST_NEAR
    assert store.requests < 160


async def test_a_file_that_stays_open_keeps_nothing_that_was_fetched_ahead_and_is_there() -> None:
    store = FarStore(0.02)
    real, bucket_id = memory()
    version = real.account.add(bucket_id, "f", DATA)
    async with trio.open_nursery() as nursery:
        blocks = Blocks(store, nursery, 8 * MIB)  # type: ignore[arg-type]  # all of it that is used
        contents, reads = Contents(blocks), Reads(version)
        for start in range(0, MIB, 128 << 10):
            contents.read_ahead(version, reads, start, 128 << 10)
            await contents.read(version, start, start + (128 << 10))
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert not list(reads.flights)  # or each of 200 open files would hold what memory has long let go
        contents.end_reads(reads)
