"""What the root of a mount is: the part of B2 that a grant opens, and SOURCE narrows.

A key's prefix (here *limit*) is a plain string prefix of file names, which need not end in `/`, so a
directory lies inside it, above it, across it or outside it: `place` says which. Directories are written as
their names' prefix: "" is the bucket itself, all others end in `/`.

Knows no store: a bucket whose ID the key does not tell is left to be asked for.
"""

import enum
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from b2mount.core.errors import B2MountError
from b2mount.core.grant import AllowedBucket, Capability, Grant


class ScopeError(B2MountError):
    """The key does not open what the mount was asked to show: one line on that, one on what it opens."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(f"{problem}\n{hint}")
        self.problem = problem
        self.hint = hint


# --- SOURCE -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Source:
    """A bucket and a directory in it, as a person names them; *prefix* is "" or ends in `/`."""

    bucket: str
    prefix: str


_FORM = "write BUCKET or BUCKET/PREFIX, as in photos or photos/2026/summer"


def parse_source(text: str) -> Source:
    """Read `BUCKET[/PREFIX]`; a prefix means a directory, with or without its trailing slash.

    `b2://BUCKET/PREFIX`, as the b2 tool writes it, is read too. Raises ScopeError.
    """
    bucket, _, path = text.removeprefix("b2://").partition("/")
    if not bucket:
        raise ScopeError(f"SOURCE {text!r} does not begin with a bucket's name", _FORM)
    if not re.fullmatch(r"[A-Za-z0-9._-]+", bucket):
        raise ScopeError(f"SOURCE {text!r}: {bucket!r} cannot be the name of a bucket", _FORM)
    if path.startswith("/") or "//" in path:
        raise ScopeError(f"SOURCE {text!r} has a double slash", _FORM)
    return Source(bucket, path if path.endswith("/") or not path else path + "/")


# --- where a directory lies, seen from the key's prefix ---------------------------------------------------


class Place(enum.Enum):
    """How a directory lies to the key's prefix."""

    INSIDE = "inside"  # all names under it are covered
    PARTIAL = "partial"  # of the names in it, those that begin as the prefix ends are covered
    ABOVE = "above"  # only one directory in it leads to what is covered; B2 would refuse to list it
    OUTSIDE = "outside"  # nothing under it is covered


def place(directory: str, limit: str) -> Place:
    """Say how *directory* ("" or ending in `/`) lies to the key's prefix."""
    if directory.startswith(limit):
        return Place.INSIDE
    if not limit.startswith(directory):
        return Place.OUTSIDE
    return Place.ABOVE if "/" in limit[len(directory) :] else Place.PARTIAL


def next_step(directory: str, limit: str) -> str:
    """Return the one component that a directory above the prefix shows."""
    if place(directory, limit) is not Place.ABOVE:
        raise ValueError(f"{directory!r} is not above {limit!r}")
    return limit[len(directory) :].partition("/")[0]


def list_prefix(directory: str, limit: str) -> str:
    """Return the prefix by which B2 lists a directory that lies inside the key's prefix or across it."""
    where = place(directory, limit)
    if where is Place.INSIDE:
        return directory
    if where is Place.PARTIAL:
        return limit
    raise ValueError(f"{directory!r} lies {where.value} {limit!r}: no listing shows it")


def admits(name: str, limit: str) -> bool:
    """Say whether the key's prefix covers a file name."""
    return name.startswith(limit)


# --- the root ---------------------------------------------------------------------------------------------


UNKNOWN_BUCKET: Final = "?"  # stands for an ID that is not known and not needed; never sent to B2


@dataclass(frozen=True, slots=True)
class RootBucket:
    """A bucket the mount shows; the ID is None where the key itself does not tell it."""

    bucket_id: str | None
    name: str


@dataclass(frozen=True, slots=True)
class Scope:
    """What the root of the mount shows.

    With `single`, the root is `directory` in that bucket. Without, it has one directory a bucket (and
    `directory` is ""): those of `buckets`, or, where that is None, those that b2_list_buckets tells.
    `limit` is the key's prefix, which holds in every bucket. `gone` has the IDs of buckets that the key
    names and that no longer exist.
    """

    single: RootBucket | None
    directory: str
    limit: str
    buckets: tuple[RootBucket, ...] | None
    gone: tuple[str, ...] = ()


def resolve_scope(grant: Grant, source: Source | None) -> Scope:
    """Say what the root of the mount is. Raises ScopeError where the key opens nothing there."""
    if source is not None:
        return _sourced_scope(grant, source)
    if grant.buckets is None:
        if not grant.has(Capability.LIST_BUCKETS):
            raise ScopeError(
                "the key is for all buckets, but may not list them (it lacks listBuckets)",
                "name the bucket: b2mount mount BUCKET MOUNTPOINT; or use a key with listBuckets",
            )
        return Scope(None, "", grant.prefix, None)
    alive, gone = _known_buckets(grant.buckets)
    if len(grant.buckets) == 1:
        directory = grant.prefix[: grant.prefix.rfind("/") + 1]
        return Scope(alive[0], directory, grant.prefix, alive)
    return Scope(None, "", grant.prefix, alive, gone)


def _sourced_scope(grant: Grant, source: Source) -> Scope:
    bucket = _pick_bucket(grant, source.bucket)
    if place(source.prefix, grant.prefix) is Place.OUTSIDE:
        raise ScopeError(
            f"the key does not cover {source.prefix!r} in bucket {source.bucket!r}",
            f"it covers {_in_words(grant)}",
        )
    return Scope(bucket, source.prefix, grant.prefix, (bucket,))


def _pick_bucket(grant: Grant, name: str) -> RootBucket:
    if grant.buckets is not None:
        alive, _ = _known_buckets(grant.buckets)
        for bucket in alive:
            if bucket.name == name:
                return bucket
        raise ScopeError(f"the key does not cover bucket {name!r}", f"it covers {_in_words(grant)}")
    return RootBucket(None, name)


def needs_bucket_id(grant: Grant, *, read_only: bool) -> bool:
    """Say whether a mount asks B2 for what takes a bucket's ID: listings and uploads, but no downloads."""
    return grant.has(Capability.LIST_FILES) or (grant.has(Capability.WRITE_FILES) and not read_only)


def unknown_bucket_id(bucket: str) -> ScopeError:
    """Return what to say where a key needs the ID of the bucket that SOURCE names, and cannot ask for it."""
    return ScopeError(
        f"the ID of bucket {bucket!r} cannot be found out: the key lacks listBuckets",
        "say it by --bucket-id (B2's web page shows it), or use a key with listBuckets or for this bucket",
    )


def is_of_bucket(file_id: str, bucket_id: str) -> bool:
    """Say whether a version may lie in a bucket: file IDs begin `4_z`, the bucket's ID and `_`.

    Source: Backblaze docs, "Files". An ID of another form tells nothing.
    """
    told = re.match("4_z([0-9a-f]{24})_", file_id)
    return told is None or bucket_id in (told.group(1), UNKNOWN_BUCKET)


def _known_buckets(allowed: Sequence[AllowedBucket]) -> tuple[tuple[RootBucket, ...], tuple[str, ...]]:
    """Split a key's buckets into those that exist and the IDs of those that are gone; raise if all are."""
    alive = tuple(RootBucket(bucket.bucket_id, bucket.name) for bucket in allowed if bucket.name is not None)
    gone = tuple(bucket.bucket_id for bucket in allowed if bucket.name is None)
    if not alive:
        raise ScopeError(
            "no bucket of this key exists any more (B2 tells no name for its ID)",
            f"it covers {', '.join(gone) or 'none'}; make a new key for a bucket that exists",
        )
    return alive, gone


def _in_words(grant: Grant) -> str:
    if grant.buckets is None:
        buckets = "every bucket"
    else:
        known = [repr(bucket.name) for bucket in grant.buckets if bucket.name is not None]
        buckets = f"bucket{'s' if len(known) > 1 else ''} {', '.join(known)}"
    return f"{buckets}, names that begin with {grant.prefix!r}" if grant.prefix else buckets


# --- state directories ------------------------------------------------------------------------------------


def scope_id(account_id: str, scope: Scope) -> str:
    """Return a short file name for the state of this scope: the same for every key that opens the same.

    A single bucket counts by its name, which survives a change of key; several count by their IDs, those
    of buckets that are gone included, so that what waits for the others is found again.
    """
    facts: list[object] = [account_id, scope.directory]
    # A limit that the root lies inside of changes nothing that the mount shows.
    facts.append("" if place(scope.directory, scope.limit) is Place.INSIDE else scope.limit)
    if scope.single is not None:
        facts.append(scope.single.name)
        words = f"{scope.single.name}/{scope.directory}"
    elif scope.buckets is None:
        facts.append(None)
        words = "all-buckets"
    else:
        ids = sorted([*(bucket.bucket_id or bucket.name for bucket in scope.buckets), *scope.gone])
        facts.append(ids)
        words = f"{len(ids)}-buckets"
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    readable = re.sub(r"[^A-Za-z0-9]+", "-", words).strip("-")[:40].rstrip("-")
    return f"{readable or 'bucket'}-{digest}"
