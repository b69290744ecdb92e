"""One directory as B2 told it: the rows of a delimiter listing, page after page, and when they were told.

Rows are kept by key: `name` for a file, `name/` for what lies under a directory; the two may stand side by
side. Since B2 lists in byte order, an unfinished listing already knows all names before its cursor. Pure: the
time is given, calls are listings.py's matter.
"""

import trio

from b2mount.core.names import PLACEHOLDER, is_placeholder
from b2mount.store.store import Action, FileVersion


class Listing:
    """The names of one directory, growing by pages until it is complete."""

    __slots__ = (
        "began",
        "complete",
        "directory",
        "dropped",
        "live_hint",
        "lock",
        "marker",
        "marker_names",
        "newest_ms",
        "next_start",
        "order",
        "pages",
        "prefix",
        "probed",
        "probes",
        "rows",
        "started",
    )

    def __init__(self, directory: str, prefix: str, started: float) -> None:
        """Begin an empty listing of *directory*, asked for by *prefix* at *started* (trio's clock)."""
        self.directory = directory
        self.prefix = prefix  # longer than the directory where the key's prefix ends within a component
        self.started = self.began = started
        self.rows: dict[str, FileVersion] = {}
        self.order: list[str] = []  # keys as they came, each once; some may have left `rows` since
        self.dropped: set[str] = set()  # those that have
        self.marker: FileVersion | None = (
            None  # the placeholder that keeps the directory, with its attributes
        )
        self.marker_names: set[str] = set()  # every name that keeps it: the web page's, the S3 tools'
        self.live_hint = 0  # where in `order` somebody last found a name that is still there
        self.complete = False
        self.next_start: str | None = None
        self.newest_ms = 0  # upload time of the newest file seen
        self.pages = 0
        self.probes = 0  # single names asked for because the pages did not know them
        self.probed: dict[str, tuple[FileVersion | None, float]] = {}
        self.lock = trio.Lock()  # held by the task that fetches the next page

    def add(self, row: FileVersion) -> None:
        """Take one row of a page of a delimiter listing."""
        rest = row.name[len(self.directory) :]
        if row.action is not Action.FOLDER and is_placeholder(rest, row.size):
            self.marker_names.add(row.name)
            if self.marker is None or rest == PLACEHOLDER:
                self.marker = row
            return
        self.put(rest, row)

    def put(self, key: str, row: FileVersion) -> None:
        """Show *row* under *key*, new or in place of another."""
        if key in self.dropped:
            self.dropped.remove(key)
        elif key not in self.rows:
            self.order.append(key)
        self.rows[key] = row
        self.newest_ms = max(self.newest_ms, row.uploaded_ms)
        self.probed.pop(key, None)

    def drop(self, key: str) -> None:
        """Show nothing under *key* any more."""
        if self.rows.pop(key, None) is not None:
            self.dropped.add(key)
        self.probed.pop(key, None)

    def knows(self, key: str) -> bool:
        """Say whether the pages so far settle if there is such a key."""
        if self.complete or key in self.rows:
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
        return len(self.rows)


def split_flat_rows(
    root: str, rows: list[FileVersion], *, start: str, next_start: str | None, started: float
) -> dict[str, Listing]:
    """Make the listings of all directories that a flat listing under *root* covers from end to end.

    *rows* begin at the name *start* and end before *next_start* (None: at the end of *root*). Only those
    directories are returned whose whole range of names lies between the two, *root* included.
    """
    listings: dict[str, Listing] = {}
    seen: set[str] = set()

    def listing_of(directory: str) -> Listing:
        if directory not in listings:
            listings[directory] = Listing(directory, directory, started)
        return listings[directory]

    if not rows and next_start is None:
        listing_of(root)
    for row in rows:
        slash = row.name.rfind("/")
        directory = row.name[: slash + 1]
        listing_of(directory).add(row)
        while directory not in seen and len(directory) > len(root):
            seen.add(directory)
            parent = directory[: directory.rfind("/", 0, len(directory) - 1) + 1]
            folder = FileVersion(name=directory, file_id="", size=0, uploaded_ms=0, action=Action.FOLDER)
            listing_of(parent).put(directory[len(parent) :], folder)
            directory = parent
    complete = {}
    for directory, listing in listings.items():
        if directory >= start and not (next_start is not None and next_start.startswith(directory)):
            listing.complete = True
            listing.pages = 1
            complete[directory] = listing
    return complete
