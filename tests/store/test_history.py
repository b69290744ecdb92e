"""store/history.py: each version of any history, flat and by directories, beside a plain model; its price."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from b2mount.core.moments import format_moment
from b2mount.core.names import is_placeholder
from b2mount.core.views import View, name_of_version, name_versions, parse_bucket_id
from b2mount.store.history import History
from b2mount.store.store import Action, FileVersion, Page
from b2mount.store.views import Views
from tests.store.test_past import History as Made
from tests.store.test_past import history, steps


def expected(made: Made) -> dict[str, list[str]]:
    """Return each name's versions, oldest first, as it shows them."""
    bucket = made.account.bucket(made.bucket)
    told: dict[str, list[str]] = {}
    for row in reversed(list(bucket.versions_from(""))):
        last = row.name.rpartition("/")[2]
        if row.action is Action.START or (row.action is Action.UPLOAD and is_placeholder(last, row.size)):
            continue
        if row.action is Action.HIDE and is_placeholder(last, 0) and row.name not in told:
            continue  # of what only marked a directory
        ends = ".hidden" if row.action is Action.HIDE else ""
        told.setdefault(row.name, []).append(format_moment(row.uploaded_ms) + ends)
    return told


async def all_rows(
    lister: History | Views, bucket: str, prefix: str, *, delimiter: str | None = None, limit: int = 1000
) -> list[FileVersion]:
    rows: list[FileVersion] = []
    start: str | None = None
    while True:
        page: Page = await lister.list_names(bucket, prefix, start=start, delimiter=delimiter, limit=limit)
        rows += page.rows
        if page.next_name is None:
            assert [row.name for row in rows] == sorted({row.name for row in rows})
            return rows
        assert page.rows
        assert page.rows[-1].name < page.next_name
        start = page.next_name


@settings(deadline=None)
@given(steps, st.sampled_from([1, 2, 1000]), st.sampled_from(["", "a", "a/", "b/c/"]))
def test_any_history_is_listed_version_by_version(
    taken: list[tuple[str, str]], limit: int, prefix: str
) -> None:
    made = history(taken)
    told = {name: entries for name, entries in expected(made).items() if name.startswith(prefix)}

    async def look() -> None:
        lister = History(made.store)
        flat = [row for row in await all_rows(lister, made.bucket, prefix, limit=limit) if "\0" in row.name]
        found: dict[str, list[str]] = {}
        for row in flat:
            name, entry = name_of_version(row.name)
            found.setdefault(name, []).append(entry)
        assert found == told
        for name, entries in told.items():
            (folder,) = await all_rows(lister, made.bucket, f"{name}\0", delimiter="/")
            assert folder.name == f"{name}\0/"
            own = await all_rows(lister, made.bucket, f"{name}\0/", delimiter="/")
            assert [row.name for row in own] == [f"{name}\0/{entry}" for entry in entries]
        listed = await all_rows(lister, made.bucket, prefix, delimiter="/", limit=limit)
        direct = {f"{name}\0/" for name in told if "/" not in name[len(prefix) :]}
        assert {row.name for row in listed if "\0" in row.name} == direct

    trio.run(look)


async def test_a_directory_is_listed_without_reading_every_version_of_its_names() -> None:
    made = history([("many", "put")] * 3000 + [("other", "put")])
    made.calls.clear()
    rows = await all_rows(History(made.store), made.bucket, "", delimiter="/")
    assert [row.name for row in rows] == ["many\0/", "other\0/"]
    assert len(made.calls) == 2
    made.calls.clear()
    rows = await all_rows(History(made.store), made.bucket, "many\0/", delimiter="/")
    assert len(rows) == 3000
    assert len(made.calls) == 2  # 1,000 rows, then 10,000


async def test_a_look_that_no_key_allows_raises_what_the_store_does() -> None:
    made = history([("a", "put")])
    views = Views(made.store)
    assert [row.name for row in await all_rows(views, made.bucket, "")] == ["a"]
    past = View(made.clock() - 1).bucket_id(made.bucket)
    assert await all_rows(views, past, "") == []
    with pytest.raises(Exception, match="bucket is gone"):
        await all_rows(views, View(None).bucket_id("other"), "")


@given(st.lists(st.tuples(st.integers(0, 4_000_000_000_000), st.booleans()), max_size=50))
def test_entries_are_unique_and_sort_by_time(versions: list[tuple[int, bool]]) -> None:
    versions.sort(key=lambda version: version[0])
    names = list(name_versions(versions))
    assert names == sorted(set(names))
    assert [name.endswith(".hidden") for name in names] == [hides for _, hides in versions]


@given(st.lists(st.integers(0, 3), max_size=20), st.integers(0, 20))
def test_entries_stay_when_versions_are_added(moments: list[int], kept: int) -> None:
    versions = [(moment, False) for moment in sorted(moments)]
    assert list(name_versions(versions))[:kept] == list(name_versions(versions[:kept]))


@given(st.none() | st.integers(0, 1 << 42))
def test_the_id_of_a_look_tells_the_look_and_the_bucket(at_ms: int | None) -> None:
    assert parse_bucket_id(View(at_ms).bucket_id("4a48fe8875c6214145260818")) == (
        View(at_ms),
        "4a48fe8875c6214145260818",
    )
    assert parse_bucket_id("4a48fe8875c6214145260818") == (None, "4a48fe8875c6214145260818")
