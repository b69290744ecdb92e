"""Pages asked for side by side: they tell what one page after the other tells, and cost hardly more."""

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator

import pytest
import trio
import trio.testing

from b2mount.cache import listings as listings_module
from b2mount.cache.ahead import MODEST
from b2mount.cache.listing import Listing
from b2mount.cache.listings import UNTAKEN_SECONDS, Listings
from b2mount.cache.walks import FIRST_PAGE
from b2mount.core.errors import B2Unavailable
from b2mount.store.past import PastStore
from b2mount.store.store import Page
from tests.cache.test_listings import CountingStore
from tests.journal.lives import memory


class SlowStore(CountingStore):
    """Answers after a while, chosen at random; knows how many asked at once."""

    chance = random.Random(0)
    now = most = 0

    async def list_names(
        self,
        bucket_id: str,
        prefix: str,
        *,
        start: str | None = None,
        delimiter: str | None = None,
        limit: int = 1000,
    ) -> Page:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await trio.sleep(self.chance.uniform(0.1, 0.5))
            return await super().list_names(bucket_id, prefix, start=start, delimiter=delimiter, limit=limit)
        finally:
            self.now -= 1

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
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await trio.sleep(self.chance.uniform(0.1, 0.5))
            return await super().list_versions(
                bucket_id, prefix, start=start, start_id=start_id, delimiter=delimiter, limit=limit
            )
        finally:
            self.now -= 1


class Ahead:
    """A bucket in memory, and listings that look ahead."""

    def __init__(self, names: Iterable[str], nursery: trio.Nursery, ttl: float = 60.0, seed: int = 0) -> None:
        plain, self.bucket_id = memory()
        self.store = SlowStore(plain.account)
        self.store.chance = random.Random(seed)
        for name in names:
            plain.account.add(self.bucket_id, name, b"x")
        self.listings = Listings(self.store, ttl, "", on_new=lambda _bucket, _listing: None, nursery=nursery)

    @property
    def class_c(self) -> int:
        return sum(max(1, -(-rows // 1000)) for rows in self.store.rows)

    async def read(self, directory: str, most: int = 10**9, seed: int = 0) -> Listing:
        """Read as an open directory does: ask ahead at half of each page, then for the next page."""
        chance = random.Random(seed)
        listing = await self.listings.get(self.bucket_id, directory)
        while not listing.complete and listing.told < most:
            self.listings.extend_ahead(self.bucket_id, listing)
            await trio.sleep(chance.choice((0, 0, 0.05, 1)))
            await self.listings.extend(self.bucket_id, listing)
        return listing


@pytest.fixture
async def nursery() -> "Iterator[trio.Nursery]":  # type: ignore[misc]  # a fixture of pytest-trio
    async with trio.open_nursery() as nursery:
        yield nursery
        nursery.cancel_scope.cancel()


def _hash(number: int) -> str:
    return hashlib.sha1(str(number).encode(), usedforsecurity=False).hexdigest()


def _lumpy(number: int) -> str:
    """Give names that look counted for long, and leap then."""
    return f"{number:07}" if number % 5000 < 4000 else f"{number + 700_000:07}"


SHAPES: dict[str, Callable[[int], str]] = {
    "counted": lambda number: f"d/{number:07}.dat",
    "hashes": lambda number: f"d/{_hash(number)}",
    "directories": lambda number: f"d/{number // 2:06}/{number % 2}",
    "twins": lambda number: f"d/{number // 3:06}" + ("", "!", "/in")[number % 3],
    "lumpy": lambda number: f"d/{_lumpy(number)}",
    "words": lambda number: f"d/{random.Random(number).choice('etaoin') * (number % 5)}{_hash(number)[:4]}",
}


def keys_under(names: Iterable[str], directory: str) -> list[str]:
    rests = [name[len(directory) :] for name in names if name.startswith(directory)]
    return sorted({rest[: rest.find("/") + 1] or rest for rest in rests})


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
async def test_all_names_are_told_once_whatever_was_guessed(
    shape: str, seed: int, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    names = {SHAPES[shape](number) for number in range(12_000)}
    told = Ahead([*names, "c", "e/f"], nursery, seed=seed)
    listing = await told.read("d/", seed=seed)
    assert list(listing.rows) == keys_under(names, "d/")


@pytest.mark.parametrize("seed", range(3))
async def test_names_that_come_and_go_meanwhile_take_no_others_with_them(
    seed: int, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    names = {f"{number:07}" for number in range(0, 40_000, 2)}
    told = Ahead(names, nursery, seed=seed)
    chance = random.Random(seed)
    gone: set[str] = set()

    async def disturb() -> None:
        while True:
            await trio.sleep(0.02)
            name = f"{chance.randrange(40_000):07}"
            if name in names:
                gone.add(name)
                told.store.account.hide(told.bucket_id, name)
            else:
                told.store.account.add(told.bucket_id, name, b"x")

    nursery.start_soon(disturb)
    shown = list((await told.read("")).rows)
    assert shown == sorted(set(shown))
    assert not names - gone - set(shown)


# --- what it costs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("names", "most"), [(1000, 1), (1500, 3), (10_000, 12), (30_000, 34)])
async def test_counted_names_are_asked_for_side_by_side_and_hardly_any_twice(
    names: int, most: int, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    told = Ahead((f"{number:07}" for number in range(names)), nursery)
    listing = await told.read("")
    assert len(listing) == names
    assert told.class_c <= most, told.store.rows
    assert told.store.most <= 4


@pytest.mark.parametrize("shape", ["lumpy", "words", "hashes"])
async def test_a_wrong_guess_is_the_last(
    shape: str, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    names = {SHAPES[shape](number) for number in range(20_000)}
    told = Ahead(names, nursery)
    listing = await told.read("d/")
    assert told.class_c <= len(listing) / 1000 * 1.35 + 10, told.store.rows


async def test_who_reads_no_further_than_the_first_page_pays_for_no_other(nursery: trio.Nursery) -> None:
    told = Ahead((f"{number:07}" for number in range(20_000)), nursery)
    await told.read("", most=FIRST_PAGE)
    await trio.testing.wait_all_tasks_blocked()
    assert told.store.rows == [FIRST_PAGE]


@pytest.mark.parametrize(("read", "rows"), [(1001, 5000), (5001, 5000 + 2 * MODEST)])
async def test_who_stops_reading_has_paid_for_no_more_than_was_asked_for_at_once(
    read: int, rows: int, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    told = Ahead((f"{number:07}" for number in range(30_000)), nursery)
    await told.read("", most=read)
    await trio.sleep(60)
    assert sum(told.store.rows) <= rows, told.store.rows


async def test_where_most_rows_do_not_show_nothing_is_guessed(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """A page of the past has as many names as versions of that time: where the next one begins is unknown."""
    told = Ahead((f"{number:07}" for number in range(5000) for _ in range(3)), nursery)
    told.listings = Listings(
        PastStore(told.store, 1 << 50), 60.0, "", on_new=lambda *_: None, nursery=nursery
    )
    assert len(await told.read("")) == 5000
    assert told.store.most == 1


async def test_with_a_short_listing_ttl_nothing_is_guessed(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    told = Ahead((f"{number:07}" for number in range(20_000)), nursery, ttl=2 * UNTAKEN_SECONDS - 1)
    await told.read("")
    assert told.store.most == 1


# --- what it must not break -------------------------------------------------------------------------------


async def test_a_page_counts_as_a_call_under_way_until_it_is_taken_in_and_not_for_ever(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Own changes are kept beside the listings as long as an answer from before them may be taken in."""
    told = Ahead((f"{number:07}" for number in range(20_000)), nursery)
    listing = await told.listings.get(told.bucket_id, "")
    began = trio.current_time()
    told.listings.extend_ahead(told.bucket_id, listing)
    await trio.sleep(5)
    assert len(told.store.rows) > listing.pages  # there is one that waits for its turn
    assert told.listings.oldest_call() == began
    await trio.sleep(UNTAKEN_SECONDS)
    assert told.listings.oldest_call() == float("inf")
    await told.read("")
    assert len(listing) == 20_000


async def test_a_page_that_waited_for_long_is_asked_for_anew(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings_module, "UNTAKEN_SECONDS", 1000.0)
    told = Ahead((f"{number:07}" for number in range(5000)), nursery, ttl=2000)
    listing = await told.listings.get(told.bucket_id, "")
    told.listings.extend_ahead(told.bucket_id, listing)
    await trio.sleep(5)
    told.listings._ttl = 4.0
    for number in range(3000, 5000):
        told.store.account.hide(told.bucket_id, f"{number:07}")
    while not listing.complete:
        await told.listings.extend(told.bucket_id, listing)
    assert len(listing) == 3000


async def test_a_page_that_fails_is_asked_for_in_its_turn(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    told = Ahead((f"{number:07}" for number in range(30_000)), nursery)
    failing = random.Random(1)

    def fail(_call: str) -> None:
        if told.store.now > 1 and failing.random() < 0.5:
            raise B2Unavailable("not now")

    told.store.account.on_call = fail
    listing = await told.listings.get(told.bucket_id, "")
    while not listing.complete:
        told.listings.extend_ahead(told.bucket_id, listing)
        await trio.sleep(2)
        try:
            await told.listings.extend(told.bucket_id, listing)
        except B2Unavailable:
            continue
    assert len(listing) == 30_000
