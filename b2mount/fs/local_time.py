"""This machine's clock and zone, for moments that people write."""

from datetime import UTC, datetime, timedelta, tzinfo

from b2mount.core.moments import parse_moment


class LocalZone(tzinfo):
    """The machine's zone with its summer times, as localtime(3) has it."""

    def utcoffset(self, dt: datetime | None, /) -> timedelta | None:
        return None if dt is None else dt.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, dt: datetime | None, /) -> timedelta | None:
        return None

    def tzname(self, dt: datetime | None, /) -> str | None:
        return None if dt is None else dt.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, dt: datetime, /) -> datetime:
        return dt.replace(tzinfo=UTC).astimezone().replace(tzinfo=self)


def read_moment(text: str) -> int:
    """Return the moment that a person names, in milliseconds since the epoch. Raises ValueError."""
    return parse_moment(text, now=datetime.now(UTC), zone=LocalZone())
