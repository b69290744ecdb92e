"""Bytes between buffers and a file on the local disk: past the page cache where that costs less.

What goes to the kernel's pages of the mounted file need not lie in the kernel's pages of the cache file too:
copying it there, and making the pages, took a sixth of the processor's time. What is in the page cache
anyhow is taken from there. Where a file system cannot do without the page cache, it is used. Knows nothing
of blocks.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

DIRECT_LEAST = 1 << 20  # bytes; below, waiting for the disk costs more than a copy
PAGE = 4096  # bytes; places, lengths and addresses past the page cache are multiples of it
# What kernels and file systems say that cannot do the one or the other.
_CANNOT = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)


def read(path: Path, offset: int, buffer: memoryview) -> bool:
    """Fill *buffer*; False where the file ends before. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        filled = 0
        if len(buffer) >= DIRECT_LEAST:
            filled = _read_cached(fd, offset, buffer) // PAGE * PAGE
            filled = _direct(fd, os.preadv, offset, buffer, filled)
        while filled < len(buffer):
            count = os.preadv(fd, [buffer[filled:]], offset + filled)
            if count == 0:
                return False
            filled += count
        return True
    finally:
        os.close(fd)


def write(path: Path, offset: int, data: memoryview, *, direct: bool) -> None:
    """Write *data*; *direct*: to the disk itself, as far as that goes. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        done = _direct(fd, os.pwritev, offset, data, 0) if direct else 0
        while done < len(data):
            done += os.pwrite(fd, data[done:], offset + done)
    finally:
        os.close(fd)


def _read_cached(fd: int, offset: int, buffer: memoryview) -> int:
    """Take what is in the page cache; return how many bytes, up to the first that is not, were there."""
    filled = 0
    while filled < len(buffer):
        try:
            count = os.preadv(fd, [buffer[filled:]], offset + filled, os.RWF_NOWAIT)
        except BlockingIOError:
            break
        except OSError as exc:
            if exc.errno not in _CANNOT:
                raise
            break
        if count == 0:
            break
        filled += count
    return filled


def _direct(
    fd: int, move: Callable[[int, list[memoryview], int], int], offset: int, buffer: memoryview, done: int
) -> int:
    """Move whole pages from *done* on past the page cache; return how far that went."""
    end = len(buffer) // PAGE * PAGE
    if done >= end or offset % PAGE:
        return done
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT)
        while done < end:
            count = move(fd, [buffer[done:end]], offset + done)
            done += count
            if count == 0 or count % PAGE:
                break
    except OSError as exc:
        if exc.errno not in _CANNOT:
            raise
    finally:
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETFL, flags)
    return done
