"""File systems without a kernel: everything above the store, on a bucket in memory."""

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import trio

from b2mount.core.errors import B2MountError
from b2mount.core.options import MountOptions
from b2mount.core.scope import Source
from b2mount.fs.filesystem import Caller, FileSystem
from b2mount.journal.journal import Journal
from b2mount.mount_scope import find_scope
from b2mount.mount_world import Kernel, Mounted, build
from b2mount.store.memory import MemoryStore

ROOT = 1
ME = Caller(os.getuid(), os.getgid())


class Little:
    """A mounted bucket, with the few operations that tests say often."""

    def __init__(self, mounted: Mounted, store: MemoryStore) -> None:
        self.mounted = mounted
        self.store = store
        self.fs: FileSystem = mounted.fs
        self.journal = mounted.journal

    async def ino(self, name: str) -> int:
        return (await self.fs.lookup(ROOT, name.encode())).ino

    async def create(self, name: str, data: bytes) -> int:
        """Make a file and close it; return its inode number."""
        handle, stat = await self.fs.create(ROOT, name.encode(), 0o644, os.O_RDWR | os.O_CREAT, ME)
        self.fs.files.write(handle, 0, data)
        await self.fs.files.release(handle)
        return stat.ino

    async def rename(self, old: str, new: str) -> None:
        await self.fs.rename(ROOT, old.encode(), ROOT, new.encode(), 0)

    async def read(self, name: str) -> bytes:
        handle = self.fs.open(await self.ino(name), os.O_RDONLY)
        try:
            now = self.fs.files.read_now(handle, 0, 1 << 20)
            return bytes(bytes(now) if now is not None else await self.fs.files.read(handle, 0, 1 << 20))
        finally:
            await self.fs.files.release(handle)

    async def flush(self) -> list[B2MountError]:
        with trio.fail_after(120):
            await self.fs.commit_all()
            return [failure.error for failure in await self.journal.uploader.wait_all()]


@contextlib.asynccontextmanager
async def little(
    directory: Path, store: MemoryStore, *, settle: float = 60.0, hard_delete: bool = False
) -> AsyncIterator[Little]:
    """Mount the store's one bucket, without a kernel, until the block ends."""
    (bucket,) = store.account.buckets.values()
    options = MountOptions(
        directory / "nowhere", source=bucket.row.name, settle=settle, hard_delete=hard_delete, cache_size=0
    )
    scope = await find_scope(store, store.grant, Source(bucket.row.name, ""))
    journal = Journal(directory / "state", hard_delete=hard_delete)
    try:
        async with trio.open_nursery() as nursery:
            mounted = build(store, scope, options, journal, None, nursery, Kernel(), directory / "control")
            nursery.start_soon(journal.uploader.run)
            yield Little(mounted, store)
            nursery.cancel_scope.cancel()
    finally:
        journal.close()
