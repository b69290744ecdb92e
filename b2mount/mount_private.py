"""Make the directories that hold private data, and warn of those that somebody else controls.

What is written and not yet in B2, what was read, names, and the control socket lie there. Whoever may write
to a directory on the way, or owns it, can put another one in its place. A directory that everybody may write
to and that is sticky, as /tmp is, does no harm above one of our own: nobody else can rename or remove that.

A way that others control is told of and used: it is what a container's volumes and shared scratch disks are
like, and who names it may know better. What is made below is for this user alone all the same.
"""

import contextlib
import errno
import grp
import logging
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from b2mount.core.errors import LocalStorageError

log = logging.getLogger("b2mount.mount")

MAX_LINKS = 40  # symbolic links on one path, as in Linux


def make_private(directory: Path, what: str) -> None:
    """Make *directory* (told of as *what*) and what leads to it, for this user alone.

    A part of the way that somebody else owns or may write to is told of in the log. Raises LocalStorageError
    where the directory cannot be made, or belongs to another user and we are not root.
    """
    doubts = []
    try:
        for step, status in _steps(directory.absolute()):
            why = _why_not_trusted(status)
            if why is not None:
                doubts.append(f"{step} {why}")
        status = directory.stat()
        if status.st_uid == os.geteuid():
            directory.chmod(0o700)
        elif os.geteuid() != 0:
            raise LocalStorageError(
                f"the {what} {directory} cannot be used: it belongs to {_user(status.st_uid)}"
            )
    except OSError as exc:
        raise LocalStorageError(f"the {what} {directory} cannot be used: {exc.strerror}") from exc
    if doubts:
        log.warning("the %s %s is not safe from others: %s", what, directory, "; ".join(doubts))


def _steps(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield each directory and symbolic link on an absolute path, from the root on; make what is missing."""
    at, left, links = Path("/"), list(reversed(path.parts[1:])), 0
    while left:
        part = left.pop()
        if part == "..":
            at = at.parent  # no link leads up to here: `at` holds none
            continue
        step = at / part
        status = _made(step)
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            target = step.readlink()
            left += [part for part in reversed(target.parts) if part != target.root]
            at = Path("/") if target.is_absolute() else at
        elif stat.S_ISDIR(status.st_mode):
            at = step
        else:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(step))
        yield step, status


def _made(step: Path) -> os.stat_result:
    try:
        return os.lstat(step)
    except FileNotFoundError:
        step.mkdir(0o700)
        return os.lstat(step)


def _why_not_trusted(status: os.stat_result) -> str | None:
    """Say who else controls a directory or link, as "belongs to ..."; None for nobody."""
    # Who owns the root has all of it; in a user namespace that may be nobody we know.
    if status.st_uid not in (0, os.geteuid(), os.lstat("/").st_uid):
        return f"belongs to {_user(status.st_uid)}"
    if stat.S_ISLNK(status.st_mode) or status.st_mode & stat.S_ISVTX:
        return None
    if status.st_mode & stat.S_IWOTH:
        return "can be written by every user"
    if status.st_mode & stat.S_IWGRP and not _has_no_others(status.st_gid):
        return f"can be written by the group {_group(status.st_gid)}"
    return None


def _has_no_others(gid: int) -> bool:
    """Say whether nobody but this user and root is in a group: many systems give each user one of his own."""
    members = {user.pw_name for user in pwd.getpwall() if user.pw_gid == gid}
    with contextlib.suppress(KeyError):
        members |= set(grp.getgrgid(gid).gr_mem)
    return members <= {_user(os.geteuid()), _user(0)}


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
