"""What stat(2) shows of a node, and for how long the kernel may believe it."""

import contextlib
import stat
from typing import NamedTuple

import trio

from b2mount.core.access import LookUpBy, look_up_by
from b2mount.core.errors import B2Unavailable
from b2mount.core.grant import Grant
from b2mount.core.names import PLACEHOLDER
from b2mount.core.posix import MTIME_NAME, OWN_NAME, Attributes, Kind, from_info, st_mode
from b2mount.core.scope import Place, place
from b2mount.fs.nodes import Content, DirectoryNode, FileNode, Node
from b2mount.fs.overlay import Mark
from b2mount.fs.world import World
from b2mount.journal.drafts import Draft
from b2mount.store.packed import Rows
from b2mount.store.store import FileVersion

NS_PER_MS = 1_000_000
ANY_WRITE = 0o222  # permission bits
PLAIN_DIGITS = 13  # of milliseconds since the epoch: times up to the year 2286
PATIENCE = 2.0  # seconds for which a directory's attributes of before wait for newer ones; a guess
AWAY = 10.0  # seconds until B2 is asked again then; a guess
FOREVER = 3600.0  # seconds; what only this mount changes, or nobody


class Stat(NamedTuple):
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
        self._away_until = 0.0  # B2 did not answer lately: until when directories do not ask it
        self._grant: Grant | None = None  # what the masks below follow from
        self._file_mask = 0
        self._plain_mode = 0  # of a file with no attributes of its own

    def of_file(self, node: FileNode, until: float) -> Stat:
        """Return a file's numbers, good until *until* (trio's clock) where B2 could tell others."""
        world, packed = self._world, node.packed
        timeout = max(until - trio.current_time(), 0.0)
        self._update_masks()
        mode, uid, gid, rdev = self._plain_mode, world.uid, world.gid, 0
        plain_ms = packed[0].plain_mtime_ms(packed[1]) if packed is not None else None
        if packed is not None and plain_ms is not None:  # most files: made by other tools, or with defaults
            size, mtime_ns = packed[0].sizes[packed[1]], plain_ms * NS_PER_MS
            ctime_ns = packed[0].uploaded_ms[packed[1]] * NS_PER_MS
        else:
            current = node.current if packed is None else packed[0].version(packed[1])
            size, plain_ns = current.size, _plain_mtime_ns(current)
            own_ctime_ns = None
            if plain_ns is not None:
                mtime_ns = plain_ns
            else:
                attributes = node.attributes if packed is None else _attributes(packed)
                mode = st_mode(attributes, umask=world.umask, mask=self._file_mask)
                uid = uid if attributes.uid is None else attributes.uid
                gid = gid if attributes.gid is None else attributes.gid
                rdev, mtime_ns, own_ctime_ns = attributes.rdev, attributes.mtime_ns, attributes.ctime_ns
            uploaded_ns = current.uploaded_ms * NS_PER_MS if isinstance(current, FileVersion) else mtime_ns
            ctime_ns = uploaded_ns if own_ctime_ns is None else own_ctime_ns
        if node.is_past:
            mode &= ~ANY_WRITE
        return Stat(
            node.ino,
            mode,
            0 if node.gone else 1,
            uid,
            gid,
            rdev,
            size,
            node.atime_ns or mtime_ns,
            mtime_ns,
            ctime_ns,
            timeout,
            timeout,
        )

    def of_plain_files(self, directory: DirectoryNode, until: float) -> Stat:
        """Return what the plain files of a directory have in common (fs/stretches.py)."""
        world = self._world
        timeout = max(until - trio.current_time(), 0.0)
        self._update_masks()
        mode = self._plain_mode & ~ANY_WRITE if directory.is_past else self._plain_mode
        return Stat(0, mode, 1, world.uid, world.gid, 0, 0, 0, 0, 0, timeout, timeout)

    def _update_masks(self) -> None:
        """Take the permission bits that the key leaves, anew when the key was authorized again."""
        world = self._world
        if self._grant is not world.store.grant:
            self._grant = world.store.grant
            self._file_mask = world.file_mask
            self._plain_mode = st_mode(Attributes(Kind.FILE, 0), umask=world.umask, mask=self._file_mask)

    def of_directory(
        self, node: DirectoryNode, until: float, known: tuple[Attributes, float] | None = None
    ) -> Stat:
        """Return a directory's numbers; without those attributes that only a call could tell.

        Then the kernel may not keep them (timeout 0), and asks getattr, which makes the call and gives what
        is *known* by it.
        """
        world = self._world
        known = known or self.known_attributes(node)
        attributes, attributes_until = known or (self._default(node), 0.0)
        now = trio.current_time()
        mtime_ns = node.touched_ns or attributes.mtime_ns
        mask = world.directory_mask & ~ANY_WRITE if node.is_past else world.directory_mask
        return Stat(
            ino=node.ino,
            mode=st_mode(attributes, umask=world.umask, mask=mask),
            nlink=0
            if node.gone
            else 1,  # 1: "not counted", so that find does not deduce a number of children
            uid=world.uid if attributes.uid is None else attributes.uid,
            gid=world.gid if attributes.gid is None else attributes.gid,
            rdev=0,
            size=0,
            atime_ns=mtime_ns,
            mtime_ns=mtime_ns,
            ctime_ns=max(mtime_ns, attributes.ctime_ns or mtime_ns),
            entry_timeout=max(until - now, 0.0),
            attr_timeout=max(min(attributes_until, until) - now, 0.0),
        )

    def of_dots(self, node: DirectoryNode) -> Stat:
        """Return what a listing tells of `.` and `..`: of those the kernel takes number and type alone."""
        return Stat(node.ino, stat.S_IFDIR, 1, 0, 0, 0, 0, 0, 0, 0, 0.0, 0.0)

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
            return self.of_directory(node, until, await self.directory_attributes(node))
        assert isinstance(node, FileNode)
        return self.of_file(node, until)

    async def directory_attributes(self, node: DirectoryNode) -> tuple[Attributes, float]:
        """Return a directory's attributes and until when to believe them, asking B2 where it must be.

        While B2 is away, a directory keeps the attributes that it had, and the root those of any directory:
        programs that only pass by need no answer from B2, and none may wait for it to unmount.
        """
        known = self.known_attributes(node)
        if known is not None:
            return known
        last = self._last_attributes(node)
        if last is None:
            return await self._ask(node)
        if trio.current_time() >= self._away_until:
            with trio.move_on_after(PATIENCE), contextlib.suppress(B2Unavailable):
                return await self._ask(node)
            self._away_until = trio.current_time() + AWAY
        return last, self._away_until

    async def _ask(self, node: DirectoryNode) -> tuple[Attributes, float]:
        marker = await self._world.listings.get_marker(node.bucket_id, node.prefix)
        known = self.known_attributes(node)  # own changes made meanwhile win
        if known is not None:
            return known
        now = trio.current_time()  # with a TTL of nought no answer is ever fresh, and still an answer
        if marker is None or self._world.overlay.get(node.bucket_id, node.prefix + PLACEHOLDER) is Mark.GONE:
            return self._default(node), now
        return self._stored(marker), now

    def _last_attributes(self, node: DirectoryNode) -> Attributes | None:
        """Return what is known of a directory from before; None where nothing is."""
        listing = self._world.listings.last_known(node.bucket_id, node.prefix)
        if listing is None or not listing.knows_marker:
            return self._default(node) if node.parent is None else None
        if listing.marker is not None:
            return self._stored(listing.marker)
        return self._default(node, mtime_ns=listing.newest_ms * NS_PER_MS)

    def inherited_group(self, node: DirectoryNode) -> int | None:
        """Return the group of what is made in a directory with the set-group-ID bit; None without it.

        By what is known without a call: the kernel has just asked who may write there.
        """
        known = self.known_attributes(node)
        attributes = known[0] if known is not None else self._last_attributes(node)
        if attributes is None or not (attributes.mode or 0) & stat.S_ISGID:
            return None
        return self._world.gid if attributes.gid is None else attributes.gid

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


def _plain_mtime_ns(content: Content) -> int | None:
    """Return the mtime of a stored file that has no attributes but this one; None for all others."""
    if not isinstance(content, FileVersion) or OWN_NAME in content.info:
        return None
    text = content.info.get(MTIME_NAME, "")
    return int(text) * NS_PER_MS if text.isdecimal() and len(text) <= PLAIN_DIGITS else None


def _attributes(packed: tuple[Rows, int]) -> Attributes:
    rows, row = packed
    version = rows.version(row)
    return from_info(version.info, fallback_ms=version.uploaded_ms)
