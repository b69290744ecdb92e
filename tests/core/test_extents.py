"""Extents beside a plain model: a list with one origin a byte."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2mount.core.extents import Extents, Origin, Segment

SMALL = 40

writes = st.tuples(st.integers(0, SMALL), st.integers(0, SMALL)).map(lambda r: ("write", min(r), max(r)))
resizes = st.integers(0, SMALL).map(lambda size: ("resize", size, size))
histories = st.lists(st.one_of(writes, resizes), max_size=25)
sizes = st.integers(0, SMALL)


class Model:
    """One origin a byte, nothing cleverer."""

    def __init__(self, base_size: int) -> None:
        self.bytes = [Origin.BASE] * base_size

    def write(self, start: int, end: int) -> None:
        if start < end:
            self.resize(max(end, len(self.bytes)))
            self.bytes[start:end] = [Origin.NEW] * (end - start)

    def resize(self, size: int) -> None:
        self.bytes = self.bytes[:size] + [Origin.ZERO] * (size - len(self.bytes))


def played(base_size: int, history: list[tuple[str, int, int]]) -> tuple[Extents, Model]:
    extents, model = Extents(base_size), Model(base_size)
    for verb, start, end in history:
        for side in (extents, model):
            if verb == "write":
                side.write(start, end)
            else:
                side.resize(start)
    return extents, model


def spelled_out(segments: list[Segment]) -> list[Origin]:
    return [segment.origin for segment in segments for _ in range(segment.size)]


@given(sizes, histories)
def test_every_byte_has_the_origin_the_model_says(
    base_size: int, history: list[tuple[str, int, int]]
) -> None:
    extents, model = played(base_size, history)
    assert extents.size == len(model.bytes)
    assert spelled_out(extents.segments(0, extents.size)) == model.bytes


@given(sizes, histories, sizes, sizes)
def test_segments_cover_exactly_the_range_asked_for_clipped_to_the_size(
    base_size: int, history: list[tuple[str, int, int]], start: int, end: int
) -> None:
    extents, model = played(base_size, history)
    segments = extents.segments(start, end)
    assert spelled_out(segments) == model.bytes[start:end]
    at = start
    for segment in segments:
        assert segment.start == at < segment.end
        at = segment.end
    assert all(a.origin is not b.origin for a, b in pairwise(segments))


@given(sizes, histories)
def test_what_is_dirty_is_what_is_new(base_size: int, history: list[tuple[str, int, int]]) -> None:
    extents, model = played(base_size, history)
    assert extents.dirty_bytes == model.bytes.count(Origin.NEW)
    assert {at for start, end in extents.dirty for at in range(start, end)} == {
        at for at, origin in enumerate(model.bytes) if origin is Origin.NEW
    }
    assert all(a[1] < b[0] for a, b in pairwise(extents.dirty))


@given(sizes, histories)
def test_the_base_is_needed_exactly_while_one_of_its_bytes_shows(
    base_size: int, history: list[tuple[str, int, int]]
) -> None:
    extents, model = played(base_size, history)
    assert extents.needs_base == (Origin.BASE in model.bytes)
    assert Origin.BASE not in model.bytes[extents.base_limit :]
    assert extents.base_limit <= min(extents.size, extents.base_size)


@given(sizes, histories)
def test_untouched_means_all_base_and_nothing_cut_off(
    base_size: int, history: list[tuple[str, int, int]]
) -> None:
    extents, model = played(base_size, history)
    assert extents.is_untouched == (model.bytes == [Origin.BASE] * base_size)


@given(sizes, histories)
def test_the_text_form_reads_back_the_same(base_size: int, history: list[tuple[str, int, int]]) -> None:
    extents, _ = played(base_size, history)
    again = Extents.from_text(extents.to_text())
    assert again == extents
    assert (again.dirty, again.dirty_bytes, again.size) == (extents.dirty, extents.dirty_bytes, extents.size)
    assert (again.base_size, again.base_limit) == (extents.base_size, extents.base_limit)


@given(sizes, histories, histories)
def test_a_copy_does_not_see_what_is_written_later(
    base_size: int, history: list[tuple[str, int, int]], later: list[tuple[str, int, int]]
) -> None:
    extents, model = played(base_size, history)
    snapshot = extents.copy()
    assert snapshot == extents
    for verb, start, end in later:
        if verb == "write":
            extents.write(start, end)
        else:
            extents.resize(start)
    assert spelled_out(snapshot.segments(0, SMALL)) == model.bytes
    assert snapshot.dirty_bytes == model.bytes.count(Origin.NEW)


@given(st.text(alphabet="0123456789+- x_", max_size=30))
def test_text_that_is_no_map_is_refused_and_never_misread(text: str) -> None:
    try:
        found = Extents.from_text(text)
    except ValueError:
        return
    assert Extents.from_text(found.to_text()) == found
    assert found.base_limit <= min(found.size, found.base_size)
    assert sum(segment.size for segment in found.segments(0, found.size)) == found.size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5 5",
        "5 6 9",  # the base shows beyond its end
        "9 6 5",  # the base shows beyond the draft
        "0 0 5 0+6",  # written beyond the draft
        "9 6 5 0+6",
        "0 0 9 2+0",  # an empty range
        "0 0 9 2+2 0+2",  # ranges that touch
        "0 0 9 2",
        "0 0 9 +2",
        "-1 0 9",
        "0 0 ١",
        "0 0 ²",
        "0 0 1_0",
    ],
)
def test_a_broken_map_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Extents.from_text(text)


def test_what_was_cut_off_and_grown_again_is_zeros() -> None:
    extents = Extents(10)
    extents.write(6, 8)
    extents.resize(4)
    extents.resize(10)
    assert extents.segments(0, 10) == [Segment(0, 4, Origin.BASE), Segment(4, 10, Origin.ZERO)]
    assert not extents.is_untouched


def test_a_write_beyond_the_end_leaves_a_hole_of_zeros() -> None:
    extents = Extents(3)
    extents.write(5, 6)
    assert extents.segments(0, 99) == [
        Segment(0, 3, Origin.BASE),
        Segment(3, 5, Origin.ZERO),
        Segment(5, 6, Origin.NEW),
    ]


def test_a_terabyte_written_in_order_is_one_range() -> None:
    extents = Extents()
    for at in range(0, 10**12, 10**8):
        extents.write(at, at + 10**8)
    assert extents.dirty == ((0, 10**12),)
    assert extents.to_text() == "0 0 1000000000000 0+1000000000000"


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 2)])
def test_an_impossible_range_is_refused(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="cannot write"):
        Extents().write(start, end)


def test_negative_sizes_and_offsets_are_refused() -> None:
    with pytest.raises(ValueError, match="base"):
        Extents(-1)
    with pytest.raises(ValueError, match="file"):
        Extents().resize(-1)
    with pytest.raises(ValueError, match="offset"):
        Extents().segments(-1, 2)
