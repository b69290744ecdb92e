"""B2's rows read leniently: odd fields are left out, and nothing that strangers wrote ends a listing."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from b2mount.store import rows
from b2mount.store.store import Action, Retention

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
FIELDS = [
    "fileName",
    "fileId",
    "contentLength",
    "size",
    "action",
    "contentSha1",
    "contentType",
    "fileInfo",
    "uploadTimestamp",
    "fileRetention",
    "legalHold",
]
odd_rows = st.dictionaries(st.sampled_from(FIELDS), json_values)

FULL: dict[str, Any] = {
    "fileName": "a",
    "fileId": "4_z1",
    "contentLength": 5,
    "action": "upload",
    "contentSha1": "a" * 40,
    "contentType": "text/plain",
    "fileInfo": {"x": "y"},
    "uploadTimestamp": 7,
    "fileRetention": {
        "isClientAuthorizedToRead": True,
        "value": {"mode": "governance", "retainUntilTimestamp": 9},
    },
    "legalHold": {"isClientAuthorizedToRead": True, "value": "on"},
}


@given(odd_rows)
def test_no_row_raises(row: dict[str, Any]) -> None:
    version = rows.file_version(row)
    assert (version is None) == (not isinstance(row.get("fileName"), str))


@given(st.lists(odd_rows | json_values, max_size=4), st.none() | st.text())
def test_odd_rows_do_not_hide_good_ones(odd: list[Any], following: str | None) -> None:
    page = rows.page({"files": [*odd, FULL], "nextFileName": following})
    assert page.rows[-1] == rows.file_version(FULL)
    assert page.next_name == following


@given(st.dictionaries(st.text(), st.text()))
def test_no_headers_raise(headers: dict[str, str]) -> None:
    rows.from_headers("a", headers)
    rows.from_headers("a", {**headers, "Content-Length": "x", "X-Bz-File-Id": "4"})


def test_a_full_row_is_read_in_full() -> None:
    version = rows.file_version(FULL)
    assert version is not None
    assert (version.name, version.file_id, version.size, version.uploaded_ms) == ("a", "4_z1", 5, 7)
    assert (version.sha1, version.content_type, version.info) == ("a" * 40, "text/plain", {"x": "y"})
    assert (version.retention, version.legal_hold) == (Retention("governance", 9), True)


def test_what_the_key_may_not_read_is_not_told() -> None:
    hidden = {"isClientAuthorizedToRead": False, "value": None}
    version = rows.file_version({**FULL, "fileRetention": hidden, "legalHold": hidden})
    assert version is not None
    assert (version.retention, version.legal_hold) == (None, None)


def test_the_hash_of_a_large_file_is_the_one_its_uploader_told() -> None:
    large = {**FULL, "contentSha1": "none", "fileInfo": {"large_file_sha1": "B" * 40}}
    version = rows.file_version(large)
    assert version is not None
    assert version.sha1 == "b" * 40
    junk = rows.file_version({**large, "fileInfo": {"large_file_sha1": "junk"}})
    assert junk is not None
    assert junk.sha1 is None


def test_an_unverified_hash_is_a_hash() -> None:
    assert rows.bare_sha1("unverified:" + "c" * 40) == "c" * 40


def test_actions_that_b2_may_add_are_files() -> None:
    actions = {"copy": Action.UPLOAD, "new": Action.UPLOAD, "hide": Action.HIDE, "start": Action.START}
    for text, wanted in actions.items():
        version = rows.file_version({**FULL, "action": text})
        assert version is not None
        assert version.action is wanted


def test_a_hide_marker_has_no_hash_whatever_b2_says() -> None:
    version = rows.file_version({**FULL, "action": "hide"})
    assert version is not None
    assert version.sha1 is None


def test_headers_give_info_in_plain_words_and_reserved_names() -> None:
    version = rows.from_headers(
        "a",
        {
            "Content-Length": "5",
            "X-Bz-File-Id": "4_z1",
            "X-Bz-Upload-Timestamp": "7",
            "X-Bz-Info-x": "%C3%BC+%2B",
            "Content-Disposition": "attachment",
            "Cache-Control": "max-age=0, no-cache, no-store",
            "X-Bz-File-Legal-Hold": "on",
        },
    )
    assert version is not None
    assert version.info == {"x": "ü +", "b2-content-disposition": "attachment"}
    assert (version.size, version.uploaded_ms, version.legal_hold) == (5, 7, True)
