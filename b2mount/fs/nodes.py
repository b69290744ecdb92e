"""What the kernel may hold: files and directories with inode numbers, lookup counts and places in the tree.

A node stays the same while its content is changed here, and across refreshes that find nothing new. When
somebody else replaced the file, the name gets a new node, and handles on the old one read the old version to
the end. Knows nothing of calls, listings or the journal's order.
"""

import hashlib
from collections.abc import Callable, Iterator

import trio

from b2mount.cache.listing import Chunk, Listing
from b2mount.core.posix import Attributes, from_info
from b2mount.core.views import View
from b2mount.fs.runs import KEPT_PART, MOST_PLACES, PLACE_BITS, SMALL, Run
from b2mount.journal.drafts import Draft
from b2mount.store.packed import Rows
from b2mount.store.store import FileVersion

ROOT_INO = 1  # FUSE_ROOT_ID
INO_MASK = 2**53 - 1  # numbers that JSON and floating point hold exactly, in whoever's index they end up

Content = FileVersion | Draft


class Node:
    """A file or directory. `key` is its key in the parent's listing: `name`, or `name/` for a directory."""

    __slots__ = ("__weakref__", "gone", "handles", "ino", "key", "lookups", "parent")

    def __init__(self, ino: int, parent: "DirectoryNode | None", key: str) -> None:
        self.ino = ino
        self.parent = parent
        self.key = key
        self.lookups = 0  # replies that handed the inode to the kernel, less what forget took back
        self.handles = 0  # open handles
        self.gone = False  # no name leads here any more

    @property
    def is_past(self) -> bool:
        """Whether this shows what was: it cannot be changed."""
        return self.parent is not None and self.parent.view is not None


class FileNode(Node):
    """Anything that is not a directory: regular files, symlinks and special files."""

    __slots__ = (
        "_content",
        "_lock",
        "_parsed",
        "_parsed_of",
        "_row",
        "_rows",
        "atime_ns",
        "working",
        "writers",
    )

    def __init__(self, ino: int, parent: "DirectoryNode | None", key: str, content: Content | None) -> None:
        super().__init__(ino, parent, key)
        self._content = content
        self._rows: Rows | None = None  # the page that tells the content, while nobody needs more of it
        self._row = 0  # which of its rows
        self.working: Draft | None = None  # takes writes; not yet committed
        self.writers = 0  # handles open for writing
        self._lock: trio.Lock | None = None
        self.atime_ns: int | None = None
        self._parsed: Attributes | None = None
        self._parsed_of: FileVersion | None = None

    @property
    def bucket_id(self) -> str:
        assert self.parent is not None
        return self.parent.bucket_id

    @property
    def name(self) -> str:
        """The B2 file name."""
        assert self.parent is not None
        return self.parent.prefix + self.key

    @property
    def lock(self) -> trio.Lock:
        """Held while a working draft is being committed."""
        if self._lock is None:
            self._lock = trio.Lock()
        return self._lock

    @property
    def is_written(self) -> bool:
        """Whether what is written through handles must reach the name, whatever somebody else made of it."""
        return self.working is not None or self.writers > 0

    @property
    def is_locked(self) -> bool:
        """Whether the lock is held, or somebody waits for it."""
        return self._lock is not None and self._lock.locked()

    @property
    def content(self) -> Content | None:
        """What was committed last: stored, or on its way; None: nothing yet."""
        if self._rows is not None:
            self.content = self._rows.version(self._row)
        return self._content

    @content.setter
    def content(self, content: Content | None) -> None:
        self._content, self._rows = content, None

    @property
    def packed(self) -> tuple[Rows, int] | None:
        """The page and row that tell all of a file as it is now; None where it has been asked for more."""
        return None if self._rows is None or self.working is not None else (self._rows, self._row)

    def settle(self) -> None:
        """Keep what was told of the file, not the page that tells it."""
        _ = self.content

    def point_to(self, rows: Rows, row: int) -> None:
        """Let a row of a page tell the content from now on."""
        self._content, self._rows, self._row = None, rows, row

    @property
    def current(self) -> Content:
        """What a reader sees now: the working draft, or what was committed last."""
        if self.working is not None:
            return self.working
        content = self.content
        if isinstance(content, Draft) and content.result is not None:
            self.content = content = content.result
        assert content is not None
        return content

    @property
    def size(self) -> int:
        """Bytes."""
        packed = self.packed
        return self.current.size if packed is None else packed[0].sizes[packed[1]]

    @property
    def attributes(self) -> Attributes:
        """The attributes now; a working draft's mtime is that of its last write."""
        current = self.current
        if isinstance(current, Draft):
            if current.written_ns is not None:
                current.settle_mtime()
            return current.attributes
        if self._parsed is None or self._parsed_of is not current:
            self._parsed = from_info(current.info, fallback_ms=current.uploaded_ms)
            self._parsed_of = current
        return self._parsed


class DirectoryNode(Node):
    """A directory of a bucket; or, with an empty bucket ID, the root that shows one directory a bucket."""

    __slots__ = ("bucket_id", "bucket_name", "children", "entry_key", "runs", "touched_ns", "view")

    def __init__(
        self,
        ino: int,
        parent: "DirectoryNode | None",
        key: str,
        bucket_id: str,
        bucket_name: str,
        *,
        entry_key: str | None = None,
        view: View | None = None,
    ) -> None:
        super().__init__(ino, parent, key)
        self.entry_key = entry_key  # its key in the parent where a bucket, or a look at one, begins here
        self.view = view  # the look at its bucket; None: the present
        self.bucket_id = bucket_id
        self.bucket_name = bucket_name
        self.children: dict[str, Node] = {}  # those that the kernel or a handle may hold,
        self.runs: list[Run] = []  # but for the files that have no node yet
        self.touched_ns: int | None = None  # mtime by changes made here since the attributes were set

    @property
    def is_past(self) -> bool:
        """Whether this shows what was: neither it nor what lies in it can be changed."""
        return self.view is not None

    @property
    def shows_buckets(self) -> bool:
        return self.bucket_id == ""

    @property
    def prefix(self) -> str:
        """The directory's prefix in its bucket: "" or ending in `/`."""
        parts: list[str] = []
        node = self
        while True:
            parts.append(node.key)
            above = node.parent
            if above is None or above.bucket_id != node.bucket_id:
                break
            node = above
        return "".join(reversed(parts))

    def is_inside(self, other: "DirectoryNode") -> bool:
        """Say whether this is *other* or lies under it."""
        node: DirectoryNode | None = self
        while node is not None:
            if node is other:
                return True
            node = node.parent
        return False


class Nodes:
    """All nodes by inode number; and what stands for files that have none yet (fs/runs.py)."""

    def __init__(self) -> None:
        self._by_ino: dict[int, Node | int] = {}  # an int: a run's base, plus a place in it
        self._runs: dict[int, Run] = {}  # by number, those of which the kernel holds anything
        self._last_run = 0

    def __len__(self) -> int:
        return len(self._by_ino)

    def __iter__(self) -> Iterator[Node]:
        return iter([node for node in self._by_ino.values() if isinstance(node, Node)])

    def get(self, ino: int) -> Node | None:
        """Return the node of a number, made now where a file had none."""
        found = self._by_ino.get(ino)
        return self._at(found) if isinstance(found, int) else found

    def child(self, parent: DirectoryNode, key: str) -> Node | None:
        """Return the node that has a key in a directory, made now where a file had none."""
        node = parent.children.get(key)
        if node is None and parent.runs and not key.endswith("/"):
            raw = key.encode("utf-8", "surrogatepass")
            for run in parent.runs:
                at = run.find(raw)
                if at is not None:
                    return self._make(run, at)
        return node

    def new_file(self, parent: DirectoryNode, key: str, content: Content | None) -> FileNode:
        """Make the node of a file and put it in its directory, in the place of one that somebody removed."""
        former = parent.children.get(key)
        if former is not None:
            self.detach(former)
        node = FileNode(self._number(parent, key), parent, key, content)
        self._by_ino[node.ino] = node
        parent.children[key] = node
        return node

    def new_directory(
        self,
        parent: DirectoryNode | None,
        key: str,
        bucket_id: str,
        bucket_name: str,
        *,
        entry_key: str | None = None,
        view: View | None = None,
    ) -> DirectoryNode:
        """Make the node of a directory.

        *entry_key* is its key in the parent's children where a bucket, or a look at one, begins with it:
        then *key* is the prefix that it has in there.
        """
        own = (bucket_id or entry_key) if entry_key else key
        ino = ROOT_INO if parent is None else self._number(parent, own)
        node = DirectoryNode(ino, parent, key, bucket_id, bucket_name, entry_key=entry_key, view=view)
        self._by_ino[node.ino] = node
        if parent is not None:
            parent.children[_child_key(node)] = node
        return node

    def _number(self, parent: DirectoryNode, key: str) -> int:
        return self.numbers(parent)(key.encode("utf-8", "surrogatepass"))

    def numbers(self, parent: DirectoryNode) -> Callable[[bytes], int]:
        """Return what tells a free inode number for each key, which follows from the names on the way down.

        So a name that the kernel forgot, or that another mount of the same scope shows, has its number again:
        programs that take a new number for a new file (git, restic, borg) need not read it again.
        """
        known, begun = self._by_ino, hashlib.blake2b(b"%d/" % parent.ino, digest_size=8)
        from_bytes, copy = int.from_bytes, begun.copy

        def number(key: bytes) -> int:
            digest = copy()
            digest.update(key)
            number = from_bytes(digest.digest(), "big") & INO_MASK
            while number <= ROOT_INO or number in known:  # another's, perhaps an unlinked file's
                number = (number + 1) & INO_MASK
            return number

        return number

    # --- files without a node ----------------------------------------------------------------------------

    def run_of(self, parent: DirectoryNode, listing: Listing, chunk: Chunk) -> Run | None:
        """Return the run of a page; None for a page that is too long for one."""
        for run in reversed(parent.runs):
            if run.chunk is chunk:
                return run
        if len(chunk) > MOST_PLACES:
            return None
        self._last_run += 1
        return Run(parent, listing, chunk, self._last_run)

    def hold(self, run: Run, at: int, ino: int, lookups: int = 1) -> None:
        """Take note that the kernel was handed a file, which it did not hold, under a free number."""
        if not run.held:
            self._runs[run.base >> PLACE_BITS] = run
            run.parent.runs.append(run)
        run.put_in(at, ino, lookups)
        self._by_ino[ino] = run.base + at

    def pass_on(self, old: Run, was_at: int, new: Run, at: int) -> None:
        """Let a newer page tell of a file that the kernel holds."""
        ino, lookups = self._take_out(old, was_at)
        self.hold(new, at, ino, lookups)

    def detach_from(self, run: Run, at: int) -> None:
        """Take the name away from a file without a node: a newer page tells of another."""
        self.detach(self._make(run, at))

    def settle(self, run: Run) -> None:
        """Let go a page that is remembered for a few files alone."""
        if not run.is_worth_its_page:
            for at in list(run.places()):
                self._make(run, at).settle()

    def _at(self, number: int) -> FileNode:
        return self._make(self._runs[number >> PLACE_BITS], number & (MOST_PLACES - 1))

    def _make(self, run: Run, at: int) -> FileNode:
        """Make the node of a file that had none."""
        parent, key = run.parent, run.chunk.key(at).decode("utf-8", "surrogatepass")
        node = FileNode(run.inos[at], parent, key, None)
        node.point_to(run.chunk.rows, run.chunk.row(at))
        parent.children.setdefault(key, node)  # before its run goes, lest the directory went with that
        _, node.lookups = self._take_out(run, at)
        self._by_ino[node.ino] = node
        return node

    def _take_out(self, run: Run, at: int) -> tuple[int, int]:
        taken = run.take_out(at)
        if not run.held:
            del self._runs[run.base >> PLACE_BITS]
            run.parent.runs.remove(run)
        return taken

    def _forget_without_node(self, number: int, count: int) -> None:
        run, at = self._runs[number >> PLACE_BITS], number & (MOST_PLACES - 1)
        if run.lookups[at] > count:
            run.lookups[at] -= count
            return
        ino, _ = self._take_out(run, at)
        del self._by_ino[ino]
        if not run.held:
            self.drop_if_unused(run.parent)
        elif len(run.chunk) > SMALL and run.held == len(run.chunk) // KEPT_PART:
            self.settle(run)

    # --- names -------------------------------------------------------------------------------------------

    def detach(self, node: Node) -> None:
        """Take a node's name away; who holds it open goes on."""
        if node.gone:
            return
        node.gone = True
        if isinstance(node, FileNode) and node.working is not None:
            node.working.spool.leave_room()
        if node.parent is not None and node.parent.children.get(_child_key(node)) is node:
            del node.parent.children[_child_key(node)]
        self.drop_if_unused(node)

    def move(self, node: Node, parent: DirectoryNode, key: str) -> None:
        """Give a node another name."""
        assert node.parent is not None
        if node.parent.children.get(_child_key(node)) is node:
            del node.parent.children[_child_key(node)]
        node.parent, node.key = parent, key
        parent.children[key] = node

    def set_bucket(self, node: DirectoryNode, bucket_id: str, bucket_name: str) -> None:
        """Take note that a directory and all under it lie in another bucket now."""
        todo: list[Node] = [node]
        while todo:
            current = todo.pop()
            if isinstance(current, DirectoryNode):
                current.bucket_id, current.bucket_name = bucket_id, bucket_name
                todo.extend(current.children.values())

    def forget(self, ino: int, count: int) -> None:
        """Take back *count* lookups that the kernel forgets."""
        node = self._by_ino.get(ino)
        if isinstance(node, int):
            self._forget_without_node(node, count)
        elif node is not None:
            node.lookups -= count
            self.drop_if_unused(node)

    def drop_if_unused(self, node: Node) -> None:
        """Let a node go that neither the kernel, nor a handle, nor a child needs; then its parents."""
        while node.lookups <= 0 and node.handles == 0 and node.ino != ROOT_INO:
            if isinstance(node, DirectoryNode) and (node.children or node.runs):
                return
            if isinstance(node, FileNode) and node.working is not None and not node.gone:
                return  # not committed yet
            if self._by_ino.pop(node.ino, None) is None:
                return
            parent = node.parent
            if parent is None:
                return
            if parent.children.get(_child_key(node)) is node:
                del parent.children[_child_key(node)]
            node = parent


def _child_key(node: Node) -> str:
    """Return the key of a node among its parent's children."""
    if isinstance(node, DirectoryNode) and node.entry_key is not None:
        return node.entry_key
    return node.key
