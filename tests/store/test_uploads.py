"""Upload URLs and bodies: one upload at a time for each URL, reuse, and what the local side may do wrong."""

import hashlib
import threading
from collections.abc import Callable

import pytest
import trio

from b2mount.core.errors import InvalidArgument, LocalStorageError
from b2mount.core.replies import Failure, Fault, Reply
from b2mount.store.caller import PARTS_AT_ONCE
from b2mount.store.upload_urls import UploadUrl, UploadUrls, leaves_url_good
from tests.contract.test_contents import noise
from tests.contract.worlds import Bytes
from tests.store.conftest import Shop
from tests.support.emulator import Emulator

Count = Callable[[str], int]
WAIT_SECONDS = 60.0
SHA1_OF_X = hashlib.sha1(b"x", usedforsecurity=False).hexdigest()


async def test_uploads_one_after_the_other_share_a_url(
    shop: Shop, emulator: Emulator, bucket: str, calls_since: Count
) -> None:
    store = shop.plain()
    for number in range(5):
        await store.upload(
            emulator.bucket_id(bucket), f"f{number}", Bytes(b"x"), content_type="text/plain", info={}
        )
    assert calls_since("b2_get_upload_url") == 1


async def test_uploads_at_once_have_a_url_each_and_no_more_than_there_are_threads(
    shop: Shop, emulator: Emulator, bucket: str, calls_since: Count
) -> None:
    store = shop.plain(uploads=4)
    bucket_id = emulator.bucket_id(bucket)
    async with trio.open_nursery() as nursery:
        for number in range(40):

            async def put(name: str = f"f{number:02d}") -> None:
                await store.upload(bucket_id, name, Bytes(noise(5000)), content_type="text/plain", info={})

            nursery.start_soon(put)
    assert len(emulator.list_names(bucket)) == 40
    assert calls_since("b2_get_upload_url") <= 4


class Held:
    """One byte that cannot be read before it is let go."""

    size = 1

    def __init__(self, let_go: threading.Event, on_read: Callable[[], None]) -> None:
        self._let_go = let_go
        self._on_read = on_read

    def read_at(self, offset: int, size: int) -> bytes:
        self._on_read()
        assert self._let_go.wait(WAIT_SECONDS)
        return b"x"


async def test_parts_of_large_files_leave_room_for_small_files(
    shop: Shop, emulator: Emulator, bucket: str
) -> None:
    store, let_go, token = shop.plain(), threading.Event(), trio.lowlevel.current_trio_token()
    all_begun, count = trio.Event(), 0

    def begin() -> None:
        nonlocal count
        count += 1
        if count == PARTS_AT_ONCE:
            all_begun.set()

    bucket_id = emulator.bucket_id(bucket)
    held = Held(let_go, lambda: token.run_sync_soon(begin))
    large = await store.start_large(bucket_id, "large", content_type="text/plain", info={})
    try:
        async with trio.open_nursery() as nursery:
            for number in range(1, PARTS_AT_ONCE + 9):

                async def part(number: int = number) -> None:
                    await store.upload_part(large, number, held, sha1=SHA1_OF_X)

                nursery.start_soon(part)
            with trio.fail_after(WAIT_SECONDS):
                await all_begun.wait()
                await store.upload(bucket_id, "small", Bytes(b"y"), content_type="text/plain", info={})
            assert count == PARTS_AT_ONCE
            let_go.set()
    finally:
        let_go.set()
    assert len(await store.list_parts(large)) == count == PARTS_AT_ONCE + 8
    await store.cancel_large(large)


async def test_a_url_is_dropped_when_the_pod_is_busy_and_kept_when_the_file_is_refused(
    shop: Shop, emulator: Emulator, bucket: str, calls_since: Count
) -> None:
    store = shop.retrying()

    async def put() -> None:
        await store.upload(emulator.bucket_id(bucket), "f", Bytes(b"x"), content_type="text/plain", info={})

    await put()
    emulator.fault(call="b2_upload_file", kind="status", status=429, code="too_many_requests")
    await put()
    assert calls_since("b2_get_upload_url") == 1
    emulator.fault(call="b2_upload_file", kind="status", status=503)
    await put()
    assert calls_since("b2_get_upload_url") == 2


@pytest.mark.parametrize(
    ("answer", "is_good"),
    [
        (Reply(429, "too_many_requests"), True),
        (Reply(400, "bad_request"), True),
        (Reply(403, "cap_exceeded"), True),
        (Reply(401, "expired_auth_token"), False),
        (Reply(401, "unauthorized"), False),
        (Reply(400, "auth_token_limit"), False),
        (Reply(408), False),
        (Reply(500), False),
        (Reply(503), False),
        (Fault.TIMEOUT, False),
        (Fault.RESET, False),
        (Fault.CONNECT, False),
    ],
)
def test_the_checklist_says_when_a_url_is_spent(answer: Reply | Fault, is_good: bool) -> None:
    assert leaves_url_good(Failure("b2_upload_file", answer)) is is_good


def test_the_url_used_last_is_used_next() -> None:
    urls = UploadUrls()
    first, second = UploadUrl("http://a", "t"), UploadUrl("http://b", "t")
    urls.put_back("x", first)
    urls.put_back("x", second)
    assert urls.take("y") is None
    assert [urls.take("x"), urls.take("x"), urls.take("x")] == [second, first, None]


def test_an_old_url_is_not_used() -> None:
    urls = UploadUrls()
    urls.put_back("x", UploadUrl("http://a", "t", got=-1e9))
    assert urls.take("x") is None


class Broken(Bytes):
    """A body whose file is cut short, or cannot be read."""

    def __init__(self, data: bytes, *, claims: int, error: Exception | None = None) -> None:
        super().__init__(data)
        self._claims = claims
        self._error = error

    @property
    def size(self) -> int:
        return self._claims

    def read_at(self, offset: int, size: int) -> memoryview:
        if self._error is not None:
            raise self._error
        return super().read_at(offset, size)


@pytest.mark.parametrize("size", [10, 3_000_000])
@pytest.mark.parametrize("error", [None, OSError(5, "Input/output error")])
@pytest.mark.parametrize("sha1", [None, "0" * 40])
async def test_a_body_that_cannot_be_read_is_a_local_error_and_makes_no_file(
    shop: Shop, emulator: Emulator, bucket: str, size: int, error: Exception | None, sha1: str | None
) -> None:
    store = shop.retrying()
    body = Broken(b"x" * (size - 5), claims=size, error=error)
    with pytest.raises(LocalStorageError):
        await store.upload(
            emulator.bucket_id(bucket), "f", body, content_type="text/plain", info={}, sha1=sha1
        )
    assert emulator.list_names(bucket) == []


@pytest.mark.parametrize("content_type", ["text/plain\r\nX-Evil: 1", "text/pläin", "a\x00b"])
async def test_a_content_type_that_no_header_can_carry_is_refused_here(
    shop: Shop, emulator: Emulator, bucket: str, content_type: str
) -> None:
    store = shop.retrying()
    with pytest.raises(InvalidArgument):
        await store.upload(emulator.bucket_id(bucket), "f", Bytes(b"x"), content_type=content_type, info={})
    assert emulator.list_names(bucket) == []


async def test_an_upload_can_be_cancelled_in_the_middle(shop: Shop, emulator: Emulator, bucket: str) -> None:
    store = shop.retrying()
    under_way, token = trio.Event(), trio.lowlevel.current_trio_token()

    class Watched(Bytes):
        def read_at(self, offset: int, size: int) -> memoryview:
            if offset:
                token.run_sync_soon(under_way.set)
            return super().read_at(offset, size)

    body = Watched(b"x" * 60_000_000)  # ten minutes' worth
    scope = trio.CancelScope()

    async def put() -> None:
        with scope:
            await store.upload(
                emulator.bucket_id(bucket), "f", body, content_type="text/plain", info={}, sha1="0" * 40
            )

    emulator.network(bandwidth=100_000)
    try:
        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(put)
                await under_way.wait()
                scope.cancel()
    finally:
        emulator.network(bandwidth=None)
    assert scope.cancelled_caught
    assert emulator.list_names(bucket) == []


async def test_a_large_body_takes_longer_than_the_time_for_silence(
    shop: Shop, emulator: Emulator, bucket: str
) -> None:
    store = shop.retrying(io_timeout=10.0)  # what the sockets' buffers hold is drained in far less
    data = noise(30_000_000)
    emulator.network(bandwidth=2_500_000)
    try:
        row = await store.upload(
            emulator.bucket_id(bucket), "f", Bytes(data), content_type="text/plain", info={}
        )
    finally:
        emulator.network(bandwidth=None)
    assert row.size == len(data)


async def test_an_abandoned_read_gives_its_thread_back_soon(
    shop: Shop, emulator: Emulator, bucket: str
) -> None:
    store = shop.plain(downloads=1)
    row = emulator.upload(bucket, "f", noise(20_000_000))
    emulator.network(bandwidth=100_000)  # minutes' worth
    try:
        with trio.move_on_after(0.3):
            await store.read_range(row["fileId"], 0, 20_000_000)
        with trio.fail_after(100):
            assert len(await store.read_range(row["fileId"], 0, 10)) == 10
    finally:
        emulator.network(bandwidth=None)
