"""Blocks of file versions on the local disk: what was fetched or sent once is not fetched again.

One sparse file a version, at the version's own offsets, and a checksum a block: a block whose checksum does
not fit (a power cut, a curious user) counts as not there. Nothing here is needed: the directory may be
deleted at any time. The index lives in memory and is saved now and then; what a crash forgets is fetched
again.

The index is touched by trio's thread alone; what moves bytes or saves is for worker threads.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import sqlite3
from array import array
from collections import OrderedDict
from functools import partial
from pathlib import Path

import xxhash

from b2mount.cache import blockfiles

log = logging.getLogger("b2mount.cache")

SUFFIX = ".blocks"
MOST_VERSIONS = 100_000  # each takes some 400 bytes of memory, however small its file is
ABSENT = 0  # in the array of checksums; a checksum that is 0 is kept as 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS versions (
    file_id TEXT PRIMARY KEY, size INTEGER NOT NULL, turn INTEGER NOT NULL, sums BLOB NOT NULL
);
"""


Unsaved = tuple[list[tuple[str]], list[tuple[str, int, int, bytes]]]  # rows to delete, rows to write


class CachedVersion:
    """What is here of one version."""

    __slots__ = ("bytes", "changed", "directory", "file_id", "size", "sums")

    def __init__(self, file_id: str, size: int, directory: Path, sums: "array[int]") -> None:
        self.file_id = file_id
        self.size = size  # bytes of the whole version
        self.directory = directory
        self.sums = sums  # checksums by block number
        self.bytes = 0  # of the blocks that are here
        self.changed = True  # since it was saved

    @property
    def path(self) -> Path:
        """Where the blocks lie; made when it is asked for, which saves half of a version's memory."""
        return self.directory / _file_name(self.file_id)


class DiskCache:
    """The blocks under one directory, least recently used versions leaving first."""

    def __init__(self, directory: Path, limit: int, block: int) -> None:
        """Use *directory* for at most *limit* bytes in blocks of *block* bytes.

        Raises OSError where it cannot be used, BlockingIOError where another mount uses it.
        """
        self._directory = directory
        self._limit = limit
        self._block = block
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._lock_fd = os.open(directory / "lock", flags, 0o600)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock_fd)
            raise
        self._versions: OrderedDict[str, CachedVersion] = OrderedDict()
        self._gone: set[str] = set()
        self._used = 0  # bytes
        self._reserved = 0  # bytes that are being written
        self._save_failed = False
        self._index = self._open_index()

    # --- the index ---------------------------------------------------------------------------------------

    @property
    def used_bytes(self) -> int:
        """Bytes that the blocks take."""
        return self._used

    def _length(self, version: CachedVersion, index: int) -> int:
        """Return the bytes of one block: the last one of a file is shorter."""
        return min(self._block, version.size - index * self._block)

    def _count(self, version: CachedVersion, by: int) -> None:
        version.bytes += by
        self._used += by

    def has(self, file_id: str, index: int) -> bool:
        """Say whether a block is here."""
        version = self._versions.get(file_id)
        return version is not None and version.sums[index] != ABSENT

    def use(self, file_id: str) -> CachedVersion | None:
        """Return what is here of a version, as the one used last."""
        version = self._versions.get(file_id)
        if version is not None:
            self._versions.move_to_end(file_id)
        return version

    def make_room(self, file_id: str, size: int, needed: int) -> CachedVersion | None:
        """Return the version to write *needed* more bytes to; None where they do not fit in.

        The room stays reserved until `release`.
        """
        version = self.use(file_id)
        while self._is_full(needed, 0 if version else 1):
            oldest = next(iter(self._versions), None)
            if oldest is None or oldest == file_id:
                return None
            self.drop(oldest)
        if version is None:
            sums = array("I", bytes(4 * (-(-size // self._block))))
            version = self._versions[file_id] = CachedVersion(file_id, size, self._directory, sums)
            self._gone.discard(file_id)
        self._reserved += needed
        return version

    def _is_full(self, needed: int, versions: int) -> bool:
        """Say whether so many bytes and versions more are too many."""
        return (
            self._used + self._reserved + needed > self._limit
            or len(self._versions) + versions > MOST_VERSIONS
        )

    def release(self, needed: int) -> None:
        """Take note that what room was made for is written, or will not be."""
        self._reserved -= needed

    def note(self, version: CachedVersion, index: int, sums: list[int]) -> None:
        """Take note that the blocks from *index* on are here, with their checksums."""
        if self._versions.get(version.file_id) is not version:
            with contextlib.suppress(OSError):
                version.path.unlink(missing_ok=True)  # dropped while it was being written
            return
        for at, value in enumerate(sums, index):
            if version.sums[at] == ABSENT:
                self._count(version, self._length(version, at))
            version.sums[at] = value
        version.changed = True

    def forget_blocks(self, version: CachedVersion, index: int, end: int) -> None:
        """Take note that blocks [index, end) are not as they were written."""
        if self._versions.get(version.file_id) is not version:
            return  # dropped while it was being read
        for at in range(index, end):
            if version.sums[at] != ABSENT:
                version.sums[at] = ABSENT
                self._count(version, -self._length(version, at))
        version.changed = True

    def drop(self, file_id: str) -> None:
        """Delete what is here of a version."""
        version = self._versions.pop(file_id, None)
        if version is None:
            return
        self._used -= version.bytes
        self._gone.add(file_id)
        with contextlib.suppress(OSError):
            version.path.unlink(missing_ok=True)

    # --- bytes: in worker threads ------------------------------------------------------------------------

    def read(self, version: CachedVersion, index: int, buffer: memoryview) -> bool:
        """Fill *buffer* with blocks from *index* on; False where one is not what was written."""
        try:
            if not blockfiles.read(version.path, index * self._block, buffer):
                return False
        except OSError:
            return False
        sums = self.sums_of(buffer)
        return sums == list(version.sums[index : index + len(sums)])

    def write(self, version: CachedVersion, index: int, data: memoryview, *, direct: bool) -> list[int]:
        """Write blocks from *index* on; return their checksums for `note`. Raises OSError.

        *direct*: past the page cache, which costs less and returns once the disk has it.
        """
        write = partial(blockfiles.write, version.path, index * self._block, data, direct=direct)
        try:
            write()
        except FileNotFoundError:  # somebody deleted the directory, as they may
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            write()
        return self.sums_of(data)

    def take_file(self, version: CachedVersion, path: Path) -> list[int]:
        """Make a finished local file the version's blocks; return their checksums. Raises OSError."""
        sums: list[int] = []
        with path.open("rb") as file:
            while data := file.read(64 * self._block):
                sums += self.sums_of(data)
        path.rename(version.path)
        return sums

    def sums_of(self, data: bytes | memoryview) -> list[int]:
        """Return the checksum of each block of *data*."""
        view, size = memoryview(data), self._block
        return [_sum(view[at : at + size]) for at in range(0, len(data), size)]

    # --- between lives -----------------------------------------------------------------------------------

    def unsaved(self, *, everything: bool = False) -> Unsaved:
        """Return what `save` is to write down: what changed since the last time, or all of it."""
        rows = []
        for turn, version in enumerate(self._versions.values()):
            if version.changed or everything:
                rows.append((version.file_id, version.size, turn, version.sums.tobytes()))
                version.changed = False
        gone, self._gone = [(file_id,) for file_id in self._gone], set()
        return gone, rows

    def save(self, unsaved: Unsaved) -> None:
        """Write the index down."""
        gone, rows = unsaved
        try:
            with self._index:
                self._index.executemany("DELETE FROM versions WHERE file_id=?", gone)
                self._index.executemany("INSERT OR REPLACE INTO versions VALUES (?, ?, ?, ?)", rows)
            self._save_failed = False
        except sqlite3.Error as exc:
            if not self._save_failed:
                log.warning("the block cache's index cannot be saved: %s", exc)
            self._save_failed = True

    def close(self) -> None:
        """Save and let go."""
        self.save(self.unsaved(everything=True))
        self._index.close()
        os.close(self._lock_fd)

    def _open_index(self) -> sqlite3.Connection:
        path = self._directory / "index.sqlite"
        path.touch(mode=0o600)
        index = sqlite3.connect(path, check_same_thread=False)
        try:
            self._load(_set_up(index))
        except (sqlite3.Error, ValueError, TypeError):
            log.warning("%s is damaged; the block cache begins anew", path)
            index.close()
            for part in ("", "-wal", "-shm"):
                path.with_name(path.name + part).unlink(missing_ok=True)
            self._versions.clear()
            self._used = 0
            path.touch(mode=0o600)
            index = sqlite3.connect(path, check_same_thread=False)
            self._load(_set_up(index))
        return index

    def _load(self, rows: list[tuple[str, int, bytes]]) -> None:
        unclaimed = {entry.name for entry in os.scandir(self._directory) if entry.name.endswith(SUFFIX)}
        for file_id, size, blob in rows:
            sums = array("I")
            sums.frombytes(blob)
            if len(sums) != -(-size // self._block) or (name := _file_name(file_id)) not in unclaimed:
                self._gone.add(file_id)
                continue
            unclaimed.discard(name)
            version = CachedVersion(file_id, size, self._directory, sums)
            version.changed = False
            self._versions[file_id] = version
            here = (at for at, value in enumerate(sums) if value != ABSENT)
            self._count(version, sum(self._length(version, at) for at in here))
        for name in unclaimed:
            (self._directory / name).unlink(missing_ok=True)  # written, and not saved before a crash
        while self._is_full(0, 0):
            self.drop(next(iter(self._versions)))


def _file_name(file_id: str) -> str:
    return hashlib.sha256(file_id.encode()).hexdigest()[:32] + SUFFIX


def _sum(block: memoryview) -> int:
    """Return 32 bits that differ for another block; never `ABSENT`."""
    return xxhash.xxh3_64_intdigest(block) & 0xFFFFFFFF or 1


def _set_up(index: sqlite3.Connection) -> list[tuple[str, int, bytes]]:
    """Make the index usable and read it. Raises sqlite3.Error."""
    index.execute("PRAGMA journal_mode=WAL")
    index.execute("PRAGMA synchronous=OFF")  # a lost index costs fetching again, and nothing else
    index.executescript(_SCHEMA)
    return index.execute("SELECT file_id, size, sums FROM versions ORDER BY turn").fetchall()
