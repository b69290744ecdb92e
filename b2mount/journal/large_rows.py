"""How large files on their way are written down in the journal's tables, and read again.

Each function gives SQL for the database to run; nothing here touches it. A planned part is a row before it is
sent; `sha1` in it says that B2 has it.
"""

import json
from collections.abc import Iterable
from typing import Any

from b2mount.journal.unfinished import LargeFile, Part
from b2mount.store.store import FileVersion

Statement = tuple[str, tuple[Any, ...]]

SCHEMA = """
CREATE TABLE IF NOT EXISTS large (  -- large files begun for puts, and not yet out of use
    id INTEGER PRIMARY KEY,
    draft_id INTEGER NOT NULL,
    bucket_id TEXT NOT NULL,
    name TEXT NOT NULL,
    content_type TEXT NOT NULL,
    info TEXT NOT NULL,           -- JSON, as B2 was told at the start
    source_id TEXT,               -- the version that parts are copied from
    streamed INTEGER NOT NULL,    -- 1: begun before the file was closed
    file_id TEXT,                 -- NULL: B2 was asked to begin, and whether it did is not known
    version TEXT                  -- JSON of what B2 made of it; NULL: not finished
);
CREATE TABLE IF NOT EXISTS parts (
    large_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    start INTEGER NOT NULL,
    stop INTEGER NOT NULL,
    copied INTEGER NOT NULL,
    sha1 TEXT,                    -- NULL: B2 may not have it
    away INTEGER NOT NULL,        -- 1: only B2 has these bytes
    PRIMARY KEY (large_id, number)
) WITHOUT ROWID;
"""


def save(large: LargeFile, version: str | None) -> Statement:
    """Write down a large file without its parts; *version* as text."""
    return (
        "INSERT OR REPLACE INTO large VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            large.id,
            large.draft_id,
            large.bucket_id,
            large.name,
            large.content_type,
            json.dumps(large.info),
            large.source_id,
            int(large.streamed),
            large.file_id,
            version,
        ),
    )


def save_part(large: LargeFile, number: int) -> Statement:
    """Write down one part as it stands."""
    part = large.parts[number - 1]
    return (
        "INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?, ?)",
        (large.id, number, part.start, part.end, int(part.copied), part.sha1, int(part.away)),
    )


def forget_parts(large: LargeFile) -> Statement:
    """Strike off the parts of a large file."""
    return ("DELETE FROM parts WHERE large_id=?", (large.id,))


def forget(large: LargeFile) -> list[Statement]:
    """Strike a large file off, parts and all."""
    return [forget_parts(large), ("DELETE FROM large WHERE id=?", (large.id,))]


SELECT = (
    "SELECT id, draft_id, bucket_id, name, content_type, info, source_id, streamed, file_id, version "
    "FROM large ORDER BY id"
)
SELECT_PARTS = "SELECT large_id, number, start, stop, copied, sha1, away FROM parts ORDER BY large_id, number"


def read(
    rows: Iterable[tuple[Any, ...]], parts: Iterable[tuple[Any, ...]], versions: dict[int, FileVersion]
) -> list[LargeFile]:
    """Return what `SELECT` and `SELECT_PARTS` gave. Raises ValueError for parts that leave one out."""
    found: dict[int, LargeFile] = {}
    for row in rows:
        large = LargeFile(
            row[0],
            row[1],
            row[2],
            row[3],
            content_type=row[4],
            info=json.loads(row[5]),
            source_id=row[6],
            streamed=bool(row[7]),
        )
        large.file_id = row[8]
        large.doubtful = large.file_id is None
        large.version = versions.get(large.id)
        found[large.id] = large
    for large_id, number, start, stop, copied, sha1, away in parts:
        large = found[large_id]
        if number != len(large.parts) + 1 or start != large.planned_to:
            raise ValueError(f"part {number} of large file {large_id} does not follow on")
        large.parts.append(Part(start, stop, copied=bool(copied), sha1=sha1))
        large.set_away(number, bool(away))
    return list(found.values())
