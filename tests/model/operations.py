"""File operations as plain data, and a side that carries them out: the mount and its model run the same code.

An operation is a tuple of a word and its arguments, so that a sequence can be printed, stored as JSON, cut
down and run again. What it does depends on nothing else than the directory and the handles of its side.
"""

import errno
import os
import random
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

Step = tuple[Any, ...]  # a word and its arguments, all of them JSON
Outcome = Any  # what the operation returned, or the name of its errno

ANCIENT_NS = 1_600_000_000 * 10**9  # times that the tests set are older, times of the clock are newer
MODES = {
    "r": os.O_RDONLY,
    "w": os.O_WRONLY,
    "rw": os.O_RDWR,
    "create": os.O_RDWR | os.O_CREAT,
    "new": os.O_RDWR | os.O_CREAT | os.O_EXCL,
    "trunc": os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    "append": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "sync": os.O_RDWR | os.O_CREAT | os.O_SYNC,
}


def content(seed: int, size: int) -> bytes:
    """Return bytes that nothing else in a run has, made from *seed*."""
    return random.Random(seed).randbytes(size)


class Side:
    """One directory, and the handles open in it by slot."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.handles: dict[int, int] = {}

    def path(self, name: str) -> str:
        return os.path.join(self.root, name)

    def run(self, step: Step) -> Outcome:
        """Carry *step* out; return its result, or the name of the errno it failed with."""
        work: Callable[..., Outcome] = getattr(self, f"do_{step[0]}")
        try:
            return work(*step[1:])
        except OSError as exc:
            return errno.errorcode[exc.errno or 0]

    def close_all(self) -> None:
        """Close every handle, whatever it says: the mount behind it may be dead."""
        for fd in self.handles.values():
            try:
                os.close(fd)
            except OSError:
                continue  # the descriptor is gone all the same
        self.handles.clear()

    # --- whole files -------------------------------------------------------------------------------------

    def do_write(self, name: str, seed: int, size: int) -> Outcome:
        fd = os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            return write_all(fd, content(seed, size))
        finally:
            os.close(fd)

    def do_patch(self, name: str, offset: int, seed: int, size: int) -> Outcome:
        fd = os.open(self.path(name), os.O_RDWR)
        try:
            os.lseek(fd, offset, os.SEEK_SET)
            return write_all(fd, content(seed, size))
        finally:
            os.close(fd)

    def do_append(self, name: str, seed: int, size: int) -> Outcome:
        fd = os.open(self.path(name), os.O_WRONLY | os.O_APPEND)
        try:
            return write_all(fd, content(seed, size))
        finally:
            os.close(fd)

    def do_truncate(self, name: str, size: int) -> Outcome:
        os.truncate(self.path(name), size)

    def do_read(self, name: str) -> Outcome:
        with open(self.path(name), "rb") as file:
            return file.read()

    # --- names -------------------------------------------------------------------------------------------

    def do_unlink(self, name: str) -> Outcome:
        os.unlink(self.path(name))

    def do_rename(self, old: str, new: str) -> Outcome:
        os.rename(self.path(old), self.path(new))

    def do_mkdir(self, name: str) -> Outcome:
        os.mkdir(self.path(name))

    def do_rmdir(self, name: str) -> Outcome:
        os.rmdir(self.path(name))

    def do_symlink(self, target: str, name: str) -> Outcome:
        os.symlink(target, self.path(name))

    def do_list(self, name: str) -> Outcome:
        return sorted(os.listdir(self.path(name)))

    # --- attributes --------------------------------------------------------------------------------------

    def do_stat(self, name: str) -> Outcome:
        return facts(os.lstat(self.path(name)))

    def do_readlink(self, name: str) -> Outcome:
        return os.readlink(self.path(name))

    def do_chmod(self, name: str, mode: int) -> Outcome:
        os.chmod(self.path(name), mode)

    def do_utime(self, name: str, mtime_ns: int) -> Outcome:
        os.utime(self.path(name), ns=(mtime_ns, mtime_ns), follow_symlinks=False)

    def do_setxattr(self, name: str, key: str, value: str) -> Outcome:
        os.setxattr(self.path(name), f"user.{key}", value.encode(), follow_symlinks=False)

    def do_removexattr(self, name: str, key: str) -> Outcome:
        os.removexattr(self.path(name), f"user.{key}", follow_symlinks=False)

    # --- handles -----------------------------------------------------------------------------------------

    def do_open(self, slot: int, name: str, mode: str) -> Outcome:
        if slot in self.handles:
            return "in use"
        self.handles[slot] = os.open(self.path(name), MODES[mode], 0o640)
        return "open"

    def do_hwrite(self, slot: int, offset: int, seed: int, size: int) -> Outcome:
        fd = self._handle(slot)
        os.lseek(fd, offset, os.SEEK_SET)
        return write_all(fd, content(seed, size))

    def do_hread(self, slot: int, offset: int, size: int) -> Outcome:
        return os.pread(self._handle(slot), size, offset)

    def do_htruncate(self, slot: int, size: int) -> Outcome:
        os.ftruncate(self._handle(slot), size)

    def do_hstat(self, slot: int) -> Outcome:
        return facts(os.fstat(self._handle(slot)))

    def do_hchmod(self, slot: int, mode: int) -> Outcome:
        os.fchmod(self._handle(slot), mode)

    def do_fsync(self, slot: int) -> Outcome:
        os.fsync(self._handle(slot))

    def do_close(self, slot: int) -> Outcome:
        fd = self._handle(slot)
        del self.handles[slot]
        os.close(fd)

    def _handle(self, slot: int) -> int:
        if slot not in self.handles:
            raise OSError(errno.EBADF, "no such slot")
        return self.handles[slot]


def write_all(fd: int, data: bytes) -> int:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return len(data)


def facts(info: os.stat_result) -> list[Any]:
    """Return what both sides must agree on: type and mode, size, and a time that was set on purpose."""
    is_file = stat.S_ISREG(info.st_mode)
    when = info.st_mtime_ns if info.st_mtime_ns < ANCIENT_NS else "now"
    is_directory = stat.S_ISDIR(info.st_mode)
    return [oct(info.st_mode), info.st_size if is_file else 0, None if is_directory else when]


def user_xattrs(path: str) -> dict[str, bytes]:
    """Return the extended attributes that somebody set, without those that tell what B2 holds."""
    names = os.listxattr(path, follow_symlinks=False)
    return {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in sorted(names)
        if name.startswith("user.") and not name.startswith(("user.b2.", "user.b2mount."))
    }


def snapshot(root: Path) -> dict[str, tuple[Any, ...]]:
    """Return everything under *root* by relative path: numbers, content or target, extended attributes."""
    found: dict[str, tuple[Any, ...]] = {}
    todo = [""]
    while todo:
        directory = todo.pop()
        for entry in sorted(os.listdir(os.path.join(root, directory))):
            name = os.path.join(directory, entry)
            path = os.path.join(root, name)
            info = os.lstat(path)
            body: Any = None
            if stat.S_ISDIR(info.st_mode):
                todo.append(name)
            elif stat.S_ISLNK(info.st_mode):
                body = os.readlink(path)
            elif stat.S_ISREG(info.st_mode):
                with open(path, "rb") as file:
                    body = file.read()
            xattrs = {} if stat.S_ISLNK(info.st_mode) else user_xattrs(path)
            found[name] = (facts(info), body, xattrs)
    return found
