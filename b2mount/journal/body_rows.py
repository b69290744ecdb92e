"""The rows that hold what was written to small files, so that a promise costs the disk one wait, not two.

The spool file has the same bytes, and is what is read and sent; but it need not have reached the disk. What
a power cut took from it is written anew from here. Knows SQL and the columns; knows nothing of drafts.
"""

import os
from pathlib import Path
from typing import Any

from b2mount.journal.large_rows import Statement

LARGEST = 64 << 10  # bytes of one draft; a guess: above it the disk takes longer to write than to wait
MOST = 32 << 20  # bytes of all drafts together, so that the journal stays small while B2 cannot be reached
DISK_SHARE = 64  # nor more than this part of what is free on the disk: the journal keeps what it once took

SCHEMA = """
CREATE TABLE IF NOT EXISTS bodies (  -- the new bytes of puts, range after range
    id INTEGER PRIMARY KEY,
    body BLOB NOT NULL
);
"""

SELECT = "SELECT id, body FROM bodies"
FORGET_STRAYS = "DELETE FROM bodies WHERE id NOT IN (SELECT id FROM ops)"


class Bodies:
    """Which operations have their bytes in the journal."""

    def __init__(self, directory: Path) -> None:
        """Count from nothing; *directory* tells how much the disk has."""
        disk = os.statvfs(directory)
        self._most = min(MOST, disk.f_bavail * disk.f_frsize // DISK_SHARE)
        self._sizes: dict[int, int] = {}
        self._held = 0

    def has_room(self, size: int) -> bool:
        """Say whether so many bytes of one draft belong here."""
        return size <= LARGEST and self._held + size <= self._most

    def save(self, op_id: int, body: bytes) -> Statement:
        """Return the statement that writes down an operation's bytes."""
        self.note(op_id, len(body))
        return "INSERT OR REPLACE INTO bodies VALUES (?, ?)", (op_id, body)

    def note(self, op_id: int, size: int) -> None:
        """Count what lies in the journal."""
        self._held += size - self._sizes.get(op_id, 0)
        self._sizes[op_id] = size

    def forget(self, op_id: int) -> list[Statement]:
        """Return what strikes an operation's bytes off, if they are here."""
        size = self._sizes.pop(op_id, None)
        if size is None:
            return []
        self._held -= size
        return [("DELETE FROM bodies WHERE id=?", (op_id,))]


def check(rows: list[tuple[Any, Any]]) -> dict[int, bytes]:
    """Return bytes by operation. Raises ValueError for rows that no b2mount wrote."""
    for op_id, body in rows:
        if not isinstance(body, bytes):
            raise ValueError(f"the body of change {op_id} is {type(body).__name__}")
    return dict(rows)
