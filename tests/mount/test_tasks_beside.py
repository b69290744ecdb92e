"""Tasks that a mount can do without: a bug in one ends that one."""

import pytest
import trio

from b2mount.mount import _beside


async def test_a_bug_in_a_task_beside_ends_it_alone_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(key: str) -> None:
        raise KeyError(key)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_beside, broken, "x")
    assert "broken: a bug; the mount goes on without it" in caplog.text
    assert "KeyError: 'x'" in caplog.text


async def test_a_task_beside_is_still_cancelled_with_its_mount() -> None:
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_beside, trio.sleep_forever)
            nursery.cancel_scope.cancel()
