"""Buckets: their records, and how they look to a key. Source: Backblaze docs, b2_list_buckets,
b2_create_bucket.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from b2mount.emulator.database import Database
from b2mount.emulator.errors import Refusal, bad_bucket_id
from b2mount.emulator.keys import Key

# What a bucket carries besides its name and type, in the form the API gives it.
DEFAULTS: dict[str, Any] = {
    "bucketInfo": {},
    "corsRules": [],
    "lifecycleRules": [],
    "defaultServerSideEncryption": {"algorithm": None, "mode": "none"},
    "defaultRetention": {"mode": None, "period": None},
    "replicationConfiguration": {"asReplicationSource": None, "asReplicationDestination": None},
    "eventNotificationRules": [],
}
MAX_BUCKETS = 100  # per account, until support raises it


@dataclass(slots=True)
class Bucket:
    """One bucket; `num` is its number in the database, `bucket_id` what B2 calls it."""

    num: int
    bucket_id: str
    name: str
    type: str
    revision: int
    lock_enabled: bool
    settings: dict[str, Any] = field(default_factory=lambda: dict(DEFAULTS))

    @property
    def public(self) -> bool:
        """Tell whether anybody may download."""
        return self.type == "allPublic"

    def row(self, account_id: str, key: Key) -> dict[str, Any]:
        """Give the bucket as the API shows it to *key*."""
        lock = {"isFileLockEnabled": self.lock_enabled, "defaultRetention": self.settings["defaultRetention"]}
        return {
            "accountId": account_id,
            "bucketId": self.bucket_id,
            "bucketName": self.name,
            "bucketType": self.type,
            "bucketInfo": self.settings["bucketInfo"],
            "corsRules": self.settings["corsRules"],
            "lifecycleRules": self.settings["lifecycleRules"],
            "revision": self.revision,
            "options": ["s3"],
            "defaultServerSideEncryption": _shown(
                key.may("readBucketEncryption"), self.settings["defaultServerSideEncryption"]
            ),
            "fileLockConfiguration": _shown(key.may("readBucketRetentions"), lock),
            "replicationConfiguration": _shown(
                key.may("readBucketReplications"), self.settings["replicationConfiguration"]
            ),
        }


def _shown(readable: bool, value: Any) -> dict[str, Any]:
    return {"isClientAuthorizedToRead": readable, "value": value if readable else None}


class BucketStore:
    """The account's buckets; all in memory, changes go to the database at once. Names are unique in any
    case.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_id: dict[str, Bucket] = {}
        self._by_num: dict[int, Bucket] = {}
        self._by_name: dict[str, Bucket] = {}
        for num, bucket_id, name, _, kind, revision, locked, settings in database.execute(
            "SELECT * FROM buckets"
        ):
            kept = {**DEFAULTS, **json.loads(settings)}
            self._remember(Bucket(num, bucket_id, name, kind, revision, bool(locked), kept))

    def _remember(self, bucket: Bucket) -> None:
        self._by_id[bucket.bucket_id] = bucket
        self._by_num[bucket.num] = bucket
        self._by_name[bucket.name.lower()] = bucket

    def find(self, bucket_id: str) -> Bucket | None:
        """Find a bucket by its ID."""
        return self._by_id.get(bucket_id)

    def get(self, bucket_id: str) -> Bucket:
        """Find a bucket by its ID, or refuse."""
        bucket = self._by_id.get(bucket_id)
        if bucket is None:
            raise bad_bucket_id(bucket_id)
        return bucket

    def numbered(self, num: int) -> Bucket:
        """Give the bucket with a number that the database holds."""
        return self._by_num[num]

    def named(self, name: str) -> Bucket | None:
        """Find a bucket by its name; case counts, though two names may not differ by case alone."""
        bucket = self._by_name.get(name.lower())
        return bucket if bucket is not None and bucket.name == name else None

    def all(self) -> list[Bucket]:
        """Give all buckets by name."""
        return [self._by_name[name] for name in sorted(self._by_name)]

    def create(self, name: str, kind: str, *, lock_enabled: bool, settings: dict[str, Any]) -> Bucket:
        """Make a bucket; refuse a name that is taken, and one bucket too many."""
        if name.lower() in self._by_name:
            raise Refusal(400, "duplicate_bucket_name", "Bucket name is already in use.")
        if len(self._by_id) >= MAX_BUCKETS:
            raise Refusal(400, "too_many_buckets", f"The account has {MAX_BUCKETS} buckets already")
        bucket = Bucket(0, secrets.token_hex(12), name, kind, 2, lock_enabled, {**DEFAULTS, **settings})
        cursor = self._database.execute(
            "INSERT INTO buckets (bucket_id, name, name_key, type, revision, lock_enabled, settings)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                bucket.bucket_id,
                name,
                name.lower(),
                kind,
                bucket.revision,
                int(lock_enabled),
                json.dumps(bucket.settings),
            ),
        )
        bucket.num = int(cursor.lastrowid or 0)
        self._remember(bucket)
        return bucket

    def changed(self, bucket: Bucket) -> None:
        """Count a new revision of *bucket* and write it down."""
        bucket.revision += 1
        self._database.execute(
            "UPDATE buckets SET type = ?, revision = ?, lock_enabled = ?, settings = ? WHERE num = ?",
            (
                bucket.type,
                bucket.revision,
                int(bucket.lock_enabled),
                json.dumps(bucket.settings),
                bucket.num,
            ),
        )

    def delete(self, bucket: Bucket) -> None:
        """Remove an empty bucket."""
        self._database.execute("DELETE FROM buckets WHERE num = ?", (bucket.num,))
        del self._by_id[bucket.bucket_id], self._by_num[bucket.num], self._by_name[bucket.name.lower()]
