"""Ask a running mount: the client of its control socket.

The socket's path is an extended attribute of the mount's root, so that the mount point is all a user must
know. One JSON object a line goes out, JSON lines come back until one says `done`.
"""

import errno
import json
import os
import shlex
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from b2mount.cli.mountpoints import MOUNT_TYPE, dead_mount, find_holder
from b2mount.cli.report import Failure

SOCKET_ATTRIBUTE = "user.b2mount.control"  # for who may read the mount's root
ALWAYS_READABLE = "system.b2mount.control"  # the same, even where the key has expired
QUICK_SECONDS = 30.0  # for requests that are answered from memory; a guess well above any scheduling delay
LONGEST_SOCKET_PATH = 107  # bytes. Source: unix(7), sun_path with its final zero
NO_ATTRIBUTE = (errno.ENODATA, errno.ENOTSUP, errno.ENOSYS)

Answer = dict[str, Any]


def socket_of(path: Path) -> Path | None:
    """Return the control socket that a directory tells of, or None. Raises Failure for a dead mount."""
    try:
        return Path(os.fsdecode(_socket_attribute(path)))
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            raise dead_mount(path) from None
        if error.errno in NO_ATTRIBUTE or isinstance(error, (FileNotFoundError, NotADirectoryError)):
            return None
        raise Failure(
            f"{path} cannot be looked at: {error.strerror}", "a mount answers only the user who mounted it"
        ) from None


def _socket_attribute(path: Path) -> bytes:
    try:
        return os.getxattr(path, ALWAYS_READABLE)
    except OSError as error:
        if error.errno not in NO_ATTRIBUTE:
            raise
    return os.getxattr(path, SOCKET_ATTRIBUTE)  # of a mount that an earlier version serves


def demand_socket(mountpoint: Path) -> Path:
    """Return the control socket of the mount at *mountpoint*. Raises Failure where there is none."""
    found = socket_of(mountpoint)
    if found is None:
        if (holder := _other_holder(mountpoint)) is not None:
            quoted = shlex.quote(str(holder))
            raise Failure(f"{mountpoint} is not a mount point, but lies in one", f"say {quoted}")
        missing = not mountpoint.exists()
        what = "does not exist" if missing else "is not a b2mount mount"
        raise Failure(f"{mountpoint} {what}", "findmnt -t fuse.b2mount lists the mounts there are")
    return found


def mountpoint_of(path: Path) -> Path:
    """Return the mount point of the b2mount mount that a path lies in, else the path as it is."""
    if socket_of(path) is not None:
        return path
    return _other_holder(path) or path


def _other_holder(path: Path) -> Path | None:
    holder = find_holder(path)
    if holder is None or holder.kind != MOUNT_TYPE or Path(holder.mountpoint) == path:
        return None
    return Path(holder.mountpoint)


def locate(path: Path) -> tuple[Path, str]:
    """Return the mount that holds *path* and the path inside it; *path* itself need not exist.

    The root of the mount is the topmost directory that tells of the same socket.
    """
    found: tuple[Path, Path] | None = None
    for candidate in (path, *path.parents):
        control = socket_of(candidate)
        if control is not None and (found is None or found[1] == control):
            found = (candidate, control)
        elif found is not None:
            break
    if found is None:
        raise Failure(
            f"{path} is not inside a b2mount mount", "findmnt -t fuse.b2mount lists the mounts there are"
        )
    inside = path.relative_to(found[0])
    return found[0], "" if inside == Path() else str(inside)


def ask(
    mountpoint: Path, request: Mapping[str, Any], *, patience: float | None = QUICK_SECONDS
) -> Iterator[Answer]:
    """Send one request; yield each answer, the last one with `done`.

    Raises Failure where the mount refuses, ends meanwhile, or says nothing for *patience* seconds (None: any
    time).
    """
    with _connect(demand_socket(mountpoint), mountpoint) as connection:
        connection.settimeout(patience)
        try:
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as lines:
                yield from _read_answers(lines, mountpoint)
        except TimeoutError:
            raise Failure(f"the mount at {mountpoint} does not answer", "see its log") from None
        except (ConnectionError, json.JSONDecodeError):
            raise _ended(mountpoint) from None


def ask_once(mountpoint: Path, request: Mapping[str, Any]) -> Answer:
    """Send one request; return the last answer."""
    last: Answer = {}
    for answer in ask(mountpoint, request):
        last = answer
    return last


def _read_answers(lines: Iterator[bytes], mountpoint: Path) -> Iterator[Answer]:
    for line in lines:
        answer: Answer = json.loads(line)
        if "error" in answer:
            raise Failure(str(answer["error"]), *([str(answer["hint"])] if answer.get("hint") else []))
        yield answer
        if answer.get("done"):
            return
    raise _ended(mountpoint)


def _ended(mountpoint: Path) -> Failure:
    return Failure(f"the mount at {mountpoint} ended while it was asked", "see its log")


def _connect(path: Path, mountpoint: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
            connection.connect(str(path))
        else:
            _connect_through_directory(connection, path)
    except OSError as error:
        connection.close()
        if isinstance(error, PermissionError):
            raise Failure(
                f"the mount at {mountpoint} belongs to another user", "ask as that user, or as root"
            ) from None
        raise Failure(
            f"the mount at {mountpoint} cannot be asked: {error.strerror} ({path})", "see its log"
        ) from None
    return connection


def _connect_through_directory(connection: socket.socket, path: Path) -> None:
    """Connect to a socket whose path is too long for an address, by way of its opened directory."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        connection.connect(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)
