"""Make large files of parts, a part that B2 has already not being sent again.

The unfinished file's ID is kept with its operation, in the journal too, so the next attempt, after a failure
or a crash, goes on with the parts that B2 lists. What cannot be finished at all is cancelled.
"""

import functools
import logging
from collections.abc import Awaitable, Callable, Mapping

import trio

from b2mount.core.errors import (
    B2MountError,
    B2Unavailable,
    CapReached,
    InvalidArgument,
    NoSuchFile,
    RefusedByB2,
    Throttled,
    VersionGone,
)
from b2mount.core.parts import Assemble, CopyPart, UploadPart
from b2mount.journal.bodies import sha1_of
from b2mount.journal.ops import Op
from b2mount.store.store import Action, Body, FileVersion, PartRow, Store

log = logging.getLogger("b2mount.journal")

PARTS_AT_ONCE = 16  # of one file; the store limits what all files send at once
WORTH_KEEPING = (B2Unavailable, Throttled, CapReached)  # after these the same parts will do
NOT_THERE = (NoSuchFile, VersionGone, RefusedByB2, InvalidArgument)  # an unfinished file that is no more

Note = Callable[[Op], Awaitable[None]]
BodyOf = Callable[[int, int], Awaitable[Body]]


class LargeFiles:
    """The sending of large files."""

    def __init__(self, store: Store, note: Note) -> None:
        """Send through *store*; *note* writes an operation down in the journal."""
        self._store = store
        self._note = note

    async def assemble(
        self,
        op: Op,
        plan: Assemble,
        base: FileVersion | None,
        body_of: BodyOf,
        *,
        content_type: str,
        info: Mapping[str, str],
    ) -> FileVersion:
        """Make *plan*'s file under the operation's name. Raises B2MountError; then it may be tried again."""
        have: dict[int, PartRow] = {}
        if op.large_id is not None:
            finished = await self._look(op, op.large_id, have)
            if finished is not None:
                return finished
        if op.large_id is not None and max(have, default=0) > len(plan.parts):
            await self.cancel(op.large_id, op.name)  # begun by another plan
            op.large_id = None
        if op.large_id is None:
            have.clear()
            op.large_id = await self._store.start_large(
                op.bucket_id, op.name, content_type=content_type, info=info
            )
            await self._note(op)
        file_id = op.large_id
        try:
            sha1s = await self._send_parts(file_id, plan, base, body_of, have)
            version = await self._store.finish_large(file_id, sha1s)
        except B2MountError as exc:
            if not isinstance(exc, WORTH_KEEPING) and await self.cancel(file_id, op.name):
                op.large_id = None
            raise
        op.large_id = None
        return version

    async def cancel(self, file_id: str, name: str) -> bool:
        """Cancel an unfinished file; where that fails, say so, leave it, and return False."""
        try:
            await self._store.cancel_large(file_id)
        except B2MountError as exc:
            log.warning("%s: unfinished large file %s is left in B2: %s", name, file_id, exc)
            return False
        return True

    async def _look(self, op: Op, file_id: str, have: dict[int, PartRow]) -> FileVersion | None:
        """Fill in the parts that B2 has; return the version where the file is finished already."""
        try:
            have.update({row.number: row for row in await self._store.list_parts(file_id)})
        except NOT_THERE:
            op.large_id = None
            return await self._finished(file_id)
        return None

    async def _finished(self, file_id: str) -> FileVersion | None:
        try:
            version = await self._store.get_info(file_id)
        except B2MountError:
            return None
        return version if version.action is Action.UPLOAD else None

    async def _send_parts(
        self,
        file_id: str,
        plan: Assemble,
        base: FileVersion | None,
        body_of: BodyOf,
        have: Mapping[int, PartRow],
    ) -> list[str]:
        sha1s = [""] * len(plan.parts)
        slots = trio.CapacityLimiter(PARTS_AT_ONCE)
        failures: list[B2MountError] = []

        async def send(index: int, part: CopyPart | UploadPart) -> None:
            try:
                async with slots:
                    sha1s[index] = await self._send_part(
                        file_id, index + 1, part, base, body_of, have.get(index + 1)
                    )
            except B2MountError as exc:
                failures.append(exc)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for index, part in enumerate(plan.parts):
                nursery.start_soon(send, index, part)
        if failures:
            raise failures[0]
        return sha1s

    async def _send_part(
        self,
        file_id: str,
        number: int,
        part: CopyPart | UploadPart,
        base: FileVersion | None,
        body_of: BodyOf,
        there: PartRow | None,
    ) -> str:
        """Send one part, or find that B2 has it; return its SHA-1."""
        if isinstance(part, CopyPart):
            assert base is not None
            if there is not None and there.size == part.end - part.start:
                return there.sha1  # the same range of the same version: nothing else was ever planned for it
            row = await self._store.copy_part(base.file_id, part.start, part.end, file_id, number)
            return row.sha1
        body = await body_of(part.start, part.end)
        if there is not None and there.size == body.size:
            sha1 = await trio.to_thread.run_sync(functools.partial(sha1_of, body))
            if sha1 == there.sha1:
                return sha1
        return (await self._store.upload_part(file_id, number, body)).sha1
