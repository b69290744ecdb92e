"""The rules for names: files, file info, buckets, and how names travel percent-encoded.

Sources: Backblaze docs, "Files" (file names, file info), "Native API String Encoding", "Buckets", and
b2_upload_file (reserved info names, the limits of 7000 and 2048 bytes).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from b2mount.emulator.errors import Refusal, bad_request

MAX_NAME_BYTES = 1024
MAX_HEADER_BYTES = 7000
MAX_HEADER_BYTES_LOCKED_OR_ENCRYPTED = 2048

# Unreserved in B2's encoding besides letters, digits, "_", "." and "-", which quote() always keeps.
_UNRESERVED = "/~!$'()*;=:@"
_INFO_NAME = re.compile(r"[A-Za-z0-9\-_.`~!#$%^&*'|+]{1,50}")
_BUCKET_NAME = re.compile(r"[A-Za-z0-9-]{6,63}")
_HEADER_SAFE = re.compile(r"[\x20-\x7e]*")

# Come back as the real HTTP header, never as X-Bz-Info-*.
RESERVED_INFO = {
    "b2-content-disposition": b"content-disposition",
    "b2-content-language": b"content-language",
    "b2-expires": b"expires",
    "b2-cache-control": b"cache-control",
    "b2-content-encoding": b"content-encoding",
}


def decode_name(encoded: str) -> str:
    """Decode a percent-encoded name, "+" being a space; refuse what is not UTF-8."""
    try:
        return unquote_to_bytes(encoded.replace("+", " ")).decode()
    except UnicodeError:
        raise bad_request("File name is not valid URL-encoded UTF-8") from None


def encode_name(name: str) -> bytes:
    """Encode a name for a header."""
    return quote(name, safe=_UNRESERVED).encode()


def check_file_name(name: str, *, max_segment_bytes: int, allow_backslash: bool) -> None:
    """Refuse a name that the native API does not take for a new file."""
    raw = name.encode()
    if not raw:
        raise bad_request("File name must not be empty")
    if len(raw) > MAX_NAME_BYTES:
        raise bad_request(f"File name too long: {len(raw)} bytes, the most is {MAX_NAME_BYTES}")
    if any(byte < 32 for byte in raw):
        raise bad_request("File names must not contain characters with codes less than 32")
    if 127 in raw:
        raise bad_request("File names must not contain DEL")
    if b"\\" in raw and not allow_backslash:
        raise bad_request("File names must not contain backslashes")
    if raw.startswith(b"/"):
        raise bad_request("File names must not start with '/'")
    if raw.endswith(b"/"):
        raise bad_request("File names must not end with '/'")
    if b"//" in raw:
        raise bad_request("File names must not contain '//'")
    if max(map(len, raw.split(b"/"))) > max_segment_bytes:
        raise bad_request(f"File names must not contain segments longer than {max_segment_bytes} bytes")


def check_content_type(content_type: str) -> str:
    """Refuse a content type that could not be sent back as a header."""
    if not content_type or len(content_type) > 1000 or not _HEADER_SAFE.fullmatch(content_type):
        raise bad_request("bad content type")
    return content_type


def check_info(name: str, info: Mapping[str, Any], *, tight: bool) -> dict[str, str]:
    """Check file info for the file *name* and give it with lower-case names.

    *tight*: the file is encrypted or its bucket has Object Lock, where the limit is 2048 bytes, not 7000.
    """
    checked: dict[str, str] = {}
    for key, value in info.items():
        if not _INFO_NAME.fullmatch(key):
            raise bad_request(f"Bad file info name: {key!r}")
        if not isinstance(value, str):
            raise bad_request(f"The value of file info {key} must be a string")
        if key.lower().startswith("b2-"):
            _check_reserved(key.lower(), value)
        checked[key.lower()] = value
    limit = MAX_HEADER_BYTES_LOCKED_OR_ENCRYPTED if tight else MAX_HEADER_BYTES
    try:
        size = len(name.encode()) + sum(len(k) + len(v.encode()) for k, v in checked.items())
    except UnicodeEncodeError:
        raise bad_request("file info is not valid Unicode") from None
    if size > limit:
        raise bad_request(f"File name and file info take {size} bytes, the most is {limit}")
    return checked


def _check_reserved(key: str, value: str) -> None:
    if key not in RESERVED_INFO:
        raise bad_request(f"File info names starting with b2- are reserved: {key}")
    if not _HEADER_SAFE.fullmatch(value):
        raise bad_request(f"The value of {key} cannot be sent as a header")


def info_from_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Collect file info from the X-Bz-Info-* headers of an upload."""
    info: dict[str, str] = {}
    for key, value in headers.items():
        if key.startswith("x-bz-info-"):
            try:
                info[key[10:]] = unquote_to_bytes(value.replace("+", " ")).decode()
            except UnicodeError:
                raise bad_request(f"{key} is not valid URL-encoded UTF-8") from None
    return info


def check_bucket_name(name: str) -> None:
    """Refuse a bucket name that breaks B2's rules: 6 to 63 letters, digits and "-", not starting b2-."""
    if not _BUCKET_NAME.fullmatch(name):
        raise Refusal(400, "invalid_bucket_name", "Bucket names are 6 to 63 letters, digits and '-'")
    if name.lower().startswith("b2-"):
        raise Refusal(400, "invalid_bucket_name", "Bucket names must not start with 'b2-'")


def after_prefix(prefix: bytes) -> bytes:
    """Give the least byte string greater than everything that starts with *prefix* (UTF-8, so never 0xFF)."""
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else b"\xff"
