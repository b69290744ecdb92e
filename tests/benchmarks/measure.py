"""What one piece of work cost: seconds, processor time, memory, API calls by class and bytes.

Everything is asked from outside, in the same way for every mount: times and memory from the kernel, calls and
bytes from the emulator's counters.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from b2mount.store.counting import CLASS_C, CLASSES, DOLLARS_EACH
from tests.support.emulator import Emulator

TICKS = os.sysconf("SC_CLK_TCK")
FORGET_PEAK = "5"  # to /proc/PID/clear_refs: the greatest resident set is counted anew. Source: proc(5)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one row of one run took."""

    seconds: float
    cpu_seconds: float  # of the mount and its children
    server_cpu_seconds: float
    peak_bytes: int  # greatest resident set, summed over the mount's processes
    shared_bytes: int  # proportional set size at the end, likewise
    classes: Mapping[str, int]
    bytes_up: int  # over the wire, bodies only
    bytes_down: int
    note: str = ""  # what is to be said beside the figures

    @property
    def dollars_a_million(self) -> float:
        """What the calls cost when the work is done a million times; free calls are not taken off."""
        return 1e6 * sum(DOLLARS_EACH[kind] * count for kind, count in self.classes.items())


@dataclass(slots=True)
class Clock:
    """The time of one row; what is spent in `paused` does not count, nor what is marked as our own calls."""

    note: str = ""
    _out: float = 0.0
    _own_classes: dict[str, int] = field(default_factory=lambda: dict.fromkeys("ABC", 0))
    _own_up: int = 0
    _own_down: int = 0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave what happens inside out of the time."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._out += time.perf_counter() - began

    def disown(self, kind: str, bytes_up: int, bytes_down: int) -> None:
        """Leave a call that the benchmark made itself out of the count."""
        self._own_classes[kind] += 1
        self._own_up += bytes_up
        self._own_down += bytes_down

    def cost(self, elapsed: float, before: "Snapshot", after: "Snapshot") -> Cost:
        """Return what lay between two snapshots, less what is not the mount's."""
        return Cost(
            seconds=elapsed - self._out,
            cpu_seconds=after.cpu - before.cpu,
            server_cpu_seconds=after.server_cpu - before.server_cpu,
            peak_bytes=after.peak,
            shared_bytes=after.shared,
            classes={
                kind: after.classes[kind] - before.classes[kind] - self._own_classes[kind] for kind in "ABC"
            },
            bytes_up=after.bytes_in - before.bytes_in - self._own_up,
            bytes_down=after.bytes_out - before.bytes_out - self._own_down,
            note=self.note,
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All counters at one moment."""

    cpu: float
    server_cpu: float
    peak: int
    shared: int
    classes: Mapping[str, int]
    bytes_in: int
    bytes_out: int
    uploads: int  # files that B2 took


def take(pid: int | None, emulator: Emulator) -> Snapshot:
    """Read all counters; without a process, those of the server alone."""
    tree, counters = [] if pid is None else process_tree(pid), emulator.counters()
    # A download that a mount keeps open, unread, has been paid for; the counters show it when it ends.
    busy = emulator.control("GET", "busy")["entries"]
    running = Counter(CLASSES.get(entry["call"], CLASS_C) for entry in busy)
    return Snapshot(
        cpu=sum(map(cpu_seconds, tree)),
        server_cpu=cpu_seconds(emulator.pid),
        peak=sum(kibibytes(one, "status", "VmHWM") for one in tree) * 1024,
        shared=sum(kibibytes(one, "smaps_rollup", "Pss") for one in tree) * 1024,
        classes={kind: count + running[kind] for kind, count in counters["classes"].items()},
        bytes_in=counters["bytes_in"] + sum(entry["bytes_in"] for entry in busy),
        bytes_out=counters["bytes_out"] + sum(entry["bytes_out"] for entry in busy),
        uploads=count_uploads(emulator),
    )


def count_uploads(emulator: Emulator) -> int:
    """Return how many files B2 has taken, small or large."""
    calls = emulator.counters()["calls"]
    return sum(calls.get(name, 0) for name in ("b2_upload_file", "b2_finish_large_file"))


def process_tree(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").iterdir():
            found += [int(word) for word in (task / "children").read_text().split()]
    return found


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used, with that of children it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def kibibytes(pid: int, file: str, name: str) -> int:
    """Return one figure of a process's memory."""
    for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise AssertionError(f"no {name}")


def forget_peaks(pid: int) -> None:
    """Have the kernel count the greatest resident sets anew."""
    for one in process_tree(pid):
        Path(f"/proc/{one}/clear_refs").write_text(FORGET_PEAK)


def drop_page_cache() -> None:
    """Have the kernel forget what it read, of the mount and of the files its cache keeps; needs root."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")
