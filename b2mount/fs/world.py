"""What all file operations of one mount share: grant and scope, the stores of knowledge, the owner."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from b2mount.cache.blocks import Blocks
from b2mount.cache.listings import Listings
from b2mount.core.access import Operation, directory_mode_mask, is_read_only, mode_mask, refusal
from b2mount.core.errors import NoSuchFile
from b2mount.core.grant import Grant
from b2mount.core.options import MountOptions
from b2mount.core.posix import INFO_LIMIT, INFO_LIMIT_LOCKED
from b2mount.core.scope import Scope
from b2mount.fs.nodes import DirectoryNode, Node, Nodes
from b2mount.fs.overlay import Overlay
from b2mount.journal.journal import Journal
from b2mount.store.budget import Budget
from b2mount.store.store import Store


@dataclass(slots=True)
class World:
    """One mount's shared state. Everything in it changes between two awaits only."""

    store: Store
    scope: Scope
    options: MountOptions
    uid: int  # owner of what has none stored
    gid: int
    umask: int
    journal: Journal
    listings: Listings
    overlay: Overlay
    blocks: Blocks
    nodes: Nodes
    invalidate_inode: Callable[[int], None]  # tell the kernel to forget data and attributes
    invalidate_entry: Callable[[int, str], None]  # tell the kernel to forget a name in a directory
    invalidate_entries_now: Callable[[list[tuple[int, str]]], None]  # and wait for it: call in a thread
    budget: Budget
    started_ns: int  # when the mount began; the mtime of what has none
    server_ms: Callable[[], int]  # B2's clock
    lock_buckets: frozenset[str] = frozenset()  # buckets with Object Lock

    @property
    def grant(self) -> Grant:
        """What the key opens; a wider one that took its place opens no more names than the mount shows."""
        grant = self.store.grant
        limit = self.scope.limit
        return grant if grant.prefix == limit else replace(grant, prefix=limit)

    @property
    def read_only(self) -> bool:
        return is_read_only(self.grant, self.options.read_only)

    @property
    def file_mask(self) -> int:
        """The permission bits that the key leaves to files."""
        return mode_mask(self.grant, self.options.read_only)

    @property
    def directory_mask(self) -> int:
        """The permission bits that the key leaves to directories."""
        return directory_mode_mask(self.grant, self.options.read_only)

    def info_limit(self, bucket_id: str) -> int:
        """Return how many bytes of name and file info B2 takes in a bucket."""
        return INFO_LIMIT_LOCKED if bucket_id in self.lock_buckets else INFO_LIMIT

    def demand(self, operation: Operation, name: str | None = None) -> None:
        """Raise what the access table answers for *operation* on a B2 name, if it refuses."""
        refused = refusal(
            operation,
            self.grant,
            name=name,
            read_only=self.options.read_only,
            now_ms=None if self.store.grant.expires_ms is None else self.server_ms(),
        )
        if refused is not None:
            raise refused

    def demand_living_key(self) -> None:
        """Raise KeyExpired once the key's time is over; for what needs no other right."""
        if self.store.grant.expires_ms is not None:
            self.demand(Operation.LOOK_UP)

    def node(self, ino: int) -> Node:
        """Return the node of an inode number. Raises NoSuchFile for one that was forgotten."""
        node = self.nodes.get(ino)
        if node is None:
            raise NoSuchFile(f"inode {ino} is not known any more")
        return node

    def directory(self, ino: int) -> DirectoryNode:
        """Return the directory of an inode number."""
        node = self.node(ino)
        assert isinstance(node, DirectoryNode), "the kernel asks directory operations of directories alone"
        return node
