"""Object Lock: who may set, shorten, lift and delete. Over plain HTTP."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.emulator import Emulator

HOUR = 3_600_000


def later(hours: int = 1) -> int:
    return int(time.time() * 1000) + hours * HOUR


@pytest.fixture
def locked(emulator: Emulator) -> Iterator[str]:
    name = f"locked-{uuid.uuid4().hex[:12]}"
    emulator.create_bucket(name, fileLockEnabled=True)
    yield name
    emulator.wipe(name)


def held(mode: str | None, until: int | None) -> dict[str, str]:
    headers = {}
    if mode is not None:
        headers["X-Bz-File-Retention-Mode"] = mode
    if until is not None:
        headers["X-Bz-File-Retention-Retain-Until-Timestamp"] = str(until)
    return headers


def put(emulator: Emulator, bucket: str, headers: dict[str, str]) -> dict[str, Any]:
    status, row = emulator.try_upload(bucket, "file", b"x", headers=headers)
    assert status == 200, row
    return dict(row)


def delete(
    emulator: Emulator, row: dict[str, Any], token: str | None = None, **fields: Any
) -> tuple[int, str]:
    body = {"fileName": row["fileName"], "fileId": row["fileId"], **fields}
    status, answer = emulator.call("b2_delete_file_version", body, token)
    return status, answer.get("code", "")


def retain(
    emulator: Emulator, row: dict[str, Any], mode: str | None, until: int | None, **fields: Any
) -> tuple[int, str]:
    retention = {"mode": mode, "retainUntilTimestamp": until}
    body = {"fileName": row["fileName"], "fileId": row["fileId"], "fileRetention": retention, **fields}
    status, answer = emulator.call("b2_update_file_retention", body)
    return status, answer.get("code", "")


def test_governance_gives_way_to_the_bypass_alone(emulator: Emulator, locked: str) -> None:
    until = later(2)
    row = put(emulator, locked, held("governance", until))
    assert row["fileRetention"]["value"] == {"mode": "governance", "retainUntilTimestamp": until}
    assert delete(emulator, row) == (401, "access_denied")
    weak = emulator.token_of(*emulator.create_key(["deleteFiles"], [locked]))
    assert delete(emulator, row, weak, bypassGovernance=True) == (401, "unauthorized")
    assert retain(emulator, row, "governance", later(1)) == (403, "access_denied")
    assert retain(emulator, row, None, None) == (403, "access_denied")
    assert retain(emulator, row, "governance", later(3))[0] == 200  # longer is allowed
    assert retain(emulator, row, "governance", later(1), bypassGovernance=True)[0] == 200
    assert delete(emulator, row, bypassGovernance=True)[0] == 200


def test_compliance_gives_way_to_nobody(emulator: Emulator, locked: str) -> None:
    row = put(emulator, locked, held("compliance", later(2)))
    assert delete(emulator, row, bypassGovernance=True) == (401, "access_denied")
    for mode, until in (("compliance", later(1)), ("governance", later(3)), (None, None)):
        assert retain(emulator, row, mode, until, bypassGovernance=True) == (403, "access_denied")
    assert retain(emulator, row, "compliance", later(3))[0] == 200


def test_a_legal_hold_holds_until_it_is_lifted(emulator: Emulator, locked: str) -> None:
    row = put(emulator, locked, {"X-Bz-File-Legal-Hold": "on"})
    assert row["legalHold"]["value"] == "on"
    assert emulator.get(f"/file/{locked}/file")[1]["x-bz-file-legal-hold"] == "on"
    assert delete(emulator, row, bypassGovernance=True) == (401, "access_denied")
    body = {"fileName": "file", "fileId": row["fileId"], "legalHold": "off"}
    assert emulator.ask("b2_update_file_legal_hold", body)["legalHold"] == "off"
    assert delete(emulator, row)[0] == 200


def test_a_held_file_can_still_be_hidden_and_replaced(emulator: Emulator, locked: str) -> None:
    row = put(emulator, locked, held("compliance", later()))
    emulator.upload(locked, "file", b"newer")
    emulator.hide(locked, "file")
    assert emulator.download_by_id(row["fileId"]) == b"x"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        (held("governance", None), "bad_request"),
        (held(None, later()), "bad_request"),
        (held("forever", later()), "bad_request"),
        (held("governance", 1), "retain_until_timestamp_must_be_in_future"),
        ({"X-Bz-File-Legal-Hold": "maybe"}, "bad_request"),
    ],
)
def test_a_lock_that_makes_no_sense_is_refused(
    emulator: Emulator, locked: str, headers: dict[str, str], code: str
) -> None:
    status, answer = emulator.try_upload(locked, "file", b"x", headers=headers)
    assert (status, answer["code"]) == (400, code)


def test_locks_need_a_bucket_with_object_lock(emulator: Emulator, bucket: str) -> None:
    for headers in (held("governance", later()), {"X-Bz-File-Legal-Hold": "on"}):
        status, answer = emulator.try_upload(bucket, "file", b"x", headers=headers)
        assert (status, answer["code"]) == (400, "bucket_missing_file_lock")
    row = emulator.upload(bucket, "file", b"x")
    assert retain(emulator, row, "governance", later()) == (400, "bucket_missing_file_lock")
    body = {"accountId": emulator.account_id, "bucketId": emulator.bucket_id(bucket)}
    emulator.ask("b2_update_bucket", body | {"fileLockEnabled": True})
    assert retain(emulator, row, "governance", later())[0] == 200
    status, answer = emulator.call("b2_update_bucket", body | {"fileLockEnabled": False})
    assert (status, answer["code"]) == (400, "file_lock_conflict")


def test_the_bucket_may_retain_by_default(emulator: Emulator, locked: str) -> None:
    body = {"accountId": emulator.account_id, "bucketId": emulator.bucket_id(locked)}
    period = {"mode": "governance", "period": {"duration": 2, "unit": "days"}}
    emulator.ask("b2_update_bucket", body | {"defaultRetention": period})
    writer = emulator.token_of(*emulator.create_key(["writeFiles", "readFileRetentions"], [locked]))
    status, row = emulator.try_upload(locked, "file", b"x", token=writer)
    assert status == 200  # the default needs no capability
    value = row["fileRetention"]["value"]
    assert value["mode"] == "governance"
    assert later(47) < value["retainUntilTimestamp"] < later(49)
    copy = emulator.ask("b2_copy_file", {"sourceFileId": row["fileId"], "fileName": "copy"})
    assert copy["fileRetention"]["value"]["mode"] == "governance"
    start = {"bucketId": body["bucketId"], "fileName": "large", "contentType": "a/b", "legalHold": "on"}
    large = emulator.ask("b2_start_large_file", start)
    assert (large["fileRetention"]["value"]["mode"], large["legalHold"]["value"]) == ("governance", "on")
