"""What memory keeps: never more than its limit, and little that was read to its end."""

from hypothesis import given
from hypothesis import strategies as st

from b2mount.cache.memory import BlockMemory

BLOCK = 4
STEPS = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3 * BLOCK), st.integers(0, 30)), max_size=40)


def buffer_of(at: int, blocks: int) -> memoryview:
    return memoryview(bytes([at]) * (blocks * BLOCK))


def held(memory: BlockMemory, *places: int) -> list[int]:
    return [at for at in places if ("file", at) in memory]


def test_of_what_was_read_to_its_end_the_newest_stays() -> None:
    memory = BlockMemory(100 * BLOCK, BLOCK, most_read=4 * BLOCK)
    for at in range(0, 8, 2):
        memory.put("file", at, buffer_of(at, 2))
    for at in (2, 0, 4):
        assert memory.view("file", at * BLOCK, (at + 2) * BLOCK) == buffer_of(at, 2)
    assert held(memory, 0, 2, 4, 6) == [0, 4, 6]
    assert memory.size == 6 * BLOCK


def test_what_was_read_in_part_stays() -> None:
    memory = BlockMemory(100 * BLOCK, BLOCK, most_read=0)
    memory.put("file", 0, buffer_of(0, 2))
    assert memory.view("file", 0, 2 * BLOCK - 1) == buffer_of(0, 2)[:-1]
    assert held(memory, 0) == [0]
    assert memory.view("file", BLOCK, 2 * BLOCK) == buffer_of(0, 1)  # its end, which still comes
    assert held(memory, 0) == []


def test_a_single_block_stays_however_often_it_is_read_to_its_end() -> None:
    memory = BlockMemory(100 * BLOCK, BLOCK, most_read=0)
    memory.put("file", 3, buffer_of(3, 1))
    for _ in range(2):
        assert memory.view("file", 3 * BLOCK, 4 * BLOCK) == buffer_of(3, 1)


def test_what_was_read_to_its_end_leaves_before_what_was_not() -> None:
    memory = BlockMemory(6 * BLOCK, BLOCK)
    for at in (0, 2, 4):
        memory.put("file", at, buffer_of(at, 2))
    memory.view("file", 2 * BLOCK, 4 * BLOCK)
    memory.reserve(2 * BLOCK)
    assert held(memory, 0, 2, 4) == [0, 4]


@given(STEPS, st.integers(0, 40), st.integers(0, 20))
def test_limits_hold_and_bytes_are_right_whatever_is_put_and_read(
    steps: list[tuple[int, int, int]], limit: int, most_read: int
) -> None:
    memory = BlockMemory(limit, BLOCK, most_read=most_read)
    for at, size, start in steps:
        first = at * 3
        memory.put("file", first, memoryview(bytes(range(first * BLOCK, first * BLOCK + size))))
        view = memory.view("file", start, start + 2 * BLOCK)
        if view is not None:
            assert view == bytes(range(start, start + len(view)))
        assert memory.size <= limit
    memory.forget("file")
    assert memory.size == 0 and held(memory, *range(40)) == []
