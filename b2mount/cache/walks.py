"""Recognise a walk over a tree, and say from where to list it flat.

A person looks into a directory here and there; find, du, rsync and backups open one sub-directory after the
other. The second sub-directory of one parent within a listing's lifetime is the sign: a flat listing from
there on serves those that follow too, for the price of one listing as long as it asks for no more rows. Pages
grow only while the guess proves right. A pure policy: it decides, listings.py lists.
"""

from dataclasses import dataclass, field

FIRST_PAGE = 1_000  # rows; B2 bills a list call per 1,000 rows, so this is the least and pages are multiples
LARGEST_PAGE = 10_000  # rows; the most B2 returns in one call
PATIENCE = 4  # sub-directories to see again after a wrong guess


@dataclass(frozen=True, slots=True)
class FlatListing:
    """List everything under `root`, beginning at the name `start`, `limit` rows."""

    root: str
    start: str
    limit: int


@dataclass(slots=True)
class _Parent:
    since: float
    children: set[str] = field(default_factory=set)
    needed: int = 1  # children seen before the next one is taken for a walk
    limit: int = FIRST_PAGE


class Walks:
    """What was opened lately in one bucket, by parent."""

    def __init__(self, memory: float) -> None:
        """Remember for *memory* seconds."""
        self._memory = memory
        self._parents: dict[str, _Parent] = {}

    def on_miss(self, directory: str, root: str, now: float) -> FlatListing | None:
        """Take note that *directory* must be listed; return a flat listing to try first, or None.

        *root* is the topmost directory that the key may list.
        """
        parent = parent_of(directory)
        if parent is None or not parent.startswith(root):
            return None
        state = self._state(parent, now)
        walking = len(state.children) >= state.needed
        state.children.add(directory)
        return FlatListing(parent, directory, state.limit) if walking else None

    def on_answer(self, tried: FlatListing, *, covered: bool, reached_end: bool, now: float) -> None:
        """Learn from a flat listing: whether it covered the directory asked for, and all that follows."""
        state = self._state(tried.root, now)
        if not covered:
            state.limit = FIRST_PAGE
            state.needed = len(state.children) + PATIENCE
            return
        state.limit = LARGEST_PAGE
        above = parent_of(tried.root)
        if reached_end and above is not None:
            self._state(above, now).children.add(tried.root)

    def _state(self, parent: str, now: float) -> _Parent:
        state = self._parents.get(parent)
        if state is None or now - state.since > self._memory:
            state = self._parents[parent] = _Parent(now)
            if len(self._parents) > 10_000:
                self._parents = {k: v for k, v in self._parents.items() if now - v.since <= self._memory}
        return state


def parent_of(directory: str) -> str | None:
    """Return the directory prefix above another, None above the bucket's root."""
    if directory == "":
        return None
    return directory[: directory.rfind("/", 0, len(directory) - 1) + 1]
