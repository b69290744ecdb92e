"""The rules of a budget: days, stages, and what is kept of a day."""

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2mount.core.budget import DAY_SECONDS, Day, Item, Stage, consequence, day_from_json, day_of, stage_of

COUNT = st.integers(0, 1 << 40)
DAYS = st.builds(Day, st.integers(20_000, 20_002), COUNT, COUNT, COUNT, COUNT, COUNT)


@pytest.mark.parametrize(
    ("spent", "limit", "stage"),
    [
        (10**9, None, Stage.FINE),
        (0, 10, Stage.FINE),
        (7, 10, Stage.FINE),
        (8, 10, Stage.NEAR),
        (9, 10, Stage.NEAR),
        (10, 10, Stage.SPENT),
        (11, 10, Stage.SPENT),
        (0, 1, Stage.FINE),
        (1, 1, Stage.SPENT),
    ],
)
def test_a_limit_is_near_at_four_fifths_and_spent_when_it_is_reached(
    spent: int, limit: int | None, stage: Stage
) -> None:
    assert stage_of(spent, limit) is stage


@given(st.integers(0, 10**10))
def test_a_day_begins_at_midnight_utc(seconds: int) -> None:
    number = day_of(seconds)
    assert number * DAY_SECONDS <= seconds < (number + 1) * DAY_SECONDS


@given(DAYS, DAYS)
def test_only_what_was_spent_on_one_day_is_added_up(one: Day, other: Day) -> None:
    both = one.plus(other)
    assert both.number == max(one.number, other.number)
    if one.number == other.number:
        assert all(both.of(item) == one.of(item) + other.of(item) for item in Item)
        assert (both.class_a, both.bytes_up) == (one.class_a + other.class_a, one.bytes_up + other.bytes_up)
    else:
        assert both == max(one, other, key=lambda day: day.number)


@given(DAYS)
def test_what_is_kept_of_a_day_is_read_again(day: Day) -> None:
    assert day_from_json(asdict(day)) == day


@pytest.mark.parametrize(
    "values",
    [
        None,
        3,
        [],
        {},
        {"number": "1"},
        {"number": 1, "class_b": -1},
        {"number": 1, "more": 1},
        {"number": True},
    ],
)
def test_what_nobody_kept_is_no_day(values: object) -> None:
    assert day_from_json(values) is None


@pytest.mark.parametrize("item", list(Item))
def test_each_limit_says_what_it_does(item: Item) -> None:
    assert consequence(item)
