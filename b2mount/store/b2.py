"""The seam to B2 over b2sdk's raw API: the only module that imports b2sdk.

b2sdk forms the requests (URLs, headers, parameters); sending, reading and counting them is transport.py's and
wire.py's matter, the authorization is authorization.py's, and retries are retry.py's: each call here sends
its request once, or twice where B2 asks for a new authorization. Blocking work runs in trio's threads.
b2sdk.v3, its public door, imports all that syncs and requests besides, which takes longer than all of ours:
the modules behind it are named instead, as the version is exact.
"""

from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPMessage
from typing import Any, Unpack
from urllib.parse import quote

import trio
from b2sdk._internal.file_lock import (  # type: ignore[import-untyped]  # b2sdk ships no types
    FileRetentionSetting,
    LegalHold,
    RetentionMode,
)
from b2sdk._internal.raw_api import B2RawHTTPApi, MetadataDirectiveMode  # type: ignore[import-untyped]

from b2mount.core.errors import InvalidArgument, NoSuchFile, VersionGone
from b2mount.core.grant import Capability, Grant
from b2mount.core.names import check_uploadable
from b2mount.core.replies import Fault
from b2mount.store import rows
from b2mount.store.authorization import Access
from b2mount.store.bodies import prepared
from b2mount.store.caller import Caller, CallerOptions, code_behind
from b2mount.store.counting import Counters
from b2mount.store.deadline import bytes_copied, copying
from b2mount.store.early import KeyPair
from b2mount.store.ranges import check_range
from b2mount.store.store import (
    Body,
    BucketRow,
    FileVersion,
    LockSettings,
    Page,
    PartRow,
    Progress,
    Retention,
)
from b2mount.store.threads import check_cancelled
from b2mount.store.transport import Transport
from b2mount.store.upload_urls import UploadUrl

MAX_ROWS = 10_000  # of a list call; Backblaze docs, b2_list_file_names
FINISHED_AS_COPIED = 400_000  # bytes of a copy whose time each part of a file to be finished has; a guess


class B2Store:
    """Implements `store.Store` over HTTP."""

    def __init__(self, credentials: KeyPair, **options: Unpack[CallerOptions]) -> None:
        self._caller = Caller(B2RawHTTPApi, credentials, **options)
        self._call = self._caller.call

    @property
    def counters(self) -> Counters:
        """What was sent, and what it costs."""
        return self._caller.counters

    @property
    def grant(self) -> Grant:
        """What the key opens. Raises RuntimeError before the first authorization."""
        return self._caller.grant

    async def authorize(self) -> Grant:
        """Authorize (again), also where B2 refused the key a moment ago."""
        return await self._caller.authorize()

    @property
    def caller(self) -> Caller:
        """Who makes the calls, and owns the key."""
        return self._caller

    def server_ms(self) -> int:
        """Return B2's time in milliseconds since the epoch, as far as known."""
        return self._caller.server_ms()

    # --- buckets ----------------------------------------------------------------------------------------

    async def list_buckets(self, *, bucket_id: str | None = None, name: str | None = None) -> list[BucketRow]:
        """List the buckets that the key can name; asks for each by its id where the key is limited."""
        access = await self._caller.current()
        allowed = access.grant.buckets
        if bucket_id is not None or name is not None or allowed is None:
            return await self._ask_buckets(bucket_id, name)
        if not access.grant.has(Capability.LIST_BUCKETS):
            return [BucketRow(row.bucket_id, row.name) for row in allowed if row.name is not None]
        found: list[BucketRow] = []
        for row in allowed:
            found += await self._ask_buckets(row.bucket_id, None)
        return found

    async def _ask_buckets(self, bucket_id: str | None, name: str | None) -> list[BucketRow]:
        def work(raw: Any, access: Access, _: Transport) -> list[BucketRow]:
            reply = raw.list_buckets(access.api_url, access.token, access.grant.account_id, bucket_id, name)
            return [rows.bucket(row) for row in reply["buckets"]]

        return await self._call("b2_list_buckets", name or bucket_id or "", work, abandon=True)

    async def create_bucket(self, name: str) -> BucketRow:
        """Create a private bucket."""

        def work(raw: Any, access: Access, _: Transport) -> BucketRow:
            account = access.grant.account_id
            return rows.bucket(raw.create_bucket(access.api_url, access.token, account, name, "allPrivate"))

        return await self._call("b2_create_bucket", name, work)

    async def delete_bucket(self, bucket_id: str) -> None:
        """Delete an empty bucket. Raises DirectoryNotEmpty."""

        def work(raw: Any, access: Access, _: Transport) -> None:
            raw.delete_bucket(access.api_url, access.token, access.grant.account_id, bucket_id)

        await self._call("b2_delete_bucket", bucket_id, work)

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
        """List current files in byte order, 10,000 at most."""
        return await self._list(
            "b2_list_file_names",
            prefix,
            bucketId=bucket_id,
            prefix=prefix,
            startFileName=start,
            delimiter=delimiter,
            maxFileCount=_row_limit(limit),
        )

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
        """List every version, newest first within a name, 10,000 at most."""
        return await self._list(
            "b2_list_file_versions",
            prefix,
            bucketId=bucket_id,
            prefix=prefix,
            startFileName=start,
            startFileId=start_id,
            delimiter=delimiter,
            maxFileCount=_row_limit(limit),
        )

    async def list_unfinished(self, bucket_id: str, prefix: str) -> list[FileVersion]:
        """List all unfinished large files under *prefix*; B2 gives 100 a call."""
        found: list[FileVersion] = []
        start: str | None = None
        while True:
            page = await self._list(
                "b2_list_unfinished_large_files",
                prefix,
                bucketId=bucket_id,
                namePrefix=prefix,
                startFileId=start,
                maxFileCount=100,
            )
            found += page.rows
            start = page.next_id
            if start is None:
                return found

    async def _list(self, call: str, target: str, **parameters: str | int | None) -> Page:
        def work(raw: Any, access: Access, _: Transport) -> Page:
            # b2sdk's own list calls know no delimiter
            reply = raw._post_json(access.api_url, call, access.token, **parameters)
            page = rows.page(reply)
            self.counters.listed(call, len(page.rows))
            return page

        return await self._call(call, target, work, abandon=True)

    # --- reading ----------------------------------------------------------------------------------------

    async def head(self, bucket_name: str, name: str) -> FileVersion:
        """Ask for the visible version of a name. Raises NoSuchFile."""

        def work(raw: Any, access: Access, transport: Transport) -> FileVersion:
            headers = raw.get_file_info_by_name(access.download_url, access.token, bucket_name, name)
            version = rows.from_headers(name, headers)
            if version is None:
                raise transport.failed(Fault.ODD_REPLY, "headers are missing")
            return version

        return await self._call("b2_download_file_by_name", name, work, abandon=True)

    async def get_info(self, file_id: str) -> FileVersion:
        """Ask for one version by its id. Raises VersionGone."""

        def work(raw: Any, access: Access, transport: Transport) -> FileVersion:
            return _version(raw.get_file_info_by_id(access.api_url, access.token, file_id), transport)

        return await self._call("b2_get_file_info", file_id, work, abandon=True)

    async def read_range(self, file_id: str, start: int, end: int) -> bytes | bytearray:
        """Fetch bytes [start, end) of a version, exactly. Raises VersionGone."""
        buffer = bytearray(max(end - start, 0))
        if buffer:
            await self.read_into(file_id, start, memoryview(buffer), lambda _: None)
        return buffer

    async def read_into(
        self, file_id: str, start: int, buffer: memoryview, arrived: Callable[[int], None], *, here: int = 0
    ) -> None:
        """Fill *buffer* with a version's bytes from *start* on. Raises VersionGone."""
        first, end = start + here, start + len(buffer)

        def work(raw: Any, access: Access, transport: Transport) -> None:
            at = here

            def vet(status: int, headers: HTTPMessage) -> bool:
                return check_range(transport, status, headers, file_id, first, end)

            def progress(count: int) -> None:
                nonlocal at
                at += count
                arrived(at)

            url = raw.get_download_url_by_id(access.download_url, quote(file_id, safe=""))
            headers = {"Authorization": access.token, "Range": f"bytes={first}-{end - 1}"}
            answer = transport.get_into(url, headers, buffer, here, vet=vet, progress=progress)
            if answer.filled != end - first:
                raise transport.failed(Fault.TRUNCATED, f"{answer.filled} of {end - first} bytes came")

        await self._call(
            "b2_download_file_by_id",
            file_id,
            work,
            abandon=True,
            limiter=self._caller.download_limit,
            limits=self._caller.download_limits,
        )

    # --- uploading --------------------------------------------------------------------------------------

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
        """Upload a whole file in one request; its SHA-1 is computed first if not given."""

        def work(raw: Any, url: UploadUrl, transport: Transport) -> FileVersion:
            data, digest = prepared(body, sha1, check_cancelled)
            arguments = (name, body.size, content_type, digest, dict(info), data)
            row = raw.upload_file(url.url, url.token, *arguments, **_lock_arguments(lock))
            _check_stored(row, digest, body.size, transport)
            return _version(row, transport)

        check_uploadable(name)
        return await self._caller.upload("b2_upload_file", bucket_id, name, work, progress)

    async def upload_part(
        self,
        file_id: str,
        number: int,
        body: Body,
        *,
        sha1: str | None = None,
        progress: Progress | None = None,
    ) -> PartRow:
        """Upload one part of a large file; the same number again replaces it."""

        def work(raw: Any, url: UploadUrl, transport: Transport) -> PartRow:
            data, digest = prepared(body, sha1, check_cancelled)
            row = raw.upload_part(url.url, url.token, number, body.size, digest, data)
            _check_stored(row, digest, body.size, transport)
            return rows.part(row)

        return await self._caller.upload(
            "b2_upload_part", file_id, f"part {number} of {file_id}", work, progress
        )

    # --- large files ------------------------------------------------------------------------------------

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

        def work(raw: Any, access: Access, transport: Transport) -> str:
            row = raw.start_large_file(
                access.api_url,
                access.token,
                bucket_id,
                name,
                content_type,
                dict(info),
                **_lock_arguments(lock),
            )
            return _version(row, transport).file_id

        check_uploadable(name)
        return await self._call("b2_start_large_file", name, work)

    async def copy_part(self, source_id: str, start: int, end: int, file_id: str, number: int) -> PartRow:
        """Make a part from bytes [start, end) of *source_id*, inside B2."""

        def work(raw: Any, access: Access, _: Transport) -> PartRow:
            reply = raw.copy_part(access.api_url, access.token, source_id, file_id, number, (start, end - 1))
            return rows.part(reply)

        target = f"part {number} of {file_id} from {source_id}"
        with copying(end - start):
            return await self._call("b2_copy_part", target, work, limits=self._caller.copy_limits)

    async def finish_large(self, file_id: str, part_sha1s: Sequence[str]) -> FileVersion:
        """Make the file of its parts; it becomes visible at once and whole."""

        def work(raw: Any, access: Access, transport: Transport) -> FileVersion:
            row = raw.finish_large_file(access.api_url, access.token, file_id, list(part_sha1s))
            return _version(row, transport)

        with copying(len(part_sha1s) * FINISHED_AS_COPIED):
            limits = self._caller.copy_limits
            finished = await self._call("b2_finish_large_file", file_id, work, limits=limits)
        self._caller.urls.forget(file_id)
        return finished

    async def cancel_large(self, file_id: str) -> None:
        """Cancel; a file that is gone already is no error."""

        def work(raw: Any, access: Access, _: Transport) -> None:
            raw.cancel_large_file(access.api_url, access.token, file_id)

        self._caller.urls.forget(file_id)
        try:
            await self._call("b2_cancel_large_file", file_id, work)
        except VersionGone:
            return

    async def list_parts(self, file_id: str) -> list[PartRow]:
        """List all parts that B2 holds; 1,000 a call."""
        found: list[PartRow] = []
        start: int | None = 1
        while start is not None:

            def work(raw: Any, access: Access, _: Transport, first: int = start) -> Mapping[str, Any]:
                reply: Mapping[str, Any] = raw.list_parts(access.api_url, access.token, file_id, first, 1000)
                return reply

            reply = await self._call("b2_list_parts", file_id, work, abandon=True)
            found += [rows.part(row) for row in reply["parts"]]
            start = reply.get("nextPartNumber")
        return found

    # --- copying and removing ---------------------------------------------------------------------------

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
        """Copy up to 5 GB inside B2; metadata is replaced where *info* is given."""
        check_uploadable(name)
        if info is None and content_type is not None:
            raise InvalidArgument("a copy keeps both content type and file info, or replaces both")
        if start > 0 and end is None:
            end = (await self.get_info(source_id)).size
        if end is not None and end <= start:
            raise InvalidArgument("a copy holds one byte at least, or the whole file")
        arguments: dict[str, Any] = {"destination_bucket_id": bucket_id, **_lock_arguments(lock)}
        if end is not None:
            arguments["bytes_range"] = (start, end - 1)
        if info is not None:
            arguments["metadata_directive"] = MetadataDirectiveMode.REPLACE
            arguments["content_type"] = content_type or "b2/x-auto"
            arguments["file_info"] = dict(info)

        def work(raw: Any, access: Access, transport: Transport) -> FileVersion:
            row = raw.copy_file(access.api_url, access.token, source_id, name, **arguments)
            return _version(row, transport)

        with copying(bytes_copied() if end is None else end - start):
            return await self._call("b2_copy_file", name, work, limits=self._caller.copy_limits)

    async def hide(self, bucket_id: str, name: str) -> FileVersion | None:
        """Hide a name; None where there was nothing to hide."""

        def work(raw: Any, access: Access, transport: Transport) -> FileVersion:
            return _version(raw.hide_file(access.api_url, access.token, bucket_id, name), transport)

        try:
            return await self._call("b2_hide_file", name, work)
        except NoSuchFile as exc:
            if code_behind(exc) in ("no_such_file", "already_hidden"):
                return None
            raise

    async def delete_version(self, name: str, file_id: str, *, bypass_governance: bool = False) -> None:
        """Delete one version for good; one that is gone already is no error. Raises HeldByLock."""

        def work(raw: Any, access: Access, _: Transport) -> None:
            raw.delete_file_version(access.api_url, access.token, file_id, name, bypass_governance)

        try:
            await self._call("b2_delete_file_version", name, work)
        except VersionGone:
            return

    async def set_retention(
        self, name: str, file_id: str, retention: Retention | None, *, bypass_governance: bool = False
    ) -> None:
        """Set or remove a version's retention."""
        setting = _retention_setting(retention)

        def work(raw: Any, access: Access, _: Transport) -> None:
            raw.update_file_retention(access.api_url, access.token, file_id, name, setting, bypass_governance)

        await self._call("b2_update_file_retention", name, work)

    async def set_legal_hold(self, name: str, file_id: str, on: bool) -> None:
        """Set or lift a version's legal hold."""
        hold = LegalHold.ON if on else LegalHold.OFF

        def work(raw: Any, access: Access, _: Transport) -> None:
            raw.update_file_legal_hold(access.api_url, access.token, file_id, name, hold)

        await self._call("b2_update_file_legal_hold", name, work)

    async def aclose(self) -> None:
        """Close the connections; threads end with their requests."""
        self._caller.close()
        await trio.lowlevel.checkpoint()


def _row_limit(limit: int) -> int:
    return min(max(limit, 1), MAX_ROWS)


def _version(row: Mapping[str, Any], transport: Transport) -> FileVersion:
    version = rows.file_version(row)
    if version is None or not version.file_id:
        raise transport.failed(Fault.ODD_REPLY, "no file in it")
    return version


def _check_stored(row: Mapping[str, Any], sha1: str, size: int, transport: Transport) -> None:
    """Demand that B2 stored what was sent."""
    stored = rows.bare_sha1(row.get("contentSha1"))
    if (stored is not None and stored != sha1) or row.get("contentLength", size) != size:
        raise transport.failed(Fault.CORRUPT, f"{stored}, {row.get('contentLength')} bytes")


def _retention_setting(retention: Retention | None) -> Any:
    if retention is None:
        return FileRetentionSetting(RetentionMode.NONE)
    return FileRetentionSetting(RetentionMode(retention.mode), retention.until_ms)


def _lock_arguments(lock: LockSettings | None) -> dict[str, Any]:
    """Return b2sdk's arguments for retention and legal hold; none where nothing is to be set."""
    arguments: dict[str, Any] = {}
    if lock is not None and lock.retention is not None:
        arguments["file_retention"] = _retention_setting(lock.retention)
    if lock is not None and lock.legal_hold is not None:
        arguments["legal_hold"] = LegalHold.ON if lock.legal_hold else LegalHold.OFF
    return arguments
