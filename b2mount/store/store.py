"""The seam to B2: what the file system may ask of an object store, in its own words.

Adapters: `b2.py` (the real thing, over b2sdk) and `memory.py` (for model tests); both pass the one contract
suite in tests/contract. Everything raises the errors of core/errors.py and nothing else. Every call may be
cancelled; a cancelled read is abandoned, a cancelled change may or may not have happened.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from b2mount.core.grant import Grant


class Action(enum.Enum):
    """What a row of a listing is. Anything B2 may add later is read as UPLOAD (a file)."""

    UPLOAD = "upload"
    HIDE = "hide"
    START = "start"  # an unfinished large file
    FOLDER = "folder"  # names collapsed at the delimiter


@dataclass(frozen=True, slots=True)
class Retention:
    """Object Lock retention of a version."""

    mode: str  # "governance" | "compliance"
    until_ms: int  # milliseconds since the epoch


@dataclass(frozen=True, slots=True)
class FileVersion:
    """One row about a file version, as any of B2's calls gives it.

    `sha1` is the whole file's SHA-1 in hex where B2 or the uploader's `large_file_sha1` tells it, else None.
    `retention` and `legal_hold` are None where there is none or the key may not read them.
    """

    name: str
    file_id: str  # "" for FOLDER rows
    size: int  # bytes
    uploaded_ms: int
    action: Action = Action.UPLOAD
    sha1: str | None = None
    content_type: str = ""
    info: Mapping[str, str] = field(default_factory=dict)
    retention: Retention | None = None
    legal_hold: bool | None = None

    def is_held(self, now_ms: int, *, bypass: bool) -> bool:
        """Say whether Object Lock, as far as told, keeps the version from being deleted.

        *bypass* is that of governance; a legal hold and compliance give way to nothing.
        """
        if self.legal_hold:
            return True
        if self.retention is None or self.retention.until_ms <= now_ms:
            return False
        return not (bypass and self.retention.mode == "governance")


@dataclass(frozen=True, slots=True)
class Page:
    """One reply of a list call; `next_name`/`next_id` are passed back verbatim for the following one."""

    rows: Sequence[FileVersion]
    next_name: str | None
    next_id: str | None = None  # versions only


@dataclass(frozen=True, slots=True)
class BucketRow:
    """A bucket that the key can name."""

    bucket_id: str
    name: str
    lock_enabled: bool = False


@dataclass(frozen=True, slots=True)
class PartRow:
    """A part that B2 holds of an unfinished large file."""

    number: int
    size: int
    sha1: str


@dataclass(frozen=True, slots=True)
class LockSettings:
    """Retention and legal hold to be set with an upload or a copy."""

    retention: Retention | None = None
    legal_hold: bool | None = None


class Body(Protocol):
    """Bytes to send: `size` of them, readable again from any offset for a retry. Called in a thread."""

    @property
    def size(self) -> int: ...

    def read_at(self, offset: int, size: int) -> bytes | memoryview:
        """Return up to *size* bytes from *offset*; fewer only at the end."""


Progress = Callable[[int], None]  # bytes sent since the last call; called from worker threads


class Store(Protocol):
    """One application key's way to B2."""

    @property
    def grant(self) -> Grant:
        """What the key opens, as of the last authorization."""

    async def authorize(self) -> Grant:
        """Authorize (again). Raises KeyExpired, KeyRevoked, KeyRejected, B2Unavailable, CapReached."""

    async def list_buckets(
        self, *, bucket_id: str | None = None, name: str | None = None
    ) -> list[BucketRow]: ...

    async def list_names(
        self,
        bucket_id: str,
        prefix: str,
        *,
        start: str | None = None,
        delimiter: str | None = None,
        limit: int = 1000,
    ) -> Page:
        """List current files in byte order. *limit* rows at most (B2 bills one class C call per 1000)."""

    async def list_versions(
        self,
        bucket_id: str,
        prefix: str,
        *,
        start: str | None = None,
        start_id: str | None = None,
        delimiter: str | None = None,
        limit: int = 1000,
    ) -> Page:
        """List every version, hide markers and unfinished files included; newest first within a name."""

    async def head(self, bucket_name: str, name: str) -> FileVersion:
        """Ask for the visible version of a name by a HEAD request (class B). Raises NoSuchFile."""

    async def get_info(self, file_id: str) -> FileVersion: ...

    async def read_range(self, file_id: str, start: int, end: int) -> bytes | bytearray:
        """Fetch bytes [start, end) of a version, exactly; end may not pass its size. Raises VersionGone.

        The buffer is the caller's own; it is not copied into bytes, which would cost a fifth of the time.
        """

    async def read_into(
        self, file_id: str, start: int, buffer: memoryview, arrived: Callable[[int], None], *, here: int = 0
    ) -> None:
        """Fill *buffer* with a version's bytes from *start* on, as `read_range` would return them.

        Its first *here* bytes are there already, and are checked with the others, but not fetched.

        *arrived* is called, from any thread, with how many bytes at the buffer's start are there; with 0,
        where that can be told, once the request has gone out. A whole file is checked against the SHA-1 that
        came with it only once all of it has arrived. After a cancel the bytes that were on their way, and no
        others, may still be written.
        """

    async def upload(
        self,
        bucket_id: str,
        name: str,
        body: Body,
        *,
        content_type: str,
        info: Mapping[str, str],
        sha1: str | None = None,
        lock: LockSettings | None = None,
        progress: Progress | None = None,
    ) -> FileVersion:
        """Upload a whole file in one request. *sha1* in hex if known, else it is computed from the body."""

    async def start_large(
        self,
        bucket_id: str,
        name: str,
        *,
        content_type: str,
        info: Mapping[str, str],
        lock: LockSettings | None = None,
    ) -> str:
        """Begin a large file; return its file ID."""

    async def upload_part(
        self,
        file_id: str,
        number: int,
        body: Body,
        *,
        sha1: str | None = None,
        progress: Progress | None = None,
    ) -> PartRow: ...

    async def copy_part(self, source_id: str, start: int, end: int, file_id: str, number: int) -> PartRow:
        """Make part *number* of *file_id* from bytes [start, end) of *source_id*, inside B2."""

    async def finish_large(self, file_id: str, part_sha1s: Sequence[str]) -> FileVersion: ...

    async def cancel_large(self, file_id: str) -> None:
        """Cancel; a file that is gone already is no error."""

    async def list_parts(self, file_id: str) -> list[PartRow]: ...

    async def list_unfinished(self, bucket_id: str, prefix: str) -> list[FileVersion]: ...

    async def copy_file(
        self,
        source_id: str,
        bucket_id: str,
        name: str,
        *,
        content_type: str | None = None,
        info: Mapping[str, str] | None = None,
        start: int = 0,
        end: int | None = None,
        lock: LockSettings | None = None,
    ) -> FileVersion:
        """Copy up to 5 GB inside B2. With *info* (and *content_type*) the metadata is replaced, else kept."""

    async def hide(self, bucket_id: str, name: str) -> FileVersion | None:
        """Hide a name; None where there was nothing to hide."""

    async def delete_version(self, name: str, file_id: str, *, bypass_governance: bool = False) -> None:
        """Delete one version for good; one that is gone already is no error. Raises HeldByLock."""

    async def set_retention(
        self, name: str, file_id: str, retention: Retention | None, *, bypass_governance: bool = False
    ) -> None: ...

    async def set_legal_hold(self, name: str, file_id: str, on: bool) -> None: ...

    async def create_bucket(self, name: str) -> BucketRow: ...

    async def delete_bucket(self, bucket_id: str) -> None: ...

    async def aclose(self) -> None:
        """End threads and connections."""
