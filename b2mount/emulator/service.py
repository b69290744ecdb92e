"""The account that is served: all stores of one data directory, and the call a handler is given."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass, field
from pathlib import Path

from b2mount.emulator.buckets import Bucket, BucketStore
from b2mount.emulator.content import ContentStore
from b2mount.emulator.database import Database
from b2mount.emulator.faults import Fault, Faults, Network
from b2mount.emulator.keys import Key, KeyStore
from b2mount.emulator.ledger import Entry, Ledger
from b2mount.emulator.listing import Lister
from b2mount.emulator.names import check_file_name
from b2mount.emulator.params import Params
from b2mount.emulator.settings import load_settings
from b2mount.emulator.tokens import ACCOUNT, TokenStore
from b2mount.emulator.versions import Version, VersionStore, need_file_id
from b2mount.emulator.wire import Request


class DataInUse(Exception):
    """Another emulator runs on the same data directory."""


class Service:
    """Everything one data directory holds, plus what is set while the server runs."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise DataInUse(f"another emulator is running on {directory}") from None
        self.database = Database(directory / "metadata.sqlite")
        self.settings = load_settings(self.database)
        self.keys = KeyStore(directory, self.database)
        self.tokens = TokenStore(self.database, self.keys)
        self.buckets = BucketStore(self.database)
        self.content = ContentStore(directory, self.database)
        self.versions = VersionStore(self.database, self.keys.account_id, self.buckets, self.content)
        self.lister = Lister(self.database)
        self.ledger = Ledger()
        self.faults = Faults()
        self.network = Network()
        self.test_mode_calls = 0

    @property
    def account_id(self) -> str:
        """The account's ID, 12 hex digits."""
        return self.keys.account_id

    def close(self) -> None:
        """Close the database and let others use the directory."""
        self.database.close()
        os.close(self._lock)

    def check_name(self, name: str) -> None:
        """Refuse a name that may not be given to a new file."""
        check_file_name(
            name,
            max_segment_bytes=self.settings.max_segment_bytes,
            allow_backslash=self.settings.allow_backslash,
        )


@dataclass(slots=True)
class Call:
    """One call of the API: its request, parameters and log entry."""

    service: Service
    name: str
    version: int
    request: Request
    entry: Entry
    params: Params
    place: tuple[str, ...] = ()  # what follows the call's name in an upload URL
    fault: Fault | None = None
    rows: int = 0
    _key: Key | None = field(default=None)

    def key(self) -> Key:
        """Give the key behind the request's account token, or refuse."""
        if self._key is None:
            _, key = self.service.tokens.check(self.request.headers.get("authorization"), ACCOUNT)
            self.use_key(key)
            return key
        return self._key

    def use_key(self, key: Key) -> None:
        """Note whose key the request uses."""
        self._key = key
        self.entry.key_id = key.key_id

    def bucket(self, capability: str, field_name: str = "bucketId") -> Bucket:
        """Give the bucket the parameters name, once the key is found to have *capability* there."""
        bucket_id = self.params.need_text(field_name)
        self.key().require(capability, bucket_id=bucket_id)
        bucket = self.service.buckets.get(bucket_id)
        self.entry.bucket = bucket.name
        return bucket

    def note(self, version: Version) -> Bucket:
        """Write a version's name into the log entry; give its bucket."""
        bucket = self.service.buckets.numbered(version.bucket)
        self.entry.bucket, self.entry.name = bucket.name, version.name
        return bucket

    def find(self, file_id: str, capability: str) -> Version | None:
        """Find the version with a file ID, once the key is found to have *capability* on it."""
        parsed = need_file_id(file_id)
        key = self.key()
        key.require(capability, bucket_id=parsed.bucket_id)
        version = self.service.versions.find(parsed)
        if version is not None:
            self.note(version)
            key.require(capability, name=version.name)
        return version
