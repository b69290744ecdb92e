"""Listings against a plain model, page by page, and what they cost."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.emulator import Emulator

# A small alphabet makes many shared prefixes; the rest sorts differently by bytes, UTF-16 or locale.
names = st.text(
    alphabet=["a", "b", "/", "-", " ", "\u00e9", "\uffee", "\U0001f600", "\x01"], min_size=1, max_size=6
)


def collapse(rows: list[dict[str, Any]], prefix: str, delimiter: str) -> list[tuple[str, str | None]]:
    """Say what a listing of *rows* (in order) shows: pairs of name and file ID, None for a folder."""
    shown: list[tuple[str, str | None]] = []
    for row in rows:
        name: str = row["fileName"]
        if not name.startswith(prefix):
            continue
        at = name.find(delimiter, len(prefix)) if delimiter else -1
        entry = (name, row["fileId"]) if at < 0 else (name[: at + len(delimiter)], None)
        if entry[1] is not None or entry not in shown:
            shown.append(entry)
    return shown


def pages(emulator: Emulator, call: str, body: dict[str, Any], count: int) -> list[tuple[str, str | None]]:
    """Walk through all pages of *count* rows."""
    seen: list[tuple[str, str | None]] = []
    start: dict[str, Any] = {}
    while True:
        page = emulator.ask(call, {**body, **start, "maxFileCount": count})
        assert len(page["files"]) <= count
        seen += [(row["fileName"], row["fileId"]) for row in page["files"]]
        if page["nextFileName"] is None:
            return seen
        assert len(page["files"]) == count
        start = {"startFileName": page["nextFileName"], "startFileId": page.get("nextFileId")}
        if call == "b2_list_file_names":
            del start["startFileId"]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    made=st.lists(st.tuples(names, st.booleans()), max_size=25),
    prefix=st.one_of(st.just(""), names),
    delimiter=st.sampled_from(["", "/", "-", "a/", "\u00e9"]),
    count=st.integers(1, 5),
)
def test_listings_show_what_the_model_shows(
    emulator: Emulator, made: list[tuple[str, bool]], prefix: str, delimiter: str, count: int
) -> None:
    bucket = f"model-{uuid.uuid4().hex[:20]}"
    bucket_id = emulator.create_bucket(bucket)
    visible: dict[str, str] = {}
    history: dict[str, list[str]] = {}
    try:
        for name, hide in made:
            if hide and name in visible:
                history[name].insert(0, emulator.hide(bucket, name)["fileId"])
                del visible[name]
            else:
                emulator.seed(bucket, [{"name": name, "size": 1}])
                [row] = emulator.ask(
                    "b2_list_file_versions",
                    {"bucketId": bucket_id, "prefix": name, "startFileName": name, "maxFileCount": 1},
                )["files"]
                visible[name] = row["fileId"]
                history.setdefault(name, []).insert(0, row["fileId"])
        in_order = sorted(history, key=str.encode)
        body = {"bucketId": bucket_id, "prefix": prefix, "delimiter": delimiter}
        rows = [{"fileName": name, "fileId": visible[name]} for name in in_order if name in visible]
        assert pages(emulator, "b2_list_file_names", body, count) == collapse(rows, prefix, delimiter)
        rows = [{"fileName": name, "fileId": file_id} for name in in_order for file_id in history[name]]
        assert pages(emulator, "b2_list_file_versions", body, count) == collapse(rows, prefix, delimiter)
    finally:
        emulator.wipe(bucket)


def test_a_page_starts_where_it_is_told_also_when_that_version_is_gone(
    emulator: Emulator, bucket: str
) -> None:
    ids = [emulator.upload(bucket, "name", b"x" * size)["fileId"] for size in range(5)][::-1]
    body = {"bucketId": emulator.bucket_id(bucket), "maxFileCount": 2}
    page = emulator.ask("b2_list_file_versions", body)
    assert (page["nextFileName"], page["nextFileId"]) == ("name", ids[2])
    emulator.ask("b2_delete_file_version", {"fileName": "name", "fileId": ids[2]})
    page = emulator.ask("b2_list_file_versions", {**body, "startFileName": "name", "startFileId": ids[2]})
    assert [row["fileId"] for row in page["files"]] == ids[3:5]


def test_a_start_that_makes_no_sense_is_refused(emulator: Emulator, bucket: str) -> None:
    body = {"bucketId": emulator.bucket_id(bucket)}
    file_id = emulator.upload(bucket, "name", b"")["fileId"]
    for start in (
        {"startFileId": "nonsense", "startFileName": "name"},
        {"startFileId": file_id, "startFileName": "b"},
    ):
        assert emulator.call("b2_list_file_versions", body | start)[1]["code"] == "invalid_file_id"
    assert emulator.call("b2_list_file_versions", body | {"startFileId": file_id})[0] == 400


def test_counts_have_a_default_and_a_limit(emulator: Emulator, bucket: str) -> None:
    emulator.seed(bucket, pattern="n%05d", count=10_001)
    body = {"bucketId": emulator.bucket_id(bucket)}
    for count, rows in ((None, 100), (0, 100), (1, 1), (10_000, 10_000)):
        page = emulator.ask("b2_list_file_names", body | {"maxFileCount": count})
        assert len(page["files"]) == rows
    for count in (10_001, -1):
        assert (
            emulator.call("b2_list_file_names", body | {"maxFileCount": count})[1]["code"] == "out_of_range"
        )
    assert emulator.call("b2_list_file_names", body | {"maxFileCount": "7"})[0] == 400


def test_listings_may_be_asked_for_by_get(emulator: Emulator, bucket: str) -> None:
    emulator.upload(bucket, "a b", b"")
    headers = {"Authorization": emulator.master_token()}
    path = f"/b2api/v3/b2_list_file_names?bucketId={emulator.bucket_id(bucket)}&prefix=a+&maxFileCount=5"
    status, _, body = emulator.request("GET", path, headers=headers)
    assert status == 200
    assert b'"a b"' in body


def test_a_folder_row_has_no_file(emulator: Emulator, bucket: str) -> None:
    emulator.upload(bucket, "dir/file", b"x")
    [row] = emulator.list_names(bucket, "", "/")
    assert row == {
        "accountId": emulator.account_id,
        "action": "folder",
        "bucketId": emulator.bucket_id(bucket),
        "contentLength": 0,
        "contentMd5": None,
        "contentSha1": None,
        "contentType": None,
        "fileId": None,
        "fileInfo": {},
        "fileName": "dir/",
        "uploadTimestamp": 0,
    }
    [hidden] = [emulator.hide(bucket, "dir/file")]
    assert not {"fileRetention", "legalHold", "serverSideEncryption"} & set(hidden)
    assert emulator.list_names(bucket, "", "/") == []  # a folder of hidden files shows in versions alone
    assert [row["action"] for row in emulator.list_versions(bucket, "", "/")] == ["folder"]


ODD = [
    "/leading",
    "trailing/",
    "dou//ble",
    "a/./b",
    "a/../b",
    "ctrl\x01",
    "back\\slash",
    "s" * 1000,
    "a",
    "a/b",
]


def test_seeded_names_may_break_the_rules_of_uploads(emulator: Emulator, bucket: str) -> None:
    emulator.seed(bucket, [{"name": name, "content": name} for name in ODD])
    assert [row["fileName"] for row in emulator.list_names(bucket)] == sorted(ODD, key=str.encode)
    for row in emulator.list_names(bucket):
        assert emulator.download_by_id(row["fileId"]).decode() == row["fileName"]


def test_a_listing_is_billed_by_the_thousand(emulator: Emulator, bucket: str) -> None:
    emulator.seed(bucket, pattern="n%05d", count=2001)
    body = {"bucketId": emulator.bucket_id(bucket)}
    for count, units in ((1, 1), (1000, 1), (1001, 2), (2001, 3), (10_000, 3)):
        emulator.reset_counters()
        emulator.ask("b2_list_file_names", body | {"maxFileCount": count})
        assert emulator.counters()["classes"] == {"A": 0, "B": 0, "C": units}


@pytest.mark.timeout(240)
def test_a_million_names_cost_no_more_than_what_is_shown(emulator: Emulator, bucket: str) -> None:
    emulator.seed(bucket, pattern="huge/%07d", count=1_000_000)
    emulator.seed(bucket, pattern="many/%05d/file", count=2000)
    emulator.seed(bucket, [{"name": "zz"}])
    body = {"bucketId": emulator.bucket_id(bucket)}

    def steps(call: str, **fields: Any) -> tuple[int, list[str]]:
        emulator.reset_counters()
        rows = emulator.ask(call, body | fields)["files"]
        return emulator.counters()["database_steps"], [row["fileName"] for row in rows]

    for call in ("b2_list_file_names", "b2_list_file_versions"):
        # Past the million names of a collapsed folder there is one seek: counted in SQLite's own steps.
        cost, shown = steps(call, delimiter="/")
        assert shown == ["huge/", "many/", "zz"]
        assert cost < 1000
        cost, shown = steps(call, prefix="many/", delimiter="/", maxFileCount=2000)
        assert len(shown) == 2000
        assert cost < 2000 * 100
        cost, shown = steps(call, startFileName="huge/0999990", maxFileCount=10)
        assert shown[0] == "huge/0999990"
        assert cost < 2000
        cost, shown = steps(call, prefix="huge/05", maxFileCount=1000)
        assert len(shown) == 1000
        assert cost < 1000 * 100
    assert emulator.get(f"/file/{bucket}/huge/0500000")[0] == 200
