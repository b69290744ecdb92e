"""When it is tried again, for how long, and what is said of it; on a clock that jumps."""

import itertools
import logging
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from b2mount.core.errors import AccessDenied, B2MountError, B2Unavailable, DataCorrupt, Throttled
from b2mount.core.replies import CallFailed, Failure, Fault, Reply
from b2mount.store.memory import MemoryStore
from b2mount.store.retry import RetryingStore
from b2mount.store.store import FileVersion, Page, Store
from tests.contract.worlds import Bytes

NAMES, UPLOAD = "b2_list_file_names", "b2_upload_file"
Answer = Reply | Fault | str  # "ok"


def failed(call: str, answer: Reply | Fault, sent: bool = True) -> B2MountError:
    failure = Failure(call, answer, sent)
    error = failure.error("f")
    error.__cause__ = CallFailed(failure)
    return error


class Scripted(MemoryStore):
    """A store in memory whose calls fail as the script says, and take as long."""

    def __init__(self, *script: Answer, seconds: float = 0.0, moving: float = 0.0) -> None:
        super().__init__()
        self.bucket_id = self.account.create_bucket("b").bucket_id
        self.script = list(script)
        self.seconds = seconds
        self.moving = moving  # seconds for which an upload's bytes move before the rest
        self.at: list[float] = []

    async def _act(self, call: str) -> None:
        self.at.append(trio.current_time())
        await trio.sleep(self.seconds)
        answer = self.script.pop(0) if self.script else "ok"
        if not isinstance(answer, str):
            raise failed(call, answer)

    async def list_names(self, bucket_id: str, prefix: str, **options: Any) -> Page:
        await self._act(NAMES)
        return await super().list_names(bucket_id, prefix, **options)

    async def upload(self, bucket_id: str, name: str, body: Any, **options: Any) -> FileVersion:
        progress: Callable[[int], None] = options["progress"]
        for _ in range(int(self.moving)):
            await trio.sleep(1)
            progress(1)
        await self._act(UPLOAD)
        return await super().upload(bucket_id, name, body, **options)


def patient(inner: Store, seconds: float = 60.0) -> RetryingStore:
    return RetryingStore(inner, io_timeout=seconds, clock=trio.current_time, jitter=lambda: 0.5)


def waits(at: list[float]) -> list[float]:
    return [round(later - earlier, 3) for earlier, later in itertools.pairwise(at)]


async def put(store: RetryingStore, inner: Scripted) -> FileVersion:
    return await store.upload(inner.bucket_id, "f", Bytes(b"x" * 10), content_type="", info={}, sha1="0" * 40)


async def test_pauses_double_from_one_second(autojump_clock: trio.testing.MockClock) -> None:
    inner = Scripted(*[Reply(503)] * 5)
    await patient(inner).list_names(inner.bucket_id, "")
    assert waits(inner.at) == [1, 2, 4, 8, 16]


async def test_pauses_end_doubling_at_sixty_four_seconds(autojump_clock: trio.testing.MockClock) -> None:
    inner = Scripted(*[Reply(503)] * 9)
    await patient(inner, 3600).list_names(inner.bucket_id, "")
    assert waits(inner.at) == [1, 2, 4, 8, 16, 32, 64, 64, 64]


async def test_an_outage_that_lasts_is_an_error_when_the_time_is_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    inner = Scripted(*[Reply(503)] * 100)
    with pytest.raises(B2Unavailable, match="503"):
        await patient(inner, 60).list_names(inner.bucket_id, "")
    assert 55 < trio.current_time() - inner.at[0] <= 60
    assert len(inner.at) < 20


async def test_slowness_to_the_end_is_told_as_throttled(autojump_clock: trio.testing.MockClock) -> None:
    inner = Scripted(*[Reply(429)] * 100)
    with pytest.raises(Throttled):
        await patient(inner, 60).list_names(inner.bucket_id, "")


async def test_retry_after_wins_over_the_pauses(autojump_clock: trio.testing.MockClock) -> None:
    inner = Scripted(Reply(429, retry_after=7.0), Reply(503, retry_after=20.0), Reply(503))
    await patient(inner).list_names(inner.bucket_id, "")
    assert waits(inner.at) == [7, 20, 1]


async def test_a_broken_connection_is_replaced_at_once(autojump_clock: trio.testing.MockClock) -> None:
    inner = Scripted(Fault.RESET, Fault.RESET, Fault.RESET)
    await patient(inner).list_names(inner.bucket_id, "")
    assert waits(inner.at) == [0, 1, 2]


async def test_an_upload_goes_elsewhere_at_once_and_then_waits(
    autojump_clock: trio.testing.MockClock,
) -> None:
    inner = Scripted(*[Reply(503)] * 7)
    await put(patient(inner), inner)
    assert waits(inner.at) == [0, 0, 0, 0, 1, 2, 4]


async def test_what_is_refused_is_not_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    inner = Scripted(Reply(401, "unauthorized"))
    with pytest.raises(AccessDenied):
        await patient(inner).list_names(inner.bucket_id, "")
    assert len(inner.at) == 1


async def test_a_call_that_hangs_is_cut_off_at_the_time_given(autojump_clock: trio.testing.MockClock) -> None:
    inner = Scripted(seconds=1000)
    with pytest.raises(B2Unavailable, match="within 30 s"):
        await patient(inner, 30).list_names(inner.bucket_id, "")
    assert trio.current_time() - inner.at[0] == pytest.approx(30)


async def test_an_upload_whose_bytes_move_takes_longer_than_the_time_given(
    autojump_clock: trio.testing.MockClock,
) -> None:
    inner = Scripted(moving=500)
    began = trio.current_time()
    await put(patient(inner, 10), inner)
    assert trio.current_time() - began == 500


async def test_an_upload_that_fails_at_its_end_again_and_again_is_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    inner = Scripted(*[Reply(503)] * 1000, moving=500)
    with pytest.raises(B2Unavailable):
        await put(patient(inner, 60), inner)
    assert len(inner.at) < 20


async def test_silence_counts_against_an_upload(autojump_clock: trio.testing.MockClock) -> None:
    inner = Scripted(*[Fault.TIMEOUT] * 100, moving=5, seconds=25)
    with pytest.raises(B2Unavailable):
        await put(patient(inner, 60), inner)
    assert len(inner.at) <= 3


async def test_a_caller_who_gives_up_ends_the_wait(autojump_clock: trio.testing.MockClock) -> None:
    inner = Scripted(*[Reply(503)] * 100)
    with trio.move_on_after(5) as scope:
        await patient(inner).list_names(inner.bucket_id, "")
    assert scope.cancelled_caught
    assert len(inner.at) == 3


async def test_damage_is_given_up_after_three_repeats(autojump_clock: trio.testing.MockClock) -> None:
    inner = Scripted(*[Fault.CORRUPT] * 100)
    with pytest.raises(DataCorrupt):
        await patient(inner).list_names(inner.bucket_id, "")
    assert len(inner.at) == 4


async def test_a_view_with_more_patience_leaves_the_first_one_as_it_is(
    autojump_clock: trio.testing.MockClock,
) -> None:
    inner = Scripted(*[Reply(503)] * 8)
    store = patient(inner, 5)
    with pytest.raises(B2Unavailable):
        await store.list_names(inner.bucket_id, "")
    tried = len(inner.at)
    inner.script = [Reply(503)] * 8
    await store.with_timeout(1000).list_names(inner.bucket_id, "")
    assert len(inner.at) == tried + 9


# --- the log ----------------------------------------------------------------------------------------------


async def test_an_incident_is_two_lines_however_many_calls_it_hits(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="b2mount.store")
    inner = Scripted(*[Reply(503)] * 30)
    store = patient(inner, 600)
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(store.list_names, inner.bucket_id, "")
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "INFO"]
    assert "list_names" in caplog.text
    assert "503" in caplog.text
    assert "works again" in caplog.text


async def test_what_went_well_elsewhere_at_once_is_not_told(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="b2mount.store")
    inner = Scripted(Reply(503), Reply(503))
    await put(patient(inner), inner)
    assert caplog.records == []


async def test_an_incident_that_comes_back_soon_is_not_told_again(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="b2mount.store")
    inner = Scripted()
    store = patient(inner)
    for _ in range(5):
        inner.script = [Reply(503)]
        await store.list_names(inner.bucket_id, "")
    assert len(caplog.records) == 2
    await trio.sleep(120)
    inner.script = [Reply(503)]
    await store.list_names(inner.bucket_id, "")
    assert len(caplog.records) == 4


async def test_operations_that_fail_alike_at_the_same_time_are_one_incident(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="b2mount.store")
    inner = Scripted(*[Reply(503)] * 12)
    store = patient(inner, 600)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(store.list_names, inner.bucket_id, "")
            nursery.start_soon(put, store, inner)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_what_is_given_up_without_another_try_is_told_too(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    inner = Scripted(*[Reply(429, retry_after=3600)] * 2)
    store = patient(inner, 5)
    with pytest.raises(Throttled):
        await store.list_names(inner.bucket_id, "")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
