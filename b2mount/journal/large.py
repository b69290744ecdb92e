"""Make large files of parts, a part that B2 has already not being sent again.

What is planned, begun and sent is in the journal (unfinished.py), so the next attempt, after a failure or a
crash, goes on with the parts that B2 lists. What is of no use any more is cancelled. Knows nothing of how the
parts are chosen.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable

import trio

from b2mount.core.errors import (
    B2MountError,
    B2Unavailable,
    CapReached,
    InvalidArgument,
    LocalStorageError,
    NoSuchFile,
    RefusedByB2,
    Throttled,
    VersionGone,
)
from b2mount.core.grant import Capability
from b2mount.core.posix import mark_of
from b2mount.journal.bodies import sha1_of
from b2mount.journal.database import Database
from b2mount.journal.unfinished import LargeFile, Part
from b2mount.store.store import Action, Body, FileVersion, PartRow, Store

log = logging.getLogger("b2mount.journal")

PARTS_AT_ONCE = 16  # of one file; the store limits what all files send at once
WORTH_KEEPING = (B2Unavailable, Throttled, CapReached)  # after these the same parts will do
NOT_THERE = (NoSuchFile, VersionGone, RefusedByB2, InvalidArgument)  # an unfinished file that is no more

BodyOf = Callable[[int, int], Awaitable[Body]]
Extend = Callable[[deque[int]], bool]


class LargeFiles:
    """The sending of large files."""

    def __init__(self, store: Store, database: Database, on_part: Callable[[], None]) -> None:
        """Send through *store*; *on_part* is told of each part that B2 has got."""
        self._store = store
        self._database = database
        self._on_part = on_part

    async def complete(self, large: LargeFile, body_of: BodyOf) -> FileVersion:
        """Send what B2 misses of a wholly planned file; finish it. Raises B2MountError; try again then."""
        async with large.lock:
            try:
                finished = large.version or await self._look(large, body_of)
                if finished is None:
                    await self._begin(large)
                    await self._send_parts(large, body_of, None)
                    assert large.file_id is not None
                    sha1s = [part.sha1 or "" for part in large.parts]
                    await self._commit(large)  # a key that may not ask goes by what is written here
                    finished = await self._store.finish_large(large.file_id, sha1s)
            except BaseException:
                large.looked = False
                raise
            large.version = finished
            self._database.record_large(large)
            if large.streamed:  # its place is taken next: who comes after a crash must find it
                await self._commit(large)
            return finished

    async def stream(self, large: LargeFile, body_of: BodyOf, extend: Extend) -> None:
        """Send parts as *extend* plans them, until it says that there will be no more, and all are sent.

        *extend* appends the numbers of new parts to what it is given; `large.tell()` has it asked again.
        """
        async with large.lock:
            try:
                await self._look(large, body_of)
                await self._begin(large)
                await self._send_parts(large, body_of, extend)
            except BaseException:
                large.looked = False
                raise

    async def abandon(self, large: LargeFile) -> None:
        """Stop sending a file that nothing in the journal needs any more, and have B2 keep nothing of it."""
        large.dropped = True
        large.tell()
        try:
            await self._database.commit()  # else a crash would find what needs it, and not the file
        except B2MountError as exc:
            log.info("%s: %s is removed by the next mount: %s", large.name, large.file_id, exc)
            return
        await self.cancel(large)

    async def cancel(self, large: LargeFile) -> bool:
        """Have B2 keep nothing of a file; False where that fails: then the next mount tries again."""
        if not await self.remove(large):
            return False
        self._database.forget_large(large)
        await self._commit(large)
        return True

    async def remove(self, large: LargeFile) -> bool:
        """Remove a file from B2, but not from the journal; False where that fails."""
        async with large.lock:
            try:
                await self._remove(large)
            except B2MountError as exc:
                what = "large file" if large.version is not None else "unfinished large file"
                log.warning("%s: %s %s is left in B2 for now: %s", large.name, what, large.file_id, exc)
                return False
        return True

    def forget(self, large: LargeFile) -> None:
        """Take note that a finished file is what its draft was to become."""
        self._database.forget_large(large)

    async def _remove(self, large: LargeFile) -> None:
        if large.version is not None:
            if not large.removed and self._store.grant.has(Capability.DELETE_FILES):
                await self._store.delete_version(large.name, large.version.file_id)
                large.removed = True
            return
        if large.file_id is None and large.doubtful:
            await self._adopt(large)
        if large.file_id is not None:
            await self._store.cancel_large(large.file_id)

    # --- beginning ---------------------------------------------------------------------------------------

    async def _begin(self, large: LargeFile) -> None:
        """Have B2 begin the file; that it was asked is written down first, so that none is forgotten."""
        if large.file_id is None and large.doubtful:
            await self._adopt(large)
        if large.file_id is None:
            large.doubtful = True
            self._database.record_large(large)
            self._database.record_parts(large, range(1, len(large.parts) + 1))
            await self._commit(large)
            large.file_id = await self._store.start_large(
                large.bucket_id, large.name, content_type=large.content_type, info=large.info
            )
            large.doubtful, large.looked = False, True
            self._database.record_large(large)
            await self._commit(large)

    async def _commit(self, large: LargeFile) -> None:
        """Make what is known of the file durable; on a full disk go on without, for sending makes room."""
        try:
            await self._database.commit()
        except LocalStorageError as exc:
            log.info("%s: sent without a mark in the journal: %s", large.name, exc)

    async def _adopt(self, large: LargeFile) -> None:
        """Find the file that B2 may have begun although its reply never came, by the mark that it was given.

        One without is left alone: another host's, begun for the same file, may look alike to the last bit.
        """
        mark = mark_of(large.info)
        if mark is None or not self._store.grant.has(Capability.LIST_FILES):
            return
        rows = await self._store.list_unfinished(large.bucket_id, large.name)
        ours = [row for row in rows if row.name == large.name and mark_of(row.info) == mark]
        for row in ours[1:]:  # begun by several attempts
            await self._store.cancel_large(row.file_id)
        if ours and not large.file_id:
            large.file_id, large.doubtful = ours[0].file_id, False
            self._database.record_large(large)

    # --- going on ----------------------------------------------------------------------------------------

    async def _look(self, large: LargeFile, body_of: BodyOf) -> FileVersion | None:
        """Find which parts B2 has; return the version where the file is finished already."""
        if large.file_id is None or large.looked:
            return None
        try:
            rows = {row.number: row for row in await self._store.list_parts(large.file_id)}
        except NOT_THERE:
            finished = await self._finished(large)
            if finished is None:
                self._lose(large)
            return finished
        for number, part in enumerate(large.parts, 1):
            writes = part.writes
            sha1 = await self._sha1_there(part, rows.pop(number, None), body_of)
            part.sha1 = sha1 if part.writes == writes else None
            if part.sha1 is None and part.away:
                raise LocalStorageError(f"B2 lost part {number} of {large.name}, which was in B2 alone")
        if rows:  # more parts than are planned: a file has all parts that it has
            await self._store.cancel_large(large.file_id)
            self._lose(large)
        large.looked = True
        return None

    async def _sha1_there(self, part: Part, row: PartRow | None, body_of: BodyOf) -> str | None:
        """Return the SHA-1 of a part that B2 has as it is planned; None where it is to be sent."""
        if row is None or row.size != part.size:
            return None
        if part.copied and part.sha1 is None:
            return row.sha1  # its range was written down before it was copied, and never changes
        if part.sha1 is None:
            body = await body_of(part.start, part.end)
            return row.sha1 if await trio.to_thread.run_sync(sha1_of, body) == row.sha1 else None
        return row.sha1 if part.sha1 == row.sha1 else None

    def _lose(self, large: LargeFile) -> None:
        """Take note that B2 has nothing of the file."""
        if large.away_bytes:
            raise LocalStorageError(f"B2 lost the unfinished large file of {large.name}")
        large.file_id = None
        for part in large.parts:
            part.sha1 = None
        self._database.record_parts(large, range(1, len(large.parts) + 1))

    async def _finished(self, large: LargeFile) -> FileVersion | None:
        """Return the finished version of a file that B2 does not call unfinished."""
        assert large.file_id is not None
        if large.has_all and not self._store.grant.has(Capability.READ_FILES):
            # B2 cannot be asked with this key; nobody else knows the ID to cancel it by.
            return FileVersion(
                name=large.name, file_id=large.file_id, size=large.planned_to, uploaded_ms=0, info=large.info
            )
        try:
            version = await self._store.get_info(large.file_id)
        except NOT_THERE:
            return None
        return version if version.action is Action.UPLOAD else None

    # --- parts -------------------------------------------------------------------------------------------

    async def _send_parts(self, large: LargeFile, body_of: BodyOf, extend: Extend | None) -> None:
        failures: list[B2MountError] = []
        todo = deque(number for number, part in enumerate(large.parts, 1) if part.sha1 is None)
        large.queued = len(large.parts)
        busy = 0

        async def send(number: int) -> None:
            nonlocal busy
            try:
                await self._send_part(large, number, body_of)
            except B2MountError as exc:
                failures.append(exc)
            busy -= 1
            large.tell()

        async with trio.open_nursery() as nursery:
            while True:
                news = large.changed
                if failures or large.dropped:
                    nursery.cancel_scope.cancel()
                    break
                more = extend is not None and extend(todo)
                if not (more or todo or busy):
                    todo.extend(number for number, part in enumerate(large.parts, 1) if part.sha1 is None)
                    if not todo:
                        break
                while todo and busy < PARTS_AT_ONCE:
                    busy += 1
                    nursery.start_soon(send, todo.popleft())
                await news.wait()
        if failures:
            raise failures[0]
        if large.dropped:
            raise B2MountError(f"{large.name}: its sending was given up")

    async def _send_part(self, large: LargeFile, number: int, body_of: BodyOf) -> None:
        """Send one part; without effect where its bytes are written anew meanwhile."""
        part = large.parts[number - 1]
        try:
            with trio.CancelScope() as part.scope:
                sha1 = await self._send_bytes(large, number, part, body_of)
                if not part.scope.cancel_called:
                    part.sha1 = sha1
                    self._database.record_parts(large, [number])
                    self._on_part()
        except B2MountError:
            if part.scope is None or not part.scope.cancel_called:
                raise
        finally:
            part.scope = None

    async def _send_bytes(self, large: LargeFile, number: int, part: Part, body_of: BodyOf) -> str:
        assert large.file_id is not None
        part.moved = 0
        if part.copied:
            assert large.source_id is not None
            row = await self._store.copy_part(large.source_id, part.start, part.end, large.file_id, number)
            return row.sha1

        def progress(sent: int) -> None:
            part.moved += sent

        body = await body_of(part.start, part.end)
        sha1 = await large.total.of_part(number, body) if large.total is not None else None
        row = await self._store.upload_part(large.file_id, number, body, sha1=sha1, progress=progress)
        return row.sha1
