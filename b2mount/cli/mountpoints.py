"""What lies at a directory that is, was or will be a mount point.

Asks the kernel, never the program that serves a mount.
"""

import errno
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from b2mount.cli.report import Failure, say_warning

MOUNT_TYPE = "fuse.b2mount"
DETACH_SECONDS = 60.0  # a guess: detaching a dead mount takes milliseconds
CLEARED_AT_MOST = 16  # dead mounts, one on the other; more are no accident


@dataclass(frozen=True, slots=True)
class Mount:
    """One row of the kernel's table of mounts."""

    mountpoint: str
    kind: str
    source: str
    user_id: int | None = None  # who mounted, of a FUSE mount


def read_mounts() -> list[Mount]:
    """Read the table of mounts, oldest first. Source: proc(5), /proc/PID/mountinfo."""
    return parse_mountinfo(Path("/proc/self/mountinfo").read_text(errors="surrogateescape"))


def parse_mountinfo(text: str) -> list[Mount]:
    """Read rows of mountinfo; octal escapes become the characters they stand for."""
    mounts = []
    for line in text.split("\n")[:-1]:  # not splitlines(): a path may hold what that splits at
        before, _, after = line.partition(" - ")
        kind, source, *options = after.split(" ")
        mounted_by = re.search(r"(?:^|,)user_id=(\d+)", options[0] if options else "")
        user_id = int(mounted_by[1]) if mounted_by else None
        mounts.append(Mount(_unescape(before.split(" ")[4]), kind, _unescape(source), user_id))
    return mounts


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def find_mounts_of(user_id: int) -> list[Mount]:
    """Return the b2mount mounts that a user made, oldest first."""
    return [mount for mount in read_mounts() if mount.kind == MOUNT_TYPE and mount.user_id == user_id]


def find_our_mount(mountpoint: Path) -> Mount | None:
    """Return the b2mount mount at exactly this directory, if there is one.

    Does not touch the directory while it is a mount point: a mount that waits for B2 may answer late.
    """
    parent = os.path.realpath(mountpoint.parent)
    matches = _mounts_at(os.path.normpath(Path(parent, mountpoint.name)))
    if not matches:  # the directory itself may be a symbolic link to a mount point
        matches = _mounts_at(os.path.realpath(mountpoint))
    return matches[-1] if matches and matches[-1].kind == MOUNT_TYPE else None


def find_holder(path: Path) -> Mount | None:
    """Return the mount, of whatever kind, that a path lies in."""
    where = Path(os.path.realpath(path))
    holding = [mount for mount in read_mounts() if where.is_relative_to(mount.mountpoint)]
    return max(holding, key=lambda mount: len(mount.mountpoint), default=None)


def _mounts_at(where: str) -> list[Mount]:
    return [mount for mount in read_mounts() if mount.mountpoint == where]


def is_dead(mountpoint: Path) -> bool:
    """Say whether the program that served a FUSE mount here has ended without unmounting.

    Waits as long as a mount that lives takes to answer.
    """
    try:
        mountpoint.stat()
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def dead_mount(path: Path) -> Failure:
    """Say that the mount that holds a path is dead, and how to clean up."""
    holder = find_holder(path)
    mountpoint = holder.mountpoint if holder is not None else str(path)
    quoted = shlex.quote(mountpoint)
    ours = holder is not None and holder.kind == MOUNT_TYPE
    is_itself = Path(mountpoint) == path
    return Failure(
        f"{path} is a dead mount: the program that served it has ended"
        if is_itself
        else f"{path} is in a dead mount: the program that served it has ended",
        "mount it again: that clears it and sends what was not yet sent; only to clear it: "
        f"b2mount unmount --force {quoted}"
        if ours
        else f"fusermount3 -u {quoted} (as root: umount), then mount again",
    )


def clear_dead_mounts(mountpoint: Path) -> None:
    """Clear what killed mounts of ours left at a mount point. Raises Failure where that cannot be done."""
    for _ in range(CLEARED_AT_MOST):
        if not is_dead(mountpoint) or find_our_mount(mountpoint) is None:
            return
        detach_dead(mountpoint)
        say_warning(f"{mountpoint} was a dead mount, whose program was killed, and was cleared")


def detach_dead(mountpoint: Path) -> None:
    """Clean up after a mount whose program has ended; there is nobody left to flush. Raises Failure."""
    import subprocess  # late: for dead mounts alone

    command = ["umount", "-i", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
    try:
        done = subprocess.run(
            [*command, str(mountpoint)], capture_output=True, text=True, check=False, timeout=DETACH_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise Failure(f"{mountpoint}: {command[0]} does not end", "look for what holds it") from None
    if done.returncode != 0:
        raise Failure(f"{mountpoint} cannot be unmounted: {done.stderr.strip()}", "unmount it as root")


def check_mountpoint(mountpoint: Path, *, nonempty: bool, way_out: str = "say -o nonempty") -> None:
    """Refuse a directory that cannot or should not be mounted on. Raises Failure.

    *way_out* is what else can be said where the directory is not empty.
    """
    quoted = shlex.quote(str(mountpoint))
    if find_our_mount(mountpoint) is not None and not is_dead(mountpoint):
        raise Failure(f"{mountpoint} is a b2mount mount already", f"b2mount unmount {quoted} ends it")
    if is_dead(mountpoint):
        raise dead_mount(mountpoint)
    try:
        is_empty = not os.listdir(mountpoint)  # noqa: PTH208 (reads the directory itself, not a path under it)
    except FileNotFoundError:
        raise Failure(f"{mountpoint} does not exist", f"mkdir -p {quoted}") from None
    except NotADirectoryError:
        raise Failure(f"{mountpoint} is not a directory", "a mount point is an empty directory") from None
    except OSError as error:
        raise Failure(
            f"{mountpoint} cannot be used: {error.strerror}", "choose a directory of your own"
        ) from None
    if os.geteuid() != 0 and not os.access(mountpoint, os.W_OK):
        raise Failure(f"{mountpoint} is not yours to mount on", "choose a directory that you may write to")
    if not is_empty and not nonempty:
        raise Failure(
            f"{mountpoint} is not empty, and a mount would cover what is in it",
            f"choose an empty directory, or {way_out}",
        )
