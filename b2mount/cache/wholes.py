"""Check files that are read whole, in several ranges, against the SHA-1 that B2 holds of them.

Ranges are hashed in the order of the file once they are there, in a thread beside the reading. The last one
is held back until the sum is known, so that whoever reads to the end learns of damage instead of taking what
came for the file. Who leaves out a part is not checked: B2 holds no sum of parts. Knows no requests.
"""

import hashlib
from collections.abc import Callable

import trio

from b2mount.cache.flights import Flight
from b2mount.store.store import FileVersion

VERIFIED_KEPT = 10_000  # versions that are not checked again
CHECKS_KEPT = 1000  # at once; each is a few hundred bytes
HASHERS = 2  # threads; each is a processor's work

Find = Callable[[int], Flight | memoryview | None]  # who brings the bytes from an offset on, or those bytes


class _Check:
    """One version's sum so far."""

    def __init__(self) -> None:
        self.digest = hashlib.sha1(usedforsecurity=False)
        self.at = 0  # bytes hashed
        self.reach = 0  # bytes that are hashed or were sent for
        self.waiting: dict[int, memoryview] = {}  # what has arrived, by where it begins
        self.lock = trio.Lock()


class Wholes:
    """The versions that are being read whole."""

    def __init__(self) -> None:
        self._checks: dict[str, _Check] = {}
        self._verified: dict[str, None] = {}
        self._limiter = trio.CapacityLimiter(HASHERS)

    def is_last(self, version: FileVersion, low: int, high: int, is_here: Callable[[int, int], bool]) -> bool:
        """Take note of a range that is sent for; say whether it is the last one, to be held back.

        *is_here* says whether all blocks of a range are in memory.
        """
        file_id = version.file_id
        if version.sha1 is None or file_id in self._verified or high - low == version.size:
            return False
        check = self._checks.get(file_id)
        if low == 0:
            check = self._checks[file_id] = _Check()
            if len(self._checks) > CHECKS_KEPT:
                del self._checks[next(iter(self._checks))]
        if check is None or low < check.reach or not is_here(check.reach, low):
            return False
        check.reach = high
        return high == version.size

    def forget(self, file_id: str) -> None:
        """Check a version no further."""
        self._checks.pop(file_id, None)

    def arrived(self, flight: Flight) -> None:
        """Take a range that is there."""
        check = self._checks.get(flight.file_id)
        if check is not None and check.at <= flight.low and flight.high <= check.reach:
            check.waiting[flight.low] = flight.data

    async def hash_on(self, file_id: str) -> None:
        """Hash what is there behind what was hashed."""
        check = self._checks.get(file_id)
        if check is None:
            return
        async with check.lock:
            while (data := check.waiting.pop(check.at, None)) is not None:
                await trio.to_thread.run_sync(check.digest.update, data, limiter=self._limiter)
                check.at += len(data)

    async def is_damaged(self, version: FileVersion, last: Flight, find: Find) -> bool:
        """Hash all that is before the last range, and that; say whether the sum is another than B2's."""
        file_id = version.file_id
        while (check := self._checks.get(file_id)) is not None:
            await self.hash_on(file_id)
            if check.at >= version.size:
                break
            found = find(check.at)
            if isinstance(found, memoryview):
                check.waiting[check.at] = found
            elif found is None or found is last:
                self.forget(file_id)  # a part was left out, failed, or is out of memory again
            else:
                found.hurry()  # the last range may hold the place that it waits for
                await found.wait(found.high - found.low)
        if check is None:
            return False
        self.forget(file_id)
        if check.digest.hexdigest() != (version.sha1 or "").lower():
            return True
        self._verified[file_id] = None
        if len(self._verified) > VERIFIED_KEPT:
            del self._verified[next(iter(self._verified))]
        return False
