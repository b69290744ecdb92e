"""What many mounts on one host take: memory and start of each, a key and a prefix each, on the emulator.

    python -m tests.benchmarks.tenants 20

docs/scale.md holds its figures. All mounts idle but for one look at each root: for what work takes see
docs/benchmarks.md.
"""

import contextlib
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.measure import cpu_seconds, kibibytes
from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount

BUCKET = "tenants"
IDLE_SECONDS = 10.0


def measure(count: int, base: Path) -> dict[str, float]:
    """Mount *count* tenants one after the other, and return what they take in all and each."""
    with Emulator(base / "b2") as emulator, contextlib.ExitStack() as stack:
        emulator.create_bucket(BUCKET)
        seconds, free = [], _available_mib()
        mounts: list[Mount] = []
        for number in range(count):
            prefix = f"tenant-{number}/"
            emulator.upload(BUCKET, f"{prefix}file", b"content")
            key = emulator.create_key(ALL, [BUCKET], prefix)
            began = time.perf_counter()
            mounts.append(stack.enter_context(Mount(emulator, base / str(number), key)))
            seconds.append(time.perf_counter() - began)
        for mount in mounts:
            assert os.listdir(mount.path) == ["file"]
        pids = [mount.process.pid for mount in mounts if mount.process is not None]
        before = sum(map(cpu_seconds, pids))
        time.sleep(IDLE_SECONDS)
        spent = sum(map(cpu_seconds, pids)) - before
        shared = [kibibytes(pid, "smaps_rollup", "Pss") / 1024 for pid in pids]
        return {
            "mounts": count,
            "start_median_s": round(statistics.median(seconds), 2),
            "start_last_s": round(seconds[-1], 2),
            "pss_median_mib": round(statistics.median(shared), 1),
            "pss_sum_mib": round(sum(shared)),
            "rss_median_mib": round(
                statistics.median(kibibytes(pid, "status", "VmRSS") / 1024 for pid in pids), 1
            ),
            "available_less_mib": round(free - _available_mib()),
            "start_cpu_median_s": round(statistics.median(map(cpu_seconds, pids)), 2),
            "threads_each": statistics.median(len(os.listdir(f"/proc/{pid}/task")) for pid in pids),
            "files_each": statistics.median(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids),
            "idle_cpu_percent_each": round(100 * spent / IDLE_SECONDS / count, 3),
        }


def _available_mib() -> float:
    rows = dict(row.split(":") for row in Path("/proc/meminfo").read_text().splitlines())
    return int(rows["MemAvailable"].split()[0]) / 1024


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        for name, value in measure(int(sys.argv[1]) if len(sys.argv) > 1 else 20, Path(directory)).items():
            print(f"{name:24} {value}")
