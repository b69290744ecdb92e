"""Refuse options that the key cannot fulfil before anything is mounted, in words that say what to do."""

from b2mount.core.access import is_read_only
from b2mount.core.grant import Capability, Grant
from b2mount.core.moments import format_moment
from b2mount.core.options import KEEP_BOTH, MountOptions
from b2mount.core.scope import ScopeError
from b2mount.core.views import VERSIONS_ROOT
from b2mount.store.authorization import CLOCK_SLACK_MS

BUCKET_RIGHTS = Capability.WRITE_BUCKETS | Capability.DELETE_BUCKETS


def check_options(options: MountOptions, grant: Grant, *, now_ms: int) -> None:
    """Raise ScopeError where the key cannot do what the mount was asked to do.

    *now_ms* is the later of B2's clock and this machine's, by which a person says "now".
    """
    if options.at is not None:
        _check_moment(options.at, grant, now_ms)
    if options.versions:
        _check_versions(options, grant)
    if options.conflicts == KEEP_BOTH:
        _check_conflicts(options, grant)
    if options.bypass_governance and not grant.has(Capability.BYPASS_GOVERNANCE):
        raise ScopeError(
            "--bypass-governance was said, but the key lacks bypassGovernance",
            "leave it out, or use a key with bypassGovernance",
        )
    if options.manage_buckets and not grant.capabilities & BUCKET_RIGHTS:
        raise ScopeError(
            "--manage-buckets was said, but the key lacks writeBuckets and deleteBuckets",
            "leave it out; only keys for the whole account can hold those",
        )


def _check_conflicts(options: MountOptions, grant: Grant) -> None:
    if is_read_only(grant, options.read_only) or grant.has(Capability.LIST_FILES, Capability.READ_FILES):
        return
    raise ScopeError(
        "--conflicts=keep-both was said, but the key lacks listFiles or readFiles",
        "leave it out, or use a key with both: lost updates are found by listing, and stored by copying",
    )


def _check_moment(at_ms: int, grant: Grant, now_ms: int) -> None:
    if not grant.has(Capability.LIST_FILES):
        raise ScopeError(
            "--at was said, but the key lacks listFiles",
            "leave it out, or use a key with listFiles: what was there is found by listing versions",
        )
    if at_ms > now_ms + CLOCK_SLACK_MS:
        raise ScopeError(
            f"--at {format_moment(at_ms)} lies in the future: it is {format_moment(now_ms)} now",
            "say a moment of the past; leave --at out for what is there now",
        )


def _check_versions(options: MountOptions, grant: Grant) -> None:
    if options.at is not None:
        raise ScopeError(
            "--at and --versions do not go together",
            f"mount with --versions alone: {VERSIONS_ROOT}/@TIME/ shows any moment",
        )
    if not grant.has(Capability.LIST_FILES):
        raise ScopeError(
            "--versions was said, but the key lacks listFiles",
            "leave it out, or use a key with listFiles",
        )
