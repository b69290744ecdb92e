"""B2's answers turned into our errors: the table written out from Backblaze's pages, and properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2mount.core import errors as e
from b2mount.core.errors import B2MountError, errno_of
from b2mount.core.replies import (
    ANSWERS,
    FAULTS,
    KINDS,
    CallFailed,
    Failure,
    Fault,
    Reply,
    Verdict,
    error_from_fault,
    error_from_reply,
    failure_behind,
    fault_verdict,
    row_for,
    table_rows,
    verdict,
    without_secrets,
)

GIVE_UP, RETRY, NEW_URL, AGAIN = (
    Verdict.GIVE_UP,
    Verdict.RETRY,
    Verdict.RETRY_NEW_URL,
    Verdict.REAUTHORIZE,
)
UPLOAD, PART, HIDE, DELETE = "b2_upload_file", "b2_upload_part", "b2_hide_file", "b2_delete_file_version"
NAMES, READ, HEAD, INFO = (
    "b2_list_file_names",
    "b2_download_file_by_id",
    "b2_download_file_by_name",
    "b2_get_file_info",
)
COPY, FINISH, AUTHORIZE = "b2_copy_file", "b2_finish_large_file", "b2_authorize_account"
RETENTION, HOLD = "b2_update_file_retention", "b2_update_file_legal_hold"

# status, code, message, call: error, verdict
Case = tuple[int, str | None, str, str, type[B2MountError], Verdict]
CASES: list[Case] = [
    (400, "bad_request", "", NAMES, e.RefusedByB2, GIVE_UP),
    (400, "bad_request", "stored using a form of Server Side Encryption.", READ, e.AccessDenied, GIVE_UP),
    (400, "bad_json", "", NAMES, e.RefusedByB2, GIVE_UP),
    (400, "invalid_bucket_id", "", NAMES, e.NoSuchFile, GIVE_UP),
    (400, "bad_bucket_id", "", NAMES, e.NoSuchFile, GIVE_UP),
    (400, "invalid_file_id", "", INFO, e.InvalidArgument, GIVE_UP),
    (400, "out_of_range", "", NAMES, e.InvalidArgument, GIVE_UP),
    (400, "invalid_file_name", "", UPLOAD, e.IllegalName, GIVE_UP),
    (400, "some_new_code", "", UPLOAD, e.RefusedByB2, GIVE_UP),
    (400, "bad_request", "File names must not end with '/'", UPLOAD, e.IllegalName, GIVE_UP),
    (400, "file_not_present", "", DELETE, e.VersionGone, GIVE_UP),
    (400, "no_such_file", "", HIDE, e.NoSuchFile, GIVE_UP),
    (400, "already_hidden", "", HIDE, e.NoSuchFile, GIVE_UP),
    (404, "not_found", "", HEAD, e.NoSuchFile, GIVE_UP),
    (404, "not_found", "", READ, e.VersionGone, GIVE_UP),
    (404, "not_found", "", INFO, e.VersionGone, GIVE_UP),
    (404, "not_found", "", COPY, e.VersionGone, GIVE_UP),
    (404, None, "", HEAD, e.NoSuchFile, GIVE_UP),
    (404, "non_json_response", "", READ, e.RefusedByB2, GIVE_UP),
    (400, None, "", HEAD, e.NoSuchFile, GIVE_UP),
    (400, "duplicate_bucket_name", "", "b2_create_bucket", e.AlreadyExists, GIVE_UP),
    (400, "too_many_buckets", "", "b2_create_bucket", e.CapReached, GIVE_UP),
    (400, "cannot_delete_non_empty_bucket", "", "b2_delete_bucket", e.DirectoryNotEmpty, GIVE_UP),
    (400, "source_too_large", "Copy source too big: 6000000000", COPY, e.FileTooLarge, GIVE_UP),
    (400, "auth_token_limit", "", UPLOAD, e.RefusedByB2, NEW_URL),
    (400, "bad_request", "more than one upload using auth token abc", UPLOAD, e.RefusedByB2, NEW_URL),
    (400, "missing_part", "", FINISH, e.RefusedByB2, GIVE_UP),
    (400, "part_sha1_mismatch", "", FINISH, e.DataCorrupt, GIVE_UP),
    (400, "bad_request", "Sha1 did not match data received", UPLOAD, e.DataCorrupt, NEW_URL),
    (400, "bad_request", "Sha1 did not match data received", PART, e.DataCorrupt, NEW_URL),
    (400, "bad_request", "No active upload for: 4_z1", PART, e.VersionGone, GIVE_UP),
    (400, "bucket_missing_file_lock", "", HOLD, e.NotSupported, GIVE_UP),
    (
        400,
        "retain_until_timestamp_must_be_in_future",
        "",
        RETENTION,
        e.InvalidArgument,
        GIVE_UP,
    ),
    (400, "file_lock_conflict", "", RETENTION, e.InvalidArgument, GIVE_UP),
    (400, "custom_timestamp_not_allowed", "", UPLOAD, e.NotSupported, GIVE_UP),
    (401, "expired_auth_token", "", NAMES, e.KeyRejected, AGAIN),
    (401, "bad_auth_token", "", NAMES, e.KeyRejected, AGAIN),
    (401, "expired_auth_token", "", UPLOAD, e.B2Unavailable, NEW_URL),
    (401, "bad_auth_token", "", PART, e.B2Unavailable, NEW_URL),
    (401, "bad_auth_token", "", AUTHORIZE, e.KeyRejected, GIVE_UP),
    (401, "unauthorized", "", AUTHORIZE, e.KeyRejected, GIVE_UP),
    (401, "unauthorized", "", NAMES, e.AccessDenied, GIVE_UP),
    (401, "unauthorized", "", READ, e.AccessDenied, GIVE_UP),
    (401, "unauthorized", "", UPLOAD, e.AccessDenied, GIVE_UP),
    (401, "unauthorized", "", COPY, e.AccessDenied, GIVE_UP),
    (401, "unauthorized", "", HIDE, e.NotPermitted, GIVE_UP),
    (401, "unauthorized", "", DELETE, e.NotPermitted, GIVE_UP),
    (401, "unauthorized", "", RETENTION, e.NotPermitted, GIVE_UP),
    (401, "unauthorized", "", "b2_delete_bucket", e.NotPermitted, GIVE_UP),
    (401, None, "", HEAD, e.AccessDenied, AGAIN),
    (401, "access_denied", "", DELETE, e.HeldByLock, GIVE_UP),
    (401, "email_not_verified", "", NAMES, e.AccessDenied, GIVE_UP),
    (401, "no_payment_history", "", NAMES, e.AccessDenied, GIVE_UP),
    (403, "access_denied", "", READ, e.AccessDenied, GIVE_UP),
    (403, "access_denied", "", RETENTION, e.HeldByLock, GIVE_UP),
    (403, "access_denied", "", HOLD, e.HeldByLock, GIVE_UP),
    (403, "storage_cap_exceeded", "", "b2_get_upload_url", e.CapReached, GIVE_UP),
    (403, "cap_exceeded", "", UPLOAD, e.CapReached, GIVE_UP),
    (403, "transaction_cap_exceeded", "", NAMES, e.CapReached, GIVE_UP),
    (403, "transaction_cap_exceeded", "", AUTHORIZE, e.CapReached, GIVE_UP),
    (403, "download_cap_exceeded", "", READ, e.CapReached, GIVE_UP),
    (403, "something", "", READ, e.AccessDenied, GIVE_UP),
    (403, None, "", HEAD, e.AccessDenied, GIVE_UP),
    (405, "method_not_allowed", "", NAMES, e.RefusedByB2, GIVE_UP),
    (410, "gone", "", NAMES, e.RefusedByB2, GIVE_UP),
    (413, "too_large", "", UPLOAD, e.RefusedByB2, GIVE_UP),
    (408, "request_timeout", "", UPLOAD, e.B2Unavailable, NEW_URL),
    (408, "request_timeout", "", NAMES, e.B2Unavailable, RETRY),
    (409, "conflict", "", HIDE, e.Conflict, GIVE_UP),
    (416, "range_not_satisfiable", "", READ, e.InvalidArgument, GIVE_UP),
    (429, "too_many_requests", "", NAMES, e.Throttled, RETRY),
    (429, "too_many_requests", "", UPLOAD, e.Throttled, RETRY),
    (500, "internal_error", "", NAMES, e.B2Unavailable, RETRY),
    (503, "service_unavailable", "", NAMES, e.B2Unavailable, RETRY),
    (503, "service_unavailable", "", UPLOAD, e.B2Unavailable, NEW_URL),
    (599, None, "", PART, e.B2Unavailable, NEW_URL),
    (302, None, "", NAMES, e.RefusedByB2, GIVE_UP),
]


@pytest.mark.parametrize(("status", "code", "message", "call", "error", "wanted"), CASES)
def test_each_answer_has_its_error_and_verdict(
    status: int,
    code: str | None,
    message: str,
    call: str,
    error: type[B2MountError],
    wanted: Verdict,
) -> None:
    reply = Reply(status, code, message)
    found = error_from_reply(reply, call=call, target="some file")
    assert (type(found), verdict(reply, call)) == (error, wanted)
    assert "some file" in str(found)
    assert str(status) in str(found)
    assert call in str(found)


FAULT_CASES: list[tuple[Fault, str, type[B2MountError], Verdict]] = [
    (Fault.TIMEOUT, NAMES, e.B2Unavailable, RETRY),
    (Fault.TIMEOUT, UPLOAD, e.B2Unavailable, NEW_URL),
    (Fault.CONNECT, NAMES, e.B2Unavailable, RETRY),
    (Fault.CONNECT, PART, e.B2Unavailable, NEW_URL),
    (Fault.DNS, NAMES, e.B2Unavailable, RETRY),
    (Fault.CERTIFICATE, NAMES, e.B2Unavailable, GIVE_UP),
    (Fault.CERTIFICATE, UPLOAD, e.B2Unavailable, GIVE_UP),
    (Fault.RESET, READ, e.B2Unavailable, RETRY),
    (Fault.RESET, UPLOAD, e.B2Unavailable, NEW_URL),
    (Fault.TRUNCATED, READ, e.B2Unavailable, RETRY),
    (Fault.CORRUPT, UPLOAD, e.DataCorrupt, NEW_URL),
    (Fault.ODD_REPLY, NAMES, e.RefusedByB2, RETRY),
    (Fault.NO_RANGES, READ, e.RefusedByB2, GIVE_UP),
]


@pytest.mark.parametrize(("fault", "call", "error", "wanted"), FAULT_CASES)
def test_each_fault_has_its_error_and_verdict(
    fault: Fault, call: str, error: type[B2MountError], wanted: Verdict
) -> None:
    found = error_from_fault(fault, call=call, target="some file", detail="why")
    assert (type(found), fault_verdict(fault, call)) == (error, wanted)
    assert "some file" in str(found)
    assert "why" in str(found)


def test_every_row_of_the_table_has_a_case_that_reaches_it() -> None:
    reached = {id(row_for(Reply(*case[:3]), case[3])) for case in CASES}
    extra = [
        (Reply(400, "bad_request", "File name and file info take 9000 bytes, over the limit"), UPLOAD),
        (Reply(403, "suspended"), AUTHORIZE),
        (Reply(403, "suspended"), HIDE),
    ]
    reached |= {id(row_for(reply, call)) for reply, call in extra}
    assert [row.meaning for row in ANSWERS if id(row) not in reached] == []
    assert {fault for fault, *_ in FAULT_CASES} == set(FAULTS) == set(Fault)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("storage_cap_exceeded", "storage cap"),
        ("transaction_cap_exceeded", "transaction cap"),
        ("download_cap_exceeded", "download cap"),
    ],
)
def test_the_message_says_which_cap_is_reached(code: str, words: str) -> None:
    assert words in str(error_from_reply(Reply(403, code), call=READ, target="f"))


replies = st.builds(
    Reply,
    status=st.integers(-1, 700),
    code=st.none() | st.sampled_from(["unauthorized", "bad_request", "not_found"]) | st.text(),
    message=st.text(),
    retry_after=st.none() | st.floats(0, 1e6),
)
calls = st.sampled_from(sorted(KINDS)) | st.text()


@given(reply=replies, call=calls, target=st.text())
def test_any_answer_gives_an_error_with_an_errno(reply: Reply, call: str, target: str) -> None:
    error = error_from_reply(reply, call=call, target=target)
    assert 0 < errno_of(error) < 512
    assert verdict(reply, call) in Verdict


@given(reply=replies, call=calls)
def test_only_what_may_go_well_later_is_tried_again(reply: Reply, call: str) -> None:
    if verdict(reply, call) is Verdict.RETRY:
        assert reply.status in (408, 429) or 500 <= reply.status < 600
    if verdict(reply, call) is Verdict.RETRY_NEW_URL:
        assert call in (UPLOAD, PART) or reply.code == "auth_token_limit"


@given(reply=replies, call=calls)
def test_the_same_facts_travel_as_the_cause_of_the_error(reply: Reply, call: str) -> None:
    failure = Failure(call, reply)
    error = failure.error("f")
    assert failure_behind(error) is None
    error.__cause__ = CallFailed(failure)
    assert failure_behind(error) == failure
    assert failure.verdict is verdict(reply, call)


@pytest.mark.parametrize(
    ("call", "answer", "sent", "ambiguous"),
    [
        (UPLOAD, Fault.RESET, True, True),
        (UPLOAD, Fault.RESET, False, False),
        (UPLOAD, Fault.TIMEOUT, True, True),
        (UPLOAD, Fault.CONNECT, True, False),
        (UPLOAD, Reply(503), True, False),
        (UPLOAD, Reply(500), True, True),
        (UPLOAD, Reply(500), False, False),
        (UPLOAD, Reply(400, "bad_request"), True, False),
        (HIDE, Fault.ODD_REPLY, True, True),
        (FINISH, Fault.TRUNCATED, True, True),
        (NAMES, Fault.RESET, True, False),
        (READ, Fault.TIMEOUT, True, False),
    ],
)
def test_a_change_may_have_happened_only_if_it_was_sent_and_not_refused(
    call: str, answer: Reply | Fault, sent: bool, ambiguous: bool
) -> None:
    assert Failure(call, answer, sent).is_ambiguous is ambiguous


@pytest.mark.parametrize(
    "text",
    [
        "more than one upload using auth token 4_0011_secret_uplg_xyz= at once",
        "bad token 4_00112233_0123_ab_acct_SECRET",
        "auth token secret",
    ],
)
def test_tokens_are_taken_out_of_messages(text: str) -> None:
    shown = without_secrets(text)
    assert "secret" not in shown.lower()
    assert "[token]" in shown
    assert "secret" not in str(error_from_reply(Reply(400, "x", text), call=UPLOAD, target="")).lower()


def test_the_table_prints_itself() -> None:
    rows = list(table_rows())
    assert len(rows) == len(ANSWERS) + 1 + len(FAULTS)
    assert (
        "409",
        "any",
        "any",
        "someone changed the same thing at the same time",
        "Conflict",
        "give up",
    ) in rows
    assert all(all(isinstance(cell, str) for cell in row) for row in rows)
