"""One directory as B2 told it: the rows of a delimiter listing, page after page, and when they were told.

Rows are kept by key: `name` for a file, `name/` for what lies under a directory; the two may stand side by
side. Pages stay packed (store/packed.py), some 140 bytes a name, and keys are found by bisection, since B2
lists in byte order; an unfinished listing thus knows all names before its cursor. Each key that a page
brought has a place, a number that never changes; own additions have the places after the last of them. Pure:
the time is given, calls are listings.py's matter.
"""

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import trio

from b2mount.core.names import PLACEHOLDER, is_placeholder
from b2mount.store.packed import Rows, pack
from b2mount.store.store import Action, FileVersion, Page

if TYPE_CHECKING:  # it knows listings
    from b2mount.cache.ahead import Ahead

PROBES_KEPT = 10_000  # answers about single names; a guess, some 8 MB

LIVE, GONE, CHANGED = 0, 1, 2  # what is known of a place: as told, nothing any more, another version
NOT_GONE = re.compile(rb"[^\x01]")


class Chunk:
    """The keys of one directory in one page, in order."""

    __slots__ = ("_cut", "_picks", "first", "rows", "state")

    def __init__(self, rows: Rows, cut: int, first: int, picks: "array[int] | None" = None) -> None:
        """Take of *rows* those at *picks* (all where None); their keys begin *cut* bytes into the names.

        *first* is the place of the first of them.
        """
        self.rows = rows
        self.first = first
        self._cut = cut
        self._picks = picks
        self.state: bytearray | None = None  # LIVE, GONE or CHANGED; None while all are LIVE

    def __len__(self) -> int:
        return len(self.rows) if self._picks is None else len(self._picks)

    def __getitem__(self, at: int) -> bytes:
        return self.key(at)

    def row(self, at: int) -> int:
        """Return which row of the page stands there."""
        return at if self._picks is None else self._picks[at]

    def key(self, at: int) -> bytes:
        """Return the key that stands there."""
        names = self.rows.names
        row = at if self._picks is None else self._picks[at]
        key = names.whole[names.ends[row] + self._cut : names.ends[row + 1]]
        if self._picks is None:
            return key
        slash = key.find(b"/")  # a row of a flat listing stands for the directory that it lies under
        return key if slash < 0 else key[: slash + 1]

    def version(self, at: int) -> FileVersion:
        """Return what B2 told of the key that stands there."""
        row = self.row(at)
        if self._picks is not None:
            name = self.rows.names[row]
            slash = name.find(b"/", self._cut)
            if slash >= 0:
                return folder_row(name[: slash + 1].decode("utf-8", "surrogatepass"))
        return self.rows.version(row)

    def find(self, key: bytes) -> int | None:
        """Return where a key stands; None where it does not."""
        at = bisect_left(self, key)
        return at if at < len(self) and self.key(at) == key else None

    def summary(self) -> tuple[bool, int]:
        """Say whether there are directories, and when the newest file that shows was uploaded."""
        times = self.rows.uploaded_ms
        if self._picks is None and self.state is None:
            return bool(self.rows.has_folders), max(times)  # a directory's is nought
        names, cut = self.rows.names, self._cut
        folders, newest = False, 0
        for at in range(len(self)):
            row = self.row(at)
            if self.rows.is_folder(row) or b"/" in names[row][cut:]:
                folders = True
            elif self.is_live(at):
                newest = max(newest, times[row])
        return folders, newest

    def mark(self, at: int, state: int) -> None:
        """Take note of what has become of the key that stands there."""
        if self.state is None:
            self.state = bytearray(len(self))
        self.state[at] = state

    def is_live(self, at: int) -> bool:
        """Say whether something still shows under the key that stands there."""
        return self.state is None or self.state[at] != GONE


class RowsByKey(Mapping[str, FileVersion]):
    """What a listing shows, as a mapping."""

    __slots__ = ("_listing",)

    def __init__(self, listing: "Listing") -> None:
        self._listing = listing

    def __getitem__(self, key: str) -> FileVersion:
        row = self._listing.get(key)
        if row is None:
            raise KeyError(key)
        return row

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._listing.has(key)

    def __iter__(self) -> Iterator[str]:
        listing = self._listing
        return (key for key in map(listing.key_at, range(listing.places)) if listing.has(key))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Listing:
    """The names of one directory, growing by pages until it is complete."""

    __slots__ = (
        "_added",
        "_changed",
        "_extra",
        "_extra_at",
        "_firsts",
        "ahead",
        "began",
        "chunks",
        "complete",
        "directory",
        "doubted",
        "has_folders",
        "lasting",
        "live_hint",
        "lock",
        "marker",
        "marker_names",
        "newest_ms",
        "next_start",
        "pages",
        "prefix",
        "probed",
        "probes",
        "seeded",
        "started",
        "told",
    )

    def __init__(self, directory: str, prefix: str, started: float) -> None:
        """Begin an empty listing of *directory*, asked for by *prefix* at *started* (trio's clock)."""
        self.directory = directory
        self.prefix = prefix  # longer than the directory where the key's prefix ends within a component
        self.started = self.began = started
        self.doubted = False  # others may have changed what it tells: it is believed no more
        self.seeded = False  # told by nobody: made up for a directory that appeared here
        self.chunks: list[Chunk] = []
        self._firsts: list[int] = []  # the first places of the chunks
        self.told = 0  # places of what pages brought
        self._changed: dict[int, FileVersion] = {}  # by place, where it is CHANGED
        self._added: dict[str, FileVersion] = {}  # what no page brought
        self._extra: list[str] = []  # keys of those, in the order of their places; some may have gone
        self._extra_at: dict[str, int] = {}
        self.has_folders = False  # no: no file can have a directory of the same name beside it
        self.marker: FileVersion | None = (
            None  # the placeholder that keeps the directory, with its attributes
        )
        self.marker_names: set[str] = set()  # every name that keeps it: the web page's, the S3 tools'
        self.live_hint = 0  # a place where somebody last found a name that is still there
        self.complete = False
        self.lasting = False  # shows a moment that is past, so nothing can change it
        self.next_start: str | None = None
        self.newest_ms = 0  # upload time of the newest file seen
        self.pages = 0
        self.probes = 0  # single names asked for because the pages did not know them
        self.probed: dict[str, tuple[FileVersion | None, float]] = {}
        self.lock = trio.Lock()  # held by the task that fetches the next page
        self.ahead: Ahead | None = None  # pages beyond the next that were asked for

    # --- growing -----------------------------------------------------------------------------------------

    def take(self, page: Page) -> None:
        """Take the next page of a delimiter listing."""
        rows = pack(page.rows)
        cut = len(_encode(self.directory))
        behind = self._last_key()
        if rows.in_order and (not len(rows) or behind is None or rows.names[0][cut:] > behind):
            self.extend(Chunk(rows, cut, self.told))
        else:  # B2 may tell a directory twice, at the end of a page and at the start of the next
            for row in rows:
                self.add(row)
        self.next_start = page.next_name
        self.complete = page.next_name is None
        self.pages += 1

    def extend(self, chunk: Chunk) -> None:
        """Take the keys of a page of a delimiter listing, all after those known; placeholders show not."""
        if not len(chunk):
            return
        self.chunks.append(chunk)
        self._firsts.append(chunk.first)
        self.told += len(chunk)
        folders, newest = chunk.summary()
        self.has_folders = self.has_folders or folders
        for key in (b"", PLACEHOLDER.encode()):
            at = chunk.find(key)
            if at is not None and is_placeholder(key.decode(), chunk.rows.sizes[chunk.row(at)]):
                chunk.mark(at, GONE)
                self._mark(chunk.version(at))
                _, newest = chunk.summary()
        self.newest_ms = max(self.newest_ms, newest)
        if self.probed:
            self.probed = {key: found for key, found in self.probed.items() if self._place(key) is None}

    def add(self, row: FileVersion) -> None:
        """Take one row of a page of a delimiter listing, wherever it stands."""
        rest = row.name[len(self.directory) :]
        if row.action is not Action.FOLDER and is_placeholder(rest, row.size):
            self._mark(row)
        else:
            self.put(rest, row)

    def _mark(self, row: FileVersion) -> None:
        self.marker_names.add(row.name)
        if self.marker is None or row.name.endswith("/" + PLACEHOLDER) or row.name == PLACEHOLDER:
            self.marker = row

    def put(self, key: str, row: FileVersion) -> None:
        """Show *row* under *key*, new or in place of another."""
        place = self._place(key)
        if place is not None:
            self._changed[place] = row
            self._set_state(place, CHANGED)
        else:
            if key not in self._extra_at:
                self._extra_at[key] = len(self._extra)
                self._extra.append(key)
            self._added[key] = row
        self.has_folders = self.has_folders or key.endswith("/")
        self.newest_ms = max(self.newest_ms, row.uploaded_ms)
        self.probed.pop(key, None)

    def drop(self, key: str) -> None:
        """Show nothing under *key* any more."""
        place = self._place(key)
        if place is not None:
            self._changed.pop(place, None)
            self._set_state(place, GONE)
        self._added.pop(key, None)
        self.probed.pop(key, None)

    def remember_probe(self, key: str, row: FileVersion | None, now: float) -> None:
        """Take note of what B2 told of one key by itself."""
        if len(self.probed) >= PROBES_KEPT:
            self.probed.clear()
        self.probed[key] = (row, now)

    # --- asking by key -----------------------------------------------------------------------------------

    @property
    def rows(self) -> Mapping[str, FileVersion]:
        """All that shows, by key."""
        return RowsByKey(self)

    def get(self, key: str) -> FileVersion | None:
        """Return what shows under a key."""
        place = self._place(key)
        return self._added.get(key) if place is None else self.version_at(place)

    def has(self, key: str) -> bool:
        """Say whether anything shows under a key."""
        place = self._place(key)
        return key in self._added if place is None else self.is_live(place)

    def knows(self, key: str) -> bool:
        """Say whether the pages so far settle if there is such a key."""
        if self.complete or self.has(key):
            return True
        name = self.directory + key
        if self.next_start is None or name >= self.next_start:
            return False
        # the next page may begin with a directory that is named there by the first file in it
        return not (key.endswith("/") and self.next_start.startswith(name))

    @property
    def knows_marker(self) -> bool:
        """Whether it is settled if the directory has a placeholder, and which attributes."""
        return self.complete or self.marker is not None or self.knows(PLACEHOLDER)

    def __len__(self) -> int:
        return self.told + len(self._added)

    # --- asking by place ---------------------------------------------------------------------------------

    @property
    def places(self) -> int:
        """How many places there are: those that pages brought, then those of own additions."""
        return self.told + len(self._extra)

    def place_of(self, key: str) -> int | None:
        """Return the place of a key; None where it has none."""
        place = self._place(key)
        if place is None and key in self._extra_at:
            return self.told + self._extra_at[key]
        return place

    def key_at(self, place: int) -> str:
        """Return the key that has a place."""
        if place >= self.told:
            return self._extra[place - self.told]
        chunk = self.chunk_at(place)
        return chunk.key(place - chunk.first).decode("utf-8", "surrogatepass")

    def version_at(self, place: int) -> FileVersion | None:
        """Return what shows at a place; None for nothing any more."""
        if place >= self.told:
            key = self._extra[place - self.told]
            return self._added.get(key) if self._place(key) is None else None
        changed = self._changed.get(place)
        if changed is not None:
            return changed
        chunk = self.chunk_at(place)
        return chunk.version(place - chunk.first) if chunk.is_live(place - chunk.first) else None

    def is_live(self, place: int) -> bool:
        """Say whether anything shows at a place."""
        if place >= self.told:
            key = self._extra[place - self.told]
            return key in self._added and self._place(key) is None
        chunk = self.chunk_at(place)
        return chunk.is_live(place - chunk.first)

    def chunk_at(self, place: int) -> Chunk:
        """Return the chunk that a place lies in."""
        return self.chunks[bisect_right(self._firsts, place) - 1]

    @property
    def has_added(self) -> bool:
        """Whether own changes added anything that no page brought."""
        return bool(self._added)

    def was_told(self, key: str) -> bool:
        """Say whether a page brought a key, whatever has become of it."""
        return self._place(key) is not None

    def first_live(self, start: int) -> int | None:
        """Return the first place from *start* on at which something shows."""
        while start < self.told:
            chunk = self.chunk_at(start)
            if chunk.state is None:
                return start
            found = NOT_GONE.search(chunk.state, start - chunk.first)
            if found is not None:
                return chunk.first + found.start()
            start = chunk.first + len(chunk)
        return next((place for place in range(start, self.places) if self.is_live(place)), None)

    def added_keys(self) -> list[str]:
        """Return the keys that own changes added."""
        return [key for key in self._added if self._place(key) is None]

    def twin_of(self, place: int, key: bytes) -> bool | None:
        """Say whether a directory stands beside the file *key* at a place; None where a page must tell.

        Between the two lie only names that begin with the file's, so mostly the next one tells.
        """
        text = key.decode("utf-8", "surrogatepass") + "/"
        if text in self._added:
            return True
        following = place + 1
        if following < self.told:
            chunk = self.chunk_at(following)
            if not chunk.key(following - chunk.first).startswith(key):
                return False
        elif not self.complete:
            return None
        return self.has(text) if self.knows(text) else None

    # ------------------------------------------------------------------------------------------------------

    def _place(self, key: str) -> int | None:
        """Return the place of a key that a page brought."""
        if not self.chunks:
            return None
        raw = _encode(key)
        low, high = 0, len(self.chunks) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self.chunks[middle].key(0) <= raw:
                low = middle
            else:
                high = middle - 1
        chunk = self.chunks[low]
        at = chunk.find(raw)
        return None if at is None else chunk.first + at

    def _set_state(self, place: int, state: int) -> None:
        chunk = self.chunk_at(place)
        chunk.mark(place - chunk.first, state)

    def _last_key(self) -> bytes | None:
        return self.chunks[-1].key(len(self.chunks[-1]) - 1) if self.chunks else None


def split_flat_rows(
    root: str, rows: Sequence[FileVersion], *, start: str, next_start: str | None, started: float
) -> tuple[dict[str, Listing], list[int]]:
    """Make the listings of all directories that a flat listing under *root* covers from end to end.

    Beside them stands how many rows each name of *root* has that is told of from end to end.

    *rows* begin at the name *start* and end before *next_start* (None: at the end of *root*). Only those
    directories are returned whose whole range of names lies between the two, *root* included.
    """
    packed = pack(rows)
    if not packed.in_order:
        packed = pack(sorted(packed, key=lambda row: _encode(row.name)))
    listings: dict[str, Listing] = {}
    picks_of = _picks_by_directory(packed, _encode(root))
    for raw, picks in picks_of.items():
        directory = raw.decode("utf-8", "surrogatepass")
        if directory < start or (next_start is not None and next_start.startswith(directory)):
            continue  # some of its names lie outside
        listing = listings[directory] = Listing(directory, directory, started)
        listing.extend(Chunk(packed, len(raw), 0, picks))
        listing.complete, listing.pages = True, 1
    if not len(packed) and next_start is None:
        listing = listings[root] = Listing(root, root, started)
        listing.complete, listing.pages = True, 1
    firsts = list(picks_of.get(_encode(root), ()))
    firsts += [len(packed)] if next_start is None else []
    return listings, [after - first for first, after in pairwise(firsts)]


def _picks_by_directory(rows: Rows, root: bytes) -> dict[bytes, "array[int]"]:
    """Sort the rows of a flat listing by directory; the first under a directory also stands for it above."""
    found: dict[bytes, array[int]] = {}
    names = rows.names
    before, picks = None, array("I")
    for at in range(len(rows)):
        name = names[at]
        directory = name[: name.rfind(b"/") + 1]
        if directory != before:
            before = directory
            if directory not in found:
                _stand_for(found, directory, root, at)
            picks = found[directory]
        picks.append(at)
    return found


def _stand_for(found: dict[bytes, "array[int]"], directory: bytes, root: bytes, at: int) -> None:
    """Begin a directory whose first row is *at*, and those above that have not begun."""
    found[directory] = array("I")
    while len(directory) > len(root):
        directory = directory[: directory.rfind(b"/", 0, len(directory) - 1) + 1]
        is_new = directory not in found
        found.setdefault(directory, array("I")).append(at)
        if not is_new:
            return


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def folder_row(name: str) -> FileVersion:
    """Return the row of what lies under a directory; *name* ends in a slash."""
    return FileVersion(name=name, file_id="", size=0, uploaded_ms=0, action=Action.FOLDER)
