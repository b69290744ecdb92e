"""Bytes between buffers and a file on the local disk: past the page cache where that costs less.

What goes to the kernel's pages of the mounted file need not lie in the kernel's pages of the cache file too:
copying it there, and making the pages, took a sixth of the processor's time. What is in the page cache
anyhow is taken from there. Where a file system cannot do without the page cache, it is used. Knows nothing
of blocks.
"""

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
from collections.abc import Callable
from pathlib import Path

DIRECT_LEAST = 1 << 20  # bytes; below, waiting for the disk costs more than a copy
PAGE = 4096  # bytes; places, lengths and addresses past the page cache are multiples of it
# What kernels and file systems say that cannot do the one or the other.
_CANNOT = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)

_libc = ctypes.CDLL(None)
_libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)


def read(path: Path, offset: int, buffer: memoryview) -> bool:
    """Fill *buffer*; False where the file ends before. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        filled = 0
        if len(buffer) >= DIRECT_LEAST and not _is_cached(fd, offset, len(buffer)):
            filled = _direct(fd, os.preadv, offset, buffer)
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
        done = _direct(fd, os.pwritev, offset, data) if direct else 0
        while done < len(data):
            done += os.pwrite(fd, data[done:], offset + done)
    finally:
        os.close(fd)


def _is_cached(fd: int, offset: int, length: int) -> bool:
    """Say whether a range of a file is in the page cache.

    Asked of mincore(2): a read that is not to wait (RWF_NOWAIT) makes Linux read the range in nevertheless.
    """
    if offset % mmap.ALLOCATIONGRANULARITY:
        return False
    here = ctypes.create_string_buffer(-(-length // mmap.PAGESIZE))
    try:  # private and writable: ctypes asks for the latter, and nothing is written
        area = mmap.mmap(fd, length, flags=mmap.MAP_PRIVATE, offset=offset)
    except (OSError, ValueError):  # ValueError: the file is shorter
        return False
    first = ctypes.c_char.from_buffer(area)
    refused = _libc.mincore(ctypes.addressof(first), length, here)
    del first
    area.close()
    return not refused and all(page & 1 for page in here.raw)


def _direct(
    fd: int, move: Callable[[int, list[memoryview], int], int], offset: int, buffer: memoryview
) -> int:
    """Move whole pages past the page cache; return how many bytes."""
    done, end = 0, len(buffer) // PAGE * PAGE
    if offset % PAGE:
        return 0
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
