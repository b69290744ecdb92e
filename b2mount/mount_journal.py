"""Tie the journal to the tree: how queued changes are sent, and what the mount shows once B2 has answered."""

from dataclasses import dataclass
from functools import partial

from b2mount.cache.listings import Listings
from b2mount.core.errors import B2MountError
from b2mount.core.grant import Capability
from b2mount.core.options import MountOptions
from b2mount.core.posix import INFO_LIMIT_LOCKED
from b2mount.core.views import END_OF_NAME, View
from b2mount.fs.overlay import Mark, Overlay
from b2mount.fs.tree import Tree
from b2mount.fs.world import World
from b2mount.journal.conflicts import Conflicts
from b2mount.journal.journal import Journal
from b2mount.journal.large import LargeFiles
from b2mount.journal.ops import Kind, Op, parents
from b2mount.journal.sender import Sender
from b2mount.journal.streams import Streams
from b2mount.store.connect import MountStore
from b2mount.store.steady import steady_ms
from b2mount.store.store import FileVersion, Store


def server_ms(store: Store) -> int:
    """Return what B2's clock shows, as far as known."""
    return store.server_ms() if isinstance(store, MountStore) else steady_ms()


@dataclass(slots=True)
class _Outcomes:
    """What follows when B2 has taken a change, or refused it, and when its spool file is not needed."""

    world: World
    tree: Tree
    conflicts: Conflicts

    def done(self, op: Op, version: FileVersion | None) -> None:
        world = self.world
        self.tree.forget_head(op.bucket_id, op.name)
        if world.options.versions:
            _forget_history(world.listings, op.bucket_id, op.name)
        # What an earlier life sent may have been changed by others since: B2 tells.
        world.overlay.settle(op.bucket_id, op.name, doubtful=op.recovered)
        self.conflicts.sent(op, version)

    def refused(self, op: Op, error: B2MountError) -> bool:
        if op.kind is Kind.PUT:
            return False  # what was written is never dropped: it waits for a person
        self.world.overlay.drop(op.bucket_id, op.name)
        for directory in parents(op.name):
            self.world.listings.forget(op.bucket_id, directory)
            break
        return True

    async def spool_free(self, op: Op) -> None:
        draft = op.draft
        if draft is None or draft.result is None or draft.torn:
            return
        if draft.extents.dirty == ((0, draft.size),):
            await self.world.blocks.adopt(draft.result, draft.spool.path)


def start_journal(
    journal: Journal, store: Store, world: World, tree: Tree, conflicts: Conflicts, options: MountOptions
) -> None:
    """Have the journal send what is queued, and let the tree show what an earlier mount left unsent."""
    journal.shows = partial(_shown_id, world)
    journal.server_ms = world.server_ms
    large = LargeFiles(store, journal.database, journal.room.tell)
    sender = _new_sender(journal, store, large, world, options)
    sender.made, sender.hid, sender.is_own = conflicts.made, conflicts.hid, conflicts.is_own
    outcomes = _Outcomes(world, tree, conflicts)
    left = journal.start(
        sender.send,
        settle=options.settle,
        width=options.uploads,
        on_done=outcomes.done,
        on_refused=outcomes.refused,
        on_spool_free=outcomes.spool_free,
        large=large,
        streams=Streams(store, sender, large, journal, eager=partial(_may_stream, store, world)),
    )
    for bucket_id, prefix in journal.left_gone():
        world.overlay.set(bucket_id, prefix, Mark.GONE)
    for op in left:
        if journal.queue.tail(*op.key) is op:
            _show_unsent(world.overlay, op)


def _new_sender(
    journal: Journal, store: Store, large: LargeFiles, world: World, options: MountOptions
) -> Sender:
    return Sender(
        store,
        large,
        new_id=journal.new_id,
        hard_delete=options.hard_delete,
        info_limits=dict.fromkeys(world.lock_buckets, INFO_LIMIT_LOCKED),
        bypass_governance=options.bypass_governance,
        read_only=options.read_only,
        server_ms=world.server_ms,
    )


def _may_stream(store: Store, world: World, bucket_id: str) -> bool:
    """Whether parts of a file may be sent while it is still written: what they began can be taken back."""
    may = store.grant.has(Capability.READ_FILES, Capability.DELETE_FILES)
    return may and bucket_id not in world.lock_buckets


def _forget_history(listings: Listings, bucket_id: str, name: str) -> None:
    """Have the versions of a name looked at anew: there is one more."""
    history = View(None).bucket_id(bucket_id)
    listings.forget_one(history, name[: name.rfind("/") + 1])
    listings.forget_one(history, f"{name}{END_OF_NAME}/")


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
