"""Listings: what is believed, what it costs, and that flat listings tell the same as single ones."""

import random

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from b2mount.cache.listing import Listing, split_flat_rows
from b2mount.cache.listings import Listings
from b2mount.core.errors import B2Unavailable
from b2mount.store.memory import MemoryStore
from b2mount.store.memory_account import MemoryB2
from b2mount.store.store import Action, FileVersion, Page
from tests.journal.lives import memory

PARTS = ["", "a", "a-", "a.", "a0", "b", ".", "..", ".bzEmpty", "é", "\U0001f600", "\uffff", "z"]
NAMES = st.sets(
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map("/".join).filter(bool), max_size=25
)


class Told:
    """Listings over a bucket in memory, with the list calls made and the rows they gave."""

    def __init__(self, names: dict[str, bytes], ttl: float = 60.0, limit: str = "") -> None:
        plain, self.bucket_id = memory()
        self.store = CountingStore(plain.account)
        for name, data in names.items():
            plain.account.add(self.bucket_id, name, data)
        self.new: list[str] = []
        self.listings = Listings(
            self.store, ttl, limit, on_new=lambda _bucket, listing: self.new.append(listing.directory)
        )

    async def get(self, directory: str) -> Listing:
        return await self.listings.get(self.bucket_id, directory)

    def add(self, name: str, data: bytes = b"x") -> FileVersion:
        return self.store.account.add(self.bucket_id, name, data)

    @property
    def class_c(self) -> int:
        """List calls as B2 bills them: one for each 1,000 rows begun."""
        return sum(max(1, -(-rows // 1000)) for rows in self.store.rows)


class CountingStore(MemoryStore):
    """Counts rows, and may stand still or fail."""

    def __init__(self, account: MemoryB2) -> None:
        super().__init__(account)
        self.rows: list[int] = []
        self.gate: trio.Event | None = None
        self.most_rows = 10_000  # of a page

    async def list_names(
        self,
        bucket_id: str,
        prefix: str,
        *,
        start: str | None = None,
        delimiter: str | None = None,
        limit: int = 1000,
    ) -> Page:
        page = await super().list_names(
            bucket_id, prefix, start=start, delimiter=delimiter, limit=min(limit, self.most_rows)
        )
        self.rows.append(len(page.rows))
        if self.gate is not None:
            await self.gate.wait()
        return page


# --- flat listings ----------------------------------------------------------------------------------------


def facts(listing: Listing) -> tuple[dict[str, tuple[str, Action]], str | None, set[str]]:
    rows = {key: (row.file_id, row.action) for key, row in listing.rows.items()}
    return rows, listing.marker.file_id if listing.marker else None, listing.marker_names


async def single(store: MemoryStore, bucket_id: str, directory: str) -> Listing:
    """List one directory by itself, with a delimiter."""
    listing = Listing(directory, directory, 0.0)
    start = None
    while True:
        page = await store.list_names(bucket_id, directory, start=start, delimiter="/", limit=3)
        for row in page.rows:
            listing.add(row)
        start = page.next_name
        if start is None:
            return listing


def directories_of(names: set[str]) -> set[str]:
    return {name[: at + 1] for name in names for at, letter in enumerate(name) if letter == "/"} | {""}


@given(NAMES, st.integers(1, 12), st.integers(0, 30), st.booleans(), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_a_flat_listing_tells_the_same_as_single_ones(
    names: set[str], limit: int, which: int, empty: bool, chance: random.Random
) -> None:
    async def check() -> None:
        told = Told({name: b"" if empty or chance.random() < 0.5 else b"x" for name in sorted(names)})
        store, bucket_id = told.store, told.bucket_id
        directories = sorted(directories_of(names))
        start = directories[which % len(directories)]
        root = start[: start.rfind("/", 0, len(start) - 1) + 1] if start else ""
        page = await store.list_names(bucket_id, root, start=start, limit=limit)
        found, _ = split_flat_rows(root, list(page.rows), start=start, next_start=page.next_name, started=0.0)
        for directory, listing in found.items():
            assert listing.complete
            assert facts(listing) == facts(await single(store, bucket_id, directory)), directory
        if page.next_name is None:
            missing = {d for d in directories if d.startswith(root) and d >= start} - set(found)
            assert not missing or not page.rows

    trio.run(check)


@given(NAMES, st.sampled_from(["", "a", "a/", "a-", "a/a", "é/", "a/."]), st.data())
@settings(max_examples=100, deadline=None)
def test_any_order_of_looking_around_finds_what_is_there(
    names: set[str], limit: str, data: st.DataObject
) -> None:
    """Through walks, probes and partial prefixes: as if every directory had been listed by itself."""

    async def check() -> None:
        told = Told(dict.fromkeys(sorted(names), b"x"), limit=limit)
        top = limit[: limit.rfind("/") + 1]
        inside = {name for name in names if name.startswith(limit)}
        candidates = sorted(d for d in directories_of(inside) if d.startswith(limit) or d == top)
        for directory in data.draw(st.lists(st.sampled_from(candidates or [top]), max_size=8)):
            listing = await told.listings.get_complete(told.bucket_id, directory)
            rests = {name[len(directory) :] for name in inside if name.startswith(directory)}
            expected = {rest.split("/")[0] + "/" if "/" in rest else rest for rest in rests}
            assert set(listing.rows) == expected

    trio.run(check)


# --- what it costs ----------------------------------------------------------------------------------------


async def test_a_walk_over_a_thousand_directories_costs_few_calls() -> None:
    names = {f"tree/{d // 40:03}/{d:04}/{f}": b"x" for d in range(1000) for f in range(5)}
    told = Told(names)
    todo, seen = ["tree/"], 0
    while todo:
        listing = await told.listings.get_complete(told.bucket_id, todo.pop())
        todo += sorted((row.name for key, row in listing.rows.items() if key.endswith("/")), reverse=True)
        seen += sum(not key.endswith("/") for key in listing.rows)
    assert seen == 5000
    assert told.class_c <= 20, told.store.rows


async def test_looking_into_one_directory_of_a_vast_bucket_costs_one_small_call() -> None:
    told = Told({f"d{d:03}/{f:03}": b"x" for d in range(100) for f in range(100)})
    await told.get("d050/")
    assert told.store.rows == [100]
    await told.listings.find(told.bucket_id, "d050/", "007")
    await told.listings.find(told.bucket_id, "d050/", "none")
    assert told.store.rows == [100]


async def test_looking_into_a_few_vast_directories_costs_little_more_than_one_call_each() -> None:
    """Where the guess that it is a walk is wrong, each wrong guess is one page of the smallest price."""
    told = Told({f"p/d{d:02}/{f:05}": b"x" for d in range(12) for f in range(1500)})
    for number in range(12):
        await told.get(f"p/d{number:02}/")
    assert told.class_c <= 12 + 3, told.store.rows
    assert max(told.store.rows) <= 1000


async def test_a_single_name_of_a_vast_directory_is_asked_for_by_itself() -> None:
    told = Told({f"{number:05}": b"x" for number in range(20_000)} | {"15000-": b"x", "15000/in": b"x"})
    for number in (19_999, 15_000, 500):
        found = await told.listings.find(told.bucket_id, "", f"{number:05}")
        assert found.file is not None
        assert (found.folder is not None) is (number == 15_000)
    gone = await told.listings.find(told.bucket_id, "", "zzz")
    assert gone.file is None and gone.folder is None
    assert told.store.rows == [1000, 1, 3, 0]


@pytest.mark.parametrize("ttl", [0.0, 0.001, 60.0])
async def test_many_lookups_in_a_vast_directory_end_up_listing_it(ttl: float) -> None:
    told = Told({f"{number:05}": b"x" for number in range(20_000)}, ttl=ttl)
    before = 0
    for number in range(0, 20_000, 400):
        found = await told.listings.find(told.bucket_id, "", f"{number:05}")
        assert found.file is not None
        assert len(told.store.rows) - before <= 3
        before = len(told.store.rows)
    if ttl:
        assert ttl < 1 or len(told.store.rows) <= 25


@pytest.mark.parametrize("style", ["folder", "first file"])
def test_a_directory_on_the_next_page_is_not_taken_for_missing(style: str) -> None:
    """B2 does not say how a page's end is named where a folder comes next."""
    listing = Listing("d/", "d/", 0.0)
    listing.add(FileVersion("d/a", "1", 1, 1))
    listing.next_start = "d/b/" if style == "folder" else "d/b/first"
    assert listing.knows("a") and listing.knows("a!") and listing.knows("b")
    assert not listing.knows("b/") and not listing.knows("b0")


# --- who asks together ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ttl", [0.0, 60.0])
async def test_many_who_wait_cost_one_call_and_share_its_answer(ttl: float) -> None:
    told = Told({"a": b"x"}, ttl=ttl)
    told.store.gate = trio.Event()
    answers: list[Listing] = []

    async def ask() -> None:
        answers.append(await told.get(""))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        told.store.gate.set()
    assert len(told.store.rows) == 1
    assert all(answer is answers[0] for answer in answers)


async def test_a_failure_is_shared_by_those_who_wait_and_forgotten_then() -> None:
    told = Told({"a": b"x"})
    calls = 0

    def fail(_call: str) -> None:
        nonlocal calls
        calls += 1
        raise B2Unavailable("not now")

    told.store.account.on_call = fail
    failed = 0

    async def ask() -> None:
        nonlocal failed
        try:
            await told.get("")
        except B2Unavailable:
            failed += 1

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    assert (failed, calls) == (20, 1)
    told.store.account.on_call = lambda _call: None
    assert set((await told.get("")).rows) == {"a"}


async def test_who_asked_first_may_leave_without_harm_to_the_others() -> None:
    told = Told({"a": b"x"})
    told.store.gate = trio.Event()
    answers: list[Listing] = []

    async def ask() -> None:
        answers.append(await told.get(""))

    async with trio.open_nursery() as nursery:
        first = trio.CancelScope()

        async def leave() -> None:
            with first:
                await told.get("")

        nursery.start_soon(leave)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        first.cancel()
        await trio.testing.wait_all_tasks_blocked()
        told.store.gate.set()
    assert [set(answer.rows) for answer in answers] == [{"a"}]


# --- what is believed, and for how long -------------------------------------------------------------------


async def test_a_listing_is_believed_for_its_time_and_then_asked_for_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    told = Told({"a": b"x"}, ttl=60)
    assert set((await told.get("")).rows) == {"a"}
    told.add("b")
    await trio.sleep(59.9)
    assert set((await told.get("")).rows) == {"a"}
    await trio.sleep(0.2)
    assert set((await told.get("")).rows) == {"a", "b"}
    assert told.new == ["", ""]


async def test_a_probe_is_believed_no_longer_than_a_listing(autojump_clock: trio.testing.MockClock) -> None:
    told = Told({f"{number:05}": b"x" for number in range(3000)}, ttl=60)
    assert (await told.listings.find(told.bucket_id, "", "zz")).file is None
    told.add("zz")
    await trio.sleep(59)
    assert (await told.listings.find(told.bucket_id, "", "zz")).file is None
    await trio.sleep(2)
    assert (await told.listings.find(told.bucket_id, "", "zz")).file is not None


async def test_a_page_that_is_newer_than_a_probe_wins(autojump_clock: trio.testing.MockClock) -> None:
    told = Told({f"{number:05}": b"x" for number in range(1500)}, ttl=60)
    assert (await told.listings.find(told.bucket_id, "", "01200")).file is not None
    told.store.account.hide(told.bucket_id, "01200")
    await told.listings.get_complete(told.bucket_id, "")
    assert (await told.listings.find(told.bucket_id, "", "01200")).file is None


async def test_own_changes_show_without_a_call() -> None:
    told = Told({"d/a": b"x", "d/b": b"x"})
    await told.get("d/")
    calls = len(told.store.rows)
    told.listings.apply(told.bucket_id, "d/new", told.add("d/new"))
    told.listings.apply(told.bucket_id, "d/a", None)
    told.listings.apply(told.bucket_id, "d/sub/", FileVersion("d/sub/", "", 0, 0, action=Action.FOLDER))
    told.listings.apply(told.bucket_id, "d/.bzEmpty", told.add("d/.bzEmpty", b""))
    listing = await told.get("d/")
    assert set(listing.rows) == {"b", "new", "sub/"}
    assert listing.marker is not None
    told.listings.apply(told.bucket_id, "d/.bzEmpty", None)
    assert listing.marker is None
    assert len(told.store.rows) == calls


async def test_forgetting_a_directory_forgets_what_lies_under_it_alone() -> None:
    told = Told({"a/b/c": b"x", "ab/c": b"x"})
    for directory in ("a/", "a/b/", "ab/"):
        await told.get(directory)
    told.listings.forget(told.bucket_id, "a/")
    assert told.listings.peek(told.bucket_id, "a/b/") is None
    assert told.listings.peek(told.bucket_id, "a/") is None
    assert told.listings.peek(told.bucket_id, "ab/") is not None


async def test_the_oldest_call_under_way_is_known() -> None:
    told = Told({"a": b"x"})
    told.store.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        nursery.start_soon(told.get, "")
        await trio.testing.wait_all_tasks_blocked()
        assert began <= told.listings.oldest_call() <= trio.current_time()
        told.store.gate.set()
    assert told.listings.oldest_call() == float("inf")
