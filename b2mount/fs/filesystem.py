"""All operations of one mounted file system: inode numbers and bytes in, numbers and bytes out.

Each looks up its node, has one of this package's parts do the work, and counts what it hands to the kernel.
Raises the errors of core/errors.py and nothing else on purpose.
"""

import itertools
import math
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import trio
from cachetools import TTLCache

from b2mount.core.access import Operation
from b2mount.core.errors import (
    AlreadyExists,
    BadHandle,
    InvalidArgument,
    NoSuchFile,
    NotPermitted,
    ReadOnlyMount,
)
from b2mount.core.names import MAX_COMPONENT_BYTES, decode_entry
from b2mount.core.posix import Kind
from b2mount.fs.buckets import Buckets
from b2mount.fs.changes import Changes
from b2mount.fs.commits import Commits
from b2mount.fs.contents import Contents
from b2mount.fs.files import Files
from b2mount.fs.locks import Locks
from b2mount.fs.nodes import DirectoryNode, FileNode, Node
from b2mount.fs.readdir import OpenDirectory, Readdir
from b2mount.fs.renames import Renames
from b2mount.fs.stats import Stat, Stats
from b2mount.fs.stretches import PlainFile, Stretch
from b2mount.fs.tree import NameMissing, Tree
from b2mount.fs.world import World
from b2mount.fs.xattrs import Xattrs

if TYPE_CHECKING:
    from b2mount.fs.restore import Restore

DOTS = 2  # entries that every directory begins with: `.` and `..`

NEGATIVE_TIMEOUT = 5.0  # seconds for which the kernel may remember that a name is missing; a guess
MISSING_KEPT = 100_000  # names found missing that a refresh tells the kernel about


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    uid: int
    gid: int


class Entry(NamedTuple):
    """A directory entry to hand out; the offset that follows it."""

    name: bytes
    node: Node
    stat: Stat
    next_offset: int


class PlainFiles(NamedTuple):
    """Files that follow one another; what they have in common, and what not. Offsets lack DOTS."""

    common: Stat
    files: Iterable[PlainFile]  # who asks for the next has handed out the one before


@dataclass(frozen=True, slots=True)
class Wanted:
    """What setattr is to change; None leaves as it is. Times in nanoseconds."""

    size: int | None = None
    mode: int | None = None  # permission bits
    uid: int | None = None
    gid: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None


class FileSystem:
    """One mount's operations."""

    def __init__(self, world: World, tree: Tree, control_path: str) -> None:
        self._world = world
        self.tree = tree
        self._stats = Stats(world)
        self._commits = Commits(world)
        locks = Locks(world, self._commits)
        self._changes = Changes(world, tree, self._commits, locks)
        self._buckets = Buckets(world, tree)
        self._renames = Renames(world, tree, self._commits, self._changes)
        self._readdir = Readdir(world, tree)
        contents = Contents(world.blocks, lambda: world.budget.reads_ahead)
        self.files = Files(world, self._commits, self._changes, contents)
        self._xattrs = Xattrs(world, self._stats, self._commits, locks, control_path)
        self._directories: dict[int, OpenDirectory] = {}
        self._numbers = itertools.count(1)
        self._missing: TTLCache[tuple[int, str], None] = TTLCache(
            MISSING_KEPT, NEGATIVE_TIMEOUT, timer=trio.current_time
        )
        tree.root.lookups = 1  # the kernel holds the root as long as the mount lives

    @property
    def restore(self) -> "Restore":
        """What brings things back."""
        from b2mount.fs.restore import Restore  # late: few mounts ever need it

        return Restore(self._world, self.tree)

    def _hand_out(self, node: Node, until: float) -> Stat:
        """Return a node's numbers for a reply that the kernel counts as a lookup."""
        node.lookups += 1
        return self._stats.of(node, until)

    def _own(self, node: Node) -> Stat:
        """Hand out a node that was made here just now."""
        return self._hand_out(node, trio.current_time() + max(self._world.options.listing_ttl, 1.0))

    def _to_change(self, ino: int, name: bytes) -> DirectoryNode:
        """Return a directory in which a name is to be changed. Raises ReadOnlyMount, NotPermitted."""
        directory = self._world.directory(ino)
        self.tree.views.demand_present(directory, decode_entry(name))
        return directory

    def _present(self, ino: int) -> Node:
        """Return a node that is to be changed. Raises ReadOnlyMount."""
        node = self._world.node(ino)
        if node.is_past:
            raise ReadOnlyMount("what is shown lies in the past, and cannot be changed")
        return node

    # --- names -------------------------------------------------------------------------------------------

    async def lookup(self, parent: int, name: bytes) -> Stat:
        """Look a name up; counted. Raises NoSuchFile."""
        directory = self._world.directory(parent)
        if name == b".":
            return self._own(directory)
        if name == b"..":
            return self._own(directory.parent or directory)
        node, until = await self.tree.lookup(directory, decode_entry(name))
        return self._hand_out(node, until)

    def missing_for(self, parent: int, name: bytes, error: NoSuchFile) -> float:
        """Return how many seconds the kernel may take a name for missing; a refresh takes that back."""
        until = error.until if isinstance(error, NameMissing) else math.inf
        self._missing[parent, os.fsdecode(name)] = None
        return until - trio.current_time()

    def forget(self, forgotten: Iterable[tuple[int, int]]) -> None:
        """Take back lookups: pairs of inode and count."""
        for ino, count in forgotten:
            self._world.nodes.forget(ino, count)

    async def create(
        self, parent: int, name: bytes, mode: int, flags: int, caller: Caller
    ) -> tuple[int, Stat]:
        """Make and open a file; return its handle and numbers (counted)."""
        directory = self._to_change(parent, name)
        try:
            gid = self._group_in(directory, caller)
            node = await self._changes.create(directory, decode_entry(name), mode, caller.uid, gid)
        except AlreadyExists:
            if flags & os.O_EXCL:
                raise
            # the kernel remembered that there was none, and somebody else has made it since
            found, _ = await self.tree.lookup(directory, decode_entry(name))
            return self.files.open(found, flags), self._own(found)
        number = self.files.adopt(node, flags)
        return number, self._own(node)

    async def mknod(self, parent: int, name: bytes, mode: int, rdev: int, caller: Caller) -> Stat:
        """Make a file or special file; counted."""
        directory = self._to_change(parent, name)
        gid = self._group_in(directory, caller)
        return self._own(
            await self._changes.make_special(directory, decode_entry(name), mode, rdev, caller.uid, gid)
        )

    async def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> Stat:
        """Make a directory; counted."""
        directory = self._to_change(parent, name)
        if directory.shows_buckets:
            return self._own(await self._buckets.make(directory, decode_entry(name)))
        group = self._stats.inherited_group(directory)
        if group is not None:
            mode |= stat.S_ISGID
        gid = caller.gid if group is None else group
        return self._own(await self._changes.mkdir(directory, decode_entry(name), mode, caller.uid, gid))

    async def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> Stat:
        """Make a symbolic link; counted."""
        directory = self._to_change(parent, name)
        gid = self._group_in(directory, caller)
        return self._own(await self._changes.symlink(directory, decode_entry(name), target, caller.uid, gid))

    def _group_in(self, directory: DirectoryNode, caller: Caller) -> int:
        """Return the group of what is made in a directory (as inode_init_owner of Linux has it)."""
        group = self._stats.inherited_group(directory)
        return caller.gid if group is None else group

    async def unlink(self, parent: int, name: bytes) -> None:
        await self._changes.unlink(self._to_change(parent, name), decode_entry(name))

    async def rmdir(self, parent: int, name: bytes) -> None:
        directory = self._to_change(parent, name)
        if directory.shows_buckets:
            await self._buckets.remove(directory, decode_entry(name))
        else:
            await self._changes.rmdir(directory, decode_entry(name))

    async def rename(self, old_parent: int, old: bytes, new_parent: int, new: bytes, flags: int) -> None:
        await self._renames.rename(
            self._to_change(old_parent, old),
            decode_entry(old),
            self._to_change(new_parent, new),
            decode_entry(new),
            flags,
        )

    def link(self) -> None:
        """Refuse a hard link: B2 has none. Raises NotPermitted, ReadOnlyMount."""
        self._world.demand(Operation.LINK)
        raise NotPermitted("B2 has no hard links")

    def readlink(self, ino: int) -> bytes:
        """Return a symbolic link's target."""
        node = self._world.node(ino)
        if not isinstance(node, FileNode) or node.attributes.target is None:
            raise InvalidArgument("not a symbolic link")
        return node.attributes.target.encode("utf-8", "surrogateescape")

    # --- attributes --------------------------------------------------------------------------------------

    async def getattr(self, ino: int) -> Stat:
        return await self._stats.get(self._world.node(ino))

    async def setattr(self, ino: int, wanted: Wanted, handle: int | None) -> Stat:
        """Change what *wanted* names; the change is in the journal at return."""
        node = self._present(ino)
        if isinstance(node, FileNode):
            await self._set_file(node, wanted, handle)
        else:
            assert isinstance(node, DirectoryNode)
            await self._set_directory(node, wanted)
        return await self._stats.get(node)

    async def _set_file(self, node: FileNode, wanted: Wanted, handle: int | None) -> None:
        if wanted.size is not None:
            if handle is not None and not self.files.handle(handle).writable:
                raise BadHandle("the file was not opened for writing")
            await self.files.set_size(node, wanted.size, through_handle=handle is not None)
            if handle is not None and self.files.handle(handle).synchronous:
                await self.files.fsync(handle)
        if wanted.atime_ns is not None:
            node.atime_ns = wanted.atime_ns
        attributes = node.attributes
        mode = wanted.mode
        changed = replace(
            attributes,
            mode=attributes.mode if mode is None else self._mode_to_store(mode, 0o666),
            uid=attributes.uid if wanted.uid is None else self._id_to_store(wanted.uid, self._world.uid),
            gid=attributes.gid if wanted.gid is None else self._id_to_store(wanted.gid, self._world.gid),
            mtime_ns=attributes.mtime_ns if wanted.mtime_ns is None else wanted.mtime_ns,
        )
        if attributes.kind is Kind.SYMLINK:
            changed = replace(changed, mode=attributes.mode)
        if changed != attributes:
            self._commits.set_attributes(node, changed)
            await self._world.journal.commit()

    async def _set_directory(self, node: DirectoryNode, wanted: Wanted) -> None:
        if wanted.size is not None:
            raise InvalidArgument("a directory has no size to set")
        attributes, _ = await self._stats.directory_attributes(node)
        mode = wanted.mode
        shown_mtime = node.touched_ns or attributes.mtime_ns
        changed = replace(
            attributes,
            mode=attributes.mode if mode is None else self._mode_to_store(mode, 0o777),
            uid=attributes.uid if wanted.uid is None else self._id_to_store(wanted.uid, self._world.uid),
            gid=attributes.gid if wanted.gid is None else self._id_to_store(wanted.gid, self._world.gid),
            mtime_ns=shown_mtime if wanted.mtime_ns is None else wanted.mtime_ns,
        )
        if changed != replace(attributes, mtime_ns=shown_mtime):
            self._commits.set_directory_attributes(node, changed)
            await self._world.journal.commit()

    def _mode_to_store(self, mode: int, default: int) -> int | None:
        """Return permission bits as they are stored: None for the mount's default."""
        mode &= 0o7777
        return None if mode == default & ~self._world.umask else mode

    def _id_to_store(self, wanted: int, default: int) -> int | None:
        return None if wanted == default else wanted

    async def access(self, ino: int, mask: int) -> bool:
        """Say whether the key and the permission bits allow what access(2) asks, for the super-user."""
        stat = await self.getattr(ino)
        if mask & os.R_OK and not stat.mode & 0o444 and not self._bits_left(ino) & 0o444:
            return False
        if mask & os.W_OK and (self._world.read_only or self._world.node(ino).is_past):
            return False
        return not (mask & os.X_OK and not stat.mode & 0o111)

    def _bits_left(self, ino: int) -> int:
        node = self._world.node(ino)
        return self._world.file_mask if isinstance(node, FileNode) else self._world.directory_mask

    async def getxattr(self, ino: int, name: bytes) -> bytes:
        return await self._xattrs.get(self._world.node(ino), decode_entry(name))

    async def listxattr(self, ino: int) -> list[bytes]:
        return [os.fsencode(name) for name in await self._xattrs.list(self._world.node(ino))]

    async def setxattr(self, ino: int, name: bytes, value: bytes) -> None:
        await self._xattrs.set(self._present(ino), decode_entry(name), value)

    async def removexattr(self, ino: int, name: bytes) -> None:
        await self._xattrs.remove(self._present(ino), decode_entry(name))

    def open(self, ino: int, flags: int) -> int:
        """Open a file; return its handle."""
        reads_only = flags & os.O_ACCMODE == os.O_RDONLY and not flags & os.O_TRUNC
        return self.files.open(self._world.node(ino) if reads_only else self._present(ino), flags)

    # --- directories -------------------------------------------------------------------------------------

    def opendir(self, ino: int) -> int:
        """Open a directory; return its handle."""
        handle = self._readdir.open(self._world.directory(ino))
        number = next(self._numbers)
        self._directories[number] = handle
        handle.node.handles += 1
        return number

    def entries(self, number: int, offset: int) -> Iterator[Entry | PlainFiles]:
        """Yield the entries known without a call, and plain files by the stretch.

        The caller counts the lookups of those it hands out, but for plain files, lets the others go by
        `let_go`, and does not await meanwhile. `.` and `..` come first; the kernel counts no lookup for them.
        """
        handle = self._directories[number]
        directory = handle.node
        if offset == 0:
            self._readdir.rewind(handle)
        for at, (name, node) in enumerate([(b".", directory), (b"..", directory.parent or directory)]):
            if offset <= at:
                yield Entry(name, node, self._stats.of_dots(node), at + 1)
        for entry in self._readdir.known(handle, max(offset - DOTS, 0)):
            if isinstance(entry, Stretch):
                yield PlainFiles(self._stats.of_plain_files(entry.directory, entry.until), entry)
            else:
                stat = self._stats.of(entry.node, entry.until)
                yield Entry(entry.name, entry.node, stat, entry.next_offset + DOTS)

    async def more_entries(self, number: int) -> bool:
        """Wait until more entries are known; False at the end."""
        return await self._readdir.more(self._directories[number])

    def let_go(self, node: Node) -> None:
        """Forget a node that was not handed out after all."""
        self._world.nodes.drop_if_unused(node)

    def releasedir(self, number: int) -> None:
        handle = self._directories.pop(number, None)
        if handle is not None:
            handle.node.handles -= 1
            self._world.nodes.drop_if_unused(handle.node)

    async def fsyncdir(self, number: int) -> None:
        """Return when every change of names in the directory is in B2."""
        node = self._directories[number].node
        if node.gone:
            return
        queue = self._world.journal.queue
        prefix, bucket_id = node.prefix, node.bucket_id
        ops = [op for op in queue.ops.values() if op.bucket_id == bucket_id and op.name.startswith(prefix)]
        failures = await self._world.journal.uploader.wait_all(ops)
        if failures:
            raise failures[0].error

    # --- the whole ---------------------------------------------------------------------------------------

    def name_limit(self) -> int:
        """Return the longest directory entry, in bytes, that can be made."""
        return MAX_COMPONENT_BYTES

    async def refresh(self, path: str) -> None:
        """Believe nothing older than now about a path (relative to the root) and all under it."""
        try:
            node = await self.tree.walk(path)
        except NoSuchFile:
            if not path:
                raise
            await self.refresh(path.rpartition("/")[0])  # it may be new: what is believed would not tell
            await self.tree.walk(path)
            return
        if isinstance(node, FileNode):
            if node.parent is None:
                raise NoSuchFile(path)
            node = node.parent
        assert isinstance(node, DirectoryNode)
        told: list[tuple[int, str]] = []
        self._forget_under(node, told)
        for parent, name in list(self._missing):
            directory = self._world.nodes.get(parent)
            if isinstance(directory, DirectoryNode) and directory.is_inside(node):
                told.append((parent, name))
        await trio.to_thread.run_sync(self._world.invalidate_entries_now, told)

    def _forget_under(self, node: DirectoryNode, told: list[tuple[int, str]]) -> None:
        """Forget what lies under a directory; add the entries that the kernel may hold to *told*."""
        if not node.shows_buckets:
            self.tree.forget(node.bucket_id, node.prefix)
        for run in node.runs:
            for at in run.places():
                key = run.chunk.key(at).decode("utf-8", "surrogatepass")
                told += [(node.ino, self.tree.views.name_of(node, key, twin=twin)) for twin in (False, True)]
        for key, child in list(node.children.items()):
            told.append((node.ino, self.tree.views.name_of(node, key, twin=False)))
            if isinstance(child, DirectoryNode):
                self._forget_under(child, told)
            else:
                told.append((node.ino, self.tree.views.name_of(node, key, twin=True)))
        self._world.invalidate_inode(node.ino)

    async def commit_all(self) -> None:
        """Make what is written through open files safe in the journal."""
        for node in self._world.nodes:
            if isinstance(node, FileNode):
                await self._commits.commit(node)
