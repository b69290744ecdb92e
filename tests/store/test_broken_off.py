"""Downloads that break off again and again, and servers that know no ranges."""

import hashlib
import logging
from collections.abc import AsyncIterator, Callable
from http.server import ThreadingHTTPServer
from threading import Thread

import pytest

from b2mount.core.credentials import make_credentials
from b2mount.core.errors import RefusedByB2
from b2mount.store.b2 import B2Store
from b2mount.store.backoff import Backoff
from b2mount.store.retry import RetryingStore
from tests.contract.test_contents import noise
from tests.contract.worlds import Bytes
from tests.store.conftest import FIRST_PAUSE, Shop
from tests.store.test_answers import AnyAccount
from tests.support.emulator import Emulator

CUT = 100_000
DOWNLOAD = "b2_download_file_by_id"
WHOLE = noise(700_000, seed=3)


async def stored(shop: Shop, emulator: Emulator, bucket: str, data: bytes) -> tuple[RetryingStore, str]:
    store = shop.retrying()
    row = await store.upload(emulator.bucket_id(bucket), "f", Bytes(data), content_type="text/plain", info={})
    return store, row.file_id


async def test_a_path_that_cuts_every_answer_brings_the_whole_file(
    shop: Shop, emulator: Emulator, bucket: str, calls_since: Callable[[str], int]
) -> None:
    data = noise(950_000)
    store, file_id = await stored(shop, emulator, bucket, data)
    emulator.fault(call=DOWNLOAD, kind="truncate", after_bytes=CUT, times=-1)
    assert await store.read_range(file_id, 0, len(data)) == data
    assert calls_since(DOWNLOAD) == 10


async def test_bytes_damaged_before_the_cut_are_found_once_all_are_there(
    shop: Shop, emulator: Emulator, bucket: str, calls_since: Callable[[str], int]
) -> None:
    data = noise(250_000)
    store, file_id = await stored(shop, emulator, bucket, data)
    buffer = bytearray(len(data))
    emulator.fault(call=DOWNLOAD, kind="truncate", after_bytes=CUT)
    spoiled: list[int] = []

    def spoil(count: int) -> None:
        if not spoiled and count >= CUT:
            spoiled.append(count)
            buffer[7] ^= 1

    await store.read_into(file_id, 0, memoryview(buffer), spoil)
    assert buffer == data
    assert calls_since(DOWNLOAD) == 3  # cut, gone on with to the end, and all of it again


class _Rangeless(AnyAccount):
    """Gives the whole file, whatever range is asked for."""

    asked: list[str]  # each request's Range
    cut = 0  # bytes after which the first answer breaks off

    def do_GET(self) -> None:
        self.asked.append(self.headers["Range"])
        self.send_response(200)
        self.send_header("Content-Length", str(len(WHOLE)))
        self.send_header("X-Bz-Content-Sha1", hashlib.sha1(WHOLE, usedforsecurity=False).hexdigest())
        self.end_headers()
        if self.cut and len(self.asked) == 1:
            self.wfile.write(WHOLE[: self.cut])
            self.close_connection = True
        else:
            self.wfile.write(WHOLE)


@pytest.fixture
async def rangeless() -> AsyncIterator[tuple[RetryingStore, type[_Rangeless]]]:
    class Handler(_Rangeless):
        asked: list[str] = []  # noqa: RUF012

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever)
    thread.start()
    credentials = make_credentials("0" * 25, "K" * 31, "a test")
    inner = B2Store(credentials, endpoint=f"http://127.0.0.1:{server.server_port}", environment={})
    yield RetryingStore(inner, backoff=lambda: Backoff(FIRST_PAUSE)), Handler
    await inner.aclose()
    server.shutdown()
    server.server_close()
    thread.join()


Rangeless = tuple[RetryingStore, type[_Rangeless]]


async def test_where_ranges_are_ignored_a_beginning_is_taken_from_the_whole(rangeless: Rangeless) -> None:
    store, server = rangeless
    assert await store.read_range("id", 0, 300_000) == WHOLE[:300_000]
    assert await store.read_range("id", 0, len(WHOLE)) == WHOLE
    assert len(server.asked) == 2


async def test_where_ranges_are_ignored_another_part_is_refused_at_once_and_told(
    rangeless: Rangeless, caplog: pytest.LogCaptureFixture
) -> None:
    store, server = rangeless
    with caplog.at_level(logging.WARNING), pytest.raises(RefusedByB2, match="Range header"):
        await store.read_range("id", 300_000, 400_000)
    assert server.asked == ["bytes=300000-399999"]
    assert "Range header" in caplog.text


async def test_where_ranges_are_ignored_a_whole_file_that_broke_off_is_fetched_again(
    rangeless: Rangeless,
) -> None:
    store, server = rangeless
    server.cut = CUT
    assert await store.read_range("id", 0, len(WHOLE)) == WHOLE
    assert server.asked == ["bytes=0-699999", "bytes=100000-699999", "bytes=0-699999"]
