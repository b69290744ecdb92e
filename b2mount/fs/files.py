"""Open files: what open, read, write, flush, fsync and release mean.

A read whose bytes are here is answered without awaiting, and so is a write (the spool is a local file). All
handles of a file see its writers here; what somebody else uploads never shows in an open file, since it gets
a node of its own.
"""

import itertools
import os
import time
from dataclasses import dataclass, replace

from b2mount.core.access import Operation
from b2mount.core.errors import BadHandle, FileTooLarge, IsADirectory
from b2mount.core.parts import Limits
from b2mount.fs.changes import Changes
from b2mount.fs.commits import Commits, demand_changeable
from b2mount.fs.contents import Contents, Reads
from b2mount.fs.nodes import FileNode, Node
from b2mount.fs.pressure import Pressure
from b2mount.fs.scans import Scans
from b2mount.fs.world import World
from b2mount.journal.drafts import Draft, lacking
from b2mount.store.store import FileVersion

MAX_SIZE = Limits().maximum_file


@dataclass(slots=True)
class Handle:
    """One open file."""

    node: FileNode
    readable: bool
    writable: bool
    synchronous: bool  # O_SYNC or O_DSYNC: a write returns when B2 has it
    reads: Reads | None = None


class Files:
    """All open files of one mount."""

    def __init__(self, world: World, commits: Commits, changes: Changes, contents: Contents) -> None:
        self._world = world
        self._commits = commits
        self._changes = changes
        self._contents = contents
        self.scans = Scans(world)
        self.pressure = Pressure(world, commits)
        self._handles: dict[int, Handle] = {}
        self._numbers = itertools.count(1)

    @property
    def open_count(self) -> int:
        """How many handles are open."""
        return len(self._handles)

    def open(self, node: Node, flags: int) -> int:
        """Open an existing file. Raises what the key or the mount refuses."""
        if not isinstance(node, FileNode):
            raise IsADirectory("open: is a directory")
        access = flags & os.O_ACCMODE
        readable, writable = access != os.O_WRONLY, access != os.O_RDONLY
        name = node.name
        if readable:
            self._world.demand(Operation.READ, name)
        truncates = bool(flags & os.O_TRUNC)  # Linux does so for a reader, too, who may write
        if writable or truncates:
            is_stored = isinstance(node.current, FileVersion) and node.size > 0
            patches = is_stored and not truncates
            self._world.demand(Operation.PATCH if patches else Operation.REPLACE, name)
            demand_changeable(node)
        if truncates:
            self.resize(node, 0)
        return self._add(node, readable, writable, flags)

    def adopt(self, node: FileNode, flags: int) -> int:
        """Open a file that was just made by create."""
        access = flags & os.O_ACCMODE
        return self._add(node, access != os.O_WRONLY, access != os.O_RDONLY, flags)

    def _add(self, node: FileNode, readable: bool, writable: bool, flags: int) -> int:
        synchronous = bool(flags & (os.O_SYNC | os.O_DSYNC))
        number = next(self._numbers)
        self._handles[number] = Handle(node, readable, writable, synchronous)
        node.handles += 1
        node.writers += writable
        return number

    def handle(self, number: int) -> Handle:
        """Return an open file. Raises BadHandle."""
        if number not in self._handles:
            raise BadHandle(f"handle {number} is not open")
        return self._handles[number]

    # --- reading -----------------------------------------------------------------------------------------

    def read_now(self, number: int, offset: int, size: int) -> bytes | memoryview | None:
        """Return what a read gives where that needs no call, else None. Raises BadHandle."""
        handle = self.handle(number)
        if not handle.readable:
            raise BadHandle("the file was not opened for reading")
        self._world.demand_living_key()
        content = handle.node.current
        if isinstance(content, FileVersion):
            if handle.reads is None or handle.reads.file_id != content.file_id:
                if handle.reads is not None:
                    self._contents.end_reads(handle.reads)
                handle.reads = Reads(content)
                self.scans.on_first_read(handle.node, content)
            self._contents.read_ahead(content, handle.reads, offset, size)
        elif lacking(content, offset, offset + size) is not None:
            return None
        return self._contents.read_now(content, offset, offset + size)

    async def read(self, number: int, offset: int, size: int) -> bytes | memoryview:
        """Return up to *size* bytes; fewer only at the end of the file."""
        node = self.handle(number).node
        while isinstance(content := node.current, Draft):
            absent = lacking(content, offset, offset + size)
            if absent is None:
                break
            await self._commits.bring_back(node, absent)
        return await self._contents.read(node.current, offset, offset + size)

    # --- writing -----------------------------------------------------------------------------------------

    def must_wait(self, number: int, size: int) -> bool:
        """Say whether a write has to wait for room in the spool. Raises BadHandle.

        One to a file without a name never does: it cannot be sent, so no wait would make room for it.
        """
        return self.pressure.is_full(size) and not self.handle(number).node.gone

    def write(self, number: int, offset: int, data: bytes | memoryview) -> int:
        """Take bytes into the file's working draft. Raises OutOfSpace, LocalStorageError, FileTooLarge."""
        handle = self.handle(number)
        if not handle.writable:
            raise BadHandle("the file was not opened for writing")
        if offset + len(data) > MAX_SIZE:
            raise FileTooLarge(f"B2 holds files of up to {MAX_SIZE} bytes")
        node = handle.node
        draft = self._commits.changeable(node, offset, offset + len(data))
        draft.write(offset, data)
        draft.written_ns = time.time_ns()
        if draft.extents.dirty_bytes >= draft.stream_at and not node.gone:
            self._world.journal.streams.offer(draft, node.bucket_id, node.name)
        return len(data)

    def resize(self, node: FileNode, size: int) -> None:
        """Truncate or extend a file's working draft."""
        if size > MAX_SIZE:
            raise FileTooLarge(f"B2 holds files of up to {MAX_SIZE} bytes")
        draft = self._commits.resizable(node, size)
        draft.resize(size)
        draft.written_ns = time.time_ns()

    async def flush(self, number: int) -> None:
        """Make what was written through any handle of the file safe in the journal (each close does)."""
        handle = self.handle(number)
        if self._world.options.write_through and handle.writable:
            await self._commits.sync(handle.node)
        else:
            await self._commits.commit(handle.node)

    async def fsync(self, number: int) -> None:
        """Return when the file is in B2."""
        await self._commits.sync(self.handle(number).node)

    async def release(self, number: int) -> None:
        """Close a handle for good."""
        handle = self._handles.pop(number, None)
        if handle is None:
            return
        node = handle.node
        if handle.reads is not None:
            self._contents.end_reads(handle.reads)
        try:
            await self._commits.commit(node)
        finally:
            node.handles -= 1
            node.writers -= handle.writable
            if node.handles == 0:
                if node.gone:
                    self._changes.discard_unnamed(node)
                elif node.working is None and not isinstance(node.current, FileVersion):
                    node.current.spool.close()
                self._world.nodes.drop_if_unused(node)

    async def set_size(self, node: FileNode, size: int, *, through_handle: bool) -> None:
        """Carry out truncate(2) or ftruncate(2); without a handle it is in the journal at return."""
        if not through_handle:
            is_stored = isinstance(node.current, FileVersion) and size > 0
            self._world.demand(Operation.PATCH if is_stored else Operation.REPLACE, node.name)
        if size == node.size and node.working is None:
            self._commits.set_attributes(node, replace(node.attributes, mtime_ns=time.time_ns()))
        else:
            self.resize(node, size)
        if not through_handle:
            await self._commits.commit(node)
