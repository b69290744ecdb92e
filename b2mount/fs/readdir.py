"""List a directory: what B2 tells page by page, less what was removed here, and what was added here.

An open directory remembers the keys that it has shown, so an offset means the same entry however the
directory changes meanwhile; entries that appear or go while it is read may or may not be shown, as POSIX
allows.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import trio

from b2mount.cache.listing import Listing
from b2mount.core.access import Operation
from b2mount.core.names import fits_in_entry, shown
from b2mount.core.scope import Place, admits, next_step, place
from b2mount.fs.nodes import Content, DirectoryNode, Node
from b2mount.fs.overlay import Fact, Mark, shows
from b2mount.fs.tree import Tree
from b2mount.fs.world import World
from b2mount.journal.drafts import Draft
from b2mount.store.store import FileVersion


@dataclass(slots=True)
class OpenDirectory:
    """What one open directory handle has shown so far."""

    node: DirectoryNode
    keys: list[str] = field(default_factory=list)
    listing: Listing | None = None
    position: int = 0  # in the listing's order
    finished: bool = False


class DirectoryEntry(NamedTuple):
    """One entry to show: its name, its node, until when to believe it, and the offset that follows it."""

    name: str
    node: Node
    until: float
    next_offset: int


class _View(NamedTuple):
    """What is the same for all entries that are shown between two awaits."""

    node: DirectoryNode
    prefix: str
    is_made_up: bool  # above the key's prefix
    facts: Mapping[str, Fact]  # own changes
    rows: Mapping[str, FileVersion]
    listing: Listing | None
    until: float


class Readdir:
    """The reading of directories."""

    def __init__(self, world: World, tree: Tree) -> None:
        self._world = world
        self._tree = tree

    def open(self, node: DirectoryNode) -> OpenDirectory:
        """Begin to read a directory. Raises AccessDenied without listFiles."""
        if not node.shows_buckets:
            self._world.demand(Operation.LIST, node.prefix)
        return OpenDirectory(node)

    async def entries(self, handle: OpenDirectory, offset: int) -> AsyncIterator[DirectoryEntry]:
        """Yield entries from *offset* on; the first page is asked for when it is needed, and so on."""
        if offset == 0 and handle.keys:
            handle.keys, handle.listing, handle.position = [], None, 0  # rewinddir: look afresh
            handle.finished = False
        while True:
            view = self._view(handle)
            while offset < len(handle.keys):
                entry = self._entry(view, handle.keys[offset], offset + 1)
                offset += 1
                if entry is not None:
                    yield entry
            if not await self._more(handle):
                return

    def _view(self, handle: OpenDirectory) -> _View:
        """Gather what is the same for all entries, up to the next await."""
        world, node = self._world, handle.node
        is_bucket_list = node.shows_buckets
        prefix = "" if is_bucket_list else node.prefix
        return _View(
            node=node,
            prefix=prefix,
            is_made_up=not is_bucket_list and place(prefix, world.scope.limit) is Place.ABOVE,
            facts=world.overlay.under(node.bucket_id, prefix),
            rows=handle.listing.rows if handle.listing is not None else {},
            listing=handle.listing,
            until=world.listings.until(handle.listing)
            if handle.listing is not None
            else trio.current_time() + world.options.listing_ttl,
        )

    def _entry(self, view: _View, key: str, next_offset: int) -> DirectoryEntry | None:
        """Return the entry of a key shown before or now; None for one that has gone meanwhile."""
        node = view.node
        if node.shows_buckets:
            bucket = node.children.get(key)
            return None if bucket is None else DirectoryEntry(key[:-1], bucket, view.until, next_offset)
        if view.is_made_up:
            child: Node = self._tree.directory_node(node, key)
            return DirectoryEntry(shown(key[:-1]), child, view.until, next_offset)
        # `dir/` as a file inside dir/ has no overlay entry: that name is the directory's there
        fact = self._world.overlay.get(node.bucket_id, view.prefix + key) if view.facts and key else None
        row = view.rows.get(key)
        if row is None and view.listing is not None and fact is None:
            newer = self._world.listings.peek(node.bucket_id, view.prefix)
            row = newer.rows.get(key) if newer is not None else None  # an own addition, in B2 by now
        if row is None if fact is None else not shows(key, fact):
            return None
        if key.endswith("/"):
            name = shown(key[:-1])
            child = self._tree.directory_node(node, key)
        else:
            content: Content | None = fact if isinstance(fact, (Draft, FileVersion)) else row
            assert content is not None
            name = shown(key, twin=self._has_directory(view, key))
            child = self._tree.file_node(node, key, content)
        if not fits_in_entry(name):
            self._world.nodes.drop_if_unused(child)
            return None
        return DirectoryEntry(name, child, view.until, next_offset)

    def _has_directory(self, view: _View, key: str) -> bool:
        """Say whether a directory of the same name stands beside a file."""
        fact = view.facts.get(key + "/") if view.facts else None
        return fact is Mark.DIRECTORY if fact is not None else key + "/" in view.rows

    async def _more(self, handle: OpenDirectory) -> bool:
        """Find further keys; False at the end."""
        if handle.finished:
            return False
        node = handle.node
        if node.shows_buckets:
            for bucket in await self._tree.buckets():
                self._tree.bucket_node(node, bucket)
                handle.keys.append(bucket.name + "/")
            handle.finished = True
            return True
        limit = self._world.scope.limit
        if place(node.prefix, limit) is Place.ABOVE:
            handle.keys.append(next_step(node.prefix, limit) + "/")
            handle.finished = True
            return True
        if handle.listing is None:
            handle.listing = await self._world.listings.get(node.bucket_id, node.prefix)
        listing = handle.listing
        if handle.position < len(listing.order):
            handle.keys.extend(listing.order[handle.position :])
            handle.position = len(listing.order)
            self._world.listings.extend_ahead(node.bucket_id, listing)
            return True
        if not listing.complete:
            await self._world.listings.extend(node.bucket_id, listing)
            return True
        handle.finished = True
        facts = self._world.overlay.under(node.bucket_id, node.prefix)
        before = set(handle.keys) if facts else set()  # a key may have left the rows and come again
        added = [
            key
            for key, fact in facts.items()
            if shows(key, fact) and key not in before and admits(node.prefix + key, limit)
        ]
        handle.keys.extend(added)
        return bool(added)
