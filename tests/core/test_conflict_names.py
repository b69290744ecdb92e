"""The names of lost updates: beside the file, within what B2 and the key take, one for each version."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2mount.core.conflict_names import conflict_name
from b2mount.core.names import check_uploadable

MADE_MS = 1_795_336_211_000  # 2026-11-22 08:30:11 UTC


@pytest.mark.parametrize(
    ("name", "limit", "expected"),
    [
        ("report.txt", "", "report.conflict-20261122-083011-ee33.txt"),
        ("d.d/report", "", "d.d/report.conflict-20261122-083011-ee33"),
        ("d/.profile", "d/", "d/.profile.conflict-20261122-083011-ee33"),
        ("a.tar.gz", "a.t", "a.tar.conflict-20261122-083011-ee33.gz"),
        ("a.tar.gz", "a.tar.g", "a.tar.gz.conflict-20261122-083011-ee33"),  # what the key may write
        ("x.this is no extension", "", "x.this is no extension.conflict-20261122-083011-ee33"),
        ("é" * 125, "", "é" * 110 + ".conflict-20261122-083011-ee33"),
        ("é" * 125, "é" * 125, None),
    ],
)
def test_it_stands_beside_the_file(name: str, limit: str, expected: str | None) -> None:
    assert conflict_name(name, file_id="4_z", made_ms=MADE_MS, limit=limit) == expected


COMPONENTS = st.text(st.characters(codec="utf-8", exclude_characters="/\\\x7f", min_codepoint=32), min_size=1)
NAMES = st.lists(COMPONENTS.filter(lambda one: len(one.encode()) <= 250), min_size=1, max_size=6)


@given(NAMES.map("/".join).filter(lambda name: len(name.encode()) <= 1024), st.integers(0, 1100), st.data())
def test_b2_and_the_key_take_it(name: str, cut: int, data: st.DataObject) -> None:
    limit = name[:cut]
    found = conflict_name(name, file_id=data.draw(st.text()), made_ms=MADE_MS, limit=limit)
    if found is None:
        return
    check_uploadable(found)
    assert found.startswith(limit)
    assert found != name
    assert found.rpartition("/")[0] == name.rpartition("/")[0]


@given(st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=200).map("".join), st.integers(0, 100))
def test_a_short_name_has_room_for_it(name: str, cut: int) -> None:
    assert conflict_name(name, file_id="1", made_ms=MADE_MS, limit=name[:cut]) is not None


def test_two_versions_have_two_names_and_one_has_one() -> None:
    names = {conflict_name("f", file_id=one, made_ms=MADE_MS) for one in ("a", "b", "a")}
    assert len(names) == 2
