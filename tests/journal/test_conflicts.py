"""Lost updates: what is judged to be one, and how few calls find them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2mount.core.grant import Capability
from b2mount.journal.conflicts import Conflicts
from b2mount.journal.drafts import Draft
from b2mount.journal.lost_updates import Finding, Step, judge
from b2mount.journal.ops import Kind, Op
from b2mount.store.store import Action, FileVersion, Page, Store

NOW = 1_000_000


def version(file_id: str, at: int = NOW, action: Action = Action.UPLOAD, name: str = "f") -> FileVersion:
    return FileVersion(name, file_id, 1, at, action)


OURS, BASE, THEIRS = version("ours"), version("base", 1000), version("theirs", 2000)
HIDDEN, BEGUN = version("hide", 2000, Action.HIDE), version("begun", 3000, Action.START)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([OURS, BASE], None),
        ([OURS], None),  # what was there is gone: a lifecycle rule, a person
        ([], None),
        ([BASE], None),  # ours is gone
        ([OURS, BEGUN, BASE], None),
        ([OURS, THEIRS, BASE], Finding("changed", THEIRS)),
        ([OURS, HIDDEN, BASE], Finding("removed", HIDDEN)),
        ([version("later", NOW + 1), OURS, BASE], None),  # somebody who saw ours
        ([version("meanwhile", 500_000), OURS, BASE], Finding("newer", version("meanwhile", 500_000))),
        ([version("own-later", 500_000), OURS, version("own")], None),
        ([OURS, version("interim"), BASE], None),
        ([OURS, version("interim"), THEIRS, BASE], Finding("changed", THEIRS)),
    ],
)
def test_right_under_ours_must_lie_what_we_knew(rows: Sequence[FileVersion], found: Finding | None) -> None:
    step = Step(OURS, "base", NOW)
    assert judge(rows, step, lambda one: one.startswith(("own", "interim")), _is_interim) == found


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([OURS], None),
        ([OURS, HIDDEN, THEIRS], None),  # it had been removed
        ([OURS, BEGUN], None),
        ([OURS, version("own")], None),
        ([OURS, THEIRS], Finding("made", THEIRS)),
        ([OURS, version("interim"), THEIRS], Finding("made", THEIRS)),
        ([version("meanwhile", 500_000), OURS], Finding("newer", version("meanwhile", 500_000))),
    ],
)
def test_under_what_was_made_new_lies_nothing_that_shows(
    rows: Sequence[FileVersion], found: Finding | None
) -> None:
    step = Step(OURS, "", NOW)
    assert judge(rows, step, lambda one: one.startswith(("own", "interim")), _is_interim) == found


def _is_interim(file_id: str) -> bool:
    return file_id.startswith("interim")


MARKER = version("marker", NOW, Action.HIDE)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([MARKER, BASE], None),
        ([MARKER], None),
        ([BASE], None),  # the marker is gone
        ([MARKER, HIDDEN, BASE], None),  # they had removed it, too
        ([MARKER, BEGUN, BASE], None),
        ([MARKER, version("own"), BASE], None),
        ([MARKER, version("interim"), BASE], None),
        ([MARKER, THEIRS, BASE], Finding("hidden", THEIRS)),
        ([MARKER, version("interim"), THEIRS, BASE], Finding("hidden", THEIRS)),
        ([MARKER, BASE, THEIRS], None),  # an older one, which was known to be replaced
        ([version("later", NOW + 1), MARKER, BASE], None),  # it shows
    ],
)
def test_a_removal_hides_what_was_known_and_nothing_newer(
    rows: Sequence[FileVersion], found: Finding | None
) -> None:
    step = Step(MARKER, "base", NOW)
    assert judge(rows, step, lambda one: one.startswith(("own", "interim")), _is_interim) == found


@pytest.mark.parametrize(("sha1", "found"), [("a", None), ("b", "changed"), (None, "changed")])
def test_an_upload_that_b2_took_twice_is_nobody_elses(sha1: str | None, found: str | None) -> None:
    ours, once = replace(OURS, sha1="a"), replace(THEIRS, sha1=sha1)
    finding = judge([ours, once, BASE], Step(ours, "base", NOW), lambda _: False)
    assert (finding.kind if finding else None) == found


class Shelf:
    """A store that lists versions and counts how often."""

    def __init__(self, rows: Sequence[FileVersion]) -> None:
        self.rows = sorted(rows, key=lambda row: (row.name, -row.uploaded_ms))
        self.calls = 0

    @property
    def grant(self) -> Any:
        class Listing:
            def has(self, *_: Capability) -> bool:
                return True

        return Listing()

    async def list_versions(
        self, bucket_id: str, prefix: str, *, start: str, delimiter: str, limit: int
    ) -> Page:
        self.calls += 1
        inside = [row for row in self.rows if row.name.startswith(prefix) and row.name >= start]
        shown = [row for row in inside if not delimiter or delimiter not in row.name[len(prefix) :]]
        return Page(shown[:limit], shown[limit].name if len(shown) > limit else None)


def overwrite(conflicts: Conflicts, name: str, made: FileVersion, over: str) -> None:
    op = Op(1, Kind.PUT, "bucket", name, draft=cast(Draft, None))
    op.over = over
    conflicts.sent(op, made)


async def test_what_was_overwritten_in_a_directory_is_found_by_one_call() -> None:
    names = [f"d/{number:03d}" for number in range(300)]
    rows = [version(f"ours{name}", NOW, name=name) for name in names]
    rows += [version(f"base{name}", 1000, name=name) for name in names]
    rows += [version("theirs", 2000, name="d/123")]
    shelf = Shelf(rows)
    conflicts = Conflicts(cast(Store, shelf), "", server_ms=lambda: NOW)
    for name in names:
        overwrite(conflicts, name, version(f"ours{name}", NOW, name=name), f"base{name}")
    await conflicts.look()
    assert shelf.calls == 1
    assert [(row["name"], row["kind"], row["theirs"]) for row in conflicts.rows()] == [
        ("d/123", "changed", "theirs")
    ]
    await conflicts.look()
    assert shelf.calls == 1


def remove(conflicts: Conflicts, name: str, over: str) -> None:
    op = Op(1, Kind.HIDE, "bucket", name)
    op.over = over
    conflicts.hid(op, version(f"marker {name}", NOW, Action.HIDE, name))


@pytest.mark.parametrize(("between", "most"), [(0, 3), (2000, 101)])
async def test_a_tree_that_was_removed_is_looked_at_by_few_calls(between: int, most: int) -> None:
    """One directory's versions after the other are in one listing, unless others' names lie between."""
    names = [f"d{number:03d}/{part}" for number in range(100) for part in "abcdefgh"]
    rows = [version(f"marker {name}", NOW, Action.HIDE, name) for name in names]
    rows += [version(f"base {name}", 1000, name=name) for name in names]
    rows += [version("theirs", 2000, name="d050/c")]
    rows += [version("x", name=f"d{n:03d}/sub/{m:04d}") for n in range(100) for m in range(between)]
    shelf = Shelf(rows)
    conflicts = Conflicts(cast(Store, shelf), "", server_ms=lambda: NOW)
    for name in names:
        remove(conflicts, name, f"base {name}")
    await conflicts.look()
    assert [(row["name"], row["kind"], row["theirs"]) for row in conflicts.rows()] == [
        ("d050/c", "hidden", "theirs")
    ]
    assert shelf.calls <= most


async def test_more_removals_than_can_be_looked_at_are_said_in_one_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("b2mount.journal.conflicts.NAMES_KEPT", 10)
    conflicts = Conflicts(cast(Store, Shelf([])), "", server_ms=lambda: NOW)
    for number in range(30):
        remove(conflicts, str(number), "base")
    await conflicts.look()
    assert [one.getMessage() for one in caplog.records] == [
        "20 overwritten or removed files: too many to be looked at for changes by others"
    ]


@given(st.sets(st.sampled_from(["a", "b/c", "b/d", "b/e/f", "g/h"]), min_size=1), st.booleans())
async def test_each_conflict_is_found_once_wherever_it_lies(names: set[str], lost: bool) -> None:
    rows = []
    for name in ["a", "b/c", "b/d", "b/e/f", "g/h"]:
        rows += [version(f"ours{name}", NOW, name=name), version(f"base{name}", 1000, name=name)]
        rows += [version(f"theirs{name}", 2000, name=name)] if lost else []
    conflicts = Conflicts(cast(Store, Shelf(rows)), "", server_ms=lambda: NOW)
    for name in names:
        overwrite(conflicts, name, version(f"ours{name}", NOW, name=name), f"base{name}")
    await conflicts.look()
    await conflicts.look()
    assert sorted(row["name"] for row in conflicts.rows()) == (sorted(names) if lost else [])


async def test_new_files_cost_no_call() -> None:
    shelf = Shelf([])
    conflicts = Conflicts(cast(Store, shelf), "", server_ms=lambda: NOW)
    overwrite(conflicts, "new", OURS, "")
    await conflicts.look()
    assert shelf.calls == 0
