"""Recognise a scan, and fetch the next small files ahead of it.

grep -r, tar, rsync -c and backups read the files of a directory one after the other in the order in which it
was listed. Two files in a row are the sign; the files that follow are fetched together, more of them as the
guess proves right, none after a jump. So one file at a time is not one round trip at a time. Several readers
at once come a little out of order. Who comes to the end of a directory goes on in the next one, whose first
file is sign enough. Opening alone is no sign: rsync -X opens every file for its attributes and reads none. A
policy over listings and blocks; knows neither handles nor the kernel.
"""

from dataclasses import dataclass

from b2mount.cache.listing import Listing
from b2mount.fs.nodes import FileNode
from b2mount.fs.world import World
from b2mount.store.store import Action, FileVersion

SMALL = 1 << 20  # bytes; larger files are read ahead by themselves
NEAR = 8  # entries that may be left out (directories, files that are skipped) and still be a scan
LATE = 16  # entries behind it that others of several readers may be; a guess
FIRST = 4  # files ahead; doubled with every file that proves the guess right
MOST = 64


@dataclass(slots=True)
class _Scan:
    """Where somebody is in a directory."""

    listing: Listing
    begun: int  # index in the listing's order of the file read first
    at: int  # of the one read last
    streak: int = 0
    fetched_to: int = 0  # entries before this were looked at for fetching
    ahead: int = FIRST

    @property
    def is_done(self) -> bool:
        """Whether it proved right, here too, to the end of the directory."""
        return self.streak > 1 and self.at > self.begun and self.at + NEAR >= self.listing.places


class Scans:
    """The scans under way, by directory."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._scans: dict[int, _Scan] = {}
        self._latest: _Scan | None = None  # the one that went on last
        self.fetched = 0  # files fetched ahead
        self._waiting: set[str] = set()  # of those, not read yet
        self.hits = 0  # of those, read since

    @property
    def unread(self) -> int:
        """How many files were fetched ahead for nobody so far."""
        return self.fetched - self.hits

    def on_first_read(self, node: FileNode, version: FileVersion) -> None:
        """Take note that somebody who opened a stored file begins to read it."""
        if version.file_id in self._waiting:
            self._waiting.discard(version.file_id)
            self.hits += 1
        parent = node.parent
        if parent is None or node.gone:
            return
        listing = self._world.listings.peek(parent.bucket_id, parent.prefix)
        if listing is None:
            return
        scan = self._scans.get(parent.ino)
        if scan is None or scan.listing is not listing:
            self._begin(parent.ino, listing, node.key)
            return
        step = _step(listing, scan.at, node.key)
        if step is None:
            self._begin(parent.ino, listing, node.key)
        elif step > 0:
            scan.at += step
            scan.streak += 1
            scan.ahead = min(scan.ahead * 2, MOST) if scan.streak > 1 else FIRST
            self._latest = scan
            self._fetch_ahead(scan)

    def _begin(self, directory: int, listing: Listing, key: str) -> None:
        """Take a file for the first one of a scan, or for where one goes on that is done with a directory."""
        at = listing.place_of(key)
        if at is None:
            self._scans.pop(directory, None)
            return
        if len(self._scans) > 1000:
            self._scans.clear()
        before = self._latest
        scan = self._scans[directory] = _Scan(listing, at, at)
        if at < NEAR and before is not None and before.listing is not listing and before.is_done:
            scan.streak, scan.ahead = before.streak, before.ahead
            self._latest = scan
            self._fetch_ahead(scan)

    def _fetch_ahead(self, scan: _Scan) -> None:
        """Fetch the small files among those that follow, as far as a quarter of the memory holds them."""
        blocks = self._world.blocks
        if not self._world.budget.scans_ahead:
            return
        listing = scan.listing
        index = max(scan.at + 1, scan.fetched_to)
        stop = min(scan.at + 1 + scan.ahead, listing.places)
        if stop - index < scan.ahead // 4 and stop < listing.places:
            return  # a few at a time, together
        budget = blocks.memory_size // 4
        while index < stop:
            row = listing.version_at(index)
            index += 1
            if row is None or row.action is not Action.UPLOAD or not 0 < row.size <= SMALL:
                continue
            budget -= row.size
            if budget < 0:
                break
            if blocks.prefetch(row, 0, row.size, SMALL):
                self.fetched += 1
                self._waiting.add(row.file_id)
                if len(self._waiting) > 10 * MOST:
                    self._waiting.clear()  # nobody came for them
        scan.fetched_to = index


def _step(listing: Listing, at: int, key: str) -> int | None:
    """Return how far after *at* a key stands, 0 or less for one that came late; None where it is not near."""
    place = listing.place_of(key)
    return place - at if place is not None and -LATE <= place - at <= NEAR else None
