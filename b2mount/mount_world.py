"""Put one mount together: the key's scope, the journal of earlier lives, the caches and the file system."""

import contextlib
import functools
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
from b2mount.core.access import LookUpBy, is_read_only, look_up_by
from b2mount.core.budget import Limits
from b2mount.core.errors import B2MountError, LocalStorageError
from b2mount.core.grant import Capability, Grant
from b2mount.core.moments import format_moment
from b2mount.core.options import KEEP_BOTH, MountOptions
from b2mount.core.places import Places, choose_places
from b2mount.core.posix import INFO_LIMIT_LOCKED
from b2mount.core.scope import Scope, ScopeError, scope_id
from b2mount.core.views import END_OF_NAME, VERSIONS_ROOT, View
from b2mount.fs.copies import keep_beside
from b2mount.fs.filesystem import FileSystem
from b2mount.fs.nodes import FileNode, Nodes
from b2mount.fs.overlay import Mark, Overlay
from b2mount.fs.tree import Tree
from b2mount.fs.world import World
from b2mount.journal.conflicts import Conflicts
from b2mount.journal.journal import Journal
from b2mount.journal.label import Label
from b2mount.journal.large import LargeFiles
from b2mount.journal.ops import Kind, Op, parents
from b2mount.journal.sender import Sender
from b2mount.journal.streams import Streams
from b2mount.mount_past import passing_directory
from b2mount.mount_private import make_private
from b2mount.store.authorization import CLOCK_SLACK_MS
from b2mount.store.budget import Budget
from b2mount.store.connect import MountStore
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


def check_options(options: MountOptions, grant: Grant, *, now_ms: int) -> None:
    """Raise ScopeError where the key cannot do what the mount was asked to do.

    *now_ms* is the later of B2's clock and this machine's, by which a person says "now".
    """
    if options.at is not None:
        _check_moment(options.at, grant, now_ms)
    if options.versions:
        _check_versions(options, grant)
    if options.conflicts == KEEP_BOTH:
        _check_conflicts(options, grant)
    if options.bypass_governance and not grant.has(Capability.BYPASS_GOVERNANCE):
        raise ScopeError(
            "--bypass-governance was said, but the key lacks bypassGovernance",
            "leave it out, or use a key with bypassGovernance",
        )
    if options.manage_buckets and not grant.capabilities & BUCKET_RIGHTS:
        raise ScopeError(
            "--manage-buckets was said, but the key lacks writeBuckets and deleteBuckets",
            "leave it out; only keys for the whole account can hold those",
        )


def _check_conflicts(options: MountOptions, grant: Grant) -> None:
    if is_read_only(grant, options.read_only) or grant.has(Capability.LIST_FILES, Capability.READ_FILES):
        return
    raise ScopeError(
        "--conflicts=keep-both was said, but the key lacks listFiles or readFiles",
        "leave it out, or use a key with both: lost updates are found by listing, and stored by copying",
    )


def _check_moment(at_ms: int, grant: Grant, now_ms: int) -> None:
    if not grant.has(Capability.LIST_FILES):
        raise ScopeError(
            "--at was said, but the key lacks listFiles",
            "leave it out, or use a key with listFiles: what was there is found by listing versions",
        )
    if at_ms > now_ms + CLOCK_SLACK_MS:
        raise ScopeError(
            f"--at {format_moment(at_ms)} lies in the future: it is {format_moment(now_ms)} now",
            "say a moment of the past; leave --at out for what is there now",
        )


def _check_versions(options: MountOptions, grant: Grant) -> None:
    if options.at is not None:
        raise ScopeError(
            "--at and --versions do not go together",
            f"mount with --versions alone: {VERSIONS_ROOT}/@TIME/ shows any moment",
        )
    if not grant.has(Capability.LIST_FILES):
        raise ScopeError(
            "--versions was said, but the key lacks listFiles",
            "leave it out, or use a key with listFiles",
        )


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
    holder: list[Tree] = []

    def on_new_listing(bucket_id: str, listing: Listing) -> None:
        if holder:
            holder[0].on_new_listing(bucket_id, listing)

    def on_dropped_listing(bucket_id: str, listing: Listing) -> None:
        if holder:
            holder[0].on_dropped_listing(bucket_id, listing)

    listings = Listings(
        Views(store) if options.versions else store,
        options.listing_ttl,
        scope.limit,
        on_new=on_new_listing,
        on_dropped=on_dropped_listing,
        nursery=nursery,
        budget=budget,
    )
    overlay = Overlay(
        journal.queue,
        listings,
        keeps=lambda: look_up_by(store.grant) is LookUpBy.MEMORY,
        remember_gone=journal.remember_gone,
        is_told=journal.is_told,
    )
    world = World(
        store=store,
        scope=scope,
        options=options,
        uid=os.getuid() if options.uid is None else options.uid,
        gid=os.getgid() if options.gid is None else options.gid,
        umask=DEFAULT_UMASK if options.umask is None else options.umask,
        journal=journal,
        listings=listings,
        overlay=overlay,
        blocks=Blocks(store, nursery, options.memory_size, disk, downloads=options.downloads),
        nodes=Nodes(),
        invalidate_inode=lambda ino: kernel.invalidate_inode(ino),
        invalidate_entry=lambda ino, name: kernel.invalidate_entry(ino, name),
        invalidate_entries_now=lambda entries: kernel.invalidate_entries_now(entries),
        budget=budget,
        started_ns=time.time_ns(),
        lock_buckets=lock_buckets,
    )
    world.blocks.on_damaged = partial(_forget_pages, world, nursery)
    tree = Tree(world)
    holder.append(tree)
    conflicts = Conflicts(
        store,
        scope.limit,
        server_ms=functools.partial(server_ms, store),
        database=journal.database,
        keep=functools.partial(keep_beside, world, tree) if options.conflicts == KEEP_BOTH else None,
    )
    mounted = Mounted(
        options,
        world,
        FileSystem(world, tree, str(control_path)),
        journal,
        scope,
        journal.directory,
        conflicts,
    )
    _start_journal(mounted, store, tree)
    return mounted


def _forget_pages(world: World, nursery: trio.Nursery, file_id: str) -> None:
    """Have the kernel forget what it holds of a version that came damaged.

    In a thread: the kernel waits for reads that are under way, which wait for us.
    """
    for node in world.nodes:
        content = node.current if isinstance(node, FileNode) else None
        if isinstance(content, FileVersion) and content.file_id == file_id:
            nursery.start_soon(trio.to_thread.run_sync, world.invalidate_inode, node.ino)


def _start_journal(mounted: Mounted, store: Store, tree: Tree) -> None:
    world, options = mounted.world, mounted.options
    overlay = world.overlay
    mounted.journal.shows = functools.partial(_shown_id, world)

    def on_done(op: Op, version: FileVersion | None) -> None:
        tree.forget_head(op.bucket_id, op.name)
        if options.versions:
            forget_history(world.listings, op.bucket_id, op.name)
        # What an earlier life sent may have been changed by others since: B2 tells.
        overlay.settle(op.bucket_id, op.name, doubtful=op.recovered)
        mounted.conflicts.sent(op, version)

    def on_refused(op: Op, error: B2MountError) -> bool:
        if op.kind is Kind.PUT:
            return False  # what was written is never dropped: it waits for a person
        overlay.drop(op.bucket_id, op.name)
        for directory in parents(op.name):
            world.listings.forget(op.bucket_id, directory)
            break
        return True

    async def on_spool_free(op: Op) -> None:
        draft = op.draft
        if draft is None or draft.result is None or draft.torn:
            return
        if draft.extents.dirty == ((0, draft.size),):
            await world.blocks.adopt(draft.result, draft.spool.path)

    limits = dict.fromkeys(world.lock_buckets, INFO_LIMIT_LOCKED)
    journal = mounted.journal
    large = LargeFiles(store, journal.database, journal.room.tell)
    sender = Sender(
        store,
        large,
        new_id=mounted.journal.new_id,
        hard_delete=options.hard_delete,
        info_limits=limits,
        bypass_governance=options.bypass_governance,
        read_only=options.read_only,
        skew_seconds=lambda: _skew_seconds(store),
    )
    streams = Streams(
        store,
        sender,
        large,
        journal,
        eager=lambda bucket_id: (
            store.grant.has(Capability.READ_FILES, Capability.DELETE_FILES)
            and bucket_id not in world.lock_buckets
        ),
    )
    sender.made, sender.hid = mounted.conflicts.made, mounted.conflicts.hid
    sender.is_own = mounted.conflicts.is_own
    left = mounted.journal.start(
        sender.send,
        settle=options.settle,
        width=options.uploads,
        on_done=on_done,
        on_refused=on_refused,
        on_spool_free=on_spool_free,
        large=large,
        streams=streams,
    )
    for bucket_id, prefix in mounted.journal.left_gone():
        overlay.set(bucket_id, prefix, Mark.GONE)
    for op in left:
        if mounted.journal.queue.tail(*op.key) is op:
            _show_unsent(overlay, op)


def forget_history(listings: Listings, bucket_id: str, name: str) -> None:
    """Have the versions of a name looked at anew: there is one more."""
    history = View(None).bucket_id(bucket_id)
    listings.forget_one(history, name[: name.rfind("/") + 1])
    listings.forget_one(history, f"{name}{END_OF_NAME}/")


def _skew_seconds(store: Store) -> float:
    return store.skew_seconds if isinstance(store, MountStore) else 0.0


def server_ms(store: Store) -> int:
    """Return what B2's clock shows."""
    return int((time.time() + _skew_seconds(store)) * 1000)


def _shown_id(world: World, bucket_id: str, name: str) -> str | None:
    """Return the id of the version that B2 shows at *name* as far as is known, "" for none, else None."""
    fact = world.overlay.get(bucket_id, name)
    if fact is not None:
        return fact.file_id if isinstance(fact, FileVersion) else ""
    cut = name.rfind("/") + 1
    listing = world.listings.last_known(bucket_id, name[:cut])
    if listing is None:
        return None
    row = listing.get(name[cut:])
    return row.file_id if row is not None else "" if listing.knows(name[cut:]) else None


def _show_unsent(overlay: Overlay, op: Op) -> None:
    """Let the tree show what the last operation on a name, left unsent, will make of it."""
    if op.draft is None:
        overlay.set(op.bucket_id, op.name, Mark.GONE)
        return
    overlay.set(op.bucket_id, op.name, op.draft)
    for directory in parents(op.name):
        if directory:
            overlay.set(op.bucket_id, directory, Mark.DIRECTORY)
