"""List flat what a walker comes to, and what it will come to: a page of a subtree instead of directories.

walks.py says when and what; here is who waits for which page, and what pages leave behind. A directory that
a page under way is to tell of is waited for, not asked for again. What is listed ahead is for nobody yet: it
fails in silence, and who comes there asks again. Knows how to list and to keep by what it is given.
"""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from b2mount.cache.listing import Listing, split_flat_rows
from b2mount.cache.walks import FIRST_PAGE, FlatListing, Walks, parent_of
from b2mount.core.errors import B2MountError
from b2mount.store.store import Page

LEAST_TTL = 20.0  # seconds; what is believed for less time would be old before a walker comes to it


class Known(Protocol):
    """The listings there are."""

    @property
    def ttl(self) -> float: ...

    def peek(self, bucket_id: str, directory: str) -> Listing | None: ...

    def last_known(self, bucket_id: str, directory: str) -> Listing | None: ...

    def keep(self, bucket_id: str, listing: Listing) -> None: ...


class Flat:
    """The flat listings of one mount."""

    def __init__(
        self,
        known: Known,
        limit: str,
        ask: Callable[[str, FlatListing, int], Awaitable[Page]],
        nursery: trio.Nursery | None,
        may_list_ahead: Callable[[], bool],
        look: Callable[[str, str], Awaitable[Listing]],
    ) -> None:
        """Take the key's prefix as *limit*; *ask* lists in a bucket, so many rows; *look* is as `get`."""
        self._known = known
        self._limit = limit
        self._ask = ask
        self._nursery = nursery
        self._may_list_ahead = may_list_ahead
        self._look = look
        self._walks: dict[str, Walks] = {}
        self._ended: dict[tuple[str, FlatListing], trio.Event] = {}

    async def fetch(self, bucket_id: str, directory: str) -> Listing | None:
        """Return a directory's listing from a flat one; None where it is to be listed by itself."""
        walks = self._walks.setdefault(bucket_id, Walks(self._known.ttl))
        for flight in walks.covering(directory):
            ended = self._ended.get((bucket_id, flight))
            if ended is not None:
                await ended.wait()
        listing = self._known.peek(bucket_id, directory)
        if listing is not None:
            return listing
        top = self._limit[: self._limit.rfind("/") + 1]
        now, parent = trio.current_time(), parent_of(directory)
        places = self._known.last_known(bucket_id, parent) if parent is not None else None
        wanted = walks.on_miss(directory, top, now, places, lambda name: self._rows_of(bucket_id, name))
        listing = await self._fly(bucket_id, walks, wanted, directory) if wanted is not None else None
        if listing is None and places is not None and self._nursery is not None and self._is_worth_it:
            for sibling in walks.beside(directory, top, places, lambda name: self._rows_of(bucket_id, name)):
                self._nursery.start_soon(self._look_quietly, bucket_id, sibling)
        return listing

    def on_ask(self, bucket_id: str, directory: str) -> None:
        """Take note that somebody wants a directory's attributes, which only a listing tells."""
        parent = parent_of(directory)
        places = self._known.peek(bucket_id, parent) if parent is not None else None
        if places is not None:
            walks = self._walks.setdefault(bucket_id, Walks(self._known.ttl))
            walks.on_ask(directory, places, trio.current_time())

    def on_look_into(self, bucket_id: str, directory: str) -> None:
        """Take note that somebody wants more of a directory than its attributes."""
        if bucket_id in self._walks:
            self._walks[bucket_id].on_look_into(directory)

    @property
    def _is_worth_it(self) -> bool:
        return self._known.ttl >= LEAST_TTL and self._may_list_ahead()

    def on_read(self, bucket_id: str, directory: str) -> None:
        """Take note that somebody reads a directory; list ahead of a walker."""
        walks = self._walks.get(bucket_id)
        if walks is None or self._nursery is None or not self._is_worth_it:
            return
        flights = walks.on_read(
            directory,
            trio.current_time(),
            lambda parent: self._known.last_known(bucket_id, parent),
            lambda name: self._rows_of(bucket_id, name),
        )
        for flight in flights:
            self._ended[bucket_id, flight] = trio.Event()
            self._nursery.start_soon(self._fly_quietly, bucket_id, walks, flight)

    def forget(self, bucket_id: str) -> None:
        """Believe nothing that was asked of a bucket before this moment and is still to come."""
        if bucket_id in self._walks:
            self._walks[bucket_id].forget()

    def _rows_of(self, bucket_id: str, directory: str) -> int | None:
        listing = self._known.peek(bucket_id, directory)
        return None if listing is None else len(listing)

    async def _look_quietly(self, bucket_id: str, directory: str) -> None:
        with contextlib.suppress(B2MountError):  # who asks for it by himself hears of it
            await self._look(bucket_id, directory)

    async def _fly_quietly(self, bucket_id: str, walks: Walks, flight: FlatListing) -> None:
        with contextlib.suppress(B2MountError):
            await self._fly(bucket_id, walks, flight, flight.start)

    async def _fly(self, bucket_id: str, walks: Walks, flight: FlatListing, wanted: str) -> Listing | None:
        ended = self._ended.setdefault((bucket_id, flight), trio.Event())
        try:
            return await self._list(bucket_id, walks, flight, wanted)
        finally:
            walks.on_landed(flight)
            self._ended.pop((bucket_id, flight), None)
            ended.set()

    async def _list(self, bucket_id: str, walks: Walks, flight: FlatListing, wanted: str) -> Listing | None:
        """List a subtree from `start` on; return *wanted*, None where the page did not reach its end."""
        started = trio.current_time()
        limit = flight.limit if self._may_list_ahead() else FIRST_PAGE
        page = await self._ask(bucket_id, flight, limit)
        start, next_start = flight.start, page.next_name
        listings, counts = split_flat_rows(
            flight.root, page.rows, start=start, next_start=next_start, started=started
        )
        covered = next_start is None or (wanted < next_start and not next_start.startswith(wanted))
        if covered and wanted.endswith("/") and wanted not in listings:
            listings[wanted] = Listing(wanted, wanted, started)
            listings[wanted].complete = True
        if walks.is_under_way(flight):
            for listing in listings.values():
                if self._known.peek(bucket_id, listing.directory) is None:
                    self._known.keep(bucket_id, listing)
        walks.on_answer(
            flight, counts=counts, covered=covered, reached_end=next_start is None, now=trio.current_time()
        )
        return listings.get(wanted)
