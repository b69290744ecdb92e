"""Uploads: URLs and tokens, lengths and sums, names and file info, large files. Over plain HTTP."""

from __future__ import annotations

import hashlib
import json
import socket
import urllib.parse
from typing import Any

import pytest

from tests.support.emulator import Emulator


def sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def target_of(emulator: Emulator, bucket: str) -> Any:
    return emulator.ask("b2_get_upload_url", {"bucketId": emulator.bucket_id(bucket)})


def send(
    emulator: Emulator, target: Any, data: bytes = b"data", **headers: str | None
) -> tuple[int, dict[str, Any]]:
    """Upload with some headers changed (underscores are hyphens; None leaves a header out)."""
    sent: dict[str, str | None] = {
        "Authorization": target["authorizationToken"],
        "X-Bz-File-Name": "name",
        "Content-Type": "text/plain",
        "X-Bz-Content-Sha1": sha1(data),
    }
    for name, value in headers.items():
        sent[name.replace("_", "-")] = value
    kept = {name: value for name, value in sent.items() if value is not None}
    status, _, body = emulator.request("POST", target["uploadUrl"], headers=kept, body=data)
    return status, json.loads(body)


def test_an_upload_answers_with_the_whole_row(emulator: Emulator, bucket: str) -> None:
    row = emulator.upload(bucket, "a/b", b"hello", {"Color": "r\u00f6d"}, "text/x-test")
    assert row["contentSha1"] == sha1(b"hello")
    assert row["contentMd5"] == hashlib.md5(b"hello").hexdigest()
    assert (row["action"], row["contentLength"], row["contentType"]) == ("upload", 5, "text/x-test")
    assert row["fileInfo"] == {"color": "r\u00f6d"}
    assert (
        row == emulator.list_names(bucket)[0] == emulator.ask("b2_get_file_info", {"fileId": row["fileId"]})
    )


@pytest.mark.parametrize(
    ("name", "type_"), [("a.txt", "text/plain"), ("a.html", "text/html"), ("a", "application/octet-stream")]
)
def test_the_automatic_content_type_follows_the_extension(
    emulator: Emulator, bucket: str, name: str, type_: str
) -> None:
    assert emulator.upload(bucket, name, b"", content_type="b2/x-auto")["contentType"] == type_


def test_an_upload_url_serves_one_upload_after_the_other(emulator: Emulator, bucket: str) -> None:
    target = target_of(emulator, bucket)
    assert [send(emulator, target)[0] for _ in range(3)] == [200, 200, 200]
    stamps = [row["uploadTimestamp"] for row in emulator.list_versions(bucket)]
    assert stamps == sorted(stamps, reverse=True)
    assert len(set(stamps)) == 3


def test_an_upload_url_refuses_a_second_upload_at_the_same_time(emulator: Emulator, bucket: str) -> None:
    target = target_of(emulator, bucket)
    path = urllib.parse.urlsplit(target["uploadUrl"]).path
    with emulator.connect_raw() as first:
        first.sendall(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {target['authorizationToken']}\r\n"
            f"X-Bz-File-Name: slow\r\nContent-Type: a/b\r\nContent-Length: 4\r\n"
            f"X-Bz-Content-Sha1: {sha1(b'data')}\r\n\r\nda".encode()
        )
        while not any(entry["call"] == "b2_upload_file" for entry in busy(emulator)):
            pass
        status, answer = send(emulator, target)
        assert (status, answer["code"]) == (400, "auth_token_limit")
        assert answer["message"] == f"more than one upload using auth token {target['authorizationToken']}"
        first.sendall(b"ta")
        assert first.recv(1000).startswith(b"HTTP/1.1 200")
    assert send(emulator, target)[0] == 200


def busy(emulator: Emulator) -> list[dict[str, Any]]:
    """Give the requests that have begun and not ended."""
    return list(emulator.control("GET", "busy")["entries"])


def test_an_upload_token_works_with_its_own_url_alone(emulator: Emulator, bucket: str) -> None:
    one, two = target_of(emulator, bucket), target_of(emulator, bucket)
    crossed = {"uploadUrl": one["uploadUrl"], "authorizationToken": two["authorizationToken"]}
    assert send(emulator, crossed)[1]["code"] == "bad_auth_token"
    assert send(emulator, one, Authorization=emulator.master_token())[1]["code"] == "bad_auth_token"
    assert emulator.call("b2_list_keys", {}, one["authorizationToken"])[1]["code"] == "bad_auth_token"


@pytest.mark.parametrize(
    ("status", "works_again"), [(503, False), (500, False), (401, False), (429, True), (408, True)]
)
def test_an_upload_url_is_void_after_a_server_error(
    emulator: Emulator, bucket: str, status: int, works_again: bool
) -> None:
    target = target_of(emulator, bucket)
    emulator.fault(call="b2_upload_file", kind="status", status=status, code="x")
    assert send(emulator, target)[0] == status
    after = send(emulator, target)
    assert (after[0] == 200) == works_again
    if not works_again:
        assert after[1]["code"] == "bad_auth_token"


def test_an_upload_url_expires(emulator: Emulator, bucket: str) -> None:
    target = target_of(emulator, bucket)
    emulator.expire_tokens("upload")
    assert send(emulator, target)[1]["code"] == "expired_auth_token"


def test_sums_are_checked(emulator: Emulator, bucket: str) -> None:
    target = target_of(emulator, bucket)
    assert send(emulator, target, X_Bz_Content_Sha1=sha1(b"other"))[1] == {
        "status": 400,
        "code": "bad_request",
        "message": "Sha1 did not match data received",
    }
    assert send(emulator, target, X_Bz_Content_Sha1="zzz")[1]["code"] == "bad_request"
    assert send(emulator, target, X_Bz_Content_Sha1=None)[1]["code"] == "bad_request"
    assert emulator.list_versions(bucket) == []
    at_end = send(emulator, target, b"body" + sha1(b"body").encode(), X_Bz_Content_Sha1="hex_digits_at_end")
    assert (at_end[1]["contentLength"], at_end[1]["contentSha1"]) == (4, sha1(b"body"))
    assert emulator.download(bucket, "name") == b"body"
    wrong = send(emulator, target, b"body" + sha1(b"x").encode(), X_Bz_Content_Sha1="hex_digits_at_end")
    assert wrong[0] == 400
    assert send(emulator, target, b"short", X_Bz_Content_Sha1="hex_digits_at_end")[0] == 400
    unverified = send(emulator, target, b"trust me", X_Bz_Content_Sha1="do_not_verify")
    assert unverified[1]["contentSha1"] == "unverified:" + sha1(b"trust me")


def test_an_upload_needs_a_length_and_is_never_chunked(emulator: Emulator, bucket: str) -> None:
    target = target_of(emulator, bucket)
    path = urllib.parse.urlsplit(target["uploadUrl"]).path
    common = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {target['authorizationToken']}\r\n"
        f"X-Bz-File-Name: n\r\nContent-Type: a/b\r\nX-Bz-Content-Sha1: do_not_verify\r\n"
    )
    for rest in ("Transfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n0\r\n\r\n", "\r\n"):
        with emulator.connect_raw() as connection:
            connection.sendall((common + rest).encode())
            assert b"411" in connection.recv(4000).split(b"\r\n")[0]
    assert emulator.list_versions(bucket) == []


def test_a_body_cut_short_leaves_nothing(emulator: Emulator, bucket: str) -> None:
    target = target_of(emulator, bucket)
    path = urllib.parse.urlsplit(target["uploadUrl"]).path
    with emulator.connect_raw() as connection:
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {target['authorizationToken']}\r\n"
            "X-Bz-File-Name: n\r\nContent-Type: a/b\r\nX-Bz-Content-Sha1: do_not_verify\r\n"
            "Content-Length: 9\r\n\r\nhalf".encode()
        )
        while not busy(emulator):
            pass
        connection.shutdown(socket.SHUT_RDWR)
    while busy(emulator):
        pass
    assert emulator.list_versions(bucket) == []
    assert list((emulator.data / "incoming").iterdir()) == []


def test_an_upload_into_a_bucket_that_goes_meanwhile_is_refused(emulator: Emulator) -> None:
    emulator.create_bucket("goes-meanwhile")
    target = target_of(emulator, "goes-meanwhile")
    path = urllib.parse.urlsplit(target["uploadUrl"]).path
    with emulator.connect_raw() as connection:
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {target['authorizationToken']}\r\n"
            "X-Bz-File-Name: n\r\nContent-Type: a/b\r\nX-Bz-Content-Sha1: do_not_verify\r\n"
            "Content-Length: 8\r\n\r\nhalf".encode()
        )
        while not busy(emulator):
            pass
        emulator.wipe("goes-meanwhile")
        connection.sendall(b"half")
        assert b"bad_bucket_id" in connection.recv(4000)
    assert list((emulator.data / "incoming").iterdir()) == []


BAD_NAMES = [
    "", "/a", "a/", "a//b", "a\\b", "a\x1fb", "a\x7fb", "a\nb",
    "x" * 251, "d/" + "\u00e9" * 126, "a/" * 511 + "abc",
]  # fmt: skip
GOOD_NAMES = [
    "a", "a b", ".", "..", "a/../b", "+%&=#?;:@,", "\U0001f600", "e\u0301", "-",
    "x" * 250, "\u00e9" * 125, "a/" * 511 + "ab",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_name_is_refused_by_every_call_that_makes_a_file(
    emulator: Emulator, bucket: str, name: str
) -> None:
    source = emulator.upload(bucket, "source", b"x")
    status, answer = emulator.try_upload(bucket, name, b"x")
    assert (status, answer["code"]) == (400, "bad_request")
    start = {"bucketId": emulator.bucket_id(bucket), "fileName": name, "contentType": "a/b"}
    assert emulator.call("b2_start_large_file", start)[0] == 400
    copy = {"sourceFileId": source["fileId"], "fileName": name}
    assert emulator.call("b2_copy_file", copy)[0] == 400
    assert [row["fileName"] for row in emulator.list_versions(bucket)] == ["source"]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_a_good_name_goes_up_and_comes_back(emulator: Emulator, bucket: str, name: str) -> None:
    assert len(name.encode()) <= 1024
    emulator.upload(bucket, name, b"x")
    assert [row["fileName"] for row in emulator.list_names(bucket)] == [name]
    status, headers, data = emulator.get(f"/file/{bucket}/{urllib.parse.quote(name, safe='/')}")
    assert (status, data) == (200, b"x")
    assert urllib.parse.unquote(headers["x-bz-file-name"]) == name


def test_the_rules_of_names_can_be_moved(emulator: Emulator, bucket: str) -> None:
    before = emulator.settings()
    emulator.settings(max_segment_bytes=1024, allow_backslash=True)
    try:
        emulator.upload(bucket, "x" * 1000, b"")
        emulator.upload(bucket, "a\\b", b"")
    finally:
        emulator.settings(**before)


def test_a_plus_in_a_header_is_a_space(emulator: Emulator, bucket: str) -> None:
    send(emulator, target_of(emulator, bucket), X_Bz_File_Name="a+b%2Bc", X_Bz_Info_i="x+y")
    [row] = emulator.list_names(bucket)
    assert (row["fileName"], row["fileInfo"]) == ("a b+c", {"i": "x y"})
    assert send(emulator, target_of(emulator, bucket), X_Bz_File_Name="%FF")[0] == 400


def test_file_info_is_limited(emulator: Emulator, bucket: str) -> None:
    name = "n" * 100
    assert emulator.try_upload(bucket, name, b"", info={"k": "v" * (7000 - 101)})[0] == 200
    assert emulator.try_upload(bucket, name, b"", info={"k": "v" * (7000 - 100)})[0] == 400
    encrypted = {"X-Bz-Server-Side-Encryption": "AES256"}
    assert emulator.try_upload(bucket, name, b"", info={"k": "v" * (2048 - 101)}, headers=encrypted)[0] == 200
    assert emulator.try_upload(bucket, name, b"", info={"k": "v" * (2048 - 100)}, headers=encrypted)[0] == 400
    assert emulator.try_upload(bucket, name, b"", info={"k" * 50: "v"})[0] == 200
    for bad in ("k" * 51, "b2-made-up"):
        assert emulator.try_upload(bucket, name, b"", info={bad: "v"})[0] == 400


def test_reserved_info_comes_back_as_the_real_header(emulator: Emulator, bucket: str) -> None:
    emulator.upload(bucket, "f", b"", {"b2-cache-control": "max-age=5", "other": "x"})
    _, headers, _ = emulator.get(f"/file/{bucket}/f")
    assert headers["cache-control"] == "max-age=5"
    assert headers["x-bz-info-other"] == "x"
    assert "x-bz-info-b2-cache-control" not in headers
    assert emulator.try_upload(bucket, "f", b"", headers={"Content-Disposition": "inline"})[0] == 400


def test_a_custom_timestamp_has_to_be_enabled(emulator: Emulator, bucket: str) -> None:
    custom = {"X-Bz-Custom-Upload-Timestamp": "1234567890123"}
    assert emulator.try_upload(bucket, "f", b"", headers=custom)[1]["code"] == "custom_timestamp_not_allowed"
    emulator.settings(custom_timestamps=True)
    try:
        assert emulator.try_upload(bucket, "f", b"", headers=custom)[1]["uploadTimestamp"] == 1234567890123
    finally:
        emulator.settings(custom_timestamps=False)


def test_test_mode_fails_some_uploads_and_forces_caps(emulator: Emulator, bucket: str) -> None:
    mode = {"X-Bz-Test-Mode": "fail_some_uploads"}
    statuses = [emulator.try_upload(bucket, "f", b"", headers=mode)[0] for _ in range(9)]
    assert sorted(statuses) == [200] * 6 + [503] * 3
    capped = {"X-Bz-Test-Mode": "force_cap_exceeded"}
    assert emulator.try_upload(bucket, "f", b"", headers=capped)[1]["code"] == "cap_exceeded"
