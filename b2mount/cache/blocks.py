"""Blocks of file versions: fetched once however many wait; never stale, as versions never change.

A block is `BLOCK` bytes of one version, the last one of a file shorter. Flights are ranges of blocks under
way; a reader waits for the part of a flight that it needs. What is fetched ahead uses some of the connections
only, so that a read which somebody waits for finds a free one. Knows file IDs and sizes; knows neither names
nor what is worth reading ahead (core/windows.py says).
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from b2mount.cache.blockfiles import DIRECT_LEAST
from b2mount.cache.buffers import Areas
from b2mount.cache.disk import DiskCache
from b2mount.cache.flights import Flight
from b2mount.cache.memory import BlockMemory
from b2mount.cache.wholes import Wholes
from b2mount.core.errors import B2MountError, DataCorrupt
from b2mount.core.pace import Pace
from b2mount.core.windows import flight_bytes
from b2mount.store.store import FileVersion, Store

log = logging.getLogger("b2mount.cache")

BLOCK = 128 << 10  # bytes; the kernel's read-ahead asks for as much at once
DISK_THREADS = 6  # at once for the disk cache; a guess
DIRECT_THREADS = 4  # of those may wait for the disk itself to have written; a slow one holds nobody up
AHEAD_SHARE = 7, 8  # of the connections may fetch ahead; the rest is for who waits
TAKEN_INLINE = 64 << 10  # bytes of a file that is taken over without a thread, which costs more than they do
WRITING = 8  # requests besides those under way that may be waiting for the disk
READ_KEPT = 16 << 20  # bytes read to their ends and kept: the kernel asks for what comes next out of order
WORTH_CANCELLING = 1 << 20  # bytes still to come; a broken connection costs a new one


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
        self,
        store: Store,
        nursery: trio.Nursery,
        memory_size: int,
        disk: DiskCache | None = None,
        *,
        downloads: int = 40,
    ) -> None:
        """Keep at most *memory_size* bytes in memory, those on their way included, and the rest on *disk*.

        *downloads* is how many requests the store has under way at once.
        """
        self._store = store
        self._nursery = nursery
        self._memory = BlockMemory(memory_size, BLOCK, most_read=READ_KEPT if disk else None)
        self._areas = Areas()
        self._disk = disk
        self._disk_limiter = trio.CapacityLimiter(DISK_THREADS)
        self._most_ahead = max(downloads * AHEAD_SHARE[0] // AHEAD_SHARE[1], 1)
        self.pace = Pace()
        self._ahead_slots = trio.CapacityLimiter(1)
        self._set_ahead_slots()
        self._flights: dict[tuple[str, int], Flight] = {}
        self.counts = BlockCounts()
        self._wholes = Wholes()
        self._damaged: set[str] = set()  # versions that nobody may read on in: what was read of them is wrong
        self.on_damaged: Callable[[str], None] = lambda _file_id: None  # told of versions that came damaged

    @property
    def memory_size(self) -> int:
        """The most bytes that are kept in memory."""
        return self._memory.limit

    @property
    def ahead_requests(self) -> int:
        """The most requests that fetch ahead at once, with those whose bytes are being written to disk."""
        return int(self._ahead_slots.total_tokens)

    def _set_ahead_slots(self) -> None:
        """Let no more fetch ahead than the network is worth: what waits for the disk is memory, too."""
        most = self.pace.requests(self._most_ahead) if self.pace.is_near else self.pace.most
        self._ahead_slots.total_tokens = min(self._most_ahead, most + WRITING)

    @property
    def memory_bytes(self) -> int:
        return self._memory.size

    def read_cached(self, version: FileVersion, start: int, end: int) -> bytes | memoryview | None:
        """Return bytes [start, end) if all of them are in memory; never waits."""
        view = self._available(version.file_id, start, end)
        if view is None or version.file_id in self._damaged:
            return None
        pieces = [view]
        at = start + len(view)
        while at < end:
            view = self._available(version.file_id, at, end)
            if view is None:
                return None
            pieces.append(view)
            at += len(view)
        self.counts.hits += (end - 1) // BLOCK - start // BLOCK + 1
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def read(self, version: FileVersion, start: int, end: int) -> bytes | memoryview:
        """Return bytes [start, end), fetching what is not here; *end* may not pass the version's size.

        Raises VersionGone, B2Unavailable, DataCorrupt.
        """
        if start >= end:
            return b""
        if version.file_id in self._damaged:
            if start > 0:
                raise _damage(version)
            self._damaged.discard(version.file_id)  # from the start again: a new try
        pieces: list[memoryview] = []
        at = start
        while at < end:
            view = self._available(version.file_id, at, end)
            if view is None:
                view = await self._wait_for(version, at, end)
            pieces.append(view)
            at += len(view)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def prefetch(
        self, version: FileVersion, start: int, end: int, largest: int, *, reader: int | None = None
    ) -> list[Flight]:
        """Start fetching bytes [start, end) in requests of at most *largest* bytes; does not wait.

        What is near to *reader*, where one is at work, comes in smaller requests. Returns those that are new.
        """
        launched = []
        index, stop = start // BLOCK, (min(end, version.size) - 1) // BLOCK + 1
        while index < stop:
            if self._present(version.file_id, index):
                index += 1
                continue
            size = largest if reader is None else flight_bytes(index * BLOCK - reader, largest)
            after = self._missing_run(version, index, min(index + max(size // BLOCK, 1), stop))
            launched.append(self._launch(version, index, after, ahead=True))
            index = after
        return launched

    def cancel(self, flight: Flight) -> None:
        """Break off a request, unless somebody waits for it or it is nearly there."""
        left = flight.high - flight.low - flight.arrived
        if not flight.is_over and not flight.is_awaited and left >= WORTH_CANCELLING:
            flight.scope.cancel()

    def forget(self, file_id: str) -> None:
        """Drop a version's blocks from memory."""
        self._memory.forget(file_id)

    # --- fetching ----------------------------------------------------------------------------------------

    def _present(self, file_id: str, index: int) -> bool:
        key = (file_id, index)
        return key in self._memory or key in self._flights

    def _available(self, file_id: str, start: int, end: int) -> memoryview | None:
        """Return bytes from *start* on, as many before *end* as lie together here; None if none do."""
        view = self._memory.view(file_id, start, end)
        if view is None:
            flight = self._flights.get((file_id, start // BLOCK))
            if flight is not None and flight.usable >= min(end, flight.high) - flight.low:
                view = flight.data[start - flight.low : end - flight.low]
        return view

    async def _wait_for(self, version: FileVersion, at: int, end: int) -> memoryview:
        """Return bytes from *at* on that one flight brings, launching it where there is none."""
        index = at // BLOCK
        self.counts.misses += 1
        while True:
            flight = self._flights.get((version.file_id, index))
            if flight is None:
                stop = self._missing_run(version, index, (end - 1) // BLOCK + 1)
                flight = self._launch(version, index, stop, ahead=False)
            stop_at = min(end, flight.high)
            await flight.wait(stop_at - flight.low)
            if flight.error is not None:
                raise flight.error
            if flight.usable >= stop_at - flight.low:
                return flight.data[at - flight.low : stop_at - flight.low]

    def _missing_run(self, version: FileVersion, index: int, stop: int) -> int:
        """Return the end of the run from *index*, before *stop*, of blocks neither here nor on their way."""
        file_id, after = version.file_id, index + 1
        here = self._on_disk(file_id, index)
        while after < stop and not self._present(file_id, after) and self._on_disk(file_id, after) == here:
            after += 1
        return after

    def _on_disk(self, file_id: str, index: int) -> bool:
        return self._disk is not None and self._disk.has(file_id, index)

    def _launch(self, version: FileVersion, first: int, end: int, *, ahead: bool) -> Flight:
        low, high = first * BLOCK, min(end * BLOCK, version.size)
        is_whole = high - low == version.size and version.sha1 is not None
        is_last = self._wholes.is_last(version, low, high, partial(self._is_here, version.file_id))
        flight = Flight(version.file_id, first, end, low, high, gradual=not is_whole and not is_last)
        for index in range(first, end):
            self._flights[version.file_id, index] = flight
        self._nursery.start_soon(self._bring, version, flight, ahead)
        return flight

    async def _bring(self, version: FileVersion, flight: Flight, ahead: bool) -> None:
        """Fetch a flight's bytes and hand them to all who wait, to memory and to the disk."""
        with flight.scope:
            has_place = ahead and await self._wait_for_turn(flight)
            try:
                await self._fetch(version, flight)
            finally:
                if has_place:
                    self._ahead_slots.release_on_behalf_of(flight)
        if not flight.is_over:  # cancelled before it began
            self._land(flight, None)

    async def _wait_for_turn(self, flight: Flight) -> bool:
        """Return once a flight has a place among those that fetch ahead (True), or may begin without one."""
        with flight.turn:
            await self._ahead_slots.acquire_on_behalf_of(flight)
            return True
        return False

    async def _fetch(self, version: FileVersion, flight: Flight) -> None:
        error: BaseException | None = None
        size = flight.high - flight.low
        self._memory.reserve(size)  # first: what leaves memory for it is what it is put in
        is_new = False
        try:
            flight.data = self._areas.take(size)
            if not await self._read_disk(flight):
                await self._download(flight)
                is_new = True
            await self._check(version, flight)
        except B2MountError as exc:
            _forget_frames(exc)
            error = exc
        except trio.Cancelled as exc:
            _forget_frames(exc)
            if not flight.scope.cancel_called:
                error = B2MountError("the mount is ending")
            raise
        except Exception as exc:
            log.exception("fetching a block: a bug")
            error = exc
        finally:
            self._memory.reserve(-size)
            self._land(flight, error)
        if error is None:
            await self._wholes.hash_on(version.file_id)
            if is_new:
                await self._write_disk(version, flight)

    async def _check(self, version: FileVersion, flight: Flight) -> None:
        """Hand a range to the check of the whole file; wait for its result with the last one.

        Raises DataCorrupt, once nothing is kept of the version.
        """
        self._wholes.arrived(flight)
        is_last = flight.high == version.size and not flight.gradual and len(flight.data) < version.size
        if not is_last or not await self._wholes.is_damaged(version, flight, partial(self._find, flight)):
            return
        log.error("file ID %s does not have the SHA-1 that B2 tells; nothing of it is kept", version.file_id)
        self._memory.forget(version.file_id)
        if self._disk is not None:
            self._disk.drop(version.file_id)
        self._damaged.add(version.file_id)
        self.on_damaged(version.file_id)
        raise _damage(version)

    def _find(self, like: Flight, at: int) -> Flight | memoryview | None:
        """Return what holds or brings the bytes of a version from *at* on."""
        view = self._memory.view(like.file_id, at, like.high)
        return view if view is not None else self._flights.get((like.file_id, at // BLOCK))

    def _is_here(self, file_id: str, low: int, high: int) -> bool:
        return all((file_id, index) in self._memory for index in range(low // BLOCK, high // BLOCK))

    async def _download(self, flight: Flight) -> None:
        sent_at = time.monotonic()  # or handed to a thread, which may take a while to begin
        first_at: float | None = None

        def note(count: int) -> None:
            nonlocal first_at, sent_at
            if count:
                first_at = first_at or time.monotonic()
                flight.note(count)
            elif first_at is None:
                sent_at = time.monotonic()

        try:
            await self._store.read_into(flight.file_id, flight.low, flight.data, note)
        finally:
            self.counts.fetched_bytes += flight.arrived
        if first_at is not None:
            self.pace.on_request(flight.arrived, first_at - sent_at, time.monotonic() - sent_at)
            self._set_ahead_slots()

    def _land(self, flight: Flight, error: BaseException | None) -> None:
        """End a flight: memory keeps the whole blocks that came, also of one that was broken off."""
        for index in range(flight.first, flight.end):
            del self._flights[flight.file_id, index]
        data = flight.data[: flight.arrived]
        if flight.arrived < flight.high - flight.low:
            came = flight.arrived // BLOCK * BLOCK if flight.gradual else 0
            # A copy: a view would keep all of the buffer, counted as a piece of it.
            data = memoryview(bytearray(data[:came]))
        if error is None or flight.gradual:
            self._memory.put(flight.file_id, flight.first, data)
        flight.finish(error)

    # --- the disk ----------------------------------------------------------------------------------------

    async def _read_disk(self, flight: Flight) -> bool:
        """Fill a flight from the disk cache; False where its blocks are not there, or not good."""
        if self._disk is None or not self._disk.has(flight.file_id, flight.first):
            return False
        cached = self._disk.use(flight.file_id)
        assert cached is not None
        is_good = await trio.to_thread.run_sync(
            self._disk.read, cached, flight.first, flight.data, limiter=self._disk_limiter
        )
        if is_good:
            self.counts.disk_hits += flight.end - flight.first
            flight.note(flight.high - flight.low)
        else:
            self._disk.forget_blocks(cached, flight.first, flight.end)
        return is_good

    async def _write_disk(self, version: FileVersion, flight: Flight) -> None:
        if self._disk is None:
            return
        size = len(flight.data)
        cached = self._disk.make_room(version.file_id, version.size, size)
        if cached is None:
            return
        keeps_up = self._disk_limiter.borrowed_tokens < DIRECT_THREADS
        write = partial(self._disk.write, cached, flight.first, flight.data)
        try:
            sums = await trio.to_thread.run_sync(
                partial(write, direct=size >= DIRECT_LEAST and keeps_up), limiter=self._disk_limiter
            )
        except OSError as exc:
            log.warning("the block cache cannot be written: %s", exc.strerror)
            self._disk.drop(version.file_id)
        else:
            self._disk.note(cached, flight.first, sums)
        finally:
            self._disk.release(size)

    async def adopt(self, version: FileVersion, path: Path) -> bool:
        """Take a local file that holds all of a version for its blocks; False where it stays as it is."""
        if self._disk is None or version.size == 0 or self._disk.use(version.file_id) is not None:
            return False
        cached = self._disk.make_room(version.file_id, version.size, version.size)
        if cached is None:
            return False
        try:
            if version.size <= TAKEN_INLINE:
                sums = self._disk.take_file(cached, path)
            else:
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


def _forget_frames(error: BaseException | None) -> None:
    """Let an error know no more where it was raised.

    The frames of what ran in a thread know the error, and the request's buffer: all of it would stay in
    memory until the collector comes by.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _damage(version: FileVersion) -> DataCorrupt:
    return DataCorrupt(f"{version.name}: what B2 sent does not have the SHA-1 that B2 tells")
