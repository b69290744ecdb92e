"""Let the kernel have more reads under way than its 12, where we are allowed to (as root).

Reads through the page cache are requests "in the background" to FUSE, and the 13th waits for one of the
others: far away that is what many readers at once are waiting for. libfuse leaves the number to the kernel,
which has a file for it in its file system of FUSE connections (Linux, Documentation/filesystems/fuse,
"Control filesystem"); that is reached through a mount that nobody sees, and that ends with its descriptor.
"""

import ctypes
import logging
import os
from pathlib import Path

from b2mount.fuse_readahead import device_of

log = logging.getLogger("b2mount.fuse")

AT_ONCE = 64  # as many as the downloads at once, and those that memory and the disk cache answer meanwhile

# Linux, include/uapi: these numbers hold on every architecture but Alpha; Python has no names for the calls.
FSOPEN, FSCONFIG, FSMOUNT = 430, 431, 432
CLOSE_ON_EXEC = 1
CREATE = 6


def raise_background(mountpoint: Path) -> None:
    """Set how many reads of a mount may be under way; without the right to, it stays at the kernel's 12."""
    device = device_of(mountpoint)
    if device is None:
        return
    connection = device.partition(":")[2]  # FUSE has no major numbers
    try:
        connections = open_connections()
        try:
            for name, value in (("max_background", AT_ONCE), ("congestion_threshold", AT_ONCE * 3 // 4)):
                file = os.open(f"{connection}/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=connections)
                try:
                    os.write(file, str(value).encode())
                finally:
                    os.close(file)
        finally:
            os.close(connections)
    except OSError as exc:
        log.debug("the kernel's reads at once stay as they are: %s", exc.strerror)


def open_connections() -> int:
    """Return a descriptor of the root of the kernel's FUSE connections, mounted nowhere."""
    made = _call(FSOPEN, b"fusectl", CLOSE_ON_EXEC)
    try:
        _call(FSCONFIG, made, CREATE, None, None, 0)
        return _call(FSMOUNT, made, CLOSE_ON_EXEC, 0)
    finally:
        os.close(made)


def _call(number: int, *arguments: object) -> int:
    """Make a system call. Raises OSError."""
    result = int(ctypes.CDLL(None, use_errno=True).syscall(number, *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
