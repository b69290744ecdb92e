"""Carry out one operation of the journal in B2: the cheapest way that its draft allows.

Content that did not change is copied inside B2, changed content is uploaded whole or assembled from copied
and uploaded parts (core/parts.py plans, large.py assembles). Knows the store; knows neither the order of
operations nor the tree.
"""

import functools
import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import trio

from b2mount.core.access import is_read_only
from b2mount.core.errors import (
    AccessDenied,
    B2MountError,
    Conflict,
    HeldByLock,
    NoSuchFile,
    ReadOnlyMount,
    VersionGone,
)
from b2mount.core.extents import Origin, Segment
from b2mount.core.grant import Capability
from b2mount.core.parts import Assemble, CopyWhole, Limits, UploadWhole, plan_parts
from b2mount.core.posix import INFO_LIMIT, from_info, header_bytes, to_info, with_mark, without_mark
from b2mount.journal.ahead import Ahead
from b2mount.journal.bodies import BytesBody, SparseBody, SpoolBody, ZeroBody, sha1_of
from b2mount.journal.drafts import Draft
from b2mount.journal.large import NOT_THERE, WORTH_KEEPING, BodyOf, LargeFiles
from b2mount.journal.ops import Kind, Op
from b2mount.journal.unfinished import LargeFile, Part
from b2mount.store.deadline import copying
from b2mount.store.steady import steady_ms
from b2mount.store.store import Action, Body, FileVersion, Store

VERSIONS_LOOKED_AT = 1000  # of a name, the newest first: one class C transaction
CLOCK_SLACK_MS = 2000  # some of B2's upload times are cut to seconds
LARGE_FILE_SHA1 = (
    "large_file_sha1"  # Backblaze docs, "Large Files": a whole file's SHA-1, told by its uploader
)
MARK_BYTES = 8  # of chance: no two large files of one name are begun with the same
FETCH = 1 << 20  # bytes a request for what goes into a part
FETCHES_AT_ONCE = 8  # of those: few bytes are soon here on many connections


class Sender:
    """The way from operations to B2's calls."""

    def __init__(
        self,
        store: Store,
        large: LargeFiles,
        *,
        new_id: Callable[[], int],
        hard_delete: bool,
        info_limits: Mapping[str, int],
        bypass_governance: bool = False,
        read_only: bool = False,
        server_ms: Callable[[], int] = steady_ms,
    ) -> None:
        """Send through *store*, large files through *large*; *new_id* gives the journal's next number.

        *info_limits* has the bytes of file info by bucket where they are fewer than usual.
        *bypass_governance* is for hard deletion. *read_only* is the person's choice: then nothing is sent.
        *server_ms* tells B2's time.
        """
        self._store = store
        self._large = large
        self._new_id = new_id
        self._hard_delete = hard_delete
        self._bypass_governance = bypass_governance
        self._info_limits = info_limits
        self._read_only = read_only
        self._server_ms = server_ms
        self.made: Callable[[FileVersion], None] = lambda _version: None  # told of versions on the way
        self.hid: Callable[[Op, FileVersion], None] = lambda _op, _marker: None  # told of removals
        self.is_own: Callable[[str], bool] = lambda _file_id: True  # whether a version was made here

    async def send(self, op: Op) -> FileVersion | None:
        """Carry out *op*; return the version that a put made. Raises B2MountError; it may be sent again."""
        if is_read_only(self._store.grant, self._read_only):
            raise ReadOnlyMount("left by an earlier mount; this one is read-only")
        self._demand_covered(op)
        if op.kind is Kind.HIDE:
            if op.recovered:
                await self._demand_no_news(op)
            await self._hide(op)
            return None
        assert op.draft is not None
        return await self._put(op, op.draft)

    def _demand_covered(self, op: Op) -> None:
        """Raise AccessDenied, without a request, for what another key left that opened more than this one."""
        grant = self._store.grant
        if not grant.covers_bucket(op.bucket_id):
            raise AccessDenied("the key does not open the bucket")
        if not grant.covers_name(op.name):
            raise AccessDenied(f"the key covers only names that begin {grant.prefix!r}")

    # --- hides -------------------------------------------------------------------------------------------

    async def _demand_no_news(self, op: Op) -> None:
        """Raise Conflict where somebody else wrote the name while the removal lay unsent, maybe for days.

        A mount that lives would have shown it; what nobody here ever saw is not removed.
        """
        if not self._store.grant.has(Capability.LIST_FILES):
            return
        page = await self._store.list_names(op.bucket_id, op.name, start=op.name, limit=1)
        for row in page.rows:
            is_known = not op.promised_ms or row.file_id == op.over  # the very one that was to go
            if row.name == op.name and not is_known and row.uploaded_ms > op.promised_ms + CLOCK_SLACK_MS:
                raise Conflict(f"{op.name}: written by somebody else after it was removed here; it stays")

    async def _hide(self, op: Op) -> None:
        versions = await self._all_versions(op) if self._hard_delete else []
        if not self._hard_delete or self._is_news(op, versions):
            marker = await self._store.hide(op.bucket_id, op.name)
            if marker is not None:
                self.hid(op, marker)
            return
        now_ms = self._server_ms()
        for version in versions:
            if version.is_held(now_ms, bypass=self._bypass_governance):
                raise HeldByLock(f"{op.name}: Object Lock holds version {version.file_id}; none was deleted")
        for version in reversed(versions):  # the oldest first, so that a failure uncovers none of them
            await self._store.delete_version(
                version.name, version.file_id, bypass_governance=self._bypass_governance
            )

    def _is_news(self, op: Op, versions: Sequence[FileVersion]) -> bool:
        """Say whether somebody else wrote what would be deleted for good, since it was looked at here."""
        if not versions or not op.over or versions[0].action is not Action.UPLOAD:
            return False
        return versions[0].file_id != op.over and not self.is_own(versions[0].file_id)

    async def _all_versions(self, op: Op) -> list[FileVersion]:
        """Return every version and hide marker of a name, the newest first."""
        found: list[FileVersion] = []
        start, start_id = op.name, None
        while True:
            page = await self._store.list_versions(
                op.bucket_id, op.name, start=start, start_id=start_id, limit=1000
            )
            found += [row for row in page.rows if row.name == op.name and row.action is not Action.START]
            if page.next_name is None or page.next_name != op.name:
                return found
            start, start_id = page.next_name, page.next_id

    @property
    def _limits(self) -> Limits:
        return Limits(minimum_part=self._store.grant.absolute_minimum_part_size)

    # --- puts --------------------------------------------------------------------------------------------

    async def _put(self, op: Op, draft: Draft) -> FileVersion:
        base = draft.resolve_base()
        if isinstance(base, Draft):
            raise B2MountError("an earlier version of the file is not in B2 yet")
        sent = await self._sent_before(op, draft, base)
        if sent is not None:
            return sent
        if draft.interim is not None:
            return await self._correct(op, draft, draft.interim)
        if draft.large is not None:
            return await self._assemble(op, draft, base, draft.large)
        if draft.only_metadata and base is not None and 0 < base.size <= self._limits.maximum_single:
            return await self._copy(op, draft, base, 0, None)
        plan = self._plan(draft, base)
        if isinstance(plan, UploadWhole):
            return await self._store.upload(
                op.bucket_id,
                op.name,
                await self.body(draft, base, 0, draft.size),
                content_type=draft.content_type,
                info=self.info(op.bucket_id, op.name, draft),
            )
        if isinstance(plan, CopyWhole):
            assert base is not None
            return await self._copy(op, draft, base, plan.start, plan.end)
        info = await self._info_of_large(op, draft, base)
        return await self._assemble(op, draft, base, self._planned(op, draft, plan, base, info))

    def _plan(self, draft: Draft, base: FileVersion | None) -> UploadWhole | CopyWhole | Assemble:
        return plan_parts(
            list(draft.extents.segments(0, draft.size)),
            base_size=base.size if base is not None else 0,
            may_read_base=self._store.grant.has(Capability.READ_FILES),
            limits=self._limits,
        )

    # --- large files -------------------------------------------------------------------------------------

    def _planned(
        self, op: Op, draft: Draft, plan: Assemble, base: FileVersion | None, info: Mapping[str, str]
    ) -> LargeFile:
        draft.large = large = LargeFile(
            self._new_id(),
            draft.id,
            op.bucket_id,
            op.name,
            content_type=draft.content_type,
            info=self.marked(op.bucket_id, op.name, info),
            source_id=base.file_id if base is not None else None,
        )
        large.plan(plan.parts)
        return large

    async def _assemble(
        self, op: Op, draft: Draft, base: FileVersion | None, large: LargeFile
    ) -> FileVersion:
        """Make a draft's large file; what was begun before it was closed is corrected by a copy."""
        body_of = functools.partial(self.body, draft, base)
        fetched = next((part for part in large.parts if _is_mixed(part, draft)), None)
        if fetched is None or large.file_id is not None:
            version = await self._complete(draft, large, body_of)
        else:
            version = await self._complete_sooner(draft, large, Ahead(body_of, fetched.start, fetched.end))
        draft.large = None
        if not large.streamed:
            self._large.forget(large)
            return version
        draft.interim = large
        return await self._correct(op, draft, large)

    async def _complete_sooner(self, draft: Draft, large: LargeFile, ahead: Ahead) -> FileVersion:
        """Complete a file that B2 has not begun yet, with the first bytes to fetch on their way meanwhile."""
        failure: B2MountError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ahead.run)
            try:
                version = await self._complete(draft, large, ahead.body_of)
            except B2MountError as exc:
                failure = exc  # raised below, where the nursery does not wrap it
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return version

    async def _complete(self, draft: Draft, large: LargeFile, body_of: BodyOf) -> FileVersion:
        try:
            return await self._large.complete(large, body_of)
        except B2MountError as exc:
            keep = isinstance(exc, WORTH_KEEPING) or large.away_bytes
            if not keep and await self._large.cancel(large):
                draft.large = None
            raise

    async def _correct(self, op: Op, draft: Draft, interim: LargeFile) -> FileVersion:
        """Give content that B2 has the name and attributes of the draft; return the version that has them."""
        version = interim.version
        assert version is not None
        self.made(version)
        if not self._store.grant.has(Capability.READ_FILES):  # what copying needs
            self._large.forget(interim)
            draft.interim = None
            return version
        wanted = await self._info_of_large(op, draft, None)
        is_here = (op.bucket_id, op.name) == (interim.bucket_id, version.name)
        if is_here and wanted == without_mark(version.info):
            self._large.forget(interim)
            draft.interim = None
            return version
        try:
            corrected = await self._copy_whole(op, draft, version, wanted)
        except NOT_THERE:
            if not interim.away_bytes:  # somebody removed it: all is sent again, from here
                self._large.forget(interim)
                draft.interim = None
            raise
        if version.name != op.name and self._store.grant.has(Capability.LIST_FILES):
            await self._large.remove(
                interim
            )  # before the removal queued for that name: it leaves no mark then
        return corrected  # the interim version goes when the journal needs it no more

    async def _copy_whole(
        self, op: Op, draft: Draft, version: FileVersion, info: Mapping[str, str]
    ) -> FileVersion:
        if version.size <= self._limits.maximum_single:
            with copying(version.size):
                return await self._store.copy_file(
                    version.file_id, op.bucket_id, op.name, content_type=draft.content_type, info=info
                )
        whole = [Segment(0, version.size, Origin.BASE)]
        plan = plan_parts(whole, base_size=version.size, limits=self._limits)
        assert isinstance(plan, Assemble)
        large = draft.large or self._planned(op, draft, plan, version, info)
        corrected = await self._complete(draft, large, functools.partial(self.body, draft, None))
        draft.large = None
        self._large.forget(large)
        return corrected

    async def _info_of_large(self, op: Op, draft: Draft, base: FileVersion | None) -> dict[str, str]:
        """Return the file info of a large file, with its SHA-1 where all of it is here to be read.

        B2 keeps none for large files; this entry is where b2, rclone and readers here look for it.
        """
        info, large = self.info(op.bucket_id, op.name, draft), draft.interim
        sha1 = None
        if large is not None and large.total is not None:
            sha1 = large.total.of_whole(len(large.parts))
        if sha1 is None and (draft.extents.needs_base or draft.away_bytes):
            return info
        if sha1 is None:
            body = await self.body(draft, base, 0, draft.size)
            sha1 = await trio.to_thread.run_sync(sha1_of, body)
        with_sha1 = info | {LARGE_FILE_SHA1: sha1}
        limit = self._info_limits.get(op.bucket_id, INFO_LIMIT)
        return with_sha1 if header_bytes(with_sha1, op.name) <= limit else info

    async def _sent_before(self, op: Op, draft: Draft, base: FileVersion | None) -> FileVersion | None:
        """Return the version that an earlier life or attempt made of this very draft, if it did.

        It need not be the newest any more: where the journal could not say that it was sent (a full disk),
        the name may have been removed or written again since.
        """
        is_copy = draft.only_metadata and op.attempts > 1  # the store remembers uploads whose reply was lost
        if not (op.recovered or is_copy) or not self._store.grant.has(Capability.LIST_FILES):
            return None
        expected = _comparable(self.info(op.bucket_id, op.name, draft))
        page = await self._store.list_versions(op.bucket_id, op.name, start=op.name, limit=VERSIONS_LOOKED_AT)
        interim_id = draft.interim.file_id if draft.interim is not None else None
        rows = [row for row in page.rows if row.name == op.name and row.action is not Action.START]
        rows = [row for row in rows if row.file_id != interim_id]
        alike = [
            row
            for at, row in enumerate(rows)
            if row.action is Action.UPLOAD
            and row.size == draft.size
            and row.uploaded_ms >= op.promised_ms - CLOCK_SLACK_MS
            and _comparable(row.info) == expected
            and _may_be_made_by(op, newer=rows[:at], older=rows[at + 1 :])
        ]
        if not alike:
            return None
        if draft.interim is not None:
            return alike[0]  # the copy of it with all attributes; nobody else makes one to the nanosecond
        if draft.large is not None and draft.away_bytes:
            return None
        # Where the sum is not known: no other change has its moment to the nanosecond.
        is_exact = from_info(expected, fallback_ms=0).ctime_ns is not None and draft.large is None
        if draft.only_metadata and base is not None:
            sha1 = base.sha1
        elif draft.extents.needs_base and not isinstance(self._plan(draft, base), UploadWhole):
            return alike[0] if is_exact else None  # B2 put it together
        else:
            try:
                body = await self.body(draft, base, 0, draft.size)
            except (NoSuchFile, VersionGone):  # what it was made of was removed since
                return alike[0] if is_exact else None
            sha1 = await trio.to_thread.run_sync(sha1_of, body)
        return next((row for row in alike if sha1 is not None and row.sha1 == sha1), None)

    def info(self, bucket_id: str, name: str, draft: Draft) -> dict[str, str]:
        """Return the file info that says what a draft's attributes are."""
        keep = draft.keep
        if not draft.only_metadata:
            keep = _without_sha1(keep)
        limit = self._info_limits.get(bucket_id, INFO_LIMIT)
        return to_info(draft.attributes, keep, limit=limit, file_name=name)

    def marked(self, bucket_id: str, name: str, info: Mapping[str, str]) -> dict[str, str]:
        """Return the info to begin a large file with: should the reply be lost, ours is told from others'."""
        limit = self._info_limits.get(bucket_id, INFO_LIMIT)
        return with_mark(info, secrets.token_hex(MARK_BYTES), limit=limit, file_name=name)

    async def _copy(
        self, op: Op, draft: Draft, base: FileVersion, start: int, end: int | None
    ) -> FileVersion:
        with copying(base.size if end is None else end - start):
            return await self._store.copy_file(
                base.file_id,
                op.bucket_id,
                op.name,
                content_type=draft.content_type,
                info=self.info(op.bucket_id, op.name, draft),
                start=start,
                end=end,
            )

    async def body(self, draft: Draft, base: FileVersion | None, start: int, end: int) -> Body:
        """Return bytes [start, end) of a draft: from the spool, or put together where the base shows."""
        segments = list(draft.extents.segments(start, end))
        if all(segment.origin is Origin.NEW for segment in segments) and segments:
            return SpoolBody(draft.spool, start, end)
        if all(segment.origin is Origin.ZERO for segment in segments) and not draft.extents.dirty_bytes:
            return ZeroBody(end - start)
        if all(segment.origin is not Origin.BASE for segment in segments):
            return SparseBody(draft.spool, segments) if segments else ZeroBody(0)
        data = bytearray(end - start)
        for segment in segments:
            await self._fill(data, start, segment, draft, base)
        return BytesBody(data)

    async def _fill(
        self, data: bytearray, start: int, segment: Segment, draft: Draft, base: FileVersion | None
    ) -> None:
        at = segment.start - start
        if segment.origin is Origin.NEW:
            data[at : at + segment.size] = draft.spool.read(segment.start, segment.size)
        elif segment.origin is Origin.BASE:
            if base is None:
                raise NoSuchFile("the version that the change builds on is not known")
            await self._fetch(memoryview(data)[at : at + segment.size], base, segment.start)

    async def _fetch(self, data: memoryview, base: FileVersion, start: int) -> None:
        """Fill *data* with bytes of *base* from *start* on, over several connections."""
        places, failures = deque(range(0, len(data), FETCH)), list[B2MountError]()

        async def fetch() -> None:
            while places and not failures:
                low = places.popleft()
                high = min(low + FETCH, len(data))
                try:
                    data[low:high] = await self._store.read_range(base.file_id, start + low, start + high)
                except B2MountError as exc:
                    failures.append(exc)

        async with trio.open_nursery() as nursery:
            for _ in range(min(FETCHES_AT_ONCE, len(places))):
                nursery.start_soon(fetch)
        if failures:
            raise failures[0]


def _is_mixed(part: Part, draft: Draft) -> bool:
    """Say whether bytes of the base go into a part that is uploaded."""
    segments = draft.extents.segments(part.start, part.end)
    return not part.copied and any(segment.origin is Origin.BASE for segment in segments)


def _without_sha1(info: Mapping[str, str]) -> dict[str, str]:
    """Return file info less what speaks of the content."""
    return {key: value for key, value in info.items() if key != LARGE_FILE_SHA1}


def _may_be_made_by(op: Op, *, newer: Sequence[FileVersion], older: Sequence[FileVersion]) -> bool:
    """Say whether *op* may have made a version that it would make, by what lies around that.

    A file that is renamed away and back looks as it did before to the last bit: what was hidden on the way
    must not be taken for what brings it back.
    """
    if not newer:
        return True
    is_begun_before = op.mark == 0  # else this life wrote down that it begins
    if newer[-1].action is Action.HIDE and not is_begun_before:
        return False
    is_over_one = bool(older) and older[0].action is Action.UPLOAD
    return op.over is None or op.over == (older[0].file_id if is_over_one else "")


def _comparable(info: Mapping[str, str]) -> dict[str, str]:
    """Return file info less what differs between two ways of sending one file."""
    return without_mark(_without_sha1(info))
