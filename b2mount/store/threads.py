"""Run short blocking work in threads, several times cheaper than trio's own way.

trio names the thread before and after each piece of work, through calls that give up Python's lock, and wakes
its loop once for each result. Here nothing is named, and results that come together wake the loop once. What
trio promises of limits, contexts and cancelling holds here, too.
"""

import contextvars
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import trio

Outcome = Any  # a value or an error, as trio hands it out and takes it
T = TypeVar("T")
_local = threading.local()  # of a worker's thread: the job that it is at


class _Results:
    """What threads have done and the loop has not heard of yet."""

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self._token = token
        self._done: deque[tuple[_Job, Outcome]] = deque()
        self._is_told = False  # the loop will look

    def put(self, job: "_Job", result: Outcome) -> None:
        """Have the loop take a result; called in any thread."""
        self._done.append((job, result))
        if not self._is_told:  # else the loop has yet to look, and finds this one, too
            self._is_told = True
            try:
                self._token.run_sync_soon(self._take)
            except trio.RunFinishedError:
                return  # who asked was abandoned, and the loop is over

    def _take(self) -> None:
        self._is_told = False  # before looking: what comes from now on has the loop look again
        while self._done:
            job, result = self._done.popleft()
            job.end(result)


_results: trio.lowlevel.RunVar[_Results] = trio.lowlevel.RunVar("b2mount_thread_results")


class _Job:
    """One piece of work and the task that waits for it."""

    __slots__ = ("limiter", "raise_cancel", "task")

    def __init__(self, limiter: trio.CapacityLimiter) -> None:
        self.limiter = limiter
        self.task: trio.lowlevel.Task | None = trio.lowlevel.current_task()  # None: it was abandoned
        self.raise_cancel: Callable[[], object] | None = None  # since the task was cancelled

    def end(self, result: Outcome) -> None:
        """Give the result to who waits for it."""
        self.limiter.release_on_behalf_of(self)
        if self.task is not None:
            trio.lowlevel.reschedule(self.task, result)


def check_cancelled() -> None:
    """Raise trio.Cancelled in a thread of `run_in_thread` whose caller was cancelled."""
    job: _Job = _local.job
    if job.raise_cancel is not None:
        job.raise_cancel()


async def run_in_thread(
    work: Callable[..., T], *values: object, limiter: trio.CapacityLimiter, abandon_on_cancel: bool = False
) -> T:
    """Return what *work* returns; as `trio.to_thread.run_sync`.

    `check_cancelled` takes the place of `trio.from_thread.check_cancelled`; other calls back into the loop
    there are none.
    """
    await trio.lowlevel.checkpoint_if_cancelled()
    try:
        results = _results.get()
    except LookupError:
        results = _Results(trio.lowlevel.current_trio_token())
        _results.set(results)
    job = _Job(limiter)
    context = contextvars.copy_context()

    def run() -> T | None:
        _local.job = job
        try:
            return context.run(work, *values)
        except BaseException:
            if abandon_on_cancel and job.raise_cancel is not None:
                return None  # nobody hears of it; and errors keep frames, and what those hold, in memory
            raise
        finally:
            del _local.job  # a thread at rest holds nothing of what it did

    def abort(raise_cancel: Callable[[], object]) -> trio.lowlevel.Abort:
        job.raise_cancel = raise_cancel
        if not abandon_on_cancel:
            return trio.lowlevel.Abort.FAILED
        job.task = None
        return trio.lowlevel.Abort.SUCCEEDED

    await limiter.acquire_on_behalf_of(job)
    try:
        trio.lowlevel.start_thread_soon(run, lambda result: results.put(job, result))
    except BaseException:
        limiter.release_on_behalf_of(job)
        raise
    result: T = await trio.lowlevel.wait_task_rescheduled(abort)
    return result
