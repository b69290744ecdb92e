"""List a directory: what B2 tells page by page, less what was removed here, and what was added here.

An open directory keeps to the listing it began with, in which every name has a place that never changes, so
an offset means the same entry however the directory changes meanwhile: what exists all the time is shown,
once. Entries that appear or go while it is read may or may not be shown, as POSIX allows. What is known is
given at once; who wants more waits for the next page, which is fetched ahead.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import trio

from b2mount.cache.listing import GONE, LIVE, Chunk, Listing
from b2mount.core.access import Operation
from b2mount.core.names import MAX_ENTRY_BYTES, shown
from b2mount.core.scope import Place, admits, next_step, place
from b2mount.core.views import END_OF_NAME
from b2mount.fs.nodes import Content, DirectoryNode, Node
from b2mount.fs.overlay import Fact, Mark, shows
from b2mount.fs.stretches import WHOLE_ESCAPED, Stretch, is_among
from b2mount.fs.tree import Tree
from b2mount.fs.views import is_history
from b2mount.fs.world import World
from b2mount.journal.drafts import Draft
from b2mount.store.store import FileVersion


@dataclass(slots=True)
class OpenDirectory:
    """What one open directory handle reads."""

    node: DirectoryNode
    listing: Listing | None = None
    own: dict[str, Fact] = field(default_factory=dict)  # added here before it began, and not in the listing
    keys: list[str] = field(default_factory=list)  # what no page brings; the places after the listing's
    finished: bool = False  # `keys` is all there is


class DirectoryEntry(NamedTuple):
    """One entry to show: its name, its node, until when to believe it, and the offset that follows it."""

    name: bytes
    node: Node
    until: float
    next_offset: int


class _View(NamedTuple):
    """What is the same for all entries that are shown between two awaits."""

    node: DirectoryNode
    prefix: str
    facts: Mapping[str, Fact]  # own changes
    listing: Listing
    until: float


class _TooEarly(Exception):
    """A page that is not there yet decides under which name an entry shows."""


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

    def rewind(self, handle: OpenDirectory) -> None:
        """Look afresh."""
        handle.listing, handle.keys, handle.finished = None, [], False

    def known(self, handle: OpenDirectory, offset: int) -> Iterator[DirectoryEntry | Stretch]:
        """Yield the entries from *offset* on that are known without a call; do not await meanwhile.

        A stretch must be iterated to its end before the next is asked for.
        """
        node = handle.node
        if node.shows_buckets or place(node.prefix, self._world.scope.limit) is Place.ABOVE:
            yield from self._made_up(handle, offset)
            return
        if handle.listing is None:
            listing = self._world.listings.peek(node.bucket_id, node.prefix)
            if listing is None:
                return
            self._begin(handle, listing)
        listing = handle.listing
        assert listing is not None
        view = self._view(handle, listing)
        try:
            while offset < listing.told:
                chunk = listing.chunk_at(offset)
                yield from self._of_chunk(view, chunk, offset)
                offset = chunk.first + len(chunk)
            if handle.finished:
                for at in range(offset - listing.told, len(handle.keys)):
                    key, following = handle.keys[at], listing.told + at + 1
                    entry_or_none = self._checked(view, key, None, following) or self._as_it_began(
                        view, handle, key, following
                    )
                    if entry_or_none is not None:
                        yield entry_or_none
        except _TooEarly:
            return

    async def more(self, handle: OpenDirectory) -> bool:
        """Wait until more is known than before; False where that was all."""
        node, listings = handle.node, self._world.listings
        if handle.finished:
            return False
        if node.shows_buckets:
            for bucket in await self._tree.buckets():
                self._tree.bucket_node(node, bucket)
                handle.keys.append(bucket.name + "/")
            handle.finished = True
        elif place(node.prefix, self._world.scope.limit) is Place.ABOVE:
            handle.keys.append(next_step(node.prefix, self._world.scope.limit) + "/")
            handle.finished = True
        elif handle.listing is None:
            self._begin(handle, await listings.get(node.bucket_id, node.prefix))
        elif not handle.listing.complete:
            await listings.extend(node.bucket_id, handle.listing)
        else:
            handle.keys = self._added(handle, handle.listing)
            handle.finished = True
        return True

    # ------------------------------------------------------------------------------------------------------

    def _begin(self, handle: OpenDirectory, listing: Listing) -> None:
        handle.listing = listing
        handle.own = self._own(handle)
        self._world.listings.on_read(handle.node.bucket_id, listing)

    def _own(self, handle: OpenDirectory) -> dict[str, Fact]:
        node = handle.node
        facts = self._world.overlay.under(node.bucket_id, node.prefix)
        return {key: fact for key, fact in facts.items() if shows(key, fact)}

    def _added(self, handle: OpenDirectory, listing: Listing) -> list[str]:
        """Return the names that were added here since the pages were told, each once."""
        limit, prefix = self._world.scope.limit, handle.node.prefix
        keys = dict.fromkeys(listing.added_keys())
        keys |= dict.fromkeys(
            key
            for key in {**handle.own, **self._own(handle)}
            if not listing.was_told(key) and admits(prefix + key, limit)
        )
        return list(keys)

    def _view(self, handle: OpenDirectory, listing: Listing) -> _View:
        world, node = self._world, handle.node
        prefix = node.prefix
        facts = world.overlay.under(node.bucket_id, prefix)
        return _View(node, prefix, facts, listing, world.listings.until(listing))

    def _made_up(self, handle: OpenDirectory, offset: int) -> Iterator[DirectoryEntry]:
        """Yield buckets, or the next step on the way down to the key's prefix."""
        node = handle.node
        until = trio.current_time() + self._world.options.listing_ttl
        for at in range(offset, len(handle.keys)):
            key = handle.keys[at]
            if not node.shows_buckets:
                child: Node = self._tree.directory_node(node, key)
                yield DirectoryEntry(os.fsencode(shown(key[:-1])), child, until, at + 1)
            elif key in node.children:
                yield DirectoryEntry(os.fsencode(key[:-1]), node.children[key], until, at + 1)

    def _of_chunk(self, view: _View, chunk: Chunk, offset: int) -> Iterator[DirectoryEntry | Stretch]:
        """Yield the entries of one page from *offset* on. Raises _TooEarly."""
        is_plain, at = _is_plain(view.node, chunk), offset - chunk.first
        while at < len(chunk):
            if is_plain:
                plain = Stretch(
                    self._world.nodes,
                    view.node,
                    view.listing,
                    chunk,
                    at,
                    facts=view.facts,
                    until=view.until,
                    on_half=lambda: self._list_ahead(view),
                )
                yield plain
                at = plain.at
            elif at >= len(chunk) // 2:
                self._list_ahead(view)
            if at < len(chunk):
                entry = self._special(view, chunk, at, is_plain=is_plain)
                if entry is not None:
                    yield entry
                at += 1

    def _list_ahead(self, view: _View) -> None:
        self._world.listings.extend_ahead(view.node.bucket_id, view.listing)

    def _special(self, view: _View, chunk: Chunk, at: int, *, is_plain: bool) -> DirectoryEntry | None:
        """Return the entry of a name that is in no stretch; None for one that is gone. Raises _TooEarly."""
        listing, state, facts = view.listing, chunk.state, view.facts
        raw, at_place = chunk.key(at), chunk.first + at
        is_told = state is None or state[at] == LIVE
        is_changed = bool(facts) and is_among(facts, raw)
        if is_changed or not is_told or not is_plain or raw in WHOLE_ESCAPED:
            is_gone = not is_changed and state is not None and state[at] == GONE
            if is_gone and not self._is_superseded(view):
                return None
            return self._checked(view, _decode(raw), at_place, at_place + 1)
        if raw.endswith(b"/"):
            child: Node = self._tree.directory_node(view.node, raw.decode())
            return DirectoryEntry(raw[:-1], child, view.until, at_place + 1)
        following = chunk.key(at + 1) if at + 1 < len(chunk) else None
        may_have_twin = following is None or following.startswith(raw) or listing.has_added
        if may_have_twin and self._has_twin(view, at_place, raw):
            return self._checked(view, raw.decode(), at_place, at_place + 1)
        child = self._tree.row_node(view.node, raw.decode(), chunk.rows, chunk.row(at))
        return DirectoryEntry(raw, child, view.until, at_place + 1)

    def _has_twin(self, view: _View, at: int, raw: bytes) -> bool:
        """Say whether a directory stands beside a file that a page brought. Raises _TooEarly."""
        twin = view.listing.twin_of(at, raw)
        if twin is None:
            raise _TooEarly
        return twin

    def _is_superseded(self, view: _View) -> bool:
        """Say whether there is a newer listing, which may show what has gone from this one."""
        newer = self._world.listings.peek(view.node.bucket_id, view.prefix)
        return newer is not None and newer is not view.listing

    def _checked(self, view: _View, key: str, at: int | None, next_offset: int) -> DirectoryEntry | None:
        """Return the entry of a key (at a place that a page brought) as it is now; None for one that is gone.

        Raises _TooEarly.
        """
        node, world = view.node, self._world
        # `dir/` as a file inside dir/ has no overlay entry: that name is the directory's there
        fact = world.overlay.get(node.bucket_id, view.prefix + key) if view.facts and key else None
        row = view.listing.get(key)
        if row is None and fact is None:
            newer = world.listings.last_known(node.bucket_id, view.prefix)
            row = newer.get(key) if newer is not None else None  # an own addition, in B2 by now
        if row is None if fact is None else not shows(key, fact):
            return None
        if key.endswith("/"):
            name = self._tree.views.name_of(node, key, twin=_has_directory_beside(view, key))
            child: Node = self._tree.directory_node(node, key)
        else:
            content: Content | None = fact if isinstance(fact, (Draft, FileVersion)) else row
            assert content is not None
            name = self._tree.views.name_of(node, key, twin=self._has_directory(view, key, at))
            child = self._tree.file_node(node, key, content)
        raw = os.fsencode(name)
        if len(raw) > MAX_ENTRY_BYTES:  # the kernel cannot carry it
            world.nodes.drop_if_unused(child)
            return None
        return DirectoryEntry(raw, child, view.until, next_offset)

    def _as_it_began(
        self, view: _View, handle: OpenDirectory, key: str, next_offset: int
    ) -> DirectoryEntry | None:
        """Return the entry of what was there at the beginning and is not known of any more.

        It is in B2 by now, and no listing from after that is there. Not to be believed beyond this moment.
        """
        node, fact = view.node, handle.own.get(key)
        newer = self._world.listings.peek(node.bucket_id, view.prefix)
        if fact is None or key in view.facts or newer is view.listing or (newer and newer.knows(key)):
            return None
        if isinstance(fact, Draft):
            fact = fact.result or Mark.GONE
        if isinstance(fact, FileVersion):
            child: Node = self._tree.file_node(node, key, fact)
        elif fact is Mark.DIRECTORY:
            child = self._tree.directory_node(node, key)
        else:
            return None
        twin = not key.endswith("/") and view.listing.has(key + "/")
        name = self._tree.views.name_of(node, key, twin=twin)
        return DirectoryEntry(os.fsencode(name), child, 0.0, next_offset)

    def _has_directory(self, view: _View, key: str, at: int | None) -> bool:
        """Say whether a directory of the same name stands beside a file. Raises _TooEarly."""
        fact = view.facts.get(key + "/") if view.facts else None
        if fact is not None:
            return fact is Mark.DIRECTORY
        if at is None:
            return view.listing.has(key + "/")
        return self._has_twin(view, at, key.encode("utf-8", "surrogatepass"))


def _is_plain(node: DirectoryNode, chunk: Chunk) -> bool:
    """Say whether the keys of a page are shown as they are, but for those that are special as a whole."""
    if is_history(node):
        return node.key.endswith(END_OF_NAME + "/")  # the versions of one name, which are named here
    return chunk.rows.is_plain


def _has_directory_beside(view: _View, key: str) -> bool:
    """Say whether a directory stands beside the versions of a file, in their history. Raises _TooEarly."""
    if not key.endswith(END_OF_NAME + "/"):
        return False
    beside = key.removesuffix(END_OF_NAME + "/") + "/"
    if not view.listing.knows(beside):
        raise _TooEarly
    return view.listing.has(beside)


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")
