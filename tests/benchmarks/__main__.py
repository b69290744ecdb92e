"""Compare b2mount with rclone mount on the emulator: time, processor time, memory, calls, bytes, money.

    python -m tests.benchmarks                                all networks, all workloads, three rounds
    python -m tests.benchmarks --network far --workload 'find*' --rounds 1
    python -m tests.benchmarks --quick                        a trial with tiny sizes
    python -m tests.benchmarks report a.json b.json           write the page anew from what was kept

Needs root (it drops the page cache) and pip install '.[bench]'. Asserts nothing but that content is right.
"""

import argparse
import os
import signal
import sys
from fnmatch import fnmatch
from pathlib import Path

from tests.benchmarks import workloads_list, workloads_read, workloads_write
from tests.benchmarks.driver import Plan, run_plan
from tests.benchmarks.judge import judge
from tests.benchmarks.mounts import CONTENDERS
from tests.benchmarks.networks import NETWORKS
from tests.benchmarks.report import render, write_page
from tests.benchmarks.results import Results, describe_machine, load, merge
from tests.benchmarks.sizes import FAR, NEAR, QUICK
from tests.benchmarks.workload import Workload

WORKLOADS: tuple[Workload, ...] = (
    *workloads_read.WORKLOADS,
    *workloads_list.WORKLOADS,
    *workloads_write.WORKLOADS,
)
PROJECT = Path(__file__).parent.parent.parent
PAGE = PROJECT / "docs" / "benchmarks.md"
OUTPUT = PROJECT / "build" / "benchmarks.json"
ROUNDS = 3


def main() -> None:
    """Run or report, as the words say."""
    if sys.argv[1:2] == ["report"]:
        _report(sys.argv[2:])
    else:
        _run(sys.argv[1:])


def _report(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks report")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="later ones take precedence")
    parser.add_argument("--page", type=Path, default=PAGE, help="[docs/benchmarks.md]")
    said = parser.parse_args(words)
    publish(merge(map(load, said.files)), said.page)


def _run(words: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--network", action="append", choices=NETWORKS, help="again for several [all]")
    parser.add_argument(
        "--workload", action="append", metavar="GLOB", help="again for several [all but the optional]"
    )
    parser.add_argument("--only", action="append", choices=CONTENDERS, help="again for several [all]")
    parser.add_argument("--rounds", type=int, help=f"[{ROUNDS}; 1 with --quick]")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, and loopback unless said otherwise")
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, help="where the figures are kept [build/benchmarks.json]"
    )
    parser.add_argument("--page", type=Path, help="write the marked part of this page, and charts beside it")
    parser.add_argument("--list", action="store_true", help="show the workloads")
    said = parser.parse_args(words)
    chosen = choose(said.workload)
    if said.list:
        for workload in WORKLOADS:
            print(f"{workload.slug:<18} {'(optional) ' if workload.is_optional else ''}{_titles(workload)}")
        return
    if os.geteuid() != 0:
        raise SystemExit("the benchmark drops the page cache, which takes root")
    if not chosen:
        raise SystemExit(f"no workload is called {' or '.join(said.workload)}; --list shows all")
    networks = said.network or (["loopback"] if said.quick else list(NETWORKS))
    rounds = said.rounds or (1 if said.quick else ROUNDS)
    near, far = (QUICK, QUICK) if said.quick else (NEAR, FAR)
    plan = Plan(
        [NETWORKS[name] for name in networks],
        chosen,
        said.only or list(CONTENDERS),
        rounds,
        near,
        far,
        said.quick,
    )
    results = Results(describe_machine({"rounds": rounds, "quick": said.quick}))
    said.output.parent.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that all is put away
    try:
        run_plan(plan, results, said.output)
    finally:
        print(render(results, WORKLOADS, None))
    if said.page:
        publish(results, said.page)
    failed = [sample for sample in results.samples if sample.failure and sample.over_seconds is None]
    sys.exit(1 if failed else 0)


def choose(globs: list[str] | None) -> tuple[Workload, ...]:
    """Return the workloads that any of *globs* names, by their slug or a row's; optional ones by slug alone.

    Without globs all that are not optional.
    """

    def is_chosen(workload: Workload) -> bool:
        if workload.is_optional or not globs:
            return workload.slug in (globs or ()) or not workload.is_optional
        names = (workload.slug, *(row.slug for row in workload.rows))
        return any(fnmatch(name, glob) for name in names for glob in globs)

    return tuple(filter(is_chosen, WORKLOADS))


def publish(results: Results, page: Path) -> None:
    """Write the marked part of a page, and its charts into a folder beside it, called as the page."""
    from tests.benchmarks.chart import draw

    folder = page.with_suffix("")
    for network in NETWORKS:
        if lines := judge(results, network, WORKLOADS):
            draw(lines, network, folder / f"{network}.svg")
    write_page(page, render(results, WORKLOADS, folder.name))


def _titles(workload: Workload) -> str:
    return "; ".join(row.title.format_map(NEAR.words()) for row in workload.rows)


if __name__ == "__main__":
    main()
