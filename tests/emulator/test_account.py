"""Authorization, keys, tokens and buckets. Over plain HTTP."""

from __future__ import annotations

import base64
import json
import re
import uuid
from typing import Any

import pytest

from tests.support.emulator import Emulator


def test_each_version_has_its_shape_of_authorization(emulator: Emulator, bucket: str) -> None:
    key = emulator.create_key(["listFiles"], [bucket], "p/")
    bucket_id = emulator.bucket_id(bucket)
    replies = {version: emulator.authorize(*key, version)[1] for version in (1, 2, 3, 4)}
    flat = {"bucketId": bucket_id, "bucketName": bucket, "capabilities": ["listFiles"], "namePrefix": "p/"}
    for version in (1, 2):
        assert replies[version]["allowed"] == flat
        assert replies[version]["apiUrl"] == replies[version]["downloadUrl"] == emulator.url
        assert ("minimumPartSize" in replies[version]) == (version == 1)
    assert flat.items() <= replies[3]["apiInfo"]["storageApi"].items()
    storage = replies[4]["apiInfo"]["storageApi"]
    assert storage["allowed"] == {
        "buckets": [{"id": bucket_id, "name": bucket}],
        "capabilities": ["listFiles"],
        "namePrefix": "p/",
    }
    assert storage["absoluteMinimumPartSize"] == 5_000_000
    assert replies[4]["applicationKeyExpirationTimestamp"] is None
    assert re.fullmatch("[0-9a-f]{12}", replies[4]["accountId"])
    assert re.fullmatch("[0-9a-f]{25}", key[0])
    assert re.fullmatch(r"K\d{3}[A-Za-z0-9+/]{27}", key[1])


def test_the_account_id_stands_in_for_the_master_key_only(emulator: Emulator, bucket: str) -> None:
    assert emulator.authorize(emulator.account_id, emulator.master_key)[0] == 200
    _, other = emulator.create_key(["listFiles"], [bucket])
    assert emulator.authorize(emulator.account_id, other)[0] == 401


def test_wrong_credentials_are_401_with_a_challenge(emulator: Emulator) -> None:
    unknown = "0" * 25
    for key_id, key, code in (
        (unknown, "K000", "bad_auth_token"),
        (emulator.master_key_id, "wrong", "unauthorized"),
    ):
        status, answer = emulator.authorize(key_id, key)
        assert (status, answer) == (401, {"status": 401, "code": code, "message": ""})
    for header in ("Basic !!!", "Bearer x", "Basic " + base64.b64encode(b"no colon").decode()):
        status, headers, _ = emulator.request(
            "GET", "/b2api/v4/b2_authorize_account", headers={"Authorization": header}
        )
        assert (status, headers["www-authenticate"]) == (401, 'BASIC realm="authorize_account"')


def test_a_key_for_several_buckets_needs_version_4(emulator: Emulator, bucket: str) -> None:
    emulator.create_bucket("account-second")
    try:
        key = emulator.create_key(["listFiles"], [bucket, "account-second"])
        assert [emulator.authorize(*key, version)[0] for version in (1, 2, 3, 4)] == [401, 401, 401, 200]
        account = {"accountId": emulator.account_id, "maxKeyCount": 10_000}
        for version, listed in ((3, False), (4, True)):
            keys = emulator.call("b2_list_keys", account, version=version)[1]["keys"]
            assert (key[0] in {row["applicationKeyId"] for row in keys}) == listed
        emulator.wipe("account-second")
        allowed = emulator.authorize(*key)[1]["apiInfo"]["storageApi"]["allowed"]["buckets"]
        assert [entry["name"] for entry in allowed] == [bucket, None]  # a bucket that is gone has no name
    finally:
        if "account-second" in emulator.control("GET", "buckets"):
            emulator.wipe("account-second")


def test_a_key_expires(emulator: Emulator, bucket: str) -> None:
    key = emulator.create_key(["listFiles"], [bucket], seconds=3600)
    expires = emulator.authorize(*key)[1]["applicationKeyExpirationTimestamp"]
    assert expires is not None
    token = emulator.token_of(*key)
    emulator.expire_key(key[0])
    body = {"bucketId": emulator.bucket_id(bucket)}
    assert emulator.call("b2_list_file_names", body, token)[1]["code"] == "expired_auth_token"
    assert emulator.authorize(*key)[0] == 401
    rows = emulator.ask("b2_list_keys", {"maxKeyCount": 10_000})["keys"]
    assert key[0] not in {row["applicationKeyId"] for row in rows}


def test_a_deleted_key_takes_its_tokens_with_it(emulator: Emulator, bucket: str) -> None:
    key = emulator.create_key(["listFiles"], [bucket])
    token = emulator.token_of(*key)
    assert emulator.ask("b2_delete_key", {"applicationKeyId": key[0]})["applicationKeyId"] == key[0]
    body = {"bucketId": emulator.bucket_id(bucket)}
    assert emulator.call("b2_list_file_names", body, token)[1]["code"] == "bad_auth_token"
    assert emulator.authorize(*key)[1]["code"] == "bad_auth_token"
    assert emulator.call("b2_delete_key", {"applicationKeyId": key[0]})[0] == 400


def test_a_token_expires_and_a_made_up_one_is_unknown(emulator: Emulator) -> None:
    token = emulator.token_of(emulator.master_key_id, emulator.master_key)
    assert emulator.call("b2_list_keys", {}, token)[0] == 200
    emulator.expire_tokens("account")
    status, answer = emulator.call("b2_list_keys", {}, token)
    assert (status, answer["code"]) == (401, "expired_auth_token")
    assert emulator.call("b2_list_keys", {}, "4_made_up")[1]["code"] == "bad_auth_token"
    status, _, body = emulator.request("POST", "/b2api/v4/b2_list_keys", body=b"{}")
    assert (status, json.loads(body)["code"]) == (401, "bad_auth_token")
    emulator.settings(token_seconds=0)
    try:
        short = emulator.token_of(emulator.master_key_id, emulator.master_key)
        assert emulator.call("b2_list_keys", {}, short)[1]["code"] == "expired_auth_token"
    finally:
        emulator.settings(token_seconds=86_400)


@pytest.mark.parametrize(
    "change",
    [
        {"keyName": "not a name"},
        {"keyName": "x" * 101},
        {"capabilities": []},
        {"capabilities": ["zork"]},
        {"validDurationInSeconds": 0},
        {"validDurationInSeconds": 86_400_000},
        {"bucketIds": []},
        {"bucketIds": ["0" * 24]},
    ],
)
def test_a_key_that_makes_no_sense_is_refused(emulator: Emulator, change: dict[str, Any]) -> None:
    body = {"accountId": emulator.account_id, "keyName": "fine", "capabilities": ["listFiles"], **change}
    assert emulator.call("b2_create_key", body)[0] == 400


def test_a_key_is_limited_by_the_field_of_its_version_or_not_made(emulator: Emulator, bucket: str) -> None:
    base = {"accountId": emulator.account_id, "keyName": "k", "capabilities": ["listFiles"]}
    bucket_id = emulator.bucket_id(bucket)
    for version, limit in ((4, {"bucketId": bucket_id}), (3, {"bucketIds": [bucket_id]})):
        status, answer = emulator.call("b2_create_key", {**base, **limit}, version=version)
        assert (status, answer["code"]) == (400, "bad_json")
    for version, field, value in ((4, "bucketIds", [bucket_id]), (3, "bucketId", bucket_id)):
        row = emulator.call("b2_create_key", {**base, field: value}, version=version)[1]
        assert row[field] == value


def test_keys_are_listed_in_pages(emulator: Emulator) -> None:
    made = {emulator.create_key(["listFiles"])[0] for _ in range(5)}
    seen: list[str] = []
    start = None
    while True:
        page = emulator.ask("b2_list_keys", {"maxKeyCount": 2, "startApplicationKeyId": start})
        seen += [row["applicationKeyId"] for row in page["keys"]]
        start = page["nextApplicationKeyId"]
        if start is None:
            break
    assert made <= set(seen)
    assert len(seen) == len(set(seen))
    assert all("applicationKey" not in row for row in page["keys"])
    assert emulator.master_key_id not in seen


# --- buckets ---


@pytest.mark.parametrize("name", ["short", "x" * 64, "under_score", "b2-reserved", "dots.in.it", "sp ace"])
def test_a_bad_bucket_name_is_refused(emulator: Emulator, name: str) -> None:
    body = {"accountId": emulator.account_id, "bucketName": name, "bucketType": "allPrivate"}
    assert emulator.call("b2_create_bucket", body)[0] == 400


def test_a_bucket_name_is_taken_in_any_case(emulator: Emulator, bucket: str) -> None:
    body = {"accountId": emulator.account_id, "bucketName": bucket.upper(), "bucketType": "allPrivate"}
    assert emulator.call("b2_create_bucket", body)[1]["code"] == "duplicate_bucket_name"


def test_only_an_empty_bucket_goes(emulator: Emulator) -> None:
    name = f"goes-{uuid.uuid4().hex[:12]}"
    body = {"accountId": emulator.account_id, "bucketId": emulator.create_bucket(name)}
    row = emulator.upload(name, "file", b"")
    marker = emulator.hide(name, "file")
    for version in (row, marker):
        assert emulator.call("b2_delete_bucket", body)[1]["code"] == "cannot_delete_non_empty_bucket"
        emulator.ask("b2_delete_file_version", {"fileName": "file", "fileId": version["fileId"]})
    assert emulator.call("b2_delete_bucket", body)[0] == 200
    assert emulator.call("b2_list_file_names", {"bucketId": body["bucketId"]})[1]["code"] == "bad_bucket_id"


def test_an_update_may_insist_on_the_revision(emulator: Emulator, bucket: str) -> None:
    body = {"accountId": emulator.account_id, "bucketId": emulator.bucket_id(bucket)}
    row = emulator.ask("b2_update_bucket", body | {"bucketInfo": {"a": "b"}})
    assert (row["bucketInfo"], row["revision"]) == ({"a": "b"}, 3)
    status, answer = emulator.call("b2_update_bucket", body | {"bucketInfo": {}, "ifRevisionIs": 2})
    assert (status, answer["code"]) == (409, "conflict")
    rules = [{"fileNamePrefix": "", "daysFromHidingToDeleting": 1}]
    row = emulator.ask("b2_update_bucket", body | {"lifecycleRules": rules, "ifRevisionIs": 3})
    assert (row["lifecycleRules"], row["bucketInfo"]) == (rules, {"a": "b"})
    bad_rules: list[dict[str, Any]] = [
        {},
        {"fileNamePrefix": "", "days": 1},
        {"fileNamePrefix": "", "daysFromHidingToDeleting": 0},
    ]
    for bad in bad_rules:
        assert emulator.call("b2_update_bucket", body | {"lifecycleRules": [bad]})[0] == 400


def test_a_bucket_may_encrypt_by_default(emulator: Emulator, bucket: str) -> None:
    sse = {"mode": "SSE-B2", "algorithm": "AES256"}
    body = {"accountId": emulator.account_id, "bucketId": emulator.bucket_id(bucket)}
    emulator.ask("b2_update_bucket", body | {"defaultServerSideEncryption": sse})
    assert emulator.upload(bucket, "file", b"")["serverSideEncryption"] == sse


# --- what all calls share ---


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "bad_json"),
        (b"[]", "bad_json"),
        (b'{"bucketId": "x", "unknown": 1}', "bad_json"),
        (b'{"bucketId": 5}', "bad_request"),
        (b'{"bucketId": "\\ud800"}', "bad_request"),
        (b"{}", "bad_request"),
        (b'{"bucketId": null}', "bad_request"),
        (b"[" * 100_000, "bad_json"),
    ],
)
def test_a_bad_body_is_refused_in_json(emulator: Emulator, body: bytes, code: str) -> None:
    headers = {"Authorization": emulator.master_token()}
    path = "/b2api/v4/b2_list_file_names"
    status, received, answer = emulator.request("POST", path, headers=headers, body=body)
    assert (status, json.loads(answer)["code"]) == (400, code)
    assert received["content-type"] == "application/json;charset=UTF-8"
    assert "date" in received


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/b2api/v4/b2_no_such_call", 404),
        ("GET", "/b2api/v5/b2_list_buckets", 404),
        ("POST", "/b2api/v4/b2_list_buckets/more", 404),
        ("DELETE", "/b2api/v4/b2_list_buckets", 405),
        ("GET", "/b2api/v4/b2_upload_file/a/b", 405),
        ("PUT", "/file/bucket/name", 405),
        ("GET", "/b2api/v4/b2_download_file_by_name", 404),
    ],
)
def test_what_is_no_call_is_refused_in_json(emulator: Emulator, method: str, path: str, status: int) -> None:
    headers = {"Authorization": emulator.master_token()}
    answered, _, body = emulator.request(method, path, headers=headers)
    assert (answered, json.loads(body)["status"]) == (status, status)


def test_what_is_not_http_is_refused_in_json(emulator: Emulator) -> None:
    with emulator.connect_raw() as connection:
        connection.sendall(b"GET /caf\xe9 HTTP/1.1\r\nHost: x\r\nBad Header: x\r\n\r\n")
        answer = connection.recv(4000)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "bad_request"


def test_bad_ids_have_their_codes(emulator: Emulator, bucket: str) -> None:
    assert emulator.call("b2_get_file_info", {"fileId": "nonsense"})[1]["code"] == "bad_request"
    row = emulator.upload(bucket, "file", b"")
    emulator.ask("b2_delete_file_version", {"fileName": "file", "fileId": row["fileId"]})
    status, answer = emulator.call("b2_get_file_info", {"fileId": row["fileId"]})
    assert (status, answer["code"]) == (404, "not_found")
    assert re.fullmatch(r"4_z[0-9a-f]{24}_f[0-9a-f]{16}_d\d{8}_m\d{6}_c\d{3}_v\d{7}_t\d{4}", row["fileId"])
