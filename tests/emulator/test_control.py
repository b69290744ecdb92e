"""The control interface: faults, the network model, caps, counters and the log."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.emulator import CallFailed, Emulator


@pytest.fixture(autouse=True)
def tidy(emulator: Emulator) -> Iterator[None]:
    yield
    emulator.clear_faults()
    emulator.caps()
    emulator.network(latency_ms=0, bandwidth=None, list_ms_per_1000=0)


def listing(emulator: Emulator, bucket: str, **fields: Any) -> tuple[int, Any]:
    return emulator.call("b2_list_file_names", {"bucketId": emulator.bucket_id(bucket), **fields})


def test_the_server_says_that_it_lives(emulator: Emulator) -> None:
    assert emulator.control("GET", "health") == {"ok": True}


def test_a_status_fault_answers_as_told_so_often_and_after_so_many(emulator: Emulator, bucket: str) -> None:
    emulator.fault(
        call="b2_list_file_names", kind="status", status=429, code="too_many_requests", message="slow down",
        retry_after=7, times=2, skip=1,
    )  # fmt: skip
    assert [listing(emulator, bucket)[0] for _ in range(5)] == [200, 429, 429, 200, 200]
    assert emulator.faults()[0]["fired"] == 2
    emulator.fault(kind="status", status=429, code="x", retry_after=7, times=-1)
    status, headers, _ = emulator.request("GET", "/b2api/v4/b2_list_keys")
    assert (status, headers["retry-after"]) == (429, "7")
    assert emulator.call("b2_list_buckets")[0] == 429
    emulator.clear_faults()
    assert listing(emulator, bucket)[0] == 200


def test_a_fault_may_be_meant_for_some_names(emulator: Emulator, bucket: str) -> None:
    emulator.fault(call="b2_upload_file", kind="status", name="bad", times=-1)
    assert emulator.try_upload(bucket, "good", b"")[0] == 200
    assert emulator.try_upload(bucket, "a/bad/one", b"")[0] == 503
    emulator.fault(call="b2_list_file_names", kind="status", name="sub/", times=-1)
    assert listing(emulator, bucket, prefix="other/")[0] == 200
    assert listing(emulator, bucket, prefix="sub/dir/")[0] == 503
    emulator.fault(call="b2_download_file_by_name", kind="status", name="good", times=-1)
    assert emulator.get(f"/file/{bucket}/good")[0] == 503


def test_drop_before_does_nothing_and_drop_after_does_it_silently(emulator: Emulator, bucket: str) -> None:
    for kind, there in (("drop_before", []), ("drop_after", ["name"])):
        emulator.fault(call="b2_upload_file", kind=kind)
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            emulator.upload(bucket, "name", b"content")
        assert [row["fileName"] for row in emulator.list_names(bucket)] == there
    emulator.fault(call="b2_hide_file", kind="drop_after")
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        emulator.hide(bucket, "name")
    assert emulator.list_names(bucket) == []


def test_truncate_announces_all_and_sends_less(emulator: Emulator, bucket: str) -> None:
    emulator.upload(bucket, "name", b"x" * 3_000_000)
    emulator.fault(call="b2_download_file_by_name", kind="truncate", after_bytes=1_234_567)
    with pytest.raises(http.client.IncompleteRead) as short:
        emulator.download(bucket, "name")
    assert (len(short.value.partial), short.value.expected) == (1_234_567, 3_000_000 - 1_234_567)
    emulator.fault(call="b2_list_file_names", kind="truncate", after_bytes=10)
    with pytest.raises(http.client.IncompleteRead):
        listing(emulator, bucket)
    assert emulator.download(bucket, "name") == b"x" * 3_000_000


def test_corrupt_changes_one_byte_either_way(emulator: Emulator, bucket: str) -> None:
    emulator.upload(bucket, "name", b"x" * 1_000_000)
    emulator.fault(call="b2_download_file_by_name", kind="corrupt", after_bytes=700_000)
    data = emulator.download(bucket, "name")
    assert [index for index, byte in enumerate(data) if byte != ord("x")] == [700_000]
    emulator.fault(call="b2_upload_file", kind="corrupt", after_bytes=3)
    status, answer = emulator.try_upload(bucket, "other", b"content")
    assert (status, answer["message"]) == (400, "Sha1 did not match data received")
    assert emulator.faults()[1]["fired"] == 1


def test_stall_waits_and_then_goes_on(emulator: Emulator, bucket: str) -> None:
    emulator.fault(call="b2_list_file_names", kind="stall", seconds=0.3)
    began = time.monotonic()
    assert listing(emulator, bucket)[0] == 200
    assert time.monotonic() - began >= 0.3


def test_a_fault_that_makes_no_sense_is_refused(emulator: Emulator) -> None:
    for bad in ({"kind": "explode"}, {"kind": "status", "colour": "red"}, {}):
        with pytest.raises(CallFailed, match="400"):
            emulator.fault(**bad)
    assert emulator.faults() == []


def test_latency_bandwidth_and_listing_time_are_at_least_what_was_set(
    emulator: Emulator, bucket: str
) -> None:
    # Lower bounds only: a slow machine makes each of these longer, never shorter.
    emulator.upload(bucket, "name", b"x" * 500_000)
    emulator.seed(bucket, pattern="n%04d", count=2000)
    target = f"/file/{bucket}/name"

    def seconds(ask: Any) -> float:
        began = time.monotonic()
        ask()
        return time.monotonic() - began

    assert emulator.network(latency_ms=200)["latency_ms"] == 200
    assert seconds(lambda: emulator.get(target, range_="bytes=0-0")) >= 0.2
    emulator.network(latency_ms=0, bandwidth=1_000_000)
    assert seconds(lambda: emulator.get(target)) >= 0.45
    assert seconds(lambda: emulator.upload(bucket, "up", b"x" * 500_000)) >= 0.45
    emulator.network(bandwidth=None, list_ms_per_1000=150)
    assert seconds(lambda: listing(emulator, bucket, maxFileCount=2000)) >= 0.3
    with pytest.raises(CallFailed, match="400"):
        emulator.network(latency_ms="much")


def test_caps_count_from_when_they_are_set(emulator: Emulator, bucket: str) -> None:
    row = emulator.upload(bucket, "name", b"x" * 100)
    emulator.caps(download_bytes=150)
    assert [emulator.get(f"/file/{bucket}/name")[0] for _ in range(3)] == [200, 200, 403]
    emulator.caps(class_b=1)
    assert emulator.call("b2_get_file_info", {"fileId": row["fileId"]})[0] == 200
    answer = emulator.call("b2_get_file_info", {"fileId": row["fileId"]})
    assert (answer[0], answer[1]["code"]) == (403, "transaction_cap_exceeded")
    assert b"download_cap_exceeded" in emulator.get(f"/file/{bucket}/name")[2]
    emulator.caps(class_c=2)
    assert [listing(emulator, bucket)[0] for _ in range(3)] == [200, 200, 403]
    assert (
        emulator.authorize(emulator.master_key_id, emulator.master_key)[1]["code"]
        == "transaction_cap_exceeded"
    )
    emulator.caps(storage_bytes=150)
    assert emulator.try_upload(bucket, "one", b"x" * 100)[0] == 200
    assert emulator.try_upload(bucket, "two", b"x" * 100)[1]["code"] == "cap_exceeded"
    assert emulator.try_upload(bucket, "three", b"x" * 50)[0] == 200
    assert emulator.try_upload(bucket, "four", b"x")[1]["code"] == "storage_cap_exceeded"
    emulator.caps()
    assert emulator.try_upload(bucket, "five", b"x" * 1000)[0] == 200


def test_counters_say_what_was_asked_and_what_it_cost(emulator: Emulator, bucket: str) -> None:
    bucket_id = emulator.bucket_id(bucket)
    emulator.master_token()
    emulator.reset_counters()
    emulator.upload(bucket, "name", b"12345")
    emulator.download(bucket, "name")
    emulator.get(f"/file/{bucket}/name", method="HEAD")
    emulator.call("b2_list_file_names", {"bucketId": bucket_id})
    emulator.call("b2_list_file_names", {"bucketId": bucket_id}, "wrong token")
    emulator.get(f"/file/{bucket}/missing")
    counters = emulator.counters()
    assert counters["calls"] == {
        "b2_get_upload_url": 1,
        "b2_upload_file": 1,
        "b2_download_file_by_name": 3,
        "b2_list_file_names": 2,
    }
    assert counters["classes"] == {"A": 2, "B": 3, "C": 1}
    assert (counters["head_requests"], counters["refused"]) == (1, 1)
    assert counters["errors"] == {"401 bad_auth_token": 1, "404 not_found": 1}
    assert counters["bytes_in"] >= 5
    assert counters["bytes_out"] >= 5
    emulator.reset_counters()
    assert emulator.counters()["calls"] == {}


def test_the_log_tells_request_by_request(emulator: Emulator, bucket: str) -> None:
    key_id, key = emulator.create_key(["listFiles", "readFiles"], [bucket], "dir/")
    token = emulator.token_of(key_id, key)
    emulator.upload(bucket, "dir/name", b"0123456789")
    before = emulator.last_seq()
    emulator.get(f"/file/{bucket}/dir/name", range_="bytes=2-4", token=token)
    emulator.call("b2_list_file_names", {"bucketId": emulator.bucket_id(bucket), "prefix": "other/"}, token)
    first, second = emulator.log(before)
    assert first == {
        "seq": before + 1, "call": "b2_download_file_by_name", "method": "GET", "key_id": key_id,
        "bucket": bucket,
        "name": "dir/name", "prefix": "", "status": 206, "code": "", "bytes_in": 0, "bytes_out": 3,
        "range": "bytes=2-4",
    }  # fmt: skip
    assert (second["prefix"], second["status"], second["code"]) == ("other/", 401, "unauthorized")
    assert key not in str(emulator.log())


def test_seeding_nonsense_is_refused(emulator: Emulator, bucket: str) -> None:
    nonsense: list[Any] = [{}, {"name": ""}, {"name": 5}, {"name": "a", "size": "much"}, 5]
    for row in nonsense:
        with pytest.raises(CallFailed, match="400"):
            emulator.control("POST", "seed", {"bucket": bucket, "files": [{"name": "good"}, row]})
    with pytest.raises(CallFailed, match="400"):
        emulator.control("POST", "seed", {"bucket": "no-such-bucket"})
    assert emulator.list_versions(bucket) == []


def test_settings_refuse_what_they_do_not_know(emulator: Emulator) -> None:
    before = emulator.settings()
    for bad in ({"no_such": 1}, {"min_part_size": "x"}, {"min_part_size": -1}, {"custom_timestamps": 1}):
        with pytest.raises(CallFailed, match="400"):
            emulator.settings(**bad)
    assert emulator.settings() == before
