"""The writing half: streams, many small files, changes to stored ones, renames, removal, rsync.

All but the fsyncs end when everything is in B2, which is part of their time.
"""

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.benchmarks.content import CHUNK, check_names, check_stored, seeded
from tests.benchmarks.measure import Clock
from tests.benchmarks.networks import Server
from tests.benchmarks.sizes import MIB, Sizes
from tests.benchmarks.workload import CALLS, MOVED, Goal, Row, Run, Workload, goals, nothing

KIND = "Writing"
NEAR = 0.8  # of rclone's time, for every write near by
SMALL = 4096
APPENDED = MIB
PATCHED = 4096
PATCH_AT = 1_234_567  # bytes behind the middle: on no border of anything
MTIME = 1_600_000_000


def write_large(run: Run) -> None:
    size = run.sizes.written
    with run.row("write-large"):
        fd = os.open(run.path / "large", os.O_WRONLY | os.O_CREAT, 0o644)
        for place in range(0, size, CHUNK):
            data = seeded("large", place, min(CHUNK, size - place))
            assert os.write(fd, data) == len(data)
        os.close(fd)
        run.flush(uploads=1)
    with run.nearby():
        check_stored(run.emulator, run.bucket, "large", "large", size, {})


def write_small(run: Run) -> None:
    contents = _small(f"many/file{index:04}" for index in range(run.sizes.small_writes))
    with run.row("write-small"):
        (run.path / "many").mkdir()
        for name, data in contents.items():
            _write(run.path / name, data)
        run.flush(uploads=len(contents))
    with run.nearby():
        check_names(run.emulator, run.bucket, contents)


def _small(names: Iterable[str]) -> dict[str, bytes]:
    return {name: seeded(name, 0, SMALL) for name in names}


def _write(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    assert os.write(fd, data) == len(data)
    os.close(fd)


def fsyncs(run: Run) -> None:
    """Write files with fsync; after each, ask B2 by the API whether it holds the file, which is not timed."""
    contents = _small(f"synced{index:03}" for index in range(run.sizes.fsyncs))
    held = 0
    with run.row("fsync") as clock:
        for name, data in contents.items():
            fd = os.open(run.path / name, os.O_WRONLY | os.O_CREAT, 0o644)
            os.write(fd, data)
            os.fsync(fd)
            with clock.paused():
                held += _is_stored(run, clock, name, data)
            os.close(fd)
        clock.note = f"{held} of {len(contents)} in B2 when fsync returned"
        with clock.paused():  # who uploads later shall have the same calls counted
            run.flush(uploads=len(contents))
    with run.nearby():
        check_names(run.emulator, run.bucket, contents)


def _is_stored(run: Run, clock: Clock, name: str, data: bytes) -> bool:
    values = {"bucketId": run.emulator.bucket_id(run.bucket), "prefix": name, "maxFileCount": 1}
    body = json.dumps(values).encode()
    headers = {"Authorization": run.emulator.master_token()}
    status, _, answer = run.emulator.request(
        "POST", "/b2api/v4/b2_list_file_names", headers=headers, body=body
    )
    assert status == 200, answer
    clock.disown("C", len(body), len(answer))
    found = {row["fileName"]: row["contentSha1"] for row in json.loads(answer)["files"]}
    return str(found.get(name)).endswith(hashlib.sha1(data, usedforsecurity=False).hexdigest())


def stored_large(server: Server, bucket: str, sizes: Sizes) -> None:
    server.emulator.seed(bucket, [{"name": "stored", "size": sizes.changed}])


def append(run: Run) -> None:
    size, data = run.sizes.changed, seeded("new", 0, APPENDED)
    with run.row("append"):
        fd = os.open(run.path / "stored", os.O_WRONLY | os.O_APPEND)
        assert os.write(fd, data) == len(data)
        os.close(fd)
        run.flush(uploads=1)
    with run.nearby():
        check_stored(run.emulator, run.bucket, "stored", "stored", size + APPENDED, {size: data})


def patch(run: Run) -> None:
    size, data = run.sizes.changed, seeded("new", 0, PATCHED)
    place = size // 2 + PATCH_AT
    with run.row("patch"):
        fd = os.open(run.path / "stored", os.O_RDWR)
        assert os.pwrite(fd, data, place) == len(data)
        os.close(fd)
        run.flush(uploads=1)
    with run.nearby():
        check_stored(run.emulator, run.bucket, "stored", "stored", size, {place: data})


def rename_file(run: Run) -> None:
    with run.row("rename-file"):
        os.rename(run.path / "stored", run.path / "renamed")
        run.flush(uploads=0)
    with run.nearby():
        assert [row["fileName"] for row in run.emulator.list_names(run.bucket)] == ["renamed"]
        check_stored(run.emulator, run.bucket, "renamed", "stored", run.sizes.changed, {})


def _tenants(sizes: Sizes) -> list[str]:
    return [f"old/file{index:04}" for index in range(sizes.renamed)]


def stored_directory(server: Server, bucket: str, sizes: Sizes) -> None:
    server.emulator.seed(bucket, [{"name": name, "size": SMALL} for name in _tenants(sizes)])


def rename_directory(run: Run) -> None:
    with run.row("rename-directory"):
        os.rename(run.path / "old", run.path / "new")
        run.flush(uploads=0)
    moved = {name.replace("old/", "new/"): data for name, data in _small(_tenants(run.sizes)).items()}
    with run.nearby():
        check_names(run.emulator, run.bucket, moved)


def remove_directory(run: Run) -> None:
    with run.row("remove"):
        subprocess.run(["rm", "-r", str(run.path / "old")], check=True)
        run.flush(uploads=0)
    with run.nearby():
        check_names(run.emulator, run.bucket, {})


def rsync(run: Run) -> None:
    names = [f"dir{index % 10}/file{index:04}" for index in range(run.sizes.synced)]
    source, contents = run.path.parent / "source", _small(f"copy/{name}" for name in names)
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(contents[f"copy/{name}"])
        os.utime(source / name, (MTIME, MTIME))
    command = ["rsync", "-a", f"{source}/", f"{run.path}/copy/"]
    for slug in ("rsync", "rsync-again"):
        with run.row(slug):
            done = subprocess.run(command, capture_output=True, text=True)
            run.flush(uploads=len(names) if slug == "rsync" else 0)
        assert done.returncode == 0, done.stderr
    with run.nearby():
        check_names(run.emulator, run.bucket, contents)


def _one(
    slug: str, title: str, far: float, fill: Callable[..., None], work: Callable[[Run], None]
) -> Workload:
    return Workload(slug, KIND, (Row(slug, title, goals(NEAR, far)),), fill, work)


_little_moved = Goal(MOVED, 0.02, is_far=True)  # rclone moves 537 MB each way
_two_trips = (
    Goal(CALLS, 62, is_far=False),
    Goal(CALLS, 62, is_far=True),
)  # two a file, two for the directory

WORKLOADS = (
    _one("write-large", "write {written} and flush", 0.5, nothing, write_large),
    _one("write-small", "write {small_writes} files of 4 KiB and flush", 0.2, nothing, write_small),
    Workload(
        "fsync",
        KIND,
        (Row("fsync", "write {fsyncs} files of 4 KiB, each with fsync", _two_trips),),
        nothing,
        fsyncs,
    ),
    Workload(
        "append",
        KIND,
        (Row("append", "append 1 MiB to {changed} and flush", goals(NEAR, 0.1, _little_moved)),),
        stored_large,
        append,
    ),
    Workload(
        "patch",
        KIND,
        (Row("patch", "change 4 KiB inside {changed} and flush", goals(NEAR, 0.1, _little_moved)),),
        stored_large,
        patch,
    ),
    _one("rename-file", "rename a file of {changed}", 0.5, stored_large, rename_file),
    _one(
        "rename-directory", "rename a directory of {renamed} files", 0.5, stored_directory, rename_directory
    ),
    _one("remove", "rm -r of {renamed} files", 0.3, stored_directory, remove_directory),
    Workload(
        "rsync",
        KIND,
        (
            Row("rsync", "rsync -a of {synced} files in 10 directories, and flush", goals(NEAR)),
            Row(
                "rsync-again",
                "the same rsync again",
                goals(NEAR, None, Goal(CALLS, 20, is_far=False), Goal(CALLS, 20, is_far=True)),
            ),
        ),
        nothing,
        rsync,
    ),
)
