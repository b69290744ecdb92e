"""What this mount changed and listings may not tell yet: it wins over them until they must know it.

An entry is pending while the journal still has operations for its name (for a directory: under it). Once all
are done, it is handed to the listings as soon as no list call is under way that began before. Knows names;
knows neither inodes nor the kernel.
"""

import enum
import itertools
from collections import Counter, deque
from collections.abc import Callable, Mapping

import trio

from b2mount.cache.listings import Listings
from b2mount.core.names import PLACEHOLDER
from b2mount.journal.drafts import Draft
from b2mount.journal.ops import OpQueue, parents
from b2mount.store.store import Action, FileVersion

REMEMBERED = 100_000  # own changes kept for a key that can ask for none; a guess: some 50 MB


class Mark(enum.Enum):
    """What a name is, where it is not a file with content."""

    GONE = "gone"
    DIRECTORY = "directory"


Fact = FileVersion | Draft | Mark

_NOTHING: Mapping[str, Fact] = {}


class Overlay:
    """Own changes by bucket and name; the name of a directory ends in `/`."""

    def __init__(
        self,
        queue: OpQueue,
        listings: Listings,
        *,
        keeps: Callable[[], bool],
        remember_gone: Callable[[str, str, bool], None],
        is_told: Callable[[str, str], None],
    ) -> None:
        """*keeps* says whether nobody else can tell what was made here, since the key cannot ask.

        *remember_gone* is told of each directory whether it was removed here and may show in B2 still,
        *is_told* of each file that B2 holds once the listings tell of it.
        """
        self._queue = queue
        self._keeps = keeps
        self._remember_gone = remember_gone
        self._is_told = is_told
        self._listings = listings
        listings.after_call = self.purge  # what had to wait for the call's end
        self._by_directory: dict[tuple[str, str], dict[str, Fact]] = {}
        self._showing: Counter[tuple[str, str]] = Counter()  # how many names of each show, placeholders apart
        self._settled: deque[tuple[int, float, str, str, Fact, bool]] = deque()
        self._latest: dict[tuple[str, str], int] = {}  # of what is settled of a name: a mark is like another
        self._numbers = itertools.count()

    def get(self, bucket_id: str, name: str) -> Fact | None:
        """Return what *name* is by own changes, None where they say nothing."""
        directory, key = _split(name)
        fact = self._by_directory.get((bucket_id, directory), _NOTHING).get(key)
        if isinstance(fact, Draft) and fact.result is not None:
            return fact.result
        return fact

    def under(self, bucket_id: str, directory: str) -> Mapping[str, Fact]:
        """Return own changes of the names in a directory, by key."""
        return self._by_directory.get((bucket_id, directory), _NOTHING)

    def shows_any(self, bucket_id: str, directory: str) -> bool:
        """Say whether any name that shows in a directory is there by own changes."""
        marker = self.under(bucket_id, directory).get(PLACEHOLDER)
        return self._showing.get((bucket_id, directory), 0) > 0 or (
            marker is not None and shows(PLACEHOLDER, marker)
        )

    def _put(self, bucket_id: str, directory: str, key: str, fact: Fact | None) -> None:
        """Let a key be *fact*, or nothing be known of it."""
        place = (bucket_id, directory)
        facts = self._by_directory.setdefault(place, {})
        if key != PLACEHOLDER:
            before = facts.get(key)
            now_showing = _is_there(fact) - _is_there(before)
            if now_showing:
                self._showing[place] += now_showing
        if fact is not None:
            facts[key] = fact
        else:
            facts.pop(key, None)
            if not facts:
                del self._by_directory[place]
                del self._showing[place]

    def all_under(self, bucket_id: str, prefix: str) -> list[tuple[str, Fact]]:
        """Return own changes of all files under a prefix, at any depth, by name."""
        return [
            (directory + key, self.get(bucket_id, directory + key) or fact)
            for (bucket, directory), facts in self._by_directory.items()
            if bucket == bucket_id and directory.startswith(prefix)
            for key, fact in facts.items()
            if not key.endswith("/")
        ]

    def directories_under(self, bucket_id: str, prefix: str) -> list[str]:
        """Return the directories made here under a prefix, at any depth."""
        return [
            directory + key
            for (bucket, directory), facts in self._by_directory.items()
            if bucket == bucket_id and directory.startswith(prefix)
            for key, fact in facts.items()
            if key.endswith("/") and fact is Mark.DIRECTORY
        ]

    def set(self, bucket_id: str, name: str, fact: Fact) -> None:
        """Let *name* be *fact* from now on. Call before or after queueing the operations, then `settle`."""
        directory, key = _split(name)
        self._put(bucket_id, directory, key, fact)
        if name.endswith("/"):
            self._remember_gone(bucket_id, name, fact is Mark.GONE)

    def drop(self, bucket_id: str, name: str) -> None:
        """Say nothing of *name* any more, nor that a directory above it is gone: B2 refused the change."""
        for current in (name, *parents(name)):
            directory, key = _split(current)
            facts = self.under(bucket_id, directory)
            if current == name or facts.get(key) is Mark.GONE:
                self._put(bucket_id, directory, key, None)
                self._remember_gone(bucket_id, current, False)

    def settle(self, bucket_id: str, name: str, *, doubtful: bool = False) -> None:
        """Take note that an operation on *name* is done, or that none was needed.

        What is *doubtful* may have been changed by others since: it is asked anew.
        """
        now = trio.current_time()
        if self._queue.tail(bucket_id, name) is None:
            self._settle_one(bucket_id, name, now, doubtful)
        for directory in parents(name):
            if directory and not self._queue.pending_below(bucket_id, directory):
                self._settle_one(bucket_id, directory, now, doubtful)
        self.purge()

    def _settle_one(self, bucket_id: str, name: str, now: float, doubtful: bool) -> None:
        fact = self.get(bucket_id, name)
        if fact is not None and not isinstance(fact, Draft):
            self.set(bucket_id, name, fact)  # a sent draft becomes its version
            self._latest[bucket_id, name] = number = next(self._numbers)
            self._settled.append((number, now, bucket_id, name, fact, doubtful))

    def purge(self) -> None:
        """Hand over to the listings what every answer still to come will tell."""
        oldest = self._listings.oldest_call()
        spared = REMEMBERED if self._keeps() else 0
        while len(self._settled) > spared and self._settled[0][1] < oldest:
            number, since, bucket_id, name, fact, doubtful = self._settled.popleft()
            if self._latest.get((bucket_id, name)) != number:
                continue  # changed and settled again since: an answer still to come may not tell of that
            del self._latest[bucket_id, name]
            directory, key = _split(name)
            facts = self.under(bucket_id, directory)
            if facts.get(key) is fact and not self._is_pending(bucket_id, name):
                self._put(bucket_id, directory, key, None)
                self._remember_gone(bucket_id, name, False)
            elif name.endswith("/"):
                continue  # changed again since; B2 tells nothing of a directory by itself
            row = _as_row(name, fact)
            self._listings.apply(bucket_id, name, row, since=since, doubtful=doubtful)
            if isinstance(fact, FileVersion):
                self._is_told(bucket_id, name)

    def _is_pending(self, bucket_id: str, name: str) -> bool:
        if name.endswith("/"):
            return self._queue.pending_below(bucket_id, name) > 0
        return self._queue.tail(bucket_id, name) is not None


def _is_there(fact: Fact | None) -> bool:
    return fact is not None and fact is not Mark.GONE


def shows(key: str, fact: Fact) -> bool:
    """Say whether an own change is a name that shows: placeholders do not, unless they have content."""
    if isinstance(fact, Mark):
        return fact is not Mark.GONE
    return key != PLACEHOLDER or fact.size > 0


def _split(name: str) -> tuple[str, str]:
    """Split a name into its directory's prefix and its key there."""
    cut = name.rfind("/", 0, len(name) - 1) + 1
    return name[:cut], name[cut:]


def _as_row(name: str, fact: Fact) -> FileVersion | None:
    if fact is Mark.GONE:
        return None
    if fact is Mark.DIRECTORY:
        return FileVersion(name=name, file_id="", size=0, uploaded_ms=0, action=Action.FOLDER)
    assert isinstance(fact, FileVersion)
    return fact
