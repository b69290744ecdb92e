"""Downloads: ranges, headers, HEAD, what is gone, download authorizations, encryption. Over plain HTTP."""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.parse

import pytest

from tests.support.emulator import Emulator, pattern

DATA = bytes(range(256)) * 4


@pytest.fixture
def path(emulator: Emulator, bucket: str) -> str:
    emulator.upload(bucket, "dir/file", DATA)
    return f"/file/{bucket}/dir/file"


@pytest.mark.parametrize(
    ("range_", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=1000-", 1000, 1024),
        ("bytes=1000-5000", 1000, 1024),
        ("bytes=-10", 1014, 1024),
        ("bytes=0-1023", 0, 1024),
    ],
)
def test_a_range_is_206_and_its_end_is_clamped(
    emulator: Emulator, path: str, range_: str, start: int, end: int
) -> None:
    status, headers, data = emulator.get(path, range_=range_)
    assert (status, data) == (206, DATA[start:end])
    assert headers["content-range"] == f"bytes {start}-{end - 1}/1024"
    assert headers["content-length"] == str(end - start)
    assert headers["x-bz-content-sha1"] == hashlib.sha1(DATA, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("range_", ["bytes=1024-", "bytes=1024-2000", "bytes=-0"])
def test_a_range_past_the_end_is_416(emulator: Emulator, path: str, range_: str) -> None:
    status, _, body = emulator.get(path, range_=range_)
    assert (status, json.loads(body)["code"]) == (416, "range_not_satisfiable")


def test_any_range_of_an_empty_file_is_416(emulator: Emulator, bucket: str) -> None:
    emulator.upload(bucket, "empty", b"")
    assert emulator.get(f"/file/{bucket}/empty", range_="bytes=0-0")[0] == 416
    status, headers, data = emulator.get(f"/file/{bucket}/empty")
    assert (status, headers["content-length"], data) == (200, "0", b"")


@pytest.mark.parametrize("range_", ["bytes=5-2", "bytes=-", "items=0-1", "bytes=0-1,5-6"])
def test_a_range_that_is_none_is_refused(emulator: Emulator, path: str, range_: str) -> None:
    assert emulator.get(path, range_=range_)[0] == 400


def test_the_headers_say_what_the_file_is(emulator: Emulator, bucket: str) -> None:
    row = emulator.upload(bucket, "na\u00efve +.txt", b"x", {"color": "bl\u00fc +"}, "text/x-test")
    _, headers, _ = emulator.get(f"/file/{bucket}/" + urllib.parse.quote("na\u00efve +.txt"))
    assert headers["content-type"] == "text/x-test"
    assert headers["x-bz-file-id"] == row["fileId"]
    assert headers["x-bz-file-name"] == "na%C3%AFve%20%2B.txt"
    assert headers["x-bz-info-color"] == "bl%C3%BC%20%2B"
    assert headers["x-bz-upload-timestamp"] == str(row["uploadTimestamp"])
    assert headers["accept-ranges"] == "bytes"
    assert "date" in headers


def test_head_gives_the_headers_and_no_body_also_for_errors(
    emulator: Emulator, path: str, bucket: str
) -> None:
    status, headers, body = emulator.get(path, method="HEAD")
    assert (status, headers["content-length"], body) == (200, "1024", b"")
    assert emulator.get(path, method="HEAD", range_="bytes=0-9")[1]["content-length"] == "10"
    for target, expected in ((path + "x", 404), (f"/file/{bucket}/dir/", 400)):
        status, _, body = emulator.get(target, method="HEAD")
        assert (status, body) == (expected, b"")
    assert emulator.get(path, method="HEAD", token="nonsense")[0] == 401


def test_hidden_and_replaced_versions_stay_readable_by_id(emulator: Emulator, bucket: str) -> None:
    old = emulator.upload(bucket, "name", b"old")["fileId"]
    new = emulator.upload(bucket, "name", b"new")["fileId"]
    marker = emulator.hide(bucket, "name")["fileId"]
    assert emulator.get(f"/file/{bucket}/name")[0] == 404
    assert (emulator.download_by_id(old), emulator.download_by_id(new)) == (b"old", b"new")
    assert emulator.get(f"/b2api/v4/b2_download_file_by_id?fileId={marker}")[0] == 404
    emulator.ask("b2_delete_file_version", {"fileName": "name", "fileId": marker})
    assert emulator.download(bucket, "name") == b"new"
    emulator.ask("b2_delete_file_version", {"fileName": "name", "fileId": new})
    assert emulator.download(bucket, "name") == b"old"  # the older version is uncovered
    assert emulator.get(f"/b2api/v4/b2_download_file_by_id?fileId={new}")[0] == 404


def test_by_id_takes_get_head_and_post(emulator: Emulator, bucket: str) -> None:
    file_id = emulator.upload(bucket, "name", b"content")["fileId"]
    headers = {"Authorization": emulator.master_token()}
    body = json.dumps({"fileId": file_id}).encode()
    posted = emulator.request("POST", "/b2api/v4/b2_download_file_by_id", headers=headers, body=body)
    assert posted[2] == b"content"
    by_query = f"/b2api/v4/b2_download_file_by_id?fileId={file_id}"
    assert emulator.get(by_query, method="HEAD")[1]["content-length"] == "7"
    assert emulator.get("/b2api/v4/b2_download_file_by_id?fileId=nonsense")[0] == 400


def test_hide_and_delete_have_their_codes(emulator: Emulator, bucket: str) -> None:
    bucket_id = emulator.bucket_id(bucket)
    row = emulator.upload(bucket, "name", b"")
    hide = {"bucketId": bucket_id, "fileName": "name"}
    missing = {"bucketId": bucket_id, "fileName": "missing"}
    assert emulator.call("b2_hide_file", missing)[1]["code"] == "no_such_file"
    assert emulator.call("b2_hide_file", hide)[0] == 200
    assert emulator.call("b2_hide_file", hide)[1]["code"] == "already_hidden"
    other = {"fileName": "other", "fileId": row["fileId"]}
    assert emulator.call("b2_delete_file_version", other)[1]["code"] == "file_not_present"
    right = {"fileName": "name", "fileId": row["fileId"]}
    assert emulator.call("b2_delete_file_version", right)[0] == 200
    assert emulator.call("b2_delete_file_version", right)[1]["code"] == "file_not_present"


def test_a_download_authorization_opens_its_prefix_by_name_alone(emulator: Emulator, bucket: str) -> None:
    inside = emulator.upload(bucket, "in/file", b"inside")
    emulator.upload(bucket, "out", b"outside")
    asked = {"bucketId": emulator.bucket_id(bucket), "fileNamePrefix": "in/", "validDurationInSeconds": 60}
    token = emulator.ask("b2_get_download_authorization", asked)["authorizationToken"]
    assert emulator.get(f"/file/{bucket}/in/file", token=token)[2] == b"inside"
    assert emulator.request("GET", f"/file/{bucket}/in/file?Authorization={token}")[2] == b"inside"
    assert emulator.get(f"/file/{bucket}/out", token=token)[0] == 401
    by_id = f"/b2api/v4/b2_download_file_by_id?fileId={inside['fileId']}"
    assert emulator.get(by_id, token=token)[0] == 401
    for seconds in (0, 604_801, None):
        body = asked | {"validDurationInSeconds": seconds}
        assert emulator.call("b2_get_download_authorization", body)[0] == 400


def test_the_query_may_replace_headers(emulator: Emulator, path: str) -> None:
    _, headers, _ = emulator.get(path + "?b2ContentDisposition=attachment&b2ContentType=text%2Fplain")
    assert headers["content-disposition"] == "attachment"
    assert headers["content-type"] == "text/plain"


def test_seeded_content_is_the_documented_pattern_at_any_offset(emulator: Emulator, bucket: str) -> None:
    emulator.seed(bucket, [{"name": "ten-gigabytes", "size": 10**10}, {"name": "small", "size": 200_000}])
    assert emulator.download(bucket, "small") == pattern("small", 0, 200_000)
    for start, length in ((0, 10), (65_520, 4), (9_999_999_000, 1000), (5_000_000_000, 1_000_000)):
        range_ = f"bytes={start}-{start + length - 1}"
        _, headers, data = emulator.get(f"/file/{bucket}/ten-gigabytes", range_=range_)
        assert data == pattern("ten-gigabytes", start, length)
    assert headers["x-bz-content-sha1"] == "none"
    [_, small, *_] = sorted(emulator.list_names(bucket), key=lambda row: -row["contentLength"])
    content = pattern("small", 0, 200_000)
    assert small["contentSha1"] == hashlib.sha1(content, usedforsecurity=False).hexdigest()


def test_copy_keeps_or_replaces_the_metadata(emulator: Emulator, bucket: str) -> None:
    row = emulator.upload(bucket, "a", b"content", {"k": "v"}, "text/one")
    base = {"sourceFileId": row["fileId"], "fileName": "b"}
    copied = emulator.ask("b2_copy_file", base)
    assert (copied["fileInfo"], copied["contentType"]) == ({"k": "v"}, "text/one")
    assert emulator.call("b2_copy_file", base | {"contentType": "text/two"})[0] == 400
    replace = base | {"metadataDirective": "REPLACE"}
    assert emulator.call("b2_copy_file", replace)[0] == 400
    new = emulator.ask("b2_copy_file", replace | {"contentType": "text/two", "fileInfo": {"n": "w"}})
    assert (new["fileInfo"], new["contentType"]) == ({"n": "w"}, "text/two")
    assert emulator.download(bucket, "b") == b"content"
    gone = {"sourceFileId": row["fileId"], "fileName": "c", "range": "bytes=7-"}
    assert emulator.call("b2_copy_file", gone)[0] == 416


def test_encryption_is_echoed_and_a_customer_key_is_asked_for(emulator: Emulator, bucket: str) -> None:
    managed = emulator.try_upload(bucket, "b2", b"x", headers={"X-Bz-Server-Side-Encryption": "AES256"})[1]
    assert managed["serverSideEncryption"] == {"algorithm": "AES256", "mode": "SSE-B2"}
    assert emulator.get(f"/file/{bucket}/b2")[1]["x-bz-server-side-encryption"] == "AES256"

    def customer(secret: bytes) -> dict[str, str]:
        head = "X-Bz-Server-Side-Encryption-Customer-"
        digest = hashlib.md5(secret, usedforsecurity=False).digest()
        return {
            head + "Algorithm": "AES256",
            head + "Key": base64.b64encode(secret).decode(),
            head + "Key-Md5": base64.b64encode(digest).decode(),
        }

    right, wrong = customer(b"k" * 32), customer(b"w" * 32)
    assert emulator.try_upload(bucket, "c", b"sealed", headers=right)[0] == 200
    mixed = right | {"X-Bz-Server-Side-Encryption-Customer-Key-Md5": "AAAA"}
    assert emulator.try_upload(bucket, "c", b"sealed", headers=mixed)[0] == 400
    token = {"Authorization": emulator.master_token()}
    answers = [
        emulator.request("GET", f"/file/{bucket}/c", headers=token | extra) for extra in (right, wrong, {})
    ]
    assert [status for status, _, _ in answers] == [200, 403, 400]
    assert answers[0][2] == b"sealed"
    assert json.loads(answers[1][2])["code"] == "access_denied"
    assert json.loads(answers[2][2])["message"].startswith(
        "The object was stored using a form of Server Side"
    )
