"""The directory `.b2versions` of a mount with --versions: every version of every name, and past moments.

    .b2versions/DIR/NAME/2026-01-31T12:00:00.000Z    one version; of a hide marker `...Z.hidden`, empty
    .b2versions/DIR/NAME%b2-file/...                 where a directory of that name was there at any time
    .b2versions/@2026-01-31T12:00:00Z/DIR/NAME       all as it was; any moment that core/moments.py reads

It is in the root, where it is found by name and not listed, so that nobody walks into it by chance. A file of
the user's own that has its name shows as `.b2versions%b2-file`, a directory as `%b2-versions`; a name that
would read as a moment shows as `%b2-at...`. Nothing in it can be changed.
"""

import time
from dataclasses import dataclass

import trio
from cachetools import TTLCache

from b2mount.core.access import Operation
from b2mount.core.errors import IllegalName, NoSuchFile, NotPermitted, ReadOnlyMount
from b2mount.core.moments import is_relative
from b2mount.core.names import parse_shown, shown
from b2mount.core.scope import Place, admits, place
from b2mount.core.views import END_OF_NAME, VERSIONS_ROOT, View
from b2mount.fs.local_time import read_moment
from b2mount.fs.nodes import DirectoryNode
from b2mount.fs.world import World
from b2mount.store.store import FileVersion

OWN_DIRECTORY = "%b2-versions"  # the user's own directory of the name
OWN_FILE = shown(VERSIONS_ROOT, twin=True)
AT = "@"
OWN_AT = "%b2-at"  # a name of the user's own that reads as a moment
ROOT_KEY = VERSIONS_ROOT + "/"
PINNED_SECONDS = 3600.0  # since its last use, for which `@yesterday` stays the moment that it was at first
PINNED = 1000  # such names at once


@dataclass(frozen=True, slots=True)
class Seen:
    """What an entry of a history is: the versions of a name, a directory of others, or one version."""

    versions: bool
    directory: bool
    version: FileVersion | None
    until: float  # seconds, trio's clock


class Views:
    """What `.b2versions` shows; nodes are made by the tree."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pinned: TTLCache[str, int] = TTLCache(PINNED, PINNED_SECONDS, timer=trio.current_time)

    # --- where `.b2versions` begins ----------------------------------------------------------------------

    def begins_in(self, directory: DirectoryNode) -> bool:
        """Say whether `.b2versions` is in this directory: in the root, with --versions."""
        return self._world.options.versions and directory.parent is None

    def is_root(self, directory: DirectoryNode) -> bool:
        """Say whether this directory is `.b2versions`."""
        return directory.entry_key == ROOT_KEY and directory.view is not None

    def demand_present(self, directory: DirectoryNode, entry: str) -> None:
        """Raise where an entry may not be changed since it is, or lies in, `.b2versions`."""
        if directory.is_past:
            raise ReadOnlyMount("what is shown lies in the past, and cannot be changed")
        if entry == VERSIONS_ROOT and self.begins_in(directory):
            raise NotPermitted(f"{VERSIONS_ROOT} is where --versions shows versions; it cannot be changed")

    def root_of(self, root: DirectoryNode) -> DirectoryNode:
        """Return the node of `.b2versions`."""
        return self._begin(root, ROOT_KEY, root, View(None))

    def moment_of(self, versions_root: DirectoryNode, entry: str) -> DirectoryNode | None:
        """Return the node of `@TIME` in `.b2versions`; None where the entry names no moment of the past."""
        if not reads_as_moment(entry):
            return None
        at_ms = self._moment(entry)
        root = versions_root.parent
        if at_ms > time.time_ns() // 1_000_000 or root is None:
            return None
        return self._begin(versions_root, entry + "/", root, View(at_ms))

    def _moment(self, entry: str) -> int:
        """Return the moment of an entry, the same as long as somebody comes for it."""
        if not is_relative(entry.removeprefix(AT)):
            return _read(entry)
        moment = self._pinned.get(entry)
        self._pinned[entry] = moment = _read(entry) if moment is None else moment
        return moment

    def _begin(self, parent: DirectoryNode, key: str, root: DirectoryNode, view: View) -> DirectoryNode:
        """Return the node where a look at what the root shows begins."""
        bucket_id = "" if root.shows_buckets else view.bucket_id(root.bucket_id)
        node = parent.children.get(key)
        if isinstance(node, DirectoryNode):
            if node.view == view:
                return node
            self._world.nodes.detach(node)
        return self._world.nodes.new_directory(
            parent, root.key, bucket_id, root.bucket_name, entry_key=key, view=view
        )

    # --- names -------------------------------------------------------------------------------------------

    def name_of(self, node: DirectoryNode, key: str, *, twin: bool) -> str:
        """Return the entry for a key of a directory's listing; *twin*: a file beside a directory."""
        component = key.removesuffix("/")
        if self.begins_in(node) and component == VERSIONS_ROOT:
            return OWN_DIRECTORY if key.endswith("/") else OWN_FILE
        if component.endswith(END_OF_NAME) and is_history(node):
            component = component.removesuffix(END_OF_NAME)
        text = shown(component, twin=twin)
        if self.is_root(node) and reads_as_moment(text):
            return OWN_AT + text.removeprefix(AT)
        return text

    async def look(self, parent: DirectoryNode, component: str) -> Seen:
        """Say what a component of a directory in the look at all versions is."""
        limit = self._world.scope.limit
        self._world.demand(Operation.LOOK_UP, parent.prefix + component + "/")
        listings = self._world.listings
        if parent.key.endswith(END_OF_NAME + "/"):
            found = await listings.find(parent.bucket_id, parent.prefix, component)
            return Seen(False, False, found.file, found.until)
        if not admits(parent.prefix + component + "/", limit):
            return Seen(False, False, None, trio.current_time())
        named = await listings.find(parent.bucket_id, parent.prefix, component + END_OF_NAME)
        under = await listings.find(parent.bucket_id, parent.prefix, component)
        until = min(named.until, under.until)
        return Seen(named.folder is not None, under.folder is not None, None, until)

    def has_history(self, directory: DirectoryNode) -> bool:
        """Say whether a directory's entries are found by `look`: not so above the key's prefix."""
        if not is_history(directory) or directory.shows_buckets:
            return False
        return place(directory.prefix, self._world.scope.limit) is not Place.ABOVE


def is_history(directory: DirectoryNode) -> bool:
    """Say whether a directory lies in the look at all versions."""
    return directory.view is not None and directory.view.at_ms is None


def reads_as_moment(entry: str) -> bool:
    """Say whether an entry of `.b2versions` names a moment."""
    if not entry.startswith(AT):
        return False
    try:
        _read(entry)
    except ValueError:
        return False
    return True


def parse_entry(entry: str, *, in_root: bool) -> tuple[str, bool]:
    """Return the component and whether it is a file beside a directory. Raises NoSuchFile."""
    if in_root and entry.startswith(OWN_AT):
        entry = AT + entry.removeprefix(OWN_AT)
    try:
        return parse_shown(entry)
    except IllegalName as exc:
        raise NoSuchFile(str(exc)) from exc


def _read(entry: str) -> int:
    text = entry.removeprefix(AT)
    return read_moment(AT + text if text.replace(".", "", 1).isdecimal() else text)
