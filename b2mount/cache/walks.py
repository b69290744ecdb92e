"""Recognise a walk over a tree, and say which parts of it to list flat.

A person looks into a directory here and there; find, du, rsync and backups open one sub-directory after the
other, forwards, backwards (who keeps a stack) or many at a time. The second sub-directory of one parent
within a listing's lifetime is the sign: a flat listing serves those beside it too, for the price of one
listing as long as it asks for no more rows. Pages grow only while the guess proves right. The parent's own
listing and the rows that its sub-directories had so far say where a page begins that is to end before what is
known already, and where those begin that are asked for ahead. Who asks for the attributes of one
sub-directory after the other and looks into none (`ls -l`) gets those side by side that no flat listing is
tried for. A pure policy: flat.py lists.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

FIRST_PAGE = 1_000  # rows; B2 bills a list call per 1,000 rows, so this is the least and pages are multiples
LARGEST_PAGE = 10_000  # rows; the most B2 returns in one call
PATIENCE = 4  # sub-directories to see again after a wrong guess; twice as many after each that follows it
MOST_PATIENCE = 16  # and so the most that are listed side by side
SURE = 1.5  # standard deviations by which rows may differ from what is expected; a guess
UNKNOWN_ROWS = 100  # of a sub-directory, where none is known; a guess
AT_ONCE = 4  # pages asked for ahead at once
GROWTH = 8  # rows asked for ahead, for each that the walk has come past
MODEST = 10_000  # rows; up to here; from then on a part of what it has come past, but never more than
LARGE_PART = 4
MOST_AHEAD = 4 * LARGEST_PAGE
MOST_LOOKED_AT = 4_000  # names of the parent, for the next one to ask for


class Places(Protocol):
    """The names of a directory in B2's order; those of its sub-directories end in a slash."""

    @property
    def told(self) -> int: ...

    def place_of(self, key: str) -> int | None: ...

    def key_at(self, place: int) -> str: ...


RowsOf = Callable[[str], int | None]  # of a directory; None where it is not known


@dataclass(frozen=True, slots=True)
class FlatListing:
    """List everything under `root`, beginning at the name `start`, `limit` rows."""

    root: str
    start: str
    limit: int
    stop: str | None = None  # it is expected to tell of all directories before this name

    def covers(self, directory: str) -> bool:
        """Say whether it is expected to tell of a directory."""
        return self.stop is not None and self.start <= directory < self.stop


@dataclass(slots=True)
class _Parent:
    since: float
    children: set[str] = field(default_factory=set)
    needed: int = 1  # children seen before the next one is taken for a walk
    patience: int = PATIENCE
    limit: int = FIRST_PAGE
    places: int = 0  # names of the parent that flat pages covered,
    rows: int = 0  # what was under them in all,
    squares: int = 0  # and the sum of the squares, for how much they differ
    missed: str = ""  # the child that was missed last
    read: str = ""  # that was read last
    reads: int = 0  # children that were read since the walk was recognised
    places_of: Places | None = None  # the listing in which
    edge: int = 0  # the places from what was read last up to this one were asked for
    flights: list[FlatListing] = field(default_factory=list)  # on their way
    asked: str = ""  # the child whose attributes were asked for last,
    following: str = ""  # the first behind it, and behind those listed beside it; "" where none is known
    in_order: bool = False  # it was the following one of its time

    def learn(self, counts: Sequence[int]) -> None:
        """Take note of how many rows were under each of some places."""
        self.places += len(counts)
        self.rows += sum(counts)
        self.squares += sum(count * count for count in counts)

    def expected(self, places: int, each: float) -> float:
        """Return how many rows so many places have, rather too many than too few; *each*: a first idea."""
        spread = each
        if self.places:
            each = self.rows / self.places
            spread = math.sqrt(max(self.squares / self.places - each * each, 0.0))
        return each * places + SURE * spread * math.sqrt(places)

    def fitting(self, rows: int, each: float) -> int:
        """Return how many places have no more than *rows* rows; one at least."""
        low, high = 1, rows
        while low < high:
            middle = (low + high + 1) // 2
            if self.expected(middle, each) <= rows:
                low = middle
            else:
                high = middle - 1
        return low

    @property
    def rows_ahead(self) -> int:
        """How many rows may be known or asked for beyond what was read."""
        come_past = self.reads * self.rows // max(self.places, 1)
        return max(min(GROWTH * come_past, MODEST), min(come_past // LARGE_PART, MOST_AHEAD))


class Walks:
    """What was opened lately in one bucket, by parent."""

    def __init__(self, memory: float) -> None:
        """Remember for *memory* seconds."""
        self._memory = memory
        self._parents: dict[str, _Parent] = {}

    def on_miss(
        self, directory: str, root: str, now: float, places: Places | None, rows_of: RowsOf
    ) -> FlatListing | None:
        """Take note that *directory* must be listed; return a flat listing to try first, or None.

        It is then on its way. *root* is the topmost directory that the key may list, *places* what the
        parent's listing told.
        """
        parent = parent_of(directory)
        if parent is None or not parent.startswith(root):
            return None
        state = self._state(parent, now)
        is_walk = len(state.children) >= state.needed
        state.children.add(directory)
        before, state.missed = state.missed, directory
        if not is_walk:
            return None
        flight = _around(parent, directory, state, before, places, rows_of)
        state.flights.append(flight)
        return flight

    def on_answer(
        self, tried: FlatListing, *, counts: Sequence[int], covered: bool, reached_end: bool, now: float
    ) -> None:
        """Learn from a flat listing: the rows under each name of its root that it told of to the end.

        *covered*: it told of what it was asked for.
        """
        state = self._state(tried.root, now)
        state.learn(counts)
        if not covered:
            state.limit = FIRST_PAGE
            state.needed = len(state.children) + state.patience
            state.patience = min(2 * state.patience, MOST_PATIENCE)
            return
        state.limit, state.patience = LARGEST_PAGE, PATIENCE
        above = parent_of(tried.root)
        if reached_end and above is not None:
            self._state(above, now).children.add(tried.root)

    def on_read(
        self, directory: str, now: float, find_places: Callable[[str], Places | None], rows_of: RowsOf
    ) -> list[FlatListing]:
        """Take note that somebody reads *directory*; return what to list ahead, which is then on its way."""
        parent = parent_of(directory)
        state = self._parents.get(parent) if parent is not None else None
        if state is None or parent is None or state.limit == FIRST_PAGE or now - state.since > self._memory:
            return []
        before, state.read = state.read, directory
        if directory == before:
            return []
        state.reads += 1
        if directory < before or len(state.flights) >= AT_ONCE:
            return []
        places = find_places(parent)
        return _ahead(parent, directory, state, places, rows_of) if places is not None else []

    def on_ask(self, directory: str, places: Places, now: float) -> None:
        """Take note that somebody wants a directory's attributes; *places* is what its parent holds."""
        parent = parent_of(directory)
        if parent is None:
            return
        state = self._state(parent, now)
        if state.asked <= directory < state.following:
            return  # the same again, or one that is listed beside it
        state.in_order = directory == state.following
        state.asked, state.following = directory, _next_directory(parent, directory, places)

    def on_look_into(self, directory: str) -> None:
        """Take note that somebody wants more of a directory than its attributes."""
        parent = parent_of(directory)
        state = self._parents.get(parent) if parent is not None else None
        if state is not None:
            state.in_order, state.following = False, ""

    def beside(self, directory: str, root: str, places: Places, rows_of: RowsOf) -> list[str]:
        """Return what to list side by side with *directory*, which is listed by itself.

        Nothing unless attributes are asked for in order; no more than would be listed one by one.
        """
        parent = parent_of(directory)
        state = self._parents.get(parent) if parent is not None else None
        if state is None or parent is None or not parent.startswith(root):
            return []
        room = state.needed - len(state.children)
        if not state.in_order or state.asked != directory or room <= 0:
            return []
        found: list[str] = []
        last = directory
        while len(found) < room:
            last = _next_directory(parent, last, places)
            if not last:
                break
            if not _is_told(last, state, rows_of):
                found.append(last)
        state.following = _next_directory(parent, last, places) if last else ""
        return found

    def on_landed(self, flight: FlatListing) -> None:
        """Take note that an answer was taken in, or will not come."""
        state = self._parents.get(flight.root)
        if state is not None and flight in state.flights:
            state.flights.remove(flight)

    def is_under_way(self, flight: FlatListing) -> bool:
        """Say whether an answer is still wanted by those who come to it later."""
        state = self._parents.get(flight.root)
        return state is not None and flight in state.flights

    def forget(self) -> None:
        """Want nothing any more that is on its way: what is asked from now on may be other."""
        for state in self._parents.values():
            state.flights.clear()
            state.places_of = None

    def covering(self, directory: str) -> list[FlatListing]:
        """Return what is on its way that is expected to tell of a directory."""
        parent = parent_of(directory)
        state = self._parents.get(parent) if parent is not None else None
        return [flight for flight in state.flights if flight.covers(directory)] if state is not None else []

    def _state(self, parent: str, now: float) -> _Parent:
        state = self._parents.get(parent)
        if state is None or now - state.since > self._memory:
            state = self._parents[parent] = _Parent(now)
            if len(self._parents) > 10_000:
                self._parents = {k: v for k, v in self._parents.items() if now - v.since <= self._memory}
        return state


def _around(
    parent: str, directory: str, state: _Parent, before: str, places: Places | None, rows_of: RowsOf
) -> FlatListing:
    """Return what tells of *directory*, and of as much as may be that is unknown beside it."""
    at = places.place_of(directory[len(parent) :]) if places is not None else None
    if places is None or at is None or at >= places.told:
        return FlatListing(parent, directory, state.limit)
    each = rows_of(before) or UNKNOWN_ROWS
    most = state.fitting(state.limit, each)
    end, first = at + 1, at
    while end < min(at + most, places.told) and not _is_told(parent + places.key_at(end), state, rows_of):
        end += 1
    while first > max(at + 1 - most, 0) and not _is_told(parent + places.key_at(first - 1), state, rows_of):
        first -= 1
    forwards, backwards = end - at, at + 1 - first
    if backwards > (forwards if directory < before else 2 * forwards):
        end = at + 1
    else:
        first = at
    is_open = end == at + most and end < places.told  # nothing known stands there
    rows = state.limit if is_open else min(_pages(state.expected(end - first, each)), state.limit)
    return FlatListing(parent, parent + places.key_at(first), rows, _name(parent, places, end))


def _ahead(parent: str, directory: str, state: _Parent, places: Places, rows_of: RowsOf) -> list[FlatListing]:
    """Return the pages to ask for beyond what is known or on its way behind *directory*."""
    at = places.place_of(directory[len(parent) :])
    if at is None or at >= places.told:
        return []
    edge = max(state.edge if state.places_of is places else 0, at + 1)
    page = max(state.rows_ahead // AT_ONCE // FIRST_PAGE * FIRST_PAGE, FIRST_PAGE)
    if state.expected(edge - at, UNKNOWN_ROWS) + page > state.rows_ahead:
        return []
    stop = min(edge + MOST_LOOKED_AT, places.told)
    while edge < stop and not _is_wanted(parent + places.key_at(edge), state, rows_of):
        edge += 1
    found: list[FlatListing] = []
    most = state.fitting(page, UNKNOWN_ROWS)
    while (
        edge < stop
        and len(state.flights) < AT_ONCE
        and state.expected(edge - at, UNKNOWN_ROWS) + page <= state.rows_ahead
    ):
        end = min(edge + most, places.told)
        flight = FlatListing(parent, parent + places.key_at(edge), page, _name(parent, places, end))
        state.flights.append(flight)
        found.append(flight)
        edge = end
    state.edge, state.places_of = edge, places
    return found


def _next_directory(parent: str, directory: str, places: Places) -> str:
    """Return the sub-directory that stands next behind another; "" where none is near."""
    at = places.place_of(directory[len(parent) :])
    if at is not None:
        for place in range(at + 1, min(at + 1 + MOST_LOOKED_AT, places.told)):
            if places.key_at(place).endswith("/"):
                return parent + places.key_at(place)
    return ""


def _is_told(name: str, state: _Parent, rows_of: RowsOf) -> bool:
    """Say whether a name is a directory's of which all is known, or will be."""
    is_known = name.endswith("/") and rows_of(name) is not None
    return is_known or any(flight.covers(name) for flight in state.flights)


def _is_wanted(name: str, state: _Parent, rows_of: RowsOf) -> bool:
    return name.endswith("/") and not _is_told(name, state, rows_of)


def _name(parent: str, places: Places, place: int) -> str:
    """Return the name at a place; beyond the last one, a name behind all under the parent."""
    return parent + (places.key_at(place) if place < places.told else "\U0010ffff")


def _pages(rows: float) -> int:
    return math.ceil(rows / FIRST_PAGE) * FIRST_PAGE


def parent_of(directory: str) -> str | None:
    """Return the directory prefix above another, None above the bucket's root."""
    if directory == "":
        return None
    return directory[: directory.rfind("/", 0, len(directory) - 1) + 1]
