"""Restricted keys as B2 makes them, and machines whose clock is wrong."""

import logging
import time

import pytest

from b2mount.core.errors import AccessDenied, KeyRejected
from tests.contract.worlds import Bytes
from tests.store.conftest import Shop
from tests.support.emulator import Emulator


@pytest.mark.parametrize("may_list_buckets", [True, False])
async def test_a_key_for_several_buckets_names_each(
    shop: Shop, emulator: Emulator, bucket: str, may_list_buckets: bool
) -> None:
    second, third = f"{bucket}-2", f"{bucket}-3"
    for name in (second, third):
        emulator.create_bucket(name)
    rights = ["listFiles", "readFiles", *(["listBuckets"] if may_list_buckets else [])]
    store = shop.plain(emulator.create_key(rights, [bucket, second]))
    assert sorted(row.name for row in await store.list_buckets()) == sorted([bucket, second])
    emulator.upload(second, "f", b"data")
    for name in (bucket, second):
        await store.list_names(emulator.bucket_id(name), "")
    with pytest.raises(AccessDenied):
        await store.list_names(emulator.bucket_id(third), "")
    for name in (second, third):
        emulator.wipe(name)


async def test_a_key_for_a_bucket_that_is_gone_still_authorizes(
    shop: Shop, emulator: Emulator, bucket: str
) -> None:
    gone = f"{bucket}-gone"
    emulator.create_bucket(gone)
    key = emulator.create_key(["listFiles"], [bucket, gone])
    emulator.wipe(gone)
    store = shop.plain(key)
    grant = await store.authorize()
    assert {row.name for row in grant.buckets or ()} == {bucket, None}
    assert [row.name for row in await store.list_buckets()] == [bucket]


async def test_a_key_for_a_prefix_lists_uploads_and_hides_under_it_alone(
    shop: Shop, emulator: Emulator, bucket: str
) -> None:
    rights = ["listFiles", "readFiles", "writeFiles"]
    store = shop.plain(emulator.create_key(rights, [bucket], prefix="a/b"))
    bucket_id = emulator.bucket_id(bucket)
    assert (await store.authorize()).prefix == "a/b"
    for name in ("a/b", "a/b/c", "a/bc"):
        await store.upload(bucket_id, name, Bytes(b"x"), content_type="text/plain", info={})
    assert [row.name for row in (await store.list_names(bucket_id, "a/b")).rows] == ["a/b", "a/b/c", "a/bc"]
    for prefix in ("", "a/", "a"):
        with pytest.raises(AccessDenied):
            await store.list_names(bucket_id, prefix)
    with pytest.raises(AccessDenied):
        await store.upload(bucket_id, "a/x", Bytes(b"x"), content_type="text/plain", info={})
    await store.upload(bucket_id, "a/by", Bytes(b"x"), content_type="text/plain", info={})


async def test_an_account_key_without_listBuckets_cannot_name_them(shop: Shop, emulator: Emulator) -> None:
    store = shop.plain(emulator.create_key(["listFiles"]))
    with pytest.raises(AccessDenied):
        await store.list_buckets()


@pytest.mark.parametrize("minutes", [-90, 90])
async def test_a_clock_that_is_wrong_hinders_nothing_and_is_told(
    shop: Shop, emulator: Emulator, bucket: str, caplog: pytest.LogCaptureFixture, minutes: int
) -> None:
    store = shop.plain(clock=lambda: time.time() + minutes * 60)
    for _ in range(3):
        await store.authorize()
    row = await store.upload(emulator.bucket_id(bucket), "f", Bytes(b"x"), content_type="text/plain", info={})
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [f"this machine's clock is {minutes:+d} minutes off B2's"]
    assert abs(store.server_ms() - row.uploaded_ms) < 60_000


async def test_a_wrong_clock_is_named_where_the_key_is_refused(shop: Shop, emulator: Emulator) -> None:
    wrong = (emulator.master_key_id, "K001" + "x" * 27)
    store = shop.plain(wrong, clock=lambda: time.time() - 3600)
    with pytest.raises(KeyRejected, match="clock is off by -60 minutes"):
        await store.authorize()


async def test_a_clock_that_is_right_is_taken_as_it_is(shop: Shop) -> None:
    store = shop.plain()
    await store.authorize()
    before = time.time()
    assert int(before * 1000) <= store.server_ms() <= time.time() * 1000


async def test_a_date_that_is_a_second_old_does_not_make_a_right_clock_wrong(shop: Shop) -> None:
    store = shop.plain(clock=lambda: time.time() + 0.9)
    await store.authorize()
    before = time.time() + 0.9
    assert int(before * 1000) <= store.server_ms() <= (time.time() + 0.9) * 1000


async def test_a_reply_that_was_long_on_its_way_does_not_make_a_right_clock_wrong(
    shop: Shop, emulator: Emulator
) -> None:
    asked = emulator.last_seq()

    def clock() -> float:
        """Three seconds pass between B2's writing its Date and our reading it."""
        return time.time() + (3 if emulator.last_seq() > asked else 0)

    store = shop.plain(clock=clock)
    await store.authorize()
    before = clock()
    assert int(before * 1000) <= store.server_ms() <= clock() * 1000
