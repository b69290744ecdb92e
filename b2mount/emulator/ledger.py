"""What was asked of the server: counters by call and price class, the request log, and caps.

Source of the classes: Backblaze, "Cloud Storage Transaction Pricing". A listing is billed one class C for
each 1000 rows returned, rounded up. Calls refused with 401 or 403, rate limits and server errors are
counted as calls but not billed.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import Any

from b2mount.emulator.errors import Refusal

LOG_ENTRIES = 100_000
ROWS_A_TRANSACTION = 1000

_CLASS_A = (  # noqa: SIM905
    "b2_cancel_large_file b2_delete_bucket b2_delete_file_version b2_delete_key b2_finish_large_file"
    " b2_get_upload_part_url b2_get_upload_url b2_hide_file b2_start_large_file b2_update_file_legal_hold"
    " b2_update_file_retention b2_upload_file b2_upload_part"
).split()
_CLASS_B = "b2_download_file_by_id b2_download_file_by_name b2_get_file_info".split()  # noqa: SIM905
CLASSES = {**dict.fromkeys(_CLASS_A, "A"), **dict.fromkeys(_CLASS_B, "B")}  # the rest is class C

DOWNLOADS = frozenset({"b2_download_file_by_id", "b2_download_file_by_name"})
STORING = frozenset(
    "b2_get_upload_url b2_start_large_file b2_copy_file b2_copy_part b2_get_upload_part_url".split()  # noqa: SIM905
)


@dataclass(slots=True)
class Entry:
    """One line of the request log."""

    seq: int
    call: str
    method: str
    key_id: str = ""
    bucket: str = ""
    name: str = ""
    prefix: str = ""
    status: int = 0
    code: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    range: str = ""


@dataclass(slots=True)
class Caps:
    """Limits on what is used from the moment they are set; None lifts one."""

    storage_bytes: int | None = None
    download_bytes: int | None = None
    class_b: int | None = None
    class_c: int | None = None


class Ledger:
    """Counts calls and what they cost."""

    def __init__(self) -> None:
        self._seq = itertools.count(1)
        self.last_seq = 0
        self._log: deque[Entry] = deque(maxlen=LOG_ENTRIES)
        self._open: dict[int, Entry] = {}
        self.caps = Caps()
        self._used = Caps(0, 0, 0, 0)
        self.reset()

    def reset(self) -> None:
        """Set all counters to nought; the log and the caps stay."""
        self._calls: Counter[str] = Counter()
        self._classes: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._bytes_in = self._bytes_out = self._refused = self._heads = 0

    def open(self, call: str, method: str) -> Entry:
        """Start the log entry of a request."""
        self.last_seq = next(self._seq)
        entry = self._open[self.last_seq] = Entry(self.last_seq, call, method)
        return entry

    def close(self, entry: Entry, rows: int) -> None:
        """Count a request that was answered or dropped (status 0); *rows* is what a listing returned."""
        del self._open[entry.seq]
        self._log.append(entry)
        self._calls[entry.call] += 1
        self._heads += entry.method == "HEAD"
        self._bytes_in += entry.bytes_in
        self._bytes_out += entry.bytes_out
        if entry.status >= 400:
            self._errors[f"{entry.status} {entry.code}".rstrip()] += 1
            self._refused += entry.status in (401, 403)
        if entry.status not in (401, 403, 429) and entry.status < 500:
            self._bill(entry, rows)

    def _bill(self, entry: Entry, rows: int) -> None:
        kind = CLASSES.get(entry.call, "C")
        units = max(1, -(-rows // ROWS_A_TRANSACTION))
        self._classes[kind] += units
        used = self._used
        used.class_b = (used.class_b or 0) + (units if kind == "B" else 0)
        used.class_c = (used.class_c or 0) + (units if kind == "C" else 0)
        if entry.call in DOWNLOADS:
            used.download_bytes = (used.download_bytes or 0) + entry.bytes_out

    def stored(self, size: int) -> None:
        """Count bytes that were stored, for the storage cap."""
        self._used.storage_bytes = (self._used.storage_bytes or 0) + size

    def set_caps(self, caps: Caps) -> None:
        """Set all caps and start to count anew."""
        self.caps = caps
        self._used = Caps(0, 0, 0, 0)

    def check_caps(self, call: str) -> None:
        """Refuse a call that a cap forbids."""
        caps, used = self.caps, self._used
        kind = CLASSES.get(call, "C")
        if call in DOWNLOADS and (
            _reached(used.download_bytes, caps.download_bytes) or _reached(used.class_b, caps.class_b)
        ):
            raise Refusal(
                403,
                "download_cap_exceeded",
                "Cannot download file, download bandwidth or transaction (Class B) cap exceeded.",
            )
        if (kind == "B" and _reached(used.class_b, caps.class_b)) or (
            kind == "C" and _reached(used.class_c, caps.class_c)
        ):
            raise Refusal(403, "transaction_cap_exceeded", f"Transaction (Class {kind}) cap exceeded.")
        if call in STORING and _reached(used.storage_bytes, caps.storage_bytes):
            raise Refusal(403, "storage_cap_exceeded", "Cannot upload files, storage cap exceeded.")

    def check_storage(self, size: int) -> None:
        """Refuse to store *size* bytes more than the storage cap allows."""
        cap = self.caps.storage_bytes
        if cap is not None and (self._used.storage_bytes or 0) + size > cap:
            raise Refusal(403, "cap_exceeded", "Cannot upload files, storage cap exceeded.")

    def counters(self) -> dict[str, Any]:
        """Give all counters."""
        return {
            "calls": dict(self._calls),
            "classes": {kind: self._classes[kind] for kind in "ABC"},
            "bytes_in": self._bytes_in,
            "bytes_out": self._bytes_out,
            "refused": self._refused,
            "head_requests": self._heads,
            "errors": dict(self._errors),
        }

    def busy(self) -> dict[str, Any]:
        """Give the entries of requests that have not ended."""
        return {"entries": [asdict(entry) for entry in self._open.values()]}

    def log(self, since: int) -> dict[str, Any]:
        """Give the log entries after number *since*."""
        recent = itertools.takewhile(lambda entry: entry.seq > since, _by_seq_descending(self._log))
        return {"last": self.last_seq, "entries": [asdict(entry) for entry in reversed(list(recent))]}


def _by_seq_descending(log: deque[Entry]) -> list[Entry]:
    # Requests end in another order than they began in.
    return sorted(log, key=lambda entry: entry.seq, reverse=True)


def _reached(used: int | None, cap: int | None) -> bool:
    return cap is not None and (used or 0) >= cap
