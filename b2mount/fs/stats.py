"""What stat(2) shows of a node, and for how long the kernel may believe it."""

from dataclasses import dataclass

import trio

from b2mount.core.access import LookUpBy, look_up_by
from b2mount.core.names import PLACEHOLDER
from b2mount.core.posix import Attributes, Kind, from_info, st_mode
from b2mount.core.scope import Place, place
from b2mount.fs.nodes import DirectoryNode, FileNode, Node
from b2mount.fs.overlay import Mark
from b2mount.fs.world import World
from b2mount.journal.drafts import Draft
from b2mount.store.store import FileVersion

NS_PER_MS = 1_000_000
FOREVER = 3600.0  # seconds; what only this mount changes, or nobody


@dataclass(frozen=True, slots=True)
class Stat:
    """The numbers of one node. Times in nanoseconds; timeouts in seconds for the kernel's caches."""

    ino: int
    mode: int  # type and permission bits
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int  # bytes
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    entry_timeout: float
    attr_timeout: float


class Stats:
    """Build `Stat`s from nodes."""

    def __init__(self, world: World) -> None:
        self._world = world

    def of_file(self, node: FileNode, until: float) -> Stat:
        """Return a file's numbers, good until *until* (trio's clock) where B2 could tell others."""
        world = self._world
        attributes = node.attributes
        current = node.current
        timeout = max(until - trio.current_time(), 0.0)
        if isinstance(current, FileVersion):
            ctime_ns = node.ctime_ns or current.uploaded_ms * NS_PER_MS
        else:
            ctime_ns = node.ctime_ns or attributes.mtime_ns
        return Stat(
            ino=node.ino,
            mode=st_mode(attributes, umask=world.umask, mask=world.file_mask),
            nlink=0 if node.gone else 1,
            uid=world.uid if attributes.uid is None else attributes.uid,
            gid=world.gid if attributes.gid is None else attributes.gid,
            rdev=attributes.rdev,
            size=current.size,
            atime_ns=node.atime_ns or attributes.mtime_ns,
            mtime_ns=attributes.mtime_ns,
            ctime_ns=ctime_ns,
            entry_timeout=timeout,
            attr_timeout=timeout,
        )

    def of_directory(self, node: DirectoryNode, until: float) -> Stat:
        """Return a directory's numbers; without those attributes that only a call could tell.

        Then the kernel may not keep them (timeout 0), and asks getattr, which makes the call.
        """
        world = self._world
        known = self.known_attributes(node)
        attributes, attributes_until = known or (self._default(node), 0.0)
        now = trio.current_time()
        mtime_ns = node.touched_ns or attributes.mtime_ns
        return Stat(
            ino=node.ino,
            mode=st_mode(attributes, umask=world.umask, mask=world.directory_mask),
            nlink=0
            if node.gone
            else 1,  # 1: "not counted", so that find does not deduce a number of children
            uid=world.uid if attributes.uid is None else attributes.uid,
            gid=world.gid if attributes.gid is None else attributes.gid,
            rdev=0,
            size=0,
            atime_ns=mtime_ns,
            mtime_ns=mtime_ns,
            ctime_ns=mtime_ns,
            entry_timeout=max(until - now, 0.0),
            attr_timeout=max(min(attributes_until, until) - now, 0.0),
        )

    def of(self, node: Node, until: float) -> Stat:
        """Return the numbers of either kind."""
        if isinstance(node, FileNode):
            return self.of_file(node, until)
        assert isinstance(node, DirectoryNode)
        return self.of_directory(node, until)

    async def get(self, node: Node) -> Stat:
        """Return the numbers, asking B2 for what is not known freshly."""
        until = trio.current_time() + self._world.options.listing_ttl
        if isinstance(node, DirectoryNode):
            if self.known_attributes(node) is None:
                await self._world.listings.get_marker(node.bucket_id, node.prefix)
            return self.of_directory(node, until)
        assert isinstance(node, FileNode)
        return self.of_file(node, until)

    def known_attributes(self, node: DirectoryNode) -> tuple[Attributes, float] | None:
        """Return a directory's attributes and until when to believe them; None where only a call can tell."""
        world = self._world
        now = trio.current_time()
        if node.gone or node.shows_buckets or place(node.prefix, world.scope.limit) is not Place.INSIDE:
            return self._default(node), now + FOREVER
        name = node.prefix + PLACEHOLDER
        fact = world.overlay.get(node.bucket_id, name)
        if isinstance(fact, Draft) and fact.size == 0:
            return fact.attributes, now + FOREVER
        if isinstance(fact, FileVersion) and fact.size == 0:
            return self._stored(fact), now + world.options.listing_ttl
        if look_up_by(world.grant) is not LookUpBy.LISTING:
            return self._default(node), now + world.options.listing_ttl
        listing = world.listings.peek(node.bucket_id, node.prefix)
        if listing is None or not (listing.knows_marker or PLACEHOLDER in listing.probed):
            return None
        marker = None if fact is Mark.GONE else listing.marker
        if marker is not None:
            return self._stored(marker), world.listings.until(listing)
        default = self._default(node, mtime_ns=listing.newest_ms * NS_PER_MS)
        return default, world.listings.until(listing)

    def _stored(self, marker: FileVersion) -> Attributes:
        return from_info(marker.info, fallback_ms=marker.uploaded_ms, is_directory=True)

    def _default(self, node: DirectoryNode, mtime_ns: int = 0) -> Attributes:
        return Attributes(Kind.DIRECTORY, mtime_ns or node.touched_ns or self._world.started_ns)
