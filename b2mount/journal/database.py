"""The journal's SQLite file: every operation that is promised and not yet done in B2.

One row an operation, a draft's map in the row of its put. Statements are recorded at once, in memory, and
become durable together at the next `commit` (one transaction, one fsync, however many callers wait). Knows
nothing of what the operations mean.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import trio

from b2mount.core.errors import LocalStorageError, OutOfSpace
from b2mount.journal import body_rows, large_rows, look_rows, moves, op_rows, prints
from b2mount.journal.body_rows import Bodies
from b2mount.journal.drafts import Draft, Spool, sync_directory
from b2mount.journal.large_rows import Statement
from b2mount.journal.moves import Move
from b2mount.journal.op_rows import version_from_json, version_to_json
from b2mount.journal.ops import Op
from b2mount.journal.reserve import Reserve
from b2mount.journal.seal import (
    FIRST_SEAL,
    SEAL,
    CountFile,
    Tally,
    lack_words,
    missing_words,
    sealed_part,
    writes_of,
)
from b2mount.journal.strays import SALVAGE, mark
from b2mount.journal.unfinished import LargeFile
from b2mount.store.store import FileVersion
from b2mount.store.threads import run_in_thread

FORMAT = 4
LOG_SIZE = 4608 << 10  # bytes: 1000 pages, after which SQLite begins anew, and a last commit's
SPARE_PAGES = 256  # of 4 KiB: what the file may keep for the next mount; a guess

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS gone (  -- directories removed here whose names B2 may show for a while
    bucket_id TEXT NOT NULL,
    prefix TEXT NOT NULL,
    PRIMARY KEY (bucket_id, prefix)
);
"""

# Format 1 had an unfinished large file in the row of its put, and nothing of its parts: it is begun anew.
_FROM_1 = """
BEGIN;
INSERT INTO large SELECT id, -1, bucket_id, name, '', '{}', NULL, 0, large_id, NULL FROM ops
    WHERE large_id IS NOT NULL;
ALTER TABLE ops DROP COLUMN large_id;
UPDATE meta SET value = '2' WHERE key = 'format';
COMMIT;
"""
# Format 2 had all bytes in the spool. One that knows it alone would miss those that are only in the journal.
# Format 3 had no seal, and one that knows it alone would leave it behind.
_NOW = "INSERT OR REPLACE INTO meta VALUES ('format', ?)"

T = TypeVar("T")


class Database:
    """The journal of one scope. SQL runs in a thread, one call at a time."""

    def __init__(self, path: Path) -> None:
        """Open or create. Raises LocalStorageError, also for a file that is no journal of ours."""
        self.path = path
        self._pending: list[Statement] = []
        self._syncs: list[Draft] = []  # whose bytes have to reach the disk first
        self._printed: set[int] = set()  # drafts of which is written down what their spools are known by
        self._promised: list[tuple[Path, str]] = []  # spool files to be marked, each with its name
        self._recorded = 0
        self._durable = 0
        self._lock = trio.Lock()
        self._limiter = trio.CapacityLimiter(1)
        self._reserve = Reserve(path.with_name("reserve"))
        self._has_log = False  # the write-ahead log has the size that it keeps
        self.is_new = False  # made just now
        self._tally = Tally()
        self._counted = CountFile(path.parent)
        self._guard(self._demand_whole)
        self._db = self._guard(self._open)
        self.writes = self._guard(self._begin_to_seal)  # so far, begun or done
        self._identity = self._identify()
        self._reserve.fill()
        self._bodies = self._guard(lambda: Bodies(path.parent))

    @property
    def is_proven(self) -> bool:
        """Whether the file beside the journal says that nothing of it is lost."""
        return self._counted.told is not None

    def _demand_whole(self) -> None:
        """Raise LocalStorageError where the files are not as they were left, before SQLite changes any."""
        told = self._counted.told
        words = missing_words(self.path, told)
        if words is None and self.path.exists() and self.path.stat().st_size:
            with contextlib.closing(
                sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)
            ) as db:
                words = lack_words(db, told, self._tally)
        if words is not None:
            raise LocalStorageError(
                f"the journal {self.path} is damaged: {words}\n{SALVAGE} {self.path.parent}"
            )

    def _open(self) -> sqlite3.Connection:
        self.path.touch(mode=0o600)
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")  # WAL syncs at each commit: what is acknowledged survives
        db.executescript(
            _SCHEMA
            + op_rows.SCHEMA
            + large_rows.SCHEMA
            + look_rows.SCHEMA
            + body_rows.SCHEMA
            + prints.SCHEMA
            + moves.SCHEMA
        )
        row = db.execute("SELECT value FROM meta WHERE key='format'").fetchone()
        self.is_new = row is None
        form = 0 if row is None or not str(row[0]).isdecimal() else int(row[0])
        if row is not None and not 1 <= form <= FORMAT:
            db.close()
            raise LocalStorageError(
                f"{self.path} was written by another version of b2mount (format {row[0]})"
            )
        if form == 1:
            db.executescript(_FROM_1)
        if "over_id" not in op_rows.columns_of(db):
            db.execute(op_rows.OVER)
        if form < FORMAT:
            with db:
                db.execute("BEGIN IMMEDIATE")
                db.execute(body_rows.FORGET_STRAYS)
                self._tally.fill(db)
                db.execute(_NOW, (str(FORMAT),))
                db.execute(FIRST_SEAL, (self._tally.seal(0),))
        return db

    def _begin_to_seal(self) -> int:
        """Return how often the journal was written, by this life or others; beside it, too."""
        writes, told = writes_of(self._db), self._counted.told
        self._counted.write(writes, self._tally.changes)
        return max(writes, told.writes if told is not None else 0)

    def _identify(self) -> tuple[int, int] | None:
        """Return what tells the journal's file from any other; None where it is gone."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _guard(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except sqlite3.Error as exc:
            kind = OutOfSpace if "full" in str(exc) else LocalStorageError
            hint = f"\n{SALVAGE} {self.path.parent}" if type(exc) is sqlite3.DatabaseError else ""
            raise kind(f"the journal {self.path} cannot be used: {exc}{hint}") from exc
        except OSError as exc:
            raise LocalStorageError(f"the journal {self.path} cannot be used: {exc.strerror}") from exc

    def record(self, op: Op) -> None:
        """Write down the operation as it stands; durable after the next commit."""
        statement = op_rows.save(op)
        self._tally.put("ops", op.id, sealed_part(statement[1]))
        self._record(statement)
        op.recorded = self._recorded

    def is_durable(self, op: Op) -> bool:
        """Say whether the operation is on disk as it was recorded last."""
        return self._durable >= op.recorded

    def mark_begun(self, op: Op) -> None:
        """Write down that an attempt at a recorded operation begins; durable after `commit(op.mark)`."""
        self._record(("UPDATE ops SET sending=1 WHERE id=?", (op.id,)))
        op.mark = self._recorded

    def raise_mark(self, op: Op) -> None:
        """Have `commit(op.mark)` cover all that is recorded so far: what the operation had to wait for."""
        op.mark = self._recorded

    def forget(self, op: Op) -> None:
        """Strike the operation off; durable after the next commit."""
        self._tally.drop("ops", op.id)
        self._tally.drop("bodies", op.id)
        self._record(("DELETE FROM ops WHERE id=?", (op.id,)))
        for statement in self._bodies.forget(op.id):
            self._record(statement)
        if op.id in self._printed:
            self._printed.remove(op.id)
            self._record(prints.forget(op.id))

    def record_large(self, large: LargeFile) -> None:
        """Write down a large file as it stands, without its parts; durable after the next commit."""
        version = version_to_json(large.version) if large.version is not None else None
        self._save("large", large.id, large_rows.save(large, version))

    def record_parts(self, large: LargeFile, numbers: Iterable[int]) -> None:
        """Write down parts of a large file as they stand; durable after the next commit."""
        for number in numbers:
            self._save("parts", (large.id, number), large_rows.save_part(large, number))

    def forget_large(self, large: LargeFile) -> None:
        """Strike a large file off, parts and all; durable after the next commit."""
        self._tally.drop("large", large.id)
        for number in range(1, len(large.parts) + 1):
            self._tally.drop("parts", (large.id, number))
        for statement in large_rows.forget(large):
            self._record(statement)

    def load_large(self) -> list[LargeFile]:
        """Read which large files an earlier life had on the way. Raises LocalStorageError."""
        rows = self._guard(lambda: self._db.execute(large_rows.SELECT).fetchall())
        parts = self._guard(lambda: self._db.execute(large_rows.SELECT_PARTS).fetchall())
        try:
            versions = {row[0]: version_from_json(row[9]) for row in rows if row[9]}
            return large_rows.read(rows, parts, versions)
        except (ValueError, KeyError, TypeError) as exc:
            raise self._damaged(exc) from exc

    def record_look(self, version: FileVersion, bucket_id: str, over: str | None, done_ms: int) -> None:
        """Write down a version made here, to be looked at; durable after the next commit."""
        text = version_to_json(version)
        statement = look_rows.save(version.file_id, bucket_id, version.name, over, done_ms, text)
        self._save("looks", version.file_id, statement)

    def forget_look(self, file_id: str) -> None:
        """Strike off a version that was looked at; durable after the next commit."""
        self._tally.drop("looks", file_id)
        self._record(look_rows.forget(file_id))

    def load_looks(self) -> list[tuple[str, str | None, int, FileVersion]]:
        """Read what an earlier life made and did not look at: bucket, version known before, when, version.

        Raises LocalStorageError.
        """
        rows = self._guard(lambda: self._db.execute(look_rows.SELECT).fetchall())
        try:
            return [(row[0], row[1], row[2], version_from_json(row[3])) for row in rows]
        except (ValueError, KeyError, TypeError) as exc:
            raise self._damaged(exc) from exc

    def _save(self, table: str, key: Hashable, statement: Statement) -> None:
        """Write down a row, all of whose values the statement has."""
        self._tally.put(table, key, statement[1])
        self._record(statement)

    def _record(self, statement: Statement) -> None:
        self._pending.append(statement)
        self._recorded += 1

    def record_gone(self, bucket_id: str, prefix: str) -> None:
        """Write down that a directory was removed here; durable after the next commit."""
        key = (bucket_id, prefix)
        self._save("gone", key, ("INSERT OR REPLACE INTO gone VALUES (?, ?)", key))

    def forget_gone(self, bucket_id: str, prefix: str) -> None:
        """Strike a removed directory off; durable after the next commit."""
        self._tally.drop("gone", (bucket_id, prefix))
        self._record(("DELETE FROM gone WHERE bucket_id=? AND prefix=?", (bucket_id, prefix)))

    def load_gone(self) -> list[tuple[str, str]]:
        """Read which directories an earlier life removed: bucket and prefix."""
        return self._guard(lambda: self._db.execute("SELECT bucket_id, prefix FROM gone").fetchall())

    def record_move(self, move: Move) -> None:
        """Write down that a directory is renamed; durable after the next commit."""
        self._save("moves", move.id, moves.save(move))

    def forget_move(self, move: Move) -> None:
        """Strike a rename off that is over; durable after the next commit."""
        self._tally.drop("moves", move.id)
        self._record(moves.forget(move))

    def load_moves(self, left: list[Op]) -> list[Move]:
        """Read which renames an earlier life did not bring to an end; *left* has what it left unsent."""
        return moves.read(self._guard(lambda: self._db.execute(moves.SELECT).fetchall()), left)

    def keep(self, draft: Draft, name: str) -> None:
        """Have a draft's new bytes reach the disk before what is recorded from now on does, or with it."""
        self._promised.append((draft.spool.path, name))
        size = draft.extents.dirty_bytes
        if self._bodies.has_room(size) and self._reserve.is_full and not draft.away_bytes:
            try:
                body = b"".join(draft.spool.read(start, end - start) for start, end in draft.extents.dirty)
            except LocalStorageError:
                pass  # it is told when the commit waits for the spool file
            else:
                self._save("bodies", draft.id, self._bodies.save(draft.id, body))
                return
        self._syncs.append(draft)
        self._printed.add(draft.id)
        self._recorded += 1

    async def commit(self, goal: int | None = None) -> None:
        """Return when all that was recorded before the call is on disk. Raises OutOfSpace, LocalStorageError.

        With *goal*, the first so many statements are enough.
        After a failure the statements stay recorded, and the next commit tries them again. A cancelled caller
        leaves the writing to finish.
        """
        goal = self._recorded if goal is None else goal
        if self._durable >= goal:
            await trio.lowlevel.checkpoint()
            return
        with trio.CancelScope(shield=True):  # bounded: local disk only
            async with self._lock:
                if self._durable >= goal:
                    return
                batch, self._pending = self._pending, []
                syncs, self._syncs = self._syncs, []
                promised, self._promised = self._promised, []
                upto = self._recorded
                self.writes += 1
                number, changes = self.writes, self._tally.changes
                batch.append((SEAL, (self._tally.seal(number),)))
                try:
                    await run_in_thread(self._write, batch, syncs, limiter=self._limiter)
                except BaseException:
                    self._pending[:0] = batch[:-1]
                    self._syncs[:0] = syncs
                    self._promised[:0] = promised
                    raise
                self._counted.write(number, changes)
                for path, name in promised:
                    mark(path, number, name)
                self._durable = upto

    async def prepare(self) -> None:
        """Do ahead what the first commit would wait for; worth its bytes where something may be written."""
        async with self._lock:
            await trio.to_thread.run_sync(self._lay_out_log, limiter=self._limiter)

    def _lay_out_log(self) -> None:
        if not self._has_log:
            self._has_log = True
            _lay_out(self.path.with_name(f"{self.path.name}-wal"))

    def _sync(self, drafts: list[Draft]) -> list[Statement]:
        """Wait until the disk has the bytes of drafts; return what they are known by from now on."""
        known_by = []
        directories = set()
        for draft in drafts:
            if draft.spool.sync():
                directories.add(draft.spool.path.parent)
            found = draft.spool.print(draft.extents.dirty) if not draft.away_bytes else None
            known_by += [prints.save(draft.id, found)] if found is not None else []
        for directory in directories:
            # Not every file system has the name of a new file on the disk as soon as it has its bytes.
            sync_directory(directory)
        return known_by

    def _write(self, batch: list[Statement], syncs: list[Draft]) -> None:
        known_by = self._sync(syncs)

        def transaction() -> None:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                for sql, values in (*known_by, *batch):  # some of these may be struck off already
                    self._db.execute(sql, values)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

        if self._identify() != self._identity:  # SQLite would go on writing to what nobody finds again
            raise LocalStorageError(f"the journal {self.path} was removed or replaced while it was in use")
        self._lay_out_log()
        while True:
            try:
                self._guard(transaction)
            except OutOfSpace:
                if not self._reserve.give():
                    raise
            else:
                self._reserve.fill()
                return

    def load(self, spool_of: Callable[[int], Spool]) -> list[Op]:
        """Read what an earlier life left unsent, in order, drafts tied to their bases.

        Raises LocalStorageError, also for rows that no b2mount wrote.
        """

        def read() -> tuple[list[tuple[Any, ...]], list[tuple[Any, Any]], list[tuple[Any, Any]]]:
            self._db.execute(prints.FORGET_STRAYS)
            rows = self._db.execute(f"SELECT {op_rows.COLUMNS} FROM ops ORDER BY ordering").fetchall()
            found = self._db.execute(body_rows.SELECT).fetchall()
            return rows, found, self._db.execute(prints.SELECT).fetchall()

        rows, found, known_by = self._guard(read)
        self._printed = {row[0] for row in rows}
        try:
            bodies = body_rows.check(found)
            for op_id, body in bodies.items():
                self._bodies.note(op_id, len(body))
            return op_rows.ops_of(rows, spool_of, bodies, prints.read(known_by))
        except (ValueError, KeyError, TypeError) as exc:
            raise self._damaged(exc) from exc

    def _damaged(self, exc: Exception) -> LocalStorageError:
        return LocalStorageError(
            f"the journal {self.path} is damaged ({exc!r}); what it promised to send cannot be read\n"
            f"{SALVAGE} {self.path.parent}"
        )

    def close(self) -> None:
        """Close the file; what was recorded and not committed is lost. Gives back what it does not need."""
        with contextlib.suppress(sqlite3.Error):
            (spare,) = self._db.execute("PRAGMA freelist_count").fetchone()
            if spare > SPARE_PAGES:
                self._db.execute("VACUUM")
        self._db.close()
        self._counted.close()


def _lay_out(log_of_writes: Path) -> None:
    """Give SQLite's write-ahead log its size at once: zeros behind what is in it, where SQLite stops reading.

    So a commit writes over what is there, and the disk need not note a new length each time: measured on
    ext4, 0.05 instead of 0.56 ms.
    """
    with contextlib.suppress(OSError):  # a full disk, which `Reserve` is for
        fd = os.open(log_of_writes, os.O_WRONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            if size < LOG_SIZE:
                os.pwrite(fd, bytes(LOG_SIZE - size), size)
                os.fdatasync(fd)
        finally:
            os.close(fd)
