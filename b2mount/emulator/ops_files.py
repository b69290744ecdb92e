"""Calls about single versions: info, hide, delete, locks, copy, download authorization.

Sources: Backblaze docs, one page a call; the codes of refused deletes and lock changes are those asserted
by the live tests in Backblaze/B2_Command_Line_Tool, test/integration.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from b2mount.emulator import encryption, locks
from b2mount.emulator.buckets import Bucket
from b2mount.emulator.content import ContentStore, Piece
from b2mount.emulator.errors import Refusal, access_denied, bad_request, not_found, unauthorized
from b2mount.emulator.keys import Key
from b2mount.emulator.names import check_info
from b2mount.emulator.newfile import choose_encryption, dump_info, resolve_type
from b2mount.emulator.ops_download import OVERRIDES
from b2mount.emulator.ranges import parse_range
from b2mount.emulator.service import Call
from b2mount.emulator.tokens import DOWNLOAD
from b2mount.emulator.versions import (
    EMPTY_MD5,
    EMPTY_SHA1,
    HIDE,
    HIDE_TYPE,
    MARKER,
    SMALL,
    START,
    UPLOAD,
    Version,
    need_file_id,
)

_MAX_DOWNLOAD_SECONDS = 604_800


def get_file_info(call: Call) -> dict[str, Any]:
    """Give one version by its ID."""
    file_id = call.params.file_id("fileId")
    version = call.find(file_id, "readFiles")
    if version is None:
        raise not_found(f"File not present: {file_id}")
    return call.service.versions.row(version, call.key())


def hide_file(call: Call) -> dict[str, Any]:
    """Put a hide marker on a name that has a visible file."""
    service = call.service
    bucket = call.bucket("writeFiles")
    name = call.params.need_text("fileName")
    call.entry.name = name
    call.key().require("writeFiles", name=name)
    newest = service.versions.newest(bucket, name)
    if newest is None:
        raise Refusal(400, "no_such_file", f"File not present: {name}")
    if newest.action == HIDE:
        raise Refusal(400, "already_hidden", f"File already hidden: {name}")
    with service.database.transaction():
        marker = Version(
            seq=service.versions.new_seq(),
            bucket=bucket.num,
            name=name,
            stamp=service.versions.next_stamp(bucket, name),
            action=HIDE,
            kind=MARKER,
            content_type=HIDE_TYPE,
            sha1=EMPTY_SHA1,
            md5=EMPTY_MD5,
        )
        service.versions.add(marker)
    return service.versions.row(marker, call.key())


def delete_file_version(call: Call) -> dict[str, Any]:
    """Delete one version for good (an unfinished large file: cancel it)."""
    name, file_id = call.params.need_text("fileName"), call.params.file_id("fileId")
    call.entry.name = name
    call.key().require("deleteFiles", name=name)
    version = call.find(file_id, "deleteFiles")
    if version is None or version.name != name:
        raise Refusal(400, "file_not_present", f"File not present: {name} {file_id}")
    version.lock.check_delete(call.key(), bool(call.params.flag("bypassGovernance")))
    remove_version(call, version)
    return {"fileId": file_id, "fileName": name}


def remove_version(call: Call, version: Version) -> None:
    """Delete a version and the content nobody else uses."""
    with call.service.database.transaction():
        unused = call.service.versions.remove(version)
    call.service.content.erase(unused)


def _lockable(call: Call, capability: str) -> tuple[Version, Bucket]:
    """Find the version whose lock is to be changed; a missing capability is 403 here, unlike elsewhere."""
    name, parsed = call.params.need_text("fileName"), need_file_id(call.params.file_id("fileId"))
    call.entry.name = name
    key = call.key()
    if not key.opens_bucket(parsed.bucket_id) or not key.covers(name):
        raise unauthorized()
    if not key.may(capability):
        raise access_denied()
    version = call.service.versions.find(parsed)
    if version is None or version.name != name or version.action not in (UPLOAD, START):
        raise Refusal(400, "file_not_present", f"File not present: {name}")
    return version, call.note(version)


def update_file_retention(call: Call) -> dict[str, Any]:
    """Change how long a version is kept."""
    version, bucket = _lockable(call, "writeFileRetentions")
    retention = call.params.mapping("fileRetention")
    if retention is None:
        raise bad_request("required field fileRetention is missing")
    bypass = bool(call.params.flag("bypassGovernance"))
    asked = locks.from_json(retention, None)
    lock = locks.change_retention(version.lock, asked, bucket, call.key(), bypass)
    call.service.versions.set_lock(version, lock)
    return {
        "fileId": call.service.versions.file_id(version),
        "fileName": version.name,
        "fileRetention": {"mode": lock.mode, "retainUntilTimestamp": lock.until},
    }


def update_file_legal_hold(call: Call) -> dict[str, Any]:
    """Set or lift the legal hold of a version."""
    version, bucket = _lockable(call, "writeFileLegalHolds")
    lock = locks.change_hold(version.lock, call.params.text("legalHold"), bucket)
    call.service.versions.set_lock(version, lock)
    return {
        "fileId": call.service.versions.file_id(version),
        "fileName": version.name,
        "legalHold": lock.hold,
    }


def get_download_authorization(call: Call) -> dict[str, Any]:
    """Give a token that downloads by name what lies under a prefix."""
    bucket = call.bucket("shareFiles")
    prefix = call.params.need_text("fileNamePrefix")
    call.entry.prefix = prefix
    call.key().require("shareFiles", name=prefix)
    seconds = call.params.integer("validDurationInSeconds")
    if seconds is None or not 1 <= seconds <= _MAX_DOWNLOAD_SECONDS:
        raise bad_request("validDurationInSeconds must be between 1 and 604800")
    overrides = {name: value for name in OVERRIDES if (value := call.params.text(name)) is not None}
    token = call.service.tokens.issue(
        DOWNLOAD, call.key(), seconds, target=bucket.bucket_id, prefix=prefix, overrides=overrides
    )
    return {
        "bucketId": bucket.bucket_id,
        "fileNamePrefix": prefix,
        "authorizationToken": token.text,
    }


def copy_source(call: Call) -> Version:
    """Find the source of a copy: it needs readFiles, unless its bucket is public."""
    file_id = call.params.file_id("sourceFileId")
    parsed, key, service = need_file_id(file_id), call.key(), call.service
    bucket = service.buckets.find(parsed.bucket_id)
    if not (bucket is not None and bucket.public and key.opens_bucket(parsed.bucket_id)):
        key.require("readFiles", bucket_id=parsed.bucket_id)
    version = service.versions.find(parsed)
    if version is not None and not (bucket is not None and bucket.public):
        key.require("readFiles", name=version.name)
    if version is None or version.action != UPLOAD:
        raise not_found(f"File not present: {file_id}")
    version.encryption.check_reader(encryption.from_json(call.params.mapping("sourceServerSideEncryption")))
    return version


def copy_range(call: Call, source: Version) -> tuple[int, int]:
    """Give the half-open range of *source* to copy, within what one copy may hold."""
    text = call.params.text("range")
    start, end = 0, source.size
    if text is not None:
        parsed = parse_range(text, source.size)
        if parsed is None:
            raise Refusal(416, "range_not_satisfiable", f"Bad range: {text}")
        start, end = parsed
    if end - start > call.service.settings.max_part_size:
        raise Refusal(400, "source_too_large", f"Copy source too big: {end - start}")
    return start, end


@asynccontextmanager
async def borrowed(call: Call, pieces: list[Piece]) -> AsyncIterator[int]:
    """Hold references to *pieces* under a new number while they are hashed; give the number."""
    service, owner = call.service, call.service.versions.new_seq()
    with service.database.transaction():
        service.content.attach(owner, pieces)
    try:
        yield owner
    except BaseException:
        with service.database.transaction():
            unused = service.content.detach(owner)
        service.content.erase(unused)
        raise


async def sha1_of(call: Call, pieces: list[Piece]) -> str:
    """Hash *pieces* in a thread, so that copies take one processor each and nobody waits for them."""
    return await asyncio.to_thread(_hash, call.service.content, pieces)


def _hash(content: ContentStore, pieces: list[Piece]) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    for chunk in content.read(pieces):
        digest.update(chunk)
    return digest.hexdigest()


async def copy_file(call: Call) -> dict[str, Any]:
    """Make a new version of (a range of) another, sharing its content."""
    service, params, key = call.service, call.params, call.key()
    name = params.need_text("fileName")
    call.entry.name = name
    key.require("writeFiles", name=name)
    source = copy_source(call)
    destination_id = params.text("destinationBucketId")
    bucket = service.buckets.numbered(source.bucket)
    if destination_id is not None:
        key.require("writeFiles", bucket_id=destination_id)
        bucket = service.buckets.get(destination_id)
    key.require("writeFiles", bucket_id=bucket.bucket_id)
    call.entry.bucket, call.entry.name = bucket.name, name
    service.check_name(name)
    start, end = copy_range(call, source)
    service.ledger.check_storage(end - start)
    draft = _copied_version(call, source, bucket, key)
    pieces = service.content.pieces(source.seq, start, end)
    async with borrowed(call, pieces) as seq:
        whole = end - start == source.size
        sha1 = source.sha1 if whole else await sha1_of(call, pieces)
        with service.database.transaction():
            stamp = service.versions.next_stamp(bucket, name)
            md5 = source.md5 if whole else None
            version = draft._replace(seq=seq, stamp=stamp, size=end - start, sha1=sha1, md5=md5)
            service.versions.add(version)
    service.ledger.stored(version.size)
    return {**service.versions.row(version, key), "action": "copy"}


def _copied_version(call: Call, source: Version, bucket: Bucket, key: Key) -> Version:
    """Give the copy without its content: type, info, encryption and lock, by the metadata directive."""
    params = call.params
    asked_sse = encryption.from_json(params.mapping("destinationServerSideEncryption"))
    sse = choose_encryption(asked_sse, bucket)
    directive = params.text("metadataDirective") or "COPY"
    content_type, info = params.text("contentType"), params.mapping("fileInfo")
    asked = locks.from_json(params.mapping("fileRetention"), params.text("legalHold"))
    lock = locks.for_new_version(asked, bucket, key)
    name = params.need_text("fileName")
    draft = Version(0, bucket.num, name, 0, UPLOAD, SMALL, "", sse=sse.stored(), lock=lock)
    if directive == "COPY":
        if content_type is not None or info is not None:
            raise bad_request("contentType and fileInfo must not be given when the metadata is copied")
        return draft._replace(content_type=source.content_type, info=source.info)
    if directive != "REPLACE":
        raise bad_request("metadataDirective must be COPY or REPLACE")
    if content_type is None:
        raise bad_request("contentType is required when the metadata is replaced")
    checked = check_info(name, info or {}, tight=bool(sse.mode) or bucket.lock_enabled)
    return draft._replace(content_type=resolve_type(name, content_type), info=dump_info(checked))
