"""Keys for a mount with no more rights than it needs, by what it is for; and what B2 takes of a new key.

Source of the rules: Backblaze docs, b2_create_key and "Application Key Capabilities".
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from b2mount.core.errors import InvalidArgument
from b2mount.core.grant import B2_NAMES, BY_B2_NAME, Capability

MAX_SECONDS = 1000 * 86400 - 1  # "less than 1000 days"
_NAME = re.compile(r"[A-Za-z0-9-]{1,100}")

# What no key that is limited to buckets can hold.
ACCOUNT_ONLY = (
    Capability.LIST_KEYS
    | Capability.WRITE_KEYS
    | Capability.DELETE_KEYS
    | Capability.WRITE_BUCKETS
    | Capability.DELETE_BUCKETS
)

_BROWSE = Capability.LIST_BUCKETS | Capability.LIST_FILES | Capability.READ_FILES


@dataclass(frozen=True, slots=True)
class Preset:
    """One use of a mount, and the rights it takes."""

    name: str
    capabilities: Capability
    purpose: str


PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("read-only", _BROWSE, "browse and read; nothing can be changed"),
        Preset(
            "read-write",
            _BROWSE | Capability.WRITE_FILES | Capability.DELETE_FILES,
            "everything that can be done with files, deleting for good included",
        ),
        Preset(
            "backup",
            _BROWSE | Capability.WRITE_FILES,
            "read, write and remove, but never delete: every version stays and can be brought back",
        ),
        Preset(
            "drop-box",
            Capability.WRITE_FILES,
            "put files in; what lies there can be neither listed nor read",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class KeyWish:
    """A key to be made; checked by `check_wish`."""

    name: str
    capabilities: Capability
    buckets: tuple[str, ...]  # names; empty: every bucket of the account
    prefix: str
    seconds: int | None  # None: for ever


def parse_capability_names(names: Sequence[str]) -> Capability:
    """Read capabilities in B2's spelling. Raises InvalidArgument."""
    found = Capability(0)
    for name in names:
        if name not in BY_B2_NAME:
            raise InvalidArgument(f"{name!r} is no capability of B2\none of: {' '.join(BY_B2_NAME)}")
        found |= BY_B2_NAME[name]
    return found


def check_wish(wish: KeyWish) -> None:
    """Raise InvalidArgument for a key that B2 would not make, or that could not be mounted."""
    if not _NAME.fullmatch(wish.name):
        raise InvalidArgument(f"{wish.name!r} is not a key's name\nuse 1 to 100 letters, digits and hyphens")
    if wish.seconds is not None and not 1 <= wish.seconds <= MAX_SECONDS:
        raise InvalidArgument("a key lives from 1 second to less than 1000 days, or for ever")
    if wish.prefix.startswith("/"):
        raise InvalidArgument(
            f"prefix {wish.prefix!r} begins with a slash, as no file name does\n"
            f"say {wish.prefix.lstrip('/')!r}"
        )
    if wish.buckets and wish.capabilities & ACCOUNT_ONLY:
        names = " ".join(B2_NAMES[one] for one in wish.capabilities & ACCOUNT_ONLY)
        raise InvalidArgument(f"a key that is limited to buckets cannot hold {names}\nleave out --bucket")
    if not wish.buckets and Capability.LIST_BUCKETS not in wish.capabilities:
        raise InvalidArgument(
            "a key for all buckets without listBuckets could find none of them\nname the bucket by --bucket"
        )


def describe_rights(capabilities: Capability, unknown: Sequence[str] = ()) -> str:
    """Name the preset that has exactly these rights, or the rights themselves."""
    for preset in PRESETS.values():
        if preset.capabilities == capabilities and not unknown:
            return preset.name
    return " ".join([*(B2_NAMES[one] for one in capabilities), *sorted(unknown)])
