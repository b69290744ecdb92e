"""Object Lock as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2mount.core.errors import InvalidArgument
from b2mount.core.locks import (
    MODES,
    format_legal_hold,
    format_retention,
    parse_legal_hold,
    parse_retention,
    weakens,
)

modes = st.sampled_from(MODES)
ends = st.integers(0, 4_000_000_000_000)
retentions = st.tuples(modes, ends)


def test_retention_is_written_as_mode_and_moment() -> None:
    assert format_retention("governance", 1801353600000) == "governance 2027-01-31T00:00:00Z"
    assert format_retention("compliance", 1801353600007) == "compliance 2027-01-31T00:00:00.007Z"


@given(retentions)
def test_what_is_shown_can_be_set(retention: tuple[str, int]) -> None:
    assert parse_retention(format_retention(*retention)) == retention


@pytest.mark.parametrize(
    "text",
    ["governance 2027-01-31", " governance  2027-01-31 00:00:00Z\n", "governance 2027-01-31T00:00:00+00:00"],
)
def test_a_date_and_looser_forms_are_taken(text: str) -> None:
    assert parse_retention(text) == ("governance", 1801353600000)


def test_a_tenth_of_a_second_is_a_hundred_milliseconds() -> None:
    assert parse_retention("governance 2027-01-31T00:00:00.1Z") == ("governance", 1801353600100)


def test_none_stands_for_no_retention() -> None:
    assert parse_retention("none") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "governance",
        "2027-01-31",
        "strict 2027-01-31",
        "governance 2027-02-31",
        "governance soon",
        "none at all",
    ],
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidArgument, match='write "governance'):
        parse_retention(text)


def test_a_legal_hold_is_on_or_off() -> None:
    for on in (True, False):
        assert parse_legal_hold(format_legal_hold(on)) is on
    with pytest.raises(InvalidArgument):
        parse_legal_hold("yes")


@given(retentions, retentions)
def test_only_a_later_end_in_a_mode_as_strict_is_no_weaker(
    now: tuple[str, int], new: tuple[str, int]
) -> None:
    stricter = now[0] == "governance" or new[0] == "compliance"
    assert weakens(*now, new) is not (new[1] >= now[1] and stricter)
    assert weakens(*now, None)
