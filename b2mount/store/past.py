"""A bucket as it was at a moment, read from b2_list_file_versions: a store that cannot be changed.

A name shows the first of its versions, in B2's own order (the newest first), that was uploaded by then;
nothing where that is a hide marker. Unfinished large files never show. A finished one has the time at which
it was started (seen in B2's replies), so one that was under way at the moment shows if it was finished later.

B2 tells of a directory if any version ever lay under it, so whether one was there at the moment must be
looked up: together, by a flat listing, as long as that settles many at once; each by itself where they are
large.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NoReturn

import trio
from cachetools import LRUCache

from b2mount.core.errors import AccessDenied, B2MountError, ReadOnlyMount
from b2mount.core.grant import Capability, Grant
from b2mount.core.names import MAX_NAME_BYTES
from b2mount.store.packed import ACTION_BITS, ACTIONS, FOLDER, Rows, pack
from b2mount.store.store import Action, BucketRow, FileVersion, Page, PartRow, Store

START, HIDE = ACTIONS.index(Action.START), ACTIONS.index(Action.HIDE)  # as pages are packed

LEAST_ROWS = 100  # asked for in one call, for few names: up to 1,000 rows cost the same
MOST_ROWS = 10_000  # the most B2 returns in one call
GROWTH = 4
FLAT_ROWS = 1_000  # of a flat listing that settles which directories there were; one class C transaction
FLAT_PAYS = 8  # directories settled by a flat page for which another one is asked for
AT_ONCE = 16  # directories looked into at once
REMEMBERED = 200_000  # directories known to have been there or not; a guess: some 50 MB

CHANGES = (
    Capability.WRITE_FILES
    | Capability.DELETE_FILES
    | Capability.WRITE_FILE_RETENTIONS
    | Capability.WRITE_FILE_LEGAL_HOLDS
    | Capability.BYPASS_GOVERNANCE
    | Capability.WRITE_BUCKETS
    | Capability.DELETE_BUCKETS
)


class Chooser:
    """Chooses of each name's versions, told in B2's order, the one that showed at a moment."""

    def __init__(self, at_ms: int) -> None:
        self._at_ms = at_ms
        self._name = b""  # whose versions are being told; no file has this name
        self.settled = False  # whether its version is chosen

    @property
    def name(self) -> str:
        """The name whose versions are being told."""
        return self._name.decode("utf-8", "surrogatepass")

    def chosen(self, rows: Rows) -> list[int]:
        """Return which rows of the next page are what their names showed; directories all are."""
        names, flags, times = rows.names, rows.flags, rows.uploaded_ms
        chosen: list[int] = []
        for at in range(len(rows)):
            action, name = flags[at] & ACTION_BITS, names[at]
            if action == FOLDER:
                chosen.append(at)
                continue
            if name != self._name:
                self._name, self.settled = name, False
            if self.settled or action == START or times[at] > self._at_ms:
                continue
            self.settled = True
            if action != HIDE:
                chosen.append(at)
        return chosen


class Past:
    """The names of buckets as they were at one moment."""

    def __init__(self, store: Store, at_ms: int) -> None:
        """Ask *store* for versions; *at_ms* is the moment in milliseconds since the epoch, B2's clock."""
        self._store = store
        self.at_ms = at_ms
        self._lived: LRUCache[tuple[str, str], bool] = LRUCache(REMEMBERED)  # directories, by bucket
        self._asking = trio.Semaphore(AT_ONCE)

    async def list_names(
        self,
        bucket_id: str,
        prefix: str,
        *,
        start: str | None = None,
        delimiter: str | None = None,
        limit: int = 1000,
    ) -> Page:
        """List what showed then, in byte order; without rows only where nothing follows."""
        chooser, found = Chooser(self.at_ms), pack(())
        start_id: str | None = None
        rows = min(max(limit, LEAST_ROWS), MOST_ROWS)
        while True:
            page = await self._store.list_versions(
                bucket_id, prefix, start=start, start_id=start_id, delimiter=delimiter, limit=rows
            )
            told = pack(page.rows)
            chosen = told.pick(chooser.chosen(told))
            found = pack([*found, *chosen]) if len(found) else chosen
            start, start_id = page.next_name, page.next_id
            if start is not None and start == chooser.name and chooser.settled and can_skip(start):
                start, start_id = start + " ", None
            is_within_a_name = start is not None and start == chooser.name
            if not is_within_a_name:
                found = await self._without_the_unborn(bucket_id, prefix, found)
                if len(found) or start is None:
                    break
            rows = min(rows * GROWTH, MOST_ROWS)
        if len(found) > limit:
            return Page(found.pick(range(limit)), found[limit].name)
        return Page(found, start)

    # --- directories -------------------------------------------------------------------------------------

    async def _without_the_unborn(self, bucket_id: str, prefix: str, found: Rows) -> Rows:
        """Leave out the directories that held nothing then."""
        if not found.has_folders:
            return found
        folders = {at: found[at].name for at in range(len(found)) if found.is_folder(at)}
        unknown = [name for name in folders.values() if (bucket_id, name) not in self._lived]
        lived = {name for name in folders.values() if self._lived.get((bucket_id, name))}
        lived |= await self._look_into(bucket_id, prefix, unknown)
        return found.pick([at for at in range(len(found)) if at not in folders or folders[at] in lived])

    async def _look_into(self, bucket_id: str, prefix: str, folders: list[str]) -> set[str]:
        """Return those of *folders*, in byte order, under which something showed then."""
        answers: dict[str, bool] = {}
        unknown = folders
        while len(unknown) > 1:
            page = await self.list_names(bucket_id, prefix, start=unknown[0], limit=FLAT_ROWS)
            settled = _settled(unknown, page, len(prefix))
            answers |= settled
            unknown = [name for name in unknown if name not in settled]
            if len(settled) < FLAT_PAYS:
                break
        answers |= await self._look_into_each(bucket_id, unknown)
        for name, lived in answers.items():
            self._lived[bucket_id, name] = lived
        return {name for name, lived in answers.items() if lived}

    async def _look_into_each(self, bucket_id: str, folders: Iterable[str]) -> dict[str, bool]:
        answers: dict[str, bool] = {}
        errors: list[B2MountError] = []

        async def look(name: str) -> None:
            async with self._asking:
                if errors:
                    return
                try:
                    answers[name] = bool((await self.list_names(bucket_id, name, limit=1)).rows)
                except B2MountError as exc:
                    errors.append(exc)

        async with trio.open_nursery() as nursery:
            for name in folders:
                nursery.start_soon(look, name)
        if errors:
            raise errors[0]
        return answers


def _settled(folders: list[str], page: Page, depth: int) -> dict[str, bool]:
    """Return what a flat page, asked for from the first of *folders* on, tells of them.

    *depth* is the length of the prefix that the directories follow.
    """
    lived = {row.name[: row.name.find("/", depth) + 1] for row in page.rows if "/" in row.name[depth:]}
    end = page.next_name
    return {
        name: name in lived
        for name in folders
        if name in lived or end is None or (name < end and not end.startswith(name))
    }


def can_skip(name: str) -> bool:
    """Say whether what follows *name* begins at the name and a space: B2 takes no lower character in names.

    Source: Backblaze docs, "Files". Not so where that would be longer than B2 lets a name be.
    """
    return len(name.encode("utf-8", "surrogatepass")) < MAX_NAME_BYTES


class PastStore:
    """A store that shows one moment and cannot be changed; what versions hold is read as ever."""

    def __init__(self, store: Store, at_ms: int) -> None:
        self._store = store
        self._past = Past(store, at_ms)
        self._granted: tuple[Grant, Grant] | None = None

    @property
    def grant(self) -> Grant:
        """What the key opens, less every right to change anything."""
        grant = self._store.grant
        if self._granted is None or self._granted[0] is not grant:
            self._granted = grant, without_changes(grant)
        return self._granted[1]

    async def authorize(self) -> Grant:
        """Authorize (again)."""
        await self._store.authorize()
        return self.grant

    async def list_buckets(self, *, bucket_id: str | None = None, name: str | None = None) -> list[BucketRow]:
        """List the buckets there are now."""
        return await self._store.list_buckets(bucket_id=bucket_id, name=name)

    async def list_names(
        self,
        bucket_id: str,
        prefix: str,
        *,
        start: str | None = None,
        delimiter: str | None = None,
        limit: int = 1000,
    ) -> Page:
        """List what showed at the moment."""
        return await self._past.list_names(bucket_id, prefix, start=start, delimiter=delimiter, limit=limit)

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
        """List every version there is."""
        return await self._store.list_versions(
            bucket_id, prefix, start=start, start_id=start_id, delimiter=delimiter, limit=limit
        )

    async def head(self, bucket_name: str, name: str) -> FileVersion:
        """Refuse: B2 tells by a name only what it holds now."""
        raise AccessDenied(f"{name}: only a key with listFiles can look a name up in the past")

    async def get_info(self, file_id: str) -> FileVersion:
        """Ask for one version's facts."""
        return await self._store.get_info(file_id)

    async def read_range(self, file_id: str, start: int, end: int) -> bytes | bytearray:
        """Fetch bytes of a version. Raises VersionGone where it was deleted since."""
        return await self._store.read_range(file_id, start, end)

    async def read_into(
        self, file_id: str, start: int, buffer: memoryview, arrived: Callable[[int], None], *, here: int = 0
    ) -> None:
        """Fill *buffer* with a version's bytes. Raises VersionGone where it was deleted since."""
        await self._store.read_into(file_id, start, buffer, arrived, here=here)

    async def list_parts(self, file_id: str) -> list[PartRow]:
        """List the parts of an unfinished large file."""
        return await self._store.list_parts(file_id)

    async def list_unfinished(self, bucket_id: str, prefix: str) -> list[FileVersion]:
        """List unfinished large files."""
        return await self._store.list_unfinished(bucket_id, prefix)

    async def aclose(self) -> None:
        """End threads and connections."""
        await self._store.aclose()

    async def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse a change. Raises ReadOnlyMount."""
        raise ReadOnlyMount("what is shown lies in the past, and cannot be changed")

    upload = start_large = upload_part = copy_part = finish_large = cancel_large = copy_file = _refuse
    hide = delete_version = set_retention = set_legal_hold = create_bucket = delete_bucket = _refuse


def without_changes(grant: Grant) -> Grant:
    """Return a grant that lets nothing be changed and is the same otherwise."""
    return replace(grant, capabilities=grant.capabilities & ~CHANGES)
