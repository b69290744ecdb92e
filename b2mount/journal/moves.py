"""How far the renames of directories are in B2: of each, the files and bytes done and left.

Told to people who wait; nothing is decided by it. A rename that a mount left unfinished is known by its two
prefixes: what is left of it is what waits under them. Knows operations and rows; not what a directory is.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from b2mount.journal.large_rows import Statement
from b2mount.journal.ops import Kind, Op

SCHEMA = """
CREATE TABLE IF NOT EXISTS moves (  -- renames of directories under way
    id INTEGER PRIMARY KEY,
    old_bucket TEXT NOT NULL,
    old TEXT NOT NULL,            -- prefixes
    new_bucket TEXT NOT NULL,
    new TEXT NOT NULL,
    files INTEGER NOT NULL,       -- in all
    bytes INTEGER NOT NULL
);
"""
SELECT = "SELECT id, old_bucket, old, new_bucket, new, files, bytes FROM moves ORDER BY id"

SWEEP_AT_LEAST = 100  # renames; so that beginning many costs no look at all of them each time


@dataclass(frozen=True, slots=True)
class Move:
    """One rename: each file's operations, and its size in bytes."""

    id: int  # of the journal
    old: tuple[str, str]  # bucket and prefix
    new: tuple[str, str]
    files: Sequence[tuple[tuple[Op, ...], int]]
    done_before: tuple[int, int] = (0, 0)  # files and bytes, in earlier lives

    @property
    def is_over(self) -> bool:
        return all(_is_done(ops) for ops, _ in self.files)

    @property
    def totals(self) -> tuple[int, int]:
        """Files and bytes, in all."""
        files, size = self.done_before
        return files + len(self.files), size + sum(size for _, size in self.files)

    def facts(self) -> dict[str, Any]:
        """Return what is told of it, a JSON object."""
        done = [size for ops, size in self.files if _is_done(ops)]
        files, size = self.totals
        return {
            "from": self.old[1],
            "to": self.new[1],
            "files": files,
            "files_done": self.done_before[0] + len(done),
            "bytes": size,
            "bytes_done": self.done_before[1] + sum(done),
        }


class Moves:
    """Those under way."""

    def __init__(self, forget: Callable[[Move], None]) -> None:
        """Begin with none; *forget* is told of each that is over."""
        self._forget = forget
        self._moves: list[Move] = []
        self._sweep_at = SWEEP_AT_LEAST

    def begin(self, move: Move) -> None:
        """Take note of one that was queued."""
        self._moves.append(move)
        if len(self._moves) >= self._sweep_at:
            self.sweep()
            self._sweep_at = max(2 * len(self._moves), SWEEP_AT_LEAST)

    def facts(self) -> list[dict[str, Any]]:
        """Return the facts of those not over yet, the oldest first."""
        self.sweep()
        return [move.facts() for move in self._moves]

    def sweep(self) -> None:
        """Forget those that are over."""
        for move in self._moves:
            if move.is_over:
                self._forget(move)
        self._moves = [move for move in self._moves if not move.is_over]


def _is_done(ops: tuple[Op, ...]) -> bool:
    """Whether nothing is left of it: carried out, or something later took its place."""
    return all(op.finished.is_set() for op in ops)


# --- in the journal ---------------------------------------------------------------------------------------


def save(move: Move) -> Statement:
    """Return the statement that writes down a rename."""
    return "INSERT OR REPLACE INTO moves VALUES (?, ?, ?, ?, ?, ?, ?)", (
        move.id,
        *move.old,
        *move.new,
        *move.totals,
    )


def forget(move: Move) -> Statement:
    """Return the statement that strikes it off."""
    return "DELETE FROM moves WHERE id=?", (move.id,)


def read(rows: Iterable[tuple[Any, ...]], left: Iterable[Op]) -> list[Move]:
    """Return what `SELECT` gave, with what is *left* of each."""
    ops = list(left)
    return [_left_of(row, ops) for row in rows]


def _left_of(row: tuple[Any, ...], left: list[Op]) -> Move:
    move_id, old, new = row[0], (str(row[1]), str(row[2])), (str(row[3]), str(row[4]))
    found: defaultdict[str, list[Op]] = defaultdict(list)
    for op in left:
        bucket_id, prefix = new if op.kind is Kind.PUT else old
        if op.bucket_id == bucket_id and op.name.startswith(prefix):
            found[op.name[len(prefix) :]].append(op)
    files = [
        (tuple(ops), max((op.draft.size for op in ops if op.draft is not None), default=0))
        for ops in found.values()
    ]
    done = max(row[5] - len(files), 0), max(row[6] - sum(size for _, size in files), 0)
    return Move(move_id, old, new, files, done)
