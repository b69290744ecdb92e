"""Find the node that a name leads to: own changes first, then what B2 tells, shown under the names' escapes.

The three ways to look a name up, by listing, by HEAD request, or from what was made here alone, follow from
the key. Made-up directories above the key's prefix cost no call.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import trio
from cachetools import TTLCache

from b2mount.cache.listing import Listing
from b2mount.cache.listings import Found
from b2mount.core.access import LookUpBy, Operation, look_up_by
from b2mount.core.errors import AccessDenied, IllegalName, NoSuchFile, NotADirectory
from b2mount.core.names import PLACEHOLDER, check_length, parse_shown, shown, too_long
from b2mount.core.scope import UNKNOWN_BUCKET, Place, RootBucket, admits, is_of_bucket, next_step, place
from b2mount.core.views import END_OF_NAME, VERSIONS_ROOT
from b2mount.fs.nodes import Content, DirectoryNode, FileNode, Node
from b2mount.fs.overlay import Fact, Mark
from b2mount.fs.views import OWN_DIRECTORY, OWN_FILE, Views, parse_entry
from b2mount.fs.world import World
from b2mount.journal.drafts import Draft
from b2mount.store.packed import Rows
from b2mount.store.store import FileVersion

HEADS_KEPT = 10_000  # answers of HEAD requests
MOST_CHECKED = 4  # names that the kernel may hold for each that a new listing tells, to compare them all


@dataclass(frozen=True, slots=True)
class Resolved:
    """What one component of a directory is: a file, a directory, both or neither, believed until `until`."""

    file: Content | None
    directory: bool
    until: float  # seconds, trio's clock


class NameMissing(NoSuchFile):
    """A directory has no such entry, as far as can be said until `until` (trio's clock)."""

    def __init__(self, message: str, until: float) -> None:
        super().__init__(message)
        self.until = until


class Tree:
    """The namespace of one mount."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._heads: TTLCache[tuple[str, str], FileVersion | None] = TTLCache(
            HEADS_KEPT, max(world.options.listing_ttl, 0.001), timer=trio.current_time
        )
        self._buckets: tuple[float, tuple[RootBucket, ...]] | None = None
        self.views = Views(world)
        scope = world.scope
        single = scope.single
        if single is not None:
            self.root = world.nodes.new_directory(
                None, scope.directory, single.bucket_id or UNKNOWN_BUCKET, single.name
            )
        else:
            self.root = world.nodes.new_directory(None, "", "", "")

    # --- looking up --------------------------------------------------------------------------------------

    async def lookup(self, parent: DirectoryNode, entry: str) -> tuple[Node, float]:
        """Return the node of a directory entry, and until when to believe it. Raises NoSuchFile."""
        if parent.gone:
            raise NoSuchFile("the directory was removed")
        views = self.views
        if views.begins_in(parent) and entry in (VERSIONS_ROOT, OWN_DIRECTORY, OWN_FILE):
            return await self._lookup_versions_root(parent, entry)
        if views.is_root(parent):
            moment = views.moment_of(parent, entry)
            if moment is not None:
                return moment, trio.current_time() + self._world.options.listing_ttl
        if parent.shows_buckets:
            return await self._lookup_bucket(parent, entry)
        if views.has_history(parent):
            return await self._lookup_history(parent, entry)
        try:
            component, twin = parse_shown(entry)
        except IllegalName as exc:
            raise NoSuchFile(str(exc)) from exc
        self._world.demand(Operation.LOOK_UP, parent.prefix + component + "/")
        try:
            resolved = await self.resolve(parent, component)
            return self.node_for(parent, component, twin=twin, resolved=resolved), resolved.until
        except NoSuchFile:
            check_length(component)  # a name that nobody can make is told from one that nobody has made
            raise

    async def _lookup_versions_root(self, root: DirectoryNode, entry: str) -> tuple[Node, float]:
        """Return what `.b2versions` is, or what the user has under its name."""
        if entry == VERSIONS_ROOT:
            return self.views.root_of(root), trio.current_time() + self._world.options.listing_ttl
        if root.shows_buckets:
            raise NoSuchFile(f"{entry}: no bucket has such a name")
        resolved = await self.resolve(root, VERSIONS_ROOT)
        if entry == OWN_DIRECTORY and resolved.directory:
            return self.directory_node(root, VERSIONS_ROOT + "/"), resolved.until
        if entry == OWN_FILE and resolved.file is not None:
            return self.file_node(root, VERSIONS_ROOT, resolved.file), resolved.until
        raise NameMissing(f"{entry}: no such file", resolved.until)

    async def _lookup_history(self, parent: DirectoryNode, entry: str) -> tuple[Node, float]:
        """Return what an entry under `.b2versions` is: versions of a name, a directory, or a version."""
        component, twin = parse_entry(entry, in_root=self.views.is_root(parent))
        seen = await self.views.look(parent, component)
        if seen.version is not None and not twin:
            return self.file_node(parent, component, seen.version), seen.until
        if seen.directory and not twin:
            return self.directory_node(parent, component + "/"), seen.until
        if seen.versions and twin == seen.directory:
            return self.directory_node(parent, component + END_OF_NAME + "/"), seen.until
        raise NameMissing(f"{entry}: no such file", seen.until)

    def node_for(self, parent: DirectoryNode, component: str, *, twin: bool, resolved: Resolved) -> Node:
        """Return the node that *resolved* shows under a component. Raises NoSuchFile."""
        if twin:
            if resolved.file is None or not resolved.directory:
                raise NameMissing(f"{shown(component, twin=True)}: no such file", resolved.until)
            return self.file_node(parent, component, resolved.file)
        if resolved.directory:
            return self.directory_node(parent, component + "/")
        if resolved.file is None:
            raise NameMissing(f"{parent.prefix}{component}: no such file", resolved.until)
        return self.file_node(parent, component, resolved.file)

    async def resolve(self, parent: DirectoryNode, component: str) -> Resolved:
        """Say what *component* of a directory inside a bucket is.

        A file of the placeholder's name shows only where it has content, so that nothing is lost.
        """
        found = await self._resolve(parent, component)
        if component == PLACEHOLDER and found.file is not None and found.file.size == 0:
            return replace(found, file=None)
        return found

    async def _resolve(self, parent: DirectoryNode, component: str) -> Resolved:
        limit = self._world.scope.limit
        where = place(parent.prefix, limit)
        if where is Place.ABOVE:
            return Resolved(None, component == next_step(parent.prefix, limit), math.inf)
        name = parent.prefix + component
        if not admits(name + "/", limit):
            return Resolved(None, False, math.inf)
        file_fact, folder_fact = self._facts(parent, component)
        local_until = trio.current_time() + self._world.options.listing_ttl
        if folder_fact is None and isinstance(file_fact, (FileVersion, Draft)):
            listing = self._world.listings.last_known(parent.bucket_id, parent.prefix)
            is_twin = listing is not None and listing.has(component + "/")
            return Resolved(file_fact, is_twin, local_until)
        if folder_fact is Mark.DIRECTORY and file_fact is None:
            listing = self._world.listings.last_known(parent.bucket_id, parent.prefix)
            return Resolved(listing.get(component) if listing else None, True, local_until)
        if folder_fact is not None and file_fact is not None:
            file = None if isinstance(file_fact, Mark) else file_fact
            return Resolved(file, folder_fact is Mark.DIRECTORY, local_until)
        found = await self._ask(parent, component)
        # own changes made while B2 answered win
        file_fact, folder_fact = self._facts(parent, component)
        file_seen: Content | None = found.file
        if file_fact is not None:
            file_seen = None if isinstance(file_fact, Mark) else file_fact
        folder_seen = found.folder is not None if folder_fact is None else folder_fact is Mark.DIRECTORY
        return Resolved(file_seen, folder_seen, found.until)

    def _facts(self, parent: DirectoryNode, component: str) -> tuple[Fact | None, Fact | None]:
        """Return what own changes say of a component as a file, and as a directory."""
        facts, bucket_id, name = self._world.overlay, parent.bucket_id, parent.prefix + component
        # `dir/` as a file inside dir/ has no overlay entry: that name is the directory's there
        return facts.get(bucket_id, name) if component else None, facts.get(bucket_id, name + "/")

    async def _ask(self, parent: DirectoryNode, component: str) -> Found:
        world = self._world
        way = look_up_by(world.grant)
        if way is LookUpBy.LISTING:
            return await world.listings.find(parent.bucket_id, parent.prefix, component)
        until = trio.current_time() + world.options.listing_ttl
        if way is LookUpBy.MEMORY:
            return Found(None, None, until)
        name = parent.prefix + component
        file = await self._head(parent, name)
        if file is not None:
            return Found(file, None, until)
        marker = await self._head(parent, f"{name}/{PLACEHOLDER}")
        # Read-only and no listing: a name that is no file may lead to files whose names a person knows.
        may_lead = world.read_only and not too_long(name + "/x")
        folder = marker or (FileVersion(name + "/", "", 0, 0) if may_lead else None)
        return Found(None, folder, until)

    async def _head(self, parent: DirectoryNode, name: str) -> FileVersion | None:
        key = (parent.bucket_id, name)
        if too_long(name):
            return None  # B2 holds no such name, and need not be asked
        if key not in self._heads:
            try:
                version = await self._world.store.head(parent.bucket_name, name)
            except NoSuchFile:
                self._heads[key] = None
            else:
                _demand_same_bucket(parent, version)
                self._heads[key] = version
        return self._heads[key]

    def forget_head(self, bucket_id: str, name: str) -> None:
        """Believe the last HEAD answer about a name no more."""
        self._heads.pop((bucket_id, name), None)

    def forget(self, bucket_id: str, prefix: str) -> None:
        """Believe nothing told before about a bucket's names under a prefix, nor which buckets there are."""
        self._world.listings.forget(bucket_id, prefix)
        for key in [key for key in self._heads if key[0] == bucket_id and key[1].startswith(prefix)]:
            del self._heads[key]
        self._buckets = None

    # --- nodes -------------------------------------------------------------------------------------------

    def file_node(self, parent: DirectoryNode, key: str, content: Content) -> FileNode:
        """Return the node of a file that holds *content*; a new one where somebody else replaced it."""
        node = self._world.nodes.child(parent, key)
        if isinstance(node, FileNode):
            if node.is_written or same_content(node.current, content):
                return node
            self._world.nodes.detach(node)
        return self._world.nodes.new_file(parent, key, content)

    def row_node(self, parent: DirectoryNode, key: str, rows: Rows, row: int) -> FileNode:
        """Return the node of a file that a row of a page tells of; as `file_node`."""
        node = self._world.nodes.child(parent, key)
        if isinstance(node, FileNode):
            if node.is_written:
                return node
            packed = node.packed
            if packed is None:
                return self.file_node(parent, key, rows.version(row))
            if packed[0] is rows or packed[0].file_id(packed[1]) == rows.file_id(row):
                node.point_to(rows, row)  # an older page may go
                return node
            self._world.nodes.detach(node)
        node = self._world.nodes.new_file(parent, key, None)
        node.point_to(rows, row)
        return node

    def directory_node(self, parent: DirectoryNode, key: str) -> DirectoryNode:
        """Return the node of a directory in a bucket."""
        node = parent.children.get(key)
        if isinstance(node, DirectoryNode):
            return node
        return self._world.nodes.new_directory(
            parent, key, parent.bucket_id, parent.bucket_name, view=parent.view
        )

    # --- buckets -----------------------------------------------------------------------------------------

    async def buckets(self) -> Iterable[RootBucket]:
        """Return the buckets that the root shows."""
        scope, now = self._world.scope, trio.current_time()
        if scope.buckets is not None:
            return scope.buckets
        if self._buckets is None or now >= self._buckets[0] + self._world.options.listing_ttl:
            rows = await self._world.store.list_buckets()
            self._buckets = (now, tuple(RootBucket(row.bucket_id, row.name) for row in rows))
        return self._buckets[1]

    def note_bucket(self, bucket: RootBucket) -> None:
        """Show a bucket that was made here."""
        if self._buckets is not None:
            self._buckets = (self._buckets[0], (*self._buckets[1], bucket))

    def drop_bucket(self, bucket_id: str) -> None:
        """Show a bucket no more that was deleted here."""
        if self._buckets is not None:
            told, buckets = self._buckets
            self._buckets = (told, tuple(bucket for bucket in buckets if bucket.bucket_id != bucket_id))

    async def _lookup_bucket(self, parent: DirectoryNode, entry: str) -> tuple[Node, float]:
        for bucket in await self.buckets():
            if bucket.name == entry:
                return self.bucket_node(parent, bucket), trio.current_time() + self._world.options.listing_ttl
        raise NoSuchFile(f"{entry}: the key opens no such bucket")

    def bucket_node(self, parent: DirectoryNode, bucket: RootBucket) -> DirectoryNode:
        """Return the node of a bucket's directory under a root that shows buckets."""
        key, bucket_id = bucket.name + "/", bucket.bucket_id or ""
        if parent.view is not None:
            bucket_id = parent.view.bucket_id(bucket_id)
        node = parent.children.get(key)
        if isinstance(node, DirectoryNode) and node.bucket_id == bucket_id:
            return node
        if node is not None:
            self._world.nodes.detach(node)
        return self._world.nodes.new_directory(
            parent, "", bucket_id, bucket.name, entry_key=key, view=parent.view
        )

    # --- refreshes ---------------------------------------------------------------------------------------

    def on_new_listing(self, bucket_id: str, listing: Listing) -> None:
        """Tell the kernel what a fresh listing shows to be other than before."""
        node = self.find_directory(bucket_id, listing.directory)
        if node is None:
            return
        held = len(node.children) + sum(run.held for run in node.runs)
        if held > MOST_CHECKED * max(listing.places, 1):
            return  # the first page of very many; the kernel asks for each again as its time runs out
        self._detach_replaced(node, listing)
        for key, child in list(node.children.items()):
            if not isinstance(child, FileNode) or child.is_written:
                continue
            if not listing.knows(key) or self._world.overlay.get(bucket_id, node.prefix + key) is not None:
                continue
            row = listing.get(key)
            if row is None or not same_content(child.current, row):
                self._world.nodes.detach(child)
                name = self.views.name_of(node, key, twin=listing.has(key + "/"))
                self._world.invalidate_entry(node.ino, name)

    def _detach_replaced(self, node: DirectoryNode, listing: Listing) -> None:
        """Have the files without a node lose their names of which a fresh listing shows another version."""
        for run in list(node.runs):
            for at in list(run.places()):
                key = run.chunk.key(at).decode("utf-8", "surrogatepass")
                if not listing.knows(key):
                    continue
                row = listing.get(key)
                is_same = row is not None and row.file_id == run.chunk.rows.file_id(run.chunk.row(at))
                if is_same or self._world.overlay.get(node.bucket_id, node.prefix + key) is not None:
                    continue
                self._world.nodes.detach_from(run, at)
                name = self.views.name_of(node, key, twin=listing.has(key + "/"))
                self._world.invalidate_entry(node.ino, name)

    def on_dropped_listing(self, bucket_id: str, listing: Listing) -> None:
        """Let go the pages of a listing that is remembered no more."""
        node = self.find_directory(bucket_id, listing.directory)
        if node is None:
            return
        for child in node.children.values():
            if isinstance(child, FileNode):
                child.settle()
        for run in list(node.runs):
            self._world.nodes.settle(run)

    def find_directory(self, bucket_id: str, directory: str) -> DirectoryNode | None:
        """Return the node of a directory prefix if there is one."""
        node = self.root
        if node.shows_buckets:
            buckets = (n for n in node.children.values() if isinstance(n, DirectoryNode))
            found = next((n for n in buckets if n.bucket_id == bucket_id), None)
            if found is None:
                return None
            node = found
        if node.bucket_id != bucket_id or not directory.startswith(node.prefix):
            return None
        for part in directory[len(node.prefix) :].split("/")[:-1]:
            child = node.children.get(part + "/")
            if not isinstance(child, DirectoryNode):
                return None
            node = child
        return node

    def find_file(self, bucket_id: str, name: str) -> FileNode | None:
        """Return the node of a B2 file name if there is one."""
        directory = name[: name.rfind("/") + 1]
        parent = self.find_directory(bucket_id, directory)
        node = self._world.nodes.child(parent, name[len(directory) :]) if parent is not None else None
        return node if isinstance(node, FileNode) else None

    async def walk(self, path: str) -> Node:
        """Return the node of a relative path as the mount shows it. Raises NoSuchFile, NotADirectory."""
        node: Node = self.root
        for entry in filter(None, path.split("/")):
            if not isinstance(node, DirectoryNode):
                raise NotADirectory(f"{path}: not a directory")
            node, _ = await self.lookup(node, entry)
        return node


def _demand_same_bucket(parent: DirectoryNode, version: FileVersion) -> None:
    """Raise AccessDenied where the bucket's name and the ID that a person gave are those of two buckets."""
    if not is_of_bucket(version.file_id, parent.bucket_id):
        raise AccessDenied(
            f"bucket {parent.bucket_name!r} has another ID than {parent.bucket_id}: --bucket-id"
        )


def same_content(current: Content, other: Content) -> bool:
    """Say whether two contents are the same version, or the same draft; a sent draft is its version."""
    if isinstance(current, Draft) and current.result is not None:
        current = current.result
    if isinstance(other, Draft) and other.result is not None:
        other = other.result
    if isinstance(current, Draft) or isinstance(other, Draft):
        return current is other
    return current.file_id == other.file_id
