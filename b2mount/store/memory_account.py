"""An account of B2 held in memory: buckets, versions, unfinished files and Object Lock, for model tests.

Knows no keys: memory.py enforces those. Raises the errors that core/replies.py makes of B2's answers.
"""

import bisect
import hashlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from b2mount.core.errors import (
    AlreadyExists,
    DataCorrupt,
    DirectoryNotEmpty,
    HeldByLock,
    InvalidArgument,
    NoSuchFile,
    NotSupported,
    RefusedByB2,
    VersionGone,
)
from b2mount.store.rows import whole_sha1
from b2mount.store.store import Action, BucketRow, FileVersion, LockSettings, PartRow, Retention

MAXIMUM_PART = 5_000_000_000  # bytes; Backblaze docs, "Large Files"


def sha1_hex(data: bytes) -> str:
    """Return the SHA-1 of *data* in hex."""
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


@dataclass(slots=True)
class Stored:
    """A version with its bytes, or an unfinished large file with its parts."""

    row: FileVersion
    bucket_id: str
    data: bytes = b""
    parts: dict[int, bytes] = field(default_factory=dict)


class Bucket:
    """One bucket's rows: by name in byte order, newest first within a name."""

    def __init__(self, row: BucketRow) -> None:
        self.row = row
        self._names: list[str] = []  # sorted by code point, which is the byte order of UTF-8
        self._rows: dict[str, list[FileVersion]] = {}

    def add(self, row: FileVersion) -> None:
        """Add a version; a finished large file takes the place of its start time."""
        versions = self._rows.get(row.name)
        if versions is None:
            versions = self._rows[row.name] = []
            bisect.insort(self._names, row.name)
        versions.append(row)
        versions.sort(key=lambda version: version.uploaded_ms, reverse=True)

    def remove(self, row: FileVersion) -> None:
        """Remove a version."""
        versions = self._rows[row.name]
        versions[:] = [version for version in versions if version.file_id != row.file_id]
        if not versions:
            del self._rows[row.name]
            del self._names[bisect.bisect_left(self._names, row.name)]

    def visible(self, name: str) -> FileVersion | None:
        """Return the version that the name shows; None where there is none or it is hidden."""
        for row in self._rows.get(name, ()):
            if row.action is not Action.START:
                return row if row.action is Action.UPLOAD else None
        return None

    def versions_from(self, name: str) -> Iterator[FileVersion]:
        """Yield all rows of this name and those after it."""
        for index in range(bisect.bisect_left(self._names, name), len(self._names)):
            yield from self._rows[self._names[index]]

    @property
    def is_empty(self) -> bool:
        """Whether no version is left."""
        return not self._names


class MemoryB2:
    """One account. `on_call` is told the name of each call before it is made, and may raise instead of it."""

    def __init__(
        self,
        *,
        minimum_part: int = 5_000_000,
        now_ms: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self.minimum_part = minimum_part  # bytes
        self.on_call: Callable[[str], None] = lambda call: None
        self.buckets: dict[str, Bucket] = {}
        self.files: dict[str, Stored] = {}
        self.now_ms = now_ms
        self._last_ms = 0
        self._numbers = itertools.count(1)

    # --- buckets ----------------------------------------------------------------------------------------

    def create_bucket(self, name: str, *, lock_enabled: bool = False) -> BucketRow:
        """Make a bucket. Raises AlreadyExists."""
        if any(bucket.row.name == name for bucket in self.buckets.values()):
            raise AlreadyExists(f"{name}: the bucket name is taken")
        row = BucketRow(f"{next(self._numbers):024x}", name, lock_enabled)
        self.buckets[row.bucket_id] = Bucket(row)
        return row

    def delete_bucket(self, bucket_id: str) -> None:
        """Delete an empty bucket. Raises DirectoryNotEmpty."""
        if not self.bucket(bucket_id).is_empty:
            raise DirectoryNotEmpty(f"{bucket_id}: the bucket still holds file versions")
        del self.buckets[bucket_id]

    def bucket(self, bucket_id: str) -> Bucket:
        """Return a bucket. Raises NoSuchFile."""
        found = self.buckets.get(bucket_id)
        if found is None:
            raise NoSuchFile(f"{bucket_id}: the bucket is gone")
        return found

    # --- versions ---------------------------------------------------------------------------------------

    def stored(self, file_id: str) -> Stored:
        """Return a version or unfinished file. Raises VersionGone."""
        found = self.files.get(file_id)
        if found is None:
            raise VersionGone(f"{file_id}: the file version is gone")
        return found

    def unfinished(self, file_id: str) -> Stored:
        """Return an unfinished file. Raises VersionGone."""
        found = self.stored(file_id)
        if found.row.action is not Action.START:
            raise VersionGone(f"{file_id}: the large file is finished")
        return found

    def add(
        self,
        bucket_id: str,
        name: str,
        data: bytes,
        *,
        action: Action = Action.UPLOAD,
        content_type: str = "",
        info: Mapping[str, str] | None = None,
        lock: LockSettings | None = None,
    ) -> FileVersion:
        """Add a version made now."""
        bucket = self.bucket(bucket_id)
        lock = lock or LockSettings()
        if (lock.retention or lock.legal_hold is not None) and not bucket.row.lock_enabled:
            raise NotSupported(f"{name}: the bucket has no Object Lock")
        told = {key.lower(): value for key, value in (info or {}).items()}
        sha1 = {Action.UPLOAD: sha1_hex(data), Action.START: whole_sha1(None, told)}
        row = FileVersion(
            name=name,
            file_id=f"4_z{bucket_id}_f{next(self._numbers):016x}",
            size=len(data),
            uploaded_ms=self._moment(),
            action=action,
            sha1=sha1.get(action),
            content_type=content_type,
            info=told,
            retention=lock.retention,
            legal_hold=lock.legal_hold,
        )
        self.files[row.file_id] = Stored(row, bucket_id, data)
        bucket.add(row)
        return row

    def hide(self, bucket_id: str, name: str) -> FileVersion | None:
        """Add a hide marker; None where nothing is to be hidden."""
        if self.bucket(bucket_id).visible(name) is None:
            return None
        return self.add(bucket_id, name, b"", action=Action.HIDE, content_type="application/x-bz-hide-marker")

    def delete(self, name: str, file_id: str, *, bypass: bool) -> None:
        """Delete one version. Raises VersionGone, HeldByLock."""
        found = self.stored(file_id)
        if found.row.name != name:
            raise VersionGone(f"{name}: the file version is gone")
        if self.is_held(found.row, bypass=bypass):
            raise HeldByLock(f"{name}: held by Object Lock")
        self.bucket(found.bucket_id).remove(found.row)
        del self.files[file_id]

    def is_held(self, row: FileVersion, *, bypass: bool) -> bool:
        """Say whether Object Lock keeps the version."""
        if row.legal_hold:
            return True
        if row.retention is None or row.retention.until_ms <= self.now_ms():
            return False
        return not (bypass and row.retention.mode == "governance")

    def set_retention(self, file_id: str, retention: Retention | None, *, bypass: bool) -> None:
        """Set retention; only *bypass* shortens or removes governance, and nothing does compliance."""
        found = self._lockable(file_id)
        now = found.row.retention
        shorter = now is not None and (retention is None or retention.until_ms < now.until_ms)
        if shorter and self.is_held(replace(found.row, legal_hold=None), bypass=bypass):
            raise HeldByLock(f"{found.row.name}: held by Object Lock")
        if retention is not None and retention.until_ms <= self.now_ms():
            raise InvalidArgument(f"{found.row.name}: retention must end in the future")
        self._replace(found, replace(found.row, retention=retention))

    def set_legal_hold(self, file_id: str, on: bool) -> None:
        """Set or lift a legal hold."""
        found = self._lockable(file_id)
        self._replace(found, replace(found.row, legal_hold=on))

    def _lockable(self, file_id: str) -> Stored:
        found = self.stored(file_id)
        if not self.bucket(found.bucket_id).row.lock_enabled:
            raise NotSupported(f"{found.row.name}: the bucket has no Object Lock")
        return found

    def _replace(self, stored: Stored, row: FileVersion) -> None:
        bucket = self.bucket(stored.bucket_id)
        bucket.remove(stored.row)
        stored.row = row
        bucket.add(row)

    # --- large files ------------------------------------------------------------------------------------

    def add_part(self, file_id: str, number: int, data: bytes) -> PartRow:
        """Keep a part; the same number again replaces it."""
        if not 1 <= number <= 10_000:
            raise InvalidArgument(f"part {number}: parts have numbers from 1 to 10,000")
        self.unfinished(file_id).parts[number] = data
        return PartRow(number, len(data), sha1_hex(data))

    def finish(self, file_id: str, part_sha1s: Sequence[str]) -> FileVersion:
        """Make the file of its parts; it keeps the time at which it was started."""
        found = self.unfinished(file_id)
        if len(part_sha1s) < 2:
            raise RefusedByB2(f"{found.row.name}: large files must have at least 2 parts")
        for number, sha1 in enumerate(part_sha1s, 1):
            part = found.parts.get(number)
            if part is None:
                raise RefusedByB2(f"{found.row.name}: part {number} is missing")
            if sha1_hex(part) != sha1:
                raise DataCorrupt(f"{found.row.name}: part {number} is not what was sent")
            if len(part) < self.minimum_part and number < len(part_sha1s):
                raise RefusedByB2(f"{found.row.name}: part {number} is too small")
        found.data = b"".join(found.parts[number] for number in range(1, len(part_sha1s) + 1))
        found.parts.clear()
        self._replace(found, replace(found.row, action=Action.UPLOAD, size=len(found.data)))
        return found.row

    def cancel(self, file_id: str) -> None:
        """Drop an unfinished file."""
        found = self.unfinished(file_id)
        self.bucket(found.bucket_id).remove(found.row)
        del self.files[file_id]

    def _moment(self) -> int:
        """Return the time, later than any before, so that order is plain."""
        self._last_ms = max(self.now_ms(), self._last_ms + 1)
        return self._last_ms
