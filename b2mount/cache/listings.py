"""What may still be believed about directories: listings by bucket and directory, for the listing TTL.

Asks B2 when nothing fresh is known, once however many wait; walks are listed flat (flat.py); looks
single names up by themselves where a directory is too large to be listed for one. Own changes are told to it,
so that they cost no call. Knows names and rows; knows neither inodes nor what is still in the journal.
"""

import contextlib
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import trio
from cachetools import LRUCache

from b2mount.cache.ahead import Ahead, PageFlight
from b2mount.cache.flat import Flat
from b2mount.cache.listing import Listing
from b2mount.cache.walks import FIRST_PAGE, LARGEST_PAGE, FlatListing, parent_of
from b2mount.core.errors import B2MountError
from b2mount.core.names import PLACEHOLDER
from b2mount.core.scope import Place, list_prefix, place
from b2mount.core.views import parse_bucket_id
from b2mount.store.budget import Budget
from b2mount.store.store import FileVersion, Page, Store
from b2mount.store.views import Views

log = logging.getLogger("b2mount.cache")

PAGE_GROWTH = 4  # later pages ask for more rows: the same price a row, fewer round trips
PROBES_BEFORE_PAGE = 4  # single names asked for before the next page is fetched instead
MOST_RENEWALS = 10  # listing TTLs that the listing of one vast directory may take
UNTAKEN_SECONDS = 10.0  # for which a page that was asked for ahead waits for its turn; a guess
LASTING = 10 * 365 * 86_400.0  # seconds; finite for the sake of the kernel's timeouts
MAX_ROWS = 2_000_000  # rows of all listings together; the oldest listings go first


@dataclass(frozen=True, slots=True)
class Found:
    """What B2 shows for one component: a file, something under it, both or neither; true until `until`."""

    file: FileVersion | None
    folder: FileVersion | None
    until: float  # seconds, trio's clock


class _Fetch:
    """A first page on its way, and why it did not come."""

    __slots__ = ("ended", "error", "listing")

    def __init__(self) -> None:
        self.ended = trio.Event()
        self.listing: Listing | None = None
        self.error: B2MountError | None = None


class _Cache(LRUCache[tuple[str, str], Listing]):
    """Listings by bucket and directory, as many as their rows allow."""

    def __init__(self, on_dropped: Callable[[str, Listing], None]) -> None:
        super().__init__(MAX_ROWS, getsizeof=_weight)
        self._on_dropped = on_dropped

    def popitem(self) -> tuple[tuple[str, str], Listing]:
        """Let go what was used least recently."""
        key, listing = super().popitem()
        self._on_dropped(key[0], listing)
        return key, listing


class Listings:
    """All listings of one mount."""

    def __init__(
        self,
        store: Store | Views,
        ttl: float,
        limit: str,
        *,
        on_new: Callable[[str, Listing], None],
        on_dropped: Callable[[str, Listing], None] = lambda _bucket, _listing: None,
        nursery: trio.Nursery | None = None,
        budget: Budget | None = None,
    ) -> None:
        """Believe what *store* tells for *ttl* seconds. *limit* is the key's prefix.

        *on_new* is called with the bucket and each listing that takes the place of what was known before,
        *on_dropped* with those that leave because there are too many rows.
        With a *nursery*, large directories are listed ahead of their reader. A *budget* that is spent makes
        listings be believed for longer, and ends what is asked for ahead.
        """
        self._store = store
        self._ttl = ttl
        self._budget = budget
        self.hits = self.misses = 0  # listings that were asked for and were here, and those that were not
        self._limit = limit
        self._on_new = on_new
        self._nursery = nursery
        self._cache = _Cache(on_dropped)
        self._fetching: dict[tuple[str, str], _Fetch] = {}
        self._flat = Flat(self, limit, self._list_flat, nursery, lambda: self._lists_ahead, self._get)
        self._calls: dict[object, float] = {}  # list calls under way, and when each began
        self.after_call: Callable[[], None] = lambda: None  # told once the answer to a call is taken in

    @property
    def ttl(self) -> float:
        """Seconds for which a listing is believed."""
        return self._ttl if self._budget is None else self._ttl * self._budget.ttl_factor

    @property
    def _lists_ahead(self) -> bool:
        return self._budget is None or self._budget.lists_ahead

    def __len__(self) -> int:
        return len(self._cache)

    def peek(self, bucket_id: str, directory: str) -> Listing | None:
        """Return the listing if one is fresh, without a call."""
        listing = self._cache.get((bucket_id, directory))
        if listing is None or trio.current_time() >= self.until(listing):
            return None
        return listing

    def last_known(self, bucket_id: str, directory: str) -> Listing | None:
        """Return what was told last, however old."""
        return self._cache.get((bucket_id, directory))

    def until(self, listing: Listing) -> float:
        """Return the moment up to which a listing is believed."""
        if listing.doubted:
            return 0.0
        return listing.started + (LASTING if listing.lasting else self.ttl)

    async def get(self, bucket_id: str, directory: str) -> Listing:
        """Return a fresh listing with at least its first page."""
        self._flat.on_look_into(bucket_id, directory)
        listing = await self._get(bucket_id, directory)
        self._flat.on_read(bucket_id, directory)
        return listing

    async def _get(self, bucket_id: str, directory: str) -> Listing:
        key = (bucket_id, directory)
        while True:
            listing = self.peek(bucket_id, directory)
            if listing is not None:
                self.hits += 1
                return listing
            fetch = self._fetching.get(key)
            if fetch is None:
                break
            await fetch.ended.wait()
            if fetch.error is not None:
                raise fetch.error  # who waited for a call shares its failure, and asks again later
            if fetch.listing is not None:
                return fetch.listing  # also where it is not to be believed any longer than that
        self.misses += 1
        fetch = self._fetching[key] = _Fetch()
        try:
            fetch.listing = await self._fetch(bucket_id, directory)
            return fetch.listing
        except B2MountError as exc:
            fetch.error = exc
            raise
        finally:
            del self._fetching[key]
            fetch.ended.set()

    async def extend(self, bucket_id: str, listing: Listing) -> None:
        """Fetch the next page of an unfinished listing."""
        pages = listing.pages
        async with listing.lock:
            if listing.pages != pages or listing.complete:
                return
            listing.take(await self._next_page(bucket_id, listing))
            if listing.complete and listing.ahead is not None:
                listing.ahead.end()
            # A listing that takes as long as it may be believed would never serve anybody: its time begins
            # anew, in part, while it is being read; up to a limit, lest paging on and on keeps it alive.
            renewed = min(trio.current_time() - self.ttl / 2, listing.began + MOST_RENEWALS * self.ttl)
            listing.started = max(listing.started, renewed)
        key = (bucket_id, listing.directory)
        if self._cache.get(key) is listing:
            self._cache[key] = listing  # its weight has grown

    async def _next_page(self, bucket_id: str, listing: Listing) -> Page:
        """Return the page that begins at the listing's next name; do not await before it is taken in."""
        limit = None
        if listing.ahead is not None:
            flight = listing.ahead.covering(trio.current_time() - self.ttl / 2)
            if flight is not None:
                await flight.arrived.wait()
                page = listing.ahead.take(flight)
                if page is not None:
                    return page
            limit = listing.ahead.rows_to_ask()
        limit = limit or min(FIRST_PAGE * PAGE_GROWTH ** min(listing.pages, 3), LARGEST_PAGE)
        return await self._list(
            bucket_id, listing.prefix, start=listing.next_start, delimiter="/", limit=limit
        )

    def on_read(self, bucket_id: str, listing: Listing) -> None:
        """Take note that somebody begins to read a directory from end to end."""
        self._flat.on_look_into(bucket_id, listing.directory)
        self._flat.on_read(bucket_id, listing.directory)

    def extend_ahead(self, bucket_id: str, listing: Listing) -> None:
        """Start to fetch the next page, which a reader of a large directory will soon ask for."""
        is_wanted = not listing.complete and not listing.lock.locked()
        if self._nursery is not None and self._lists_ahead and is_wanted:
            if self.ttl >= 2 * UNTAKEN_SECONDS:
                listing.ahead = listing.ahead or Ahead(listing, FIRST_PAGE)
                for flight in listing.ahead.plan(trio.current_time()):
                    self._nursery.start_soon(self._fly, bucket_id, listing, flight)
            self._nursery.start_soon(self._extend_quietly, bucket_id, listing)

    async def _extend_quietly(self, bucket_id: str, listing: Listing) -> None:
        with contextlib.suppress(B2MountError):  # the reader asks for itself, and hears of it
            await self.extend(bucket_id, listing)

    async def _fly(self, bucket_id: str, listing: Listing, flight: PageFlight) -> None:
        """Fetch a page ahead of its turn; to others the call lasts until its answer is taken in."""
        call = object()
        self._calls[call] = flight.began
        try:
            with flight.scope, contextlib.suppress(B2MountError):  # who needs the page asks for itself
                flight.page = await self._store.list_names(
                    bucket_id, listing.prefix, start=flight.start, delimiter="/", limit=flight.limit
                )
            flight.arrived.set()
            with trio.move_on_after(UNTAKEN_SECONDS):
                await flight.taken.wait()
        finally:
            flight.arrived.set()
            flight.drop()
            self._call_ended(call)

    async def get_complete(self, bucket_id: str, directory: str) -> Listing:
        """Return a fresh listing with all its pages."""
        listing = await self.get(bucket_id, directory)
        while not listing.complete:
            await self.extend(bucket_id, listing)
        return listing

    async def list_all(self, bucket_id: str, prefix: str) -> list[FileVersion]:
        """Return every current file under a prefix, at any depth, as B2 tells it now."""
        rows: list[FileVersion] = []
        call = object()
        self._calls[call] = trio.current_time()  # from the first page to the last
        try:
            start: str | None = None
            while True:
                page = await self._store.list_names(bucket_id, prefix, start=start, limit=LARGEST_PAGE)
                rows.extend(page.rows)
                start = page.next_name
                if start is None:
                    return rows
        finally:
            self._call_ended(call)

    async def find(self, bucket_id: str, directory: str, component: str) -> Found:
        """Say what B2 shows for one component of a directory; no more than that is asked of a vast one."""
        listing = await self.get(bucket_id, directory)
        file_key, folder_key = component, component + "/"
        if not (self._settled(listing, file_key) and self._settled(listing, folder_key)):
            listing.probes += 1
            if listing.probes % (PROBES_BEFORE_PAGE + 1) == 0:
                await self.extend(bucket_id, listing)
            if not (self._settled(listing, file_key) and self._settled(listing, folder_key)):
                await self._probe(bucket_id, listing, component)
        return Found(_row(listing, file_key), _row(listing, folder_key), self.until(listing))

    async def get_marker(self, bucket_id: str, directory: str) -> FileVersion | None:
        """Return the placeholder that holds a directory's attributes; None where it has none."""
        self._flat.on_ask(bucket_id, directory)
        listing = await self._get(bucket_id, directory)
        self._flat.on_read(bucket_id, directory)
        if not listing.knows_marker and not self._settled(listing, PLACEHOLDER):
            name = directory + PLACEHOLDER
            page = await self._list(bucket_id, name, limit=1)
            row = page.rows[0] if page.rows and page.rows[0].name == name else None
            listing.marker = row if row is not None and row.size == 0 else None
            listing.remember_probe(PLACEHOLDER, row, trio.current_time())
        return listing.marker

    def oldest_call(self) -> float:
        """Return when the oldest list call under way began; infinity where there is none.

        An own change that B2 carried out before that is in every answer that is still to come.
        """
        return min(self._calls.values(), default=math.inf)

    def apply(
        self,
        bucket_id: str,
        name: str,
        version: FileVersion | None,
        *,
        since: float = math.inf,
        doubtful: bool = False,
    ) -> None:
        """Take note of an own change: *name* (a directory ends in `/`) holds *version*, or nothing, *since*.

        What is *doubtful* may have been changed by others since: who looks next asks anew. Who is reading the
        listing goes on with it, and is not to be shown again what is gone.

        A listing that was begun later tells of it, and maybe of what others did after it; one that was made
        up here tells of nothing that B2 has.
        """
        directory = parent_of(name) or ""
        listing = self._cache.get((bucket_id, directory))
        if listing is None or (listing.started > since and not listing.seeded):
            return
        listing.doubted = listing.doubted or doubtful
        key = name[len(directory) :]
        if key == PLACEHOLDER and (version is None or version.size == 0):
            listing.drop(key)
            listing.marker = version
            listing.marker_names = {name} if version is not None else set()
        elif version is None:
            listing.drop(key)
        else:
            listing.put(key, version)

    def seed_empty(self, bucket_id: str, directory: str) -> None:
        """Take note that a directory made here just now holds nothing in B2."""
        listing = Listing(directory, directory, trio.current_time())
        listing.complete = listing.seeded = True
        self._cache[bucket_id, directory] = listing

    def forget(self, bucket_id: str, directory: str) -> None:
        """Believe nothing any more about a directory and all under it."""
        for known_bucket, known in list(self._cache):
            if known_bucket == bucket_id and known.startswith(directory):
                del self._cache[known_bucket, known]
        self._flat.forget(bucket_id)

    def forget_one(self, bucket_id: str, directory: str) -> None:
        """Believe nothing any more about one directory."""
        self._cache.pop((bucket_id, directory), None)
        self._flat.forget(bucket_id)

    # --- asking ------------------------------------------------------------------------------------------

    async def _list(
        self,
        bucket_id: str,
        prefix: str,
        *,
        start: str | None = None,
        delimiter: str | None = None,
        limit: int,
    ) -> Page:
        call = object()
        self._calls[call] = trio.current_time()
        try:
            return await self._store.list_names(
                bucket_id, prefix, start=start, delimiter=delimiter, limit=limit
            )
        finally:
            self._call_ended(call)

    def _call_ended(self, call: object) -> None:
        del self._calls[call]
        if self._nursery is not None:
            self._nursery.start_soon(self._tell_that_a_call_ended)

    async def _tell_that_a_call_ended(self) -> None:
        # in a task of its own: who asked takes the answer in before the next await, and then only
        self.after_call()

    async def _fetch(self, bucket_id: str, directory: str) -> Listing:
        if place(directory, self._limit) is Place.INSIDE:
            listing = await self._flat.fetch(bucket_id, directory)
            if listing is not None:
                return listing
        prefix = list_prefix(directory, self._limit)
        listing = Listing(directory, prefix, trio.current_time())
        page = await self._list(bucket_id, prefix, delimiter="/", limit=FIRST_PAGE)
        listing.take(page)
        self.keep(bucket_id, listing)
        return listing

    async def _probe(self, bucket_id: str, listing: Listing, component: str) -> None:
        """Ask for one component: `name`, and what begins with `name/`, mostly in one call."""
        name = listing.directory + component
        now = trio.current_time()
        page = await self._list(bucket_id, name, delimiter="/", limit=FIRST_PAGE)
        rows = {row.name: row for row in page.rows}
        listing.remember_probe(component, rows.get(name), now)
        folder = rows.get(name + "/")
        cut = page.next_name is not None and (
            page.next_name <= name + "/" or page.next_name.startswith(name + "/")
        )
        if folder is None and cut:
            page = await self._list(bucket_id, name + "/", delimiter="/", limit=1)
            folder = FileVersion(name + "/", "", 0, 0) if page.rows else None
        listing.remember_probe(component + "/", folder, now)

    def _settled(self, listing: Listing, key: str) -> bool:
        if listing.knows(key):
            return True
        probe = listing.probed.get(key)
        return probe is not None and trio.current_time() < probe[1] + (
            LASTING if listing.lasting else self.ttl
        )

    async def _list_flat(self, bucket_id: str, flat: FlatListing, limit: int) -> Page:
        return await self._list(bucket_id, list_prefix(flat.root, self._limit), start=flat.start, limit=limit)

    def keep(self, bucket_id: str, listing: Listing) -> None:
        """Believe a listing that was just told."""
        view, _ = parse_bucket_id(bucket_id)
        listing.lasting = view is not None and view.at_ms is not None
        self._cache[bucket_id, listing.directory] = listing
        self._on_new(bucket_id, listing)


def _row(listing: Listing, key: str) -> FileVersion | None:
    if listing.knows(key):
        return listing.get(key)
    probe = listing.probed.get(key)
    return probe[0] if probe is not None else None


def _weight(listing: Listing) -> int:
    return min(len(listing) + 1, MAX_ROWS // 4)
