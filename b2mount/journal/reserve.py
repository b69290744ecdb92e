"""Room kept free for the journal on the disk that it shares with the spool.

Once spool files fill that disk, only sending them makes room again; and sending has to be written down in
the journal. So a file holds some space for that, and gives it back bit by bit when there is no other. Knows
nothing of what is written with it.
"""

import contextlib
import os
from pathlib import Path

SIZE = 8 << 20  # bytes; a guess: the write-ahead log grows to 4 MB before SQLite uses it again
STEP = 1 << 20  # bytes given at once


class Reserve:
    """A file of no content. Its calls block: make them in a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = 0

    @property
    def is_full(self) -> bool:
        """Whether the disk had all that is to be held."""
        return self._size == SIZE

    def fill(self) -> None:
        """Hold `SIZE` bytes again, if the disk has them; else what is held already."""
        if self.is_full:
            return
        with contextlib.suppress(OSError):
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, SIZE)
                self._size = SIZE
            except OSError:
                os.ftruncate(fd, self._size)  # what was allocated before the disk was full
            finally:
                os.close(fd)

    def give(self) -> bool:
        """Free some of it; False where nothing is left."""
        if not self._size:
            return False
        try:
            os.truncate(self._path, max(self._size - STEP, 0))
        except OSError:
            self._size = 0
            return False
        self._size = max(self._size - STEP, 0)
        return True
