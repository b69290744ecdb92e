"""Turn changes of files into promises to B2: working drafts, attributes, directory placeholders.

Everything here changes memory at once and leaves the journal to be committed by the caller, except where it
says `await`. Knows nodes and the journal; knows neither handles nor how names are found.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace

from b2mount.core.access import Operation
from b2mount.core.errors import B2MountError, LocalStorageError, NotPermitted
from b2mount.core.names import PLACEHOLDER, check_uploadable, is_utf8
from b2mount.core.posix import Attributes, Kind, to_info
from b2mount.core.scope import Place, place
from b2mount.fs.nodes import DirectoryNode, FileNode
from b2mount.fs.world import World
from b2mount.journal.drafts import AUTOMATIC_CONTENT_TYPE, Draft
from b2mount.journal.journal import base_id
from b2mount.journal.ops import Op, State
from b2mount.store.store import FileVersion

log = logging.getLogger("b2mount.fs")

MARKER_CONTENT_TYPE = "application/x-bzEmpty"  # as other tools mark such placeholders


class Commits:
    """What is written, and when it is safe."""

    def __init__(self, world: World) -> None:
        self._world = world

    # --- content -----------------------------------------------------------------------------------------

    def working_draft(self, node: FileNode) -> Draft:
        """Return the draft that takes a file's writes, beginning one over what it holds now."""
        if node.working is None:
            demand_changeable(node)
            base = node.current
            node.working = self._world.journal.new_draft(
                node.attributes,
                base=base,
                content_type=base.content_type or AUTOMATIC_CONTENT_TYPE,
                keep=base.info if isinstance(base, FileVersion) else base.keep,
            )
            if node.gone:
                node.working.spool.leave_room()
        return node.working

    async def commit(self, node: FileNode) -> None:
        """Return when what was written to a file is safe in the journal.

        Nothing happens for a file that no name leads to any more. Raises OutOfSpace, LocalStorageError.
        """
        if node.gone or (node.working is None and not node.is_locked and self._is_safe(node)):
            return
        world = self._world
        async with node.lock:  # who comes while another commits what it wrote, too, waits for that
            draft = node.working
            if node.gone:
                return
            if draft is None:
                if not self._is_safe(node):  # the commit before could not be written down
                    await world.journal.commit()
                return
            _freeze(node, draft)
            try:
                await world.journal.flatten(draft)
            except LocalStorageError as exc:
                log.warning("%s: both versions will be sent: %s", node.name, exc)
            if node.gone:  # unlinked meanwhile
                world.journal.discard(draft)
                return
            made_new = draft.resolve_base() is None
            over = "" if made_new else base_id(draft, node.name)
            world.journal.put(node.bucket_id, node.name, draft, over=over)
            world.overlay.set(node.bucket_id, node.name, draft)
            await world.journal.commit()

    def _is_safe(self, node: FileNode) -> bool:
        """Say whether what a file was promised to hold survives a crash."""
        op = self.pending_op(node)
        return op is None or self._world.journal.database.is_durable(op)

    def renew(self, node: FileNode) -> None:
        """Promise what a file holds as a version of its own; what is written next goes over that.

        For bytes that must not change any more, or that have to leave the spool. It has a name and a working
        draft; durable after the next commit of the journal.
        """
        draft = node.working
        assert draft is not None and not node.gone
        _freeze(node, draft)
        self._world.journal.put(node.bucket_id, node.name, draft)
        self._world.overlay.set(node.bucket_id, node.name, draft)

    def changeable(self, node: FileNode, start: int, end: int) -> Draft:
        """Return the draft that takes bytes [start, end), which may have been sent already."""
        draft = self.working_draft(node)
        large, journal = draft.large, self._world.journal
        if large is None or start >= large.planned_to:
            return draft
        if large.may_change(start, end):
            journal.database.record_parts(large, large.touch(start, end))
        elif not large.away_bytes:
            journal.streams.give_up(draft)
        else:
            self.renew(node)
        return self.working_draft(node)

    def resizable(self, node: FileNode, size: int) -> Draft:
        """Return the draft that can be made *size* bytes long."""
        draft = self.working_draft(node)
        if draft.large is not None and size < draft.large.planned_to:
            if draft.large.away_bytes and size:
                self.renew(node)
            else:
                self._world.journal.streams.give_up(draft)
                draft.torn = False  # nothing of what was away shows any more
        return self.working_draft(node)

    async def bring_back(self, node: FileNode, draft: Draft) -> None:
        """Return when bytes that a draft let go of can be read: when it is a version in B2."""
        if draft is node.working:
            await self.commit(node)
        op = self._world.journal.queue.ops.get(draft.id)
        if op is not None:
            await self._world.journal.uploader.wait(op)
        elif draft.result is None:
            raise LocalStorageError(f"{node.name}: what was written is not here any more")

    def pending_op(self, node: FileNode) -> Op | None:
        """Return the operation that will bring a file's committed content to B2; None when it is there."""
        content = node.content
        if not isinstance(content, Draft) or content.result is not None:
            return None
        return self._world.journal.queue.ops.get(content.id)

    async def sync(self, node: FileNode) -> None:
        """Return when a file's content and attributes are in B2. Raises why they cannot be."""
        await self.commit(node)
        op = self.pending_op(node)
        if op is not None and not node.gone:
            await self._world.journal.uploader.wait(op)

    # --- attributes --------------------------------------------------------------------------------------

    def set_attributes(self, node: FileNode, attributes: Attributes) -> None:
        """Give a file other attributes; those of a stored one cost a copy onto itself.

        Raises NotPermitted, AttributesTooLarge.
        """
        changed = attributes != node.attributes
        attributes = replace(attributes, ctime_ns=time.time_ns())
        if node.working is not None or node.gone:
            draft = self.working_draft(node)
            if not node.gone:
                self._check_size(node, attributes, draft.keep)
            draft.written_ns = None
            draft.attributes = attributes
            return
        if not changed:
            return
        journal, content = self._world.journal, node.current
        keep = content.info if isinstance(content, FileVersion) else content.keep
        self._check_size(node, attributes, keep)
        op = self.pending_op(node)
        if isinstance(content, Draft) and op is None:  # on its way into the journal: `commit` is at work
            content.attributes = attributes
            return
        if op is not None and op.state is State.QUEUED and isinstance(content, Draft):
            content.attributes = attributes
            journal.update(op)
            return
        self._world.demand(Operation.SET_ATTRIBUTES, node.name)
        demand_changeable(node)
        draft = journal.new_draft(attributes, base=content, content_type=content.content_type, keep=keep)
        node.content = draft
        journal.put(node.bucket_id, node.name, draft, over=base_id(draft, node.name))
        self._world.overlay.set(node.bucket_id, node.name, draft)

    def _check_size(self, node: FileNode, attributes: Attributes, keep: Mapping[str, str]) -> None:
        """Raise AttributesTooLarge where B2 would not take the attributes with the file."""
        limit = self._world.info_limit(node.bucket_id)
        to_info(attributes, keep, limit=limit, file_name=node.name)

    # --- directories -------------------------------------------------------------------------------------

    def set_directory_attributes(self, directory: DirectoryNode, attributes: Attributes) -> None:
        """Give a directory other attributes, kept in its placeholder; NotPermitted for made-up ones."""
        world = self._world
        if directory.shows_buckets or place(directory.prefix, world.scope.limit) is not Place.INSIDE:
            raise NotPermitted("this directory is made up from the key and cannot be changed")
        world.demand(Operation.MKDIR, directory.prefix)
        limit = world.info_limit(directory.bucket_id)
        to_info(attributes, {}, limit=limit, file_name=directory.prefix + PLACEHOLDER)
        check_uploadable(directory.prefix + PLACEHOLDER)
        fact = world.overlay.get(directory.bucket_id, directory.prefix + PLACEHOLDER)
        listing = world.listings.last_known(directory.bucket_id, directory.prefix)
        if fact is None and listing is not None and listing.has(PLACEHOLDER):
            raise NotPermitted(f"{directory.prefix}{PLACEHOLDER} has content, so it cannot hold attributes")
        if not directory.gone:
            directory.touched_ns = None
            self.put_marker(directory, replace(attributes, ctime_ns=time.time_ns()))

    def put_marker(self, directory: DirectoryNode, attributes: Attributes) -> Op:
        """Have a directory kept by a placeholder that holds its attributes."""
        return self.put_marker_at(directory.bucket_id, directory.prefix, attributes)

    def put_marker_at(self, bucket_id: str, prefix: str, attributes: Attributes) -> Op:
        """Have the directory of a prefix kept by a placeholder."""
        world, name = self._world, prefix + PLACEHOLDER
        tail = world.journal.queue.tail(bucket_id, name)
        if tail is not None and tail.draft is not None and tail.state is State.QUEUED:
            tail.draft.attributes = attributes
            world.journal.update(tail)
            return tail
        draft = world.journal.new_draft(
            replace(attributes, kind=Kind.DIRECTORY), content_type=MARKER_CONTENT_TYPE
        )
        world.overlay.set(bucket_id, name, draft)
        return world.journal.put(bucket_id, name, draft)

    def touch(self, directory: DirectoryNode) -> None:
        """Take note that a name in a directory came or went."""
        directory.touched_ns = time.time_ns()


def _freeze(node: FileNode, draft: Draft) -> None:
    """Let a draft take no more writes: those begin another one over it."""
    draft.settle_mtime()
    draft.frozen = True
    node.content, node.working = draft, None


def demand_changeable(node: FileNode) -> None:
    """Raise NotPermitted where B2 takes no new version of a file, for its name.

    Names that break the native API's rules are made through S3: control characters, `a//b`, a backslash.
    """
    if node.gone:
        return
    try:
        check_uploadable(node.name)
    except B2MountError as exc:
        raise NotPermitted(f"{node.name}: cannot be changed: {exc}") from exc


def demand_movable(node: FileNode) -> None:
    """Raise NotPermitted for a file whose name the journal cannot hold: not UTF-8, or ending in `/`."""
    if node.key == "" or not is_utf8(node.name):
        raise NotPermitted(f"{node.name}: a file of such a name cannot be renamed")


def can_be_kept(directory: DirectoryNode) -> bool:
    """Say whether B2 takes a placeholder under the directory's name; not so for some that S3 tools make."""
    try:
        check_uploadable(directory.prefix + PLACEHOLDER)
    except B2MountError:
        return False
    return True
