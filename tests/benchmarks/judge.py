"""Which of the goals were reached: what is compared, and with which of rclone's configurations."""

from dataclasses import dataclass

from tests.benchmarks.measure import Cost
from tests.benchmarks.mounts import OURS
from tests.benchmarks.networks import NETWORKS
from tests.benchmarks.results import Cell, Results, median_cell
from tests.benchmarks.workload import (
    ABSOLUTE_SECONDS,
    BYTES,
    CALLS,
    CLASS_C,
    MEMORY,
    MOVED,
    SECONDS,
    Goal,
    Row,
    Workload,
)

RATIOS = (SECONDS, CLASS_C, BYTES, MOVED)
RIVALS = ("rclone", "rclone-tuned")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one goal."""

    goal: Goal
    value: float

    @property
    def is_met(self) -> bool:
        """Say whether the goal is reached."""
        return self.value <= self.goal.most


@dataclass(frozen=True, slots=True)
class Line:
    """One row of one network's table."""

    row: Row
    kind: str
    title: str
    cells: dict[str, Cell]  # by contender
    better: str | None  # rclone's better configuration, by time
    verdicts: tuple[Verdict, ...]

    @property
    def ratio(self) -> float | None:
        """Return our time to rclone's better one."""
        return self.ratio_of(SECONDS)

    def ratio_of(self, what: str) -> float | None:
        """Return our figure to that of rclone's better configuration."""
        ours = self.cells.get(OURS)
        theirs = self.cells.get(self.better) if self.better else None
        if ours is None or ours.cost is None or theirs is None:
            return None
        if what == SECONDS:
            return ours.cost.seconds / theirs.seconds if theirs.seconds else None
        return figure(ours.cost, what) / max(1.0, figure(theirs.cost, what)) if theirs.cost else None


def figure(cost: Cost, what: str) -> float:
    """Return one figure of a cost by the name that goals use."""
    figures = {
        SECONDS: cost.seconds,
        ABSOLUTE_SECONDS: cost.seconds,
        CLASS_C: cost.classes["C"],
        CALLS: sum(cost.classes.values()),
        BYTES: cost.bytes_down,
        MOVED: cost.bytes_down + cost.bytes_up,
        MEMORY: cost.peak_bytes / 2**20,
    }
    return float(figures[what])


def judge(results: Results, network: str, workloads: tuple[Workload, ...]) -> list[Line]:
    """Return the lines of one network, in the order of the workloads, with what became of the goals."""
    lines = []
    for workload in workloads:
        for row in workload.rows:
            cells = {
                name: cell
                for name in (OURS, *RIVALS)
                if (cell := median_cell(results.of(network, row.slug, name))) is not None
            }
            if cells:
                title = next(s.title for s in results.samples if (s.network, s.row) == (network, row.slug))
                lines.append(_judge_row(row, workload.kind, title, cells, is_far=NETWORKS[network].is_far))
    return lines


def _judge_row(row: Row, kind: str, title: str, cells: dict[str, Cell], *, is_far: bool) -> Line:
    # One that was ended for being slow counts by the time it was given; one that failed does not count.
    times = {name: seconds for name in RIVALS if name in cells and (seconds := cells[name].seconds)}
    better = min(times, key=lambda name: times[name]) if times else None
    bare = Line(row, kind, title, cells, better, ())
    verdicts = []
    for goal in row.goals:
        if goal.is_far != is_far:
            continue
        ours = cells.get(OURS)
        value = (
            bare.ratio_of(goal.what)
            if goal.what in RATIOS
            else (figure(ours.cost, goal.what) if ours and ours.cost else None)
        )
        if value is not None:
            verdicts.append(Verdict(goal, value))
    return Line(row, kind, title, cells, better, tuple(verdicts))
