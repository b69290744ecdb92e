"""Each kind of call to B2 is struck by each kind of trouble in the middle of work that needs it.

`test_faults.py` lets troubles hit whatever comes first. Here every call that tells or changes something has
its turn, many at once, and afterwards B2 holds what it should: right bytes, each version once, and nothing
unfinished.
"""

import hashlib
import itertools
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.model.generator import PART
from tests.support.emulator import Emulator, pattern
from tests.support.mount import Mount, mounted
from tests.support.semantics import fresh_bucket

pytestmark = pytest.mark.fuse

BIG = 40 * PART
READING = ("b2_list_file_names", "b2_download_file_by_id")
SENDING = (
    "b2_upload_file",
    "b2_start_large_file",
    "b2_get_upload_part_url",
    "b2_upload_part",
    "b2_copy_part",
    "b2_finish_large_file",
    "b2_copy_file",
)
REMOVING = {"hide": ("b2_hide_file",), "hard": ("b2_list_file_versions", "b2_delete_file_version")}
OPTIONS = {"hide": (), "hard": ("--hard-delete",)}

TROUBLES: dict[str, dict[str, Any]] = {
    "dropped after": {"kind": "drop_after"},
    "dropped before": {"kind": "drop_before"},
    "503": {"kind": "status", "status": 503, "code": "service_unavailable"},
    "500": {"kind": "status", "status": 500, "code": "internal_error"},
    "408": {"kind": "status", "status": 408, "code": "request_timeout"},
    "429": {"kind": "status", "status": 429, "code": "too_many_requests", "retry_after": 1},
    "401": {"kind": "status", "status": 401, "code": "expired_auth_token"},
    "a stall": {"kind": "stall", "seconds": 1.5},
    "an answer cut short": {"kind": "truncate", "after_bytes": 10},
    "a wrong bit": {"kind": "corrupt", "after_bytes": 1},
    "dropped after, thrice": {"kind": "drop_after", "times": 3},
    "503, thrice": {"kind": "status", "status": 503, "code": "service_unavailable", "times": 3},
}
BY_DEFAULT = (("dropped after", "hide"), ("401", "hard"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """A server that takes small parts, so that small files are assembled from parts too."""
    with Emulator(tmp_path_factory.mktemp("calls")) as emulator:
        emulator.settings(min_part_size=PART)
        yield emulator


def seeded(name: str, size: int) -> bytes:
    return pattern(name, 0, size)


def synced(path: Path, flags: int, at: int, data: bytes) -> None:
    fd = os.open(path, flags, 0o644)
    try:
        os.pwrite(fd, data, at)
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_names(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read(path: Path) -> None:
    assert (path / "read").read_bytes() == seeded("read", 1000)


def write(path: Path) -> None:
    synced(path / "new", os.O_CREAT | os.O_WRONLY, 0, b"written")


def append(path: Path) -> None:
    synced(path / "big", os.O_WRONLY, BIG, b"tail" * (PART // 4))


def chmod(path: Path) -> None:
    os.chmod(path / "mode", 0o600)


def rename(path: Path) -> None:
    os.rename(path / "old name", path / "new name")


def rename_tree(path: Path) -> None:
    os.rename(path / "tree", path / "moved")


def remove(path: Path) -> None:
    os.unlink(path / "gone")


WORKS = (read, write, append, chmod, rename, rename_tree, remove)
SEEDS = {"read": 1000, "big": BIG, "mode": 10, "old name": 20, "tree/a": 30, "tree/b": 40, "gone": 50}


def cases() -> list[Any]:
    cases = []
    for trouble, removal in itertools.product(TROUBLES, REMOVING):
        marks = () if (trouble, removal) in BY_DEFAULT else (pytest.mark.slow,)
        cases.append(pytest.param(trouble, removal, id=f"{trouble} - {removal}", marks=marks))
    return cases


@pytest.mark.parametrize(("trouble", "removal"), cases())
def test_every_call_of_every_work_may_be_struck(
    server: Emulator, tmp_path: Path, trouble: str, removal: str
) -> None:
    with fresh_bucket(server) as bucket:
        server.seed(bucket, [{"name": name, "size": size} for name, size in SEEDS.items()])
        options = ["--settle", "0", "--listing-ttl", "0", *OPTIONS[removal]]
        calls = {*READING, *SENDING, *REMOVING[removal]}
        with mounted(server, tmp_path, bucket, options=options) as mount:
            if trouble == "a wrong bit":
                calls -= {"b2_list_file_names"}  # B2 tells no checksum of an answer: TLS keeps it whole
            for call in calls:
                server.fault(call=call, **TROUBLES[trouble])
            failed = at_once(mount, WORKS)
            sync_names(mount.path)
            mount.flush()
            missed = [rule["call"] for rule in server.faults() if not rule["fired"]]
        server.clear_faults()
        assert (failed, missed) == ([], [])
        demand_right(server, bucket, removal)


def at_once(mount: Mount, works: tuple[Callable[[Path], None], ...]) -> list[str]:
    """Do all works side by side; return what went wrong."""
    failed: list[str] = []

    def attempt(work: Callable[[Path], None]) -> None:
        try:
            work(mount.path)
        except (OSError, AssertionError) as exc:
            failed.append(f"{work.__name__}: {exc}")

    threads = [threading.Thread(target=attempt, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
        assert not thread.is_alive(), "it hangs"
    return failed


def demand_right(server: Emulator, bucket: str, removal: str) -> None:
    """Demand of B2 what the works leave: content, how often each name was made, and nothing unfinished."""
    wanted = {
        "read": seeded("read", 1000),
        "new": b"written",
        "big": seeded("big", BIG) + b"tail" * (PART // 4),
        "mode": seeded("mode", 10),
        "new name": seeded("old name", 20),
        "moved/a": seeded("tree/a", 30),
        "moved/b": seeded("tree/b", 40),
    }
    shown = [row["fileName"] for row in server.list_names(bucket)]
    held = {name: digest(server.download(bucket, name)) for name in shown if not name.endswith(".bzEmpty")}
    assert held == {name: digest(data) for name, data in wanted.items()}
    rows = server.list_versions(bucket)
    made = Counter(row["fileName"] for row in rows if row["action"] == "upload")
    twice = {"big", "mode"}  # as it was, and as it is
    assert {name: made[name] for name in wanted} == {name: 1 + (name in twice) for name in wanted}
    if removal == "hard":
        assert [row["fileName"] for row in rows if row["action"] == "hide"] == []
        assert [name for name in ("gone", "old name", "tree/a", "tree/b") if made[name]] == []
    unfinished = server.ask("b2_list_unfinished_large_files", {"bucketId": server.bucket_id(bucket)})
    assert unfinished["files"] == []


def digest(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()
