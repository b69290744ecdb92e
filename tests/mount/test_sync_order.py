"""When a mount waits for the disk: strace says that it did before a promise returned, and in which order."""

import functools
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount
from tests.support.semantics import fresh_bucket

STARTED = re.compile(r"^(\d+) +(\d+\.\d+) f(?:data)?sync\(\d+<([^>]+)>")
RESUMED = re.compile(r"^(\d+) +(\d+\.\d+) <\.\.\. f(?:data)?sync resumed>.* = 0 ")
TOOK = re.compile(r" = 0 <(\d+\.\d+)>$")
WAL = "journal.sqlite-wal"


@functools.cache
def may_trace() -> bool:
    if shutil.which("strace") is None:
        return False
    command = ["strace", "-o", "/dev/null", "true"]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(not may_trace(), reason="strace is missing, or processes may not be traced here"),
]


@dataclass(frozen=True)
class Sync:
    """One wait for the disk, by the wall clock."""

    path: str  # in the state directory
    began: float
    ended: float


@dataclass
class Traced:
    """A mount, and what it was seen to wait for."""

    mount: Mount
    trace: Path
    ready: float  # when nothing had been promised yet

    def syncs(self) -> list[Sync]:
        """Return all so far, in the order of their ends."""
        (scope,) = self.mount.state.iterdir()
        open_calls: dict[str, tuple[str, float]] = {}
        found = []
        for line in self.trace.read_text().splitlines():
            if started := STARTED.match(line):
                thread, moment, path = started.groups()
                if took := TOOK.search(line):
                    found.append((path, float(moment), float(moment) + float(took[1])))
                else:
                    open_calls[thread] = (path, float(moment))
            elif resumed := RESUMED.match(line):
                path, began = open_calls.pop(resumed[1])
                found.append((path, began, float(resumed[2])))
        ours = (Sync(os.path.relpath(path, scope), *when) for path, *when in found)
        return sorted((sync for sync in ours if not sync.path.startswith("..")), key=lambda one: one.ended)

    def during(self, do: Callable[[], object]) -> list[str]:
        """Return what was waited for, from beginning to end, while something was done."""
        began = time.time()
        do()
        ended = time.time()
        self.mount.path.stat()  # the trace has the lines of what came before
        return [sync.path for sync in self.syncs() if began <= sync.began and sync.ended <= ended]


@pytest.fixture(scope="module")
def traced(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    base = tmp_path_factory.mktemp("traced")
    trace = base / "trace"
    strace = ["strace", "-D", "-f", "-ttt", "-T", "-y", "-e", "trace=fsync,fdatasync", "-o", str(trace)]
    with fresh_bucket(emulator) as bucket:
        key = emulator.create_key(ALL, [bucket])
        options = ["--settle", "600"]
        program = [*strace, sys.executable, "-m", "b2mount.cli.main"]
        with Mount(emulator, base, key, options=options, program=program) as mount:
            ready = time.time()
            (mount.path / "first").write_bytes(b"x")  # the log of writes is laid out
            yield Traced(mount, trace, ready)


def test_a_first_mount_has_the_names_of_its_files_on_the_disk(traced: Traced) -> None:
    assert {"spool", "."} <= {sync.path for sync in traced.syncs() if sync.ended < traced.ready}


def test_a_small_file_costs_one_wait_before_its_close_returns(traced: Traced) -> None:
    assert traced.during(lambda: (traced.mount.path / "small").write_bytes(b"x" * 1000)) == [WAL]


def test_a_larger_files_bytes_and_name_are_on_the_disk_before_its_promise_and_its_close(
    traced: Traced,
) -> None:
    paths = traced.during(lambda: (traced.mount.path / "large").write_bytes(b"x" * 300_000))
    assert len(paths) == 3 and re.fullmatch(r"spool/\d+", paths[0])
    assert paths[1:] == ["spool", WAL]


def test_changes_of_names_are_on_the_disk_when_they_return(traced: Traced) -> None:
    path = traced.mount.path
    (path / "file").write_bytes(b"x")
    changes: list[Callable[[], object]] = [
        lambda: os.rename(path / "file", path / "other"),
        lambda: os.chmod(path / "other", 0o600),
        lambda: os.utime(path / "other", (1, 1)),
        lambda: os.mkdir(path / "dir"),
        lambda: os.rmdir(path / "dir"),
        lambda: os.symlink("other", path / "link"),
        lambda: os.unlink(path / "other"),
    ]
    for change in changes:
        assert traced.during(change) == [WAL]
