"""store/past.py: any history, any moment, any way to page through it, beside a plain model; and its price."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from b2mount.core.errors import AccessDenied, ReadOnlyMount, VersionGone
from b2mount.core.grant import Capability
from b2mount.store.memory import MemoryStore
from b2mount.store.memory_account import MemoryB2
from b2mount.store.past import PastStore
from b2mount.store.store import Action, FileVersion

NAMES = (
    "a",
    "a b",
    "a-",
    "a/",
    "a/b",
    "a/b/c",
    "a/d",
    "aa",
    "b",
    "b/c/d/e",
    "b/f",
    "c/.bzEmpty",
    "\u00e9/x",
)


@dataclass
class Clock:
    """A clock that stands until it is moved."""

    ms: int = 1_000_000

    def __call__(self) -> int:
        return self.ms


class History:
    """A bucket, and what each of its names showed at every moment so far."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.account = MemoryB2(now_ms=self.clock)
        self.bucket = self.account.create_bucket("bucket-one").bucket_id
        self.store = MemoryStore(self.account)
        self.calls: list[str] = []
        self.account.on_call = self.calls.append
        self.moments: dict[int, dict[str, bytes]] = {self.clock(): {}}

    def take(self, name: str, action: str) -> None:
        """Do one step, a second after the one before, and note what shows then."""
        self.clock.ms += 1000
        now = dict(self.moments[max(self.moments)])
        if action == "put":
            now[name] = f"{name} at {self.clock()}".encode()
            self.account.add(self.bucket, name, now[name])
        elif action == "hide":
            self.account.hide(self.bucket, name)
            now.pop(name, None)
        else:
            self.account.add(self.bucket, name, b"", action=Action.START)
        self.moments[self.clock()] = now

    def past(self, at_ms: int) -> PastStore:
        return PastStore(self.store, at_ms)


def history(steps: Sequence[tuple[str, str]]) -> History:
    made = History()
    for name, action in steps:
        made.take(name, action)
    return made


async def all_rows(store: PastStore, bucket: str, prefix: str, **how: object) -> list[FileVersion]:
    """Page through a listing; every page but the last must bring rows, and the rows stand in byte order."""
    rows: list[FileVersion] = []
    start: str | None = None
    while True:
        page = await store.list_names(bucket, prefix, start=start, **how)  # type: ignore[arg-type]
        rows += page.rows
        if page.next_name is None:
            assert [row.name for row in rows] == sorted({row.name for row in rows})
            return rows
        assert page.rows
        assert page.rows[-1].name < page.next_name
        start = page.next_name


def collapsed(names: Sequence[str], prefix: str) -> list[str]:
    """Return what a delimiter listing shows of these names."""
    under = [name for name in names if name.startswith(prefix)]
    return sorted({name[: (name.find("/", len(prefix)) + 1) or None] for name in under})


steps = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(["put", "put", "hide", "start"])), max_size=30
)


@settings(deadline=None)
@given(steps, st.data())
def test_any_moment_of_any_history_is_listed_as_it_was(
    taken: list[tuple[str, str]], data: st.DataObject
) -> None:
    made = history(taken)
    at = data.draw(st.sampled_from(sorted(made.moments))) + data.draw(st.sampled_from([0, 1, 999]))
    prefix = data.draw(st.sampled_from(["", "a", "a/", "a/b/", "b/", "b/c/d/", "none/"]))
    limit = data.draw(st.sampled_from([1, 2, 3, 1000]))
    then = made.moments[max(moment for moment in made.moments if moment <= at)]

    async def look() -> None:
        past = made.past(at)
        flat = await all_rows(past, made.bucket, prefix, limit=limit)
        assert [row.name for row in flat] == sorted(name for name in then if name.startswith(prefix))
        for row in flat:
            assert await past.read_range(row.file_id, 0, row.size) == then[row.name]
        listed = await all_rows(past, made.bucket, prefix, delimiter="/", limit=limit)
        assert [row.name for row in listed] == collapsed(list(then), prefix)
        others = [row for row in listed if row.name != prefix]  # `a/` is a file in the directory of that name
        assert all((row.action is Action.FOLDER) == row.name.endswith("/") for row in others)

    trio.run(look)


async def test_a_name_with_very_many_versions_is_passed_over_once_its_own_is_found() -> None:
    made = history([("many", "put")] * 2500 + [("other", "put")])
    made.calls.clear()
    rows = await all_rows(made.past(made.clock()), made.bucket, "", limit=1000)
    assert [row.name for row in rows] == ["many", "other"]
    assert len(made.calls) == 2
    made.calls.clear()
    first = min(made.moments) + 1000
    rows = await all_rows(made.past(first), made.bucket, "", limit=1000)
    assert [row.uploaded_ms for row in rows] == [first]
    assert len(made.calls) == 2  # 1,000 rows, then 4,000


async def test_which_directories_there_were_is_settled_by_flat_pages_where_they_are_small() -> None:
    made = history([(f"d{number:03}/file", "put") for number in range(100)])
    for number in range(50, 100):
        made.take(f"d{number:03}/file", "hide")
    past = made.past(made.clock())
    made.calls.clear()
    rows = await all_rows(past, made.bucket, "", delimiter="/", limit=1000)
    assert [row.name for row in rows] == [f"d{number:03}/" for number in range(50)]
    assert len(made.calls) == 2
    await all_rows(past, made.bucket, "", delimiter="/", limit=1000)
    assert len(made.calls) == 3  # which directories there were is remembered


async def test_large_directories_are_looked_into_one_call_each() -> None:
    made = history([(f"d{d}/{number:04}", "put") for d in range(5) for number in range(600)])
    made.calls.clear()
    rows = await all_rows(made.past(made.clock()), made.bucket, "", delimiter="/", limit=1000)
    assert [row.name for row in rows] == [f"d{d}/" for d in range(5)]
    assert len(made.calls) <= 6


async def test_versions_of_one_moment_show_in_b2s_own_order() -> None:
    made = History()
    made.account.add(made.bucket, "tie", b"first")
    rows = made.account.bucket(made.bucket)._rows["tie"]
    rows.insert(0, made.account.add(made.bucket, "other", b"second"))
    tied = FileVersion("tie", rows[0].file_id, 6, rows[1].uploaded_ms, sha1=rows[0].sha1)
    rows[0] = tied
    (shown,) = await all_rows(made.past(tied.uploaded_ms), made.bucket, "tie", limit=10)
    assert shown.file_id == tied.file_id


async def test_nothing_can_be_changed_in_the_past() -> None:
    made = history([("a", "put")])
    past = made.past(made.clock())
    assert not past.grant.has(Capability.WRITE_FILES)
    assert not past.grant.has(Capability.DELETE_FILES)
    assert past.grant.has(Capability.LIST_FILES, Capability.READ_FILES)
    with pytest.raises(ReadOnlyMount):
        await past.hide(made.bucket, "a")
    with pytest.raises(ReadOnlyMount):
        await past.delete_version("a", "id")
    with pytest.raises(AccessDenied):
        await past.head("bucket-one", "a")


async def test_a_version_deleted_since_is_gone() -> None:
    made = history([("a", "put")])
    past = made.past(made.clock())
    (row,) = await all_rows(past, made.bucket, "", limit=10)
    await made.store.delete_version("a", row.file_id)
    with pytest.raises(VersionGone):
        await past.read_range(row.file_id, 0, 1)
    assert await all_rows(past, made.bucket, "", limit=10) == []
