"""How far the renames of directories are in B2: of each, the files and bytes done and left.

Told to people who wait; nothing is decided by it, and it ends with the mount's process: what is left of a
rename then goes on as so many changes. Knows operations; knows neither names nor what a directory is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from b2mount.journal.ops import Op

SWEEP_AT_LEAST = 100  # renames; so that beginning many costs no look at all of them each time


@dataclass(frozen=True, slots=True)
class Move:
    """One rename: each file's operations, and its size in bytes."""

    old: str
    new: str
    files: Sequence[tuple[tuple[Op, ...], int]]

    @property
    def is_over(self) -> bool:
        return all(_is_done(ops) for ops, _ in self.files)

    def facts(self) -> dict[str, Any]:
        """Return what is told of it, a JSON object."""
        done = [size for ops, size in self.files if _is_done(ops)]
        return {
            "from": self.old,
            "to": self.new,
            "files": len(self.files),
            "files_done": len(done),
            "bytes": sum(size for _, size in self.files),
            "bytes_done": sum(done),
        }


class Moves:
    """Those under way."""

    def __init__(self) -> None:
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
        self._moves = [move for move in self._moves if not move.is_over]


def _is_done(ops: tuple[Op, ...]) -> bool:
    """Whether nothing is left of it: carried out, or something later took its place."""
    return all(op.finished.is_set() for op in ops)
