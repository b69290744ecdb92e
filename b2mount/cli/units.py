"""Words for quantities, read and written: sizes, durations, users, modes. Knows no option by name."""

import grp
import pwd
import re
from collections.abc import Callable
from typing import Any

import click

from b2mount.core.words import show_count as show_count
from b2mount.core.words import show_size as show_size

_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTP]?)(i?B)?", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", re.IGNORECASE)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(text: str) -> int:
    """Read a size in bytes: 4096, 10G and 10GiB (powers of 1024), 10GB (powers of 1000).

    Raises ValueError, as all parsers here do, with a sentence for people.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or (match[3] and match[3].lower() == "ib" and not match[2]):
        raise ValueError(f"{text!r} is not a size; write 512M, 10G or 1.5TiB")
    base = 1000 if match[3] and match[3].upper() == "B" else 1024
    return int(float(match[1]) * base ** _POWERS[match[2].upper()])


def parse_duration(text: str) -> float:
    """Read a duration in seconds: 90, 90s, 1.5m, 2h, 1d, 500ms."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write 90, 90s, 5m or 1h")
    return float(match[1]) * _SECONDS[(match[2] or "s").lower()]


def parse_count(text: str) -> int:
    """Read a number from 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError(f"{text!r} is not a number from 1")
    return int(text)


def parse_umask(text: str) -> int:
    """Read an octal mask of permission bits."""
    try:
        mask = int(text, 8)
    except ValueError:
        mask = -1
    if not 0 <= mask <= 0o777:
        raise ValueError(f"{text!r} is not an octal mask; write 022 or 077")
    return mask


def parse_uid(text: str) -> int:
    """Read a user, by number or by name."""
    return _parse_id(text, "user", lambda name: pwd.getpwnam(name).pw_uid)


def parse_gid(text: str) -> int:
    """Read a group, by number or by name."""
    return _parse_id(text, "group", lambda name: grp.getgrnam(name).gr_gid)


def _parse_id(text: str, kind: str, by_name: Callable[[str], int]) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        return by_name(text)
    except KeyError:
        raise ValueError(f"there is no {kind} {text!r}") from None


def reading(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Make a click callback of one of the parsers above."""

    def read(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        if value is None:
            return None
        try:
            return parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from None

    return read


def show_duration(seconds: float) -> str:
    """Write a duration for people by its two largest units: 42s, 5m 3s, 2d 4h."""
    rest, words = int(seconds), []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count:
            words.append(f"{count}{unit}")
    return " ".join(words[:2]) or "0s"
