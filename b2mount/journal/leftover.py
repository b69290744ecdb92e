"""What a state directory holds unsent, read without a mount and without changing anything in it.

Meant for bad days: a journal that is damaged is read as far as it can be, and spool files that no row names
are told of. Knows no store and no command line.
"""

import contextlib
import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from b2mount.core.errors import LocalStorageError
from b2mount.core.extents import Origin
from b2mount.journal import body_rows, prints
from b2mount.journal.drafts import Draft, Spool, local_error, local_segments
from b2mount.journal.label import Label, read_label
from b2mount.journal.op_rows import COLUMNS, columns_of, ops_of
from b2mount.journal.ops import Kind, Op
from b2mount.journal.prints import Ranges
from b2mount.journal.seal import COUNT_FILE, Tally, lack_words, missing_words, read_count, writes_of
from b2mount.journal.strays import Stray, find_strays, unheard_of
from b2mount.store.store import FileVersion

JOURNAL = "journal.sqlite"
SPOOL = "spool"
_ID, _KIND, _NAME, _ERROR, _BASE_OP = 0, 2, 4, 7, 11  # places in a row of `COLUMNS`

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Away:
    """Bytes [start, end) of a draft that left the spool, as B2 has them in a large file."""

    start: int
    end: int
    file_id: str | None


@dataclass(slots=True)
class Leftover:
    """One scope's state directory as it lies there."""

    directory: Path
    label: Label | None
    in_use: bool  # by a mount that lives
    process: int | None  # of that mount, as far as told
    ops: list[Op] = field(default_factory=list)  # in order
    errors: dict[int, str] = field(default_factory=dict)  # of the last attempt, by the operation's ID
    away: dict[int, list[Away]] = field(default_factory=dict)  # by draft: bytes that B2 alone has
    away_is_known: bool = True
    unfinished: list[str] = field(default_factory=list)  # names of large files begun in B2
    damage: list[str] = field(default_factory=list)  # what could not be read
    writes: int = 0  # of the journal, as far as it can be read
    prints: dict[int, int] = field(default_factory=dict)  # what spool files are known by
    strays: list[Stray] = field(default_factory=list)  # spool files that no operation names

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits here, as far as can be read."""
        return not (self.ops or self.damage or self.strays)

    @property
    def count(self) -> int:
        """How many changes there are; a stray spool file counts for one where the journal is damaged."""
        return len(self.ops) + (len(self.strays) if self.damage else 0)

    @property
    def new_bytes(self) -> int:
        """Count the bytes that are nowhere but here."""
        return sum(op.draft.extents.dirty_bytes for op in self.ops if op.draft is not None)

    @property
    def oldest_ms(self) -> int | None:
        """The moment of the first promise among them."""
        return min((op.promised_ms for op in self.ops if op.promised_ms), default=None)

    def bucket_name(self, bucket_id: str) -> str:
        """Return the bucket's name where it is known, else its ID."""
        return self.label.buckets.get(bucket_id, bucket_id) if self.label is not None else bucket_id


def find_scopes(root: Path) -> list[Path]:
    """Return the state directories under *root*, or *root* where it is one. Raises LocalStorageError."""
    if _is_scope(root):
        return [root]
    try:
        return sorted(path for path in root.iterdir() if _is_scope(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as exc:
        raise local_error(exc, f"{root} cannot be looked at") from exc


def _is_scope(directory: Path) -> bool:
    with contextlib.suppress(OSError):
        return (
            any((directory / name).exists() for name in (JOURNAL, COUNT_FILE)) or (directory / SPOOL).is_dir()
        )
    return False


def look(directory: Path, *, held: bool = False) -> Leftover:
    """Read what waits in a state directory, *held* by the caller or not. Blocks.

    Raises LocalStorageError where it cannot even be opened.
    """
    in_use, process = (False, None) if held else _user_of(directory)
    found = Leftover(directory, read_label(directory), in_use, process)
    rows, bodies = _read_rows(found)
    found.errors = {row[_ID]: str(row[_ERROR]) for row in rows if row[_ERROR]}
    found.ops = _readable(found, rows, bodies)
    if not in_use:  # else they belong to files that are being written
        named = {op.draft.id for op in found.ops if op.draft is not None}
        with contextlib.suppress(FileNotFoundError):
            found.strays = list(find_strays(directory / SPOOL, named))
        lost = missing_words(directory / JOURNAL, read_count(directory))
        if found.strays and not (directory / JOURNAL).exists():
            lost = lost or f"{JOURNAL} is missing"
        if lost is None and not found.damage:
            lost = unheard_of(found.strays, found.writes)
        found.damage += [lost] if lost is not None else []
    return found


def _user_of(directory: Path) -> tuple[bool, int | None]:
    """Say whether a mount holds the directory, and its process."""
    try:
        with hold(directory):
            return False, None
    except LocalStorageError:
        text = (directory / "lock").read_text(errors="replace").strip()
        return True, int(text) if text.isdecimal() else None


@contextlib.contextmanager
def hold(directory: Path) -> Iterator[None]:
    """Keep mounts away from a state directory for the block. Raises LocalStorageError where one is there."""
    try:
        fd = os.open(directory / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield  # no mount was ever here
        return
    except OSError as exc:
        raise local_error(exc, f"{directory} cannot be used") from exc
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalStorageError(
                f"a mount is using {directory}, and sends what waits there\n"
                "b2mount status tells how far it is"
            ) from None
        yield
    finally:
        os.close(fd)


# --- the journal's rows -----------------------------------------------------------------------------------


class _SavedSpool(Spool):
    """A spool file that is only looked at; what the journal has of its bytes counts, whatever is on disk."""

    __slots__ = ("_saved",)

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._saved: list[tuple[int, bytes]] = []  # each with where it begins

    def restore(self, ranges: Iterable[tuple[int, int]], body: bytes) -> None:
        at = 0
        for start, end in ranges:
            self._saved.append((start, body[at : at + end - start]))
            at += end - start

    def expect(self, ranges: Ranges, known_by: int | None) -> None:
        if not self._saved:
            super().expect(ranges, known_by)

    def read(self, offset: int, size: int) -> bytes:
        for start, data in self._saved:
            if start <= offset and offset + size <= start + len(data):
                return data[offset - start : offset - start + size]
        return super().read(offset, size)

    def has_hole(self, start: int, end: int) -> bool:
        return not self._saved and super().has_hole(start, end)


def _read_rows(found: Leftover) -> tuple[list[Row], dict[int, bytes]]:
    """Read all rows and bodies that can be read; what is wrong goes to `damage`."""
    path = found.directory / JOURNAL
    if not path.exists():
        return [], {}
    try:
        with _opened(path, live=found.in_use) as db:
            _read_large(db, found)
            read = _salvage(db, found.damage), _salvage_bodies(db, found.damage)
            with contextlib.suppress(sqlite3.Error):  # without, the files count as they are
                found.prints = prints.read(db.execute(prints.SELECT))
            if not found.in_use:  # else it goes on meanwhile
                _compare(db, found)
            return read
    except (sqlite3.Error, OSError) as exc:
        found.damage.append(f"{JOURNAL}: {exc}")
        return [], {}


@contextlib.contextmanager
def _opened(path: Path, *, live: bool) -> Iterator[sqlite3.Connection]:
    """Open a journal without changing it: a living one by reading along, one left behind as a copy."""
    with tempfile.TemporaryDirectory(prefix="b2mount-recover-") as place:
        if live:
            target = path
        else:
            target = Path(place) / JOURNAL
            shutil.copyfile(path, target)
            log_of_writes = path.with_name(f"{JOURNAL}-wal")
            if log_of_writes.exists():
                shutil.copyfile(log_of_writes, target.with_name(f"{JOURNAL}-wal"))
        db = sqlite3.connect(f"{target.absolute().as_uri()}?mode={'ro' if live else 'rw'}", uri=True)
        try:
            yield db
        finally:
            db.close()


def _compare(db: sqlite3.Connection, found: Leftover) -> None:
    """Tell of a journal that is not as it was written last."""
    try:
        words = lack_words(db, read_count(found.directory), Tally())
        found.writes = writes_of(db) if words is None else 0
    except sqlite3.Error as exc:
        words = str(exc) if not found.damage else None
    if words is not None:
        found.damage.append(f"{JOURNAL}: {words}")


def _read_large(db: sqlite3.Connection, found: Leftover) -> None:
    """Read which large files are begun, and which bytes have left the spool for one of them."""
    try:
        found.unfinished = [
            name
            for (name,) in db.execute("SELECT name FROM large WHERE file_id IS NOT NULL AND version IS NULL")
        ]
        away = (
            "SELECT draft_id, start, stop, file_id FROM parts JOIN large ON id = large_id "
            "WHERE away ORDER BY start"
        )
        for draft_id, start, stop, file_id in db.execute(away):
            found.away.setdefault(draft_id, []).append(Away(start, stop, file_id))
    except sqlite3.Error as exc:
        if "no such table" in str(exc):  # a journal of before there were such tables
            return
        found.away_is_known = False
        found.damage.append(f"{JOURNAL}: {exc}; which bytes left the spool is not known")


def _salvage(db: sqlite3.Connection, damage: list[str]) -> list[Row]:
    """Read rows from both ends until something cannot be read."""
    rows: dict[int, Row] = {}
    columns = COLUMNS if "over_id" in columns_of(db) else COLUMNS.replace("over_id", "NULL")
    for direction in ("ASC", "DESC"):
        try:
            for row in db.execute(f"SELECT {columns} FROM ops ORDER BY id {direction}"):
                rows[row[_ID]] = row
        except sqlite3.Error as exc:
            if not damage:
                damage.append(f"{JOURNAL}: {exc}; some changes may be missing here")
        else:
            break
    return sorted(rows.values(), key=lambda row: (row[1], row[_ID]))


def _salvage_bodies(db: sqlite3.Connection, damage: list[str]) -> dict[int, bytes]:
    """Read bodies from both ends until something cannot be read; for the rest the spool files count."""
    bodies: dict[int, bytes] = {}
    for direction in ("ASC", "DESC"):
        try:
            for op_id, body in db.execute(f"{body_rows.SELECT} ORDER BY id {direction}"):
                bodies |= body_rows.check([(op_id, body)])
        except (sqlite3.Error, ValueError) as exc:
            if "no such table" in str(exc):  # a journal of before there was such a table
                break
            if not damage:
                damage.append(f"{JOURNAL}: {exc}; the content of some changes may be missing here")
        else:
            break
    return bodies


def _readable(found: Leftover, rows: list[Row], bodies: Mapping[int, bytes]) -> list[Op]:
    """Make operations of the rows that make sense; tell of the others."""
    spool = found.directory / SPOOL

    def make(some: list[Row]) -> list[Op]:
        return ops_of(some, lambda draft_id: _SavedSpool(spool / str(draft_id)), bodies, found.prints)

    good = []
    for row in rows:
        try:
            make([(*row[:_BASE_OP], None, *row[_BASE_OP + 1 :])])
        except (ValueError, KeyError, TypeError) as exc:
            found.damage.append(f"change {row[_ID]} ({row[_KIND]} {row[_NAME]!r}) cannot be read: {exc!r}")
        else:
            good.append(row)
    while True:
        known = {row[_ID] for row in good if row[_KIND] == Kind.PUT.value}
        orphans = [row for row in good if row[_BASE_OP] is not None and row[_BASE_OP] not in known]
        if not orphans:
            return make(good)
        for row in orphans:
            found.damage.append(f"change {row[_ID]} ({row[_NAME]!r}) builds on one that cannot be read")
        good = [row for row in good if row not in orphans]


# --- what an operation needs ------------------------------------------------------------------------------


def ranges_in_b2(draft: Draft) -> list[tuple[int, int, FileVersion]]:
    """Return the ranges of a draft's content that lie in B2 alone, with the version that holds each."""
    return [
        (segment.start, segment.end, holder)
        for segment, holder in local_segments(draft, 0, draft.size)
        if segment.origin is Origin.BASE and isinstance(holder, FileVersion) and segment.size
    ]


def split_away(away: list[Away], start: int, end: int) -> Iterator[tuple[int, int, Away | None]]:
    """Cut [start, end) where *away* (sorted) begins and ends; None with what is here."""
    for one in away:
        if one.end <= start or one.start >= end:
            continue
        if start < one.start:
            yield start, one.start, None
        yield max(start, one.start), min(end, one.end), one
        start = min(end, one.end)
    if start < end:
        yield start, end, None


def needs_b2(left: Leftover, draft: Draft) -> bool:
    """Whether some of the draft's content lies in B2 alone."""
    return bool(ranges_in_b2(draft)) or any(
        isinstance(holder, Draft)
        and any(one for _, _, one in split_away(left.away.get(holder.id, []), segment.start, segment.end))
        for segment, holder in local_segments(draft, 0, draft.size)
    )


def has_content(op: Op) -> bool:
    """Whether the operation holds content of its own, rather than moving or describing what B2 holds."""
    draft = op.draft
    while draft is not None and draft.only_metadata:
        base = draft.resolve_base()
        if not isinstance(base, Draft):
            return False
        draft = base
    return draft is not None
