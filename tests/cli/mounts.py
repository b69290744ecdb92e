"""A mount as the control client sees one: a directory that tells of a real socket, where answers wait."""

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from b2mount.cli.control import SOCKET_ATTRIBUTE


@dataclass(slots=True)
class SpokenMount:
    """What was asked of it so far, and what it answers to each kind of request."""

    mountpoint: Path
    answers: dict[str, Sequence[dict[str, Any] | bytes]]
    requests: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def spoken_mount(
    mountpoint: Path, control: Path, answers: dict[str, Sequence[dict[str, Any] | bytes]]
) -> Iterator[SpokenMount]:
    """Serve *answers* by operation until the end of the block; bytes are sent as they are."""
    mountpoint.mkdir(parents=True, exist_ok=True)
    os.setxattr(mountpoint, SOCKET_ATTRIBUTE, os.fsencode(control))
    mount = SpokenMount(mountpoint, answers)
    with socket.socket(socket.AF_UNIX) as listener:
        _bind(listener, control)
        listener.listen()
        thread = threading.Thread(target=_serve, args=(listener, mount))
        thread.start()
        try:
            yield mount
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _bind(listener: socket.socket, control: Path) -> None:
    """Bind by way of the directory, since an address has room for 107 bytes."""
    directory = os.open(control.parent, os.O_PATH)
    try:
        listener.bind(f"/proc/self/fd/{directory}/{control.name}")
    finally:
        os.close(directory)


def _serve(listener: socket.socket, mount: SpokenMount) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, contextlib.suppress(ConnectionError):  # a client may leave before the last word
            _answer(connection, mount)


def _answer(connection: socket.socket, mount: SpokenMount) -> None:
    with connection.makefile("rb") as lines:
        request = json.loads(lines.readline())
    mount.requests.append(request)
    for answer in mount.answers[request["op"]]:
        line = answer if isinstance(answer, bytes) else json.dumps(answer).encode() + b"\n"
        connection.sendall(line)
