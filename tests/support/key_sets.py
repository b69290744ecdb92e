"""The kinds of keys that tests and docs/keys.md go through, by what each may do."""

from b2mount.core.access import Operation
from b2mount.core.grant import AllowedBucket, Grant, parse_capabilities

BASIC = ("listBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles")
LOCK_READ = ("readFileRetentions", "readFileLegalHolds")
LOCK_WRITE = ("writeFileRetentions", "writeFileLegalHolds")


def _without(*names: str) -> tuple[str, ...]:
    return tuple(name for name in EVERYTHING if name not in names)


EVERYTHING = (*BASIC, *LOCK_READ, *LOCK_WRITE, "bypassGovernance")

KEY_SETS: dict[str, tuple[str, ...]] = {
    "everything": EVERYTHING,
    "no writeFiles": _without("writeFiles"),
    "no deleteFiles": _without("deleteFiles"),
    "no listFiles": _without("listFiles"),
    "no readFiles": _without("readFiles"),
    "no locks": BASIC,
    "reads locks": (*BASIC, *LOCK_READ),
    "writes locks": (*BASIC, *LOCK_READ, *LOCK_WRITE),
    "list + read": ("listFiles", "readFiles"),
    "list only": ("listFiles",),
    "read only": ("readFiles",),
    "write + list": ("writeFiles", "listFiles"),
    "write + read": ("writeFiles", "readFiles"),
    "write only": ("writeFiles",),
}

# Asked of buckets or of the past rather than of a file; tests/mount/test_manage_buckets.py has the first two.
ELSEWHERE = (Operation.MAKE_BUCKET, Operation.REMOVE_BUCKET, Operation.LIST_VERSIONS, Operation.RESTORE)


def grant_of(capabilities: tuple[str, ...], prefix: str = "") -> Grant:
    """Return what such a key opens."""
    known, unknown = parse_capabilities(capabilities)
    assert not unknown
    return Grant("account", known, (AllowedBucket("bucket", "bucket"),), prefix, None)
