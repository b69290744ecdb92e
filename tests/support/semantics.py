"""What the tests of docs/semantics.md share: one mount a test file, a directory a test, system calls."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import json
import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount, mounted

WAIT_SECONDS = 120.0
AT_FDCWD = -100
UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

_numbers = itertools.count(1)  # short names made unlike
libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Here:
    """A directory of its own for one test, on a mount that others use too."""

    mount: Mount
    bucket: str
    path: Path
    prefix: str  # of the directory in the bucket, with its slash

    @property
    def emulator(self) -> Emulator:
        return self.mount.emulator

    def upload(self, name: str, data: bytes, **fields: Any) -> dict[str, Any]:
        """Upload as another program would; the mount does not know."""
        return self.emulator.upload(self.bucket, self.prefix + name, data, **fields)

    def seed(self, *files: dict[str, Any]) -> None:
        """Make versions under this directory, by any name, and have the mount look."""
        rows = [{**file, "name": self.prefix + file["name"]} for file in files]
        self.emulator.seed(self.bucket, rows)
        self.refresh()

    def refresh(self) -> None:
        """Do as `b2mount refresh` of this directory."""
        ask(self.mount, op="refresh", path=self.prefix.rstrip("/"))

    def flush(self) -> None:
        """Do as `b2mount flush`."""
        answer = ask(self.mount, op="flush")
        assert answer["ok"], answer

    def stored(self, name: str) -> bytes:
        """Return what B2 holds, after a flush."""
        self.flush()
        return self.emulator.download(self.bucket, self.prefix + name)

    def row(self, name: str) -> dict[str, Any]:
        """Return the row of a visible file, after a flush."""
        self.flush()
        rows = self.emulator.list_names(self.bucket, self.prefix + name)
        return next(row for row in rows if row["fileName"] == self.prefix + name)

    def names(self) -> set[str]:
        """Return the visible names in B2 under this directory, after a flush."""
        self.flush()
        rows = self.emulator.list_names(self.bucket, self.prefix)
        return {row["fileName"].removeprefix(self.prefix) for row in rows}

    def calls_about(self, name: str, since: int) -> list[str]:
        """Return the calls about one file that the mount sent since a moment."""
        entries = requests_of(self.emulator, self.mount.key, since)
        return [entry["call"] for entry in entries if entry["name"] == self.prefix + name]


# What a refusal may cost: before it refuses an ordinary user, the kernel asks for the attributes anew.
LOOKS = frozenset[str]() if os.geteuid() == 0 else frozenset({"b2_list_file_names"})


@contextlib.contextmanager
def fresh_bucket(emulator: Emulator, **fields: Any) -> Iterator[str]:
    """Give a bucket that is removed afterwards."""
    name = f"sem-{uuid.uuid4().hex[:16]}"
    emulator.create_bucket(name, **fields)
    try:
        yield name
    finally:
        emulator.clear_faults()
        emulator.caps()
        emulator.wipe(name)


@contextlib.contextmanager
def shared_mount(
    emulator: Emulator,
    base: Path,
    *,
    capabilities: Sequence[str] = ALL,
    options: Sequence[str] = (),
) -> Iterator[Here]:
    """Mount a whole fresh bucket for all tests of a file."""
    with (
        fresh_bucket(emulator) as bucket,
        mounted(emulator, base, bucket, capabilities=capabilities, options=options) as mount,
    ):
        yield Here(mount, bucket, mount.path, "")


def own_directory(shared: Here, request: pytest.FixtureRequest) -> Here:
    """Make a directory for one test."""
    name = f"{re.sub('[^A-Za-z0-9]+', '-', request.node.name)[:80]}{next(_numbers)}"
    (shared.path / name).mkdir()
    return Here(shared.mount, shared.bucket, shared.path / name, f"{name}/")


def ask(mount: Mount, **request: Any) -> dict[str, Any]:
    """Ask a running mount over its control socket; return its last line."""
    control = Path(os.fsdecode(os.getxattr(mount.path, "system.b2mount.control")))
    with socket.socket(socket.AF_UNIX) as connection:
        directory = os.open(control.parent, os.O_PATH)  # an address has room for 107 bytes
        connection.connect(f"/proc/self/fd/{directory}/{control.name}")
        os.close(directory)
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as lines:
            answer: dict[str, Any] = json.loads(list(lines)[-1])
    assert not answer.get("error"), answer
    return answer


@contextlib.contextmanager
def refused(number: int) -> Iterator[None]:
    """Demand that the block fails with this errno."""
    try:
        yield
    except OSError as exc:
        got = errno.errorcode.get(exc.errno or 0, str(exc.errno))
        assert exc.errno == number, f"{got} instead of {errno.errorcode[number]}: {exc}"
    else:
        raise AssertionError(f"went well instead of {errno.errorcode[number]}")


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Wait for something that others bring about."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)


def check(result: int) -> int:
    """Raise OSError where a libc call returned -1."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def renameat2(old: Path, new: Path, flags: int) -> None:
    """Call renameat2(2)."""
    check(libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags))


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def utimensat(path: Path, atime: tuple[int, int], mtime: tuple[int, int]) -> None:
    """Call utimensat(2) with pairs of seconds and nanoseconds, or UTIME_NOW and UTIME_OMIT in the second."""
    times = (_Timespec * 2)(_Timespec(*atime), _Timespec(*mtime))
    check(libc.utimensat(AT_FDCWD, os.fsencode(path), times, 0))


def requests_of(emulator: Emulator, key: tuple[str, str], since: int) -> list[dict[str, Any]]:
    """Return what a key sent since a moment."""
    return [entry for entry in emulator.log(since) if entry["key_id"] == key[0]]


def calls_of(emulator: Emulator, key: tuple[str, str], since: int) -> list[str]:
    """Return the names of the calls that a key sent since a moment, but for authorizing."""
    calls = [entry["call"] for entry in requests_of(emulator, key, since)]
    return [call for call in calls if call != "b2_authorize_account"]


def refusals_of(emulator: Emulator, key: tuple[str, str], since: int) -> list[dict[str, Any]]:
    """Return the requests of a key that the server refused for want of a right."""
    return [entry for entry in requests_of(emulator, key, since) if entry["status"] in (401, 403)]
