"""The emulator's metadata: one SQLite database (WAL) in the data directory.

Names are BLOBs, so that SQLite compares them as B2 does: byte by byte of UTF-8. Two indexes make every
listing a range scan: `history` holds each name's versions newest first, `visible` holds one row for each
name whose newest version is a file. `visible` is what keeps a listing's cost by what it returns: hidden
names are not in it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keys (
    key_id TEXT PRIMARY KEY, secret_sha256 TEXT NOT NULL, name TEXT NOT NULL, capabilities TEXT NOT NULL,
    buckets TEXT, prefix TEXT, expires_ms INTEGER, master INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tokens (
    token TEXT PRIMARY KEY, kind TEXT NOT NULL, key_id TEXT NOT NULL, target TEXT NOT NULL,
    place TEXT NOT NULL, prefix TEXT NOT NULL, overrides TEXT NOT NULL, expires_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS buckets (
    num INTEGER PRIMARY KEY AUTOINCREMENT, bucket_id TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
    name_key TEXT NOT NULL UNIQUE, type TEXT NOT NULL, revision INTEGER NOT NULL,
    lock_enabled INTEGER NOT NULL, settings TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS versions (
    seq INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, name BLOB NOT NULL, stamp INTEGER NOT NULL,
    action TEXT NOT NULL, current INTEGER NOT NULL DEFAULT 0, kind INTEGER NOT NULL, size INTEGER NOT NULL,
    sha1 TEXT, md5 TEXT, content_type TEXT NOT NULL, info TEXT NOT NULL, sse TEXT NOT NULL,
    retention_mode TEXT, retain_until INTEGER, hold TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS history ON versions (bucket, name, stamp DESC, seq DESC, action);
CREATE UNIQUE INDEX IF NOT EXISTS visible ON versions (bucket, name) WHERE current = 1;
CREATE INDEX IF NOT EXISTS unfinished ON versions (bucket, seq) WHERE action = 'start';
CREATE TABLE IF NOT EXISTS parts (
    file INTEGER NOT NULL, number INTEGER NOT NULL, seq INTEGER NOT NULL, size INTEGER NOT NULL,
    sha1 TEXT NOT NULL, md5 TEXT, stamp INTEGER NOT NULL, PRIMARY KEY (file, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pieces (
    owner INTEGER NOT NULL, start INTEGER NOT NULL, blob INTEGER NOT NULL, skip INTEGER NOT NULL,
    length INTEGER NOT NULL, PRIMARY KEY (owner, start)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blobs (id INTEGER PRIMARY KEY, refs INTEGER NOT NULL);
"""

# Virtual-machine steps between two calls of the progress handler: coarse, so that counting is free.
STEPS_PER_TICK = 100


class Database:
    """One connection, used by one thread; `steps` counts SQLite's work since start (in virtual-machine
    steps).
    """

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None, cached_statements=512)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=NORMAL")
        self.connection.execute("PRAGMA cache_size=-32768")
        self.connection.executescript(SCHEMA)
        self.steps = 0
        self.connection.set_progress_handler(self._tick, STEPS_PER_TICK)
        self.execute = self.connection.execute
        self.executemany = self.connection.executemany

    def _tick(self) -> int:
        self.steps += STEPS_PER_TICK
        return 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what the block did, or undo it when it raises. Not nested, not held across an await."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")

    def meta(self, key: str) -> str | None:
        """Read one remembered value."""
        row = self.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def remember(self, key: str, value: str) -> None:
        """Write one value that a restart keeps."""
        self.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def greatest(self, table: str, column: str) -> int:
        """Give the greatest number in a column, 0 for an empty table (own table and column names only)."""
        row = self.execute(f"SELECT max({column}) FROM {table}").fetchone()
        return int(row[0] or 0)

    def close(self) -> None:
        """Close the database; what was committed is there."""
        self.connection.close()
