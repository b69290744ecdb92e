"""Compare b2mount with `rclone mount` on the same server: time, calls, processor time and memory.

    python -m tests.benchmarks.compare [--rounds N] [--network loopback|far] [WORKLOAD ...]

Each round of a workload runs on both mounts, one after the other, each freshly mounted with nothing cached;
the order changes from round to round. Printed are medians and their ratios, ours to rclone's: below 1 we are
better. Times and memory depend on the machine; the calls do not. Asserts nothing.
"""

import argparse
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.mounts import (
    Contender,
    Ours,
    Rclone,
    cpu_seconds,
    drop_page_cache,
    peak_memory_bytes,
    say,
)
from tests.support.emulator import Emulator
from tests.support.mount import ALL

NETWORKS: dict[str, dict[str, float | None]] = {
    "loopback": {"latency_ms": 0, "bandwidth": None},
    "far": {"latency_ms": 40, "bandwidth": 25_000_000},  # bytes a second, of each connection
}
LARGE = 256 << 20  # bytes
FILES = 200  # small ones, of SMALL bytes each
SMALL = 4000


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run of one workload took."""

    seconds: float
    calls: dict[str, int]  # by transaction class
    megabytes: float  # over the wire, both ways
    cpu_seconds: float
    peak_bytes: int


def quiet(*words: str | Path) -> None:
    """Run a program for its effect."""
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def read_whole(mount: Contender) -> None:
    quiet("dd", f"if={mount.path}/large", "of=/dev/null", "bs=1M", "status=none")


def list_long(mount: Contender) -> None:
    quiet("ls", "-lR", mount.path / "tree")


def find_names(mount: Contender) -> None:
    quiet("find", mount.path / "tree", "-type", "f")


def write_small(mount: Contender) -> None:
    target = mount.path / f"new-{time.monotonic_ns()}"
    target.mkdir()
    for index in range(FILES):
        (target / f"file{index}").write_bytes(os.urandom(SMALL))
    mount.flush()


def write_large(mount: Contender) -> None:
    target = mount.path / f"new-{time.monotonic_ns()}"
    quiet("dd", "if=/dev/zero", f"of={target}", "bs=1M", "count=128", "status=none")
    mount.flush()


def rename_directory(mount: Contender) -> None:
    os.rename(mount.path / "many", mount.path / "moved")
    mount.flush()


def remove_directory(mount: Contender) -> None:
    quiet("rm", "-r", mount.path / "many")
    mount.flush()


def read_at_random(mount: Contender) -> None:
    chance = random.Random(1)
    fd = os.open(mount.path / "large", os.O_RDONLY)
    try:
        for _ in range(200):
            os.pread(fd, 4096, chance.randrange(LARGE // 4096) * 4096)
    finally:
        os.close(fd)


WORKLOADS: dict[str, Callable[[Contender], None]] = {
    "read 256 MiB": read_whole,
    "ls -lR of 5000 in 500": list_long,
    "find of 5000 in 500": find_names,
    "200 reads of 4 KiB": read_at_random,
    "write 200 small, flush": write_small,
    "write 128 MiB, flush": write_large,
    "rename dir of 200, flush": rename_directory,
    "rm -r of 200, flush": remove_directory,
}


def prepare(emulator: Emulator, bucket: str) -> None:
    """Make what the workloads find."""
    emulator.create_bucket(bucket)
    emulator.seed(bucket, [{"name": "large", "size": LARGE}])
    rows = [
        {"name": f"tree/dir{number:03}/file{index}", "size": 1000}
        for number in range(500)
        for index in range(10)
    ]
    rows += [{"name": f"many/file{index:03}", "size": SMALL} for index in range(FILES)]
    emulator.seed(bucket, rows)


def measure(
    emulator: Emulator, make: type[Ours] | type[Rclone], network: str, work: Callable[[Contender], None]
) -> Measured:
    """Run one workload once, on a fresh bucket and a fresh mount."""
    bucket = f"bench-{time.monotonic_ns()}"
    prepare(emulator, bucket)
    key = emulator.create_key(ALL, [bucket])
    with tempfile.TemporaryDirectory() as base:
        mount: Contender = make(emulator, Path(base), key, bucket)
        drop_page_cache()
        emulator.network(**NETWORKS[network])
        mount.start()
        try:
            os.listdir(mount.path)
            emulator.reset_counters()
            cpu, began = cpu_seconds(mount.pid()), time.perf_counter()
            work(mount)
            seconds = time.perf_counter() - began
            cpu = cpu_seconds(mount.pid()) - cpu
            peak = peak_memory_bytes(mount.pid())
            counters = emulator.counters()
        finally:
            emulator.network(**NETWORKS["loopback"])
            mount.stop()
    emulator.wipe(bucket)
    megabytes = (counters["bytes_in"] + counters["bytes_out"]) / 1e6
    return Measured(seconds, counters["classes"], megabytes, cpu, peak)


def table(name: str, network: str, results: dict[str, list[Measured]]) -> str:
    """Return the lines of one workload."""

    def median(who: str, of: Callable[[Measured], float]) -> float:
        return statistics.median(of(one) for one in results[who])

    ours, theirs = median("b2mount", lambda m: m.seconds), median("rclone", lambda m: m.seconds)
    cells = [f"{name:<25} {network:<8} {ours:7.2f} {theirs:7.2f} {ours / theirs:6.2f}"]
    for who in ("b2mount", "rclone"):
        calls = "/".join(str(round(median(who, lambda m, c=letter: m.calls[c]))) for letter in "ABC")  # type: ignore[misc]  # the default binds the letter
        cells.append(f"{calls:>12} {median(who, lambda m: m.megabytes):6.0f}")
        cells.append(f"{median(who, lambda m: m.cpu_seconds):6.2f}")
        cells.append(f"{median(who, lambda m: m.peak_bytes) / 1e6:5.0f}")
    return " ".join(cells)


_COST = f"{'A/B/C':>12} {'MB':>6} {'CPU s':>6} {'RSS':>5}"  # of ours, then of rclone's
HEAD = f"{'workload':<25} {'network':<8} {'ours s':>7} {'rclone':>7} {'ratio':>6} {_COST} {_COST}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("workloads", nargs="*", help="words that a workload's name holds [all]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--network", choices=NETWORKS, action="append")
    said = parser.parse_args()
    chosen = [n for n in WORKLOADS if not said.workloads or any(word in n for word in said.workloads)]
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory() as data, Emulator(Path(data)) as emulator:
        for network in said.network or NETWORKS:
            for name in chosen:
                results: dict[str, list[Measured]] = {"b2mount": [], "rclone": []}
                for number in range(said.rounds):
                    say(f"{name}, {network}, round {number + 1} of {said.rounds}")
                    for make in (Ours, Rclone) if number % 2 == 0 else (Rclone, Ours):
                        results[make.name].append(measure(emulator, make, network, WORKLOADS[name]))
                print(table(name, network, results), flush=True)


if __name__ == "__main__":
    main()
