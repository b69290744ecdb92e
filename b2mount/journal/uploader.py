"""Send what is queued: each operation when its time has come and nothing it waits for is left.

Operations rest for the settle time, so that the chmod, utimes and rename that tools send after close join the
same upload; whoever waits for B2 (fsync, flush, unmount) takes the rest away. A failed attempt never drops an
operation: it is tried again, more and more seldom, and says why meanwhile. Knows neither the tree nor B2's
calls (sender.py does).
"""

import heapq
import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import trio

from b2mount.core.errors import (
    B2MountError,
    B2Unavailable,
    CapReached,
    KeyExpired,
    KeyRejected,
    KeyRevoked,
    LocalStorageError,
    ReadOnlyMount,
    Throttled,
)
from b2mount.core.words import show_count
from b2mount.journal.database import Database
from b2mount.journal.drafts import Draft
from b2mount.journal.ops import Kind, Op, OpQueue, State
from b2mount.journal.troubles import Troubles
from b2mount.journal.unfinished import LargeFile
from b2mount.store.store import FileVersion

log = logging.getLogger("b2mount.journal")

RETRY_FIRST = 2.0  # seconds; doubled each time; a guess between a blip and an outage
RETRY_LAST = 300.0
MARKED_AHEAD = 128  # operations that one commit says are begun; a crash costs a look in B2 for each
MARKED_SECONDS = 0.2  # before their time
GRAIN = 0.05  # seconds that the settle time may take longer, so that one look starts all that is due by then
FEW = 32  # operations that somebody waits for: looked at whenever an attempt ends
LOOK_AGAIN = 1e-4  # seconds between two looks at what somebody waits for, times as much as is left of it
KEY_TROUBLE = (KeyExpired, KeyRevoked, KeyRejected)  # a new key mends it
# What time may mend, or another mount: the change stays queued.
PASSING = (B2Unavailable, Throttled, CapReached, LocalStorageError, ReadOnlyMount, *KEY_TROUBLE)

Send = Callable[[Op], Awaitable[FileVersion | None]]
Done = Callable[[Op, FileVersion | None], None]
Refused = Callable[[Op, B2MountError], bool]
SpoolFree = Callable[[Op], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Failure:
    """An operation that could not be sent, for whoever waited."""

    name: str
    error: B2MountError


class Uploader:
    """The tasks that empty an `OpQueue`. `run` is the owner; everything else may be called at any time."""

    def __init__(
        self,
        queue: OpQueue,
        database: Database,
        send: Send,
        *,
        settle: float,
        width: int,
        on_done: Done,
        on_refused: Refused,
        on_spool_free: SpoolFree,
        abandon: Callable[[LargeFile], Awaitable[None]],
        beside: Callable[[], Awaitable[None]],
    ) -> None:
        """Prepare; *width* attempts at once, *settle* in seconds.

        *on_done* is told of each operation B2 has carried out, before anybody who waits for it; *on_refused*
        of each refusal that time will not mend, and says whether the operation is to be given up;
        *on_spool_free* may take the spool file of a sent draft before it is deleted; *abandon* removes a
        large file that is of no use; *beside* runs as long as `run` does.
        """
        self._queue = queue
        self._database = database
        self._send = send
        self._settle = settle
        self._on_done = on_done
        self._on_refused = on_refused
        self._on_spool_free = on_spool_free
        self._slots = trio.CapacityLimiter(width)
        self._heap: list[tuple[float, int]] = []
        self._wake = trio.Event()
        self._looks_at = math.inf  # when `run` looks again by itself: what is due later need not wake it
        self._is_full = False  # something is due that waits for another attempt to end
        self._abandon = abandon
        self._beside = beside
        self._spent: list[Op] = []  # sent, the spool file still there
        self._is_clearing = False  # a task lets them go
        self._abandoned: list[LargeFile] = []  # to be cancelled
        self._cancelling = 0  # being cancelled
        self._troubles = Troubles()
        self._failures = 0  # attempts that failed so far
        self._attempt_ended = trio.Event()  # renewed each time one ends

    @property
    def failures(self) -> int:
        """How many attempts failed so far."""
        return self._failures

    # --- what the journal says ---------------------------------------------------------------------------

    def submit(self, op: Op) -> None:
        """Have *op* (already in the queue) sent after the settle time."""
        op.due = trio.current_time() + self._settle
        self._schedule(op)

    def hold(self, op: Op) -> None:
        """Keep *op* from being sent until it is submitted again."""
        op.due = math.inf

    def hurry(self, op: Op) -> None:
        """Have *op*, and all that it waits for, sent now."""
        now = trio.current_time()
        for current in (op, *self._queue.waited_for(op)):
            self._hurry(current, now)

    def _hurry(self, op: Op, now: float) -> None:
        if op.state is State.QUEUED and now < op.due < math.inf:
            op.due = now
            self._schedule(op)

    def abandon(self, *larges: LargeFile | None) -> None:
        """Have B2 keep nothing of large files that will not be gone on with."""
        for large in larges:
            if large is not None:
                large.dropped = True
                large.tell()
                self._abandoned.append(large)
                self._wake.set()

    def abandon_large(self, draft: Draft) -> None:
        """Take from a draft the large file that it is being sent as, finished or not."""
        self.abandon(draft.large, draft.interim)
        draft.large = draft.interim = None

    def take_out(self, op: Op, state: State) -> None:
        """End *op* as done or dropped, and let go what waited for it."""
        op.state = state
        self._troubles.drop(op.id)
        if op.draft is not None:
            self.abandon_large(op.draft)
        for freed in self._queue.take_out(op):
            if freed.kind is Kind.HIDE and freed.mark:  # ahead of what it came to wait for
                self._database.raise_mark(freed)
            self._schedule(freed)
        op.finished.set()
        self._tell_waiters()

    def _tell_waiters(self) -> None:
        self._attempt_ended.set()
        self._attempt_ended = trio.Event()

    # --- who waits ---------------------------------------------------------------------------------------

    async def wait(self, op: Op) -> None:
        """Return when B2 has carried out *op* or whatever took its place.

        Raises the error of the first attempt, at it or at what it waits for, that fails after the call, and
        that of a refusal that undid it. The wait ends because each attempt does: the store's deadlines hold.
        """
        began = self._failures
        self.hurry(op)
        while True:
            while op.finished.is_set():
                if op.refused and op.error is not None:
                    raise op.error
                if op.successor is None:
                    return
                op = op.successor
                self.hurry(op)
            failed = self._failed_since(op, began)
            if failed is not None:
                raise failed
            await self._attempt_ended.wait()

    def _failed_since(self, op: Op, began: int) -> B2MountError | None:
        """Return the error of *op*, or of one that it waits for at any remove, if it failed after *began*.

        Also while it is tried again: of several that fail by turns, one always is.
        """
        for current in (op, *self._queue.waited_for(op)):
            if current.failed_at > began:
                return current.error
        return None

    async def wait_all(
        self, ops: Iterable[Op] | None = None, *, progress: Callable[[int, int], None] | None = None
    ) -> list[Failure]:
        """Send *ops* now, or all that is queued at the call; return those that failed since.

        *progress* is told how many operations and bytes are left, now and then.
        """
        began = self._failures
        goal = set(self._queue.ops.values() if ops is None else ops)
        refused: list[Failure] = []
        for op in goal:
            self.hurry(op)
        while True:
            goal = {_last(op) for op in goal}
            refused += [Failure(op.name, op.error) for op in goal if op.refused and op.error is not None]
            goal = {op for op in goal if not op.finished.is_set()}
            if progress is not None:
                progress(len(goal), sum(op.draft.extents.dirty_bytes for op in goal if op.draft is not None))
            if self._failures > began:
                errors = {op: self._failed_since(op, began) for op in goal}
                if all(errors.values()):
                    left = (Failure(op.name, error) for op, error in errors.items() if error is not None)
                    return [*refused, *left]
            if not goal and (ops is not None or not (self._abandoned or self._cancelling)):
                return refused
            await self._attempt_ended.wait()
            if len(goal) > FEW:
                await trio.sleep(len(goal) * LOOK_AGAIN)  # the round above costs by what is left

    # --- the tasks ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Send until cancelled. An attempt under way at that moment ends first where it cannot be undone."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._beside)
            while True:
                self._wake = trio.Event()
                while self._abandoned:
                    self._cancelling += 1
                    nursery.start_soon(self._cancel, self._abandoned.pop())
                self._looks_at = self._start_due(nursery)
                with trio.move_on_at(self._looks_at):
                    await self._wake.wait()

    async def _cancel(self, large: LargeFile) -> None:
        try:
            await self._abandon(large)
        finally:
            self._cancelling -= 1
            self._tell_waiters()

    def _start_due(self, nursery: trio.Nursery) -> float:
        """Start what is due; return the moment to look again at what will be."""
        now = trio.current_time()
        self._is_full = False
        while self._heap:
            due, op_id = self._heap[0]
            op = self._queue.ops.get(op_id)
            if op is None or op.due != due or op.state is not State.QUEUED or self._queue.is_blocked(op):
                heapq.heappop(self._heap)  # gone, moved, or to be scheduled again when freed
                continue
            if due > now:
                return max(due, now + GRAIN)
            if self._slots.available_tokens < 1:
                self._is_full = True
                return math.inf  # the attempt that ends wakes us
            heapq.heappop(self._heap)
            op.state = State.SENDING
            self._slots.acquire_on_behalf_of_nowait(op)
            nursery.start_soon(self._attempt, op, nursery)
        return math.inf

    def _schedule(self, op: Op) -> None:
        if not self._queue.is_blocked(op):
            heapq.heappush(self._heap, (op.due, op.id))
            if op.due < self._looks_at and not self._is_full:
                self._wake.set()

    async def _attempt(self, op: Op, nursery: trio.Nursery) -> None:
        try:
            op.attempts += 1
            if not op.sent_before:
                op.sent_before = True
                await self._mark_begun(op)
            elif op.kind is Kind.HIDE:
                await self._strike_off()
            version = await self._send(op)
        except B2MountError as exc:
            self._failed(op, exc)
        except Exception as exc:
            log.exception("sending %s: a bug; it stays queued", op.name)
            self._failed(op, LocalStorageError(f"a bug in b2mount: {type(exc).__name__}"))
        else:
            self._succeeded(op, version)
            self._spent.append(op)
            if not self._is_clearing:
                self._is_clearing = True
                nursery.start_soon(self._let_spools_go)
        finally:
            self._slots.release_on_behalf_of(op)
            if self._is_full:
                self._wake.set()

    async def _mark_begun(self, op: Op) -> None:
        """Have the journal say that B2 may have it, so that a crash does not make it send all again.

        Those that are due next are marked by the same commit. Goes on where the disk does not take it: what
        is sent makes room there.
        """
        if not op.mark:
            self._database.mark_begun(op)
            soon = trio.current_time() + MARKED_SECONDS
            for due, op_id in self._heap[:MARKED_AHEAD]:
                other = self._queue.ops.get(op_id)
                if other is not None and due <= soon and not (other.mark or other.sent_before):
                    self._database.mark_begun(other)
        try:
            await self._database.commit(op.mark)
        except LocalStorageError as exc:
            log.info("%s: sent without a mark in the journal: %s", op.name, exc)

    async def _strike_off(self) -> None:
        """Have the journal know all that is done, before a removal goes that was begun once already.

        Deleting for good takes bytes that a change was made of; should that be done and the journal not know,
        the next life would look for them in vain. (A removal that begins is marked, which says all this too.)
        """
        try:
            await self._database.commit()
        except LocalStorageError as exc:
            log.info("a removal is sent before the journal knows what it waited for: %s", exc)

    async def _let_spools_go(self) -> None:
        """Delete sent drafts' spool files: only now, as a crash must not find a row without its bytes.

        One commit does for all that were sent meanwhile, and no attempt waits for it.
        """
        try:
            with trio.CancelScope(shield=True):  # local disk only; a mount that ends leaves no spool behind
                while self._spent:
                    spent, self._spent = self._spent, []
                    try:
                        await self._database.commit()
                    except B2MountError as exc:
                        log.warning("%s: sent; its spool file stays for now: %s", spent[-1].name, exc)
                        self._spent = [*spent, *self._spent]
                        return
                    for done in spent:
                        if done.draft is not None:
                            await self._give_away(done, done.draft)
        finally:
            self._is_clearing = False

    async def _give_away(self, op: Op, draft: Draft) -> None:
        try:
            await self._on_spool_free(op)
            draft.spool.remove()
        except OSError as exc:
            log.warning("%s: sent; its spool file stays until the next mount: %s", op.name, exc.strerror)
        except Exception:
            log.exception("%s: sent; its spool file stays until the next mount: a bug", op.name)

    def _succeeded(self, op: Op, version: FileVersion | None) -> None:
        if op.failed_for_good:
            log.info("%s: sent after %s", op.name, show_count(op.attempts, "attempt"))
        op.error = None
        for other in self._troubles.over(op.id):  # what kept this one keeps the others no longer
            if other in self._queue.ops:
                self._hurry(self._queue.ops[other], trio.current_time())
        if op.draft is not None:
            op.draft.result = version
        dependants = self._queue.needed_by(op)
        self._database.forget(op)
        for dependant in dependants:
            self._database.record(dependant)  # their base is a version now
        if version is not None:
            self._date_removals(op, version)
        self.take_out(op, State.DONE)
        self._on_done(op, version)  # who waits runs only after this

    def _date_removals(self, op: Op, version: FileVersion) -> None:
        """Let the removals queued behind a put know that the version it made is none of somebody else's."""
        for later in self._queue.chain(*op.key):
            if later.kind is Kind.HIDE and later.promised_ms < version.uploaded_ms:
                later.promised_ms = version.uploaded_ms
                self._database.record(later)

    def _failed(self, op: Op, error: B2MountError) -> None:
        first = op.error is None or type(op.error) is not type(error)
        op.error = error
        op.failed_for_good = not isinstance(error, PASSING)
        if op.failed_for_good and self._on_refused(op, error):
            log.error("%s: %s; the change is undone here", op.name, error)
            self._database.forget(op)
            op.refused = True
            self.take_out(op, State.DROPPED)
            return
        if not op.failed_for_good:
            self._troubles.failed(op.id, op.name, error)
        elif first:
            log.warning("%s: not in B2: %s; it stays queued and is tried again", op.name, error)
        op.state = State.QUEUED
        op.due = trio.current_time() + min(RETRY_FIRST * 2 ** min(op.attempts - 1, 10), RETRY_LAST)
        self._database.record(op)
        self._failures += 1
        op.failed_at = self._failures
        self._schedule(op)
        self._tell_waiters()


def _last(op: Op) -> Op:
    """Return what took the place of *op* in the end, or *op* itself."""
    while op.successor is not None:
        op = op.successor
    return op
