"""What is counted, against what the server counts by itself."""

import pytest

from b2mount.core.errors import B2MountError
from b2mount.store.counting import DOLLARS_EACH, Counters
from tests.contract.test_contents import noise
from tests.contract.worlds import Bytes
from tests.store.conftest import Shop
from tests.support.emulator import Emulator


async def test_the_client_counts_what_the_server_counts(shop: Shop, emulator: Emulator, bucket: str) -> None:
    emulator.seed(bucket, pattern="n/%05d", count=2500, size=0)
    bucket_id = emulator.bucket_id(bucket)
    emulator.reset_counters()
    store = shop.retrying()
    await store.list_names(bucket_id, "", limit=10_000)
    await store.list_names(bucket_id, "none", limit=10_000)
    await store.list_names(bucket_id, "", delimiter="/")
    row = await store.upload(bucket_id, "f", Bytes(noise(2_000_000)), content_type="text/plain", info={})
    await store.upload(bucket_id, "g", Bytes(b"x"), content_type="text/plain", info={})
    await store.read_range(row.file_id, 0, 1_500_000)
    await store.head(bucket, "f")
    await store.get_info(row.file_id)
    await store.copy_file(row.file_id, bucket_id, "c")
    await store.hide(bucket_id, "f")
    await store.delete_version("f", row.file_id)
    served, told = emulator.counters(), store.counters.totals()
    assert dict(told.requests) == served["calls"]
    assert dict(told.classes) == served["classes"]
    assert told.classes == {"A": 5, "B": 3, "C": 7}
    assert (told.bytes_up, told.bytes_down) == (2_000_001, 1_500_000)
    assert told.dollars == pytest.approx(3 * 0.004 / 10_000 + 7 * 0.004 / 1000)


async def test_refusals_and_failures_are_counted(shop: Shop, emulator: Emulator, bucket: str) -> None:
    store = shop.retrying(emulator.create_key(["listFiles"], [bucket]))
    await store.authorize()
    for _ in range(2):  # the first is sent again, after B2 was asked whether it still takes the key
        with pytest.raises(B2MountError):
            await store.hide(emulator.bucket_id(bucket), "f")
    emulator.fault(call="b2_list_file_names", kind="status", status=503, times=2)
    emulator.fault(call="b2_list_file_versions", kind="drop_before")
    await store.list_names(emulator.bucket_id(bucket), "")
    await store.list_versions(emulator.bucket_id(bucket), "")
    told = store.counters.totals()
    assert told.requests["b2_hide_file"] == 3
    assert (told.refused, told.failed) == (3, 3)
    assert told.classes == {"A": 0, "B": 0, "C": 4}  # with asking of the key again
    assert told.requests["b2_list_file_names"] == 3
    assert told.latency["b2_list_file_names"].count == 3


@pytest.mark.parametrize(("rows", "billed"), [(0, 1), (1, 1), (1000, 1), (1001, 2), (10_000, 10)])
def test_a_list_call_is_billed_by_the_thousand_rows(rows: int, billed: int) -> None:
    counters = Counters()
    counters.answered("b2_list_file_names", 200, 0.1)
    counters.listed("b2_list_file_names", rows)
    assert counters.totals().classes["C"] == billed
    assert counters.totals().dollars == pytest.approx(billed * DOLLARS_EACH["C"])
