"""What `b2mount check` finds out about a key, as facts, and the remarks that follow from them.

Pure: the grant and the clock come in; core/access.py and core/scope.py decide, this module puts it together.
"""

import errno
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from b2mount.core.access import LookUpBy as By
from b2mount.core.access import Operation, is_read_only, look_up_by, refusal
from b2mount.core.credentials import Credentials, Remark, Shape, shape_of
from b2mount.core.errors import errno_of
from b2mount.core.grant import B2_NAMES, Capability, Grant
from b2mount.core.scope import Place, Scope, place

OLD_NAMES = "B2_ACCOUNT_ID and B2_ACCOUNT_KEY"
SKEW_SECONDS = 60.0  # a clock that is further off is worth a word; a guess
SOON_MS = 7 * 24 * 3600 * 1000  # a key that ends within a week is worth a word


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the mount will do one operation, and the errno and the reason where it will not."""

    operation: str
    errno_name: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Findings:
    """All that is known about a key that B2 accepted."""

    credentials: Credentials
    grant: Grant
    scope: Scope
    bucket_names: tuple[str, ...]
    now_ms: int
    skew_seconds: float = 0.0  # B2's clock minus this machine's

    @property
    def is_usable(self) -> bool:
        """Say whether a mount would show or take anything at all."""
        files = Capability.LIST_FILES | Capability.READ_FILES | Capability.WRITE_FILES
        return bool(self.grant.capabilities & files) and not self.grant.has_expired(self.now_ms)

    @property
    def is_read_only(self) -> bool:
        """Say whether nothing can be written."""
        return is_read_only(self.grant, False)

    @property
    def is_master(self) -> bool:
        """Say whether this is the account's master key, by the shape of its ID."""
        return shape_of(self.credentials.key_id) in (Shape.ACCOUNT_ID, Shape.MASTER_KEY_ID)

    def capability_names(self) -> list[str]:
        """Return every capability in B2's spelling, those unknown here last."""
        known = [B2_NAMES[capability] for capability in self.grant.capabilities]
        return [*known, *sorted(self.grant.unknown_capabilities)]

    def verdicts(self) -> list[Verdict]:
        """Return one row an operation."""
        return [self._verdict(operation) for operation in Operation]

    def _verdict(self, operation: Operation) -> Verdict:
        error = refusal(operation, self.grant, now_ms=self.now_ms)
        if error is None:
            return Verdict(operation.value, None, "")
        return Verdict(operation.value, errno.errorcode[errno_of(error)], str(error))

    def remarks(self) -> list[Remark]:
        """Return what is odd; a suspicion about the shape of the key is void once B2 has accepted it."""
        return [
            *(remark for remark in self.credentials.remarks if not remark.is_suspicion),
            *self._remarks_on_origin(),
            *self._remarks_on_power(),
            *self._remarks_on_reach(),
            *_remarks_on_rights(self.grant),
        ]

    def _remarks_on_origin(self) -> Iterator[Remark]:
        if self.credentials.source == OLD_NAMES:
            yield Remark(
                f"the key was found under the names of restic and rclone users, {OLD_NAMES}",
                "that works; the b2 tool's names, which come first, are B2_APPLICATION_KEY_ID "
                "and B2_APPLICATION_KEY",
            )
        if abs(self.skew_seconds) > SKEW_SECONDS:
            yield Remark(
                f"this machine's clock is {describe_skew(self.skew_seconds)}",
                "set it right: modification times and the end of keys go by it",
            )

    def _remarks_on_power(self) -> Iterator[Remark]:
        if self.is_master:
            yield Remark(
                "this is the master key: it opens the whole account, and every program that reads it does",
                "make an application key for this mount alone",
            )
        elif self.grant.has(Capability.WRITE_KEYS):
            yield Remark(
                "the key has writeKeys: who holds it can make keys that open the whole account",
                "make a key without writeKeys, listKeys and deleteKeys for this mount",
            )
        if self.grant.has_expired(self.now_ms):
            yield Remark("the key has expired", "make a new key")
        elif self.grant.expires_ms is not None and self.grant.expires_ms - self.now_ms < SOON_MS:
            yield Remark("the key ends within a week", "make a new key before, and mount again with it")

    def _remarks_on_reach(self) -> Iterator[Remark]:
        if self.scope.gone:
            yield Remark(
                f"the key names buckets that no longer exist: {', '.join(self.scope.gone)}",
                "they do not show",
            )
        if place(self.scope.directory, self.scope.limit) is Place.PARTIAL:
            start = self.scope.limit[len(self.scope.directory) :]
            yield Remark(
                f"the key's prefix {self.scope.limit!r} does not end in a slash",
                f"only names that begin with {start!r} show in the root, and no others can be made there",
            )


def _remarks_on_rights(grant: Grant) -> Iterator[Remark]:
    if grant.unknown_capabilities:
        names = ", ".join(sorted(grant.unknown_capabilities))
        yield Remark(f"the key has capabilities that this version does not know: {names}", "they go unused")
    if look_up_by(grant) is By.HEAD:
        yield Remark(
            "directories cannot be listed: the key lacks listFiles", "files open only by their full names"
        )
    if look_up_by(grant) is By.MEMORY and grant.has(Capability.WRITE_FILES):
        yield Remark(
            "this is a drop box: the key may write, but neither list nor read",
            "new files can be made; only those of this mount show, and none can be read back after close",
        )
    if grant.has(Capability.LIST_FILES) and not grant.has(Capability.READ_FILES):
        yield Remark(
            "files cannot be read: the key lacks readFiles",
            "their names, sizes and times show; opening one for reading gives EACCES",
        )
    if grant.has(Capability.WRITE_FILES) and not grant.has(Capability.DELETE_FILES):
        yield Remark(
            "the key lacks deleteFiles", "removing hides files; their versions stay and are paid for"
        )


_ACCESS = {  # may list, read, write
    (True, True, True): "read and write",
    (True, True, False): "read-only",
    (True, False, True): "list and write, no reading",
    (True, False, False): "list only, no reading",
    (False, True, True): "read and write by full names, no listing",
    (False, True, False): "read-only, by full names, no listing",
    (False, False, True): "write only",
    (False, False, False): "none",
}


def describe_access(capabilities: Collection[str], *, read_only: bool) -> str:
    """Say in words what a mount lets do, by its key's capabilities in B2's spelling."""
    may_list, may_read = "listFiles" in capabilities, "readFiles" in capabilities
    return _ACCESS[may_list, may_read, not read_only and "writeFiles" in capabilities]


def describe_skew(seconds: float) -> str:
    """Say how wrong this machine's clock is; *seconds* is B2's clock minus ours."""
    return f"{abs(seconds) / 60:.0f} minutes {'behind' if seconds > 0 else 'ahead of'} B2's"


def describe_kind(grant: Grant, *, is_master: bool) -> str:
    """Say in words what sort of key it is."""
    if is_master:
        return "the master key"
    if grant.buckets is None:
        reach = "all buckets"
    elif len(grant.buckets) == 1:
        reach = "one bucket"
    else:
        reach = f"{len(grant.buckets)} buckets"
    limited = f", names that begin with {grant.prefix!r}" if grant.prefix else ""
    return f"an application key for {reach}{limited}"


def describe_root(scope: Scope) -> str:
    """Say in words what the mount's root will show."""
    if scope.single is None:
        return "one directory a bucket"
    if not scope.directory:
        return f"bucket {scope.single.name}"
    return f"{scope.directory} in bucket {scope.single.name}"
