"""Injected faults and the network model, set through the control interface while the server runs."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass, fields
from typing import Any

from b2mount.emulator.errors import Refusal, bad_request

KINDS = ("status", "drop_before", "drop_after", "truncate", "corrupt", "stall")


@dataclass(slots=True)
class Fault:
    """One rule: what happens to which calls, and how often."""

    kind: str
    call: str = "*"
    status: int = 503
    code: str = "service_unavailable"
    message: str = ""
    retry_after: int | None = None
    times: int = 1  # -1: until cleared
    skip: int = 0
    seconds: float = 0.0
    after_bytes: int = 0
    name: str | None = None
    fired: int = 0

    def matches(self, call: str, name: str) -> bool:
        """Tell whether the rule is meant for this call and still alive; names match by substring."""
        if self.times == 0 or (self.call != "*" and self.call != call):
            return False
        return self.name is None or self.name in name

    def refusal(self) -> Refusal:
        """Give the answer of a "status" fault."""
        return Refusal(self.status, self.code, self.message, self.retry_after)


class Faults:
    """All rules, in the order they were added; the first that matches and is ripe fires."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []

    def add(self, values: dict[str, Any]) -> None:
        """Add one rule from its JSON form."""
        known = {field.name for field in fields(Fault)} - {"fired"}
        unknown = set(values) - known
        if unknown or values.get("kind") not in KINDS:
            raise bad_request(f"a fault has a kind of {KINDS} and the fields {sorted(known)}")
        self._rules.append(Fault(**values))

    def clear(self) -> None:
        """Drop all rules."""
        self._rules.clear()

    def rows(self) -> list[dict[str, Any]]:
        """Give all rules with how often each fired."""
        return [asdict(rule) for rule in self._rules]

    def fire(self, call: str, name: str) -> Fault | None:
        """Give the fault that strikes this call, if any."""
        for rule in self._rules:
            if not rule.matches(call, name):
                continue
            if rule.skip > 0:
                rule.skip -= 1
                continue
            rule.fired += 1
            if rule.times > 0:
                rule.times -= 1
            return rule
        return None


@dataclass(slots=True)
class Network:
    """How far away the server pretends to be."""

    latency_ms: float = 0.0
    bandwidth: float | None = None  # bytes a second, each connection, each direction; None: unlimited
    list_ms_per_1000: float = 0.0

    def change(self, values: dict[str, Any]) -> None:
        """Take new values; what is not named stays."""
        known = {field.name for field in fields(self)}
        for name, value in values.items():
            number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
            if name not in known or not (number or (value is None and name == "bandwidth")):
                raise bad_request(f"the network takes numbers for {sorted(known)}")
        for name, value in values.items():
            setattr(self, name, value)

    def as_dict(self) -> dict[str, Any]:
        """Give all values by name."""
        return asdict(self)

    async def wait_first_byte(self) -> None:
        """Wait the round trip of a call."""
        if self.latency_ms:
            await asyncio.sleep(self.latency_ms / 1000)

    async def wait_listing(self, rows: int) -> None:
        """Wait what a listing of *rows* rows takes."""
        if self.list_ms_per_1000 and rows:
            await asyncio.sleep(self.list_ms_per_1000 * rows / 1_000_000)

    def pace(self) -> Pace:
        """Start to pace one transfer."""
        return Pace(self.bandwidth)


class Pace:
    """Holds one transfer to the bandwidth that was set when it began."""

    def __init__(self, bandwidth: float | None) -> None:
        self._bandwidth = bandwidth
        self._began = time.monotonic()
        self._moved = 0

    def chunk_bytes(self, most: int) -> int:
        """Give how much to move at a time: about 20 ms worth, so that a slow line looks smooth."""
        return most if not self._bandwidth else max(4096, min(most, int(self._bandwidth / 50)))

    async def moved(self, count: int) -> None:
        """Wait until *count* more bytes would have passed."""
        if not self._bandwidth:
            return
        self._moved += count
        ahead = self._moved / self._bandwidth - (time.monotonic() - self._began)
        if ahead > 0:
            await asyncio.sleep(ahead)
