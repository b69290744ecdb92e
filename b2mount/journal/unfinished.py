"""A large file of ours that is on its way to B2: which parts it is planned to have, and which B2 has.

The journal keeps this beside the operations. So what an earlier life began is gone on with, part by part, or
else cancelled; and bytes may leave the spool once B2 has the part that holds them. Knows nothing of how parts
are sent.
"""

from collections.abc import Iterator, Mapping

import trio

from b2mount.core.parts import CopyPart, UploadPart
from b2mount.journal.sums import RunningSum
from b2mount.store.store import FileVersion


class Part:
    """One planned part: bytes [start, end) of the file, uploaded, or copied from the source version."""

    __slots__ = ("away", "copied", "end", "moved", "scope", "sha1", "start", "writes")

    def __init__(self, start: int, end: int, *, copied: bool, sha1: str | None = None) -> None:
        self.start = start
        self.end = end
        self.copied = copied
        self.sha1 = sha1  # as B2 has the part; None: it has not, or other bytes
        self.away = False  # B2 has it, and the spool no longer
        self.writes = 0  # how often its bytes were written anew
        self.moved = 0  # bytes of the attempt under way that are sent
        self.scope: trio.CancelScope | None = None  # of the attempt under way

    @property
    def size(self) -> int:
        return self.end - self.start


class LargeFile:
    """One large file between b2_start_large_file and the end of what needs it."""

    __slots__ = (
        "away_bytes",
        "bucket_id",
        "changed",
        "content_type",
        "doubtful",
        "draft_id",
        "dropped",
        "file_id",
        "id",
        "info",
        "lock",
        "looked",
        "name",
        "parts",
        "queued",
        "removed",
        "source_id",
        "streamed",
        "total",
        "version",
    )

    def __init__(
        self,
        large_id: int,
        draft_id: int,
        bucket_id: str,
        name: str,
        *,
        content_type: str,
        info: Mapping[str, str],
        source_id: str | None,
        streamed: bool = False,
    ) -> None:
        """Plan a large file for a draft; *source_id* is the version that parts are copied from."""
        self.id = large_id  # of the journal; B2's is `file_id`
        self.draft_id = draft_id
        self.bucket_id = bucket_id
        self.name = name
        self.content_type = content_type
        self.info = dict(info)
        self.source_id = source_id
        self.streamed = streamed  # begun before its writer had closed, so its file info is not the last word
        self.parts: list[Part] = []
        self.away_bytes = 0  # that B2 alone has
        self.file_id: str | None = None
        self.doubtful = False  # B2 was asked to begin it, and whether it did is not known
        self.looked = False  # in this life: what B2 has is known
        self.queued = 0  # parts given to who sends them
        self.total: RunningSum | None = None  # of uploads alone; None: not taken, or not right any more
        self.version: FileVersion | None = None  # what B2 made of it
        self.removed = False  # that version is deleted again
        self.dropped = False
        self.lock = trio.Lock()  # held by who sends parts
        self.changed = trio.Event()  # renewed each time there is news for who sends

    def tell(self) -> None:
        """Wake who sends the parts."""
        self.changed.set()
        self.changed = trio.Event()

    def plan(self, parts: Iterator[CopyPart | UploadPart] | tuple[CopyPart | UploadPart, ...]) -> list[int]:
        """Append planned parts; return their numbers."""
        first = len(self.parts) + 1
        self.parts += (Part(part.start, part.end, copied=isinstance(part, CopyPart)) for part in parts)
        return list(range(first, len(self.parts) + 1))

    @property
    def planned_to(self) -> int:
        """Where the planned parts end."""
        return self.parts[-1].end if self.parts else 0

    @property
    def has_all(self) -> bool:
        """Whether B2 has every planned part."""
        return all(part.sha1 is not None for part in self.parts)

    def set_away(self, number: int, away: bool) -> None:
        """Take note whether the spool has let the bytes of a part go."""
        part = self.parts[number - 1]
        self.away_bytes += (away - part.away) * part.size
        part.away = away

    @property
    def sent_bytes(self) -> int:
        """How many bytes B2 has, with those under way."""
        return sum(part.size if part.sha1 is not None else part.moved for part in self.parts)

    def overlapping(self, start: int, end: int) -> Iterator[tuple[int, Part]]:
        """Yield number and part of the planned parts that bytes [start, end) touch."""
        low, high = 0, len(self.parts)
        while low < high:  # the first that ends after start
            middle = (low + high) // 2
            if self.parts[middle].end <= start:
                low = middle + 1
            else:
                high = middle
        for index in range(low, len(self.parts)):
            if self.parts[index].start >= end:
                return
            yield index + 1, self.parts[index]

    def is_away(self, start: int, end: int) -> bool:
        """Say whether any of [start, end) has left the spool."""
        return self.away_bytes > 0 and any(part.away for _, part in self.overlapping(start, end))

    def may_change(self, start: int, end: int) -> bool:
        """Say whether bytes can be written anew: no part is copied or away that holds any of them."""
        return not any(part.away or part.copied for _, part in self.overlapping(start, end))

    def touch(self, start: int, end: int) -> list[int]:
        """Take note that bytes were written anew; return the numbers of parts that B2 has no longer."""
        lost = []
        if self.total is not None:
            self.total.give_up()
            self.total = None
        for number, part in self.overlapping(start, end):
            part.writes += 1
            if part.scope is not None:
                part.scope.cancel()
            if part.sha1 is not None:
                part.sha1 = None
                lost.append(number)
        return lost
