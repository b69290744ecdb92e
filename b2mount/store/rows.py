"""B2's JSON and headers read into the rows of the seam: leniently, for strangers wrote what they tell of.

b2sdk's own row classes end a whole listing at one odd row (a modification time that is no number, a missing
lock field); here a field that is odd is left out, and only a row without a name is.
"""

import re
from array import array
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote_plus

from b2mount.store.packed import ACTIONS, FOLDER, HOLD_SHIFT, HOLDS, NO_SHA1, Rows, pack, pack_info
from b2mount.store.store import Action, BucketRow, FileVersion, Page, PartRow, Retention

_ACTIONS = {"hide": Action.HIDE, "start": Action.START, "folder": Action.FOLDER}
_ACTION_NUMBERS = {name: ACTIONS.index(action) for name, action in _ACTIONS.items()}
_FILES = (ACTIONS.index(Action.UPLOAD), ACTIONS.index(Action.START))
_SHA1 = re.compile(r"[0-9a-f]{40}")
SHA1_DIGITS = 40
_INFO_HEADER = "x-bz-info-"
# File info of these names comes back as the plain HTTP header (Backblaze docs, b2_upload_file).
_PLAIN_HEADERS = (
    "content-disposition",
    "content-language",
    "expires",
    "cache-control",
    "content-encoding",
)
_NO_CACHE = "max-age=0, no-cache, no-store"  # what B2 sends where a file says nothing of its own


def file_version(row: Mapping[str, Any]) -> FileVersion | None:
    """Read one row about a file version; None for a row without a name."""
    name = row.get("fileName")
    if not isinstance(name, str):
        return None
    action = _ACTIONS.get(str(row.get("action")), Action.UPLOAD)
    info = _text_map(row.get("fileInfo"))
    is_file = action in (Action.UPLOAD, Action.START)
    return FileVersion(
        name=name,
        file_id=_text(row.get("fileId")),
        size=_number(row.get("contentLength", row.get("size"))),
        uploaded_ms=_number(row.get("uploadTimestamp")),
        action=action,
        sha1=whole_sha1(row.get("contentSha1"), info) if is_file else None,
        content_type=_text(row.get("contentType")),
        info=info,
        retention=_retention(_readable(row.get("fileRetention"))),
        legal_hold=_legal_hold(_readable(row.get("legalHold"))),
    )


def page(reply: Mapping[str, Any]) -> Page:
    """Read one reply of b2_list_file_names, b2_list_file_versions or b2_list_unfinished_large_files."""
    told = reply.get("files") or ()
    rows = _pack_ordinary(told)
    if rows is None:
        versions = (file_version(row) for row in told if isinstance(row, Mapping))
        rows = pack(version for version in versions if version is not None)
    return Page(rows=rows, next_name=reply.get("nextFileName"), next_id=reply.get("nextFileId"))


def _pack_ordinary(told: Sequence[Mapping[str, Any]]) -> Rows | None:
    """Pack rows column by column, four times as fast as one by one; None where a field is odd."""
    try:
        types: dict[str, int] = {}
        actions = [_ACTION_NUMBERS.get(row["action"], 0) for row in told]
        infos = [row["fileInfo"] or {} for row in told]
        if not all(isinstance(text, str) for info in infos if info for text in info.values()):
            return None
        held = {at: hold for at, row in enumerate(told) if (hold := _held(row)) is not None}
        retentions = {at: found for at, row in enumerate(told) if (found := _retained(row)) is not None}
        rows = Rows(
            names=[row["fileName"].encode() for row in told],
            ids=[
                "" if action == FOLDER else row["fileId"] for action, row in zip(actions, told, strict=True)
            ],
            infos=[pack_info(info) for info in infos],
            sizes=array("q", [row["contentLength"] or 0 for row in told]),
            uploaded_ms=array("q", [row["uploadTimestamp"] or 0 for row in told]),
            sha1s=[
                _digest(row["contentSha1"], info) if action in _FILES else NO_SHA1
                for action, row, info in zip(actions, told, infos, strict=True)
            ],
            flags=_flags(actions, held),
            types=array("I", [types.setdefault(row["contentType"] or "", len(types)) for row in told]),
            type_names=tuple(types),
            retentions=retentions,
            odd={},
        )
        return rows if all(isinstance(name, str) for name in types) else None
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        return None


def _held(row: Mapping[str, Any]) -> bool | None:
    told = row.get("legalHold")
    return None if told is None or told["value"] is None else _legal_hold(_readable(told))


def _retained(row: Mapping[str, Any]) -> Retention | None:
    told = row.get("fileRetention")
    if told is None or told["value"] is None or told["value"]["mode"] is None:
        return None
    return _retention(_readable(told))


def _flags(actions: Sequence[int], held: Mapping[int, bool]) -> bytes:
    flags = bytearray(actions)
    for at, hold in held.items():
        flags[at] |= HOLDS.index(hold) << HOLD_SHIFT
    return bytes(flags)


def _digest(told: object, info: Mapping[str, str]) -> bytes:
    """Return the 20 bytes of a file's SHA-1; twenty zeros where none is known."""
    if isinstance(told, str) and len(told) == SHA1_DIGITS and told.isalnum():
        try:
            return bytes.fromhex(told)
        except ValueError:
            pass
    sha1 = whole_sha1(told, info)
    return bytes.fromhex(sha1) if sha1 is not None else NO_SHA1


def from_headers(name: str, headers: Mapping[str, str]) -> FileVersion | None:
    """Read the headers of a HEAD answer about *name*; None where they tell neither size nor file id."""
    low = {key.lower(): value for key, value in headers.items()}
    if "content-length" not in low or "x-bz-file-id" not in low:
        return None
    info = {
        key[len(_INFO_HEADER) :]: unquote_plus(value)
        for key, value in low.items()
        if key.startswith(_INFO_HEADER)
    }
    info.update({f"b2-{key}": low[key] for key in _PLAIN_HEADERS if low.get(key) not in (None, _NO_CACHE)})
    until = _number(low.get("x-bz-file-retention-retain-until-timestamp"))
    mode = low.get("x-bz-file-retention-mode")
    hold = low.get("x-bz-file-legal-hold")
    return FileVersion(
        name=name,
        file_id=low["x-bz-file-id"],
        size=_number(low["content-length"]),
        uploaded_ms=_number(low.get("x-bz-upload-timestamp")),
        sha1=whole_sha1(low.get("x-bz-content-sha1"), info),
        content_type=low.get("content-type", ""),
        info=info,
        retention=Retention(mode, until) if mode in ("governance", "compliance") else None,
        legal_hold=None if hold is None else hold == "on",
    )


def bucket(row: Mapping[str, Any]) -> BucketRow:
    """Read one bucket of b2_list_buckets or b2_create_bucket."""
    lock = _readable(row.get("fileLockConfiguration"))
    enabled = isinstance(lock, Mapping) and bool(lock.get("isFileLockEnabled"))
    return BucketRow(_text(row.get("bucketId")), _text(row.get("bucketName")), enabled)


def part(row: Mapping[str, Any]) -> PartRow:
    """Read one part of b2_list_parts, b2_upload_part or b2_copy_part."""
    sha1 = bare_sha1(row.get("contentSha1")) or ""
    return PartRow(_number(row.get("partNumber")), _number(row.get("contentLength")), sha1)


def whole_sha1(content_sha1: object, info: Mapping[str, str]) -> str | None:
    """Return the whole file's SHA-1: B2's own, else what the uploader of a large file told in its info."""
    return bare_sha1(content_sha1) or bare_sha1(info.get("large_file_sha1"))


def bare_sha1(value: object) -> str | None:
    """Return 40 hex digits, without the "unverified:" that B2 sets before a hash nobody gave it."""
    if not isinstance(value, str):
        return None
    digits = value.removeprefix("unverified:").lower()
    return digits if _SHA1.fullmatch(digits) else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> int:
    try:
        return int(value) if isinstance(value, int | str) else 0
    except ValueError:
        return 0


def _text_map(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {}
    return {str(key): text for key, text in value.items() if isinstance(text, str)}


def _readable(value: object) -> object:
    """Unwrap {isClientAuthorizedToRead, value}; None where the key may not read it."""
    if isinstance(value, Mapping) and value.get("isClientAuthorizedToRead"):
        return value.get("value")
    return None


def _retention(value: object) -> Retention | None:
    if not isinstance(value, Mapping) or value.get("mode") not in ("governance", "compliance"):
        return None
    return Retention(str(value["mode"]), _number(value.get("retainUntilTimestamp")))


def _legal_hold(value: object) -> bool | None:
    return value == "on" if isinstance(value, str) else None
