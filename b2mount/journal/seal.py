"""What proves that a journal is whole: a sum over its rows, and a count of its writes that lies beside it.

SQLite believes the files that it finds: without its write-ahead log, with an older copy of one of them, or
emptied, a database is a good one that holds less. So each write leaves in the database how many there were
and the sum of all rows (the seal), and then the count in a small file of its own. That is never ahead of what
the disk has: it is written once the write is on the disk. Knows SQL and rows; not what they mean.
"""

import contextlib
import os
import sqlite3
import zlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b2mount.core.words import show_count

COUNT_FILE = "journal.count"
_LINE_SIZE = 51  # bytes: writes, changes that wait, a check of both
_SUMS = 1 << 64
SEALED_FORMAT = 4  # those before had no seal

# What a row is, less what is written down of attempts: whether one began, and how it failed (`sealed_part`).
_ROWS = {
    "ops": "id, ordering, kind, bucket_id, name, after, extents, spooled, base, base_op, info, is_directory, "
    "content_type, promised_ms, over_id",
    "bodies": "id, body",
    "large": "id, draft_id, bucket_id, name, content_type, info, source_id, streamed, file_id, version",
    "parts": "large_id, number, start, stop, copied, sha1, away",
    "looks": "ours, bucket_id, name, over, done_ms, version",
    "gone": "bucket_id, prefix",
    "moves": "id, old_bucket, old, new_bucket, new, files, bytes",
}
_KEYS = {"parts": 2, "gone": 2}  # columns of the key, where it is not the first alone
SEAL = "UPDATE meta SET value=? WHERE key='seal'"
FIRST_SEAL = "INSERT OR REPLACE INTO meta VALUES ('seal', ?)"


class Tally:
    """The sum over all rows of a journal as they will be once what is recorded is written."""

    def __init__(self) -> None:
        self._checks: dict[tuple[str, Hashable], int] = {}
        self._total = 0
        self.changes = 0  # rows of operations

    def put(self, table: str, key: Hashable, row: Sequence[Any]) -> None:
        """Take note of a new row, or of one that takes the place of that with its key."""
        self.drop(table, key)
        self._checks[table, key] = check = _check(table, row)
        self._total += check
        self.changes += table == "ops"

    def drop(self, table: str, key: Hashable) -> None:
        """Take note that a row goes, if it is there."""
        check = self._checks.pop((table, key), None)
        if check is not None:
            self._total -= check
            self.changes -= table == "ops"

    def fill(self, db: sqlite3.Connection) -> None:
        """Take note of all that a journal holds. Raises sqlite3.Error."""
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")}
        for table, columns in _ROWS.items():
            if table in tables:
                width = _KEYS.get(table, 1)
                for row in db.execute(f"SELECT {columns} FROM {table}"):
                    self.put(table, row[0] if width == 1 else row[:width], row)

    def seal(self, writes: int) -> str:
        """Return what the database is to hold with write number *writes*."""
        return f"{writes} {len(self._checks)} {self._total % _SUMS:x}"


def sealed_part(row: Sequence[Any]) -> tuple[Any, ...]:
    """Return what of the row of an operation is in the sum."""
    return (*row[:6], *row[8:])


def _check(table: str, row: Sequence[Any]) -> int:
    """Return a number that another row has only by chance. A quick one: who damages disks is no adversary."""
    if table == "bodies":
        return zlib.crc32(row[1] if isinstance(row[1], bytes) else b"?", row[0])
    return zlib.crc32("\0".join(map(str, (table, *row))).encode(errors="surrogatepass"))


@dataclass(frozen=True, slots=True)
class Told:
    """What the file beside the journal says: how often that was written, and what waited then."""

    writes: int
    changes: int


class CountFile:
    """The file beside the journal. Where the disk does not take it, it falls behind, and proves less."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / COUNT_FILE
        self._fd: int | None = None
        self.told = read_count(directory)  # by an earlier life; None: nothing that can be read

    def write(self, writes: int, changes: int) -> None:
        """Take note of what is on the disk. Does not wait for the disk itself."""
        with contextlib.suppress(OSError):
            if self._fd is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                self._fd = os.open(self._path, flags, 0o600)
            os.pwrite(self._fd, _line(writes, changes), 0)

    def close(self) -> None:
        """Let go of the file, once the disk has it."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.fdatasync(self._fd)
            os.close(self._fd)
            self._fd = None


def read_count(directory: Path) -> Told | None:
    """Read what an earlier life counted; None where nothing can be read that it wrote."""
    try:
        fd = os.open(directory / COUNT_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        line = os.read(fd, _LINE_SIZE + 1)
        told = Told(*map(int, line.split()[:2]))
        return told if _line(told.writes, told.changes) == line else None
    except (OSError, ValueError, TypeError):
        return None
    finally:
        os.close(fd)


def _line(writes: int, changes: int) -> bytes:
    text = f"{writes:020} {changes:020} "
    return f"{text}{zlib.crc32(text.encode()):08x}\n".encode()


# --- what is wrong with a journal -------------------------------------------------------------------------


def missing_words(path: Path, told: Told | None) -> str | None:
    """Say what is lost where a journal's file is gone or empty; None where none was, or nothing waited."""
    if path.exists() and path.stat().st_size:
        return None
    how = "is empty" if path.exists() else "is missing"
    if told is not None and told.changes:
        return f"{path.name} {how}, and {_waited(told)}"
    log_of_writes = path.with_name(f"{path.name}-wal")
    if log_of_writes.exists() and log_of_writes.stat().st_size:
        return f"{path.name} {how}, while its log of writes is there"
    return None


def writes_of(db: sqlite3.Connection) -> int:
    """Return how often a journal was written, as it says itself. Raises sqlite3.Error."""
    return _sealed(db)[0]


def lack_words(db: sqlite3.Connection, told: Told | None, tally: Tally) -> str | None:
    """Say what shows that an opened journal is not as it was written last; None where all is as it was.

    Fills *tally* from it, if it has a seal. Raises sqlite3.Error.
    """
    if db.execute("SELECT 1 FROM sqlite_master WHERE name='meta'").fetchone() is None:  # as good as new
        return f"it is empty, and {_waited(told)}" if told is not None and told.changes else None
    form = _format_of(db)
    if form > SEALED_FORMAT:
        return None  # it is refused for that
    is_sealed = form == SEALED_FORMAT
    writes, seal = _sealed(db) if is_sealed else (0, None)
    if told is not None and told.writes > writes:
        lacks = show_count(told.writes - writes, "write")
        return (
            f"it lacks its last {lacks} (the file -wal beside it is missing or cut, or a file is an older "
            f"copy); {_waited(told)}"
        )
    if is_sealed:
        tally.fill(db)
        if seal != tally.seal(writes):
            return "its rows are not those that were written last"
    return None


def _format_of(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT value FROM meta WHERE key='format'").fetchone()
    return int(row[0]) if row is not None and str(row[0]).isdecimal() else 0


def _sealed(db: sqlite3.Connection) -> tuple[int, str | None]:
    row = db.execute("SELECT value FROM meta WHERE key='seal'").fetchone()
    if row is None:
        return 0, None
    number = str(row[0]).partition(" ")[0]
    return (int(number) if number.isdecimal() else 0), str(row[0])


def _waited(told: Told) -> str:
    return f"{show_count(told.changes, 'change')} waited when it was written last"
