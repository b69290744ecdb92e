"""core/moments.py: what people write for a moment, by examples and as properties."""

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2mount.core.moments import format_moment, is_relative, parse_moment

EAST = timezone(timedelta(hours=5, minutes=30))
NOW = datetime(2026, 3, 31, 12, 0, 0, 250_000, tzinfo=UTC)
HOUR = 3_600_000
DAY = 24 * HOUR


def ms(*parts: int, zone: tzinfo = UTC) -> int:
    return round(datetime(*parts, tzinfo=zone).timestamp() * 1000)  # type: ignore[arg-type,misc]


def read(text: str, zone: tzinfo = UTC) -> int:
    return parse_moment(text, now=NOW, zone=zone)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31", ms(2026, 1, 31)),
        ("2026-01-31T12:00", ms(2026, 1, 31, 12)),
        ("2026-01-31 12:00:05", ms(2026, 1, 31, 12, 0, 5)),
        ("2026-01-31T12:00:05.25Z", ms(2026, 1, 31, 12, 0, 5) + 250),
        ("2026-01-31t12:00:05,1239z", ms(2026, 1, 31, 12, 0, 5) + 123),
        ("2026-01-31T12:00:05+01:00", ms(2026, 1, 31, 11, 0, 5)),
        ("2026-01-31T12:00:05 -0530", ms(2026, 1, 31, 17, 30, 5)),
        ("2026-01-31T12:00:05+02", ms(2026, 1, 31, 10, 0, 5)),
        ("@0", 0),
        ("@1769860800", 1_769_860_800_000),
        ("@1769860800.0625", 1_769_860_800_062),
        ("now", ms(2026, 3, 31, 12) + 250),
        ("yesterday", ms(2026, 3, 30, 12) + 250),
        ("today 6:30", ms(2026, 3, 31, 6, 30)),
        ("Yesterday at 18:00", ms(2026, 3, 30, 18)),
        ("3 days ago", ms(2026, 3, 28, 12) + 250),
        ("2 hours ago", ms(2026, 3, 31, 10) + 250),
        ("an hour ago", ms(2026, 3, 31, 11) + 250),
        ("90s ago", ms(2026, 3, 31, 11, 58, 30) + 250),
        ("1 week, 2 d and 3 min ago", ms(2026, 3, 22, 11, 57) + 250),
        ("1 month ago", ms(2026, 2, 28, 12) + 250),
        ("2 years 13 months ago", ms(2023, 2, 28, 12) + 250),
    ],
)
def test_each_way_to_write_a_moment(text: str, moment: int) -> None:
    assert read(text) == moment


def test_without_a_zone_the_callers_holds_and_a_written_one_wins() -> None:
    assert read("2026-01-31", EAST) == ms(2026, 1, 31, zone=EAST)
    assert read("2026-01-31T12:00", EAST) == ms(2026, 1, 31, 12, zone=EAST)
    assert read("2026-01-31T12:00Z", EAST) == ms(2026, 1, 31, 12)
    assert read("yesterday 01:00", EAST) == ms(2026, 3, 30, 1, zone=EAST)


def test_a_zone_with_summer_time_counts_as_it_was_on_that_day() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert read("2026-01-31T12:00", berlin) == ms(2026, 1, 31, 11)
    assert read("2026-07-31T12:00", berlin) == ms(2026, 7, 31, 10)
    assert read("3 days ago", berlin) == ms(2026, 3, 28, 12) + 250  # by the clock: the change was on the 29th
    assert read("1 month ago", berlin) == ms(2026, 2, 28, 13) + 250  # by the calendar: 14:00 there


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "ago", "3 ago", "days ago", "3 dogs ago", "in 3 days", "2026", "2026-1-31", "tomorrow"),
        *(
            "2026-02-30",
            "2026-01-31T25:00",
            "2026-01-31T12:61",
            "2026-01-31T12:00+99:00",
            "12:00",
            "@",
            "@-1",
        ),
        *(
            "2026-01-31T12:00:05.Z",
            "0000-01-01",
            "99999 years ago",
            "@1e3",
            "1969-12-31T00:00Z",
            "٣ days ago",
        ),
        "2026-01-31 and more",
    ],
)
def test_what_is_no_moment_is_refused_with_words_that_name_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"write 2026-01-31") as refused:
        read(text)
    assert repr(text) in str(refused.value)


moments = st.integers(0, 32_503_680_000_000 - 1)  # up to the year 3000
spans = st.sampled_from([("s", 1), ("minutes", 60), ("h", 3600), ("days", 86_400)])
zones = st.sampled_from([UTC, EAST, timezone(-timedelta(hours=9)), ZoneInfo("Europe/Berlin")])


@given(moments, zones)
def test_a_moment_written_is_read_back_whatever_the_zone(moment: int, zone: tzinfo) -> None:
    assert read(format_moment(moment), zone) == moment


@given(moments, moments)
def test_written_moments_sort_as_they_lie_in_time(one: int, other: int) -> None:
    assert (format_moment(one) < format_moment(other)) == (one < other)


@given(moments)
def test_an_epoch_is_read_to_the_millisecond(moment: int) -> None:
    assert read(f"@{moment // 1000}.{moment % 1000:03}") == moment


@given(
    st.integers(0, 9999), st.sampled_from([("s", 1), ("minutes", 60), ("h", 3600), ("days", 86_400)]), zones
)
def test_so_long_ago_is_so_long_before_now(count: int, unit: tuple[str, int], zone: tzinfo) -> None:
    assert read(f"{count} {unit[0]} ago", zone) == read("now") - count * unit[1] * 1000


@given(st.text(max_size=30), zones)
def test_any_text_is_a_moment_or_a_value_error(text: str, zone: tzinfo) -> None:
    try:
        assert read(text, zone) >= 0
    except ValueError as error:
        assert "write 2026-01-31" in str(error)


def test_which_words_mean_another_moment_tomorrow() -> None:
    assert all(is_relative(text) for text in ("3 days ago", "Yesterday", "today 12:00", "now"))
    assert not any(is_relative(text) for text in ("2026-01-31", "@5", "2026-01-31T12:00Z"))
