"""Draws the ratios of one network as a small SVG that is the same for the same figures."""

from pathlib import Path

from tests.benchmarks.judge import Line
from tests.benchmarks.mounts import OURS
from tests.benchmarks.workload import SECONDS

BETTER, WORSE, OTHER = "#0072b2", "#d55e00", "#999999"  # told apart also by the colour-blind (Okabe and Ito)
SMALLEST = 0.003  # what is less is drawn as this


def draw(lines: list[Line], network: str, path: Path) -> None:
    """Draw our time, processor time and peak memory as ratios to rclone's better configuration."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "b2mount", "svg.fonttype": "none", "font.size": 8})
    from matplotlib import pyplot

    shown = [line for line in reversed(lines) if line.ratio is not None]
    if not shown:
        return
    panels = {"time": SECONDS, "CPU time of the mount": None, "peak memory of the mount": None}
    figure, axes = pyplot.subplots(
        1, len(panels), sharey=True, figsize=(11, 0.6 + 0.21 * len(shown)), layout="constrained"
    )
    columns = [
        [line.ratio for line in shown],
        [_ratio(line, "cpu_seconds") for line in shown],
        [_ratio(line, "peak_bytes") for line in shown],
    ]
    for axis, title, values in zip(axes, panels, columns, strict=True):
        widths = [max(SMALLEST, value) if value is not None else 1.0 for value in values]
        colours = [OTHER if value is None else BETTER if value <= 1 else WORSE for value in values]
        axis.barh(range(len(shown)), [width - 1 for width in widths], left=1, color=colours, height=0.7)
        axis.set_xscale("log")
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_title(f"{title}, b2mount / rclone")
        axis.spines[["top", "right"]].set_visible(False)
    for place, line in enumerate(shown):
        goal = next((verdict.goal.most for verdict in line.verdicts if verdict.goal.what == SECONDS), None)
        if goal is not None:
            axes[0].plot([goal, goal], [place - 0.4, place + 0.4], color="black", linewidth=1.5)
    axes[0].set_yticks(range(len(shown)), [line.title for line in shown])
    figure.suptitle(f"{network}: left of 1 b2mount is better; black strokes are goals")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


def _ratio(line: Line, name: str) -> float | None:
    ours = line.cells[OURS].cost
    theirs = line.cells[line.better].cost if line.better else None
    if ours is None or theirs is None or not getattr(theirs, name):
        return None
    return float(getattr(ours, name)) / float(getattr(theirs, name))
