"""Packed rows give back what was packed, however odd, and take little memory."""

import tracemalloc
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from b2mount.store import rows
from b2mount.store.packed import pack
from b2mount.store.store import Action, FileVersion, Retention
from tests.store.test_rows import FULL, odd_rows

LETTERS = st.text(st.characters(codec=None), max_size=6)
DIGITS = st.sampled_from(["0", "1700000000000", "١٢", "-1", "1.5", "99999999999999", "007"])
VERSIONS = st.builds(
    FileVersion,
    name=LETTERS,
    file_id=st.sampled_from(["", "4_z1", "4_z12", "4_z1_f1"]) | LETTERS,
    size=st.integers(-(1 << 70), 1 << 70),
    uploaded_ms=st.integers(0, 1 << 70),
    action=st.sampled_from(Action),
    sha1=st.none() | st.sampled_from(["a" * 40, "0" * 40, "A" * 40, "xy"]) | LETTERS,
    content_type=LETTERS,
    info=st.dictionaries(LETTERS, LETTERS, max_size=3)
    | DIGITS.map(lambda d: {"src_last_modified_millis": d}),
    retention=st.none() | st.builds(Retention, mode=st.just("governance"), until_ms=st.integers()),
    legal_hold=st.none() | st.booleans(),
)


@given(st.lists(VERSIONS, max_size=5))
def test_what_is_packed_comes_out_again(versions: list[FileVersion]) -> None:
    packed = pack(versions)
    assert list(packed) == versions
    assert packed[:2] == versions[:2]
    assert [packed.is_folder(at) for at in range(len(packed))] == [
        v.action is Action.FOLDER for v in versions
    ]


@given(st.lists(VERSIONS, max_size=8), st.data())
def test_some_of_what_is_packed_is_as_if_it_was_packed_alone(
    versions: list[FileVersion], data: st.DataObject
) -> None:
    packed = pack(versions)
    picks = sorted(data.draw(st.sets(st.sampled_from(range(len(versions))))) if versions else ())
    first = data.draw(st.integers(0, len(versions)))
    for some, alone in (
        (packed.pick(picks), pack([versions[at] for at in picks])),
        (packed.tail(first), pack(versions[first:])),
    ):
        assert list(some) == list(alone)
        assert some.has_folders == alone.has_folders
        assert alone.is_plain or not some.is_plain
        assert alone.in_order or not some.in_order


@given(st.lists(odd_rows.map(lambda odd: {**FULL, **odd}) | odd_rows, max_size=4))
def test_rows_packed_together_read_as_rows_read_alone(told: list[dict[str, Any]]) -> None:
    alone = [version for version in map(rows.file_version, told) if version is not None]
    assert list(rows.page({"files": told}).rows) == alone


def test_ordinary_rows_are_packed_column_by_column() -> None:
    folder = {**FULL, "action": "folder", "fileId": None, "contentSha1": None, "contentType": None}
    hidden = {**FULL, "action": "hide", "contentSha1": None}
    assert rows._pack_ordinary([FULL, folder, hidden]) is not None


def test_a_name_takes_less_than_200_bytes() -> None:
    count = 5_000
    told = [
        {
            **FULL,
            "fileName": f"some/directory/of/photos/IMG_{number:08}.jpeg",
            "fileId": f"4_z{'b' * 24}_f1{number:015x}_d20260101_m{number % 60:06}_c000_v0001000_t0000",
            "contentSha1": f"{number << 100:040x}",
            "fileInfo": {"src_last_modified_millis": str(1_700_000_000_000 + number)},
            "fileRetention": None,
        }
        for number in range(count)
    ]
    body = orjson.dumps({"files": told})
    rows.page(orjson.loads(body))
    tracemalloc.start()
    try:
        page = rows.page(orjson.loads(body))
        taken = tracemalloc.get_traced_memory()[0] / count
    finally:
        tracemalloc.stop()
    assert len(page.rows) == count
    assert taken < 200, taken
