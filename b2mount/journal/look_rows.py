"""The rows of what was overwritten here and not yet looked at for changes by others.

They outlive the mount, so that a crash between an upload and the look at it hides no lost update. Knows SQL
and the columns; knows nothing of what is judged.
"""

from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS looks (
    ours TEXT PRIMARY KEY,        -- the id of the version that was made
    bucket_id TEXT NOT NULL,
    name TEXT NOT NULL,
    over TEXT,                    -- the id of the version that was known before; '': none; NULL: interim
    done_ms INTEGER NOT NULL,     -- by B2's clock
    version TEXT NOT NULL         -- JSON
);
"""

SELECT = "SELECT bucket_id, over, done_ms, version FROM looks ORDER BY done_ms"


def save(
    ours: str, bucket_id: str, name: str, over: str | None, done_ms: int, version: str
) -> tuple[str, tuple[Any, ...]]:
    """Return the statement that writes down one version made here."""
    values = (ours, bucket_id, name, over, done_ms, version)
    return "INSERT OR REPLACE INTO looks VALUES (?, ?, ?, ?, ?, ?)", values


def forget(ours: str) -> tuple[str, tuple[Any, ...]]:
    """Return the statement that strikes one off."""
    return "DELETE FROM looks WHERE ours=?", (ours,)
