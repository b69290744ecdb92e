"""What a mount may spend a day, what it has spent, and what that means: the rules.

A day is B2's: from 00:00 UTC, when B2's own caps and free calls begin anew (Backblaze, "Cloud Storage
Transactions"). Knows no clock and no wire; who counts and who saves is store/budget.py's matter.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

DAY_SECONDS = 86_400
WARN_AT = 0.8  # of a limit
TTL_FACTOR = 10  # how much longer listings are believed once the class C calls are spent
FREE_CALLS = 2500  # of class B and of class C, a day and account. Backblaze, "Cloud Storage Transactions"


def day_of(seconds: float) -> int:
    """Return the number of the UTC day of a moment, in seconds since the epoch."""
    return int(seconds // DAY_SECONDS)


class Item(enum.Enum):
    """What a limit is of; the values are the words of `b2mount status --json`."""

    CLASS_B = "class_b"
    CLASS_C = "class_c"
    DOWNLOAD = "download_bytes"


class Stage(enum.Enum):
    """How far a limit is used up."""

    FINE = "fine"
    NEAR = "near"
    SPENT = "spent"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a mount may spend a day; None: any number."""

    class_b: int | None = None
    class_c: int | None = None
    download_bytes: int | None = None

    def of(self, item: Item) -> int | None:
        """Return the limit of one item."""
        return {
            Item.CLASS_B: self.class_b,
            Item.CLASS_C: self.class_c,
            Item.DOWNLOAD: self.download_bytes,
        }[item]


@dataclass(frozen=True, slots=True)
class Day:
    """What was spent on one day."""

    number: int  # days since 1970-01-01, UTC
    class_a: int = 0
    class_b: int = 0
    class_c: int = 0
    bytes_up: int = 0
    download_bytes: int = 0

    def of(self, item: Item) -> int:
        """Return what was spent of one item."""
        return {
            Item.CLASS_B: self.class_b,
            Item.CLASS_C: self.class_c,
            Item.DOWNLOAD: self.download_bytes,
        }[item]

    def plus(self, other: "Day") -> "Day":
        """Return both together; of two days the later one alone."""
        if other.number != self.number:
            return max(self, other, key=lambda day: day.number)
        return replace(
            self,
            class_a=self.class_a + other.class_a,
            class_b=self.class_b + other.class_b,
            class_c=self.class_c + other.class_c,
            bytes_up=self.bytes_up + other.bytes_up,
            download_bytes=self.download_bytes + other.download_bytes,
        )


def day_from_json(values: Any) -> Day | None:
    """Read what `dataclasses.asdict` made of a day; None for anything else."""
    if not isinstance(values, Mapping) or "number" not in values:
        return None
    try:
        day = Day(**values)
    except TypeError:
        return None
    numbers = (day.number, day.class_a, day.class_b, day.class_c, day.bytes_up, day.download_bytes)
    return day if all(type(number) is int and number >= 0 for number in numbers) else None


def stage_of(spent: int, limit: int | None) -> Stage:
    """Say how far *limit* is used up."""
    if limit is None or spent < limit * WARN_AT:
        return Stage.FINE
    return Stage.NEAR if spent < limit else Stage.SPENT


def consequence(item: Item) -> str:
    """Say what a mount does differently once a limit is reached."""
    return {
        Item.CLASS_B: "files are no longer fetched ahead of a scan",
        Item.CLASS_C: f"listings are believed {TTL_FACTOR} times as long, and none is fetched ahead",
        Item.DOWNLOAD: "nothing is fetched ahead of who reads",
    }[item]
