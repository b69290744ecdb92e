"""Short work in threads: results, errors, limits, contexts and cancelling as trio has them."""

import contextvars
import gc
import threading
import weakref
from functools import partial

import pytest
import trio

from b2mount.store.threads import check_cancelled, run_in_thread

WAIT_SECONDS = 60.0


async def test_results_and_errors_come_back_from_another_thread() -> None:
    limiter = trio.CapacityLimiter(2)
    here = threading.get_ident()
    assert await run_in_thread(threading.get_ident, limiter=limiter) != here
    assert await run_in_thread(lambda one, two: one + two, 1, 2, limiter=limiter) == 3
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(lambda: 1 // 0, limiter=limiter)
    assert limiter.borrowed_tokens == 0


async def test_work_sees_the_context_of_its_caller() -> None:
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(7)
    assert await run_in_thread(variable.get, limiter=trio.CapacityLimiter(1)) == 7


async def test_no_more_is_done_at_once_than_the_limit_and_all_of_it_in_the_end() -> None:
    limiter, lock = trio.CapacityLimiter(3), threading.Lock()
    together = threading.Barrier(3)
    now, most, done = 0, 0, 0

    def work() -> None:
        nonlocal now, most, done
        with lock:
            now += 1
            most = max(most, now)
        together.wait(WAIT_SECONDS)
        with lock:
            now -= 1
            done += 1

    async with trio.open_nursery() as nursery:
        for _ in range(300):
            nursery.start_soon(lambda: run_in_thread(work, limiter=limiter))
    assert (most, done, limiter.borrowed_tokens) == (3, 300, 0)


async def test_a_cancelled_caller_is_told_by_what_its_thread_looks_at() -> None:
    limiter, begun, go_on = trio.CapacityLimiter(1), threading.Event(), threading.Event()

    def work() -> None:
        check_cancelled()
        begun.set()
        assert go_on.wait(WAIT_SECONDS)
        check_cancelled()
        raise AssertionError("it was cancelled")

    async def cancel(scope: trio.CancelScope) -> None:
        await trio.to_thread.run_sync(begun.wait, WAIT_SECONDS)
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel, scope)
            await run_in_thread(work, limiter=limiter)
    assert scope.cancelled_caught
    assert limiter.borrowed_tokens == 0


async def test_what_looks_at_nothing_is_waited_for_and_its_result_kept() -> None:
    limiter, begun, go_on = trio.CapacityLimiter(1), threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        assert go_on.wait(WAIT_SECONDS)
        return "done"

    async def cancel(scope: trio.CancelScope) -> None:
        await trio.to_thread.run_sync(begun.wait, WAIT_SECONDS)
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()

    result = ""
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel, scope)
            result = await run_in_thread(work, limiter=limiter)
    assert result == "done"


async def test_abandoned_work_keeps_its_place_until_it_ends() -> None:
    limiter, begun, go_on = trio.CapacityLimiter(1), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go_on.wait(WAIT_SECONDS)

    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def wait() -> None:
            with scope:
                await run_in_thread(work, limiter=limiter, abandon_on_cancel=True)

        nursery.start_soon(wait)
        await trio.to_thread.run_sync(begun.wait, WAIT_SECONDS)
        scope.cancel()
    assert limiter.borrowed_tokens == 1
    go_on.set()
    with trio.fail_after(WAIT_SECONDS):
        async with limiter:
            pass


def test_a_result_that_nobody_waits_for_any_more_harms_nobody() -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go_on.wait(WAIT_SECONDS)
        ended.set()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            limiter = trio.CapacityLimiter(1)
            nursery.start_soon(lambda: run_in_thread(work, limiter=limiter, abandon_on_cancel=True))
            await trio.to_thread.run_sync(begun.wait, WAIT_SECONDS)
            nursery.cancel_scope.cancel()

    trio.run(main)
    go_on.set()
    assert ended.wait(WAIT_SECONDS)


class Held:
    """Something that only the work knows, as it does a request's buffer."""


async def test_abandoned_work_that_is_told_keeps_nothing_in_memory() -> None:
    limiter, begun, go_on = trio.CapacityLimiter(1), threading.Event(), threading.Event()
    held = weakref.WeakSet[Held]()

    def work() -> None:
        mine = Held()
        held.add(mine)
        begun.set()
        assert go_on.wait(WAIT_SECONDS)
        check_cancelled()
        raise AssertionError(f"it was cancelled, {mine}")

    gc.collect()
    gc.disable()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(run_in_thread, work, limiter=limiter, abandon_on_cancel=True))
            await trio.to_thread.run_sync(begun.wait, WAIT_SECONDS)
            nursery.cancel_scope.cancel()
        assert len(held) == 1
        go_on.set()
        with trio.fail_after(WAIT_SECONDS):
            async with limiter:  # the place that it keeps until it ends
                pass
        assert await run_in_thread(len, held, limiter=limiter) == 0
    finally:
        gc.enable()
