"""Makes versions at once, and removes whole buckets, past the rules of the API.

Seeded versions look if other programs had made them long ago or through the S3 API. The rules for the names
of uploads do not hold here: leading, trailing and doubled slashes, ".", "..", long segments and control
characters are what B2's S3 API lets in, and what a client of the native API meets in listings.
"""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import Any

from b2mount.emulator.buckets import Bucket
from b2mount.emulator.clock import now_ms
from b2mount.emulator.content import PATTERN_BLOB, PATTERN_PERIOD, Piece
from b2mount.emulator.errors import bad_request
from b2mount.emulator.names import MAX_NAME_BYTES
from b2mount.emulator.newfile import dump_info
from b2mount.emulator.service import Service
from b2mount.emulator.versions import (
    EMPTY_MD5,
    EMPTY_SHA1,
    HIDE,
    HIDE_TYPE,
    LARGE,
    MARKER,
    SMALL,
    UPLOAD,
    Version,
)

_BATCH = 2000
MAX_HASHED_BYTES = 100_000_000  # beyond, the SHA-1 is "none", as that of a large file


async def seed(service: Service, values: dict[str, Any]) -> dict[str, Any]:
    """Make the versions that *values* ask for; let other requests in between batches."""
    files = _from_pattern(values) if "pattern" in values else iter(values.get("files") or ())
    _bucket(service, values)
    made = 0
    while batch := list(islice(files, _BATCH)):
        bucket = _bucket(service, values)  # it may have gone since the last batch
        with service.database.transaction():
            _make_batch(service, bucket, batch)
        made += len(batch)
        await asyncio.sleep(0)
    return {"made": made}


def _make_batch(service: Service, bucket: Bucket, batch: list[dict[str, Any]]) -> None:
    names = sorted(_name(file) for file in batch)
    # One question instead of one for each name: the usual case, and half of the time a million names take.
    are_alone = len(set(names)) == len(names) and all(file.get("action", UPLOAD) == UPLOAD for file in batch)
    if are_alone and service.versions.none_between(bucket, names[0], names[-1]):
        stamp = now_ms()
        service.versions.add_alone([_make(service, bucket, file, stamp) for file in batch])
        return
    for file in batch:
        service.versions.add(_make(service, bucket, file, service.versions.next_stamp(bucket, file["name"])))


def _name(file: dict[str, Any]) -> bytes:
    name: bytes = file["name"].encode()
    if not 0 < len(name) <= MAX_NAME_BYTES:
        raise bad_request("a name has 1 to 1024 bytes")
    return name


def _bucket(service: Service, values: dict[str, Any]) -> Bucket:
    bucket = service.buckets.named(str(values.get("bucket")))
    if bucket is None:
        raise bad_request("no such bucket")
    return bucket


def wipe(service: Service, values: dict[str, Any]) -> None:
    """Remove a bucket with every version in it, held by a lock or not."""
    bucket, database = _bucket(service, values), service.database
    owners = (
        "SELECT seq FROM versions WHERE bucket = ?1 UNION ALL SELECT parts.seq FROM parts"
        " JOIN versions ON parts.file = versions.seq WHERE versions.bucket = ?1"
    )
    holders = database.execute(
        f"SELECT DISTINCT owner FROM pieces WHERE owner IN ({owners})", (bucket.num,)
    ).fetchall()
    unused: list[int] = []
    with database.transaction():
        for (owner,) in holders:
            unused += service.content.detach(owner)
        database.execute(
            "DELETE FROM parts WHERE file IN (SELECT seq FROM versions WHERE bucket = ?)", (bucket.num,)
        )
        service.versions.forget_all(bucket)
        service.buckets.delete(bucket)
    service.content.erase(unused)


def _from_pattern(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    pattern, count = values["pattern"], values.get("count")
    if not isinstance(pattern, str) or type(count) is not int:
        raise bad_request("a pattern needs a count")
    rest: dict[str, Any] = {
        name: values[name] for name in ("size", "info", "content_type", "uploaded_ms") if name in values
    }
    return ({"name": pattern % number, **rest} for number in range(count))


def _make(service: Service, bucket: Bucket, file: dict[str, Any], stamp: int) -> Version:
    name = file["name"]
    if file.get("uploaded_ms") is not None:
        stamp = min(int(file["uploaded_ms"]), now_ms())
    if file.get("action", UPLOAD) == HIDE:
        seq = service.versions.new_seq()
        return Version(seq, bucket.num, name, stamp, HIDE, MARKER, HIDE_TYPE, sha1=EMPTY_SHA1, md5=EMPTY_MD5)
    pieces, size, sha1, md5 = _content(service, name, file)
    version = Version(
        seq=service.versions.new_seq(),
        bucket=bucket.num,
        name=name,
        stamp=stamp,
        action=UPLOAD,
        kind=LARGE if sha1 == "none" else SMALL,
        content_type=file.get("content_type") or "application/octet-stream",
        size=size,
        sha1=sha1,
        md5=md5,
        info=dump_info(file.get("info") or {}),
    )
    service.content.attach(version.seq, pieces)
    return version


def _content(service: Service, name: str, file: dict[str, Any]) -> tuple[list[Piece], int, str, str | None]:
    if "content" in file:
        data = str(file["content"]).encode()
        sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        return service.content.keep_bytes(data), len(data), sha1, md5
    size = int(file.get("size") or 0)
    if size == 0:
        return [], 0, EMPTY_SHA1, EMPTY_MD5
    # Each name starts elsewhere in the pattern, so that one file's bytes in place of another's show.
    pieces = [Piece(0, PATTERN_BLOB, zlib.crc32(name.encode()) % PATTERN_PERIOD, size)]
    if size > MAX_HASHED_BYTES:
        return pieces, size, "none", None
    digest = hashlib.sha1(usedforsecurity=False)
    for chunk in service.content.read(pieces):
        digest.update(chunk)
    return pieces, size, digest.hexdigest(), None
