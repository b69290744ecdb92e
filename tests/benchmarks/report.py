"""Writes what was measured as Markdown, between two marks of a page that is otherwise written by hand."""

from pathlib import Path

from tests.benchmarks.ceilings import CONNECTIONS
from tests.benchmarks.judge import RATIOS, RIVALS, Line, Verdict, judge
from tests.benchmarks.measure import Cost
from tests.benchmarks.mounts import OURS
from tests.benchmarks.networks import NETWORKS
from tests.benchmarks.results import Cell, Results
from tests.benchmarks.workload import SECONDS, Workload

BEGIN = "<!-- measured: begin; written by python -m tests.benchmarks report -->"
END = "<!-- measured: end -->"
NONE = "–"


def render(results: Results, workloads: tuple[Workload, ...], charts: str | None) -> str:
    """Return everything as Markdown; *charts* is the folder of the charts as the page sees it."""
    parts = [_facts(results)]
    for name, network in NETWORKS.items():
        lines = judge(results, name, workloads)
        if not lines:
            continue
        parts.append(f"### {name}\n\n{network.words[0].upper()}{network.words[1:]}.")
        if name in results.ceilings:
            parts.append(_ceilings(results.ceilings[name]))
        if charts is not None:
            parts.append(f"![Ratios to rclone's better configuration, {name}]({charts}/{name}.svg)")
        parts += [_times(lines), _costs(lines), _verdicts(lines), _failures(lines)]
    return "\n\n".join(part for part in parts if part) + "\n"


def write_page(page: Path, text: str) -> None:
    """Put *text* between the marks of a page."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin and end, f"{page} has no marks"
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")


def _facts(results: Results) -> str:
    facts = results.facts
    if not facts:
        return ""
    quick = " **A trial with tiny sizes: the figures mean nothing.**" if facts.get("quick") else ""
    rounds = "One round each" if facts["rounds"] == 1 else f"Medians of up to {facts['rounds']} rounds"
    return (
        f"Measured on {facts['date']} at commit {facts['commit']}: {facts['processors']} processors"
        f" ({facts['processor']}), {facts['memory_gib']} GiB, Linux {facts['kernel']}, Python"
        f" {facts['python']}, pyfuse3 {facts['pyfuse3']}, rclone {facts['rclone']}. {rounds}.{quick}"
    )


def _ceilings(found: dict[str, float]) -> str:
    speeds = " / ".join(f"{found[f'download_{count}_MB_s']:.0f}" for count in CONNECTIONS)
    return (
        "The emulator alone, asked by a plain HTTP client and with no distance played:"
        f" {speeds} MB/s over {' / '.join(map(str, CONNECTIONS))} connections,"
        f" {found['pages_of_1000_a_s']:.0f} listings of 1,000 rows or"
        f" {found['pages_of_10000_a_s']:.1f} of 10,000 a second,"
        f" {found['small_downloads_a_s']:.0f} small downloads a second over one connection."
    )


def _times(lines: list[Line]) -> str:
    rows = ["| work | b2mount s | rclone s | rclone tuned s | ratio | goal |", "|---|--:|--:|--:|--:|--:|"]
    for line in lines:
        cells = [_seconds(line.cells.get(name)) for name in (OURS, *RIVALS)]
        goal = next((v.goal.most for v in line.verdicts if v.goal.what == SECONDS), None)
        ratio = NONE if line.ratio is None else f"{_below(line)}{line.ratio:.2g}"
        met = any(v.goal.what == SECONDS and not v.is_met for v in line.verdicts)
        ratio = f"**{ratio}**" if met else ratio
        rows.append(
            f"| {line.title} | {' | '.join(cells)} | {ratio} | {NONE if goal is None else f'{goal:g}'} |"
        )
    return "\n".join(rows)


def _below(line: Line) -> str:
    """Return a sign for a ratio to a run that was ended before it was done."""
    theirs = line.cells[line.better] if line.better else None
    return "< " if theirs is not None and theirs.cost is None else ""


def _seconds(cell: Cell | None) -> str:
    if cell is None:
        return NONE
    if cell.cost is None:
        return "failed" if cell.over_seconds is None else f"> {cell.over_seconds:.0f}"
    return f"{cell.cost.seconds:.3g}" if cell.cost.seconds < 100 else f"{cell.cost.seconds:.0f}"


def _costs(lines: list[Line]) -> str:
    """Return the table of what else the work cost: ours, then rclone's better configuration."""
    rows = [
        "| ours / rclone's better | CPU s | server's CPU s | peak MiB | PSS MiB | calls A, B, C | MB down"
        " | MB up | $ a million times |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for line in lines:
        both = [_figures(line.cells.get(name or "")) for name in (OURS, line.better)]
        cells = [" / ".join(pair) for pair in zip(*both, strict=True)]
        rows.append(f"| {line.title} | {' | '.join(cells)} |")
    notes = [
        f"{line.title}: "
        + "; ".join(f"{name} {cell.cost.note}" for name, cell in line.cells.items() if cell.cost)
        for line in lines
        if any(cell.cost and cell.cost.note for cell in line.cells.values())
    ]
    return "\n".join(rows) + "".join(f"\n\n{note}." for note in notes)


def _figures(cell: Cell | None) -> list[str]:
    cost: Cost | None = cell.cost if cell else None
    if cost is None:
        return [NONE] * 8
    return [
        f"{cost.cpu_seconds:.2f}",
        f"{cost.server_cpu_seconds:.2f}",
        f"{cost.peak_bytes / 2**20:.0f}",
        f"{cost.shared_bytes / 2**20:.0f}",
        ", ".join(f"{cost.classes[kind]}" for kind in "ABC"),
        _megabytes(cost.bytes_down),
        _megabytes(cost.bytes_up),
        f"{cost.dollars_a_million:,.0f}",
    ]


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f}" if count < 100_000_000 else f"{count / 1e6:.0f}"


def _verdicts(lines: list[Line]) -> str:
    missed = [(line, verdict) for line in lines for verdict in line.verdicts if not verdict.is_met]
    count = sum(len(line.verdicts) for line in lines)
    if not count:
        return ""
    if not missed:
        return f"All {count} goals are reached."
    rows = [f"- {line.title}: {_tell(verdict)}" for line, verdict in missed]
    return f"{count - len(missed)} of {count} goals are reached. Missed:\n\n" + "\n".join(rows)


def _tell(verdict: Verdict) -> str:
    goal = verdict.goal
    of = " of rclone's" if goal.what in RATIOS else ""
    return f"{goal.what} {verdict.value:.3g}{of}, at most {goal.most:g} aimed at"


def _failures(lines: list[Line]) -> str:
    rows = [
        f"- {line.title}, {name}: {' '.join(cell.failure.split())}"
        for line in lines
        for name, cell in line.cells.items()
        if cell.failure
    ]
    return "Runs that did not end well:\n\n" + "\n".join(rows) if rows else ""
