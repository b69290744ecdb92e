"""B2's answers, and the ways in which none comes, turned into our errors; and what to do about each.

Two tables, first row that fits wins: `ANSWERS` by HTTP status and code, `FAULTS` by what broke on the way.
Knows no HTTP library and no clock. Message text decides only where B2 gives the same code to different
things, and those rows say so. Sources: Backblaze docs, the "Response Errors" of each call's page and
"Integration Checklist"; codes that the pages leave out are from b2sdk 2.13.1 and the b2 tool's live tests.
"""

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass

from b2mount.core import errors as e


class Verdict(enum.Enum):
    """What to do after a failed request."""

    GIVE_UP = "give up"
    RETRY = "retry"
    RETRY_NEW_URL = "retry with a new upload URL"
    REAUTHORIZE = "authorize again, then retry once"


class Kind(enum.Enum):
    """What sort of thing a call does; decides between two errors for one answer."""

    AUTHORIZE = "authorize"
    LIST = "list"
    READ_NAME = "read by name"
    READ_ID = "read by id"
    CREATE = "create"
    UPLOAD = "upload"
    COPY = "copy"
    LARGE = "large file"
    HIDE = "hide"
    DELETE = "delete"
    LOCK = "lock"
    REMOVE_BUCKET = "remove bucket"
    OTHER = "other"


KINDS: dict[str, Kind] = {
    "b2_authorize_account": Kind.AUTHORIZE,
    "b2_list_buckets": Kind.LIST,
    "b2_list_file_names": Kind.LIST,
    "b2_list_file_versions": Kind.LIST,
    "b2_list_unfinished_large_files": Kind.LIST,
    "b2_download_file_by_name": Kind.READ_NAME,
    "b2_download_file_by_id": Kind.READ_ID,
    "b2_get_file_info": Kind.READ_ID,
    "b2_get_upload_url": Kind.CREATE,
    "b2_start_large_file": Kind.CREATE,
    "b2_create_bucket": Kind.CREATE,
    "b2_upload_file": Kind.UPLOAD,
    "b2_upload_part": Kind.UPLOAD,
    "b2_copy_file": Kind.COPY,
    "b2_copy_part": Kind.COPY,
    "b2_get_upload_part_url": Kind.LARGE,
    "b2_finish_large_file": Kind.LARGE,
    "b2_cancel_large_file": Kind.LARGE,
    "b2_list_parts": Kind.LARGE,
    "b2_hide_file": Kind.HIDE,
    "b2_delete_file_version": Kind.DELETE,
    "b2_update_file_retention": Kind.LOCK,
    "b2_update_file_legal_hold": Kind.LOCK,
    "b2_delete_bucket": Kind.REMOVE_BUCKET,
    "b2_create_key": Kind.CREATE,
    "b2_list_keys": Kind.LIST,
    "b2_delete_key": Kind.OTHER,
}

BY_ID = frozenset({Kind.READ_ID, Kind.COPY, Kind.LARGE, Kind.DELETE, Kind.LOCK})
REMOVING = frozenset({Kind.HIDE, Kind.DELETE, Kind.LOCK, Kind.REMOVE_BUCKET})
LOCKED = frozenset({Kind.DELETE, Kind.LOCK})
UPLOADING = frozenset({Kind.UPLOAD})
CHANGING = frozenset(
    {
        Kind.CREATE,
        Kind.UPLOAD,
        Kind.COPY,
        Kind.LARGE,
        Kind.HIDE,
        Kind.DELETE,
        Kind.LOCK,
        Kind.REMOVE_BUCKET,
    }
)


def kind_of(call: str) -> Kind:
    """Return what sort of call B2's *call* is; OTHER for one that is not known here."""
    return KINDS.get(call, Kind.OTHER)


@dataclass(frozen=True, slots=True)
class Reply:
    """B2's answer to one request, as far as it tells of an error; `code` is None without a body (HEAD)."""

    status: int
    code: str | None = None
    message: str = ""
    retry_after: float | None = None  # seconds


class Fault(enum.Enum):
    """Why no good answer came."""

    TIMEOUT = "no answer in time"
    CONNECT = "cannot connect"
    DNS = "cannot find the address of the host"
    CERTIFICATE = "the server's certificate is not to be trusted"
    RESET = "the connection broke"
    TRUNCATED = "the answer was cut short"
    CORRUPT = "the bytes are not those that B2 says it holds"
    ODD_REPLY = "the answer is none of B2's"
    NO_RANGES = "the whole file came where a part was asked for; a proxy may have dropped the Range header"


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """One row of `ANSWERS`: which answers it is for, and what follows."""

    statuses: range
    codes: frozenset[str | None] | None  # None: any code
    kinds: frozenset[Kind] | None  # None: any call
    text: str | None  # a regular expression that the message must hold, where B2 gives no other way
    error: type[e.B2MountError]
    verdict: Verdict
    meaning: str

    def fits(self, reply: Reply, kind: Kind) -> bool:
        """Say whether this row is for *reply* to a call of *kind*."""
        return (
            reply.status in self.statuses
            and (self.codes is None or reply.code in self.codes)
            and (self.kinds is None or kind in self.kinds)
            and (self.text is None or re.search(self.text, reply.message, re.IGNORECASE) is not None)
        )


@dataclass(frozen=True, slots=True)
class FaultRow:
    """One row of `FAULTS`."""

    error: type[e.B2MountError]
    verdict: Verdict


def _row(
    status: int | range,
    codes: str | None,
    error: type[e.B2MountError],
    meaning: str,
    *,
    verdict: Verdict = Verdict.GIVE_UP,
    kinds: frozenset[Kind] | None = None,
    text: str | None = None,
) -> AnswerRow:
    statuses = status if isinstance(status, range) else range(status, status + 1)
    wanted = None if codes is None else frozenset(None if code == "-" else code for code in codes.split())
    return AnswerRow(statuses, wanted, kinds, text, error, verdict, meaning)


_HEAD = frozenset({Kind.READ_NAME})
_AUTHORIZE = frozenset({Kind.AUTHORIZE})
_PARTS = frozenset({Kind.LARGE, Kind.UPLOAD, Kind.COPY})

ANSWERS: tuple[AnswerRow, ...] = (
    _row(
        400,
        "auth_token_limit",
        e.RefusedByB2,
        "the upload URL was used twice at once",
        verdict=Verdict.RETRY_NEW_URL,
    ),
    _row(
        400,
        "bad_request",
        e.RefusedByB2,
        "the upload URL was used twice at once",
        verdict=Verdict.RETRY_NEW_URL,
        kinds=UPLOADING,
        text="more than one upload using auth token",
    ),
    _row(
        400,
        "bad_request",
        e.DataCorrupt,
        "the bytes were damaged on the way to B2",
        verdict=Verdict.RETRY_NEW_URL,
        kinds=UPLOADING,
        text="sha1 did not match|checksum did not match",
    ),
    _row(
        400,
        "bad_request",
        e.VersionGone,
        "the unfinished large file is gone",
        kinds=_PARTS,
        text="no active upload for",
    ),
    _row(
        400,
        "bad_request",
        e.AccessDenied,
        "the file is encrypted with a key that only its owner has (SSE-C)",
        text="server side encryption",
    ),
    _row(
        400,
        "bad_request",
        e.IllegalName,
        "B2 cannot hold this file name",
        text=r"^file ?names? (must|may|can|should|is|are|too|contains?)",
    ),
    _row(
        400,
        "bad_request",
        e.AttributesTooLarge,
        "the file info is larger than B2 allows",
        text=r"(file ?info|header|metadata).*(too (large|long|big)|exceed|limit|maximum|the most)",
    ),
    _row(400, "invalid_file_name", e.IllegalName, "B2 cannot hold this file name"),
    _row(400, "invalid_bucket_id bad_bucket_id", e.NoSuchFile, "the bucket is gone"),
    _row(400, "file_not_present no_such_file", e.VersionGone, "the file version is gone", kinds=BY_ID),
    _row(400, "file_not_present no_such_file", e.NoSuchFile, "no visible file has this name"),
    _row(400, "already_hidden", e.NoSuchFile, "the file is hidden already"),
    _row(400, "duplicate_bucket_name", e.AlreadyExists, "the bucket name is taken"),
    _row(400, "too_many_buckets", e.CapReached, "the account's limit of buckets is reached"),
    _row(400, "cannot_delete_non_empty_bucket", e.DirectoryNotEmpty, "the bucket still holds file versions"),
    _row(400, "source_too_large", e.FileTooLarge, "too large for one copy, which takes 5 GB"),
    _row(400, "part_sha1_mismatch", e.DataCorrupt, "a part is not what was sent"),
    _row(400, "missing_part", e.RefusedByB2, "a part of the large file is missing"),
    _row(400, "bucket_missing_file_lock", e.NotSupported, "the bucket has no Object Lock"),
    _row(
        400,
        "retain_until_timestamp_must_be_in_future file_lock_conflict",
        e.InvalidArgument,
        "Object Lock does not allow this setting",
    ),
    _row(400, "custom_timestamp_not_allowed", e.NotSupported, "upload times of one's own are not allowed"),
    _row(400, "bad_json", e.RefusedByB2, "B2 could not read the request"),
    _row(
        400,
        "invalid_file_id out_of_range",
        e.InvalidArgument,
        "a value of the request is outside what B2 takes",
    ),
    _row(400, "-", e.NoSuchFile, "no file can have this name", kinds=_HEAD),
    _row(400, None, e.RefusedByB2, "B2 refused the request"),
    _row(
        401,
        "expired_auth_token bad_auth_token",
        e.B2Unavailable,
        "the upload URL is no longer good",
        verdict=Verdict.RETRY_NEW_URL,
        kinds=UPLOADING,
    ),
    _row(401, None, e.KeyRejected, "B2 does not accept the key", kinds=_AUTHORIZE),
    _row(
        401,
        "expired_auth_token bad_auth_token",
        e.KeyRejected,
        "the authorization is no longer good",
        verdict=Verdict.REAUTHORIZE,
    ),
    _row(
        401,
        "-",
        e.AccessDenied,
        "the key may not read this",
        verdict=Verdict.REAUTHORIZE,
        kinds=frozenset({Kind.READ_NAME, Kind.READ_ID}),
    ),
    _row(401, "access_denied", e.HeldByLock, "held by Object Lock", kinds=LOCKED),
    _row(401, "email_not_verified", e.AccessDenied, "the account's e-mail address is not verified"),
    _row(401, "no_payment_history", e.AccessDenied, "the account has no payment history"),
    _row(401, None, e.NotPermitted, "the key may not do this", kinds=REMOVING),
    _row(401, None, e.AccessDenied, "the key may not do this"),
    _row(403, "storage_cap_exceeded cap_exceeded", e.CapReached, "the account's storage cap is reached"),
    _row(
        403,
        "transaction_cap_exceeded",
        e.CapReached,
        "the account's transaction cap is reached until 00:00 UTC",
    ),
    _row(
        403,
        "download_cap_exceeded",
        e.CapReached,
        "the account's download cap (bytes or class B calls) is reached until 00:00 UTC",
    ),
    _row(
        403, "access_denied", e.HeldByLock, "held by Object Lock, or the key may not change it", kinds=LOCKED
    ),
    _row(403, None, e.KeyRejected, "B2 does not serve this account", kinds=_AUTHORIZE),
    _row(403, None, e.NotPermitted, "B2 forbids it", kinds=REMOVING),
    _row(403, "-", e.AccessDenied, "B2 forbids it, or a cap of the account is reached"),
    _row(403, None, e.AccessDenied, "B2 forbids it"),
    _row(
        404, "not_found file_not_present no_such_file", e.VersionGone, "the file version is gone", kinds=BY_ID
    ),
    _row(404, "not_found file_not_present no_such_file", e.NoSuchFile, "no visible file has this name"),
    _row(404, "-", e.NoSuchFile, "no visible file has this name", kinds=_HEAD),
    _row(404, None, e.RefusedByB2, "B2 does not know the address that was asked"),
    _row(
        408,
        None,
        e.B2Unavailable,
        "B2 waited too long for the bytes",
        verdict=Verdict.RETRY_NEW_URL,
        kinds=UPLOADING,
    ),
    _row(408, None, e.B2Unavailable, "B2 waited too long for the request", verdict=Verdict.RETRY),
    _row(409, None, e.Conflict, "someone changed the same thing at the same time"),
    _row(416, None, e.InvalidArgument, "the range lies behind the end of the file"),
    _row(429, None, e.Throttled, "B2 asks to slow down", verdict=Verdict.RETRY),
    _row(
        range(500, 600),
        None,
        e.B2Unavailable,
        "B2 cannot take the upload there now",
        verdict=Verdict.RETRY_NEW_URL,
        kinds=UPLOADING,
    ),
    _row(range(500, 600), None, e.B2Unavailable, "B2 cannot answer now", verdict=Verdict.RETRY),
)

OTHERWISE = _row(range(0), None, e.RefusedByB2, "B2 answered in a way that is not documented")

FAULTS: dict[Fault, FaultRow] = {
    Fault.TIMEOUT: FaultRow(e.B2Unavailable, Verdict.RETRY),
    Fault.CONNECT: FaultRow(e.B2Unavailable, Verdict.RETRY),
    Fault.DNS: FaultRow(e.B2Unavailable, Verdict.RETRY),
    Fault.CERTIFICATE: FaultRow(e.B2Unavailable, Verdict.GIVE_UP),
    Fault.RESET: FaultRow(e.B2Unavailable, Verdict.RETRY),
    Fault.TRUNCATED: FaultRow(e.B2Unavailable, Verdict.RETRY),
    Fault.CORRUPT: FaultRow(e.DataCorrupt, Verdict.RETRY),
    Fault.ODD_REPLY: FaultRow(e.RefusedByB2, Verdict.RETRY),
    Fault.NO_RANGES: FaultRow(e.RefusedByB2, Verdict.GIVE_UP),
}


def row_for(reply: Reply, call: str) -> AnswerRow:
    """Return the row of `ANSWERS` that *reply* to *call* falls under."""
    kind = kind_of(call)
    return next((row for row in ANSWERS if row.fits(reply, kind)), OTHERWISE)


def verdict(reply: Reply, call: str) -> Verdict:
    """Say what to do after *reply* to *call*."""
    return row_for(reply, call).verdict


def error_from_reply(reply: Reply, *, call: str, target: str) -> e.B2MountError:
    """Return our error for B2's refusal of *call* on *target* (a name or an id, for people)."""
    row = row_for(reply, call)
    answer = " ".join(filter(None, (str(reply.status), reply.code, without_secrets(reply.message))))
    return row.error(f"{_about(target)}{row.meaning} ({call}: {answer})")


def fault_verdict(fault: Fault, call: str) -> Verdict:
    """Say what to do after *fault* of *call*; an upload goes elsewhere ("Integration Checklist")."""
    found = FAULTS[fault].verdict
    if found is Verdict.RETRY and kind_of(call) in UPLOADING:
        return Verdict.RETRY_NEW_URL
    return found


def error_from_fault(fault: Fault, *, call: str, target: str, detail: str = "") -> e.B2MountError:
    """Return our error for *fault* during *call* on *target*; *detail* is the system's own word on it."""
    words = f"{call}: {without_secrets(detail)}" if detail else call
    return FAULTS[fault].error(f"{_about(target)}{fault.value} ({words})")


@dataclass(frozen=True, slots=True)
class Failure:
    """The facts of one failed request: an answer, or a fault; `sent` when all of it had gone out."""

    call: str
    answer: Reply | Fault
    sent: bool = True
    detail: str = ""

    @property
    def verdict(self) -> Verdict:
        """What to do about it."""
        if isinstance(self.answer, Fault):
            return fault_verdict(self.answer, self.call)
        return verdict(self.answer, self.call)

    @property
    def retry_after(self) -> float | None:
        """Seconds that B2 asked to wait, if it did."""
        return None if isinstance(self.answer, Fault) else self.answer.retry_after

    @property
    def is_ambiguous(self) -> bool:
        """Whether B2 may have carried out the change although it did not say so.

        A refusal was not carried out, and neither was a 503 ("too busy"); of other 5xx nobody can know.
        """
        if kind_of(self.call) not in CHANGING or not self.sent:
            return False
        if isinstance(self.answer, Fault):
            return self.answer not in (Fault.CONNECT, Fault.DNS, Fault.CERTIFICATE)
        return self.answer.status >= 500 and self.answer.status != 503

    def error(self, target: str) -> e.B2MountError:
        """Return our error for it; the caller raises it from `CallFailed`, which keeps these facts."""
        if isinstance(self.answer, Fault):
            return error_from_fault(self.answer, call=self.call, target=target, detail=self.detail)
        return error_from_reply(self.answer, call=self.call, target=target)


class CallFailed(Exception):
    """The cause of every error that a request ended in: the facts, for whoever decides on a retry."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.call}: {_brief(failure)}")
        self.failure = failure


def failure_behind(error: BaseException) -> Failure | None:
    """Return the facts behind one of our errors; None where no request was to blame."""
    cause = error.__cause__
    return cause.failure if isinstance(cause, CallFailed) else None


def table_rows() -> Iterator[tuple[str, str, str, str, str, str]]:
    """Yield (status, codes, calls, meaning, error, verdict) for each row, for the documentation."""
    for row in (*ANSWERS, OTHERWISE):
        yield (
            _span(row.statuses),
            "any" if row.codes is None else ", ".join(sorted(code or "none" for code in row.codes)),
            "any" if row.kinds is None else ", ".join(sorted(kind.value for kind in row.kinds)),
            row.meaning,
            row.error.__name__,
            row.verdict.value,
        )
    for fault, outcome in FAULTS.items():
        yield ("no answer", "", "any", fault.value, outcome.error.__name__, outcome.verdict.value)


# Tokens look like 4_<key id>_<...>_acct_<...>; upload tokens have uplg or upld, download ones dnld there.
_TOKEN = re.compile(r"\S*_(?:acct|uplg|upld|dnld)_\S*|(?<=auth token )\S+", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """Return *text* with authorization tokens taken out; B2 quotes them in some of its messages."""
    return _TOKEN.sub("[token]", text)


def _about(target: str) -> str:
    return f"{target}: " if target else ""


def _brief(failure: Failure) -> str:
    if isinstance(failure.answer, Fault):
        return failure.answer.value
    return f"{failure.answer.status} {failure.answer.code or ''}".rstrip()


def _span(statuses: range) -> str:
    if not statuses:
        return "other"
    return str(statuses[0]) if len(statuses) == 1 else f"{statuses[0]}-{statuses[-1]}"
