"""Calls about large files: start, list parts, copy a part, finish, cancel.

Sources: Backblaze docs, "Large Files" (parts 1 to 10,000, each 5 MB to 5 GB but the last, at least two),
b2_finish_large_file, b2_copy_part; the live tests of b2sdk (a part that is too small is refused at finish,
not before).
"""

from __future__ import annotations

from typing import Any

from b2mount.emulator import encryption, locks
from b2mount.emulator.content import Piece
from b2mount.emulator.errors import Refusal, bad_request, no_active_upload, out_of_range
from b2mount.emulator.names import check_info
from b2mount.emulator.newfile import choose_encryption, dump_info, resolve_type
from b2mount.emulator.ops_files import borrowed, copy_range, copy_source, remove_version, sha1_of
from b2mount.emulator.service import Call, Service
from b2mount.emulator.tokens import PART, UPLOAD
from b2mount.emulator.versions import LARGE, START, Version, check_custom_stamp

MAX_PARTS = 10_000


def get_upload_url(call: Call) -> dict[str, Any]:
    """Give a URL and a token for uploads to a bucket, one at a time."""
    bucket = call.bucket("writeFiles")
    token = call.service.tokens.issue(
        UPLOAD, call.key(), call.service.settings.upload_url_seconds, target=bucket.bucket_id
    )
    url = f"{call.request.base_url}/b2api/v{call.version}/b2_upload_file/{bucket.bucket_id}/{token.place}"
    return {"bucketId": bucket.bucket_id, "uploadUrl": url, "authorizationToken": token.text}


def active_upload(call: Call, file_id: str) -> Version:
    """Find a large file that is being uploaded, for a key that may write it."""
    version = call.find(file_id, "writeFiles")
    if version is None or version.action != START:
        raise no_active_upload(file_id)
    return version


def get_upload_part_url(call: Call) -> dict[str, Any]:
    """Give a URL and a token for parts of a large file, one at a time."""
    file_id = call.params.file_id("fileId")
    active_upload(call, file_id)
    token = call.service.tokens.issue(
        PART, call.key(), call.service.settings.upload_url_seconds, target=file_id
    )
    url = f"{call.request.base_url}/b2api/v{call.version}/b2_upload_part/{file_id}/{token.place}"
    return {"fileId": file_id, "uploadUrl": url, "authorizationToken": token.text}


def start_large_file(call: Call) -> dict[str, Any]:
    """Begin a large file; its name, type, info, encryption and lock are fixed here."""
    service, params = call.service, call.params
    name = params.need_text("fileName")
    call.entry.name = name
    bucket = call.bucket("writeFiles")
    call.key().require("writeFiles", name=name)
    service.check_name(name)
    sse = choose_encryption(encryption.from_json(params.mapping("serverSideEncryption")), bucket)
    content_type = resolve_type(name, params.need_text("contentType"))
    tight = bool(sse.mode) or bucket.lock_enabled
    info = dump_info(check_info(name, params.mapping("fileInfo") or {}, tight=tight))
    asked = locks.from_json(params.mapping("fileRetention"), params.text("legalHold"))
    lock = locks.for_new_version(asked, bucket, call.key())
    stamp = check_custom_stamp(
        params.integer("customUploadTimestamp"), allowed=service.settings.custom_timestamps
    )
    with service.database.transaction():
        version = Version(
            seq=service.versions.new_seq(),
            bucket=bucket.num,
            name=name,
            stamp=service.versions.next_stamp(bucket, name) if stamp is None else stamp,
            action=START,
            kind=LARGE,
            content_type=content_type,
            sha1="none",
            info=info,
            sse=sse.stored(),
            lock=lock,
        )
        service.versions.add(version)
    return service.versions.row(version, call.key())


def check_part_number(number: int | None) -> int:
    """Refuse a part number outside 1 to 10,000."""
    if number is None:
        raise bad_request("the part number is missing")
    if not 1 <= number <= MAX_PARTS:
        raise out_of_range(f"Part number must be between 1 and {MAX_PARTS}: {number}")
    return number


def store_part(
    service: Service,
    version: Version,
    number: int,
    seq: int,
    size: int,
    sha1: str,
    md5: str | None,
    stamp: int,
) -> list[int]:
    """Record a part in place of an earlier one of that number; give the blobs to erase after the commit."""
    file_key = (version.seq, number)
    old = service.database.execute("SELECT seq FROM parts WHERE file = ? AND number = ?", file_key).fetchone()
    unused = service.content.detach(old[0]) if old is not None else []
    service.database.execute(
        "INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?, ?)", (*file_key, seq, size, sha1, md5, stamp)
    )
    return unused


def still_active(service: Service, version: Version) -> bool:
    """Tell whether a large file is still there to take parts (it may have ended during an upload)."""
    row = service.database.execute("SELECT action FROM versions WHERE seq = ?", (version.seq,)).fetchone()
    return row is not None and row[0] == START


def part_row(
    file_id: str, number: int, size: int, sha1: str, md5: str | None, stamp: int, *, sse: dict[str, Any]
) -> dict[str, Any]:
    """Give a part as the API shows it."""
    return {
        "fileId": file_id,
        "partNumber": number,
        "contentLength": size,
        "contentSha1": sha1,
        "contentMd5": md5,
        "serverSideEncryption": sse,
        "uploadTimestamp": stamp,
    }


async def copy_part(call: Call) -> dict[str, Any]:
    """Make a part of (a range of) a stored file, sharing its content."""
    service, params = call.service, call.params
    number = check_part_number(params.integer("partNumber"))
    file_id = params.file_id("largeFileId")
    source = copy_source(call)
    version = active_upload(call, file_id)
    version.encryption.check_reader(encryption.from_json(params.mapping("destinationServerSideEncryption")))
    start, end = copy_range(call, source)
    if start == end:
        raise bad_request("a part must not be empty")
    service.ledger.check_storage(end - start)
    pieces: list[Piece] = service.content.pieces(source.seq, start, end)
    known = source.sha1 if end - start == source.size and _is_hex(source.sha1) else None
    async with borrowed(call, pieces) as seq:
        sha1 = known or await sha1_of(call, pieces)
        if not still_active(service, version):
            raise no_active_upload(file_id)
        stamp = service.versions.next_stamp(service.buckets.numbered(version.bucket), version.name)
        with service.database.transaction():
            unused = store_part(service, version, number, seq, end - start, sha1, None, stamp)
    service.content.erase(unused)
    service.ledger.stored(end - start)
    return part_row(file_id, number, end - start, sha1, None, stamp, sse=version.encryption.row())


def _is_hex(sha1: str | None) -> bool:
    return sha1 is not None and len(sha1) == 40


def list_parts(call: Call) -> dict[str, Any]:
    """List the parts of a large file; the capability is writeFiles, not listFiles."""
    file_id = call.params.file_id("fileId")
    version = active_upload(call, file_id)
    count = call.params.count("maxPartCount", default=100, most=1000)
    start = call.params.integer("startPartNumber") or 1
    rows = call.service.database.execute(
        "SELECT number, size, sha1, md5, stamp FROM parts WHERE file = ? AND number >= ?"
        " ORDER BY number LIMIT ?",
        (version.seq, start, count + 1),
    ).fetchall()
    call.rows = len(rows[:count])
    sse = version.encryption.row()
    return {
        "parts": [part_row(file_id, *row, sse=sse) for row in rows[:count]],
        "nextPartNumber": rows[count][0] if len(rows) > count else None,
    }


def finish_large_file(call: Call) -> dict[str, Any]:
    """Put the parts together, without copying a byte; the version appears at once and whole."""
    service = call.service
    file_id = call.params.file_id("fileId")
    version = active_upload(call, file_id)
    sums = call.params.texts("partSha1Array")
    if sums is None:
        raise bad_request("required field partSha1Array is missing")
    parts = service.database.execute(
        "SELECT number, seq, size, sha1 FROM parts WHERE file = ? ORDER BY number", (version.seq,)
    ).fetchall()
    total = _check_parts(call, parts, sums)
    with service.database.transaction():
        start = 0
        for _, seq, size, _ in parts:
            service.content.move(seq, version.seq, start)
            start += size
        service.database.execute("DELETE FROM parts WHERE file = ?", (version.seq,))
        service.versions.finish(version, total)
    finished = call.find(file_id, "writeFiles")
    assert finished is not None  # nothing awaited since
    return service.versions.row(finished, call.key())


def _check_parts(call: Call, parts: list[Any], sums: list[str]) -> int:
    settings = call.service.settings
    if len(sums) < 2:
        raise bad_request("large files must have at least 2 parts")
    numbers = [part[0] for part in parts]
    for number in range(1, len(sums) + 1):
        if number > len(numbers) or numbers[number - 1] != number:
            raise Refusal(400, "missing_part", f"Part number {number} has not been uploaded")
    if len(parts) > len(sums):
        raise bad_request(f"{len(parts)} parts were uploaded, but partSha1Array has {len(sums)}")
    for (number, _, size, sha1), given in zip(parts, sums, strict=True):
        if sha1.removeprefix("unverified:") != given:
            raise Refusal(400, "part_sha1_mismatch", f"Part number {number} has different SHA1 than expected")
        if size < settings.min_part_size and number != len(parts):
            raise bad_request(f"Part number {number} is smaller than {settings.min_part_size} bytes")
    total = sum(part[2] for part in parts)
    if total > settings.max_file_size:
        raise bad_request(f"The file is larger than {settings.max_file_size} bytes")
    return int(total)


def cancel_large_file(call: Call) -> dict[str, Any]:
    """Give up a large file and its parts."""
    file_id = call.params.file_id("fileId")
    version = active_upload(call, file_id)
    bucket = call.service.buckets.numbered(version.bucket)
    remove_version(call, version)
    return {
        "fileId": file_id,
        "accountId": call.service.account_id,
        "bucketId": bucket.bucket_id,
        "fileName": version.name,
    }
