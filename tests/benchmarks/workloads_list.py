"""The listing half: ls, find, du, names that are known and names that are not; and how a mount starts."""

import os
import subprocess
import time
from pathlib import Path

from tests.benchmarks.networks import Server
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.workload import (
    ABSOLUTE_SECONDS,
    CLASS_C,
    MEMORY,
    Goal,
    Row,
    Run,
    Workload,
    goals,
)

KIND = "Listing"
NEAR = 0.6  # of rclone's time, for every listing near by
FILE_BYTES = 1000
A_DIRECTORY = 5  # files
SUMMED_FILES = 10  # a directory
KNOWN = 1000  # files that are asked about again and again
IDLE_SECONDS = 1.0  # after which a mount that was just started is taken to be idle
START_GOAL = 0.5  # seconds beyond the round trip of authorizing
AUTHORIZE_FAR = 0.04


def output(*words: str | Path) -> str:
    """Run a program and return what it printed."""
    done = subprocess.run(
        words, capture_output=True, text=True, env={"LC_ALL": "C", "PATH": os.environ["PATH"]}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def flat(server: Server, bucket: str, sizes: Sizes) -> None:
    _seed_names(server, bucket, sizes.names)


def flat_million(server: Server, bucket: str, sizes: Sizes) -> None:
    _seed_names(server, bucket, sizes.million)


def _seed_names(server: Server, bucket: str, count: int) -> None:
    values = {"bucket": bucket, "pattern": "flat/%07d.dat", "count": count, "size": FILE_BYTES}
    server.emulator.control("POST", "seed", values)


def _check_ls(text: str, count: int) -> None:
    seen = {(fields[-1], int(fields[4])) for fields in map(str.split, text.splitlines()[1:])}
    assert seen == {(f"{index:07}.dat", FILE_BYTES) for index in range(count)}


def ls(run: Run) -> None:
    with run.row("ls"):
        text = output("ls", "-l", run.path / "flat")
    _check_ls(text, run.sizes.names)


def ls_million(run: Run) -> None:
    with run.row("first-name"), os.scandir(run.path / "flat") as entries:
        next(entries)
    with run.row("ls-million"):
        text = output("ls", "-lU", run.path / "flat")
    _check_ls(text, run.sizes.million)


def _tree_names(directories: int, files: int) -> list[str]:
    return [f"tree/dir{number:05}/file{index:02}" for number in range(directories) for index in range(files)]


def _seed_tree(server: Server, bucket: str, directories: int, files: int) -> None:
    rows = [{"name": name, "size": FILE_BYTES} for name in _tree_names(directories, files)]
    for first in range(0, len(rows), 10_000):
        server.emulator.seed(bucket, rows[first : first + 10_000])


def tree(server: Server, bucket: str, sizes: Sizes) -> None:
    _seed_tree(server, bucket, sizes.directories, A_DIRECTORY)


def large_tree(server: Server, bucket: str, sizes: Sizes) -> None:
    _seed_tree(server, bucket, sizes.many_directories, A_DIRECTORY)


def summed_tree(server: Server, bucket: str, sizes: Sizes) -> None:
    _seed_tree(server, bucket, sizes.summed, SUMMED_FILES)


def _find(run: Run, slug: str, directories: int) -> None:
    with run.row(slug):
        text = output("find", run.path / "tree", "-type", "f")
    found = sorted(text.splitlines())
    assert found == [f"{run.path}/{name}" for name in _tree_names(directories, A_DIRECTORY)]


def find(run: Run) -> None:
    _find(run, "find", run.sizes.directories)


def find_many(run: Run) -> None:
    _find(run, "find-many", run.sizes.many_directories)


def du(run: Run) -> None:
    files = run.sizes.summed * SUMMED_FILES
    with run.row("du"):
        text = output("du", "-ab", run.path / "tree")
    rows = [line.split("\t") for line in text.splitlines()]
    assert sorted(size for size, path in rows if "/file" in path) == [str(FILE_BYTES)] * files


def stat_storm(run: Run) -> None:
    os.listdir(run.path / "flat")
    paths = [str(run.path / f"flat/{index:07}.dat") for index in range(min(KNOWN, run.sizes.names))]
    for path in paths:
        assert os.stat(path).st_size == FILE_BYTES
    rounds = run.sizes.stats // len(paths)
    with run.row("stat-storm"):
        for _ in range(rounds):
            for path in paths:
                os.stat(path)


def missing(run: Run) -> None:
    paths = [str(run.path / f"flat/{index:07}.none") for index in range(run.sizes.missing)]
    with run.row("missing"):
        for path in paths:
            assert not os.path.exists(path)


def start(run: Run) -> None:
    """Report how long the mount took to start, and what it holds when nothing was asked of it."""
    time.sleep(IDLE_SECONDS)
    run.report_start("start")


_few_calls = Goal(CLASS_C, 0.02, is_far=True)

WORKLOADS = (
    Workload(
        "ls",
        KIND,
        (Row("ls", "ls -l of {names} names", goals(NEAR, 0.5)),),
        flat,
        ls,
        data="flat",
    ),
    Workload(
        "ls-million",
        KIND,
        (
            Row("first-name", "the first of {million} names", goals(NEAR)),
            Row("ls-million", "ls -lU of {million} names", goals(NEAR)),
        ),
        flat_million,
        ls_million,
        data="million",
        limit_seconds=900.0,
        is_optional=True,
    ),
    Workload(
        "find",
        KIND,
        (
            Row(
                "find",
                "find over {directories} directories of 5 files",
                goals(NEAR, 0.02, _few_calls),
            ),
        ),
        tree,
        find,
        data="tree",
        limit_seconds=240.0,  # rclone needs 150 s from afar
    ),
    Workload(
        "find-many",
        KIND,
        (Row("find-many", "find over {many_directories} directories of 5 files", goals(NEAR, 0.02)),),
        large_tree,
        find_many,
        data="large-tree",
        limit_seconds=60.0,  # rclone would need 25 minutes from afar
    ),
    Workload(
        "du",
        KIND,
        (Row("du", "du over {summed} directories of 10 files", goals(NEAR)),),
        summed_tree,
        du,
        data="summed",
    ),
    Workload(
        "stat-storm",
        KIND,
        (Row("stat-storm", "stat {stats} times, of 1,000 known files", goals(1.0, 1.0)),),
        flat,
        stat_storm,
        data="flat",
    ),
    Workload(
        "missing",
        KIND,
        (Row("missing", "{missing} names that are not there, in a directory of {names}", goals(NEAR, 0.7)),),
        flat,
        missing,
        data="flat",
    ),
    Workload(
        "start",
        "Starting",
        (
            Row(
                "start",
                "start until mounted; memory when idle",
                (
                    Goal(ABSOLUTE_SECONDS, START_GOAL, is_far=False),
                    Goal(ABSOLUTE_SECONDS, START_GOAL + AUTHORIZE_FAR, is_far=True),
                    Goal(MEMORY, 64, is_far=False),
                    Goal(MEMORY, 64, is_far=True),
                ),
            ),
        ),
        flat,
        start,
        data="flat",
    ),
)
