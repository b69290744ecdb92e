"""Object Lock: retention and legal hold, asked for with an upload or changed later.

Sources: Backblaze docs, "Object Lock", b2_update_file_retention, b2_update_file_legal_hold. Compliance mode
can be extended, never shortened; governance mode gives way to bypassGovernance with the capability of that
name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from b2mount.emulator.buckets import Bucket
from b2mount.emulator.clock import now_ms
from b2mount.emulator.errors import Refusal, access_denied, bad_request, lock_denied, unauthorized
from b2mount.emulator.keys import Key

MODES = ("governance", "compliance")
_DAY_MS = 86_400_000
_UNIT_MS = {"days": _DAY_MS, "years": 365 * _DAY_MS}


@dataclass(frozen=True, slots=True)
class Lock:
    """How a version is held: retention mode and end (ms), and legal hold "on", "off" or unset."""

    mode: str | None = None
    until: int | None = None
    hold: str | None = None

    def retained(self) -> bool:
        """Tell whether retention is in force now."""
        return self.mode is not None and self.until is not None and self.until > now_ms()

    def check_delete(self, key: Key, bypass: bool) -> None:
        """Refuse to delete what is held."""
        if bypass and not key.may("bypassGovernance"):
            raise unauthorized()
        if self.hold == "on":
            raise lock_denied()
        if self.retained() and not (self.mode == "governance" and bypass):
            raise lock_denied()


UNLOCKED = Lock()


def from_headers(headers: Mapping[str, str]) -> Lock:
    """Read the lock an upload asks for."""
    mode = headers.get("x-bz-file-retention-mode")
    until = headers.get("x-bz-file-retention-retain-until-timestamp")
    if until is not None and not until.isdecimal():
        raise bad_request("the retention timestamp must be a number")
    return _checked(mode, None if until is None else int(until), headers.get("x-bz-file-legal-hold"))


def from_json(retention: Mapping[str, Any] | None, hold: str | None) -> Lock:
    """Read the lock of a JSON call: {mode, retainUntilTimestamp} and "on" or "off"."""
    values = retention or {}
    return _checked(values.get("mode"), values.get("retainUntilTimestamp"), hold)


def _checked(mode: Any, until: Any, hold: Any) -> Lock:
    if mode in ("", "none"):
        mode = None
    if mode is not None and mode not in MODES:
        raise bad_request(f"unknown retention mode: {mode}")
    if (mode is None) != (until is None) or (until is not None and type(until) is not int):
        raise bad_request("retention takes a mode and a timestamp")
    if hold not in (None, "on", "off"):
        raise bad_request("legal hold is on or off")
    return Lock(mode, until, hold)


def for_new_version(asked: Lock, bucket: Bucket, key: Key) -> Lock:
    """Check the lock asked for a new version, and fill in the bucket's default retention."""
    if asked != UNLOCKED:
        _need_locking(bucket)
    if asked.mode is not None and not key.may("writeFileRetentions"):
        raise unauthorized()
    if asked.hold is not None and not key.may("writeFileLegalHolds"):
        raise unauthorized()
    _check_future(asked)
    default = bucket.settings["defaultRetention"]
    if asked.mode is None and bucket.lock_enabled and default["mode"]:
        period = default["period"]
        return Lock(default["mode"], now_ms() + period["duration"] * _UNIT_MS[period["unit"]], asked.hold)
    return asked


def change_retention(old: Lock, asked: Lock, bucket: Bucket, key: Key, bypass: bool) -> Lock:
    """Give the lock after b2_update_file_retention, or refuse the change."""
    if bypass and not key.may("bypassGovernance"):
        raise unauthorized()
    _need_locking(bucket)
    _check_future(asked)
    weaker = asked.until is None or (old.until is not None and asked.until < old.until)
    if old.retained() and old.mode == "compliance" and (weaker or asked.mode != "compliance"):
        raise access_denied()
    if old.retained() and old.mode == "governance" and weaker and not bypass:
        raise access_denied()
    return Lock(asked.mode, asked.until, old.hold)


def change_hold(old: Lock, hold: str | None, bucket: Bucket) -> Lock:
    """Give the lock after b2_update_file_legal_hold."""
    _need_locking(bucket)
    if hold not in ("on", "off"):
        raise bad_request("legal hold is on or off")
    return Lock(old.mode, old.until, hold)


def check_default(value: Any) -> dict[str, Any]:
    """Check a bucket's default retention: {mode, period: {duration, unit}}."""
    mode = value.get("mode")
    if mode in (None, "none"):
        return {"mode": None, "period": None}
    period = value.get("period")
    if mode not in MODES or not isinstance(period, dict):
        raise bad_request("default retention takes a mode and a period")
    duration, unit = period.get("duration"), period.get("unit")
    if unit not in _UNIT_MS or type(duration) is not int or duration < 1:
        raise bad_request("a retention period is a number of days or years")
    return {"mode": mode, "period": {"duration": duration, "unit": unit}}


def _need_locking(bucket: Bucket) -> None:
    if not bucket.lock_enabled:
        raise Refusal(400, "bucket_missing_file_lock", "The bucket does not have Object Lock enabled")


def _check_future(lock: Lock) -> None:
    if lock.until is not None and lock.until <= now_ms():
        raise Refusal(
            400, "retain_until_timestamp_must_be_in_future", "The retention timestamp must lie in the future"
        )
