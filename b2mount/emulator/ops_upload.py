"""The two calls that carry content: b2_upload_file and b2_upload_part.

Sources: Backblaze docs, b2_upload_file, b2_upload_part, "Integration Checklist". The URL and its token
belong together, take one upload at a time, and are void after an upload they refused with 401 or a server
error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from b2mount.emulator import encryption, locks
from b2mount.emulator.clock import now_ms
from b2mount.emulator.content import Incoming
from b2mount.emulator.errors import Refusal, bad_auth_token, bad_bucket_id, bad_request, no_active_upload
from b2mount.emulator.names import check_info, decode_name, info_from_headers
from b2mount.emulator.newfile import choose_encryption, dump_info, resolve_type
from b2mount.emulator.ops_large import active_upload, check_part_number, part_row, still_active, store_part
from b2mount.emulator.service import Call
from b2mount.emulator.tokens import PART, UPLOAD, Token
from b2mount.emulator.versions import SMALL, Version, check_custom_stamp
from b2mount.emulator.versions import UPLOAD as UPLOADED

_HEX = re.compile(r"[0-9a-f]{40}")
_AT_END = "hex_digits_at_end"
_REFUSED_HEADERS = (
    "content-disposition content-encoding content-language content-location content-range expires".split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True)
class Expected:
    """What an upload announces: how much content, and the SHA-1 or where that comes from."""

    size: int
    sha1: str  # 40 hex digits, hex_digits_at_end or do_not_verify


@contextmanager
def _upload_url(call: Call, kind: str) -> Iterator[Token]:
    """Check and hold the upload URL for the length of one upload."""
    token, key = call.service.tokens.check(call.request.headers.get("authorization"), kind)
    call.use_key(key)
    if call.place != (token.target, token.place):
        raise bad_auth_token()
    call.service.tokens.take(token)
    try:
        yield token
    except Refusal as refusal:
        if refusal.status == 401 or refusal.status >= 500:
            call.service.tokens.void(token)
        raise
    finally:
        token.busy = False


def _expected(call: Call) -> Expected:
    headers, settings = call.request.headers, call.service.settings
    if "transfer-encoding" in headers or "content-length" not in headers:
        raise Refusal(411, "length_required", "Content-Length is required; chunked uploads are not supported")
    length = int(headers["content-length"])
    sha1 = headers.get("x-bz-content-sha1")
    if sha1 is None:
        raise bad_request("Missing header: X-Bz-Content-Sha1")
    if sha1 not in (_AT_END, "do_not_verify"):
        sha1 = sha1.lower()
        if not _HEX.fullmatch(sha1):
            raise bad_request(f"Invalid X-Bz-Content-Sha1: {sha1}")
    size = length - 40 if sha1 == _AT_END else length
    if size < 0:
        raise bad_request("Content-Length leaves no room for the SHA-1 at the end")
    if size > settings.max_part_size:
        raise bad_request(f"File size too big: {size}")
    call.service.ledger.check_storage(size)
    return Expected(size, sha1)


async def _receive(call: Call, expected: Expected) -> Incoming:
    """Read the body into new content; give it once its SHA-1 is right."""
    incoming, tail = call.service.content.receive(), b""
    pace = call.service.network.pace()
    flip = call.fault.after_bytes if call.fault and call.fault.kind == "corrupt" else None
    received = 0
    try:
        async for arrived in call.request.chunks():
            chunk = arrived
            if flip is not None and received <= flip < received + len(chunk):
                at = flip - received
                chunk = chunk[:at] + bytes([chunk[at] ^ 1]) + chunk[at + 1 :]
            received += len(chunk)
            room = expected.size - incoming.size
            incoming.write(chunk[:room])
            tail += chunk[room:]
            await pace.moved(len(chunk))
        _check_sum(incoming, expected, tail)
    except BaseException:
        incoming.discard()
        raise
    return incoming


def _check_sum(incoming: Incoming, expected: Expected, tail: bytes) -> None:
    wanted = tail.decode("latin-1").lower() if expected.sha1 == _AT_END else expected.sha1
    if wanted != "do_not_verify" and wanted != incoming.sha1:
        raise bad_request("Sha1 did not match data received")


def _shown_sha1(incoming: Incoming, expected: Expected) -> str:
    return f"unverified:{incoming.sha1}" if expected.sha1 == "do_not_verify" else incoming.sha1


async def upload_file(call: Call) -> dict[str, Any]:
    """Store one file."""
    with _upload_url(call, UPLOAD) as token:
        version = _new_version(call, token)
        expected = _expected(call)
        incoming = await _receive(call, expected)
        return _store(call, token.target, version, expected, incoming)


def _new_version(call: Call, token: Token) -> Version:
    """Check everything that the headers say; the version lacks only its content."""
    service, key, headers = call.service, call.key(), call.request.headers
    name = decode_name(_header(call, "x-bz-file-name"))
    call.entry.name = name
    key.require("writeFiles", bucket_id=token.target, name=name)
    bucket = service.buckets.get(token.target)
    call.entry.bucket = bucket.name
    service.check_name(name)
    refused = next((header for header in _REFUSED_HEADERS if header in headers), None)
    if refused is not None:
        raise bad_request(f"Header not allowed on upload: {refused}")
    sse = choose_encryption(encryption.from_headers(headers), bucket)
    content_type = resolve_type(name, _header(call, "content-type"))
    info = check_info(name, info_from_headers(headers), tight=bool(sse.mode) or bucket.lock_enabled)
    lock = locks.for_new_version(locks.from_headers(headers), bucket, key)
    asked = headers.get("x-bz-custom-upload-timestamp")
    if asked is not None and not asked.isdecimal():
        raise bad_request("X-Bz-Custom-Upload-Timestamp must be a number")
    custom = check_custom_stamp(
        None if asked is None else int(asked), allowed=service.settings.custom_timestamps
    )
    return Version(
        seq=0,
        bucket=bucket.num,
        name=name,
        stamp=custom or 0,
        action=UPLOADED,
        kind=SMALL,
        content_type=content_type,
        info=dump_info(info),
        sse=sse.stored(),
        lock=lock,
    )


def _header(call: Call, name: str) -> str:
    value = call.request.headers.get(name)
    if value is None:
        raise bad_request(f"Missing header: {name}")
    return value


def _store(
    call: Call, bucket_id: str, draft: Version, expected: Expected, incoming: Incoming
) -> dict[str, Any]:
    service = call.service
    bucket = service.buckets.find(bucket_id)
    if bucket is None:  # deleted during the upload
        incoming.discard()
        raise bad_bucket_id(bucket_id)
    with service.database.transaction():
        version = draft._replace(
            seq=service.versions.new_seq(),
            stamp=draft.stamp or service.versions.next_stamp(bucket, draft.name),
            size=incoming.size,
            sha1=_shown_sha1(incoming, expected),
            md5=incoming.md5,
        )
        service.content.attach(version.seq, service.content.keep(incoming))
        service.versions.add(version)
    service.ledger.stored(version.size)
    return service.versions.row(version, call.key())


async def upload_part(call: Call) -> dict[str, Any]:
    """Store one part of a large file, in place of an earlier part of its number."""
    with _upload_url(call, PART) as token:
        file_id, service = token.target, call.service
        version = active_upload(call, file_id)
        number = _header(call, "x-bz-part-number")
        part_number = check_part_number(int(number) if number.isdecimal() else None)
        offered = encryption.from_headers(call.request.headers)
        if version.encryption.mode == "SSE-C" or offered.mode == "SSE-C":
            version.encryption.check_reader(offered)
        expected = _expected(call)
        if expected.size == 0:
            raise bad_request("a part must not be empty")
        incoming = await _receive(call, expected)
        if not still_active(service, version):
            incoming.discard()
            raise no_active_upload(file_id)
        seq, sha1, stamp = service.versions.new_seq(), _shown_sha1(incoming, expected), now_ms()
        with service.database.transaction():
            service.content.attach(seq, service.content.keep(incoming))
            unused = store_part(service, version, part_number, seq, incoming.size, sha1, incoming.md5, stamp)
        service.content.erase(unused)
        service.ledger.stored(incoming.size)
        return part_row(
            file_id, part_number, incoming.size, sha1, incoming.md5, stamp, sse=version.encryption.row()
        )
