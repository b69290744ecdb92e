"""Application keys: what each may do, and the account's master key.

Sources: Backblaze docs, "Application Keys", "Application Key Capabilities", b2_create_key. Secrets are kept
as SHA-256 only; the master key's lies in master-key.json, for whoever runs the server.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b2mount.emulator.clock import now_ms
from b2mount.emulator.database import Database
from b2mount.emulator.errors import bad_auth_token, unauthorized

CLUSTER = "000"

# In B2's own order.
CAPABILITIES = (  # noqa: SIM905
    "listKeys writeKeys deleteKeys listBuckets listAllBucketNames readBuckets writeBuckets deleteBuckets"
    " readBucketEncryption writeBucketEncryption readBucketRetentions writeBucketRetentions"
    " readBucketReplications writeBucketReplications readBucketNotifications writeBucketNotifications"
    " readBucketLogging writeBucketLogging readBucketLifecycleRules writeBucketLifecycleRules"
    " readFileRetentions writeFileRetentions readFileLegalHolds writeFileLegalHolds bypassGovernance"
    " listFiles readFiles shareFiles writeFiles deleteFiles"
).split()

# Never on a key that is limited to buckets.
ACCOUNT_ONLY = frozenset({"listKeys", "writeKeys", "deleteKeys", "writeBuckets", "deleteBuckets"})


@dataclass(frozen=True, slots=True)
class Key:
    """One application key and all that it opens."""

    key_id: str
    secret_sha256: str
    name: str
    capabilities: frozenset[str]
    buckets: tuple[str, ...] | None  # bucket IDs; None: every bucket
    prefix: str | None  # None: no limit by name
    expires_ms: int | None
    master: bool

    def may(self, capability: str) -> bool:
        """Tell whether the key has a capability."""
        return capability in self.capabilities

    def expired(self) -> bool:
        """Tell whether the key's term is over."""
        return self.expires_ms is not None and self.expires_ms <= now_ms()

    def opens_bucket(self, bucket_id: str) -> bool:
        """Tell whether the key reaches a bucket."""
        return self.buckets is None or bucket_id in self.buckets

    def covers(self, name: str) -> bool:
        """Tell whether a name lies under the key's prefix, a plain string prefix."""
        return self.prefix is None or name.startswith(self.prefix)

    def require(self, capability: str, *, bucket_id: str | None = None, name: str | None = None) -> None:
        """Refuse, in the one way B2 refuses, what the key does not allow."""
        if not self.may(capability):
            raise unauthorized()
        if bucket_id is not None and not self.opens_bucket(bucket_id):
            raise unauthorized()
        if name is not None and not self.covers(name):
            raise unauthorized()

    def listed_capabilities(self) -> list[str]:
        """Give the capabilities in B2's order."""
        return [name for name in CAPABILITIES if name in self.capabilities]


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made, with the secret that is shown once."""

    key: Key
    secret: str


class KeyStore:
    """The account's keys; all of them are in memory, changes go to the database at once."""

    def __init__(self, directory: Path, database: Database) -> None:
        self._database = database
        self.master_file = directory / "master-key.json"
        self._keys: dict[str, Key] = {}
        known = database.meta("account_id")
        self.account_id = known or secrets.token_hex(6)
        if known is None:
            self._make_account()
        for row in database.execute("SELECT * FROM keys"):
            key = _key_from_row(row)
            self._keys[key.key_id] = key

    def _make_account(self) -> None:
        secret = _new_secret()
        master_id = f"{CLUSTER}{self.account_id}{0:010d}"
        master = Key(master_id, _digest(secret), "master", frozenset(CAPABILITIES), None, None, None, True)
        text = json.dumps(
            {"accountId": self.account_id, "applicationKeyId": master_id, "applicationKey": secret}, indent=2
        )
        descriptor = os.open(self.master_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, 0o600)
            file.write(text + "\n")
        with self._database.transaction():
            self._store(master)
            self._database.remember("account_id", self.account_id)

    def _store(self, key: Key) -> None:
        buckets = None if key.buckets is None else json.dumps(key.buckets)
        self._database.execute(
            "INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                key.key_id,
                key.secret_sha256,
                key.name,
                json.dumps(sorted(key.capabilities)),
                buckets,
                key.prefix,
                key.expires_ms,
                int(key.master),
            ),
        )
        self._keys[key.key_id] = key

    def create(
        self,
        name: str,
        capabilities: frozenset[str],
        *,
        buckets: tuple[str, ...] | None,
        prefix: str | None,
        seconds: int | None,
    ) -> NewKey:
        """Make a key. The caller has checked every field."""
        number = int(self._database.meta("last_key") or "0") + 1
        secret = _new_secret()
        expires_ms = None if seconds is None else now_ms() + seconds * 1000
        key_id = f"{CLUSTER}{self.account_id}{number:010d}"
        key = Key(key_id, _digest(secret), name, capabilities, buckets, prefix, expires_ms, False)
        with self._database.transaction():
            self._database.remember("last_key", str(number))
            self._store(key)
        return NewKey(key, secret)

    def get(self, key_id: str) -> Key | None:
        """Find a key that was not deleted."""
        return self._keys.get(key_id)

    def delete(self, key_id: str) -> Key | None:
        """Delete a key; None when there is none, or when it is the master key."""
        key = self._keys.get(key_id)
        if key is None or key.master:
            return None
        self._database.execute("DELETE FROM keys WHERE key_id = ?", (key_id,))
        return self._keys.pop(key_id)

    def expire(self, key_id: str) -> bool:
        """End a key's term now; False when there is no such key."""
        key = self._keys.get(key_id)
        if key is None:
            return False
        self._store(
            Key(
                key.key_id,
                key.secret_sha256,
                key.name,
                key.capabilities,
                key.buckets,
                key.prefix,
                now_ms(),
                key.master,
            )
        )
        return True

    def living(self) -> list[Key]:
        """Give the keys b2_list_keys shows: neither expired nor the master key, by ID."""
        keys = (key for key in self._keys.values() if not key.master and not key.expired())
        return sorted(keys, key=lambda key: key.key_id)

    def check_basic(self, authorization: str | None) -> Key:
        """Check what `Authorization: Basic` says; the account ID may stand in for the master key's ID."""
        kind, _, encoded = (authorization or "").partition(" ")
        if kind.lower() != "basic":
            raise bad_auth_token()
        try:
            key_id, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        except ValueError:
            raise bad_auth_token() from None
        if key_id == self.account_id:
            key_id = f"{CLUSTER}{self.account_id}{0:010d}"
        key = self._keys.get(key_id)
        if not colon or key is None or key.expired():
            raise bad_auth_token()
        if not secrets.compare_digest(_digest(secret), key.secret_sha256):
            raise unauthorized()
        return key


def _key_from_row(row: tuple[Any, ...]) -> Key:
    buckets = None if row[4] is None else tuple(json.loads(row[4]))
    return Key(row[0], row[1], row[2], frozenset(json.loads(row[3])), buckets, row[5], row[6], bool(row[7]))


def _new_secret() -> str:
    """Make a secret of B2's shape: K, the cluster, 27 base64 characters."""
    return "K" + CLUSTER + base64.b64encode(secrets.token_bytes(21)).decode()[:27]


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
