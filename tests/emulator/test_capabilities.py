"""What each call needs: capability by capability, inside and outside a key's bucket and prefix.

The table is written from Backblaze's pages ("Application Key Capabilities" and the page of each call) and
shares nothing with the server's or the client's own.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.emulator import Emulator

# Every capability that a key for one bucket may have.
ALL = """
    listBuckets listAllBucketNames readBuckets readBucketEncryption writeBucketEncryption readBucketRetentions
    writeBucketRetentions readBucketReplications writeBucketReplications readBucketNotifications
    writeBucketNotifications readFileRetentions writeFileRetentions readFileLegalHolds writeFileLegalHolds
    bypassGovernance listFiles readFiles shareFiles writeFiles deleteFiles
""".split()  # noqa: SIM905
ACCOUNT = ["listKeys", "writeKeys", "deleteKeys", "writeBuckets", "deleteBuckets"]


@dataclass
class World:
    """Two buckets, each with a file and an unfinished large file inside the prefix and outside it."""

    emulator: Emulator
    home: str = ""
    foreign: str = ""
    ids: dict[str, str] = field(default_factory=dict)  # by bucket name
    files: dict[tuple[str, str], str] = field(default_factory=dict)  # file ID by bucket and name
    large: dict[tuple[str, str], str] = field(default_factory=dict)

    def key(self, capabilities: list[str], *, prefix: str | None = None) -> str:
        """Give a token of a key for the home bucket."""
        return self.emulator.token_of(*self.emulator.create_key(capabilities, [self.home], prefix))


@pytest.fixture(scope="module")
def world(emulator: Emulator) -> Iterator[World]:
    world = World(emulator)
    for role in ("home", "foreign"):
        name = f"{role}-{uuid.uuid4().hex[:12]}"
        setattr(world, role, name)
        world.ids[name] = emulator.create_bucket(name, fileLockEnabled=True)
        for file in ("in/file", "out/file"):
            world.files[name, file] = emulator.upload(name, file, b"content")["fileId"]
            start = {"bucketId": world.ids[name], "fileName": file, "contentType": "text/plain"}
            world.large[name, file] = emulator.ask("b2_start_large_file", start)["fileId"]
    yield world
    emulator.wipe(world.home)
    emulator.wipe(world.foreign)


Ask = Callable[[World, str, str, str], tuple[int, Any]]


def _json(call: str, make: Callable[[World, str, str], dict[str, Any]]) -> Ask:
    return lambda world, token, bucket, name: world.emulator.call(call, make(world, bucket, name), token)


def _upload(world: World, token: str, bucket: str, name: str) -> tuple[int, Any]:
    emulator = world.emulator
    status, target = emulator.call("b2_get_upload_url", {"bucketId": world.ids[bucket]}, token)
    if status != 200:
        return status, target
    headers = {
        "Authorization": target["authorizationToken"],
        "X-Bz-File-Name": name,
        "Content-Type": "text/plain",
        "X-Bz-Content-Sha1": hashlib.sha1(b"content").hexdigest(),
    }
    status, _, body = emulator.request("POST", target["uploadUrl"], headers=headers, body=b"content")
    return status, json.loads(body)


def _download(by: str, method: str = "GET") -> Ask:
    def ask(world: World, token: str, bucket: str, name: str) -> tuple[int, Any]:
        path = f"/b2api/v2/b2_download_file_by_id?fileId={world.files[bucket, name]}"
        if by == "name":
            path = f"/file/{bucket}/{name}"
        status, _, body = world.emulator.get(path, token=token, method=method)
        return status, body

    return ask


def _bucket_file(world: World, bucket: str, name: str) -> dict[str, Any]:
    return {"bucketId": world.ids[bucket], "fileName": name}


def _version(world: World, bucket: str, name: str) -> dict[str, Any]:
    return {"fileName": name, "fileId": world.files[bucket, name]}


def _file_id(world: World, bucket: str, name: str) -> dict[str, Any]:
    return {"fileId": world.files[bucket, name]}


def _large_id(world: World, bucket: str, name: str) -> dict[str, Any]:
    return {"fileId": world.large[bucket, name]}


def _prefixed(field_name: str) -> Callable[[World, str, str], dict[str, Any]]:
    return lambda world, bucket, name: {
        "bucketId": world.ids[bucket],
        field_name: name[: name.index("/") + 1],
    }


@dataclass(frozen=True)
class Row:
    """One call: what it needs, whether names count, and the statuses of a call let through."""

    call: str
    ask: Ask
    needs: tuple[str, ...]
    by_name: bool = True
    ok: tuple[int, ...] = (200,)
    lacking: int = 401


# Calls let through leave the world usable: they hide a missing name, finish without parts.
ROWS = [
    Row("b2_list_file_names", _json("b2_list_file_names", _prefixed("prefix")), ("listFiles",)),
    Row("b2_list_file_versions", _json("b2_list_file_versions", _prefixed("prefix")), ("listFiles",)),
    Row(
        "b2_list_unfinished_large_files",
        _json("b2_list_unfinished_large_files", _prefixed("namePrefix")),
        ("listFiles",),
    ),
    Row("b2_get_file_info", _json("b2_get_file_info", _file_id), ("readFiles",)),
    Row("download by id", _download("id"), ("readFiles",)),
    Row("download by name", _download("name"), ("readFiles",)),
    Row("HEAD by id", _download("id", "HEAD"), ("readFiles",)),
    Row("HEAD by name", _download("name", "HEAD"), ("readFiles",)),
    Row(
        "b2_get_download_authorization",
        _json(
            "b2_get_download_authorization",
            lambda w, b, n: {"bucketId": w.ids[b], "fileNamePrefix": n, "validDurationInSeconds": 60},
        ),
        ("shareFiles",),
    ),
    Row(
        "b2_get_upload_url",
        _json("b2_get_upload_url", lambda w, b, n: {"bucketId": w.ids[b]}),
        ("writeFiles",),
        by_name=False,
    ),
    Row("b2_upload_file", lambda w, t, b, n: _upload(w, t, b, n + ".new"), ("writeFiles",)),
    Row(
        "b2_start_large_file",
        _json("b2_start_large_file", lambda w, b, n: _bucket_file(w, b, n) | {"contentType": "b2/x-auto"}),
        ("writeFiles",),
    ),
    Row("b2_get_upload_part_url", _json("b2_get_upload_part_url", _large_id), ("writeFiles",)),
    Row("b2_list_parts", _json("b2_list_parts", _large_id), ("writeFiles",)),
    Row(
        "b2_finish_large_file",
        _json("b2_finish_large_file", lambda w, b, n: _large_id(w, b, n) | {"partSha1Array": []}),
        ("writeFiles",),
        ok=(400,),
    ),
    Row(
        "b2_copy_file",
        _json("b2_copy_file", lambda w, b, n: {"sourceFileId": w.files[b, n], "fileName": n + ".copy"}),
        ("writeFiles", "readFiles"),
    ),
    Row(
        "b2_copy_part",
        _json(
            "b2_copy_part",
            lambda w, b, n: {"sourceFileId": w.files[b, n], "largeFileId": w.large[b, n], "partNumber": 1},
        ),
        ("writeFiles", "readFiles"),
    ),
    Row(
        "b2_hide_file",
        _json("b2_hide_file", lambda w, b, n: _bucket_file(w, b, n + ".none")),
        ("writeFiles",),
        ok=(400,),
    ),
    Row(
        "b2_delete_file_version",
        _json("b2_delete_file_version", lambda w, b, n: _version(w, b, n) | {"fileName": n + ".none"}),
        ("deleteFiles",),
        ok=(400,),
    ),
    Row(
        "b2_delete_file_version with bypassGovernance",
        _json(
            "b2_delete_file_version",
            lambda w, b, n: {"fileName": n, "fileId": _copy_of(w, b, n), "bypassGovernance": True},
        ),
        ("deleteFiles", "bypassGovernance"),
        by_name=False,
    ),
    Row(
        "b2_update_file_retention",
        _json(
            "b2_update_file_retention", lambda w, b, n: _version(w, b, n) | {"fileRetention": {"mode": None}}
        ),
        ("writeFileRetentions",),
        lacking=403,
    ),
    Row(
        "b2_update_file_legal_hold",
        _json("b2_update_file_legal_hold", lambda w, b, n: _version(w, b, n) | {"legalHold": "off"}),
        ("writeFileLegalHolds",),
        lacking=403,
    ),
    Row(
        "b2_list_buckets",
        _json("b2_list_buckets", lambda w, b, n: {"accountId": w.emulator.account_id, "bucketId": w.ids[b]}),
        ("listBuckets",),
        by_name=False,
    ),
    Row(
        "b2_get_bucket_notification_rules",
        _json("b2_get_bucket_notification_rules", lambda w, b, n: {"bucketId": w.ids[b]}),
        ("readBucketNotifications",),
        by_name=False,
    ),
    Row(
        "b2_set_bucket_notification_rules",
        _json(
            "b2_set_bucket_notification_rules",
            lambda w, b, n: {"bucketId": w.ids[b], "eventNotificationRules": []},
        ),
        ("writeBucketNotifications",),
        by_name=False,
    ),
]


def _copy_of(world: World, bucket: str, name: str) -> str:
    source = {"sourceFileId": world.files[bucket, name], "fileName": name}
    return str(world.emulator.ask("b2_copy_file", source)["fileId"])


by_call = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.call.replace(" ", "-"))


def refused(answer: tuple[int, Any], status: int = 401) -> None:
    """Assert B2's one refusal: 401 unauthorized with an empty message (HEAD: without a body)."""
    assert answer[0] == status
    body = answer[1]
    if status == 401 and isinstance(body, dict):
        assert body == {"status": 401, "code": "unauthorized", "message": ""}
    elif isinstance(body, dict):
        assert (body["status"], body["code"]) == (403, "access_denied")


@by_call
def test_a_key_with_just_what_the_call_needs_is_let_through(world: World, row: Row) -> None:
    status, body = row.ask(world, world.key(list(row.needs)), world.home, "in/file")
    assert status in row.ok, body


@by_call
def test_a_key_with_all_but_one_needed_capability_is_refused(world: World, row: Row) -> None:
    for missing in row.needs:
        token = world.key([name for name in ALL if name != missing])
        refused(row.ask(world, token, world.home, "in/file"), row.lacking if len(row.needs) == 1 else 401)


@by_call
def test_a_key_for_one_bucket_is_refused_in_another(world: World, row: Row) -> None:
    refused(row.ask(world, world.key(ALL), world.foreign, "in/file"))


@by_call
def test_a_key_with_a_prefix_is_let_through_inside_it(world: World, row: Row) -> None:
    status, body = row.ask(world, world.key(ALL, prefix="in/"), world.home, "in/file")
    assert status in row.ok, body


@by_call
def test_a_key_with_a_prefix_is_refused_outside_it(world: World, row: Row) -> None:
    answer = row.ask(world, world.key(ALL, prefix="in/"), world.home, "out/file")
    if row.by_name:
        refused(answer)
    else:
        assert answer[0] in (*row.ok, 401)


@pytest.mark.parametrize(
    "call", ["b2_list_file_names", "b2_list_file_versions", "b2_list_unfinished_large_files"]
)
@pytest.mark.parametrize("prefix", [None, "", "i", "in"])
def test_a_key_with_a_prefix_must_list_with_it(world: World, call: str, prefix: str | None) -> None:
    token = world.key(["listFiles"], prefix="in/")
    name = "namePrefix" if call == "b2_list_unfinished_large_files" else "prefix"
    refused(world.emulator.call(call, {"bucketId": world.ids[world.home], name: prefix}, token))


def test_a_prefix_need_not_end_at_a_slash(world: World) -> None:
    token = world.key(["listFiles", "writeFiles"], prefix="in/f")
    status, page = world.emulator.call(
        "b2_list_file_names", {"bucketId": world.ids[world.home], "prefix": "in/f"}, token
    )
    assert status == 200
    assert "in/file" in [row["fileName"] for row in page["files"]]
    refused(_upload(world, token, world.home, "in/other"))
    assert _upload(world, token, world.home, "in/file.new")[0] == 200


@pytest.mark.parametrize("capability", ACCOUNT)
def test_account_wide_rights_never_go_on_a_key_for_a_bucket(world: World, capability: str) -> None:
    body = {
        "accountId": world.emulator.account_id,
        "keyName": "k",
        "capabilities": [capability],
        "bucketIds": [world.ids[world.home]],
    }
    status, answer = world.emulator.call("b2_create_key", body)
    assert (status, answer["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    ("call", "capability", "body"),
    [
        ("b2_create_bucket", "writeBuckets", {"bucketName": "b2-not-allowed", "bucketType": "allPrivate"}),
        ("b2_update_bucket", "writeBuckets", {"bucketId": "0" * 24}),
        ("b2_delete_bucket", "deleteBuckets", {"bucketId": "0" * 24}),
        ("b2_create_key", "writeKeys", {"keyName": "k", "capabilities": []}),
        ("b2_list_keys", "listKeys", {}),
        ("b2_delete_key", "deleteKeys", {"applicationKeyId": "none"}),
    ],
)
def test_account_calls_need_their_capability(
    world: World, call: str, capability: str, body: dict[str, Any]
) -> None:
    emulator = world.emulator
    without = emulator.token_of(*emulator.create_key([name for name in ALL + ACCOUNT if name != capability]))
    refused(emulator.call(call, body, without))
    having = emulator.token_of(*emulator.create_key([capability]))
    status, answer = emulator.call(call, body, having)
    assert status == 200 or (status == 400 and answer["code"] != "unauthorized")


def test_a_key_for_one_bucket_must_ask_for_that_bucket(world: World) -> None:
    token = world.key(["listBuckets"])
    account = {"accountId": world.emulator.account_id}
    refused(world.emulator.call("b2_list_buckets", account, token))
    for asked in ({"bucketName": world.home}, {"bucketId": world.ids[world.home]}):
        _, answer = world.emulator.call("b2_list_buckets", account | asked, token)
        assert [row["bucketName"] for row in answer["buckets"]] == [world.home]
    for asked in ({"bucketName": world.foreign}, {"bucketName": "no-such-bucket"}):
        refused(world.emulator.call("b2_list_buckets", account | asked, token))


def test_fields_a_key_may_not_read_say_so(world: World) -> None:
    emulator, hidden = world.emulator, {"isClientAuthorizedToRead": False, "value": None}
    token = world.key(["listBuckets", "readFiles"])
    asked = {"accountId": emulator.account_id, "bucketId": world.ids[world.home]}
    [bucket] = emulator.ask("b2_list_buckets", asked, token)["buckets"]
    for name in ("defaultServerSideEncryption", "fileLockConfiguration", "replicationConfiguration"):
        assert bucket[name] == hidden
    file = emulator.ask("b2_get_file_info", _file_id(world, world.home, "in/file"), token)
    assert file["fileRetention"] == hidden
    assert file["legalHold"] == hidden
    _, headers, _ = emulator.get(f"/file/{world.home}/in/file", token=token)
    assert "X-Bz-File-Legal-Hold" in headers["x-bz-client-unauthorized-to-read"]


def test_retention_on_an_upload_needs_the_capability(world: World) -> None:
    emulator = world.emulator
    held = {"X-Bz-File-Legal-Hold": "on"}
    status, answer = emulator.try_upload(
        world.home, "in/held", b"x", headers=held, token=world.key(["writeFiles"])
    )
    refused((status, answer))
    token = world.key(["writeFiles", "writeFileLegalHolds"])
    assert emulator.try_upload(world.home, "in/held", b"x", headers=held, token=token)[0] == 200


def test_a_key_for_several_buckets_reaches_each_of_them(world: World) -> None:
    emulator = world.emulator
    token = emulator.token_of(*emulator.create_key(["listFiles"], [world.home, world.foreign]))
    for bucket in (world.home, world.foreign):
        assert emulator.call("b2_list_file_names", {"bucketId": world.ids[bucket]}, token)[0] == 200
    third = emulator.create_bucket(f"third-{uuid.uuid4().hex[:12]}")
    try:
        refused(emulator.call("b2_list_file_names", {"bucketId": third}, token))
    finally:
        emulator.ask("b2_delete_bucket", {"accountId": emulator.account_id, "bucketId": third})


def test_a_public_bucket_is_read_without_a_key_but_not_listed(emulator: Emulator) -> None:
    bucket_id = emulator.create_bucket("public-for-a-test", bucketType="allPublic")
    try:
        row = emulator.upload("public-for-a-test", "open", b"to all")
        for path in (
            "/file/public-for-a-test/open",
            f"/b2api/v1/b2_download_file_by_id?fileId={row['fileId']}",
        ):
            assert emulator.request("GET", path)[2] == b"to all"
        assert emulator.request("GET", "/file/public-for-a-test/open?b2ContentType=a")[0] == 401
        assert emulator.request("GET", f"/b2api/v1/b2_list_file_names?bucketId={bucket_id}")[0] == 401
    finally:
        emulator.wipe("public-for-a-test")
