"""Downloads, by name and by ID, whole or one range, GET and HEAD.

Sources: Backblaze docs, b2_download_file_by_name, b2_download_file_by_id. An end past the file is clamped,
a start past it is 416; public buckets need no token; a download token works by name alone and under its
prefix.
"""

from __future__ import annotations

from urllib.parse import quote

from b2mount.emulator import encryption
from b2mount.emulator.buckets import Bucket
from b2mount.emulator.errors import Refusal, bad_auth_token, bad_request, not_found, unauthorized
from b2mount.emulator.keys import Key
from b2mount.emulator.names import RESERVED_INFO, decode_name, encode_name
from b2mount.emulator.ranges import parse_range
from b2mount.emulator.service import Call
from b2mount.emulator.tokens import ACCOUNT, DOWNLOAD, Token
from b2mount.emulator.versions import UPLOAD, Version, need_file_id
from b2mount.emulator.wire import Reply

# Query parameters that replace a header of the reply; they need an authorization even on a public bucket.
OVERRIDES = {
    "b2ContentDisposition": b"content-disposition",
    "b2ContentLanguage": b"content-language",
    "b2Expires": b"expires",
    "b2CacheControl": b"cache-control",
    "b2ContentEncoding": b"content-encoding",
    "b2ContentType": b"content-type",
}


def download_file_by_id(call: Call) -> Reply:
    """Give the content of a version by its ID, also when it is hidden or replaced."""
    text = call.params.file_id("fileId")
    parsed, service = need_file_id(text), call.service
    bucket = service.buckets.find(parsed.bucket_id)
    _, key = _reader(call, by_name=False)
    open_to_all = bucket is not None and bucket.public
    if not open_to_all:
        _need_key(key).require("readFiles", bucket_id=parsed.bucket_id)
    version = service.versions.find(parsed)
    if version is not None:
        call.note(version)
        if not open_to_all:
            _need_key(key).require("readFiles", name=version.name)
    if version is None or version.action != UPLOAD:
        raise not_found(f"File not present: {text}")
    return _reply(call, version, key, _overrides(call, key))


def download_file_by_name(call: Call, bucket_name: str, encoded: str) -> Reply:
    """Give the content of the visible version of a name."""
    service, name = call.service, decode_name(encoded)
    call.entry.bucket, call.entry.name = bucket_name, name
    bucket = service.buckets.named(bucket_name)
    token, key = _reader(call, by_name=True)
    if bucket is None or not bucket.public:
        _check_by_name(bucket, name, token, key)
    if bucket is None:
        raise not_found(f"bucket does not exist: {bucket_name}")
    if not name or name.endswith("/"):
        raise bad_request("File names must not be empty or end with '/'")
    version = service.versions.visible(bucket, name)
    if version is None:
        raise not_found(f"File with such name does not exist: {name}")
    return _reply(call, version, key, _overrides(call, key))


def _check_by_name(bucket: Bucket | None, name: str, token: Token | None, key: Key | None) -> None:
    if token is not None and token.kind == DOWNLOAD:
        if bucket is None or token.target != bucket.bucket_id or not name.startswith(token.prefix):
            raise unauthorized()
        return
    reader = _need_key(key)
    reader.require("readFiles", name=name)
    if reader.buckets is not None and (bucket is None or not reader.opens_bucket(bucket.bucket_id)):
        raise unauthorized()


def _need_key(key: Key | None) -> Key:
    if key is None:
        raise unauthorized()
    return key


def _reader(call: Call, *, by_name: bool) -> tuple[Token | None, Key | None]:
    """Give the token and key that a download brings, if it brings any."""
    text = call.request.headers.get("authorization") or call.request.query().get("Authorization")
    if not text:
        return None, None
    token, key = call.service.tokens.check(text, *((ACCOUNT, DOWNLOAD) if by_name else (ACCOUNT,)))
    if token.kind == DOWNLOAD and not key.may("shareFiles"):
        raise bad_auth_token()
    query = call.request.query()
    if any(query.get(name) != value for name, value in token.overrides.items()):
        raise unauthorized()
    call.use_key(key)
    return token, key


def _overrides(call: Call, key: Key | None) -> dict[bytes, bytes]:
    query = call.request.query()
    given = {header: query[name] for name, header in OVERRIDES.items() if name in query}
    if given and key is None:
        raise unauthorized()
    for value in given.values():
        if not value.isascii() or not value.isprintable():
            raise bad_request("a header given in the query must be printable ASCII")
    return {header: value.encode() for header, value in given.items()}


def _reply(call: Call, version: Version, key: Key | None, overrides: dict[bytes, bytes]) -> Reply:
    request, service = call.request, call.service
    version.encryption.check_reader(encryption.from_headers(request.headers))
    start, end, status = 0, version.size, 200
    headers = _headers(call, version, key) | overrides
    text = request.headers.get("range")
    if text is not None:
        call.entry.range = text
        parsed = parse_range(text, version.size)
        if parsed is None:
            raise Refusal(416, "range_not_satisfiable", f"The file has {version.size} bytes: {text}")
        start, end = parsed
        status = 206
        headers[b"content-range"] = f"bytes {start}-{end - 1}/{version.size}".encode()
    reply = Reply(status, list(headers.items()), length=end - start)
    if request.method != "HEAD":
        reply.stream = service.content.read(
            service.content.pieces(version.seq, start, end), service.network.pace().chunk_bytes(512 * 1024)
        )
    return reply


def _headers(call: Call, version: Version, key: Key | None) -> dict[bytes, bytes]:
    headers = {
        b"content-type": version.content_type.encode("latin-1", "replace"),
        b"accept-ranges": b"bytes",
        b"cache-control": b"max-age=0, no-cache, no-store",
        b"x-bz-file-id": call.service.versions.file_id(version).encode(),
        b"x-bz-file-name": encode_name(version.name),
        b"x-bz-content-sha1": (version.sha1 or "none").encode(),
        b"x-bz-upload-timestamp": str(version.stamp).encode(),
    }
    row = call.service.versions.row_shown(version, retention=True, hold=True)
    for name, value in row["fileInfo"].items():
        if name in RESERVED_INFO:
            headers[RESERVED_INFO[name]] = value.encode("latin-1", "replace")
        else:
            headers[b"x-bz-info-" + name.encode()] = quote(value, safe="/~!$'()*;=:@").encode()
    headers.update(version.encryption.headers())
    headers.update(_lock_headers(version, key))
    return headers


def _lock_headers(version: Version, key: Key | None) -> dict[bytes, bytes]:
    shown, hidden = {}, []
    if key is None or not key.may("readFileRetentions"):
        hidden += ["X-Bz-File-Retention-Mode", "X-Bz-File-Retention-Retain-Until-Timestamp"]
    elif version.lock.mode is not None:
        shown[b"x-bz-file-retention-mode"] = version.lock.mode.encode()
        shown[b"x-bz-file-retention-retain-until-timestamp"] = str(version.lock.until).encode()
    if key is None or not key.may("readFileLegalHolds"):
        hidden.append("X-Bz-File-Legal-Hold")
    elif version.lock.hold is not None:
        shown[b"x-bz-file-legal-hold"] = version.lock.hold.encode()
    if hidden:
        shown[b"x-bz-client-unauthorized-to-read"] = ",".join(hidden).encode()
    return shown
