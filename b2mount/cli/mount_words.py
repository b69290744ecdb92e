"""What can be said about a mount: each option once, as `-o name=value` spells it and as a command-line flag.

`-o` is read as mount(8) passes it: words for mount(8) itself are ignored, flags of the kernel are passed on,
and a word nobody knows is an error that names it (but never its value, which might be a secret).
"""

import dataclasses
import ipaddress
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from b2mount.cli import units
from b2mount.core.listen import parse_listen
from b2mount.core.options import CONFLICTS, MountOptions
from b2mount.fs.local_time import read_moment

LOG_LEVELS = ("debug", "info", "warning", "error")


def parse_endpoint(text: str) -> str:
    """Check a base URL; http:// only on this machine, since the key would cross the network in clear."""
    if text and "://" not in text:
        raise ValueError(f"{text!r} has no scheme; say http:// or https:// (http:// on this machine alone)")
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.username:
        raise ValueError(f"{text!r} is not a base URL; write https://HOST[:PORT]")
    if url.scheme == "http" and not _is_loopback(url.hostname):
        raise ValueError(f"{text!r} would send the key unencrypted; http:// works on this machine alone")
    return url.geturl().rstrip("/")


def parse_log_level(text: str) -> str:
    """Check a log level."""
    if text not in LOG_LEVELS:
        raise ValueError(f"{text!r} is not a log level; choose one of {', '.join(LOG_LEVELS)}")
    return text


def parse_conflicts(text: str) -> str:
    """Check what is to be done about lost updates."""
    if text not in CONFLICTS:
        raise ValueError(f"{text!r} is not known; choose one of {', '.join(CONFLICTS)}")
    return text


def parse_path(text: str) -> Path:
    """Make a path absolute, `~` included."""
    if not text:
        raise ValueError("the path is empty")
    return Path(text).expanduser().absolute()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_bucket_id(text: str) -> str:
    """Check a bucket's ID as far as it can be: B2 documents no shape for it."""
    if not re.fullmatch(r"[0-9A-Za-z_-]+", text):
        raise ValueError(f"{text!r} is not a bucket's ID; B2's web page shows it beside the bucket's name")
    return text


# name of the field -> how its value is read; the name is also that of the -o word and of the flag
VALUES: Mapping[str, Callable[[str], Any]] = {
    "bucket_id": parse_bucket_id,
    "endpoint": parse_endpoint,
    "ca_file": parse_path,
    "state_dir": parse_path,
    "cache_dir": parse_path,
    "cache_size": units.parse_size,
    "memory_size": units.parse_size,
    "spool_size": units.parse_size,
    "listing_ttl": units.parse_duration,
    "io_timeout": units.parse_duration,
    "settle": units.parse_duration,
    "uploads": units.parse_count,
    "downloads": units.parse_count,
    "metrics": parse_listen,
    "max_class_b_per_day": units.parse_count,
    "max_class_c_per_day": units.parse_count,
    "max_download_per_day": units.parse_size,
    "uid": units.parse_uid,
    "gid": units.parse_gid,
    "umask": units.parse_umask,
    "conflicts": parse_conflicts,
    "at": read_moment,
    # of this program rather than of the mount:
    "credentials": parse_path,
    "profile": str,
    "log_level": parse_log_level,
    "log_file": parse_path,
}
SWITCHES: Mapping[str, tuple[str, bool]] = {
    "ro": ("read_only", True),
    "rw": ("read_only", False),
    "read_only": ("read_only", True),
    "allow_other": ("allow_other", True),
    "hard_delete": ("hard_delete", True),
    "bypass_governance": ("bypass_governance", True),
    "manage_buckets": ("manage_buckets", True),
    "write_through": ("write_through", True),
    "versions": ("versions", True),
    "nonempty": ("nonempty", True),
}
PASSED_ON = frozenset({"noexec", "noatime", "sync", "dirsync"})
# Words for mount(8), and what is so already: setuid bits and devices never count on a FUSE mount.
IGNORED = frozenset(
    {"defaults", "auto", "noauto", "nofail", "_netdev", "user", "nouser", "users", "owner", "group"}
    | {"exec", "suid", "nosuid", "dev", "nodev", "async", "atime", "diratime", "nodiratime", "relatime"}
    | {"comment", "norelatime", "strictatime", "lazytime", "nolazytime", "mand", "nomand", "silent", "loud"}
)
SECRETS = frozenset({"key", "key_id", "application_key", "password", "pass", "secret", "account", "username"})


class UnknownWord(ValueError):
    """An `-o` word that nobody knows; `hint` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def parse_o(text: str, *, sloppy: bool = False) -> dict[str, Any]:
    """Read `a,b=c`; a comma in a value is written `\\,`. Later words win.

    With *sloppy* (mount(8)'s -s) unknown words are passed over. Raises UnknownWord, or ValueError for a
    value that cannot be read.
    """
    said: dict[str, Any] = {}
    kernel: list[str] = []
    for word in re.split(r"(?<!\\),", text):
        name, has_value, value = word.replace("\\,", ",").strip().partition("=")
        if name in VALUES and has_value:
            said[name] = _read(name, value)
        elif name in SWITCHES and not has_value:
            field, on = SWITCHES[name]
            said[field] = on
        elif name in PASSED_ON and not has_value:
            kernel.append(name)
        elif not (_is_ignored(name) or sloppy):
            raise _unknown(name, bool(has_value))
    return {**said, "kernel_options": tuple(kernel)} if kernel else said


def _read(name: str, value: str) -> Any:
    try:
        return VALUES[name](value)
    except ValueError as error:
        raise ValueError(f"option {name}: {error}") from None


def _is_ignored(name: str) -> bool:
    return not name or name in IGNORED or name.startswith(("x-", "X-"))


def _unknown(name: str, has_value: bool) -> UnknownWord:
    if name in SECRETS:
        return UnknownWord(
            f"option {name}: keys are not given as options, where everybody sees them",
            "use -o credentials=FILE or -o profile=NAME",
        )
    if name in VALUES:
        return UnknownWord(f"option {name} needs a value", f"write {name}=VALUE")
    if name in SWITCHES and has_value:
        return UnknownWord(f"option {name} takes no value", f"write {name} alone")
    return UnknownWord(f"unknown option {name!r}", "b2mount mount --help shows what can be said")


MOUNT_FIELDS = frozenset(field.name for field in dataclasses.fields(MountOptions))


def make_options(mountpoint: Path, source: str | None, said: Mapping[str, Any]) -> MountOptions:
    """Put what was said over the defaults; words that are not about the mount itself are passed over."""
    known = {name: value for name, value in said.items() if name in MOUNT_FIELDS}
    return dataclasses.replace(MountOptions(mountpoint=mountpoint, source=source), **known)
