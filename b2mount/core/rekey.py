"""Whether another key may take the place of a running mount's: it must open all that the mount shows.

Compares what two authorizations say; knows neither secrets nor calls.
"""

from b2mount.core.access import rights_used
from b2mount.core.grant import B2_NAMES, Capability, Grant
from b2mount.core.scope import Scope


def why_unfit(old: Grant, new: Grant, scope: Scope) -> str | None:
    """Say in what *new* opens less than the mount of *scope* shows by *old*; None where it will do."""
    if new.account_id != old.account_id:
        return f"it is for account {new.account_id}, and the mount shows account {old.account_id}"
    bucket = _missing_bucket(old, new, scope)
    if bucket is not None:
        return f"it does not open {bucket}"
    shown = max(scope.directory, scope.limit, key=len)  # one of them begins with the other
    if not shown.startswith(new.prefix):
        return (
            f"it opens only names that begin {new.prefix!r}, and the mount shows those that begin {shown!r}"
        )
    if new.has(Capability.LIST_FILES) and scope.single is not None and scope.single.bucket_id is None:
        return "it lists files, which takes the bucket's ID, and this mount began without it: mount again"
    lost = old.capabilities & rights_used() & ~new.capabilities
    if lost:
        return f"it lacks {' and '.join(B2_NAMES[one] for one in lost)}, which the old one has"
    return None


def _missing_bucket(old: Grant, new: Grant, scope: Scope) -> str | None:
    """Name a bucket that the mount shows and *new* does not open."""
    if new.buckets is None:
        needs_list = scope.single is None and scope.buckets is None
        if needs_list and not new.has(Capability.LIST_BUCKETS):
            return "the list of buckets (it lacks listBuckets)"
        return None
    if scope.single is not None:
        shown = [scope.single]
    elif scope.buckets is not None:
        shown = list(scope.buckets)
    else:
        return "every bucket of the account"
    for bucket in shown:
        if bucket.bucket_id is None:
            covered = any(bucket.name == one.name for one in new.buckets)
        else:
            covered = new.covers_bucket(bucket.bucket_id)
        if not covered:
            return f"bucket {bucket.name!r}"
    return None
