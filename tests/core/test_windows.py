"""Read-ahead for readers of every habit."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2mount.core.windows import (
    BLOCK,
    DENSE_FILE,
    DENSE_LEAST,
    FLIGHT,
    GROWTH,
    KIB,
    MIB,
    RandomReads,
    ReadAhead,
    Strides,
    Window,
    flight_bytes,
)

GIB = 1 << 30
PAGE = 4 * KIB
MAXIMUM = 64 * MIB

sizes = st.integers(0, 10_000)
reads = st.lists(st.tuples(st.integers(0, 11_000), st.integers(0, 600)), max_size=60)


def small(file_size: int) -> ReadAhead:
    """The same in bytes instead of kibibytes, so that searching finds the corners."""
    return ReadAhead(file_size, block=8, initial=64, maximum=1024, flight=128)


def clipped(offset: int, size: int, file_size: int) -> tuple[int, int]:
    return min(offset, file_size), min(offset + size, file_size)


@given(sizes, reads)
def test_a_window_holds_what_was_asked_and_no_more_than_the_maximum_beyond(
    file_size: int, history: list[tuple[int, int]]
) -> None:
    reader = small(file_size)
    for offset, size in history:
        start, end = clipped(offset, size, file_size)
        window = reader.on_read(offset, size)
        assert window.start == start
        assert end <= window.end <= min(file_size, end + 1024)


@given(sizes, reads)
def test_what_is_read_ahead_stays_in_proportion_to_what_was_read(
    file_size: int, history: list[tuple[int, int]]
) -> None:
    reader = small(file_size)
    asked: set[int] = set()
    wanted: set[int] = set()
    total = 0
    for offset, size in history:
        start, end = clipped(offset, size, file_size)
        asked.update(range(start, end))
        wanted.update(range(*reader.on_read(offset, size)))
        total += end - start
    # So many times a sequence, in which at most half are gaps, and the start of the file once.
    assert len(wanted - asked) <= 64 + 2 * GROWTH * total


@given(st.integers(1, 2**40), st.integers(0, 2**40), st.sampled_from([PAGE, 128 * KIB, MIB, 3 * MIB + 1]))
def test_a_reader_in_sequence_soon_has_the_maximum_ahead(file_size: int, begin: int, size: int) -> None:
    reader = ReadAhead(file_size, maximum=MAXIMUM)
    at = begin
    while at < begin + MAXIMUM // GROWTH + size:
        window = reader.on_read(at, size)
        at += size
    if at < file_size:
        assert min(file_size, at + MAXIMUM) - FLIGHT <= window.end <= min(file_size, at + MAXIMUM)


def test_a_window_grows_eightfold_until_it_is_full() -> None:
    reader = ReadAhead(GIB, maximum=MAXIMUM)
    at, ends = 0, [reader.on_read(0, BLOCK).end]
    while len(ends) < 6:  # read all that is there, as after one more round trip
        while at < ends[-1]:
            at += BLOCK
            end = reader.on_read(at - BLOCK, BLOCK).end
        ends.append(end)
    assert ends[0] == MIB
    assert all(later - earlier <= MAXIMUM for earlier, later in pairwise(ends))
    assert all(
        later >= min(GROWTH * earlier, earlier + MAXIMUM - FLIGHT) for earlier, later in pairwise(ends)
    )


def test_a_sequence_anywhere_is_ahead_by_eight_times_what_it_read_from_its_second_read_on() -> None:
    reader = ReadAhead(10 * GIB)
    assert reader.on_read(GIB, BLOCK) == Window(GIB, GIB + BLOCK)
    assert reader.on_read(GIB + BLOCK, BLOCK) == Window(
        GIB + BLOCK, GIB + 2 * BLOCK + 2 * GROWTH * BLOCK - 2 * BLOCK
    )


def test_the_first_read_of_a_file_asks_for_a_mebibyte() -> None:
    assert ReadAhead(GIB).on_read(0, PAGE) == Window(0, MIB)
    assert ReadAhead(300 * KIB).on_read(0, PAGE) == Window(0, 300 * KIB)


@given(st.lists(st.integers(1, 2**18), min_size=1, max_size=80, unique=True))
def test_a_random_reader_gets_what_it_asks_for_and_nothing_more(places: list[int]) -> None:
    reader = ReadAhead(GIB)
    for place in places:
        at = place * 3 * PAGE  # never next to another one
        assert reader.on_read(at, PAGE) == Window(min(at, GIB), min(at + PAGE, GIB))


def test_a_random_reader_that_hits_neighbours_now_and_then_fetches_hardly_more() -> None:
    dice = random.Random(1)
    reader = ReadAhead(GIB)
    blocks_read: set[int] = set()
    beyond = 0
    for _ in range(20_000):
        at = dice.randrange(1, GIB // PAGE) * PAGE
        window = reader.on_read(at, PAGE)
        blocks_read.add(at // BLOCK)
        beyond += max(0, -(-window.end // BLOCK) - at // BLOCK - 1)
    assert beyond <= len(blocks_read) // 1000


def test_a_seek_starts_again_with_nothing_ahead() -> None:
    reader = ReadAhead(10 * GIB)
    for at in range(0, GIB, MIB):
        reader.on_read(at, MIB)
    assert reader.on_read(5 * GIB, PAGE) == Window(5 * GIB, 5 * GIB + PAGE)


@given(st.randoms(use_true_random=False), st.integers(2, 12))
def test_reads_that_overtake_each_other_are_still_a_sequence(dice: random.Random, abreast: int) -> None:
    order = list(range(512))
    for begin in range(0, len(order), abreast):  # the kernel has so many under way at once
        batch = order[begin : begin + abreast]
        dice.shuffle(batch)
        order[begin : begin + abreast] = batch
    reader = ReadAhead(10 * GIB, maximum=MAXIMUM)
    for index in order:
        window = reader.on_read(index * BLOCK, BLOCK)
    assert window.end >= 512 * BLOCK + MAXIMUM - FLIGHT - abreast * BLOCK


def test_pages_that_the_kernel_has_and_leaves_out_do_not_end_a_sequence() -> None:
    reader = ReadAhead(10 * GIB, maximum=MAXIMUM)
    at = 0
    for index in range(1000):
        window = reader.on_read(at, BLOCK)
        at += BLOCK + (5 * PAGE if index % 7 == 0 else 0)
    assert window.end >= at + MAXIMUM - 2 * FLIGHT


def test_a_jump_within_reach_is_taken_for_the_sequence_once_as_much_was_read_behind_it() -> None:
    reader = ReadAhead(10 * GIB, maximum=MAXIMUM)
    for at in range(0, 100 * MIB, MIB):
        before = reader.on_read(at, MIB)
    behind = 102 * MIB
    assert reader.on_read(behind, MIB).end == before.end
    assert reader.on_read(behind + MIB, MIB).end > before.end


@pytest.mark.parametrize("readers", [2, 3, 4])
def test_several_sequences_through_one_handle_each_get_their_window(readers: int) -> None:
    reader = ReadAhead(10 * GIB, maximum=MAXIMUM)
    starts = [n * GIB for n in range(readers)]
    for at in range(0, 40 * MIB, BLOCK):
        windows = [reader.on_read(start + at, BLOCK) for start in starts]
    for start, window in zip(starts, windows, strict=True):
        assert window.end >= start + 40 * MIB + MAXIMUM - FLIGHT


def test_a_sequence_survives_a_look_elsewhere() -> None:
    reader = ReadAhead(10 * GIB, maximum=MAXIMUM)
    for at in range(0, 64 * MIB, MIB):
        reader.on_read(at, MIB)
    reader.on_read(9 * GIB, PAGE)
    assert reader.on_read(64 * MIB, MIB).end >= 65 * MIB + MAXIMUM - FLIGHT


def test_windows_grow_by_whole_requests_once_they_are_large() -> None:
    reader = ReadAhead(10 * GIB, maximum=MAXIMUM)
    ends = [reader.on_read(at, BLOCK).end for at in range(0, 200 * MIB, BLOCK)]
    grown = [later - earlier for earlier, later in pairwise(ends) if later != earlier]
    assert all(growth >= 0 for growth in grown)
    assert set(grown[-10:]) == {FLIGHT}
    assert len(grown) < 50


@pytest.mark.parametrize(("offset", "size"), [(0, 0), (5, 0), (100, 10), (200, 10)])
def test_a_read_of_nothing_calls_for_nothing(offset: int, size: int) -> None:
    at = min(offset, 100)
    assert ReadAhead(100).on_read(offset, size) == Window(at, at)


@given(st.integers(0, GIB), st.integers(1, 32))
def test_requests_grow_with_their_distance_up_to_the_largest(distance: int, mebibytes: int) -> None:
    largest = mebibytes * MIB
    size = flight_bytes(distance, largest)
    assert min(largest, MIB) <= size <= largest
    assert size >= flight_bytes(distance // 2, largest)
    assert size == largest or size <= max(distance, MIB)


@given(st.integers(1, 4 * DENSE_FILE), st.lists(st.integers(0, 4 * DENSE_FILE), max_size=200))
def test_a_file_is_fetched_whole_once_and_only_after_a_share_of_it_was_read(
    file_size: int, places: list[int]
) -> None:
    reads = RandomReads(file_size)
    touched: set[int] = set()
    told = 0
    for place in places:
        at = place % file_size
        touched.add(at // BLOCK)
        if reads.is_dense_with(at):
            told += 1
            assert file_size <= DENSE_FILE
            assert len(touched) >= DENSE_LEAST
            assert len(touched) * 64 * BLOCK >= file_size
    assert told <= 1


def test_sparse_reads_of_a_large_file_never_call_for_all_of_it() -> None:
    reads = RandomReads(10 * GIB)
    assert not any(reads.is_dense_with(at * BLOCK) for at in range(0, 80_000, 3))


def test_what_lies_ahead_of_a_stream_left_long_ago_is_not_wanted_any_more() -> None:
    reader = ReadAhead(10 * GIB)
    for at in range(0, 10 * MIB, MIB):
        reader.on_read(at, MIB)
    assert reader.may_come_to(20 * MIB, 28 * MIB)
    assert not reader.may_come_to(5 * GIB, 5 * GIB + MIB)
    for at in range(5 * GIB, 5 * GIB + 20 * MIB, MIB):
        reader.on_read(at, MIB)
    assert not reader.may_come_to(20 * MIB, 28 * MIB)
    assert reader.may_come_to(5 * GIB + 30 * MIB, 5 * GIB + 38 * MIB)


@given(st.integers(0, GIB), st.integers(1, 200), st.integers(2, 64), st.integers(1, 8))
def test_reads_at_even_distances_are_told_ahead_each_once(
    begin: int, count: int, step_mebibytes: int, pieces: int
) -> None:
    length, step = pieces * BLOCK, step_mebibytes * MIB
    strides = Strides()
    told: list[Window] = []
    for number in range(count):
        for piece in range(pieces):
            at = begin + number * step + piece * BLOCK
            told += strides.on_read(at, at + BLOCK)
    assert len(set(told)) == len(told)
    right = {Window(begin + n * step, begin + n * step + length) for n in range(count + 16)}
    assert [window for window in told if window not in right] == []
    assert not told or count > 3
    assert count < 10 or len(told) > count // 2


@given(st.lists(st.integers(0, 2**40), max_size=60, unique=True))
def test_reads_at_uneven_distances_tell_little_ahead(places: list[int]) -> None:
    strides = Strides()
    told = [window for place in places for window in strides.on_read(place, place + PAGE)]
    steps = [later - earlier for earlier, later in pairwise([0, *places])]
    even = sum(later == earlier for earlier, later in pairwise(steps))
    assert len(told) <= 16 * even
