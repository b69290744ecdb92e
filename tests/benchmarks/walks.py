"""What walks over a tree cost: calls, class C transactions and seconds of programs that walk in their ways.

    python -m tests.benchmarks.walks
    python -m tests.benchmarks.walks --directories 200 find backwards

docs/performance.md holds its figures: 1,000 directories of 5 files, far, a fresh mount each. Programs that
are not installed are left out.
"""

import argparse
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tests.benchmarks.measure import cpu_seconds
from tests.benchmarks.networks import NETWORKS, choose_data_directory
from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount

BUCKET = "some-walks"
FILES = 5  # a directory
BYTES = 1000  # a file
THREADS = 8


def ordered(pick: Callable[[list[str]], int]) -> Callable[[Path, Path], None]:
    """Return a walk that takes the next directory from where *pick* says, of those that wait."""

    def walk(tree: Path, _scratch: Path) -> None:
        todo = [str(tree)]
        while todo:
            with os.scandir(todo.pop(pick(todo))) as entries:
                todo += [entry.path for entry in entries if entry.is_dir()]

    return walk


def parallel(tree: Path, _scratch: Path) -> None:
    """Walk as ripgrep and fd do: threads with a stack each, from whose bottom the others take."""
    seen: list[Future[None]] = []
    with ThreadPoolExecutor(THREADS) as pool:

        def look(directories: list[str]) -> None:
            while directories:
                with os.scandir(directories.pop()) as entries:
                    directories += [entry.path for entry in entries if entry.is_dir()]
                share = len(directories) // 2
                if share and pool._work_queue.qsize() < THREADS:
                    seen.append(pool.submit(look, directories[:share]))
                    del directories[:share]

        seen.append(pool.submit(look, [str(tree)]))
        at = 0
        while at < len(seen):
            seen[at].result()
            at += 1


def bottom_up(tree: Path, _scratch: Path) -> None:
    assert sum(len(files) for _, _, files in os.walk(tree, topdown=False)) > 0


def program(*words: str) -> Callable[[Path, Path], None]:
    """Return a run of a program; `{tree}` and `{scratch}` stand for directories."""

    def run(tree: Path, scratch: Path) -> None:
        places = {"tree": str(tree), "scratch": str(scratch)}
        environment = {**os.environ, "LC_ALL": "C", "HOME": str(scratch)}
        environment |= {"RESTIC_PASSWORD": "x", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
        done = subprocess.run(
            [word.format(**places) for word in words],
            env=environment, cwd=scratch, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    return run


def shell(text: str) -> Callable[[Path, Path], None]:
    return program("sh", "-ec", text)


WALKS: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    "find": ("find", program("find", "{tree}", "-type", "f")),
    "ls": ("ls", program("ls", "-lR", "{tree}")),
    "du": ("du", program("du", "-a", "{tree}")),
    "rsync": ("rsync", program("rsync", "-n", "-a", "{tree}/", "{scratch}/copy/")),
    "tar": ("tar", shell("tar cf - {tree} | cat")),
    "bottom-up": ("python", bottom_up),
    "backwards": ("python", ordered(lambda todo: len(todo) - 1)),
    "at-random": ("python", ordered(lambda todo: random.randrange(len(todo)))),
    "parallel": ("python", parallel),
    "git": (
        "git",
        shell("git init -q {scratch}/r; git --git-dir={scratch}/r/.git --work-tree={tree} status -s -uall"),
    ),
    "grep": ("grep", shell("grep -r needle {tree} || true")),
    "restic": (
        "restic",
        shell("restic init -q -r {scratch}/r; restic backup -q --no-cache -r {scratch}/r {tree}"),
    ),
    "borg": ("borg", shell("borg init -e none {scratch}/r; borg create {scratch}/r::first {tree}")),
}


def measure(name: str, emulator: Emulator, base: Path) -> str:
    """Run one walk on a fresh mount; return a row of the table."""
    walk = WALKS[name][1]
    key = emulator.create_key(ALL, [BUCKET])
    scratch = base / "scratch"
    scratch.mkdir(parents=True)
    with Mount(emulator, base, key, source=BUCKET, log_level="warning") as mount:
        assert mount.process is not None
        emulator.reset_counters()
        before, began = cpu_seconds(mount.process.pid), time.perf_counter()
        walk(mount.path / "tree", scratch)
        seconds = time.perf_counter() - began
        spent = cpu_seconds(mount.process.pid) - before
        counters = emulator.counters()
    calls = counters["calls"]["b2_list_file_names"]
    return f"| {name} | {calls} | {counters['classes']['C']} | {seconds:.2f} | {spent:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="measure walks over a tree")
    parser.add_argument("--directories", type=int, default=1000)
    parser.add_argument("--network", choices=sorted(NETWORKS), default="far")
    parser.add_argument("walks", nargs="*", help=f"of {', '.join(WALKS)}")
    words = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        tempfile.TemporaryDirectory(dir=choose_data_directory()) as data,
        Emulator(Path(data) / "b2") as emulator,
    ):
        emulator.create_bucket(BUCKET)
        for number in range(words.directories):
            rows = [{"name": f"tree/dir{number:05}/file{at:02}", "size": BYTES} for at in range(FILES)]
            emulator.seed(BUCKET, rows)
        emulator.network(**NETWORKS[words.network].settings)
        print("| walk | calls | class C | s | CPU s |\n|---|--:|--:|--:|--:|")
        for name in words.walks or WALKS:
            if name in WALKS and (WALKS[name][0] == "python" or shutil.which(WALKS[name][0])):
                print(measure(name, emulator, Path(directory) / name), flush=True)


if __name__ == "__main__":
    main()
