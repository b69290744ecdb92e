"""Put one mount together: the key's scope, the journal of earlier lives, the caches and the file system."""

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from b2mount.cache.blocks import BLOCK, Blocks
from b2mount.cache.disk import DiskCache
from b2mount.cache.listing import Listing
from b2mount.cache.listings import Listings
from b2mount.core.access import LookUpBy, look_up_by
from b2mount.core.budget import Limits
from b2mount.core.errors import B2MountError, LocalStorageError
from b2mount.core.grant import Capability, Grant
from b2mount.core.options import KEEP_BOTH, MountOptions
from b2mount.core.places import Places, choose_places
from b2mount.core.scope import Scope, scope_id
from b2mount.fs.copies import keep_beside
from b2mount.fs.filesystem import FileSystem
from b2mount.fs.nodes import FileNode, Nodes
from b2mount.fs.overlay import Overlay
from b2mount.fs.tree import Tree
from b2mount.fs.world import World
from b2mount.journal.conflicts import Conflicts
from b2mount.journal.journal import Journal
from b2mount.journal.label import Label
from b2mount.mount_journal import server_ms, start_journal
from b2mount.mount_past import passing_directory
from b2mount.mount_private import make_private
from b2mount.store.budget import Budget
from b2mount.store.counting import Counters
from b2mount.store.store import BucketRow, FileVersion, Store
from b2mount.store.views import Views

log = logging.getLogger("b2mount.mount")

DEFAULT_UMASK = 0o022
BUCKET_RIGHTS = Capability.WRITE_BUCKETS | Capability.DELETE_BUCKETS


@dataclass(slots=True)
class Kernel:
    """What the kernel is told; the mount fills it in once it is there."""

    invalidate_inode: Callable[[int], None] = lambda _ino: None
    invalidate_entry: Callable[[int, str], None] = lambda _ino, _name: None
    invalidate_entries_now: Callable[[list[tuple[int, str]]], None] = lambda _entries: None

    def leave(self) -> None:
        """Tell it nothing from now on."""
        self.invalidate_inode = lambda _ino: None
        self.invalidate_entry = lambda _ino, _name: None
        self.invalidate_entries_now = lambda _entries: None


@dataclass(slots=True)
class Mounted:
    """One mount's parts."""

    options: MountOptions
    world: World
    fs: FileSystem
    journal: Journal
    scope: Scope
    state_dir: Path
    conflicts: Conflicts


def open_disk_cache(options: MountOptions, account_id: str, scope: Scope) -> DiskCache | None:
    """Open the block cache of a scope; None, and a line in the log, where it cannot be used."""
    if options.cache_size <= 0:
        return None
    past = "" if options.at is None else "-past"  # so that no mount of the present finds it locked
    directory = _places(options).cache / "blocks" / (scope_id(account_id, scope) + past)
    try:
        make_private(directory, "cache directory")
        return DiskCache(directory, options.cache_size, BLOCK)
    except BlockingIOError:
        log.warning("%s is used by another mount; this one keeps its blocks in memory alone", directory)
    except LocalStorageError as exc:
        log.warning("%s; blocks are kept in memory alone", str(exc).splitlines()[0])
    except (OSError, sqlite3.Error) as exc:
        log.warning("%s cannot be used (%s); blocks are kept in memory alone", directory, exc)
    return None


def _places(options: MountOptions) -> Places:
    return choose_places(
        state_dir=options.state_dir, cache_dir=options.cache_dir, environ=os.environ, home=Path.home()
    )


def make_budget(options: MountOptions, counters: Counters) -> Budget:
    """Return the day's budget of a mount."""
    limits = Limits(options.max_class_b_per_day, options.max_class_c_per_day, options.max_download_per_day)
    return Budget(limits, counters)


def open_state(options: MountOptions, account_id: str, scope: Scope) -> AbstractContextManager[Path]:
    """Return where the journal of a mount lies, which is in use as long as the context.

    Raises LocalStorageError where it cannot be made, or would not be ours alone.
    """
    state = _places(options).state
    if options.at is not None:
        return passing_directory(state)
    directory = state / scope_id(account_id, scope)
    make_private(directory, "state directory")
    return contextlib.nullcontext(directory)


def label_of(options: MountOptions, account_id: str, scope: Scope) -> Label:
    """Return what is written beside the journal, for people and for `recover`."""
    single = scope.single
    buckets = [single] if single is not None else (scope.buckets or ())
    return Label(
        account_id=account_id,
        source=f"{single.name}/{scope.directory}".rstrip("/") if single is not None else "",
        buckets={bucket.bucket_id: bucket.name for bucket in buckets if bucket.bucket_id is not None},
        endpoint=options.endpoint,
        mountpoint=str(options.mountpoint.absolute()),
        hard_delete=options.hard_delete,
    )


async def find_lock_buckets(
    store: Store, grant: Grant, scope: Scope, told: Sequence[BucketRow] = ()
) -> frozenset[str]:
    """Return the IDs of the buckets with Object Lock, as far as the key lets them be known.

    Those of which B2 has *told* already are not asked for again.
    """
    if not grant.has(Capability.LIST_BUCKETS, Capability.READ_BUCKET_RETENTIONS):
        return frozenset()
    known = [scope.single] if scope.single is not None else scope.buckets
    found = list(told)
    try:
        for bucket in known or ():
            if bucket.bucket_id not in {row.bucket_id for row in told}:
                found += await store.list_buckets(bucket_id=bucket.bucket_id)
        if known is None:
            found += await store.list_buckets()
    except B2MountError as exc:
        log.warning("which buckets have Object Lock is not known: %s", exc)
    return frozenset(row.bucket_id for row in found if row.lock_enabled)


def build(
    store: Store,
    scope: Scope,
    options: MountOptions,
    journal: Journal,
    disk: DiskCache | None,
    nursery: trio.Nursery,
    kernel: Kernel,
    control_path: Path,
    lock_buckets: frozenset[str] = frozenset(),
    budget: Budget | None = None,
) -> Mounted:
    """Tie everything together, and queue what an earlier mount of the scope left unsent."""
    budget = budget or Budget(Limits(), Counters())
    trees: list[Tree] = []
    listings = _new_listings(store, scope, options, nursery, budget, trees)
    world = World(
        store=store,
        scope=scope,
        options=options,
        uid=os.getuid() if options.uid is None else options.uid,
        gid=os.getgid() if options.gid is None else options.gid,
        umask=DEFAULT_UMASK if options.umask is None else options.umask,
        journal=journal,
        listings=listings,
        overlay=_new_overlay(store, journal, listings),
        blocks=Blocks(store, nursery, options.memory_size, disk, downloads=options.downloads),
        nodes=Nodes(),
        invalidate_inode=lambda ino: kernel.invalidate_inode(ino),
        invalidate_entry=lambda ino, name: kernel.invalidate_entry(ino, name),
        invalidate_entries_now=lambda entries: kernel.invalidate_entries_now(entries),
        budget=budget,
        started_ns=time.time_ns(),
        server_ms=partial(server_ms, store),
        lock_buckets=lock_buckets,
    )
    world.blocks.on_damaged = partial(_forget_pages, world, nursery)
    tree = Tree(world)
    trees.append(tree)
    conflicts = Conflicts(
        store,
        scope.limit,
        server_ms=world.server_ms,
        database=journal.database,
        keep=partial(keep_beside, world, tree) if options.conflicts == KEEP_BOTH else None,
    )
    fs = FileSystem(world, tree, str(control_path))
    start_journal(journal, store, world, tree, conflicts, options)
    return Mounted(options, world, fs, journal, scope, journal.directory, conflicts)


def _new_listings(
    store: Store,
    scope: Scope,
    options: MountOptions,
    nursery: trio.Nursery,
    budget: Budget,
    trees: Sequence[Tree],
) -> Listings:
    """Return the cache of listings; what changes in it is told to *trees*, which is empty so far."""

    def on_new(bucket_id: str, listing: Listing) -> None:
        for tree in trees:
            tree.on_new_listing(bucket_id, listing)

    def on_dropped(bucket_id: str, listing: Listing) -> None:
        for tree in trees:
            tree.on_dropped_listing(bucket_id, listing)

    return Listings(
        Views(store) if options.versions else store,
        options.listing_ttl,
        scope.limit,
        on_new=on_new,
        on_dropped=on_dropped,
        nursery=nursery,
        budget=budget,
    )


def _new_overlay(store: Store, journal: Journal, listings: Listings) -> Overlay:
    return Overlay(
        journal.queue,
        listings,
        keeps=lambda: look_up_by(store.grant) is LookUpBy.MEMORY,
        remember_gone=journal.remember_gone,
        is_told=journal.is_told,
    )


def _forget_pages(world: World, nursery: trio.Nursery, file_id: str) -> None:
    """Have the kernel forget what it holds of a version that came damaged.

    In a thread: the kernel waits for reads that are under way, which wait for us.
    """
    for node in world.nodes:
        content = node.current if isinstance(node, FileNode) else None
        if isinstance(content, FileVersion) and content.file_id == file_id:
            nursery.start_soon(trio.to_thread.run_sync, world.invalidate_inode, node.ino)
