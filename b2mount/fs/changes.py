"""Make and remove names: files, directories, links, special files.

Each returns once the change is in the journal; B2 follows. What the key refuses is refused before anything is
changed.
"""

import stat
import time
from collections.abc import Mapping
from dataclasses import replace

from b2mount.cache.listing import Listing
from b2mount.core.access import LookUpBy, Operation, look_up_by
from b2mount.core.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    IllegalName,
    IsADirectory,
    NameNotUnicode,
    NoSuchFile,
    NotADirectory,
    NotPermitted,
    NotSupported,
)
from b2mount.core.names import PLACEHOLDER, Entry, check_new_component, check_uploadable, is_utf8, parse_shown
from b2mount.core.posix import DEFAULT_DIRECTORY_MODE, DEFAULT_FILE_MODE, Attributes, Kind, to_info
from b2mount.core.scope import Place, place
from b2mount.fs.commits import Commits, can_be_kept
from b2mount.fs.locks import Locks
from b2mount.fs.nodes import DirectoryNode, FileNode
from b2mount.fs.overlay import Fact, Mark
from b2mount.fs.tree import Resolved, Tree
from b2mount.fs.world import World
from b2mount.journal.drafts import Draft
from b2mount.store.store import FileVersion

SYMLINK_CONTENT_TYPE = "inode/symlink"  # as in the freedesktop.org shared MIME database

_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFSOCK: Kind.SOCKET,
}


class Changes:
    """Everything that adds or removes a name, but for rename."""

    def __init__(self, world: World, tree: Tree, commits: Commits, locks: Locks) -> None:
        self._world = world
        self._tree = tree
        self._commits = commits
        self.locks = locks

    # --- making ------------------------------------------------------------------------------------------

    async def create(self, parent: DirectoryNode, entry: str, mode: int, uid: int, gid: int) -> FileNode:
        """Make an empty file, open for writing; it is in the journal once it is committed."""
        component, twin = self.check_new(parent, entry, Operation.CREATE)
        attributes = self._attributes(Kind.FILE, mode, uid, gid)
        await self._demand_free(parent, component, twin=twin)
        draft = self._world.journal.new_draft(attributes)
        node = self._world.nodes.new_file(parent, component, None)
        node.working = draft
        self._world.overlay.set(parent.bucket_id, node.name, draft)
        self._commits.touch(parent)
        return node

    async def make_special(
        self, parent: DirectoryNode, entry: str, mode: int, rdev: int, uid: int, gid: int
    ) -> FileNode:
        """Make an empty file, a FIFO, a socket or a device node (mknod)."""
        kind = _KINDS.get(stat.S_IFMT(mode))
        if kind is None:
            raise NotSupported("mknod of this type")
        node = await self.create(parent, entry, stat.S_IMODE(mode), uid, gid)
        assert node.working is not None
        attributes = node.working.attributes
        if kind is not Kind.FILE:
            device = rdev if kind in (Kind.CHARACTER, Kind.BLOCK) else 0
            node.working.attributes = replace(attributes, kind=kind, mode=stat.S_IMODE(mode), rdev=device)
        await self._commits.commit(node)
        return node

    async def symlink(self, parent: DirectoryNode, entry: str, target: bytes, uid: int, gid: int) -> FileNode:
        """Make a symbolic link; its target is kept in the file info and as the file's content."""
        component, twin = self.check_new(parent, entry, Operation.SYMLINK)
        text = target.decode("utf-8", "surrogateescape")
        now = time.time_ns()
        owner, group = self._owner(uid, gid)
        attributes = Attributes(Kind.SYMLINK, now, uid=owner, gid=group, target=text, ctime_ns=now)
        limit = self._world.info_limit(parent.bucket_id)
        to_info(attributes, {}, limit=limit, file_name=parent.prefix + component)
        await self._demand_free(parent, component, twin=twin)
        draft = self._world.journal.new_draft(attributes, content_type=SYMLINK_CONTENT_TYPE)
        draft.write(0, target)
        node = self._world.nodes.new_file(parent, component, None)
        node.working = draft
        self._world.overlay.set(parent.bucket_id, node.name, draft)
        self._commits.touch(parent)
        await self._commits.commit(node)
        return node

    async def mkdir(self, parent: DirectoryNode, entry: str, mode: int, uid: int, gid: int) -> DirectoryNode:
        """Make a directory, kept by a placeholder that holds its attributes."""
        component, _ = self.check_new(parent, entry, Operation.MKDIR)
        prefix = parent.prefix + component + "/"
        check_uploadable(prefix + PLACEHOLDER)
        await self._demand_free(parent, component, twin=False)
        bucket_id = parent.bucket_id
        node = self._world.nodes.new_directory(parent, component + "/", bucket_id, parent.bucket_name)
        self._world.overlay.set(bucket_id, prefix, Mark.DIRECTORY)
        self._commits.put_marker(node, self._attributes(Kind.DIRECTORY, mode, uid, gid))
        self._world.listings.seed_empty(bucket_id, prefix)
        self._commits.touch(parent)
        await self._world.journal.commit()
        return node

    def check_new(self, parent: DirectoryNode, entry: str, operation: Operation) -> Entry:
        """Return what a name to be made stands for. Raises what makes it impossible."""
        if parent.gone:
            raise NoSuchFile("the directory was removed")
        if parent.shows_buckets:
            self._world.demand(operation)
            raise NotPermitted("only buckets live here")
        shown = parse_shown(entry)
        name = parent.prefix + shown.component
        is_directory = operation in (Operation.MKDIR, Operation.RENAME_DIRECTORY)
        if is_directory and shown.twin:
            raise IllegalName(f"{entry}: such names are those of files beside a directory")
        self._world.demand(operation, name + "/" if is_directory else name)
        if place(parent.prefix, self._world.scope.limit) is Place.ABOVE:
            raise NotPermitted("this directory is made up from the key and cannot be changed")
        check_new_component(shown.component)
        check_uploadable(name)
        return shown

    async def _demand_free(self, parent: DirectoryNode, component: str, *, twin: bool) -> None:
        resolved = await self._tree.resolve(parent, component)
        demand_directory_of_twin(component, twin=twin, resolved=resolved)
        taken = resolved.directory and not twin and not self._is_guess(parent, component)
        if resolved.file is not None or taken:
            raise AlreadyExists(f"{parent.prefix}{component}: exists")
        if parent.gone:
            raise NoSuchFile("the directory was removed")

    def _is_guess(self, parent: DirectoryNode, component: str) -> bool:
        """Say whether a directory is only assumed, because the key can neither list nor tell."""
        known = self._world.overlay.get(parent.bucket_id, parent.prefix + component + "/")
        return known is None and look_up_by(self._world.grant) is LookUpBy.MEMORY

    def _attributes(self, kind: Kind, mode: int, uid: int, gid: int) -> Attributes:
        """Return attributes for something new: only what differs from the mount's defaults is stored."""
        default = DEFAULT_DIRECTORY_MODE if kind is Kind.DIRECTORY else DEFAULT_FILE_MODE
        mode, now = stat.S_IMODE(mode), time.time_ns()
        owner, group = self._owner(uid, gid)
        return Attributes(
            kind,
            now,
            mode=None if mode == default & ~self._world.umask else mode,
            uid=owner,
            gid=group,
            ctime_ns=now,
        )

    def _owner(self, uid: int, gid: int) -> tuple[int | None, int | None]:
        return (None if uid == self._world.uid else uid, None if gid == self._world.gid else gid)

    # --- removing ----------------------------------------------------------------------------------------

    async def unlink(self, parent: DirectoryNode, entry: str) -> None:
        """Remove a file's name: B2 hides it. Who holds the file open goes on."""
        node, _ = await self._tree.lookup(parent, entry)
        if not isinstance(node, FileNode):
            raise IsADirectory(f"{entry}: is a directory")
        self._world.demand(Operation.UNLINK, node.name)
        if self._world.options.hard_delete:
            self._world.demand(Operation.HARD_DELETE, node.name)
            self.locks.demand_deletable([node.current])
        if node.key == "" or not is_utf8(node.name):
            await self._hide_now(node)
        else:
            await self.keep_open_content(node)
            if node.gone:
                raise NoSuchFile(f"{entry}: was removed")
            self.remove_name(node)
        self._commits.touch(parent)
        self.keep_directory(parent)
        await self._world.journal.commit()

    async def _hide_now(self, node: FileNode) -> None:
        """Hide at once a file whose name the journal cannot hold: not UTF-8, or its directory's."""
        if self._world.options.hard_delete:
            raise NotPermitted(f"{node.name}: not with --hard-delete")
        await self._world.store.hide(node.bucket_id, node.name)
        directory = node.name.removesuffix(node.key)
        listing = self._world.listings.last_known(node.bucket_id, directory)
        if listing is not None:
            listing.drop(node.key)
        self._world.nodes.detach(node)

    async def keep_open_content(self, node: FileNode) -> None:
        """Before a file loses its name: have B2 make a version of what is only there, if it is still open."""
        while node.handles and node.working is not None and node.working.torn and not node.gone:
            await self._commits.commit(node)  # others may write on meanwhile

    def remove_name(self, node: FileNode) -> None:
        """Take a file's name away, here at once and in B2 by the journal."""
        if node.working is not None:
            self._world.journal.streams.give_up(node.working)
        world, bucket_id, name = self._world, node.bucket_id, node.name
        exists = self.may_exist(bucket_id, name)
        pin(node)
        world.nodes.detach(node)
        op = world.journal.hide(bucket_id, name, exists=exists)
        world.overlay.set(bucket_id, name, Mark.GONE)
        if op is None:
            world.overlay.settle(bucket_id, name)
        if not node.handles:
            self.discard_unnamed(node)

    def discard_unnamed(self, node: FileNode) -> None:
        """Let go what was written to a file without a name, once nobody holds it open."""
        if node.working is not None:
            self._world.journal.discard(node.working)

    def may_exist(self, bucket_id: str, name: str) -> bool:
        """Say whether B2 may show a file of this name, as far as is known without a call."""
        fact = self._world.overlay.get(bucket_id, name)
        if isinstance(fact, FileVersion):
            return True
        directory = name[: name.rfind("/") + 1]
        listing = self._world.listings.peek(bucket_id, directory)
        key = name[len(directory) :]
        if listing is None:
            return True
        if key == PLACEHOLDER:
            return listing.marker is not None or listing.has(key) or not listing.complete
        return listing.has(key) or not listing.knows(key)

    async def rmdir(self, parent: DirectoryNode, entry: str) -> None:
        """Remove an empty directory: B2 hides its placeholder."""
        node, _ = await self._tree.lookup(parent, entry)
        if not isinstance(node, DirectoryNode):
            raise NotADirectory(f"{entry}: not a directory")
        self._world.demand(Operation.RMDIR, node.prefix)
        if not is_utf8(node.prefix):
            raise NameNotUnicode(f"{entry}: not UTF-8; it goes with the last file in it")
        await self.demand_empty(node)
        self.remove_empty_directory(node)
        self._commits.touch(parent)
        self.keep_directory(parent)
        await self._world.journal.commit()

    def remove_empty_directory(self, node: DirectoryNode) -> None:
        """Take an empty directory's name away."""
        world, bucket_id, prefix = self._world, node.bucket_id, node.prefix
        listing = world.listings.peek(bucket_id, prefix)
        names = {prefix + PLACEHOLDER} | (listing.marker_names if listing is not None else set())
        for name in names:
            op = world.journal.hide(
                bucket_id,
                name,
                exists=self.may_exist(bucket_id, name)
                or name in (listing.marker_names if listing is not None else ()),
            )
            world.overlay.set(bucket_id, name, Mark.GONE)
            if op is None:
                world.overlay.settle(bucket_id, name)
        world.overlay.set(bucket_id, prefix, Mark.GONE)
        world.overlay.settle(bucket_id, prefix + PLACEHOLDER)
        world.nodes.detach(node)

    async def demand_empty(self, node: DirectoryNode) -> None:
        """Raise DirectoryNotEmpty for a directory that shows anything."""
        world = self._world
        listing = await world.listings.get(node.bucket_id, node.prefix)
        while True:
            if not self.is_empty(node, listing):
                raise DirectoryNotEmpty(f"{node.prefix}: not empty")
            if listing.complete:
                return
            await world.listings.extend(node.bucket_id, listing)

    def is_empty(self, node: DirectoryNode, listing: Listing) -> bool:
        """Say whether nothing shows in a directory, as far as the pages known of its *listing* go."""
        world = self._world
        facts = world.overlay.under(node.bucket_id, node.prefix)
        if world.overlay.shows_any(node.bucket_id, node.prefix):
            return False
        return self._has_none_left(listing, facts)

    def _has_none_left(self, listing: Listing, facts: Mapping[str, Fact]) -> bool:
        """Say whether own changes took away all that a listing tells; begins where the last answer ended."""
        hint = min(listing.live_hint, listing.places)
        for start, end in ((hint, listing.places), (0, hint)):
            at = listing.first_live(start)
            while at is not None and at < end:
                if listing.key_at(at) not in facts:
                    listing.live_hint = at
                    return False
                at = listing.first_live(at + 1)
        return True

    def keep_directory(self, node: DirectoryNode) -> None:
        """Keep a directory whose last name has gone, as POSIX has it: B2 would forget it."""
        world = self._world
        if node is self._tree.root or node.shows_buckets or node.gone or node.prefix == "":
            return
        if place(node.prefix, world.scope.limit) is not Place.INSIDE:
            return
        fact = world.overlay.get(node.bucket_id, node.prefix + PLACEHOLDER)
        if isinstance(fact, (Draft, FileVersion)):
            return
        listing = world.listings.last_known(node.bucket_id, node.prefix)
        if listing is None or not listing.complete or (listing.marker is not None and fact is None):
            return
        if self.is_empty(node, listing) and can_be_kept(node):
            world.overlay.set(node.bucket_id, node.prefix, Mark.DIRECTORY)
            self._commits.put_marker(node, Attributes(Kind.DIRECTORY, node.touched_ns or time.time_ns()))


def demand_directory_of_twin(component: str, *, twin: bool, resolved: Resolved) -> None:
    """Raise IllegalName for the name of a file beside a directory where there is no such directory."""
    if twin and not resolved.directory:
        raise IllegalName(f"{component}: no directory of this name; the file can be made without the escape")


def pin(node: FileNode) -> None:
    """Hold open the spool files that an open handle may still read after the name is gone."""
    if node.handles:
        content = node.content
        while isinstance(content, Draft):
            if content.result is None and content.extents.dirty_bytes:
                content.spool.pin()
                content.pinned = content.torn
            content = content.base
