"""Recognise a scan, and fetch the next small files ahead of it.

grep -r, tar, rsync -c and backups read the files of a directory one after the other in the order in which it
was listed. Two files in a row are the sign; the files that follow are fetched together, more of them as the
guess proves right, none after a jump. So one file at a time is not one round trip at a time. Several readers
at once come a little out of order. Who comes to the end of a directory goes on in the next one, whose first
file is sign enough; who did so once has the files of those after it fetched before it comes there, where
they are known: a tree of small directories would be a round trip for each. Opening alone is no sign: rsync -X
opens every file for its attributes and reads none. A policy over listings and blocks; knows neither handles
nor the kernel.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from b2mount.cache.listing import Listing
from b2mount.cache.walks import parent_of
from b2mount.fs.nodes import DirectoryNode, FileNode
from b2mount.fs.world import World
from b2mount.store.store import Action, FileVersion

SMALL = 1 << 20  # bytes; larger files are read ahead by themselves
NEAR = 8  # entries that may be left out (directories, files that are skipped) and still be a scan
LATE = 16  # entries behind it that others of several readers may be; a guess
FIRST = 4  # files ahead; doubled with every file that proves the guess right
MOST = 64


@dataclass(slots=True)
class _Front:
    """Up to where entries were looked at for fetching: maybe some directories ahead of who reads."""

    bucket_id: str
    listing: Listing
    index: int  # entries of it before this
    total: int  # entries so far, over all directories
    bases: dict[str, int] = field(default_factory=dict)  # entries before those of a directory it came past


@dataclass(slots=True)
class _Scan:
    """Where somebody is in a directory."""

    listing: Listing
    front: _Front
    begun: int  # index in the listing's order of the file read first
    at: int  # of the one read last
    base: int = 0  # entries before the directory's, as the front counts
    streak: int = 0
    ahead: int = FIRST
    crossed: int = 0  # directories that were read to their end before, one after the other as they are listed

    @property
    def may_cross(self) -> bool:
        """Whether the next directory will be read, too, as far as one can tell."""
        return self.crossed > 1 or (self.crossed == 1 and self.at > self.begun)

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
            self._begin(parent, listing, node.key)
            return
        step = _step(listing, scan.at, node.key)
        if step is None:
            self._begin(parent, listing, node.key)
        elif step > 0:
            scan.at += step
            scan.streak += 1
            scan.ahead = min(scan.ahead * 2, MOST) if scan.streak > 1 else FIRST
            self._latest = scan
            self._fetch_ahead(scan)

    def _begin(self, directory: DirectoryNode, listing: Listing, key: str) -> None:
        """Take a file for the first one of a scan, or for where one goes on that is done with a directory."""
        at = listing.place_of(key)
        if at is None:
            self._scans.pop(directory.ino, None)
            return
        if len(self._scans) > 1000:
            self._scans.clear()
        before = self._latest
        scan = _Scan(listing, _Front(directory.bucket_id, listing, at + 1, at + 1), at, at)
        self._scans[directory.ino] = scan
        if at < NEAR and before is not None and before.listing is not listing and before.is_done:
            scan.streak, scan.ahead = before.streak, before.ahead
            if self._follows(before.listing.directory, scan.front):
                scan.crossed = before.crossed + 1
            base = before.front.bases.pop(listing.directory, None)
            if base is not None:
                scan.front, scan.base = before.front, base
                ahead = {name: total for name, total in before.front.bases.items() if total > base}
                before.front.bases = ahead  # of those it came past nobody needs to know
            self._latest = scan
            self._fetch_ahead(scan)

    def _fetch_ahead(self, scan: _Scan) -> None:
        """Fetch the small files among those that follow, as far as a quarter of the memory holds them."""
        if not self._world.budget.scans_ahead:
            return
        front, stop = scan.front, scan.base + scan.at + 1 + scan.ahead
        if front.listing is scan.listing and front.index <= scan.at:  # overtaken
            front.index, front.total = scan.at + 1, scan.base + scan.at + 1
        is_end_near = front.listing.complete and front.listing.places - front.index < stop - front.total
        if stop - front.total < scan.ahead // 4 and not is_end_near:
            return  # a few at a time, together
        budget = self._world.blocks.memory_size // 4
        while front.total < stop and budget > 0:
            if front.index >= front.listing.places:
                if not (scan.may_cross and self._go_on(front)):
                    return
                continue
            row = front.listing.version_at(front.index)
            front.index += 1
            front.total += 1
            if row is not None and row.action is Action.UPLOAD and 0 < row.size <= SMALL:
                budget -= row.size
                self._fetch(row)

    def _fetch(self, row: FileVersion) -> None:
        if self._world.blocks.prefetch(row, 0, row.size, SMALL):
            self.fetched += 1
            self._waiting.add(row.file_id)
            if len(self._waiting) > 10 * MOST:
                self._waiting.clear()  # nobody came for them

    def _go_on(self, front: _Front) -> bool:
        """Go on with the directory that a walk comes to next; False where that is not known."""
        if front.listing.has_folders or not front.listing.complete:
            return False
        directory = next(self._after(front.bucket_id, front.listing.directory), None)
        following = self._world.listings.peek(front.bucket_id, directory) if directory is not None else None
        if following is None:
            return False
        front.total += 1  # however many of them are empty
        front.listing, front.index = following, 0
        front.bases[following.directory] = front.total
        return True

    def _follows(self, directory: str, front: _Front) -> bool:
        return front.listing.directory in self._after(front.bucket_id, directory)

    def _after(self, bucket_id: str, directory: str) -> Iterator[str]:
        """Yield the directories that stand near behind one."""
        above = parent_of(directory)
        parent = self._world.listings.peek(bucket_id, above) if above is not None else None
        place = parent.place_of(directory[len(above or "") :]) if parent is not None else None
        if parent is None or place is None:
            return
        for at in range(place + 1, min(place + 1 + NEAR, parent.places)):
            key = parent.key_at(at)
            if key.endswith("/") and parent.is_live(at):
                yield f"{above}{key}"


def _step(listing: Listing, at: int, key: str) -> int | None:
    """Return how far after *at* a key stands, 0 or less for one that came late; None where it is not near."""
    place = listing.place_of(key)
    return place - at if place is not None and -LATE <= place - at <= NEAR else None
