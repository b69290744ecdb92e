"""Pages of one vast directory that are asked for side by side, from names that the later ones may begin with.

B2 gives names in order, a page after the other; who waits for each before asking for the next reads 1,000
names in the time that one call takes. Where the names so far say which ones stand further on
(core/guesses.py), the pages after the next are asked for at the same time. What such a page tells is used
from the name on that B2 says is next, so that a wrong guess costs calls and leaves nothing out; one that
wasted much is the last for its directory. Decides, and keeps what came; listings.py lists.
"""

import trio

from b2mount.cache.listing import Listing
from b2mount.cache.walks import FIRST_PAGE, LARGEST_PAGE
from b2mount.core.guesses import LEAST_NAMES, Guesser
from b2mount.store.packed import Rows, pack
from b2mount.store.store import Page

AT_ONCE = 4  # pages asked for or waiting to be read, the next one included; a guess
GROWTH = 4  # rows asked for ahead, for each that is known: as many as one page after the other asked for
MODEST = 10_000  # rows; up to here; from then on a part of what is known:
LARGE_PART = 4
WORST_WASTE = 4  # a page of which more than this part had been told ends guessing


class PageFlight:
    """One page asked for from a guessed name on."""

    __slots__ = ("arrived", "began", "limit", "page", "row", "scope", "start", "taken")

    def __init__(self, start: str, row: int, limit: int, began: float) -> None:
        self.start = start
        self.row = row  # where in the directory it is expected to begin
        self.limit = limit
        self.began = began  # trio's clock
        self.page: Page | None = None  # also where it failed
        self.arrived = trio.Event()
        self.taken = trio.Event()  # or not wanted any more
        self.scope = trio.CancelScope()  # of the call

    @property
    def is_open(self) -> bool:
        """Whether it is under way, or has brought a page that nobody has taken yet."""
        return not self.taken.is_set() and (self.page is not None or not self.arrived.is_set())

    def drop(self) -> None:
        """Want it no more."""
        self.page = None
        self.taken.set()
        self.scope.cancel()


class Ahead:
    """What is asked for ahead in one directory."""

    def __init__(self, listing: Listing, asked: int) -> None:
        """Look ahead in *listing*, of which *asked* rows were asked for by now."""
        self._listing = listing
        self._flights: list[PageFlight] = []  # by their starts
        # no guess any more: one was wrong; or pages are sparse, of versions that did not show at a moment
        self._ended = _is_sparse(listing.told, asked)

    def plan(self, now: float) -> list[PageFlight]:
        """Return what to ask for now, besides the next page."""
        listing = self._listing
        self._flights = [flight for flight in self._flights if flight.is_open]
        if self._ended or any(_is_last(flight) for flight in self._flights):
            return []
        last = next(
            (chunk for chunk in reversed(listing.chunks[-AT_ONCE:]) if len(chunk) >= LEAST_NAMES), None
        )
        if last is None:
            return []
        new: list[PageFlight] = []
        guesser, limit, end = Guesser(last), page_rows(listing.told), last.first + len(last)
        row = max((flight.row + flight.limit for flight in self._flights), default=listing.told + limit)
        while len(self._flights) < AT_ONCE - 1 and row + limit <= listing.told + rows_ahead(listing.told):
            key = guesser.key(row - end + 1)
            start = self._name(key) if key is not None else None
            if start is None or (self._flights and start <= self._flights[-1].start):
                break
            flight = PageFlight(start, row, limit, now)
            self._flights.append(flight)
            new.append(flight)
            row += limit
        return new

    def _name(self, key: bytes) -> str | None:
        """Return the name to ask from; None where it would not lie in the part that is to be listed."""
        listing = self._listing
        try:
            name = listing.directory + key.decode()
        except UnicodeDecodeError:
            return None
        is_within = name.startswith(listing.prefix) and "/" not in name[len(listing.directory) :]
        return name if is_within and name > (listing.next_start or "") else None

    def covering(self, oldest: float) -> PageFlight | None:
        """Return the flight that may bring the page that comes next; none that began before *oldest*."""
        start = self._listing.next_start or ""
        found = None
        for flight in self._flights:
            if flight.began < oldest:
                flight.drop()
            elif flight.is_open and flight.start <= start:
                if found is not None:
                    found.drop()  # overtaken
                found = flight
        return found

    def rows_to_ask(self) -> int | None:
        """Return how many rows to ask for up to where the next flight begins; None where there is none."""
        missing = min((f.row - self._listing.told for f in self._flights if f.is_open), default=None)
        if missing is None:
            return None
        return min(max(-(-missing // FIRST_PAGE), 1) * FIRST_PAGE, LARGEST_PAGE)

    def take(self, flight: PageFlight) -> Page | None:
        """Return what a flight brought from the next name on; None where it does not reach there."""
        start, page = self._listing.next_start or "", flight.page
        flight.drop()
        if page is None:
            return None
        if page.next_name is not None and page.next_name <= start:
            self._ended = True
            return None
        rows = pack(page.rows)
        if not rows.in_order:
            self._ended = True
            return None
        known = _rows_before(rows, start)
        is_sparse = page.next_name is not None and _is_sparse(len(rows), flight.limit)
        self._ended = self._ended or is_sparse or known * WORST_WASTE > flight.limit
        return Page(rows.tail(known), page.next_name)

    def end(self) -> None:
        """Want nothing more ahead."""
        self._ended = True
        for flight in self._flights:
            flight.drop()


def _is_sparse(rows: int, asked: int) -> bool:
    """Say whether a page, not the last, has far fewer rows than it could: where it ends is unknown then."""
    return rows * WORST_WASTE < asked * (WORST_WASTE - 1)


def _is_last(flight: PageFlight) -> bool:
    return flight.page is not None and flight.page.next_name is None


def rows_ahead(told: int) -> int:
    """Return how many rows a reader of *told* may have asked for ahead."""
    return max(min(GROWTH * told, MODEST), min(told // LARGE_PART, AT_ONCE * LARGEST_PAGE))


def page_rows(told: int) -> int:
    """Return how many rows to ask for in one page, of several side by side."""
    share = rows_ahead(told) // (AT_ONCE if told >= MODEST // GROWTH else 2)
    return max(min(share, LARGEST_PAGE) // FIRST_PAGE * FIRST_PAGE, FIRST_PAGE)


def _rows_before(rows: Rows, start: str) -> int:
    """Return how many rows of a page stand before the name *start*, where it may be the first in a folder."""
    raw = start.encode("utf-8", "surrogatepass")
    low, high = 0, len(rows)
    while low < high:
        middle = (low + high) // 2
        if rows.names[middle] < raw:
            low = middle + 1
        else:
            high = middle
    if low and rows.is_folder(low - 1) and raw.startswith(rows.names[low - 1]):
        low -= 1
    return low
