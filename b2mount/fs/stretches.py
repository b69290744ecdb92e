"""Files of a page that follow one another and of which nothing but name, size and times need be told.

Most entries of vast directories are such, so they take no node (fs/runs.py) and as few steps as Python lets
them. A name that is in any way special ends the stretch; what follows is readdir.py's matter, name by name.
"""

from collections.abc import Callable, Iterator, Mapping

from b2mount.cache.listing import LIVE, Chunk, Listing
from b2mount.core.views import VERSIONS_ROOT
from b2mount.fs.nodes import DirectoryNode, Nodes
from b2mount.fs.overlay import Fact
from b2mount.fs.runs import Run

# keys, of files and of directories, that are or may be shown under another name
WHOLE_ESCAPED = frozenset(
    name + slash for name in (b"", b".", b"..", VERSIONS_ROOT.encode()) for slash in (b"", b"/")
)
SLASH = ord("/")
NS_PER_MS = 1_000_000

# name, inode number, size, mtime and ctime in nanoseconds, the offset that follows
PlainFile = tuple[bytes, int, int, int, int, int]


class Stretch:
    """Plain files of one directory, from one place on. Iterate once, without an await in between.

    Who asks for the next file has handed the one before to the kernel, which counts as a lookup.
    """

    __slots__ = (
        "_chunk",
        "_facts",
        "_listing",
        "_nodes",
        "_on_half",
        "_others",
        "_run",
        "at",
        "directory",
        "until",
    )

    def __init__(
        self,
        nodes: Nodes,
        directory: DirectoryNode,
        listing: Listing,
        chunk: Chunk,
        at: int,
        *,
        facts: Mapping[str, Fact],
        until: float,
        on_half: Callable[[], None],
    ) -> None:
        """Begin at *at* in *chunk*; own changes are *facts*; *on_half* is called when half of it is read."""
        self.directory = directory
        self.until = until  # when to believe it no more; trio's clock
        self.at = at  # of the file that was told last, or of the special name that ended it
        self._nodes = nodes
        self._listing = listing
        self._chunk = chunk
        self._facts = facts
        self._on_half = on_half
        self._run = nodes.run_of(directory, listing, chunk)
        self._others: list[Run] = []  # of other listings of the directory
        if self._run is not None and directory.runs:
            if not self._run.held:
                self._take_over(self._run)
            self._others = self._overlapping(self._run)

    def __iter__(self) -> Iterator[PlainFile]:
        run, others, chunk, listing, facts = self._run, self._others, self._chunk, self._listing, self._facts
        if run is None:
            return
        rows, state, children = chunk.rows, chunk.state, self.directory.children
        key, row_of, mtime_ms = chunk.key, chunk.row, rows.plain_mtime_ms
        sizes, uploaded_ms = rows.sizes, rows.uploaded_ms
        inos, lookups, hold = run.inos, run.lookups, self._nodes.hold
        number, has_added, first = self._nodes.numbers(self.directory), listing.has_added, chunk.first
        at, count, half = self.at, len(chunk), len(chunk) // 2
        following: bytes | None = key(at)
        while at < count:
            self.at = at
            raw = following
            assert raw is not None
            following = key(at + 1) if at + 1 < count else None
            if (state is not None and state[at] != LIVE) or raw in WHOLE_ESCAPED or raw[-1] == SLASH:
                return
            if (facts and is_among(facts, raw)) or (children and raw.decode() in children):
                return
            if (following is None or has_added or following.startswith(raw)) and listing.twin_of(
                first + at, raw
            ) is not False:
                return
            row = row_of(at)
            modified_ms = mtime_ms(row)
            if modified_ms is None:  # it has attributes of its own
                return
            if others and not lookups[at] and any(other.find(raw) is not None for other in others):
                return
            ino = inos[at] or number(raw)
            if at >= half:
                half = count
                self._on_half()
            yield (
                raw,
                ino,
                sizes[row],
                modified_ms * NS_PER_MS,
                uploaded_ms[row] * NS_PER_MS,
                first + at + 1,
            )
            if lookups[at]:
                lookups[at] += 1
            else:
                hold(run, at, ino)
            at += 1
        self.at = at

    def _overlapping(self, run: Run) -> list[Run]:
        """Return the runs of other listings that may have names of this one."""
        return [
            other
            for other in self.directory.runs
            if other.listing is not self._listing
            and other.first_key <= run.last_key
            and other.last_key >= run.first_key
        ]

    def _take_over(self, run: Run) -> None:
        """Let a page tell of the files that the kernel holds by older listings of the directory.

        Those of which it tells another version lose their names.
        """
        chunk, facts, nodes = run.chunk, self._facts, self._nodes
        for old in self._overlapping(run):
            guess = 0
            for was_at in list(old.places()):
                key = old.chunk.key(was_at)
                at = guess if guess < len(chunk) and chunk.key(guess) == key else chunk.find(key)
                if at is None:
                    continue
                guess = at + 1
                if not chunk.is_live(at) or (facts and is_among(facts, key)):
                    continue
                if _file_id(old.chunk, was_at) == _file_id(chunk, at):
                    nodes.pass_on(old, was_at, run, at)
                else:
                    nodes.detach_from(old, was_at)


def _file_id(chunk: Chunk, at: int) -> str:
    return chunk.rows.file_id(chunk.row(at))


def is_among(facts: Mapping[str, Fact], raw: bytes) -> bool:
    """Say whether own changes tell anything of a key, or of a directory of the same name."""
    key = raw.decode("utf-8", "surrogatepass")
    return key in facts or key + "/" in facts
