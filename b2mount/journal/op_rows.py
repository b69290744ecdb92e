"""How operations and file versions are written down in the journal's rows, and read again.

A draft's map is in the row of its put. Knows SQL and the columns; not when they are written.
"""

import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

from b2mount.core.extents import Extents
from b2mount.core.posix import NO_LIMIT, from_info, to_info
from b2mount.journal.drafts import Draft, Spool
from b2mount.journal.large_rows import Statement
from b2mount.journal.ops import Kind, Op
from b2mount.store.store import Action, FileVersion, Retention

SCHEMA = """
CREATE TABLE IF NOT EXISTS ops (
    id INTEGER PRIMARY KEY,
    ordering INTEGER NOT NULL,
    kind TEXT NOT NULL,
    bucket_id TEXT NOT NULL,
    name TEXT NOT NULL,
    after TEXT NOT NULL,          -- JSON list of ids
    sending INTEGER NOT NULL,     -- 1: an attempt has begun; B2 may have it
    error TEXT,
    extents TEXT,                 -- puts only, from here on
    spooled INTEGER,              -- 1: bytes lie in the spool file named after the id
    base TEXT,                    -- JSON of a file version
    base_op INTEGER,              -- or the put whose result is the base
    info TEXT,                    -- JSON; attributes included
    is_directory INTEGER,
    content_type TEXT,
    promised_ms INTEGER,          -- when the operation was promised, by B2's clock
    over_id TEXT                  -- the version that the name held, as far as known; "": none
);
"""

COLUMNS = (
    "id, ordering, kind, bucket_id, name, after, sending, error, extents, spooled, "
    "base, base_op, info, is_directory, content_type, promised_ms, over_id"
)
_UPSERT = """
INSERT OR REPLACE INTO ops (id, ordering, kind, bucket_id, name, after, sending, error, extents, spooled,
                            base, base_op, info, is_directory, content_type, promised_ms, over_id)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

# Came later. No format of its own: a b2mount that does not know it leaves it empty, which means "not known".
OVER = "ALTER TABLE ops ADD COLUMN over_id TEXT"

VERSION_FIELDS = tuple(field.name for field in fields(FileVersion))


def save(op: Op) -> Statement:
    """Return the statement that writes an operation down as it stands."""
    return _UPSERT, _row(op)


def columns_of(db: sqlite3.Connection) -> set[str]:
    """Return the columns that the operations of a journal have."""
    return {row[1] for row in db.execute("PRAGMA table_info(ops)")}


def ops_of(
    rows: list[tuple[Any, ...]],
    spool_of: Callable[[int], Spool],
    bodies: Mapping[int, bytes],
    prints: Mapping[int, int],
) -> list[Op]:
    """Make operations of rows of `COLUMNS`, drafts tied to their bases, spools filled from *bodies*.

    What other spools are known by is in *prints*. Raises ValueError, KeyError or TypeError for rows that no
    b2mount wrote.
    """
    drafts: dict[int, Draft] = {}
    for row in rows:
        if row[2] == Kind.PUT.value:
            drafts[row[0]] = draft = _draft(row, spool_of(row[0]))
            if row[0] in bodies:
                draft.spool.restore(draft.extents.dirty, bodies[row[0]])
            if draft.extents.dirty_bytes:
                known_by = prints.get(row[0]) if row[0] not in bodies else None
                draft.spool.expect(draft.extents.dirty, known_by)
    for row in rows:
        if row[11] is not None:
            drafts[row[0]].base = drafts[row[11]]
    return [_op(row, drafts.get(row[0])) for row in rows]


def _row(op: Op) -> tuple[Any, ...]:
    common = (
        op.id,
        op.order,
        op.kind.value,
        op.bucket_id,
        op.name,
        json.dumps(sorted(op.after)) if op.after else "[]",
        int(op.sent_before or op.mark > 0),
        str(op.error) if op.error else None,
    )
    draft = op.draft
    if draft is None:
        return (*common, None, None, None, None, None, None, None, op.promised_ms, op.over)
    base = draft.resolve_base()
    return (
        *common,
        draft.extents.to_text(),
        int(draft.extents.dirty_bytes > 0),
        version_to_json(base) if isinstance(base, FileVersion) else None,
        base.id if isinstance(base, Draft) else None,
        json.dumps(to_info(draft.attributes, draft.keep, limit=NO_LIMIT)),
        int(op.name.endswith("/.bzEmpty") or op.name == ".bzEmpty"),
        draft.content_type,
        op.promised_ms,
        op.over,
    )


def _draft(row: tuple[Any, ...], spool: Spool) -> Draft:
    info = json.loads(row[12])
    draft = Draft(
        row[0],
        spool,
        attributes=from_info(info, fallback_ms=0, is_directory=bool(row[13])),
        base=version_from_json(row[10]) if row[10] else None,
        extents=Extents.from_text(row[8]),
        content_type=row[14],
        keep=info,
    )
    draft.frozen = True
    return draft


def _op(row: tuple[Any, ...], draft: Draft | None) -> Op:
    op = Op(row[0], Kind(row[2]), row[3], row[4], draft=draft)
    op.order = row[1]
    op.after = set(json.loads(row[5]))
    op.sent_before = bool(row[6])
    op.recovered = True
    op.promised_ms = row[15] or 0
    op.over = row[16]
    return op


def version_to_json(version: FileVersion) -> str:
    """Write a file version down, to be read by `version_from_json`."""
    row = {name: getattr(version, name) for name in VERSION_FIELDS}  # asdict takes four times as long
    row["action"] = version.action.value
    row["info"] = dict(version.info)
    if version.retention is not None:
        row["retention"] = asdict(version.retention)
    return json.dumps(row)


def version_from_json(text: str) -> FileVersion:
    """Read what `version_to_json` wrote."""
    row = json.loads(text)
    row["action"] = Action(row["action"])
    if row["retention"] is not None:
        row["retention"] = Retention(**row["retention"])
    return FileVersion(**row)
