"""What one application key opens, read from any shape of b2_authorize_account's reply.

Knows the facts only; what follows from them for a file operation is core/access.py's matter.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


class Capability(enum.Flag):
    """The rights that B2 knows, in B2's order; `B2_NAMES` has B2's spelling of each.

    Source: Backblaze docs, "Application Key Capabilities". An open set: unknown ones are kept by name.
    """

    LIST_KEYS = enum.auto()
    WRITE_KEYS = enum.auto()
    DELETE_KEYS = enum.auto()
    LIST_BUCKETS = enum.auto()
    LIST_ALL_BUCKET_NAMES = enum.auto()
    READ_BUCKETS = enum.auto()
    WRITE_BUCKETS = enum.auto()
    DELETE_BUCKETS = enum.auto()
    READ_BUCKET_ENCRYPTION = enum.auto()
    WRITE_BUCKET_ENCRYPTION = enum.auto()
    READ_BUCKET_RETENTIONS = enum.auto()
    WRITE_BUCKET_RETENTIONS = enum.auto()
    READ_FILE_RETENTIONS = enum.auto()
    WRITE_FILE_RETENTIONS = enum.auto()
    READ_FILE_LEGAL_HOLDS = enum.auto()
    WRITE_FILE_LEGAL_HOLDS = enum.auto()
    READ_BUCKET_REPLICATIONS = enum.auto()
    WRITE_BUCKET_REPLICATIONS = enum.auto()
    BYPASS_GOVERNANCE = enum.auto()
    LIST_FILES = enum.auto()
    READ_FILES = enum.auto()
    SHARE_FILES = enum.auto()
    WRITE_FILES = enum.auto()
    DELETE_FILES = enum.auto()
    READ_BUCKET_NOTIFICATIONS = enum.auto()
    WRITE_BUCKET_NOTIFICATIONS = enum.auto()
    READ_BUCKET_LOGGING = enum.auto()
    WRITE_BUCKET_LOGGING = enum.auto()
    READ_BUCKET_LIFECYCLE_RULES = enum.auto()
    WRITE_BUCKET_LIFECYCLE_RULES = enum.auto()


def _camel(capability: Capability) -> str:
    first, *rest = (capability.name or "").lower().split("_")
    return first + "".join(word.capitalize() for word in rest)


B2_NAMES: Mapping[Capability, str] = {capability: _camel(capability) for capability in Capability}
BY_B2_NAME: Mapping[str, Capability] = {name: capability for capability, name in B2_NAMES.items()}


@dataclass(frozen=True, slots=True)
class AllowedBucket:
    """A bucket the key is limited to; the name is None when B2 does not tell it (the bucket is gone)."""

    bucket_id: str
    name: str | None


@dataclass(frozen=True, slots=True)
class Grant:
    """All that one key opens. Source: Backblaze docs, b2_authorize_account."""

    account_id: str
    capabilities: Capability
    buckets: tuple[AllowedBucket, ...] | None  # None: every bucket of the account
    prefix: str  # "": no name restriction
    expires_ms: int | None  # milliseconds since the epoch; None: never
    unknown_capabilities: frozenset[str] = frozenset()
    absolute_minimum_part_size: int = 5_000_000  # bytes
    recommended_part_size: int = 100_000_000  # bytes
    s3_url: str = ""

    def has(self, *needed: Capability) -> bool:
        """Say whether the key holds each of the capabilities."""
        return all(capability in self.capabilities for capability in needed)

    def covers_bucket(self, bucket_id: str) -> bool:
        """Say whether the key is good for this bucket."""
        return self.buckets is None or any(bucket.bucket_id == bucket_id for bucket in self.buckets)

    def covers_name(self, name: str) -> bool:
        """Say whether a file name lies inside the key's prefix (a plain string prefix)."""
        return name.startswith(self.prefix)

    def has_expired(self, now_ms: int) -> bool:
        """Say whether the key's own time is over at *now_ms*."""
        return self.expires_ms is not None and now_ms >= self.expires_ms


def parse_capabilities(names: Sequence[str]) -> tuple[Capability, frozenset[str]]:
    """Split B2's list into the capabilities known here and the names that are not."""
    known = Capability(0)
    for name in names:
        known |= BY_B2_NAME.get(name, Capability(0))
    return known, frozenset(name for name in names if name not in BY_B2_NAME)


def parse_authorize_reply(reply: Mapping[str, Any]) -> Grant:
    """Read the grant from a v1, v2, v3 or v4 reply of b2_authorize_account.

    Raises ValueError where the reply has the shape of none of them.
    """
    storage = _storage_part(reply)
    allowed: Mapping[str, Any] = storage  # v3 has the fields of "allowed" beside the others
    if "allowed" in storage:
        allowed = _field(storage, "allowed", dict)
    capabilities, unknown = parse_capabilities(_texts(allowed, "capabilities"))
    return Grant(
        account_id=_field(reply, "accountId", str),
        capabilities=capabilities,
        unknown_capabilities=unknown,
        buckets=_buckets(allowed),
        prefix=_optional(allowed, "namePrefix", str) or "",
        expires_ms=_optional(reply, "applicationKeyExpirationTimestamp", int),
        absolute_minimum_part_size=_field(storage, "absoluteMinimumPartSize", int),
        recommended_part_size=_field(storage, "recommendedPartSize", int),
        s3_url=_optional(storage, "s3ApiUrl", str) or "",
    )


def _storage_part(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part about storage: nested since v3, the reply itself before."""
    if "apiInfo" not in reply:
        return reply
    storage: Mapping[str, Any] | None = _optional(_field(reply, "apiInfo", dict), "storageApi", dict)
    if storage is None:
        raise ValueError("the key is not good for B2's storage API")
    return storage


def _buckets(allowed: Mapping[str, Any]) -> tuple[AllowedBucket, ...] | None:
    if "buckets" in allowed:  # v4
        rows = _optional(allowed, "buckets", list)
        return None if rows is None else tuple(_bucket(row, "id", "name") for row in rows)
    if allowed.get("bucketId") is None:
        return None
    return (_bucket(allowed, "bucketId", "bucketName"),)


def _bucket(row: object, id_field: str, name_field: str) -> AllowedBucket:
    if not isinstance(row, Mapping):
        raise _odd("buckets")
    return AllowedBucket(_field(row, id_field, str), _optional(row, name_field, str))


def _field(part: Mapping[str, Any], name: str, kind: type[T]) -> T:
    value = part.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _odd(name)
    return value


def _optional(part: Mapping[str, Any], name: str, kind: type[T]) -> T | None:
    return None if part.get(name) is None else _field(part, name, kind)


def _texts(part: Mapping[str, Any], name: str) -> list[str]:
    values: list[object] = _field(part, name, list)
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) != len(values):
        raise _odd(name)
    return texts


def _odd(name: str) -> ValueError:
    return ValueError(f"not a reply of b2_authorize_account: {name} is missing or odd")
