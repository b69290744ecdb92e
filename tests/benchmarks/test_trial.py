"""The benchmark itself runs: all workloads on all mounts with tiny sizes, verified; the page comes out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import PROJECT, WORKLOADS
from tests.benchmarks.mounts import CONTENDERS
from tests.benchmarks.report import BEGIN, END
from tests.benchmarks.results import load
from tests.support.programs import need

pytestmark = [
    pytest.mark.slow,
    pytest.mark.fuse,
    pytest.mark.tools,
    pytest.mark.skipif(os.geteuid() != 0, reason="dropping the page cache needs root"),
]


def bench(base: Path, *words: str | Path, seconds: float = 280) -> subprocess.CompletedProcess[str]:
    """Run the benchmark with its temporary files below *base*; demand that it leaves none and no mount."""
    need("rclone")
    temporary = base / "tmp"
    temporary.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *words],
        cwd=PROJECT,
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert f" {temporary}/" not in Path("/proc/self/mountinfo").read_text()
    assert list(temporary.iterdir()) == []
    return done


@pytest.mark.timeout(600)
def test_a_trial_of_everything_is_verified_and_makes_the_same_page_twice(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the charts need pip install '.[bench]'")
    page, kept = tmp_path / "page.md", tmp_path / "kept.json"
    page.write_text(f"{BEGIN}\n{END}\n")
    words = ["--quick", "--workload", "*", "--workload", "ls-million"]
    done = bench(tmp_path, *words, "--output", kept, "--page", page, seconds=580)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {(sample.row, sample.contender) for sample in load(kept).samples if sample.cost}
    assert found == {(row.slug, who) for work in WORKLOADS for row in work.rows for who in CONTENDERS}
    first = (page.read_text(), (tmp_path / "page/loopback.svg").read_bytes())
    assert bench(tmp_path, "report", kept, "--page", page).returncode == 0
    assert (page.read_text(), (tmp_path / "page/loopback.svg").read_bytes()) == first


@pytest.mark.parametrize("network", ["tls", "far"])
def test_a_trial_of_one_row_on_the_other_networks(tmp_path: Path, network: str) -> None:
    kept = tmp_path / "kept.json"
    words = ["--quick", "--network", network, "--workload", "first-64k", "--only", "b2mount"]
    done = bench(tmp_path, *words, "--output", kept)
    assert done.returncode == 0, done.stdout + done.stderr
    [sample] = load(kept).samples
    assert sample.cost is not None
    assert sample.cost.seconds >= (0.04 if network == "far" else 0)
