"""How many requests went to B2, of which class, with how many bytes, how long they took, what that costs."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Latency:
    """How long the answered requests of one call took, in seconds."""

    count: int = 0
    total: float = 0.0
    longest: float = 0.0


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

    @property
    def dollars(self) -> float:
        """What the transactions cost at most: the 2,500 free calls a day are not taken off."""
        return sum(DOLLARS_EACH[name] * count for name, count in self.classes.items())


class Counters:
    """Counts; written from worker threads, read from anywhere."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[str] = Counter()
        self._classes: Counter[str] = Counter({CLASS_A: 0, CLASS_B: 0, CLASS_C: 0})
        self._latency: dict[str, Latency] = {}
        self._refused = self._failed = self._up = self._down = 0

    def answered(self, call: str, status: int, seconds: float, *, up: int = 0, down: int = 0) -> None:
        """Count a request that B2 answered with *status*; 401, 403 and 5xx are taken as not billed."""
        with self._lock:
            self._requests[call] += 1
            self._up += up
            self._down += down
            if status in (401, 403):
                self._refused += 1
            elif status >= 400:
                self._failed += 1
            if status not in (401, 403) and status < 500:
                self._classes[CLASSES.get(call, CLASS_C)] += 1
            before = self._latency.get(call, Latency())
            self._latency[call] = Latency(
                before.count + 1, before.total + seconds, max(before.longest, seconds)
            )

    def listed(self, call: str, rows: int) -> None:
        """Count the rest of a list call that returned more rows than one transaction covers."""
        with self._lock:
            more = max(-(-rows // ROWS_BILLED_AS_ONE) - 1, 0)
            self._classes[CLASSES.get(call, CLASS_C)] += more

    def unanswered(self, call: str) -> None:
        """Count a request that no answer came to."""
        with self._lock:
            self._requests[call] += 1
            self._failed += 1

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
            )
