"""How many requests went to B2, of which class, with how many bytes, how long they took, what that costs.

Counted twice: since the store was opened, and for the present UTC day, as B2 counts caps and free calls; what
a process before this one counted of that day can be added. The caps that B2 says are reached are kept here
too, as is that they are not any more.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from b2mount.core.budget import FREE_CALLS, Day, day_of
from b2mount.core.latency import Latency

# Backblaze, "Cloud Storage Transactions": class A is free; B and C each have 2,500 free calls a day.
CLASS_A = "A"
CLASS_B = "B"
CLASS_C = "C"
CLASSES: Mapping[str, str] = {
    "b2_cancel_large_file": CLASS_A,
    "b2_delete_bucket": CLASS_A,
    "b2_delete_file_version": CLASS_A,
    "b2_delete_key": CLASS_A,
    "b2_finish_large_file": CLASS_A,
    "b2_get_upload_part_url": CLASS_A,
    "b2_get_upload_url": CLASS_A,
    "b2_hide_file": CLASS_A,
    "b2_start_large_file": CLASS_A,
    "b2_update_file_legal_hold": CLASS_A,
    "b2_update_file_retention": CLASS_A,
    "b2_upload_file": CLASS_A,
    "b2_upload_part": CLASS_A,
    "b2_download_file_by_id": CLASS_B,
    "b2_download_file_by_name": CLASS_B,
    "b2_get_file_info": CLASS_B,
}  # all others are class C
DOLLARS_EACH: Mapping[str, float] = {CLASS_A: 0.0, CLASS_B: 0.004 / 10_000, CLASS_C: 0.004 / 1_000}
ROWS_BILLED_AS_ONE = 1000  # Backblaze docs, b2_list_file_names


# B2's codes for caps, and the calls whose success shows that one is lifted. Backblaze docs, "Caps & Alerts":
# transaction and download caps end at 00:00 UTC, the cap on storage does not; any can be raised at any time.
STORAGE_CAP = "storage"
DOWNLOAD_CAP = "download"
TRANSACTION_CAPS: Mapping[str, str] = {CLASS_B: "class_b", CLASS_C: "class_c"}
STORING = frozenset({"b2_upload_file", "b2_upload_part", "b2_copy_file", "b2_copy_part"})
DOWNLOADING = frozenset({"b2_download_file_by_id", "b2_download_file_by_name"})


def cap_behind(call: str, code: str | None) -> str | None:
    """Return which cap an answer tells of; None where it tells of none."""
    if code in ("storage_cap_exceeded", "cap_exceeded"):
        return STORAGE_CAP
    if code == "download_cap_exceeded":
        return DOWNLOAD_CAP
    if code == "transaction_cap_exceeded":
        return TRANSACTION_CAPS.get(CLASSES.get(call, CLASS_C), "class_a")
    return None


def _caps_lifted(call: str) -> tuple[str, ...]:
    """Return the caps that a success of *call* shows not to be reached."""
    by_class = TRANSACTION_CAPS.get(CLASSES.get(call, CLASS_C), "class_a")
    if call in DOWNLOADING:
        return (by_class, DOWNLOAD_CAP)
    return (by_class, STORAGE_CAP) if call in STORING else (by_class,)


@dataclass(frozen=True, slots=True)
class CapMet:
    """A cap of the account that B2 said is reached. Moments in milliseconds since the epoch."""

    kind: str
    call: str  # the first that met it
    since_ms: int
    last_ms: int
    times: int = 1  # answers that said so, those of earlier incidents too
    over_ms: int | None = None  # when a call showed that it is lifted


@dataclass(frozen=True, slots=True)
class Totals:
    """What was counted since the store was opened."""

    requests: Mapping[str, int]  # by B2's name of the call; each request sent, each retry again
    classes: Mapping[str, int]  # transactions by class, as B2 bills them
    refused: int  # answers 401 and 403
    failed: int  # all other requests without a good answer
    bytes_up: int  # of file content
    bytes_down: int
    latency: Mapping[str, Latency]
    today: Day  # what this process counted before it and others before it, since 00:00 UTC
    caps: Mapping[str, CapMet]  # the last time each was met

    @property
    def dollars(self) -> float:
        """What the transactions cost at most: the 2,500 free calls a day are not taken off."""
        return sum(DOLLARS_EACH[name] * count for name, count in self.classes.items())


def dollars_of_day(day: Day) -> float:
    """Return what a day's transactions cost, had nobody else of the account used the free ones."""
    paid = {CLASS_B: max(day.class_b - FREE_CALLS, 0), CLASS_C: max(day.class_c - FREE_CALLS, 0)}
    return sum(DOLLARS_EACH[name] * count for name, count in paid.items())


class Counters:
    """Counts; written from worker threads, read from anywhere."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Count from now; *clock* tells seconds since the epoch."""
        self._lock = threading.Lock()
        self._clock = clock
        self._day = Day(day_of(clock()))
        self._caps: dict[str, CapMet] = {}
        self._requests: Counter[str] = Counter()
        self._classes: Counter[str] = Counter({CLASS_A: 0, CLASS_B: 0, CLASS_C: 0})
        self._latency: dict[str, Latency] = {}
        self._refused = self._failed = self._up = self._down = 0

    def answered(
        self,
        call: str,
        status: int,
        seconds: float,
        *,
        up: int = 0,
        down: int = 0,
        code: str | None = None,
    ) -> None:
        """Count a request that B2 answered with *status*; 401, 403 and 5xx are taken as not billed."""
        cap = cap_behind(call, code)
        with self._lock:
            self._requests[call] += 1
            self._up += up
            self._down += down
            if status in (401, 403):
                self._refused += 1
            elif status >= 400:
                self._failed += 1
            billed = status not in (401, 403) and status < 500
            self._bill(CLASSES.get(call, CLASS_C), int(billed), up, down)
            self._latency[call] = self._latency.get(call, Latency()).plus(seconds)
            if cap is not None:
                self._meet(cap, call)
            elif self._caps and status < 300:
                self._lift(call)

    def _bill(self, kind: str, count: int, up: int = 0, down: int = 0) -> None:
        self._classes[kind] += count
        self._day = self._day.plus(
            Day(
                day_of(self._clock()),
                class_a=count if kind == CLASS_A else 0,
                class_b=count if kind == CLASS_B else 0,
                class_c=count if kind == CLASS_C else 0,
                bytes_up=up,
                download_bytes=down,
            )
        )

    def _meet(self, cap: str, call: str) -> None:
        now_ms = int(self._clock() * 1000)
        met = self._caps.get(cap)
        if met is None or met.over_ms is not None:
            self._caps[cap] = CapMet(cap, call, now_ms, now_ms, 1 if met is None else met.times + 1)
        else:
            self._caps[cap] = replace(met, last_ms=now_ms, times=met.times + 1)

    def _lift(self, call: str) -> None:
        for cap in _caps_lifted(call):
            met = self._caps.get(cap)
            if met is not None and met.over_ms is None:
                self._caps[cap] = replace(met, over_ms=int(self._clock() * 1000))

    def listed(self, call: str, rows: int) -> None:
        """Count the rest of a list call that returned more rows than one transaction covers."""
        more = max(-(-rows // ROWS_BILLED_AS_ONE) - 1, 0)
        if more:
            with self._lock:
                self._bill(CLASSES.get(call, CLASS_C), more)

    def unanswered(self, call: str) -> None:
        """Count a request that no answer came to."""
        with self._lock:
            self._requests[call] += 1
            self._failed += 1

    def today(self) -> Day:
        """Return what was counted since 00:00 UTC."""
        day = self._day
        number = day_of(self._clock())
        return day if day.number == number else Day(number)

    def add_earlier(self, day: Day) -> None:
        """Take what was counted of today before this began; of another day it says nothing."""
        with self._lock:
            if day.number == self.today().number:
                self._day = self.today().plus(day)

    def totals(self) -> Totals:
        """Return what was counted up to now."""
        with self._lock:
            return Totals(
                requests=dict(self._requests),
                classes=dict(self._classes),
                refused=self._refused,
                failed=self._failed,
                bytes_up=self._up,
                bytes_down=self._down,
                latency=dict(self._latency),
                today=self.today(),
                caps=dict(self._caps),
            )
