"""A store that tries again: wraps the seam, and knows of B2 only what core/replies.py says of a failure.

A change whose reply was lost is looked for before it is sent again (lookback.py), so that no version is
doubled, and no large file begun twice, where that can be known. Waits are trio's and end with a cancelled
caller.
"""

import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from b2mount.core.errors import B2MountError, B2Unavailable, DataCorrupt, LocalStorageError, NoSuchFile
from b2mount.core.grant import Grant
from b2mount.core.replies import CallFailed, Failure, Fault, failure_behind
from b2mount.store.backoff import LEAST_PAUSE, Backoff, Budget
from b2mount.store.beginnings import Beginnings
from b2mount.store.bodies import sha1_of
from b2mount.store.counting import Counters
from b2mount.store.deadline import request_limit
from b2mount.store.incidents import Incidents
from b2mount.store.lookback import Expected, find_bucket, find_finished, find_version, is_temporary, seen
from b2mount.store.resume import ResumedRead
from b2mount.store.steady import steady_ms
from b2mount.store.store import (
    Body,
    BucketRow,
    FileVersion,
    LockSettings,
    Page,
    PartRow,
    Progress,
    Retention,
    Store,
)

LOST_KEPT = 10_000  # uploads whose fate is unknown, remembered for the next try of the same
DAMAGED_TRIES = 3  # bytes that arrive damaged so often are damaged where they come from
HASHED_INLINE = 64 << 10  # bytes; a guess: asking a thread costs more than their SHA-1
HASHERS = 4  # threads; each is a processor's work
T = TypeVar("T")


def _go_on() -> None:
    return None


@dataclass(slots=True)
class _Shared:
    """What all views of one store have in common."""

    incidents: Incidents
    clock: Callable[[], float]
    server_ms: Callable[[], int]
    jitter: Callable[[], float]
    backoff: Callable[[], Backoff]
    lost: OrderedDict[str, Expected] = field(default_factory=OrderedDict)
    beginnings: Beginnings = field(default_factory=Beginnings)
    hashing: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(HASHERS))


@dataclass(slots=True)
class _Operation:
    """One operation that is tried until it works, is refused, or its time is over."""

    name: str
    shared: _Shared
    budget: Budget
    backoff: Backoff
    may_have_happened: bool = False
    damaged: int = 0
    # came after a lost reply, and may say that the change is made already
    refusal: B2MountError | None = None

    async def pause(self, error: B2MountError, failure: Failure) -> None:
        """Wait until the next try; raise *error* where there is none."""
        self.budget.charge()
        self.damaged += isinstance(error, DataCorrupt)
        if self.damaged > DAMAGED_TRIES:
            self.shared.incidents.failed(self.name, error)
            raise error
        self.may_have_happened = self.may_have_happened or failure.is_ambiguous
        pause = self.backoff.pause(failure, self.shared.jitter())
        left = self.budget.left
        if failure.retry_after is None and pause >= left:
            pause = left / 2 if left / 2 >= LEAST_PAUSE else left  # a last look before the time is over
        if pause > 0 or left <= 0:
            self.shared.incidents.failed(self.name, error)
        if pause >= left or left <= 0:
            raise error
        await trio.sleep(pause)
        self.budget.charge()


class RetryingStore:
    """Implements `store.Store` over another one.

    Each operation ends within *io_timeout* seconds, uploads, and downloads that break off, within as many
    without progress. Copies inside B2 and the finishing of large files may take as long as B2 works on them.
    """

    def __init__(
        self,
        inner: Store,
        *,
        io_timeout: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        server_ms: Callable[[], int] = steady_ms,
        jitter: Callable[[], float] = random.random,
        backoff: Callable[[], Backoff] = Backoff,
        counters: Counters | None = None,
    ) -> None:
        self.inner = inner
        self.counters = counters or Counters()  # of the inner store, for whoever shows them
        self.io_timeout = io_timeout
        self._shared = _Shared(Incidents(clock), clock, server_ms, jitter, backoff)

    def with_timeout(self, seconds: float) -> "RetryingStore":
        """Return a view of the same store that is as patient as *seconds*."""
        view = RetryingStore(self.inner, io_timeout=seconds, counters=self.counters)
        view._shared = self._shared
        return view

    @property
    def incidents(self) -> Incidents:
        return self._shared.incidents

    @property
    def grant(self) -> Grant:
        """What the key opens, as of the last authorization."""
        return self.inner.grant

    # --- trying again -----------------------------------------------------------------------------------

    def _operation(self, name: str) -> _Operation:
        budget = Budget(self.io_timeout, self._shared.clock)
        return _Operation(name, self._shared, budget, self._shared.backoff())

    async def _persist(
        self,
        name: str,
        attempt: Callable[[], Awaitable[T]],
        *,
        look: Callable[[], Awaitable[T | None]] | None = None,
        bounded: bool = True,
        operation: _Operation | None = None,
    ) -> T:
        """Make *attempt* until it works or is refused for good; after a lost reply, *look* comes first.

        *bounded* attempts are cancelled when the time is over; the others end by themselves.
        """
        operation = operation or self._operation(name)
        while True:
            operation.budget.begin()
            try:
                with request_limit(operation.budget.left), trio.CancelScope() as scope:
                    if bounded:
                        scope.deadline = trio.current_time() + operation.budget.left
                    result = await self._look_or_attempt(operation, attempt, look)
                    self._shared.incidents.worked(name)
                    return result
                raise _timed_out(name, self.io_timeout)
            except B2MountError as error:
                failure = failure_behind(error)
                if failure is not None and is_temporary(error):
                    await operation.pause(error, failure)
                elif look is None or not operation.may_have_happened or operation.refusal is not None:
                    raise
                else:
                    operation.refusal = error

    async def _look_or_attempt(
        self,
        operation: _Operation,
        attempt: Callable[[], Awaitable[T]],
        look: Callable[[], Awaitable[T | None]] | None,
    ) -> T:
        if operation.may_have_happened and look is not None:
            found = await seen(look)
            if found is not None:
                return found
            if operation.refusal is not None:
                raise operation.refusal
        return await attempt()

    # --- reading ----------------------------------------------------------------------------------------

    async def authorize(self) -> Grant:
        """Authorize (again)."""
        return await self._persist("authorize", self.inner.authorize)

    async def list_buckets(self, *, bucket_id: str | None = None, name: str | None = None) -> list[BucketRow]:
        """List the buckets that the key can name."""
        return await self._persist(
            "list_buckets", lambda: self.inner.list_buckets(bucket_id=bucket_id, name=name)
        )

    async def list_names(
        self,
        bucket_id: str,
        prefix: str,
        *,
        start: str | None = None,
        delimiter: str | None = None,
        limit: int = 1000,
    ) -> Page:
        """List current files in byte order."""
        return await self._persist(
            "list_names",
            lambda: self.inner.list_names(bucket_id, prefix, start=start, delimiter=delimiter, limit=limit),
        )

    async def list_versions(
        self,
        bucket_id: str,
        prefix: str,
        *,
        start: str | None = None,
        start_id: str | None = None,
        delimiter: str | None = None,
        limit: int = 1000,
    ) -> Page:
        """List every version."""
        return await self._persist(
            "list_versions",
            lambda: self.inner.list_versions(
                bucket_id, prefix, start=start, start_id=start_id, delimiter=delimiter, limit=limit
            ),
        )

    async def list_unfinished(self, bucket_id: str, prefix: str) -> list[FileVersion]:
        """List all unfinished large files under *prefix*."""
        return await self._persist("list_unfinished", lambda: self.inner.list_unfinished(bucket_id, prefix))

    async def list_parts(self, file_id: str) -> list[PartRow]:
        """List all parts that B2 holds of a large file."""
        return await self._persist("list_parts", lambda: self.inner.list_parts(file_id))

    async def head(self, bucket_name: str, name: str) -> FileVersion:
        """Ask for the visible version of a name."""
        return await self._persist("head", lambda: self.inner.head(bucket_name, name))

    async def get_info(self, file_id: str) -> FileVersion:
        """Ask for one version by its id."""
        return await self._persist("get_info", lambda: self.inner.get_info(file_id))

    async def read_range(self, file_id: str, start: int, end: int) -> bytes | bytearray:
        """Fetch bytes [start, end) of a version, exactly."""
        buffer = bytearray(max(end - start, 0))
        if buffer:
            await self.read_into(file_id, start, memoryview(buffer), lambda _: None)
        return buffer

    async def read_into(
        self, file_id: str, start: int, buffer: memoryview, arrived: Callable[[int], None], *, here: int = 0
    ) -> None:
        """Fill *buffer* with a version's bytes; what broke off goes on from where it broke."""
        operation = self._operation("read_range")
        told = operation.budget, operation.backoff
        read = ResumedRead(self.inner, file_id, start, buffer, arrived, here, *told)
        await self._persist("read_range", read.attempt, operation=operation)

    # --- uploading --------------------------------------------------------------------------------------

    async def upload(
        self,
        bucket_id: str,
        name: str,
        body: Body,
        *,
        content_type: str,
        info: Mapping[str, str],
        sha1: str | None = None,
        lock: LockSettings | None = None,
        progress: Progress | None = None,
    ) -> FileVersion:
        """Upload a whole file in one request, once as far as can be known.

        One that ended without an answer is remembered: the same asked for again is looked for first.
        """
        digest = sha1 or await self._sha1_of(body, name)
        operation = self._operation("upload")
        expected = Expected(bucket_id, name, self._shared.server_ms(), body.size, digest, dict(info))
        lost = self._shared.lost.pop(expected.key, None) if self._shared.lost else None
        if lost is not None:
            operation.may_have_happened, expected = True, lost

        def attempt() -> Awaitable[FileVersion]:
            return self.inner.upload(
                bucket_id,
                name,
                body,
                content_type=content_type,
                info=info,
                sha1=digest,
                lock=lock,
                progress=_noting(operation.budget, progress),
            )

        try:
            return await self._persist(
                "upload",
                attempt,
                look=lambda: find_version(self.inner, expected),
                bounded=False,
                operation=operation,
            )
        except BaseException:
            if operation.may_have_happened:
                self._remember(expected)
            raise

    async def _sha1_of(self, body: Body, name: str) -> str:
        try:
            if body.size <= HASHED_INLINE:
                return sha1_of(body, _go_on)
            return await trio.to_thread.run_sync(
                sha1_of, body, trio.from_thread.check_cancelled, limiter=self._shared.hashing
            )
        except (OSError, EOFError) as exc:
            raise LocalStorageError(f"{name}: cannot read what is to be sent: {exc}") from None

    def _remember(self, expected: Expected) -> None:
        self._shared.lost[expected.key] = expected
        if len(self._shared.lost) > LOST_KEPT:
            self._shared.lost.popitem(last=False)

    async def upload_part(
        self,
        file_id: str,
        number: int,
        body: Body,
        *,
        sha1: str | None = None,
        progress: Progress | None = None,
    ) -> PartRow:
        """Upload one part; sent twice it replaces itself."""
        operation = self._operation("upload_part")
        noting = _noting(operation.budget, progress)
        return await self._persist(
            "upload_part",
            lambda: self.inner.upload_part(file_id, number, body, sha1=sha1, progress=noting),
            bounded=False,
            operation=operation,
        )

    # --- large files ------------------------------------------------------------------------------------

    async def start_large(
        self,
        bucket_id: str,
        name: str,
        *,
        content_type: str,
        info: Mapping[str, str],
        lock: LockSettings | None = None,
    ) -> str:
        """Begin a large file, once as far as can be known; return its file ID."""
        expected = Expected(bucket_id, name, self._shared.server_ms(), None, None, dict(info))
        begun = self._shared.beginnings
        with begun.under_way(expected):
            file_id = await self._persist(
                "start_large",
                lambda: self.inner.start_large(
                    bucket_id, name, content_type=content_type, info=info, lock=lock
                ),
                look=lambda: begun.look(self.inner, expected),
            )
            begun.know(file_id)
        return file_id

    async def copy_part(self, source_id: str, start: int, end: int, file_id: str, number: int) -> PartRow:
        """Make a part inside B2; made twice it replaces itself."""
        return await self._persist(
            "copy_part",
            lambda: self.inner.copy_part(source_id, start, end, file_id, number),
            bounded=False,
        )

    async def finish_large(self, file_id: str, part_sha1s: Sequence[str]) -> FileVersion:
        """Make the file of its parts; after a lost reply B2 is asked whether it is made."""
        return await self._persist(
            "finish_large",
            lambda: self.inner.finish_large(file_id, part_sha1s),
            look=lambda: find_finished(self.inner, file_id),
            bounded=False,
        )

    async def cancel_large(self, file_id: str) -> None:
        """Cancel; a file that is gone already is no error."""
        await self._persist("cancel_large", lambda: self.inner.cancel_large(file_id))

    # --- copying and removing ---------------------------------------------------------------------------

    async def copy_file(
        self,
        source_id: str,
        bucket_id: str,
        name: str,
        *,
        content_type: str | None = None,
        info: Mapping[str, str] | None = None,
        start: int = 0,
        end: int | None = None,
        lock: LockSettings | None = None,
    ) -> FileVersion:
        """Copy up to 5 GB inside B2, once as far as can be known."""
        since = self._shared.server_ms()

        async def look() -> FileVersion | None:
            source = await self.inner.get_info(source_id)
            size = source.size if end is None else end - start
            told = source.info if info is None else info
            sha1 = source.sha1 if size == source.size else None
            return await find_version(self.inner, Expected(bucket_id, name, since, size, sha1, dict(told)))

        return await self._persist(
            "copy_file",
            lambda: self.inner.copy_file(
                source_id,
                bucket_id,
                name,
                content_type=content_type,
                info=info,
                start=start,
                end=end,
                lock=lock,
            ),
            look=look,
            bounded=False,
        )

    async def hide(self, bucket_id: str, name: str) -> FileVersion | None:
        """Hide a name; None where there was nothing to hide, or where a lost reply would have told it."""
        return await self._persist("hide", lambda: self.inner.hide(bucket_id, name))

    async def delete_version(self, name: str, file_id: str, *, bypass_governance: bool = False) -> None:
        """Delete one version for good; one that is gone already is no error."""
        await self._persist(
            "delete_version",
            lambda: self.inner.delete_version(name, file_id, bypass_governance=bypass_governance),
        )

    async def set_retention(
        self, name: str, file_id: str, retention: Retention | None, *, bypass_governance: bool = False
    ) -> None:
        """Set or remove a version's retention."""
        await self._persist(
            "set_retention",
            lambda: self.inner.set_retention(name, file_id, retention, bypass_governance=bypass_governance),
        )

    async def set_legal_hold(self, name: str, file_id: str, on: bool) -> None:
        """Set or lift a version's legal hold."""
        await self._persist("set_legal_hold", lambda: self.inner.set_legal_hold(name, file_id, on))

    # --- buckets ----------------------------------------------------------------------------------------

    async def create_bucket(self, name: str) -> BucketRow:
        """Create a private bucket."""
        return await self._persist(
            "create_bucket",
            lambda: self.inner.create_bucket(name),
            look=lambda: find_bucket(self.inner, name),
        )

    async def delete_bucket(self, bucket_id: str) -> None:
        """Delete an empty bucket."""
        operation = self._operation("delete_bucket")
        try:
            await self._persist(
                "delete_bucket", lambda: self.inner.delete_bucket(bucket_id), operation=operation
            )
        except NoSuchFile:
            if not operation.may_have_happened:
                raise

    async def aclose(self) -> None:
        """End threads and connections."""
        await self.inner.aclose()


def _timed_out(name: str, seconds: float) -> B2MountError:
    error = B2Unavailable(f"no answer to {name} within {seconds:g} s")
    error.__cause__ = CallFailed(Failure(name, Fault.TIMEOUT, sent=False))
    return error


def _noting(budget: Budget, progress: Progress | None) -> Progress:
    def note(count: int) -> None:
        budget.progress()
        if progress is not None:
            progress(count)

    return note
