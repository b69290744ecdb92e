"""How much of the local disk the spool may take, and how much it takes.

Counted are the bytes that were written and are still here. Knows nothing of files or of what makes room.
"""

import os
from pathlib import Path

import trio

LEAST = 4 << 30  # bytes; enough for a few large files at once; a guess


class Room:
    """The count, and news of it. `progress` counts all that was sent or let go."""

    def __init__(self, limit: int | None = None) -> None:
        """Begin with nothing held; *limit* in bytes, None for none."""
        self.limit = limit
        self.used = 0
        self.progress = 0
        self.moved = trio.Event()  # renewed with each news

    def change(self, by: int) -> None:
        """Take note of bytes that came or went."""
        self.used += by
        if by < 0:
            self.tell()

    def tell(self) -> None:
        """Take note that something was sent."""
        self.progress += 1
        self.moved.set()
        self.moved = trio.Event()

    def lacks(self, size: int) -> int:
        """Return how many bytes must go before *size* more fit; what is large fits into half of the limit."""
        if self.limit is None:
            return 0
        return max(self.used + min(size, self.limit // 2) - self.limit, 0)

    @property
    def is_tight(self) -> bool:
        """Whether it is time to send what can be sent."""
        return self.limit is not None and self.used > self.limit // 4 * 3


def default_limit(directory: Path) -> int:
    """Return half of what is free on a directory's disk; more where that is little, and never nearly all."""
    stat = os.statvfs(directory)
    free = stat.f_bavail * stat.f_frsize
    return max(free // 2, min(free // 10 * 9, LEAST))
