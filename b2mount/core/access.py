"""What a key allows of each file operation: one table, asked before any request is sent.

Source of the rights: Backblaze docs, "Application Key Capabilities" and the page of each call. Source of
the errno: the table "Refusals" of this project's semantics, which `table_rows` prints from here.

Knows names and grants; what exists, and what a lock holds, is for others to find out.
"""

import enum
import errno
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from b2mount.core.errors import (
    ERRNO,
    AccessDenied,
    B2MountError,
    KeyExpired,
    KeyForbids,
    NoSuchFile,
    NotPermitted,
    ReadOnlyMount,
)
from b2mount.core.grant import B2_NAMES, Capability, Grant
from b2mount.core.scope import Place, place


class Operation(enum.Enum):
    """What can be asked of the mount, as far as keys tell it apart; the value is its name in messages."""

    LOOK_UP = "look up a name"
    LIST = "list a directory"
    READ = "read a file"
    CREATE = "create a file"
    REPLACE = "replace a file's content"
    PATCH = "change part of a stored file"  # B2 copies the other ranges
    SET_ATTRIBUTES = "set attributes of a stored file"  # B2 copies it onto itself
    SYMLINK = "make a symbolic link"
    MKDIR = "make a directory"
    RMDIR = "remove a directory"  # what lies under it must be known
    UNLINK = "remove a file"  # hides it; the versions stay
    HARD_DELETE = "delete a file for good"  # every version of it, or an older one would reappear
    RENAME_FILE = "rename a file"  # copies and hides
    RENAME_DIRECTORY = "rename a directory"
    LINK = "make a hard link"
    READ_RETENTION = "read a file's retention"
    READ_LEGAL_HOLD = "read a file's legal hold"
    SET_RETENTION = "set a file's retention"
    SET_LEGAL_HOLD = "set a file's legal hold"
    BYPASS_GOVERNANCE = "bypass governance"
    MAKE_BUCKET = "make a bucket"
    REMOVE_BUCKET = "remove a bucket"
    LIST_VERSIONS = "list versions"
    RESTORE = "restore an earlier version"  # copies


class LookUpBy(enum.Enum):
    """How a single name can be looked up."""

    LISTING = "listing"
    HEAD = "HEAD request"
    MEMORY = "what this mount made itself"


@dataclass(frozen=True, slots=True)
class _Rule:
    needs: Capability | None  # None: no key can do it
    missing: type[KeyForbids]
    changes: bool = False  # then EROFS where the mount is read-only
    makes_name: bool = False  # then a name outside the prefix is forbidden, else it does not exist


_LIST = Capability.LIST_FILES
_READ = Capability.READ_FILES
_WRITE = Capability.WRITE_FILES

_RULES: dict[Operation, _Rule] = {
    Operation.LOOK_UP: _Rule(Capability(0), AccessDenied),
    Operation.LIST: _Rule(_LIST, AccessDenied),
    Operation.READ: _Rule(_READ, AccessDenied),
    Operation.CREATE: _Rule(_WRITE, AccessDenied, changes=True, makes_name=True),
    Operation.REPLACE: _Rule(_WRITE, NotPermitted, changes=True),
    Operation.PATCH: _Rule(_WRITE | _READ, NotPermitted, changes=True),
    Operation.SET_ATTRIBUTES: _Rule(_WRITE | _READ, NotPermitted, changes=True),
    Operation.SYMLINK: _Rule(_WRITE, AccessDenied, changes=True, makes_name=True),
    Operation.MKDIR: _Rule(_WRITE, AccessDenied, changes=True, makes_name=True),
    Operation.RMDIR: _Rule(_WRITE | _LIST, NotPermitted, changes=True),
    Operation.UNLINK: _Rule(_WRITE, NotPermitted, changes=True),
    Operation.HARD_DELETE: _Rule(Capability.DELETE_FILES | _LIST, NotPermitted, changes=True),
    Operation.RENAME_FILE: _Rule(_WRITE | _READ, NotPermitted, changes=True, makes_name=True),
    Operation.RENAME_DIRECTORY: _Rule(_WRITE | _READ | _LIST, NotPermitted, changes=True, makes_name=True),
    Operation.LINK: _Rule(None, NotPermitted, changes=True),
    Operation.READ_RETENTION: _Rule(Capability.READ_FILE_RETENTIONS, AccessDenied),
    Operation.READ_LEGAL_HOLD: _Rule(Capability.READ_FILE_LEGAL_HOLDS, AccessDenied),
    Operation.SET_RETENTION: _Rule(Capability.WRITE_FILE_RETENTIONS, NotPermitted, changes=True),
    Operation.SET_LEGAL_HOLD: _Rule(Capability.WRITE_FILE_LEGAL_HOLDS, NotPermitted, changes=True),
    Operation.BYPASS_GOVERNANCE: _Rule(Capability.BYPASS_GOVERNANCE, NotPermitted, changes=True),
    Operation.MAKE_BUCKET: _Rule(Capability.WRITE_BUCKETS, NotPermitted, changes=True),
    Operation.REMOVE_BUCKET: _Rule(Capability.DELETE_BUCKETS, NotPermitted, changes=True),
    Operation.LIST_VERSIONS: _Rule(_LIST, AccessDenied),
    Operation.RESTORE: _Rule(_WRITE | _READ | _LIST, NotPermitted, changes=True),
}

_OF_BUCKETS = (Operation.MAKE_BUCKET, Operation.REMOVE_BUCKET)


def refusal(
    operation: Operation,
    grant: Grant,
    *,
    name: str | None = None,
    read_only: bool = False,
    now_ms: int | None = None,
) -> B2MountError | None:
    """Return the error to raise instead of doing *operation*, or None where the key allows it.

    *name* is the B2 file name, that of a directory with its trailing slash ("" is the bucket's root); of a
    rename, ask for the old name and for the new. *read_only* is the person's choice, a key without
    writeFiles makes the mount read-only anyway. With *now_ms* an expired key refuses everything.
    """
    rule = _RULES[operation]
    if now_ms is not None and grant.has_expired(now_ms):
        return _expired(grant)
    if rule.changes and is_read_only(grant, read_only):
        return ReadOnlyMount(_why_read_only(grant))
    if rule.needs is None:
        return NotPermitted(f"no key can {operation.value}: B2 has none")
    if name is not None and operation not in _OF_BUCKETS and not grant.covers_name(name):
        where = _place_of(name, grant.prefix)
        if where is Place.OUTSIDE:
            return _outside(rule, grant)
        if rule.changes:
            return NotPermitted(
                f"this directory is made up: the key covers names that begin {grant.prefix!r}"
            )
        if where is Place.ABOVE:
            return None  # answered from the key itself, without a call
    missing = rule.needs & ~grant.capabilities
    return rule.missing(_lacks(missing, operation)) if missing else None


def is_read_only(grant: Grant, chosen: bool) -> bool:
    """Say whether the mount as a whole is read-only: *chosen* by a person, or without writeFiles."""
    return chosen or not grant.has(_WRITE)


def rights_used() -> Capability:
    """Return every capability that some operation on files needs."""
    used = Capability(0)
    for operation, rule in _RULES.items():
        if operation not in _OF_BUCKETS and rule.needs is not None:
            used |= rule.needs
    return used


def look_up_by(grant: Grant) -> LookUpBy:
    """Say how the key lets a single name be looked up."""
    if grant.has(_LIST):
        return LookUpBy.LISTING
    return LookUpBy.HEAD if grant.has(_READ) else LookUpBy.MEMORY


def mode_mask(grant: Grant, read_only: bool) -> int:
    """Return the permission bits that remain for files: no `r` without readFiles, no `w` where read-only."""
    return _mask(can_read=grant.has(_READ), can_write=not is_read_only(grant, read_only))


def directory_mode_mask(grant: Grant, read_only: bool) -> int:
    """Return the permission bits that remain for directories: no `r` without listFiles, `w` as for files."""
    return _mask(can_read=grant.has(_LIST), can_write=not is_read_only(grant, read_only))


class TableRow(NamedTuple):
    """One operation for people: what it needs, and the errno where that one is lacking (same order)."""

    operation: str
    needs: tuple[str, ...]  # capabilities as B2 spells them
    errno_names: tuple[str, ...]  # one for each of `needs`; one alone where no key can do it


def table_rows() -> Iterator[TableRow]:
    """Yield the table for documentation and `check`; writeFiles stands first wherever something changes."""
    for operation, rule in _RULES.items():
        forbidden = errno.errorcode[ERRNO[rule.missing]]
        needs = list(rule.needs or ())
        errnos = [forbidden] * len(needs) if rule.needs is not None else [forbidden]
        if rule.changes and rule.needs is not None:
            needs = [_WRITE, *(need for need in needs if need != _WRITE)]
            errnos = [errno.errorcode[ERRNO[ReadOnlyMount]], *[forbidden] * (len(needs) - 1)]
        yield TableRow(operation.value, tuple(B2_NAMES[need] for need in needs), tuple(errnos))


def _place_of(name: str, limit: str) -> Place:
    """Place a name that the limit does not cover: only a directory may still be seen."""
    return place(name, limit) if name == "" or name.endswith("/") else Place.OUTSIDE


def _outside(rule: _Rule, grant: Grant) -> B2MountError:
    kind = AccessDenied if rule.makes_name else NoSuchFile
    return kind(f"the key covers only names that begin {grant.prefix!r}")


def _lacks(missing: Capability, operation: Operation) -> str:
    return f"the key lacks {' and '.join(B2_NAMES[one] for one in missing)}, needed to {operation.value}"


def _why_read_only(grant: Grant) -> str:
    return "the mount is read-only" + ("" if grant.has(_WRITE) else ": the key lacks writeFiles")


def _expired(grant: Grant) -> KeyExpired:
    at = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=max(grant.expires_ms or 0, 0))
    return KeyExpired(f"the application key expired at {at:%Y-%m-%d %H:%M:%S} UTC")


def _mask(*, can_read: bool, can_write: bool) -> int:
    return 0o7777 & ~(0 if can_read else 0o444) & ~(0 if can_write else 0o222)
