"""File versions: their records, their IDs, and which version of a name is the visible one.

Order, here and in the database: newest first by timestamp, then by sequence number. A large file's
timestamp is its start. File IDs have B2's shape (Backblaze docs, "Files"); the last group carries the
milliseconds, so that an ID alone says where its version stands in a listing, also when the version is gone
by then.
"""

from __future__ import annotations

import calendar
import functools
import re
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from b2mount.emulator.buckets import Bucket, BucketStore
from b2mount.emulator.clock import now_ms
from b2mount.emulator.content import ContentStore
from b2mount.emulator.database import Database
from b2mount.emulator.encryption import Encryption, from_stored
from b2mount.emulator.errors import Refusal, bad_request
from b2mount.emulator.keys import Key
from b2mount.emulator.locks import UNLOCKED, Lock

UPLOAD, HIDE, START = "upload", "hide", "start"
SMALL, LARGE, MARKER = 1, 2, 4  # the digit after "f" in a file ID

EMPTY_SHA1 = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"
HIDE_TYPE = "application/x-bz-hide-marker"

COLUMNS = (
    "seq, bucket, name, stamp, action, kind, content_type, size, sha1, md5, info, sse,"
    " retention_mode, retain_until, hold"
)
_FILE_ID = re.compile(r"4_z([0-9a-f]{24})_f([124])([0-9a-f]{15})_d(\d{8})_m(\d{6})_c000_v0001000_t(\d{4})")


@dataclass(frozen=True, slots=True)
class FileId:
    """What a file ID says."""

    bucket_id: str
    seq: int
    stamp: int


class Version(NamedTuple):
    """One row of the history of a name (a tuple: listings make thousands at a time)."""

    seq: int
    bucket: int
    name: str
    stamp: int
    action: str
    kind: int
    content_type: str
    size: int = 0
    sha1: str | None = None
    md5: str | None = None
    info: str = "{}"  # JSON
    sse: str = ""
    lock: Lock = UNLOCKED

    @property
    def encryption(self) -> Encryption:
        """How the content is encrypted."""
        return from_stored(self.sse)


def parse_file_id(text: str) -> FileId | None:
    """Read a file ID; None when it cannot be one of ours."""
    match = _FILE_ID.fullmatch(text)
    if match is None:
        return None
    try:
        seconds = calendar.timegm(time.strptime(match[4] + match[5], "%Y%m%d%H%M%S"))
    except ValueError:
        return None
    return FileId(match[1], int(match[3], 16), seconds * 1000 + int(match[6]))


def format_file_id(bucket_id: str, kind: int, seq: int, stamp: int) -> str:
    """Write a file ID."""
    seconds, ms = divmod(stamp, 1000)
    return f"4_z{bucket_id}_f{kind}{seq:015x}_{_moment(seconds)}_c000_v0001000_t{ms:04}"


@functools.lru_cache(1024)
def _moment(seconds: int) -> str:
    t = time.gmtime(seconds)
    return f"d{t.tm_year:04}{t.tm_mon:02}{t.tm_mday:02}_m{t.tm_hour:02}{t.tm_min:02}{t.tm_sec:02}"


def version_from_row(row: tuple[Any, ...]) -> Version:
    """Make a Version of a row of COLUMNS."""
    seq, bucket, name, stamp, action, kind, content_type, size, sha1, md5, info, sse, mode, until, hold = row
    lock = UNLOCKED if mode is None and hold is None else Lock(mode, until, hold)
    return Version(
        seq, bucket, name.decode(), stamp, action, kind, content_type, size, sha1, md5, info, sse, lock
    )


_INSERT = f"INSERT INTO versions (current, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


def _values(version: Version, *, current: bool) -> tuple[Any, ...]:
    lock = version.lock
    name = version.name.encode()
    return (int(current), *version[:2], name, *version[3:12], lock.mode, lock.until, lock.hold)


class VersionStore:
    """All versions of all buckets. Writing methods belong inside a transaction."""

    def __init__(
        self, database: Database, account_id: str, buckets: BucketStore, content: ContentStore
    ) -> None:
        self._database = database
        self._account_id = account_id
        self._buckets = buckets
        self._content = content
        used = (("versions", "seq"), ("parts", "seq"), ("pieces", "owner"))
        greatest = max(database.greatest(table, column) for table, column in used)
        self._last_seq = max(greatest, int(database.meta("last_seq") or "0"))

    def new_seq(self) -> int:
        """Give the next sequence number, for a version or a part."""
        self._last_seq += 1
        return self._last_seq

    def file_id(self, version: Version) -> str:
        """Give a version's file ID."""
        bucket_id = self._buckets.numbered(version.bucket).bucket_id
        return format_file_id(bucket_id, version.kind, version.seq, version.stamp)

    def find(self, file_id: FileId) -> Version | None:
        """Find a version, finished or not."""
        row = self._database.execute(
            f"SELECT {COLUMNS} FROM versions WHERE seq = ?", (file_id.seq,)
        ).fetchone()
        if row is None:
            return None
        version = version_from_row(row)
        same_bucket = self._buckets.numbered(version.bucket).bucket_id == file_id.bucket_id
        return version if same_bucket and version.stamp == file_id.stamp else None

    def visible(self, bucket: Bucket, name: str) -> Version | None:
        """Find the version that a download by name gives; None when there is none or it is hidden."""
        row = self._database.execute(
            f"SELECT {COLUMNS} FROM versions WHERE bucket = ? AND name = ? AND current = 1",
            (bucket.num, name.encode()),
        ).fetchone()
        return None if row is None else version_from_row(row)

    def newest(self, bucket: Bucket, name: str) -> Version | None:
        """Find the newest finished version or hide marker of a name."""
        row = self._database.execute(
            f"SELECT {COLUMNS} FROM versions WHERE bucket = ? AND name = ? AND action != 'start'"
            " ORDER BY stamp DESC, seq DESC LIMIT 1",
            (bucket.num, name.encode()),
        ).fetchone()
        return None if row is None else version_from_row(row)

    def next_stamp(self, bucket: Bucket, name: str) -> int:
        """Give the timestamp of a new version of *name*: now, but later than every version there is."""
        newest = self.newest_stamp(bucket.num, name)
        return now_ms() if newest is None else max(now_ms(), newest + 1)

    def newest_stamp(self, bucket: int, name: str) -> int | None:
        """Give the timestamp of the newest version of a name, of whatever kind; None where there is none."""
        row = self._database.execute(
            "SELECT stamp FROM versions WHERE bucket = ? AND name = ? ORDER BY stamp DESC LIMIT 1",
            (bucket, name.encode()),
        ).fetchone()
        return None if row is None else int(row[0])

    def add(self, version: Version) -> None:
        """Record a new version and decide anew what is visible under its name."""
        alone = self.newest_stamp(version.bucket, version.name) is None
        self._database.execute(_INSERT, _values(version, current=alone and version.action == UPLOAD))
        if version.action != START and not alone:
            self.settle(version.bucket, version.name)

    def add_alone(self, versions: list[Version]) -> None:
        """Record files, each under a name of its own that has no other version: the caller knows."""
        self._database.executemany(_INSERT, [_values(version, current=True) for version in versions])

    def none_between(self, bucket: Bucket, first: bytes, last: bytes) -> bool:
        """Tell whether no name from *first* to *last* has any version."""
        query = "SELECT 1 FROM versions WHERE bucket = ? AND name BETWEEN ? AND ? LIMIT 1"
        return self._database.execute(query, (bucket.num, first, last)).fetchone() is None

    def finish(self, version: Version, size: int) -> None:
        """Make a large file that was started an ordinary version of *size* bytes."""
        self._database.execute(
            "UPDATE versions SET action = 'upload', size = ? WHERE seq = ?", (size, version.seq)
        )
        self.settle(version.bucket, version.name)

    def settle(self, bucket: int, name: str) -> None:
        """Mark the newest version of a name as visible if it is a file, and no other."""
        raw = name.encode()
        self._database.execute(
            "UPDATE versions SET current = 0 WHERE bucket = ? AND name = ? AND current = 1", (bucket, raw)
        )
        row = self._database.execute(
            "SELECT seq, action FROM versions WHERE bucket = ? AND name = ? AND action != 'start'"
            " ORDER BY stamp DESC, seq DESC LIMIT 1",
            (bucket, raw),
        ).fetchone()
        if row is not None and row[1] == UPLOAD:
            self._database.execute("UPDATE versions SET current = 1 WHERE seq = ?", (row[0],))

    def remove(self, version: Version) -> list[int]:
        """Delete a version with its parts and content; give the blobs to erase after the commit."""
        unused = self._content.detach(version.seq)
        if version.action == START:
            parts = self._database.execute("SELECT seq FROM parts WHERE file = ?", (version.seq,)).fetchall()
            for (part,) in parts:
                unused += self._content.detach(part)
            self._database.execute("DELETE FROM parts WHERE file = ?", (version.seq,))
        self._remember_seq()
        self._database.execute("DELETE FROM versions WHERE seq = ?", (version.seq,))
        self.settle(version.bucket, version.name)
        return unused

    def forget_all(self, bucket: Bucket) -> None:
        """Delete every version of a bucket; the caller has detached the content."""
        self._remember_seq()
        self._database.execute("DELETE FROM versions WHERE bucket = ?", (bucket.num,))

    def _remember_seq(self) -> None:
        # No number is given twice, also not when the newest version was deleted before a restart.
        self._database.remember("last_seq", str(self._last_seq))

    def set_lock(self, version: Version, lock: Lock) -> None:
        """Change how a version is held."""
        self._database.execute(
            "UPDATE versions SET retention_mode = ?, retain_until = ?, hold = ? WHERE seq = ?",
            (lock.mode, lock.until, lock.hold, version.seq),
        )

    def bucket_is_empty(self, bucket: Bucket) -> bool:
        """Tell whether no version, marker or unfinished file is left."""
        query = "SELECT 1 FROM versions WHERE bucket = ? LIMIT 1"
        return self._database.execute(query, (bucket.num,)).fetchone() is None

    def row(self, version: Version, key: Key) -> dict[str, Any]:
        """Give a version as the API shows it to *key*."""
        return self.row_shown(
            version, retention=key.may("readFileRetentions"), hold=key.may("readFileLegalHolds")
        )

    def row_shown(self, version: Version, *, retention: bool, hold: bool) -> dict[str, Any]:
        """Give a version as the API shows it; hide markers carry neither lock nor encryption fields."""
        bucket_id = self._buckets.numbered(version.bucket).bucket_id
        lock = version.lock
        row: dict[str, Any] = {
            "accountId": self._account_id,
            "action": version.action,
            "bucketId": bucket_id,
            "contentLength": version.size,
            "contentMd5": version.md5,
            "contentSha1": version.sha1,
            "contentType": version.content_type,
            "fileId": format_file_id(bucket_id, version.kind, version.seq, version.stamp),
            "fileInfo": orjson.loads(version.info) if version.info != "{}" else {},
            "fileName": version.name,
            "uploadTimestamp": version.stamp,
        }
        if version.action == HIDE:
            return row
        if lock is UNLOCKED and not version.sse:  # most rows: a million of them share three values
            row |= _plain_fields(retention, hold)
            return row
        value = {"mode": lock.mode, "retainUntilTimestamp": lock.until} if retention else None
        row["fileRetention"] = {"isClientAuthorizedToRead": retention, "value": value}
        row["legalHold"] = {"isClientAuthorizedToRead": hold, "value": lock.hold if hold else None}
        row["serverSideEncryption"] = version.encryption.row()
        return row


@functools.cache
def _plain_fields(retention: bool, hold: bool) -> dict[str, Any]:
    value = {"mode": None, "retainUntilTimestamp": None} if retention else None
    return {
        "fileRetention": {"isClientAuthorizedToRead": retention, "value": value},
        "legalHold": {"isClientAuthorizedToRead": hold, "value": None},
        "serverSideEncryption": from_stored("").row(),
    }


def check_custom_stamp(value: int | None, *, allowed: bool) -> int | None:
    """Check a custom upload timestamp: an account may use one only when Backblaze has enabled it."""
    if value is None:
        return None
    if not allowed:
        raise Refusal(400, "custom_timestamp_not_allowed", "Custom timestamps are not enabled")
    if not 0 <= value <= now_ms():
        raise Refusal(400, "custom_timestamp_invalid", "The custom timestamp must not lie in the future")
    return value


def need_file_id(text: str) -> FileId:
    """Read a file ID, or refuse."""
    parsed = parse_file_id(text)
    if parsed is None:
        raise bad_request(f"Bad file id: {text}")
    return parsed
