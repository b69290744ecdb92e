"""Blocks of file versions in memory: fetched once however many wait; never stale, as versions never change.

A block is `BLOCK` bytes of one version, the last one of a file shorter. Flights are ranges of blocks under
way; a reader waits for the flights that bring its blocks. Knows file IDs and sizes; knows neither names nor
what is worth reading ahead (core/windows.py says).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from b2mount.cache.disk import DiskCache
from b2mount.cache.memory import BlockMemory
from b2mount.core.errors import B2MountError
from b2mount.store.store import FileVersion, Store

log = logging.getLogger("b2mount.cache")

BLOCK = 128 << 10  # bytes; the kernel's read-ahead asks for as much at once
DISK_THREADS = 4  # at once for the disk cache; a guess


class Flight:
    """Blocks [first, end) of a version on their way."""

    __slots__ = ("arrived", "blocks", "end", "error", "file_id", "first")

    def __init__(self, file_id: str, first: int, end: int) -> None:
        self.file_id = file_id
        self.first = first
        self.end = end
        self.arrived = trio.Event()
        self.error: BaseException | None = None
        self.blocks: list[memoryview] = []  # once arrived: for who waited, should memory not hold them


@dataclass(slots=True)
class BlockCounts:
    """What the cache did, for `b2mount status`."""

    hits: int = 0  # blocks found in memory
    disk_hits: int = 0
    misses: int = 0  # blocks that a reader had to wait for
    fetched_bytes: int = 0


class Blocks:
    """The blocks of one mount. Fetches run in the nursery given, so a reader that leaves cancels nobody's."""

    def __init__(
        self, store: Store, nursery: trio.Nursery, memory_size: int, disk: DiskCache | None = None
    ) -> None:
        """Keep at most *memory_size* bytes in memory, and what *disk* takes there."""
        self._store = store
        self._nursery = nursery
        self._memory = BlockMemory(memory_size)
        self._disk = disk
        self._disk_limiter = trio.CapacityLimiter(DISK_THREADS)
        self._flights: dict[tuple[str, int], Flight] = {}
        self.counts = BlockCounts()

    @property
    def memory_size(self) -> int:
        """The most bytes that are kept in memory."""
        return self._memory.limit

    @property
    def memory_bytes(self) -> int:
        return self._memory.size

    def read_cached(self, version: FileVersion, start: int, end: int) -> bytes | memoryview | None:
        """Return bytes [start, end) if all of them are in memory; never waits."""
        first, last = start // BLOCK, (end - 1) // BLOCK
        if first == last:
            block = self._memory.get((version.file_id, first))
            if block is None:
                return None
            self.counts.hits += 1
            return block[start - first * BLOCK : end - first * BLOCK]
        pieces = []
        for index in range(first, last + 1):
            block = self._memory.get((version.file_id, index))
            if block is None:
                return None
            pieces.append(block)
        self.counts.hits += len(pieces)
        pieces[-1] = pieces[-1][: end - last * BLOCK]
        pieces[0] = pieces[0][start - first * BLOCK :]
        return b"".join(pieces)

    async def read(self, version: FileVersion, start: int, end: int) -> bytes:
        """Return bytes [start, end), fetching what is not here; *end* may not pass the version's size.

        Raises VersionGone, B2Unavailable, DataCorrupt.
        """
        if start >= end:
            return b""
        cached = self.read_cached(version, start, end)
        if cached is not None:
            return bytes(cached)
        pieces: list[bytes | memoryview] = []
        index, stop = start // BLOCK, (end - 1) // BLOCK + 1
        while index < stop:
            for block in (await self._blocks_from(version, index, end))[: stop - index]:
                low, high = max(start - index * BLOCK, 0), min(end - index * BLOCK, BLOCK)
                pieces.append(block[low:high])
                index += 1
        return b"".join(pieces)

    def prefetch(self, version: FileVersion, start: int, end: int, flight_size: int) -> bool:
        """Start fetching bytes [start, end) in requests of about *flight_size* bytes; does not wait.

        Returns whether anything was left to fetch.
        """
        launched = False
        index, last = start // BLOCK, (min(end, version.size) - 1) // BLOCK
        step = max(flight_size // BLOCK, 1)
        while index <= last:
            if self._present(version.file_id, index):
                index += 1
                continue
            stop = index + 1
            here = self._on_disk(version.file_id, index)
            while (
                stop <= last
                and stop - index < step
                and not self._present(version.file_id, stop)
                and self._on_disk(version.file_id, stop) == here
            ):
                stop += 1
            self._launch(version, index, stop)
            launched = True
            index = stop
        return launched

    def forget(self, file_id: str) -> None:
        """Drop a version's blocks from memory."""
        self._memory.forget(file_id)

    # --- fetching ----------------------------------------------------------------------------------------

    def _present(self, file_id: str, index: int) -> bool:
        key = (file_id, index)
        return key in self._memory or key in self._flights

    async def _blocks_from(self, version: FileVersion, index: int, end: int) -> Sequence[bytes | memoryview]:
        """Return block *index*, with those that came in the same flight: memory may not hold them all."""
        key = (version.file_id, index)
        block = self._memory.get(key)
        if block is not None:
            self.counts.hits += 1
            return [block]
        self.counts.misses += 1
        flight = self._flights.get(key)
        if flight is None:
            flight = self._launch(version, index, self._missing_run(version, index, end))
        await flight.arrived.wait()
        if flight.error is not None:
            raise flight.error
        return flight.blocks[index - flight.first :]

    def _missing_run(self, version: FileVersion, index: int, end: int) -> int:
        """Return the end of the run of blocks from *index* that are neither here nor on their way."""
        last = (end - 1) // BLOCK
        stop = index + 1
        here = self._on_disk(version.file_id, index)
        while (
            stop <= last
            and not self._present(version.file_id, stop)
            and self._on_disk(version.file_id, stop) == here
        ):
            stop += 1
        return stop

    def _on_disk(self, file_id: str, index: int) -> bool:
        return self._disk is not None and self._disk.has(file_id, index)

    def _launch(self, version: FileVersion, first: int, end: int) -> Flight:
        flight = Flight(version.file_id, first, end)
        for index in range(first, end):
            self._flights[version.file_id, index] = flight
        self._nursery.start_soon(self._fetch, version, flight)
        return flight

    async def _fetch(self, version: FileVersion, flight: Flight) -> None:
        fetched: bytes | bytearray | None = None
        try:
            data: bytes | bytearray | None = await self._read_disk(flight)
            if data is None:
                low, high = flight.first * BLOCK, min(flight.end * BLOCK, version.size)
                data = fetched = await self._store.read_range(version.file_id, low, high)
                self.counts.fetched_bytes += len(data)
            view = memoryview(data)
            flight.blocks = [view[at : at + BLOCK] for at in range(0, len(data), BLOCK)]
            self._memory.put(version.file_id, flight.first, flight.blocks)
        except B2MountError as exc:
            flight.error = exc
        except trio.Cancelled:
            flight.error = B2MountError("the mount is ending")
            raise
        except Exception as exc:
            log.exception("fetching a block: a bug")
            flight.error = exc
        finally:
            for index in range(flight.first, flight.end):
                del self._flights[version.file_id, index]
            flight.arrived.set()
        if flight.error is None and fetched is not None:
            await self._write_disk(version, flight.first, fetched)

    # --- the disk ----------------------------------------------------------------------------------------

    async def _read_disk(self, flight: Flight) -> bytes | None:
        """Return a flight's blocks from the disk cache; None where they are not, or not good."""
        if self._disk is None or not self._disk.has(flight.file_id, flight.first):
            return None
        cached = self._disk.use(flight.file_id)
        assert cached is not None
        data = await trio.to_thread.run_sync(
            self._disk.read, cached, flight.first, flight.end, limiter=self._disk_limiter
        )
        if data is None:
            self._disk.forget_blocks(cached, flight.first, flight.end)
        else:
            self.counts.disk_hits += flight.end - flight.first
        return data

    async def _write_disk(self, version: FileVersion, first: int, data: bytes | bytearray) -> None:
        if self._disk is None:
            return
        cached = self._disk.make_room(version.file_id, version.size, len(data))
        if cached is None:
            return
        try:
            sums = await trio.to_thread.run_sync(
                self._disk.write, cached, first, data, limiter=self._disk_limiter
            )
        except OSError as exc:
            log.warning("the block cache cannot be written: %s", exc.strerror)
            self._disk.drop(version.file_id)
        else:
            self._disk.note(cached, first, sums)
        finally:
            self._disk.release(len(data))

    async def adopt(self, version: FileVersion, path: Path) -> bool:
        """Take a local file that holds all of a version for its blocks; False where it stays as it is."""
        if self._disk is None or version.size == 0 or self._disk.use(version.file_id) is not None:
            return False
        cached = self._disk.make_room(version.file_id, version.size, version.size)
        if cached is None:
            return False
        try:
            sums = await trio.to_thread.run_sync(
                self._disk.take_file, cached, path, limiter=self._disk_limiter
            )
        except OSError:
            self._disk.drop(version.file_id)
            return False
        finally:
            self._disk.release(version.size)
        if len(sums) != len(cached.sums):
            self._disk.drop(version.file_id)
            return True  # the file is gone all the same
        self._disk.note(cached, 0, sums)
        return True

    @property
    def disk_bytes(self) -> int:
        return self._disk.used_bytes if self._disk is not None else 0

    async def save_now_and_then(self, every: float) -> None:
        """Save the disk cache's index every so many seconds, until cancelled."""
        while self._disk is not None:
            await trio.sleep(every)
            await trio.to_thread.run_sync(self._disk.save, self._disk.unsaved())
