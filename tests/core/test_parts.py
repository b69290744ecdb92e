"""Plans carried out on plain bytes, under small limits and under B2's own."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from b2mount.core.errors import FileTooLarge, NotPermitted
from b2mount.core.extents import Extents, Origin, Segment
from b2mount.core.parts import (
    CALL_BYTES,
    Assemble,
    CopyPart,
    CopyWhole,
    Limits,
    Plan,
    Range,
    UploadPart,
    UploadWhole,
    plan_parts,
)

MB, GB, TB = 10**6, 10**9, 10**12
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@st.composite
def small_limits(draw: st.DrawFn) -> Limits:
    minimum = draw(st.integers(1, 6))
    maximum = minimum * 2 + draw(st.integers(0, 12))
    parts = draw(st.integers(4, 40))
    return Limits(
        minimum_part=minimum,
        maximum_part=maximum,
        maximum_parts=parts,
        maximum_single=maximum + draw(st.integers(0, 20)),
        maximum_file=parts // 2 * maximum,
    )


@st.composite
def drafts(draw: st.DrawFn, longest: int = 120) -> Extents:
    extents = Extents(draw(st.integers(0, longest)))
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, longest))
        if draw(st.booleans()):
            extents.write(start, min(start + draw(st.integers(1, 12)), longest))
        else:
            extents.resize(start)
    return extents


def base_bytes(size: int) -> bytes:
    return bytes(1 + at % 120 for at in range(size))


def content(extents: Extents, start: int, end: int) -> bytes:
    """What the draft holds: base bytes are 1..120, new ones 200, zeros 0."""
    base = base_bytes(extents.base_size)
    result = b""
    for segment in extents.segments(start, end):
        match segment.origin:
            case Origin.NEW:
                result += b"\xc8" * segment.size
            case Origin.BASE:
                result += base[segment.start : segment.end]
            case Origin.ZERO:
                result += bytes(segment.size)
    return result


def uploaded(extents: Extents, start: int, end: int, fetched: Sequence[Range]) -> bytes:
    """Put an upload together as the uploader must: what is not new or zero comes from *fetched* alone."""
    base = base_bytes(extents.base_size)
    spool = bytearray(end - start)
    for segment in extents.segments(start, end):
        if segment.origin is Origin.NEW:
            spool[segment.start - start : segment.end - start] = b"\xc8" * segment.size
    for a, b in fetched:
        assert start <= a < b <= end
        assert not any(spool[a - start : b - start])  # nothing fetched over what is new
        spool[a - start : b - start] = base[a:b]
    return bytes(spool)


def made(extents: Extents, plan: Plan) -> bytes:
    """Do what the plan says, as B2 and the uploader would."""
    base = base_bytes(extents.base_size)
    if isinstance(plan, UploadWhole):
        assert plan.size == extents.size
        return uploaded(extents, 0, plan.size, plan.fetched)
    if isinstance(plan, CopyWhole):
        assert plan.start < plan.end <= len(base)
        return base[plan.start : plan.end]
    result = b""
    for part in plan.parts:
        assert part.start == len(result)
        if isinstance(part, CopyPart):
            assert part.end <= len(base)
            result += base[part.start : part.end]
        else:
            result += uploaded(extents, part.start, part.end, part.fetched)
    return result


def check_limits(plan: Plan, limits: Limits) -> None:
    if isinstance(plan, UploadWhole):
        assert plan.size <= limits.maximum_single
    elif isinstance(plan, CopyWhole):
        assert 0 < plan.end - plan.start <= limits.maximum_single
    else:
        lengths = [part.end - part.start for part in plan.parts]
        assert 2 <= len(lengths) <= limits.maximum_parts
        assert all(limits.minimum_part <= length <= limits.maximum_part for length in lengths[:-1])
        assert 1 <= lengths[-1] <= limits.maximum_part


def fetched_bytes(plan: Plan) -> int:
    steps = plan.parts if isinstance(plan, Assemble) else (plan,)
    return sum(b - a for step in steps if isinstance(step, UploadWhole | UploadPart) for a, b in step.fetched)


def uploaded_bytes(plan: Plan) -> int:
    if isinstance(plan, UploadWhole):
        return plan.size
    parts = plan.parts if isinstance(plan, Assemble) else ()
    return sum(part.size for part in parts if isinstance(part, UploadPart))


def planned(extents: Extents, call_bytes: int = CALL_BYTES) -> Plan:
    segments = extents.segments(0, extents.size)
    return plan_parts(segments, base_size=extents.base_size, call_bytes=call_bytes)


@given(drafts(), small_limits(), st.integers(1, 40), st.integers(1, 60), st.integers(0, 12))
def test_doing_what_the_plan_says_makes_the_draft_and_breaks_no_limit(
    extents: Extents, limits: Limits, upload_size: int, copy_size: int, call_bytes: int
) -> None:
    assume(extents.size <= limits.maximum_file)
    plan = plan_parts(
        extents.segments(0, extents.size),
        base_size=extents.base_size,
        limits=limits,
        upload_part_size=upload_size,
        copy_part_size=copy_size,
        call_bytes=call_bytes,
    )
    assert made(extents, plan) == content(extents, 0, extents.size)
    check_limits(plan, limits)


@given(drafts(), small_limits(), st.integers(0, 12))
def test_each_change_costs_little_more_than_two_smallest_parts(
    extents: Extents, limits: Limits, call_bytes: int
) -> None:
    assume(2 * limits.minimum_part < extents.size <= limits.maximum_file)
    assume(len(extents.dirty) + 1 <= limits.maximum_parts // 4)  # else changes must share parts
    plan = plan_parts(
        extents.segments(0, extents.size),
        base_size=extents.base_size,
        limits=limits,
        upload_part_size=1,
        call_bytes=call_bytes,
    )
    changes = sum(segment.origin is not Origin.BASE for segment in extents.segments(0, extents.size))
    bound = changes * (2 * limits.minimum_part + call_bytes)
    assert fetched_bytes(plan) <= bound
    if isinstance(plan, Assemble):
        changed = sum(s.size for s in extents.segments(0, extents.size) if s.origin is not Origin.BASE)
        assert uploaded_bytes(plan) == changed + fetched_bytes(plan)


@given(drafts(), small_limits())
def test_a_draft_of_base_alone_moves_no_byte(extents: Extents, limits: Limits) -> None:
    size = min(extents.base_limit, limits.maximum_file)
    untouched = Extents(extents.base_size)
    untouched.resize(size)
    plan = plan_parts(untouched.segments(0, size), base_size=untouched.base_size, limits=limits)
    assert fetched_bytes(plan) == uploaded_bytes(plan) == 0
    assert made(untouched, plan) == base_bytes(size)


@given(drafts(), small_limits())
def test_a_key_that_cannot_read_is_told_so_only_where_the_base_shows(
    extents: Extents, limits: Limits
) -> None:
    assume(extents.size <= limits.maximum_file)
    segments = extents.segments(0, extents.size)
    if extents.needs_base:
        with pytest.raises(NotPermitted, match="readFiles"):
            plan_parts(segments, base_size=extents.base_size, limits=limits, may_read_base=False)
    else:
        plan = plan_parts(segments, base_size=extents.base_size, limits=limits, may_read_base=False)
        assert fetched_bytes(plan) == 0
        assert made(extents, plan) == content(extents, 0, extents.size)


@pytest.mark.parametrize("seed", range(20))
def test_many_changes_in_a_large_file_stay_within_b2s_own_limits(seed: int) -> None:
    dice = random.Random(seed)
    extents = Extents(dice.choice([100 * MB, 5 * GB, 400 * GB, 10 * TB]))
    for _ in range(dice.choice([10, 1000, 20_000])):
        at = dice.randrange(extents.base_size - 4096)
        extents.write(at, at + 4096)
    plan = planned(extents)
    check_limits(plan, Limits())
    assert isinstance(plan, Assemble)
    at = 0
    for part in plan.parts:
        assert part.start == at
        at = part.end
        kinds = {segment.origin for segment in extents.segments(part.start, part.end)}
        if isinstance(part, CopyPart):
            assert kinds == {Origin.BASE}
        else:
            base = [s for s in extents.segments(part.start, part.end) if s.origin is Origin.BASE]
            assert part.fetched == tuple((s.start, s.end) for s in base)
    assert at == extents.size


def test_appending_a_mebibyte_to_a_gibibyte_uploads_the_mebibyte() -> None:
    extents = Extents(GIB)
    extents.write(GIB, GIB + MIB)
    plan = planned(extents)
    assert isinstance(plan, Assemble)
    *copies, last = plan.parts
    assert all(isinstance(part, CopyPart) for part in copies)
    assert last == UploadPart(GIB, GIB + MIB, ())


def test_a_patch_of_a_page_moves_ten_megabytes_whatever_the_file_s_size() -> None:
    extents = Extents(512 * MIB)
    extents.write(256 * MIB, 256 * MIB + 4 * KIB)
    plan = planned(extents)
    border = 256 * MIB + 5 * MB
    assert plan == Assemble(
        (
            CopyPart(0, 128 * MIB),
            CopyPart(128 * MIB, 256 * MIB),
            UploadPart(256 * MIB, border, ((256 * MIB + 4 * KIB, border),)),
            CopyPart(border, (border + 512 * MIB) // 2),
            CopyPart((border + 512 * MIB) // 2, 512 * MIB),
        )
    )


@pytest.mark.parametrize(
    ("size", "calls"), [(100 * MB, 1), (256 * MB, 2), (512 * MB, 4), (4 * GB, 4), (16 * GB, 16)]
)
def test_several_calls_copy_a_large_file_side_by_side_and_each_no_more_than_a_gigabyte(
    size: int, calls: int
) -> None:
    extents = Extents(size)
    extents.write(size, size + MB)
    plan = planned(extents)
    assert isinstance(plan, Assemble)
    assert len(plan.parts) == calls + 1


def test_patches_at_both_ends_leave_the_middle_in_b2() -> None:
    extents = Extents(100 * MB)
    extents.write(0, 1)
    extents.write(100 * MB - 1, 100 * MB)
    assert planned(extents) == Assemble(
        (
            UploadPart(0, 5 * MB, ((1, 5 * MB),)),
            CopyPart(5 * MB, 100 * MB - 1),
            UploadPart(100 * MB - 1, 100 * MB, ()),
        )
    )


def test_a_patch_close_to_the_start_takes_what_is_before_it_along() -> None:
    extents = Extents(GB)
    extents.write(MB, MB + 10)
    plan = planned(extents)
    assert isinstance(plan, Assemble)
    assert plan.parts[0] == UploadPart(0, 5 * MB, ((0, MB), (MB + 10, 5 * MB)))
    assert uploaded_bytes(plan) == 5 * MB


def test_too_many_changes_for_b2s_parts_share_uploads_where_the_gaps_are_smallest() -> None:
    limits = Limits(minimum_part=2, maximum_part=100, maximum_parts=12, maximum_single=100, maximum_file=600)
    extents = Extents(300)
    for at in (20, 50, 60, 120, 126, 200):
        extents.write(at, at + 2)
    plan = plan_parts(
        extents.segments(0, 300), base_size=300, limits=limits, upload_part_size=50, call_bytes=0
    )
    assert isinstance(plan, Assemble)
    uploads = [(part.start, part.end) for part in plan.parts if isinstance(part, UploadPart)]
    assert uploads == [(20, 62), (120, 128), (200, 202)]


def test_a_call_s_price_decides_between_one_upload_and_few_parts() -> None:
    extents = Extents(15 * MB)
    extents.write(15 * MB, 16 * MB)
    # One upload moves 16 MB up and 15 MB down; two parts move 1 MB and take three calls more.
    assert isinstance(planned(extents, call_bytes=10 * MB), UploadWhole)
    assert isinstance(planned(extents, call_bytes=10 * MB - 1), Assemble)
    patched = Extents(16 * MB)
    patched.write(0, MB)
    # One upload moves 16 MB up and 15 MB down; two parts move 5 MB and 4 MB, and take three calls more.
    assert isinstance(planned(patched, call_bytes=22 * MB // 3 + 1), UploadWhole)
    assert isinstance(planned(patched, call_bytes=22 * MB // 3), Assemble)


def test_patches_close_to_each_other_share_one_upload() -> None:
    extents = Extents(GB)
    for at in range(300 * MB, 306 * MB, MB):
        extents.write(at, at + 10)
    plan = planned(extents)
    assert isinstance(plan, Assemble)
    uploads = [part for part in plan.parts if isinstance(part, UploadPart)]
    assert [(part.start, part.end) for part in uploads] == [(300 * MB, 305 * MB + 10)]


def test_truncating_within_one_copy_s_reach_is_one_call() -> None:
    extents = Extents(GB)
    extents.resize(600 * MB)
    assert planned(extents) == CopyWhole(0, 600 * MB)


def test_truncating_to_more_than_one_copy_can_take_is_copied_in_parts() -> None:
    extents = Extents(8 * GB)
    extents.resize(6 * GB)
    plan = planned(extents)
    assert isinstance(plan, Assemble)
    assert all(isinstance(part, CopyPart) for part in plan.parts)
    assert fetched_bytes(plan) == uploaded_bytes(plan) == 0


def test_a_new_gigabyte_goes_up_in_parts_and_a_new_megabyte_in_one_request() -> None:
    extents = Extents()
    extents.write(0, MB)
    assert planned(extents) == UploadWhole(MB, ())
    extents.write(0, GB)
    plan = planned(extents)
    assert isinstance(plan, Assemble)
    assert len(plan.parts) == 63
    assert max(part.end - part.start for part in plan.parts) <= 16 * MB
    assert fetched_bytes(plan) == 0


def test_an_empty_file_is_one_empty_upload() -> None:
    extents = Extents(5 * GB)
    extents.resize(0)
    assert planned(extents) == UploadWhole(0, ())


def test_a_small_file_is_uploaded_whole_with_what_it_keeps() -> None:
    extents = Extents(3 * MB)
    extents.write(3 * MB, 3 * MB + 1000)
    assert planned(extents) == UploadWhole(3 * MB + 1000, ((0, 3 * MB),))
    twice_the_smallest_part = Extents(10 * MB - 1)
    twice_the_smallest_part.write(10 * MB - 1, 10 * MB)
    assert planned(twice_the_smallest_part) == UploadWhole(10 * MB, ((0, 10 * MB - 1),))
    twice_the_smallest_part.write(10 * MB, 10 * MB + 1)
    assert isinstance(planned(twice_the_smallest_part), Assemble)


def test_a_file_that_is_mostly_old_is_copied_also_where_one_upload_would_do() -> None:
    extents = Extents(30 * MB)
    extents.write(29 * MB, 29 * MB + 10)
    plan = planned(extents)
    assert isinstance(plan, Assemble)
    assert plan.parts == (
        CopyPart(0, 29 * MB),
        UploadPart(29 * MB, 30 * MB, ((29 * MB + 10, 30 * MB),)),
    )


def test_a_file_that_is_nearly_all_new_goes_up_in_one_request_where_that_is_quick() -> None:
    extents = Extents(20 * MB)
    extents.write(5, 20 * MB)
    assert planned(extents) == UploadWhole(20 * MB, ((0, 5),))


def test_ten_terabytes_fit_into_b2s_ten_thousand_parts() -> None:
    extents = Extents()
    extents.write(0, 10 * TB)
    check_limits(planned(extents), Limits())
    half_old = Extents(5 * TB)
    half_old.write(5 * TB, 10 * TB)
    check_limits(planned(half_old), Limits())


def test_a_hole_is_uploaded_as_zeros_and_nothing_is_fetched_for_it() -> None:
    extents = Extents(100 * MB)
    extents.resize(40 * MB)
    extents.resize(60 * MB)
    plan = planned(extents)
    assert isinstance(plan, Assemble)
    assert plan.parts[0] == CopyPart(0, 40 * MB)
    assert uploaded_bytes(plan) == 20 * MB
    assert fetched_bytes(plan) == 0


def test_more_than_ten_terabytes_are_refused() -> None:
    extents = Extents()
    extents.resize(10 * TB + 1)
    with pytest.raises(FileTooLarge):
        planned(extents)


def test_a_call_is_worth_some_bytes() -> None:
    extents = Extents(GB)
    extents.write(100 * MB, 106 * MB)
    extents.write(112 * MB, 113 * MB)  # a part of its own would have to grow by 4 MB
    apart = planned(extents, call_bytes=0)
    joined = planned(extents, call_bytes=CALL_BYTES + 1)
    assert uploaded_bytes(apart) == 11 * MB
    assert uploaded_bytes(joined) == 13 * MB


@pytest.mark.parametrize(
    "segments",
    [
        [Segment(1, 2, Origin.NEW)],
        [Segment(0, 2, Origin.NEW), Segment(3, 4, Origin.NEW)],
        [Segment(0, 0, Origin.NEW)],
        [Segment(0, 11, Origin.BASE)],
    ],
)
def test_segments_that_are_no_draft_of_the_base_are_refused(segments: list[Segment]) -> None:
    with pytest.raises(ValueError, match="Segment"):
        plan_parts(segments, base_size=10)


@pytest.mark.parametrize(
    "values",
    [
        {"minimum_part": 0},
        {"minimum_part": 3 * GB},
        {"maximum_single": GB},
        {"maximum_parts": 3},
        {"maximum_file": 100 * TB},
    ],
)
def test_limits_that_no_plan_can_keep_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"parts|upload"):
        Limits(**values)
