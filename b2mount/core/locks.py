"""Object Lock as text: what `user.b2.retention` and `user.b2.legal_hold` show and take.

Retention is "governance 2027-01-31T00:00:00Z" or "compliance ..."; the moment is UTC and may be a date
alone; "none" stands for no retention. A legal hold is "on" or "off". Source of what may be changed: Backblaze
docs, b2_update_file_retention: compliance is never shortened or removed, governance only with a bypass.
"""

import re
from datetime import UTC, datetime, timedelta

from b2mount.core.errors import InvalidArgument

MODES = ("governance", "compliance")
FORMAT_HINT = 'write "governance 2027-01-31T00:00:00Z", "compliance 2027-01-31" or "none"'

_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d:\d\d)(\.\d{1,3})?(?:Z|\+00:00))?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def format_retention(mode: str, until_ms: int) -> str:
    """Write retention as the attribute shows it; milliseconds only where there are any."""
    at = _EPOCH + timedelta(milliseconds=until_ms)
    fraction = f".{until_ms % 1000:03d}" if until_ms % 1000 else ""
    return f"{mode} {at:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def parse_retention(text: str) -> tuple[str, int] | None:
    """Read mode and end (ms since the epoch) from the attribute's text; None for "none".

    Raises InvalidArgument.
    """
    words = text.strip().split(None, 1)
    if words == ["none"]:
        return None
    found = _MOMENT.fullmatch(words[1]) if len(words) == 2 else None
    if found is None or words[0] not in MODES:
        raise InvalidArgument(f"{text!r} is no retention: {FORMAT_HINT}")
    date, time, fraction = found.groups()
    try:
        at = datetime.fromisoformat(f"{date}T{time or '00:00:00'}+00:00")
    except ValueError:
        raise InvalidArgument(f"{text!r} names no moment: {FORMAT_HINT}") from None
    milliseconds = int(f"{fraction[1:]:0<3}") if fraction else 0
    return words[0], (at - _EPOCH) // timedelta(milliseconds=1) + milliseconds


def format_legal_hold(on: bool) -> str:
    """Write a legal hold as the attribute shows it."""
    return "on" if on else "off"


def parse_legal_hold(text: str) -> bool:
    """Read a legal hold. Raises InvalidArgument."""
    word = text.strip()
    if word not in ("on", "off"):
        raise InvalidArgument(f'{text!r} is no legal hold: write "on" or "off"')
    return word == "on"


def weakens(mode: str, until_ms: int, new: tuple[str, int] | None) -> bool:
    """Say whether *new* retention holds less than the present one: ends earlier, is none, or is laxer."""
    if new is None or new[1] < until_ms:
        return True
    return mode == "compliance" and new[0] != "compliance"
