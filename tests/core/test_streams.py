"""The parts of a file that is sent while it is written: before, while, and after."""

from hypothesis import given
from hypothesis import strategies as st

from b2mount.core.extents import Extents
from b2mount.core.parts import (
    STREAM_PARTS,
    Assemble,
    CopyPart,
    Limits,
    UploadPart,
    plan_head,
    plan_tail,
    stream_part_size,
)
from tests.core.test_parts import check_limits, content, drafts, made

LIMITS = Limits(minimum_part=5, maximum_part=20, maximum_parts=100, maximum_single=20, maximum_file=1000)
TB = 10**12


@given(drafts(), st.integers(1, 8))
def test_a_prefix_and_the_tail_planned_later_make_the_draft(extents: Extents, parts: int) -> None:
    sizes = [7] * min(parts, extents.size // 7)
    before = tuple(
        UploadPart(at * 7, at * 7 + 7, _shown(extents, at * 7, at * 7 + 7)) for at in range(len(sizes))
    )
    begin = 7 * len(sizes)
    tail = plan_tail(
        extents.segments(begin, extents.size),
        base_size=extents.base_size,
        parts_before=len(before),
        limits=LIMITS,
        upload_part_size=8,
        copy_part_size=12,
    )
    assert (tail == ()) is (begin == extents.size)
    plan = Assemble((*before, *tail))
    if len(plan.parts) > 1:
        check_limits(plan, LIMITS)
        assert made(extents, plan) == content(extents, 0, extents.size)


def _shown(extents: Extents, start: int, end: int) -> tuple[tuple[int, int], ...]:
    segments = extents.segments(start, end)
    return tuple((s.start, s.end) for s in segments if s.origin.value == "base")


@given(st.integers(0, 10 * TB))
def test_what_a_stream_continues_is_copied_in_few_parts(size: int) -> None:
    head = plan_head(size)
    assert sum(part.end - part.start for part in head) in (0, size)
    assert all(isinstance(part, CopyPart) and part.end - part.start >= 5_000_000 for part in head)
    assert (head == ()) is (size < 5_000_000) and len(head) <= 2_001


def test_parts_grow_so_that_a_stream_of_ten_terabytes_fits() -> None:
    sizes = [stream_part_size(number, at_most=5_000_000_000) for number in range(STREAM_PARTS)]
    assert sizes == sorted(sizes) and sizes[0] == 16_000_000
    assert sum(sizes) > 10 * TB and max(sizes) <= 5_000_000_000
    assert {stream_part_size(number, at_most=1) for number in range(0, STREAM_PARTS, 500)} == {5_000_000}
