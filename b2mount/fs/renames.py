"""Rename files and directories: drafts change their name, stored files are copied inside B2 and hidden.

Nothing is downloaded or uploaded again. A directory's rename is one journal entry for each file under it,
made together, so that a crash in the middle is taken up there.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from b2mount.core.access import Operation
from b2mount.core.errors import (
    AlreadyExists,
    InvalidArgument,
    IsADirectory,
    NoSuchFile,
    NotADirectory,
    NotPermitted,
)
from b2mount.core.names import PLACEHOLDER, check_uploadable, is_placeholder, is_utf8
from b2mount.core.posix import NO_LIMIT, OWN_NAME, Attributes, from_info, header_bytes, to_info
from b2mount.fs.changes import Changes, demand_directory_of_twin, pin
from b2mount.fs.commits import Commits, demand_movable
from b2mount.fs.nodes import Content, DirectoryNode, FileNode, Node
from b2mount.fs.overlay import Mark
from b2mount.fs.tree import Resolved, Tree, same_content
from b2mount.fs.world import World
from b2mount.journal.drafts import AUTOMATIC_CONTENT_TYPE, Draft
from b2mount.journal.ops import Op
from b2mount.store.store import FileVersion

MOST_ENTRIES = 10  # of file info: all that B2 took once (Backblaze docs, "b2_upload_file", former editions)
NOREPLACE = 1  # renameat2(2): fail where the new name exists


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a name is or will be."""

    parent: DirectoryNode
    component: str

    @property
    def name(self) -> str:
        return self.parent.prefix + self.component


class Renames:
    """rename(2) and renameat2(2) with RENAME_NOREPLACE."""

    def __init__(self, world: World, tree: Tree, commits: Commits, changes: Changes) -> None:
        self._world = world
        self._tree = tree
        self._commits = commits
        self._changes = changes

    async def rename(
        self, old_parent: DirectoryNode, old: str, new_parent: DirectoryNode, new: str, flags: int
    ) -> None:
        """Give a file or directory another name, in the place of what has it now."""
        if flags & ~NOREPLACE:
            raise InvalidArgument("rename: only RENAME_NOREPLACE is known here")
        node, _ = await self._tree.lookup(old_parent, old)
        if old_parent.shows_buckets:
            raise NotPermitted("a bucket cannot be renamed")
        is_directory = isinstance(node, DirectoryNode)
        operation = Operation.RENAME_DIRECTORY if is_directory else Operation.CREATE
        component, twin = self._changes.check_new(new_parent, new, operation)
        target = await self._tree.resolve(new_parent, component)
        demand_directory_of_twin(component, twin=twin, resolved=target)
        if twin:
            target = replace(target, directory=False)  # the name is the file's beside it
        if (target.file is not None or target.directory) and flags & NOREPLACE:
            raise AlreadyExists(f"{new}: exists")
        if isinstance(node, DirectoryNode):
            self._world.demand(Operation.RENAME_DIRECTORY, node.prefix)
            await self._rename_directory(node, _Place(new_parent, component), target)
        else:
            assert isinstance(node, FileNode)
            await self._rename_file(node, _Place(new_parent, component), target)

    # --- files -------------------------------------------------------------------------------------------

    async def _rename_file(self, node: FileNode, to: _Place, target: Resolved) -> None:
        if target.directory:
            raise IsADirectory(f"{to.name}: is a directory")
        old_parent = node.parent
        assert old_parent is not None
        if to.parent.bucket_id == node.bucket_id and to.name == node.name:
            return
        demand_movable(node)
        self._world.demand(Operation.UNLINK, node.name)
        self._changes.locks.demand_deletable([node.current])
        replaced = self._world.nodes.child(to.parent, to.component)
        if isinstance(replaced, FileNode):
            await self._changes.keep_open_content(replaced)
        if node.working is not None and node.working.large is not None:
            # Its version will appear under the old name: only what is queued sees to that, by a hide.
            await self._commits.commit(node)
        async with node.lock:  # no commit puts the old name meanwhile
            if node.gone:
                raise NoSuchFile("the file was removed")
            if node.working is None and not self._is_free_to_move(node):
                self._world.demand(Operation.RENAME_FILE, node.name)
            self._move_file(node, to)
        self._commits.touch(old_parent)
        self._commits.touch(to.parent)
        self._changes.keep_directory(old_parent)
        await self._world.journal.commit()

    def _is_free_to_move(self, node: FileNode) -> bool:
        """Say whether what the file holds is only here yet."""
        op = self._commits.pending_op(node)
        return op is not None and not op.sent_before and (op.draft is None or op.draft.large is None)

    def _move_file(self, node: FileNode, to: _Place) -> None:
        """Move one file: its promises to B2, what is shown, and its node."""
        world = self._world
        old_bucket, old_name = node.bucket_id, node.name
        self._drop_target_node(to)
        op = self._promise(node, to)
        exists = _is_begun(op) or self._changes.may_exist(old_bucket, old_name)
        hide = world.journal.hide(old_bucket, old_name, exists=exists, after=[op] if op is not None else [])
        world.overlay.set(old_bucket, old_name, Mark.GONE)
        world.nodes.move(node, to.parent, to.component)
        world.overlay.set(to.parent.bucket_id, to.name, node.current)
        if hide is None:
            world.overlay.settle(old_bucket, old_name)

    def _drop_target_node(self, to: _Place) -> None:
        """Take the name away from what has it now; who holds that open goes on."""
        other = self._world.nodes.child(to.parent, to.component)
        if isinstance(other, FileNode):
            if other.working is not None:
                self._world.journal.streams.give_up(other.working)
            pin(other)
            self._world.nodes.detach(other)
            if not other.handles:
                self._changes.discard_unnamed(other)

    def _promise(self, node: FileNode, to: _Place) -> Op | None:
        """Queue what brings the node's committed content to the new name; None where nothing is committed."""
        journal = self._world.journal
        if node.content is None:
            return None
        content: Content = node.content
        if isinstance(content, Draft) and content.result is not None:
            content = content.result
        op = self._commits.pending_op(node)
        if op is not None and journal.move(op, to.parent.bucket_id, to.name):
            return op
        copy = self._copy_of(content, to.parent.bucket_id, to.name)
        node.content = copy
        _rebase(node, content, copy)
        return journal.put(to.parent.bucket_id, to.name, copy)

    # --- directories -------------------------------------------------------------------------------------

    async def _rename_directory(self, node: DirectoryNode, to: _Place, target: Resolved) -> None:
        old_parent = node.parent
        assert old_parent is not None
        if not is_utf8(node.prefix):
            raise NotPermitted(f"{to.name}: a directory whose name is not UTF-8 cannot be renamed")
        if to.parent.is_inside(node):
            if to.parent is old_parent and to.component + "/" == node.key:
                return
            raise InvalidArgument("a directory cannot move into itself")
        if target.file is not None and not target.directory:
            raise NotADirectory(f"{to.name}: is a file")
        if to.parent is old_parent and to.component + "/" == node.key:
            return
        if target.directory:
            other = self._tree.directory_node(to.parent, to.component + "/")
            if other is node:
                return
            await self._changes.demand_empty(other)
        files = await self._everything_under(node)
        self._changes.locks.demand_deletable([content for _, content in files])
        moves = _new_names(files, node.prefix, to.name + "/")
        for new_name in moves.values():
            check_uploadable(new_name)
        if node.gone or to.parent.gone:
            raise NoSuchFile("the directory was removed meanwhile")
        if target.directory:  # where there is none, nothing keeps it: a hide would be refused
            self._clear_place(to.parent.bucket_id, to.name + "/", arriving=set(moves.values()))
        self._move_directory(node, to, files, moves)
        self._commits.touch(old_parent)
        self._commits.touch(to.parent)
        self._changes.keep_directory(old_parent)
        await self._world.journal.commit()

    async def _everything_under(self, node: DirectoryNode) -> list[tuple[str, Content]]:
        """Return all files under a directory, placeholders included, as B2 and own changes have them."""
        world, bucket_id, prefix = self._world, node.bucket_id, node.prefix
        await self._commit_open_files(node)
        rows = await world.listings.list_all(bucket_id, prefix)
        found: dict[str, Content] = {row.name: row for row in rows}
        for name, fact in world.overlay.all_under(bucket_id, prefix):
            if isinstance(fact, Mark):
                found.pop(name, None)
            else:
                found[name] = fact
        return sorted(found.items())

    async def _commit_open_files(self, node: DirectoryNode) -> None:
        """Commit what is being written under a directory, so that its promises can be moved."""
        todo: list[Node] = [node]
        while todo:
            current = todo.pop()
            if isinstance(current, DirectoryNode):
                todo.extend(current.children.values())
            elif isinstance(current, FileNode):
                await self._commits.commit(current)

    def _move_directory(
        self, node: DirectoryNode, to: _Place, files: list[tuple[str, Content]], moves: Mapping[str, str]
    ) -> None:
        """Move all files and directories, in memory and in the journal, between two awaits."""
        world, bucket_id, old_prefix = self._world, node.bucket_id, node.prefix
        new_bucket, new_prefix = to.parent.bucket_id, to.name + "/"
        directories = {old_prefix}
        queue = world.journal.queue
        moving: list[tuple[tuple[Op, ...], int]] = []
        for name, content in files:
            if name in moves:
                child = self._tree.find_file(bucket_id, name)
                moved = self._move_content(child, bucket_id, name, content, new_bucket, moves[name])
                world.overlay.set(new_bucket, moves[name], moved)
                tails = queue.tail(new_bucket, moves[name]), queue.tail(bucket_id, name)
                moving.append((tuple(op for op in tails if op is not None), content.size))
            else:
                world.journal.hide(bucket_id, name, exists=True)
            directory = name[: name.rfind("/") + 1]
            while directory not in directories:
                directories.add(directory)
                directory = directory[: directory.rfind("/", 0, len(directory) - 1) + 1]
        world.journal.begin_move((bucket_id, old_prefix), (new_bucket, new_prefix), moving)
        directories.update(world.overlay.directories_under(bucket_id, old_prefix))
        for directory in directories:
            world.overlay.set(bucket_id, directory, Mark.GONE)
            world.overlay.set(new_bucket, new_prefix + directory[len(old_prefix) :], Mark.DIRECTORY)
        replaced = to.parent.children.get(to.component + "/")
        if isinstance(replaced, DirectoryNode):
            world.nodes.detach(replaced)
        world.nodes.move(node, to.parent, to.component + "/")
        world.nodes.set_bucket(node, new_bucket, to.parent.bucket_name)
        world.listings.forget(new_bucket, new_prefix)
        for directory in directories:
            world.listings.seed_empty(new_bucket, new_prefix + directory[len(old_prefix) :])
        world.overlay.settle(bucket_id, old_prefix + PLACEHOLDER)
        world.overlay.settle(new_bucket, new_prefix + PLACEHOLDER)

    def _clear_place(self, bucket_id: str, prefix: str, *, arriving: set[str]) -> None:
        """Let what keeps an empty directory go, before another takes its place and its listing is forgotten.

        A placeholder that is written over is none of the new directory's; it still shows until then.
        """
        world = self._world
        listing = world.listings.peek(bucket_id, prefix)
        markers = listing.marker_names if listing is not None else set()
        for name in {prefix + PLACEHOLDER} | markers:
            exists = name in markers or self._changes.may_exist(bucket_id, name)
            if name in arriving:
                if exists:
                    world.journal.may_show(bucket_id, name)
            elif exists:
                world.journal.hide(bucket_id, name, exists=True)
                world.overlay.set(bucket_id, name, Mark.GONE)

    def _move_content(
        self,
        child: FileNode | None,
        bucket_id: str,
        name: str,
        content: Content,
        new_bucket: str,
        new_name: str,
    ) -> Content:
        """Queue the put of one file at its new name and the hide of the old; return what it holds now."""
        world, journal = self._world, self._world.journal
        if child is not None and child.content is None:
            return child.current  # made while B2 was asked, and promised to nobody yet
        if isinstance(content, Draft) and content.result is not None:
            content = content.result
        op = journal.queue.ops.get(content.id) if isinstance(content, Draft) else None
        moved: Content = content
        if op is None or not journal.move(op, new_bucket, new_name):
            moved = draft = self._copy_of(content, new_bucket, new_name)
            if child is not None:
                _rebase(child, content, draft)
            op = journal.put(new_bucket, new_name, draft)
        exists = isinstance(content, FileVersion) or _is_begun(op)
        exists = exists or self._changes.may_exist(bucket_id, name)
        hide = journal.hide(bucket_id, name, exists=exists, after=[op])
        world.overlay.set(bucket_id, name, Mark.GONE)
        if hide is None:
            world.overlay.settle(bucket_id, name)
        if child is not None and child.content is not None and same_content(child.content, content):
            child.content = moved  # else something newer is being committed, and goes to the new name itself
        return moved

    def _copy_of(self, content: Content, bucket_id: str, name: str) -> Draft:
        """Return a draft that is a copy of *content* for another name, changed at this moment.

        The moment is what tells it from the copy that an earlier rename made, should the file be back at that
        name when a crash leaves open which of the two B2 has.
        """
        is_directory = is_placeholder(name[name.rfind("/") + 1 :], content.size)
        keep = content.info if isinstance(content, FileVersion) else content.keep
        attributes = attributes_of(content, is_directory=is_directory)
        changed = replace(attributes, ctime_ns=time.time_ns())
        info = to_info(changed, keep, limit=NO_LIMIT)
        has_room = OWN_NAME in keep or len(info) <= MOST_ENTRIES
        has_room = has_room and header_bytes(info, name) <= self._world.info_limit(bucket_id)
        return self._world.journal.new_draft(
            changed if has_room else attributes,
            base=content,
            content_type=content.content_type or AUTOMATIC_CONTENT_TYPE,
            keep=keep,
        )


def _is_begun(op: Op | None) -> bool:
    """Say whether B2 will show a version under the name that the file had when it was begun."""
    return op is not None and op.draft is not None and op.draft.large is not None


def _rebase(node: FileNode, content: Content, copy: Draft) -> None:
    """Have what is being written over *content* build on its copy: with hard deletion the original goes."""
    base = node.working.resolve_base() if node.working is not None else None
    if node.working is not None and base is not None and same_content(base, content):
        node.working.base = copy


def _new_names(files: list[tuple[str, Content]], old_prefix: str, new_prefix: str) -> dict[str, str]:
    """Say which new name each file under a directory gets.

    B2 takes no new placeholder of the S3 tools' form (`dir/`): it becomes one of ours, or nothing where there
    is one already.
    """
    names = {name for name, _ in files}
    moves: dict[str, str] = {}
    for name, content in files:
        new_name = new_prefix + name[len(old_prefix) :]
        if not (name.endswith("/") and content.size == 0):
            moves[name] = new_name
        elif name + PLACEHOLDER not in names:
            moves[name] = new_name + PLACEHOLDER
    return moves


def attributes_of(content: Content, *, is_directory: bool = False) -> Attributes:
    """Return the attributes that a draft or a version carries."""
    if isinstance(content, Draft):
        return content.attributes
    return from_info(content.info, fallback_ms=content.uploaded_ms, is_directory=is_directory)
