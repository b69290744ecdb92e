"""Large files: parts, copies of parts, finish, cancel. Over plain HTTP, with a small minimum part size."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.emulator import Emulator

MIN = 100


@pytest.fixture(autouse=True)
def small_parts(emulator: Emulator) -> Iterator[None]:
    before = emulator.settings()
    emulator.settings(min_part_size=MIN, max_part_size=1000)
    yield
    emulator.settings(**before)


def sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def start(emulator: Emulator, bucket: str, name: str = "large", **fields: Any) -> str:
    body = {"bucketId": emulator.bucket_id(bucket), "fileName": name, "contentType": "a/b", **fields}
    return str(emulator.ask("b2_start_large_file", body)["fileId"])


def put(emulator: Emulator, file_id: str, number: int | str, data: bytes) -> tuple[int, Any]:
    status, target = emulator.call("b2_get_upload_part_url", {"fileId": file_id})
    if status != 200:
        return status, target
    headers = {
        "Authorization": target["authorizationToken"],
        "X-Bz-Part-Number": str(number),
        "X-Bz-Content-Sha1": sha1(data),
    }
    status, _, body = emulator.request("POST", target["uploadUrl"], headers=headers, body=data)
    return status, json.loads(body)


def finish(emulator: Emulator, file_id: str, *parts: bytes) -> tuple[int, Any]:
    body = {"fileId": file_id, "partSha1Array": [sha1(part) for part in parts]}
    return emulator.call("b2_finish_large_file", body)


A, B, C = b"a" * MIN, b"b" * MIN, b"c"


def test_parts_come_in_any_order_and_the_last_may_be_small(emulator: Emulator, bucket: str) -> None:
    file_id = start(emulator, bucket, fileInfo={"k": "v"})
    for number, data in ((3, C), (1, A), (2, B)):
        assert put(emulator, file_id, number, data)[0] == 200
    status, row = finish(emulator, file_id, A, B, C)
    assert (status, row["action"], row["contentLength"]) == (200, "upload", 2 * MIN + 1)
    assert (row["contentSha1"], row["contentMd5"], row["fileInfo"]) == ("none", None, {"k": "v"})
    assert emulator.download(bucket, "large") == A + B + C
    for first, last in ((0, 0), (MIN - 1, MIN), (50, 2 * MIN), (2 * MIN, 2 * MIN)):
        _, headers, data = emulator.get(f"/file/{bucket}/large", range_=f"bytes={first}-{last}")
        assert data == (A + B + C)[first : last + 1]
        assert headers["x-bz-content-sha1"] == "none"


def test_nothing_is_visible_before_the_finish_and_the_time_is_that_of_the_start(
    emulator: Emulator, bucket: str
) -> None:
    emulator.upload(bucket, "large", b"old")
    file_id = start(emulator, bucket)
    put(emulator, file_id, 1, A)
    put(emulator, file_id, 2, C)
    assert emulator.download(bucket, "large") == b"old"
    [started] = [row for row in emulator.list_versions(bucket) if row["action"] == "start"]
    assert (started["contentLength"], started["contentSha1"]) == (0, "none")
    assert emulator.get(f"/b2api/v4/b2_download_file_by_id?fileId={file_id}")[0] == 404
    meanwhile = emulator.upload(bucket, "large", b"meanwhile")
    row = finish(emulator, file_id, A, C)[1]
    assert row["uploadTimestamp"] == started["uploadTimestamp"] < meanwhile["uploadTimestamp"]
    # By its timestamp the small upload is the newer version.
    assert emulator.download(bucket, "large") == b"meanwhile"
    assert [row["contentLength"] for row in emulator.list_versions(bucket)] == [9, MIN + 1, 3]


def test_a_part_sent_again_replaces_the_first(emulator: Emulator, bucket: str) -> None:
    file_id = start(emulator, bucket)
    for number, data in ((1, A), (2, C), (1, B)):
        put(emulator, file_id, number, data)
    assert finish(emulator, file_id, A, C)[1]["code"] == "part_sha1_mismatch"
    assert finish(emulator, file_id, B, C)[0] == 200
    assert emulator.download(bucket, "large") == B + C


def test_finish_checks_its_parts(emulator: Emulator, bucket: str) -> None:
    file_id = start(emulator, bucket)
    put(emulator, file_id, 1, A)
    assert "at least 2 parts" in finish(emulator, file_id, A)[1]["message"]
    assert finish(emulator, file_id, A, B)[1]["code"] == "missing_part"
    put(emulator, file_id, 3, C)
    assert finish(emulator, file_id, A, C)[1]["code"] == "missing_part"
    put(emulator, file_id, 2, C)
    assert finish(emulator, file_id, A, C)[0] == 400  # a third part is there
    answer = finish(emulator, file_id, A, C, C)
    assert (answer[0], answer[1]["code"]) == (400, "bad_request")  # the second is too small
    put(emulator, file_id, 2, B)
    assert finish(emulator, file_id, A, B, C)[0] == 200


def test_a_finish_sent_again_says_that_nothing_is_under_way(emulator: Emulator, bucket: str) -> None:
    file_id = start(emulator, bucket)
    put(emulator, file_id, 1, A)
    put(emulator, file_id, 2, C)
    emulator.fault(call="b2_finish_large_file", kind="drop_after")
    with pytest.raises(ConnectionError):
        finish(emulator, file_id, A, C)
    status, answer = finish(emulator, file_id, A, C)
    assert (status, answer["message"]) == (400, f"No active upload for: {file_id}")
    assert emulator.ask("b2_get_file_info", {"fileId": file_id})["action"] == "upload"
    assert put(emulator, file_id, 1, A)[0] == 400


@pytest.mark.parametrize("number", [0, 10_001, "x", -1])
def test_part_numbers_run_from_1_to_10000(emulator: Emulator, bucket: str, number: int | str) -> None:
    assert put(emulator, start(emulator, bucket), number, A)[0] == 400


def test_a_part_is_neither_empty_nor_too_large(emulator: Emulator, bucket: str) -> None:
    file_id = start(emulator, bucket)
    assert put(emulator, file_id, 1, b"")[0] == 400
    assert put(emulator, file_id, 1, b"x" * 1001)[0] == 400
    assert put(emulator, file_id, 10_000, b"x" * 1000)[0] == 200


def test_cancel_forgets_all(emulator: Emulator, bucket: str) -> None:
    file_id = start(emulator, bucket)
    put(emulator, file_id, 1, A)
    answer = emulator.ask("b2_cancel_large_file", {"fileId": file_id})
    assert answer["fileName"] == "large"
    assert emulator.list_versions(bucket) == []
    assert emulator.call("b2_cancel_large_file", {"fileId": file_id})[0] == 400


def test_parts_and_unfinished_files_are_listed_in_pages(emulator: Emulator, bucket: str) -> None:
    ids = [start(emulator, bucket, name) for name in ("b", "a", "ab")]
    for number in (1, 2, 5):
        put(emulator, ids[0], number, b"x" * number)
    page = emulator.ask("b2_list_parts", {"fileId": ids[0], "maxPartCount": 2})
    assert [part["partNumber"] for part in page["parts"]] == [1, 2]
    assert page["nextPartNumber"] == 5
    page = emulator.ask("b2_list_parts", {"fileId": ids[0], "startPartNumber": 5})
    assert [(part["contentLength"], part["contentSha1"]) for part in page["parts"]] == [(5, sha1(b"xxxxx"))]
    assert page["nextPartNumber"] is None
    asked = {"bucketId": emulator.bucket_id(bucket)}
    page = emulator.ask("b2_list_unfinished_large_files", asked | {"maxFileCount": 2})
    assert [row["fileId"] for row in page["files"]] == ids[:2]  # oldest first
    assert page["nextFileId"] == ids[2]
    page = emulator.ask("b2_list_unfinished_large_files", asked | {"startFileId": ids[1], "namePrefix": "a"})
    assert [row["fileName"] for row in page["files"]] == ["a", "ab"]
    assert emulator.call("b2_list_unfinished_large_files", asked | {"maxFileCount": 101})[0] == 400


def test_parts_are_copied_from_stored_files_and_mixed_with_sent_ones(emulator: Emulator, bucket: str) -> None:
    base = emulator.upload(bucket, "base", bytes(range(250)))
    file_id = start(emulator, bucket)
    emulator.reset_counters()
    copied = emulator.ask(
        "b2_copy_part",
        {"sourceFileId": base["fileId"], "largeFileId": file_id, "partNumber": 1, "range": "bytes=50-199"},
    )
    assert (copied["contentLength"], copied["contentSha1"]) == (150, sha1(bytes(range(50, 200))))
    put(emulator, file_id, 2, B)
    whole = {"sourceFileId": base["fileId"], "largeFileId": file_id, "partNumber": 3}
    assert emulator.ask("b2_copy_part", whole)["contentSha1"] == base["contentSha1"]
    assert finish(emulator, file_id, bytes(range(50, 200)), B, bytes(range(250)))[0] == 200
    emulator.ask("b2_delete_file_version", {"fileId": base["fileId"], "fileName": "base"})
    assert emulator.download(bucket, "large") == bytes(range(50, 200)) + B + bytes(range(250))
    # A range of a file of several parts, copied in turn.
    copy = {"sourceFileId": file_id, "fileName": "piece", "range": "bytes=100-299"}
    assert emulator.ask("b2_copy_file", copy)["action"] == "copy"
    assert emulator.download(bucket, "piece") == (bytes(range(50, 200)) + B + bytes(range(250)))[100:300]


def test_a_copy_over_the_limit_is_refused(emulator: Emulator, bucket: str) -> None:
    emulator.seed(bucket, [{"name": "big", "size": 1001}])
    [row] = emulator.list_names(bucket)
    answer = emulator.call("b2_copy_file", {"sourceFileId": row["fileId"], "fileName": "copy"})[1]
    assert (answer["code"], answer["message"]) == ("source_too_large", "Copy source too big: 1001")
    ranged = {"sourceFileId": row["fileId"], "fileName": "copy", "range": "bytes=0-999"}
    assert emulator.ask("b2_copy_file", ranged)["contentLength"] == 1000
    part = {"sourceFileId": row["fileId"], "largeFileId": start(emulator, bucket), "partNumber": 1}
    assert emulator.call("b2_copy_part", part)[1]["code"] == "source_too_large"


def test_authorize_says_the_part_sizes(emulator: Emulator) -> None:
    emulator.settings(recommended_part_size=200)
    answer = emulator.authorize(emulator.master_key_id, emulator.master_key)[1]
    storage = answer["apiInfo"]["storageApi"]
    assert (storage["absoluteMinimumPartSize"], storage["recommendedPartSize"]) == (MIN, 200)
