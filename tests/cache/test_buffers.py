"""Memory that is taken again: never while somebody still looks at it, and never more of it than is said."""

from hypothesis import given, settings
from hypothesis import strategies as st

from b2mount.cache.buffers import LARGE, MIB, Areas

TAKES = st.lists(st.tuples(st.integers(1, 5 * MIB), st.integers(0, 3), st.booleans()), max_size=20)


def test_an_area_is_taken_again_once_its_last_view_is_gone() -> None:
    areas = Areas()
    view = areas.take(3 * MIB)
    view[:5] = b"hello"
    part = view[2:4]
    del view
    assert areas.free_bytes == 0
    assert bytes(areas.take(3 * MIB)[:5]) != b"hello"  # another one, which is free after this
    assert bytes(part) == b"ll"
    del part
    assert areas.free_bytes == 6 * MIB


def test_a_small_buffer_holds_no_area() -> None:
    areas = Areas()
    assert len(areas.take(LARGE - 1)) == LARGE - 1
    assert areas.free_bytes == 0


@given(TAKES, st.integers(0, 12 * MIB))
@settings(max_examples=30, deadline=None)
def test_what_is_looked_at_keeps_its_bytes_and_what_lies_ready_its_limit(
    takes: list[tuple[int, int, bool]], kept: int
) -> None:
    areas = Areas(kept)
    held: list[tuple[memoryview, int]] = []
    for number, (size, leave, as_part) in enumerate(takes):
        view = areas.take(size)
        assert len(view) == size
        view[0] = view[-1] = number
        held.append((view[size - 1 :] if as_part else view, number))
        del view
        del held[: max(len(held) - leave, 0)]
        assert areas.free_bytes <= kept
        assert [(part[0], part[-1]) for part, _ in held] == [(mark, mark) for _, mark in held]
