"""What happens when the spool is full: writers wait until some of what is written is in B2.

A write never fails for want of room as long as anything moves. Parts that B2 has are let go; what is closed
is sent at once; what is open is begun as a large file; and where none of that helps, an open file is sent as
a version of its own, as fsync would, and goes on from there. What has no name any more is never sent: it is
not counted, and the disk is its limit. Knows nodes and the journal; no handles.
"""

import trio

from b2mount.core.errors import B2MountError, B2Unavailable
from b2mount.fs.commits import Commits
from b2mount.fs.nodes import FileNode
from b2mount.fs.world import World
from b2mount.journal.ops import State

ROUND = 0.25  # seconds between two looks at what moved


class Pressure:
    """The brake on writers."""

    def __init__(self, world: World, commits: Commits) -> None:
        self._world = world
        self._commits = commits

    def is_full(self, size: int) -> bool:
        """Say whether a write of *size* bytes has to wait."""
        return self._world.journal.room.lacks(size) > 0

    async def wait_for_room(self, size: int) -> None:
        """Return when *size* bytes fit into the spool.

        Raises why nothing could be sent for as long as --io-timeout says; what was written before stays.
        """
        journal = self._world.journal
        room, streams = journal.room, journal.streams
        last, since, rounds = -1, trio.current_time(), 0
        while room.lacks(size):
            await streams.make_room(room.lacks(size) + (room.limit or 0) // 8)
            if not room.lacks(size):
                return
            moved = room.progress + streams.sent_bytes
            rounds = 0 if moved != last else rounds + 1
            if moved != last:
                last, since = moved, trio.current_time()
            if trio.current_time() - since > self._world.options.io_timeout:
                raise self._reason()
            self._send_what_can_be(stuck=rounds > 2)
            with trio.move_on_after(ROUND):
                await room.moved.wait()

    def _send_what_can_be(self, *, stuck: bool) -> None:
        journal = self._world.journal
        waiting = [op for op in journal.queue.ops.values() if op.error is None]
        for op in waiting:
            if op.state is State.QUEUED:
                journal.uploader.hurry(op)
        writing = [
            node
            for node in self._world.nodes
            if isinstance(node, FileNode) and node.working is not None and not node.gone
        ]
        for node in writing:
            assert node.working is not None
            journal.streams.offer(node.working, node.bucket_id, node.name, pressed=True)
        if not stuck or waiting or not journal.streams.is_idle:
            return
        held = [(node.working.extents.dirty_bytes, node.ino, node) for node in writing if node.working]
        if held and max(held)[0]:
            self._commits.renew(max(held)[2])

    def _reason(self) -> B2MountError:
        """Return the error of what would have made room."""
        for op in self._world.journal.queue.ops.values():
            if op.error is not None:
                return op.error
        return B2Unavailable(
            f"the spool is full, and nothing could be sent for {self._world.options.io_timeout:g} s"
        )
