"""Files that the kernel holds and nobody has asked more of: numbers and counts beside the rows of a page.

A listing of a million names hands the kernel a million files, of most of which nothing is ever asked again
but that they be forgotten. So a file that is as a page tells it, with no attributes but size and times, has
no node (fs/nodes.py) until somebody asks for its number or name: it has a place in the run of its page. Knows
neither own changes nor calls.
"""

from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING

from b2mount.cache.listing import Chunk, Listing

if TYPE_CHECKING:  # it knows runs
    from b2mount.fs.nodes import DirectoryNode

PLACE_BITS = 24  # of the number that stands for a run and a place in it
MOST_PLACES = 1 << PLACE_BITS
KEPT_PART = 16  # a run of which the kernel holds less than this part is not worth its page
SMALL = 64  # places; the page of a shorter run is shared with other directories, and is most of what it keeps


class Run:
    """The files of one directory that one page tells of, and which of them the kernel holds."""

    __slots__ = ("base", "chunk", "first_key", "held", "inos", "last_key", "listing", "lookups", "parent")

    def __init__(self, parent: "DirectoryNode", listing: Listing, chunk: Chunk, number: int) -> None:
        self.parent = parent
        self.listing = listing
        self.chunk = chunk
        self.base = number << PLACE_BITS  # what its place 0 is known by
        self.inos = array("Q", bytes(8 * len(chunk)))
        self.lookups = array("Q", bytes(8 * len(chunk)))
        self.held = 0  # places with lookups
        self.first_key, self.last_key = chunk.key(0), chunk.key(len(chunk) - 1)

    def find(self, key: bytes) -> int | None:
        """Return the place of a file that the kernel holds; None where it holds none of that name here."""
        if not self.held or not self.first_key <= key <= self.last_key:
            return None
        at = self.chunk.find(key)
        return at if at is not None and self.lookups[at] else None

    def places(self) -> Iterator[int]:
        """Yield the places of the files that the kernel holds; some may go meanwhile."""
        return (at for at, count in enumerate(self.lookups) if count)

    def take_out(self, at: int) -> tuple[int, int]:
        """Hold a file no more; return its number and lookups."""
        taken = self.inos[at], self.lookups[at]
        self.inos[at] = self.lookups[at] = 0
        self.held -= 1
        return taken

    def put_in(self, at: int, ino: int, lookups: int) -> None:
        """Hold a file that was not held here."""
        self.inos[at], self.lookups[at] = ino, lookups
        self.held += 1

    @property
    def is_worth_its_page(self) -> bool:
        """Whether so many files are held that the page takes less memory than a node for each would."""
        return len(self.chunk) > SMALL and self.held * KEPT_PART >= len(self.chunk)
