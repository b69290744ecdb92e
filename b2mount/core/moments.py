"""Read a moment as people write it: a date, a date and time, an epoch, or so long ago; and write one.

    2026-01-31                      the beginning of that day
    2026-01-31T12:00:00.250+01:00   or with a space for the T, with Z or no zone, without the seconds
    @1769860800                     seconds since the epoch
    3 days ago, 1 week 2 h ago      months and years by the calendar
    now, today, yesterday           as date(1) has it: this moment, and 24 hours by the clock before it
    yesterday 18:00                 that day, at that time

Where no zone is written, the caller's holds. Knows no clock: "now" and the zone come in as arguments.
"""

import calendar
import re
from datetime import UTC, datetime, timedelta, tzinfo
from fractions import Fraction

HINT = "write 2026-01-31, 2026-01-31T12:00:00Z, '3 days ago', yesterday or @EPOCH"

_TIME = r"(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<part>\d{1,9}))?)?"
_ISO = re.compile(
    rf"(?P<year>\d{{4}})-(?P<month>\d\d)-(?P<day>\d\d)"
    rf"(?:[T ]\s*{_TIME}\s*(?P<zone>Z|[+-]\d\d(?::?\d\d)?)?)?",
    re.IGNORECASE | re.ASCII,
)
_DAY = re.compile(rf"(?P<word>today|yesterday)(?:\s+(?:at\s+)?{_TIME})?", re.IGNORECASE | re.ASCII)
_EPOCH = re.compile(r"@(\d{1,12})(?:\.(\d{1,9}))?", re.ASCII)
_AGO = re.compile(r"(?:(?:\d{1,6}|an?)\s*[a-z]+[\s,]+(?:and\s+)?)+ago", re.IGNORECASE | re.ASCII)
_BETWEEN = re.compile(r"[\s,]+and\s+|,", re.IGNORECASE)
_SPAN = re.compile(r"(\d{1,6}|an?)\s*([a-z]+)", re.IGNORECASE | re.ASCII)

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_UNITS = {
    **dict.fromkeys(("s", "sec", "second"), "s"),
    **dict.fromkeys(("m", "min", "minute"), "m"),
    **dict.fromkeys(("h", "hr", "hour"), "h"),
    **dict.fromkeys(("d", "day"), "d"),
    **dict.fromkeys(("w", "week"), "w"),
    "month": "month",
    "year": "year",
}
_EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)


def parse_moment(text: str, *, now: datetime, zone: tzinfo) -> int:
    """Return the moment that *text* names, in milliseconds since the epoch.

    *now* is aware of its zone; *zone* holds where none is written, and for calendar days. Raises ValueError
    with a sentence for people. A moment in the future is for the caller to refuse.
    """
    words = " ".join(text.split())
    try:
        moment = _read(words, now.astimezone(zone), zone)
    except (OverflowError, ValueError) as error:
        raise ValueError(f"{text!r} is no moment ({error}); {HINT}") from None
    if moment is None:
        raise ValueError(f"{text!r} is not understood as a moment; {HINT}")
    if moment < 0:
        raise ValueError(f"{text!r} lies before 1970, when there was no B2; {HINT}")
    return moment


def is_relative(text: str) -> bool:
    """Say whether *text*, which `parse_moment` takes, means another moment later on."""
    words = text.strip().lower()
    return words.endswith("ago") or words.startswith(("now", "today", "yesterday"))


def format_moment(moment_ms: int) -> str:
    """Write a moment in UTC, to the millisecond: `2026-01-31T12:00:00.000Z`; sorts as it lies in time."""
    moment = _EPOCH_START + timedelta(milliseconds=moment_ms)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment_ms % 1000:03}Z"


def _read(words: str, now: datetime, zone: tzinfo) -> int | None:
    if words.lower() == "now":
        return _to_ms(now)
    if match := _EPOCH.fullmatch(words):
        return int(match[1]) * 1000 + _milliseconds(match[2])
    if match := _ISO.fullmatch(words):
        return _iso(match, zone)
    if match := _DAY.fullmatch(words):
        return _day(match, now)
    if _AGO.fullmatch(words):
        return _ago(words, now)
    return None


def _iso(match: re.Match[str], zone: tzinfo) -> int:
    day = datetime(int(match["year"]), int(match["month"]), int(match["day"]), tzinfo=zone)
    if match["hour"] is None:
        return _to_ms(day)
    if match["zone"]:
        day = day.replace(tzinfo=UTC)
    moment = _to_ms(_at_time(day, match)) + _milliseconds(match["part"])
    return moment - _offset_ms(match["zone"])


def _at_time(day: datetime, match: re.Match[str]) -> datetime:
    return day.replace(
        hour=int(match["hour"]), minute=int(match["minute"]), second=int(match["second"] or 0), microsecond=0
    )


def _offset_ms(zone: str | None) -> int:
    """Return how far a written zone is ahead of UTC. Raises ValueError for what is none."""
    if not zone or zone in "Zz":
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if hours > 23 or minutes > 59:
        raise ValueError(f"{zone} is no zone")
    return (-1 if zone[0] == "-" else 1) * (hours * 60 + minutes) * 60_000


def _day(match: re.Match[str], now: datetime) -> int:
    back = timedelta(days=1 if match["word"].lower() == "yesterday" else 0)
    if match["hour"] is None:
        return _to_ms(now) - int(back.total_seconds()) * 1000
    day = (now.replace(tzinfo=None) - back).replace(tzinfo=now.tzinfo)
    return _to_ms(_at_time(day, match)) + _milliseconds(match["part"])


def _ago(words: str, now: datetime) -> int:
    seconds = months = 0
    for count_text, unit_text in _SPAN.findall(_BETWEEN.sub(" ", words[: -len("ago")])):
        count = 1 if count_text.lower().startswith("a") else int(count_text)
        name = unit_text.lower()
        unit = _UNITS.get(name) or _UNITS.get(name.removesuffix("s"))
        if unit is None:
            raise ValueError(f"{unit_text!r} is no span of time")
        if unit in _SECONDS:
            seconds += count * _SECONDS[unit]
        else:
            months += count * (12 if unit == "year" else 1)
    return _to_ms(_months_before(now, months)) - seconds * 1000


def _months_before(now: datetime, months: int) -> datetime:
    """Go back by the calendar; where the month is too short, to its last day."""
    if not months:
        return now
    year, month = divmod(now.year * 12 + now.month - 1 - months, 12)
    day = min(now.day, calendar.monthrange(year, month + 1)[1])
    return now.replace(year=year, month=month + 1, day=day)


def _to_ms(moment: datetime) -> int:
    return (moment.astimezone(UTC) - _EPOCH_START) // timedelta(milliseconds=1)


def _milliseconds(part: str | None) -> int:
    """Return the milliseconds of a fraction's digits; what lies between two is cut off."""
    return int(Fraction(int(part), 10 ** len(part)) * 1000) if part else 0
