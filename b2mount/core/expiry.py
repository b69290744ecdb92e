"""When a person is to be told that a key ends: a week, a day and an hour ahead, and when it has.

Knows moments in milliseconds since the epoch; the clock is somebody else's.
"""

import enum

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
WEEK_MS = 7 * DAY_MS


class Notice(enum.Enum):
    """What is worth saying; the value is how long before the end it begins to hold, in milliseconds."""

    WEEK = WEEK_MS
    DAY = DAY_MS
    HOUR = HOUR_MS
    OVER = 0

    @property
    def words(self) -> str:
        """Say it."""
        if self is Notice.OVER:
            return "the application key has expired"
        return f"the application key ends within {_SPANS[self]}"


_SPANS = {Notice.WEEK: "a week", Notice.DAY: "a day", Notice.HOUR: "an hour"}


def notice_at(expires_ms: int | None, now_ms: int) -> Notice | None:
    """Return the most urgent notice that holds at *now_ms*; None for a key without end, or a far one."""
    if expires_ms is None:
        return None
    holding = [notice for notice in Notice if now_ms >= expires_ms - notice.value]
    return holding[-1] if holding else None


def next_notice(expires_ms: int | None, now_ms: int) -> int | None:
    """Return the moment at which the next notice begins to hold; None where none will."""
    if expires_ms is None:
        return None
    return min((expires_ms - n.value for n in Notice if expires_ms - n.value > now_ms), default=None)
