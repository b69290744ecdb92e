"""Three places in which the contract is checked: in memory, over HTTP on the emulator, and on real B2."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from b2mount.core.grant import B2_NAMES, AllowedBucket, Capability
from b2mount.store.b2 import B2Store
from b2mount.store.memory import MemoryStore
from b2mount.store.memory_account import MemoryB2
from b2mount.store.retry import RetryingStore
from b2mount.store.store import Action, BucketRow, FileVersion, Store
from tests.support.emulator import Emulator


@dataclass(frozen=True, slots=True)
class Key:
    """Credentials for a test."""

    key_id: str
    key: str


class Bytes:
    """Bytes as a body to send."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        return len(self._data)

    def read_at(self, offset: int, size: int) -> memoryview:
        return memoryview(self._data)[offset : offset + size]


class World(Protocol):
    """A bucket of one's own, and stores that reach it."""

    store: Store  # with a key that may do everything
    bucket: BucketRow
    prefix: str  # each test keeps its names under it
    minimum_part: int

    async def limited(
        self, *rights: Capability, prefix: str | None = None, other_bucket: bool = False
    ) -> Store:
        """Return a store whose key has these rights alone, for the bucket or for another one."""

    def seed(self, names: Iterable[str]) -> bool:
        """Put empty files there at once, whatever their names; False where that is not possible."""

    async def aclose(self) -> None: ...


class MemoryWorld:
    minimum_part = 5_000_000
    prefix = ""

    def __init__(self, *, lock: bool = False, retrying: bool = False) -> None:
        self.account = MemoryB2()
        self._retrying = retrying
        self.bucket = self.account.create_bucket("bucket-one", lock_enabled=lock)
        self.other = self.account.create_bucket("bucket-two")
        self.store: Store = self._wrapped(MemoryStore(self.account))

    def _wrapped(self, store: Store) -> Store:
        return RetryingStore(store) if self._retrying else store

    async def limited(
        self, *rights: Capability, prefix: str | None = None, other_bucket: bool = False
    ) -> Store:
        bucket = self.other if other_bucket else self.bucket
        grant = replace(
            self.store.grant,
            capabilities=_union(rights),
            buckets=(AllowedBucket(bucket.bucket_id, bucket.name),),
            prefix=prefix or "",
        )
        return self._wrapped(MemoryStore(self.account, grant))

    def seed(self, names: Iterable[str]) -> bool:
        for name in names:
            self.account.add(self.bucket.bucket_id, name, b"")
        return True

    async def aclose(self) -> None:
        await self.store.aclose()


class EmulatorWorld:
    minimum_part = 5_000_000
    prefix = ""

    def __init__(self, emulator: Emulator, bucket: str, other: str, *, lock: bool = False) -> None:
        self.emulator = emulator
        self.bucket = BucketRow(emulator.bucket_id(bucket), bucket, lock)
        self.other = other
        self._open: list[B2Store] = []
        self.store: Store = self._store(emulator.master_key_id, emulator.master_key)

    def _store(self, key_id: str, key: str) -> B2Store:
        store = B2Store(Key(key_id, key), endpoint=self.emulator.url)
        self._open.append(store)
        return store

    async def limited(
        self, *rights: Capability, prefix: str | None = None, other_bucket: bool = False
    ) -> Store:
        names = [B2_NAMES[right] for right in rights]
        bucket = self.other if other_bucket else self.bucket.name
        store = self._store(*self.emulator.create_key(names, [bucket], prefix))
        await store.authorize()
        return store

    def seed(self, names: Iterable[str]) -> bool:
        self.emulator.seed(self.bucket.name, [{"name": name, "size": 0} for name in names])
        return True

    async def aclose(self) -> None:
        for store in self._open:
            await store.aclose()


class RealWorld:
    """Real B2; the key is made by hand, so that there are no others to try."""

    minimum_part = 5_000_000

    def __init__(self, environment: Mapping[str, str], prefix: str) -> None:
        self.prefix = prefix
        self._store = B2Store(Key(environment["B2_TEST_KEY_ID"], environment["B2_TEST_KEY"]))
        self.store: Store = self._store
        self._bucket_name = environment["B2_TEST_BUCKET"]
        self.bucket = BucketRow("", self._bucket_name)

    async def start(self) -> None:
        await self.store.authorize()
        (self.bucket,) = await self.store.list_buckets(name=self._bucket_name)

    async def limited(
        self, *rights: Capability, prefix: str | None = None, other_bucket: bool = False
    ) -> Store:
        import pytest

        pytest.skip("no keys are made on real B2")

    def seed(self, names: Iterable[str]) -> bool:
        return False

    async def aclose(self) -> None:
        for row in await every_version(self.store, self.bucket.bucket_id, self.prefix):
            if row.action is Action.START:
                await self.store.cancel_large(row.file_id)
            else:
                await self.store.delete_version(row.name, row.file_id)
        await self.store.aclose()


def real_b2_is_given() -> bool:
    """Say whether the environment names a bucket on real B2 to test with."""
    return all(os.environ.get(name) for name in ("B2_TEST_KEY_ID", "B2_TEST_KEY", "B2_TEST_BUCKET"))


def _union(rights: Iterable[Capability]) -> Capability:
    found = Capability(0)
    for right in rights:
        found |= right
    return found


# --- words that the tests share -----------------------------------------------------------------------------


async def put(
    world: World, name: str, data: bytes = b"", info: Mapping[str, str] | None = None
) -> FileVersion:
    """Upload a file."""
    return await world.store.upload(
        world.bucket.bucket_id,
        world.prefix + name,
        Bytes(data),
        content_type="text/plain",
        info=info or {},
    )


async def every_name(
    world: World, prefix: str = "", *, delimiter: str | None = None, limit: int = 1000
) -> list[FileVersion]:
    """List all pages of current files."""
    found: list[FileVersion] = []
    start: str | None = None
    while True:
        page = await world.store.list_names(
            world.bucket.bucket_id, world.prefix + prefix, start=start, delimiter=delimiter, limit=limit
        )
        assert len(page.rows) <= limit
        found += page.rows
        if page.next_name is None:
            return found
        start = page.next_name


async def every_version(
    store: Store, bucket_id: str, prefix: str, *, delimiter: str | None = None, limit: int = 1000
) -> list[FileVersion]:
    """List all pages of versions."""
    found: list[FileVersion] = []
    start: str | None = None
    start_id: str | None = None
    while True:
        page = await store.list_versions(
            bucket_id, prefix, start=start, start_id=start_id, delimiter=delimiter, limit=limit
        )
        found += page.rows
        if page.next_name is None:
            return found
        start, start_id = page.next_name, page.next_id


def names(rows: Iterable[FileVersion], world: World) -> list[str]:
    """Return the names without the world's own prefix."""
    return [row.name.removeprefix(world.prefix) for row in rows]
