"""The seam to B2 without a wire: one key's view of an account in memory, for model tests.

Enforces the key as B2 does: capabilities, buckets, prefix, expiry. Trusted because it passes the contract
suite that the real adapter passes.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import trio

from b2mount.core.errors import (
    AccessDenied,
    InvalidArgument,
    KeyExpired,
    KeyForbids,
    NoSuchFile,
    NotPermitted,
    RefusedByB2,
    VersionGone,
)
from b2mount.core.grant import B2_NAMES, Capability, Grant
from b2mount.core.names import check_uploadable
from b2mount.store.memory_account import MAXIMUM_PART, MemoryB2, Stored, sha1_hex
from b2mount.store.store import (
    Action,
    Body,
    BucketRow,
    FileVersion,
    LockSettings,
    Page,
    PartRow,
    Progress,
    Retention,
)

MAX_ROWS = 10_000


def all_rights() -> Capability:
    """Return every capability there is."""
    rights = Capability(0)
    for capability in Capability:
        rights |= capability
    return rights


class MemoryStore:
    """Implements `store.Store` on a `MemoryB2`; several stores with different grants may share one."""

    def __init__(self, account: MemoryB2 | None = None, grant: Grant | None = None) -> None:
        self.account = account or MemoryB2()
        self._grant = grant or Grant(
            account_id="0123456789ab",
            capabilities=all_rights(),
            buckets=None,
            prefix="",
            expires_ms=None,
            absolute_minimum_part_size=self.account.minimum_part,
        )

    @property
    def grant(self) -> Grant:
        """What the key opens."""
        return self._grant

    async def _enter(
        self,
        call: str,
        needed: Capability | None,
        *,
        bucket_id: str | None = None,
        name: str | None = None,
        refusal: type[KeyForbids] = AccessDenied,
    ) -> None:
        """Begin a call: a point where trio may cancel, then what B2 checks first."""
        await trio.lowlevel.checkpoint()
        self.account.on_call(call)
        if self._grant.has_expired(self.account.now_ms()):
            raise KeyExpired("the application key has expired")
        if needed is not None and not self._grant.has(needed):
            raise refusal(f"the key lacks {B2_NAMES[needed]}")
        if bucket_id is not None and not self._grant.covers_bucket(bucket_id):
            raise refusal("the key is for other buckets")
        if name is not None and not self._grant.covers_name(name):
            raise refusal(f"{name}: outside the key's prefix")

    async def _enter_by_id(
        self,
        call: str,
        needed: Capability,
        file_id: str,
        refusal: type[KeyForbids] = AccessDenied,
    ) -> Stored:
        await self._enter(call, needed, refusal=refusal)
        found = self.account.stored(file_id)
        if not self._grant.covers_bucket(found.bucket_id) or not self._grant.covers_name(found.row.name):
            raise refusal(f"{file_id}: not for this key")
        return found

    async def authorize(self) -> Grant:
        """Return the grant. Raises KeyExpired."""
        await self._enter("b2_authorize_account", None)
        return self._grant

    # --- buckets ----------------------------------------------------------------------------------------

    async def list_buckets(self, *, bucket_id: str | None = None, name: str | None = None) -> list[BucketRow]:
        """List the buckets that the key can name."""
        grant = self._grant
        every = (bucket.row for bucket in self.account.buckets.values())
        rows = [row for row in every if grant.covers_bucket(row.bucket_id)]
        found = [row for row in rows if bucket_id in (None, row.bucket_id) and name in (None, row.name)]
        is_limited = grant.buckets is not None
        if is_limited and bucket_id is None and name is None and not grant.has(Capability.LIST_BUCKETS):
            return found
        await self._enter("b2_list_buckets", Capability.LIST_BUCKETS)
        if is_limited and not found:
            raise AccessDenied("the key is for other buckets")
        return sorted(found, key=lambda row: row.name)

    async def create_bucket(self, name: str) -> BucketRow:
        """Create a bucket."""
        await self._enter("b2_create_bucket", Capability.WRITE_BUCKETS)
        return self.account.create_bucket(name)

    async def delete_bucket(self, bucket_id: str) -> None:
        """Delete an empty bucket."""
        await self._enter("b2_delete_bucket", Capability.DELETE_BUCKETS, refusal=NotPermitted)
        self.account.delete_bucket(bucket_id)

    # --- listings ---------------------------------------------------------------------------------------

    async def list_names(
        self,
        bucket_id: str,
        prefix: str,
        *,
        start: str | None = None,
        delimiter: str | None = None,
        limit: int = 1000,
    ) -> Page:
        """List current files in byte order."""
        await self._enter("b2_list_file_names", Capability.LIST_FILES, bucket_id=bucket_id, name=prefix)
        bucket = self.account.bucket(bucket_id)
        rows = bucket.versions_from(max(start or "", prefix))
        visible = (row for row in rows if bucket.visible(row.name) is row)
        page, following = _page(_collapsed(visible, prefix, delimiter), limit)
        return Page(self._shown(page), following.name if following else None)

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
        """List every version, newest first within a name."""
        await self._enter("b2_list_file_versions", Capability.LIST_FILES, bucket_id=bucket_id, name=prefix)
        if start_id is not None and start is None:
            raise RefusedByB2("startFileId without startFileName")
        rows = self.account.bucket(bucket_id).versions_from(max(start or "", prefix))
        if start_id:
            rows = itertools.dropwhile(lambda row: row.name == start and row.file_id != start_id, rows)
        page, following = _page(_collapsed(rows, prefix, delimiter), limit)
        if following is None:
            return Page(self._shown(page), None)
        return Page(self._shown(page), following.name, following.file_id or None)

    async def list_unfinished(self, bucket_id: str, prefix: str) -> list[FileVersion]:
        """List all unfinished large files under *prefix*, oldest first."""
        await self._enter(
            "b2_list_unfinished_large_files", Capability.LIST_FILES, bucket_id=bucket_id, name=prefix
        )
        rows = self.account.bucket(bucket_id).versions_from(prefix)
        found = itertools.takewhile(lambda row: row.name.startswith(prefix), rows)
        started = (row for row in found if row.action is Action.START)
        return sorted(started, key=lambda row: row.uploaded_ms)

    def _shown(self, page: Iterable[FileVersion]) -> list[FileVersion]:
        return [self._as_the_key_sees(row) for row in page]

    def _as_the_key_sees(self, row: FileVersion) -> FileVersion:
        """Leave out of a row what the key may not read of it."""
        retention = row.retention if self._grant.has(Capability.READ_FILE_RETENTIONS) else None
        hold = row.legal_hold if self._grant.has(Capability.READ_FILE_LEGAL_HOLDS) else None
        if (retention, hold) == (row.retention, row.legal_hold):
            return row
        return replace(row, retention=retention, legal_hold=hold)

    # --- reading ----------------------------------------------------------------------------------------

    async def head(self, bucket_name: str, name: str) -> FileVersion:
        """Return the visible version of a name."""
        buckets = self.account.buckets.values()
        bucket = next((bucket for bucket in buckets if bucket.row.name == bucket_name), None)
        bucket_id = bucket.row.bucket_id if bucket is not None else None
        await self._enter("b2_download_file_by_name", Capability.READ_FILES, bucket_id=bucket_id, name=name)
        row = bucket.visible(name) if bucket is not None else None
        if row is None:
            raise NoSuchFile(f"{name}: no visible file has this name")
        return self._as_the_key_sees(row)

    async def get_info(self, file_id: str) -> FileVersion:
        """Return one version."""
        found = await self._enter_by_id("b2_get_file_info", Capability.READ_FILES, file_id)
        return self._as_the_key_sees(found.row)

    async def read_range(self, file_id: str, start: int, end: int) -> bytes:
        """Return bytes [start, end) of a version."""
        if end <= start:
            return b""
        found = await self._enter_by_id("b2_download_file_by_id", Capability.READ_FILES, file_id)
        return _slice(found, start, end)

    async def read_into(
        self, file_id: str, start: int, buffer: memoryview, arrived: Callable[[int], None], *, here: int = 0
    ) -> None:
        """Fill *buffer* with a version's bytes from *start* on."""
        buffer[here:] = await self.read_range(file_id, start + here, start + len(buffer))
        arrived(len(buffer))

    # --- writing ----------------------------------------------------------------------------------------

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
        """Add a version."""
        await self._enter("b2_upload_file", Capability.WRITE_FILES, bucket_id=bucket_id, name=name)
        check_uploadable(name)
        data = _read(body, progress)
        row = self.account.add(bucket_id, name, data, content_type=content_type, info=info, lock=lock)
        return self._as_the_key_sees(row)

    async def start_large(
        self,
        bucket_id: str,
        name: str,
        *,
        content_type: str,
        info: Mapping[str, str],
        lock: LockSettings | None = None,
    ) -> str:
        """Begin a large file."""
        await self._enter("b2_start_large_file", Capability.WRITE_FILES, bucket_id=bucket_id, name=name)
        check_uploadable(name)
        row = self.account.add(
            bucket_id, name, b"", action=Action.START, content_type=content_type, info=info, lock=lock
        )
        return row.file_id

    async def upload_part(
        self,
        file_id: str,
        number: int,
        body: Body,
        *,
        sha1: str | None = None,
        progress: Progress | None = None,
    ) -> PartRow:
        """Keep a part."""
        await self._enter_by_id("b2_upload_part", Capability.WRITE_FILES, file_id)
        return self.account.add_part(file_id, number, _read(body, progress))

    async def copy_part(self, source_id: str, start: int, end: int, file_id: str, number: int) -> PartRow:
        """Keep a part made of another file's bytes."""
        await self._enter_by_id("b2_copy_part", Capability.WRITE_FILES, file_id)
        source = await self._enter_by_id("b2_copy_part", Capability.READ_FILES, source_id)
        return self.account.add_part(file_id, number, _slice(source, start, end))

    async def finish_large(self, file_id: str, part_sha1s: Sequence[str]) -> FileVersion:
        """Make the file of its parts."""
        await self._enter_by_id("b2_finish_large_file", Capability.WRITE_FILES, file_id)
        return self._as_the_key_sees(self.account.finish(file_id, part_sha1s))

    async def cancel_large(self, file_id: str) -> None:
        """Drop an unfinished file; one that is gone already is no error."""
        try:
            await self._enter_by_id("b2_cancel_large_file", Capability.WRITE_FILES, file_id)
            self.account.cancel(file_id)
        except VersionGone:
            return

    async def list_parts(self, file_id: str) -> list[PartRow]:
        """List the parts that are kept."""
        await self._enter_by_id("b2_list_parts", Capability.WRITE_FILES, file_id)
        parts = self.account.unfinished(file_id).parts
        return [PartRow(number, len(parts[number]), sha1_hex(parts[number])) for number in sorted(parts)]

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
        """Add a version made of another one's bytes."""
        check_uploadable(name)
        if info is None and content_type is not None:
            raise InvalidArgument("a copy keeps both content type and file info, or replaces both")
        if end is not None and end <= start:
            raise InvalidArgument("a copy holds one byte at least, or the whole file")
        await self._enter("b2_copy_file", Capability.WRITE_FILES, bucket_id=bucket_id, name=name)
        source = await self._enter_by_id("b2_copy_file", Capability.READ_FILES, source_id)
        if source.row.action is not Action.UPLOAD:
            raise VersionGone(f"{source_id}: no bytes to copy")
        data = source.data if (start, end) == (0, None) else _slice(source, start, end or len(source.data))
        kept = info is None
        row = self.account.add(
            bucket_id,
            name,
            data,
            content_type=source.row.content_type if kept else content_type or "application/octet-stream",
            info=source.row.info if kept else info,
            lock=lock,
        )
        return self._as_the_key_sees(row)

    async def hide(self, bucket_id: str, name: str) -> FileVersion | None:
        """Hide a name; None where there was nothing to hide."""
        await self._enter(
            "b2_hide_file", Capability.WRITE_FILES, bucket_id=bucket_id, name=name, refusal=NotPermitted
        )
        return self.account.hide(bucket_id, name)

    async def delete_version(self, name: str, file_id: str, *, bypass_governance: bool = False) -> None:
        """Delete one version; one that is gone already is no error."""
        call = "b2_delete_file_version"
        try:
            await self._enter(call, Capability.DELETE_FILES, name=name, refusal=NotPermitted)
            await self._enter_by_id(call, Capability.DELETE_FILES, file_id, refusal=NotPermitted)
            self._may_bypass(bypass_governance)
            self.account.delete(name, file_id, bypass=bypass_governance)
        except VersionGone:
            return

    async def set_retention(
        self, name: str, file_id: str, retention: Retention | None, *, bypass_governance: bool = False
    ) -> None:
        """Set or remove retention."""
        call = "b2_update_file_retention"
        await self._enter_by_id(call, Capability.WRITE_FILE_RETENTIONS, file_id, refusal=NotPermitted)
        self._may_bypass(bypass_governance)
        self.account.set_retention(file_id, retention, bypass=bypass_governance)

    async def set_legal_hold(self, name: str, file_id: str, on: bool) -> None:
        """Set or lift a legal hold."""
        call = "b2_update_file_legal_hold"
        await self._enter_by_id(call, Capability.WRITE_FILE_LEGAL_HOLDS, file_id, refusal=NotPermitted)
        self.account.set_legal_hold(file_id, on)

    def _may_bypass(self, bypass: bool) -> None:
        if bypass and not self._grant.has(Capability.BYPASS_GOVERNANCE):
            raise NotPermitted("the key lacks bypassGovernance")

    async def aclose(self) -> None:
        """Nothing is held open."""
        await trio.lowlevel.checkpoint()


def _collapsed(rows: Iterable[FileVersion], prefix: str, delimiter: str | None) -> Iterator[FileVersion]:
    """Yield the rows under *prefix*; those with *delimiter* in the rest become one folder row."""
    folder: str | None = None
    for row in rows:
        if not row.name.startswith(prefix):
            return
        at = row.name.find(delimiter, len(prefix)) if delimiter else -1
        if at < 0:
            yield row
        elif row.name[: at + len(delimiter or "")] != folder:
            folder = row.name[: at + len(delimiter or "")]
            yield FileVersion(name=folder, file_id="", size=0, uploaded_ms=0, action=Action.FOLDER)


def _page(rows: Iterator[FileVersion], limit: int) -> tuple[list[FileVersion], FileVersion | None]:
    """Take *limit* rows, and the one after them."""
    page = list(itertools.islice(rows, min(max(limit, 1), MAX_ROWS)))
    return page, next(rows, None)


def _read(body: Body, progress: Progress | None) -> bytes:
    data = bytes(body.read_at(0, body.size))
    if len(data) != body.size or body.size > MAXIMUM_PART:
        raise InvalidArgument(f"{len(data)} of {body.size} bytes to send")
    if progress is not None:
        progress(len(data))
    return data


def _slice(stored: Stored, start: int, end: int) -> bytes:
    if stored.row.action is not Action.UPLOAD:
        raise VersionGone(f"{stored.row.file_id}: no bytes to read")
    if not 0 <= start < end <= len(stored.data):
        size = len(stored.data)
        raise InvalidArgument(f"{stored.row.file_id} has {size} bytes; {start} to {end} were asked for")
    return stored.data[start:end]
