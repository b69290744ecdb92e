"""Walks over trees: what they cost in whatever order, what is asked for ahead, and that all is told."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from b2mount.cache.listing import Listing
from b2mount.cache.listings import Listings
from b2mount.core.errors import B2Unavailable
from tests.cache.test_listings import NAMES, Told, directories_of

COUNT = 400  # directories
CHANCE = random.Random(7)
EVEN = {f"tree/{d:04}/{f}": b"x" for d in range(COUNT) for f in range(5)}
UNEVEN = {
    f"tree/{d:04}/{f:03}": b"x"
    for d in range(COUNT)
    for f in range(min(int(CHANCE.paretovariate(1)) + 1, 300))
}
BESIDE_FILES = {**EVEN, **{f"tree/{d:04}-beside": b"x" for d in range(COUNT)}}
FORWARDS = list(range(COUNT))
BACKWARDS = FORWARDS[::-1]
AT_RANDOM = CHANCE.sample(FORWARDS, COUNT)
BY_EIGHT = [part * COUNT // 8 + at for at in reversed(range(COUNT // 8)) for part in range(8)]
ORDERS = {"forwards": FORWARDS, "backwards": BACKWARDS, "at random": AT_RANDOM, "by eight": BY_EIGHT}


@asynccontextmanager
async def walked(names: dict[str, bytes], limit: str = "") -> AsyncIterator[Told]:
    """Provide listings that may list ahead; ends what is under way."""
    told = Told(names, limit=limit)
    async with trio.open_nursery() as nursery:
        told.listings = Listings(
            told.store, 60.0, limit, on_new=lambda _bucket, _listing: None, nursery=nursery
        )
        yield told
        nursery.cancel_scope.cancel()


async def read(told: Told, directory: str) -> Listing:
    """Read a directory from end to end, as a program does."""
    listing = await told.listings.get_complete(told.bucket_id, directory)
    told.listings.on_read(told.bucket_id, listing)
    await trio.testing.wait_all_tasks_blocked()
    return listing


def shown_by(names: dict[str, bytes], directory: str) -> set[str]:
    rests = {name[len(directory) :] for name in names if name.startswith(directory)}
    return {rest.split("/")[0] + "/" if "/" in rest else rest for rest in rests}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("names", [EVEN, UNEVEN, BESIDE_FILES], ids=["even", "uneven", "beside files"])
async def test_a_walk_in_any_order_costs_few_calls(names: dict[str, bytes], order: str) -> None:
    """Hardly more than its rows: a page that is wrong by some of them is told twice in part."""
    truth: dict[str, set[str]] = {}
    for name in names:
        directory, slash, rest = name.removeprefix("tree/").partition("/")
        if slash:
            truth.setdefault(f"tree/{directory}/", set()).add(rest)
    async with walked(names) as told:
        await read(told, "tree/")
        for number in ORDERS[order]:
            directory = f"tree/{number:04}/"
            assert set((await read(told, directory)).rows) == truth[directory]
        assert told.class_c <= 2 + 3 * len(names) // 1000 + 12, told.store.rows
        assert sum(told.store.rows) <= 3 * len(names) + 2000, told.store.rows


async def test_pages_are_asked_for_while_the_walker_reads_those_before() -> None:
    async with walked({f"tree/{d:04}/{f}": b"x" for d in range(1000) for f in range(5)}) as told:
        await read(told, "tree/")
        waited = 0
        for number in range(1000):
            waited += told.listings.peek(told.bucket_id, f"tree/{number:04}/") is None
            await read(told, f"tree/{number:04}/")
        assert waited == 2  # the first, and the one that shows that it is a walk
        assert told.class_c <= 8, told.store.rows


@pytest.mark.parametrize("stop", [1, 2, 10, 60, 150])
async def test_who_stops_has_asked_for_little_more_than_was_read(stop: int) -> None:
    async with walked({f"tree/{d:04}/{f}": b"x" for d in range(3000) for f in range(5)}) as told:
        await told.listings.get_complete(told.bucket_id, "tree/")
        before = sum(told.store.rows)
        for number in range(stop):
            await read(told, f"tree/{number:04}/")
        rows = sum(told.store.rows) - before
        assert rows <= (5 if stop == 1 else 1005 + 8 * 5 * stop)


async def test_what_a_page_under_way_will_tell_is_not_asked_for_again() -> None:
    async with walked(EVEN) as told, trio.open_nursery() as readers:
        await read(told, "tree/")
        await read(told, "tree/0000/")
        told.store.gate = trio.Event()
        calls = len(told.store.rows)
        readers.start_soon(read, told, "tree/0001/")
        await trio.testing.wait_all_tasks_blocked()
        for number in range(2, 40):
            readers.start_soon(read, told, f"tree/{number:04}/")
        await trio.testing.wait_all_tasks_blocked()
        told.store.gate.set()
    assert len(told.store.rows) == calls + 1


async def test_a_page_under_way_is_not_believed_by_who_was_told_to_look_anew() -> None:
    async with walked(EVEN) as told, trio.open_nursery() as readers:
        await read(told, "tree/")
        await read(told, "tree/0000/")
        told.store.gate = trio.Event()
        readers.start_soon(read, told, "tree/0001/")
        await trio.testing.wait_all_tasks_blocked()
        told.add("tree/0005/new")
        told.listings.forget(told.bucket_id, "tree/")
        told.store.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert "new" in (await read(told, "tree/0005/")).rows


async def test_what_could_not_be_listed_ahead_is_asked_for_by_who_comes_there() -> None:
    async with walked(EVEN) as told:
        await read(told, "tree/")
        for number in range(COUNT):
            with failing(told) if number in (50, 60, 70, 80, 90) else unbroken():
                listing = await told.listings.get(told.bucket_id, f"tree/{number:04}/")
                told.listings.on_read(told.bucket_id, listing)
                await trio.testing.wait_all_tasks_blocked()
            assert set(listing.rows) == set("01234")


@contextmanager
def failing(told: Told, calls_before: int = 0) -> Iterator[None]:
    calls = iter(range(calls_before))

    def fail(_call: str) -> None:
        if next(calls, None) is None:
            raise B2Unavailable("not now")

    told.store.account.on_call = fail
    yield
    told.store.account.on_call = lambda _call: None


@contextmanager
def unbroken() -> Iterator[None]:
    yield


@given(NAMES, st.sampled_from(["", "a", "a/"]), st.integers(1, 9), st.data())
@settings(max_examples=100, deadline=None)
def test_any_walk_tells_what_is_there_however_pages_are_cut(
    names: set[str], limit: str, most: int, data: st.DataObject
) -> None:
    """Pages of a few rows: B2 may return fewer than it was asked for."""

    async def check() -> None:
        inside = dict.fromkeys(sorted(name for name in names if name.startswith(limit)), b"x")
        async with walked(dict.fromkeys(sorted(names), b"x"), limit) as told:
            told.store.most_rows = most
            top = limit[: limit.rfind("/") + 1]
            candidates = sorted(d for d in directories_of(set(inside)) if d.startswith(limit) or d == top)
            for directory in data.draw(st.lists(st.sampled_from(candidates or [top]), max_size=12)):
                listing = await read(told, directory)
                assert set(listing.rows) == shown_by(inside, directory)

    trio.run(check)


# --- attributes of one directory after the other ------------------------------------------------------------

VAST = {f"{d:03}/{f:04}": b"" for d in range(60) for f in range(1_001)}
SOME_VAST = {name: data for name, data in VAST.items() if name < "012/"}


async def rounds_of(told: Told, looks: Callable[[], Awaitable[object]]) -> int:
    """Return how many answers one after the other a program waits for; what is on its way comes at once."""
    rounds, ended = 0, trio.Event()

    async def run() -> None:
        await looks()
        ended.set()

    async with trio.open_nursery() as nursery:
        gate = told.store.gate = trio.Event()
        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        while not ended.is_set():
            rounds += 1
            told.store.gate = trio.Event()
            gate.set()
            gate = told.store.gate
            await trio.testing.wait_all_tasks_blocked()
        told.store.gate = None
    return rounds


async def test_attributes_of_vast_directories_in_order_come_side_by_side() -> None:
    async with walked(VAST) as told:
        await read(told, "")
        told.store.rows.clear()

        async def list_long() -> None:
            for number in range(60):
                assert await told.listings.get_marker(told.bucket_id, f"{number:03}/") is None

        assert await rounds_of(told, list_long) == 1 + 5 * 2  # before: 60 + 12
        assert len(told.store.rows) == 60 + 5  # one by one, a guess each 4 directories: 60 + 12


@pytest.mark.parametrize(
    ("numbers", "calls"), [([7], 1), ([7, 7], 1), ([7, 9], 3), ([9, 8, 7], 4), ([6, 7], 3 + 4)]
)
async def test_only_who_asks_in_order_is_told_of_those_beside(numbers: list[int], calls: int) -> None:
    async with walked(SOME_VAST) as told:
        await read(told, "")
        told.store.rows.clear()
        for number in numbers:
            await told.listings.get_marker(told.bucket_id, f"{number:03}/")
            await trio.testing.wait_all_tasks_blocked()
        assert len(told.store.rows) == calls


async def test_who_looks_into_each_directory_is_told_of_none_beside() -> None:
    async with walked(SOME_VAST) as told:
        await read(told, "")
        told.store.rows.clear()
        for number in range(5):
            await told.listings.get_marker(told.bucket_id, f"{number:03}/")
            await told.listings.get(told.bucket_id, f"{number:03}/")
            await trio.testing.wait_all_tasks_blocked()
        assert len(told.store.rows) == 5 + 1


async def test_attributes_of_small_directories_cost_no_more_than_their_flat_listing() -> None:
    async with walked(EVEN) as told:
        await read(told, "tree/")
        told.store.rows.clear()
        for number in FORWARDS:
            await told.listings.get_marker(told.bucket_id, f"tree/{number:04}/")
            await trio.testing.wait_all_tasks_blocked()
        assert told.class_c <= 1 + len(EVEN) // 1000 + 1, told.store.rows


async def test_those_beside_that_fail_are_asked_for_by_who_comes_there() -> None:
    async with walked(SOME_VAST) as told:
        await read(told, "")
        await told.listings.get_marker(told.bucket_id, "000/")
        with failing(told, calls_before=1):
            with pytest.raises(B2Unavailable):
                await told.listings.get_marker(told.bucket_id, "001/")
            await trio.testing.wait_all_tasks_blocked()
        before = len(told.store.rows)
        for number in range(1, 12):
            assert await told.listings.get_marker(told.bucket_id, f"{number:03}/") is None
        assert len(told.store.rows) <= before + 11 + 2  # guesses
