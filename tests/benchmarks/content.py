"""Whether what was read is what is stored: compared with the emulator's pattern as it is read.

Comparing is memcmp over a ring of the pattern that stays in the processor's cache, 0.1 s a GiB or less: too
little to matter beside a read, and the same for every mount.
"""

import ctypes
import functools
import hashlib
import os
import urllib.parse
import zlib
from collections.abc import Mapping
from pathlib import Path

from tests.support.emulator import Emulator, pattern

PERIOD = 65521
CHUNK = 1 << 20

_libc = ctypes.CDLL(None)
_libc.memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


@functools.cache
def _ring() -> "ctypes.Array[ctypes.c_char]":
    """Return the pattern, so often that CHUNK bytes from any of its places are in it."""
    first = pattern("", 0, PERIOD)
    whole = first * (CHUNK // PERIOD + 2)
    return ctypes.create_string_buffer(whole, len(whole))


def prepare() -> None:
    """Make the pattern, which takes a moment, before anything is timed."""
    _ring()


def seeded(name: str, offset: int, length: int) -> bytes:
    """Return a range, CHUNK at most, of the content that a file of this name is seeded with."""
    assert length <= CHUNK
    place = (zlib.crc32(name.encode()) + offset) % PERIOD
    return ctypes.string_at(ctypes.addressof(_ring()) + place, length)


class Buffer:
    """Memory to read into, its pages already there."""

    def __init__(self, size: int = CHUNK) -> None:
        self._memory = ctypes.create_string_buffer(b"\1" * size, size)
        self.view = memoryview(self._memory).cast("B")
        self._address = ctypes.addressof(self._memory)

    def check(self, name: str, offset: int, length: int) -> None:
        """Demand that the first *length* bytes are those of the seeded file *name* from *offset* on."""
        place = (zlib.crc32(name.encode()) + offset) % PERIOD
        if _libc.memcmp(ctypes.addressof(_ring()) + place, self._address, length):
            raise AssertionError(f"wrong bytes in {name}, somewhere in {length} from {offset} on")


def read_whole(path: Path, name: str, size: int, buffer: Buffer) -> None:
    """Read a file to its end, comparing all of it."""
    fd, offset = os.open(path, os.O_RDONLY), 0
    try:
        while count := os.readv(fd, [buffer.view]):
            buffer.check(name, offset, count)
            offset += count
    finally:
        os.close(fd)
    assert offset == size, f"{name}: {offset} bytes of {size}"


def read_unchecked(path: Path, size: int, buffer: Buffer) -> None:
    """Read a file to its end, looking at its length alone."""
    fd, total = os.open(path, os.O_RDONLY), 0
    try:
        while count := os.readv(fd, [buffer.view]):
            total += count
    finally:
        os.close(fd)
    assert total == size


def read_at(fd: int, name: str, offset: int, length: int, buffer: Buffer) -> None:
    """Read a range of an open file, comparing all of it."""
    got = os.preadv(fd, [buffer.view[:length]], offset)
    assert got == length, f"{name}: {got} bytes of {length} at {offset}"
    buffer.check(name, offset, length)


def check_stored(
    emulator: Emulator, bucket: str, name: str, source: str, size: int, changes: Mapping[int, bytes]
) -> None:
    """Demand that B2 holds the seeded content of *source* under *name*, but for *changes* by offset."""
    connection, offset, buffer = emulator.connect(), 0, Buffer()
    try:
        path = f"/file/{bucket}/{urllib.parse.quote(name)}"
        connection.request("GET", path, headers={"Authorization": emulator.master_token()})
        response = connection.getresponse()
        assert response.status == 200, f"{name}: {response.status}"
        while count := response.readinto(buffer.view):
            _undo(buffer.view, source, offset, count, changes)
            buffer.check(source, offset, count)
            offset += count
    finally:
        connection.close()
    assert offset == size, f"{name}: {offset} bytes of {size} in B2"


def _undo(view: memoryview, source: str, offset: int, count: int, changes: Mapping[int, bytes]) -> None:
    """Compare the changed bytes and put the pattern's in their place."""
    for start, data in changes.items():
        first, last = max(start, offset), min(start + len(data), offset + count)
        if first >= last:
            continue
        part = slice(first - offset, last - offset)
        assert bytes(view[part]) == data[first - start : last - start], f"{source}: a change is not stored"
        view[part] = seeded(source, first, last - first)


def check_names(emulator: Emulator, bucket: str, expected: Mapping[str, bytes], prefix: str = "") -> None:
    """Demand that B2 shows exactly these names under a prefix, each with this content, by its SHA-1."""
    rows = {
        row["fileName"]: row["contentSha1"].removeprefix("unverified:")
        for row in emulator.list_names(bucket, prefix)
        if row["action"] == "upload" and not row["fileName"].endswith(("/.bzEmpty", "/"))
    }
    sums = {name: hashlib.sha1(data, usedforsecurity=False).hexdigest() for name, data in expected.items()}
    missing = sorted(sums.keys() - rows.keys())
    assert rows == sums, (
        f"{len(missing)} of {len(sums)} names missing in B2, {len(rows.keys() - sums.keys())} too many"
    )
