"""File systems without a kernel: everything above the store, on a bucket in memory."""

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import trio

from b2mount.core.errors import B2MountError
from b2mount.core.options import MountOptions
from b2mount.core.scope import Source
from b2mount.fs.filesystem import DOTS, Caller, FileSystem, PlainFiles
from b2mount.journal.journal import Journal
from b2mount.mount_scope import find_scope
from b2mount.mount_world import Kernel, Mounted, build
from b2mount.store.memory import MemoryStore

ROOT = 1
ME = Caller(os.getuid(), os.getgid())


class Told(NamedTuple):
    """What the kernel is told of one directory entry."""

    name: bytes
    ino: int
    size: int
    next_offset: int


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

    def told(self, handle: int, offset: int, most: int = 1 << 30) -> tuple[list[Told], bool]:
        """Take up to *most* entries that are known, as the kernel's door does; say if there was one more."""
        told: list[Told] = []
        for entry in self.fs.entries(handle, offset):
            if isinstance(entry, PlainFiles):
                for name, ino, size, _, _, following in entry.files:
                    if len(told) == most:
                        return told, True
                    told.append(Told(name, ino, size, following + DOTS))
            elif len(told) == most:
                self.fs.let_go(entry.node)
                return told, True
            else:
                entry.node.lookups += entry.next_offset > DOTS
                told.append(Told(entry.name, entry.stat.ino, entry.stat.size, entry.next_offset))
        return told, False

    async def told_all(self, ino: int) -> list[Told]:
        """Read a directory from the beginning to the end."""
        handle, told = self.fs.opendir(ino), list[Told]()
        while True:
            told += self.told(handle, told[-1].next_offset if told else 0)[0]
            if not await self.fs.more_entries(handle):
                break
        self.fs.releasedir(handle)
        return told

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
