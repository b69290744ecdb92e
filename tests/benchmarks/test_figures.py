"""What becomes of samples: medians, verdicts, merging, the page. No mount, no server."""

from pathlib import Path

import pytest

from tests.benchmarks import content
from tests.benchmarks.__main__ import WORKLOADS, choose
from tests.benchmarks.judge import judge
from tests.benchmarks.measure import Clock, Cost, Snapshot
from tests.benchmarks.report import BEGIN, END, render, write_page
from tests.benchmarks.results import Results, Sample, load, median_cell, merge
from tests.benchmarks.sizes import NEAR, QUICK
from tests.support.emulator import pattern


def cost(seconds: float, class_c: int = 0) -> Cost:
    return Cost(seconds, 0.1, 0.2, 50 << 20, 40 << 20, {"A": 0, "B": 10, "C": class_c}, 5, 1_000_000)


def sample(
    who: str, seconds: float | None, network: str = "far", row: str = "find", **more: object
) -> Sample:
    taken = None if seconds is None else cost(seconds, class_c=1000 if who != "b2mount" else 10)
    return Sample(network, row, "find it", who, 0, taken, **more)  # type: ignore[arg-type]  # failure, over_seconds


def test_a_million_times_ten_of_class_b_and_three_of_class_c_cost_16_dollars() -> None:
    assert cost(1, class_c=3).dollars_a_million == pytest.approx(4 + 12)


def test_the_ratio_is_to_the_better_configuration_of_rclone() -> None:
    samples = [sample("b2mount", 1.0), sample("rclone", 5.0), sample("rclone-tuned", 4.0)]
    [line] = judge(Results(samples=samples), "far", WORKLOADS)
    assert (line.better, line.ratio) == ("rclone-tuned", 0.25)
    assert {(v.goal.what, v.value, v.is_met) for v in line.verdicts} == {
        ("time", 0.25, False),
        ("class C calls", 0.01, True),
    }


def test_a_run_that_was_ended_counts_by_its_limit_and_one_that_failed_not_at_all() -> None:
    failed = sample("rclone", None, failure="wrong bytes")
    ended = sample("rclone-tuned", None, failure="ended after 60 s", over_seconds=60.0)
    results = Results(samples=[sample("b2mount", 3.0), failed, ended])
    [line] = judge(results, "far", WORKLOADS)
    assert (line.better, line.ratio) == ("rclone-tuned", 0.05)
    text = render(results, WORKLOADS, None)
    assert "| find it | 3 | failed | > 60 | **< 0.05** | 0.02 |" in text
    assert "- find it, rclone: wrong bytes" in text


def test_goals_of_another_network_are_not_judged() -> None:
    samples = [sample("b2mount", 1.0, "loopback"), sample("rclone", 2.0, "loopback")]
    [line] = judge(Results(samples=samples), "loopback", WORKLOADS)
    assert [(v.goal.what, v.is_met) for v in line.verdicts] == [("time", True)]


def test_medians_leave_out_failed_rounds_and_tell_of_them() -> None:
    samples = [sample("rclone", s) for s in (3.0, 1.0, 2.0)] + [sample("rclone", None, failure="hung")]
    cell = median_cell(samples)
    assert cell is not None and cell.cost is not None
    assert (cell.cost.seconds, cell.rounds, cell.failure) == (2.0, 3, "hung")


def test_results_survive_a_file_and_later_ones_replace_the_rows_they_hold(tmp_path: Path) -> None:
    first = Results(
        {"date": "then"}, {"far": {"x": 1}}, [sample("b2mount", 1.0), sample("b2mount", 2.0, row="ls")]
    )
    first.save(tmp_path / "first.json")
    assert load(tmp_path / "first.json") == first
    merged = merge([first, Results({"date": "now"}, {}, [sample("rclone", 9.0)])])
    assert merged.facts == {"date": "now"} and merged.ceilings == first.ceilings
    assert {(s.row, s.contender) for s in merged.samples} == {("ls", "b2mount"), ("find", "rclone")}


def test_the_page_keeps_what_is_written_by_hand(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_page(page, "new\n")
    write_page(page, "newer\n")
    assert page.read_text() == f"before\n{BEGIN}\n\nnewer\n\n{END}\nafter\n"


def test_pauses_and_calls_of_our_own_do_not_count() -> None:
    clock = Clock()
    with clock.paused():
        pass
    clock.disown("C", 10, 100)
    before = Snapshot(1.0, 5.0, 0, 0, {"A": 1, "B": 1, "C": 1}, 0, 0, 0)
    after = Snapshot(1.5, 5.25, 7, 6, {"A": 2, "B": 1, "C": 3}, 30, 300, 1)
    got = clock.cost(2.0, before, after)
    assert got.seconds < 2.0
    assert (got.cpu_seconds, got.server_cpu_seconds, got.bytes_up, got.bytes_down) == (0.5, 0.25, 20, 200)
    assert got.classes == {"A": 1, "B": 0, "C": 1}


@pytest.mark.parametrize("offset", [0, 1, 65520, 65521, 10_000_000_019])
def test_one_wrong_byte_anywhere_is_found(offset: int) -> None:
    buffer, right = content.Buffer(4096), pattern("name", offset, 4096)
    buffer.view[:] = right
    buffer.check("name", offset, 4096)
    assert content.seeded("name", offset, 4096) == right
    for place in (0, 2000, 4095):
        buffer.view[place] ^= 1
        with pytest.raises(AssertionError, match="wrong bytes in name"):
            buffer.check("name", offset, 4096)
        buffer.view[place] ^= 1
    with pytest.raises(AssertionError):
        buffer.check("other", offset, 4096)


def test_workloads_are_chosen_by_their_own_names_and_their_rows() -> None:
    assert [workload.slug for workload in choose(["read-ag*"])] == ["sequential"]
    assert [workload.slug for workload in choose(["ls-million"])] == ["ls-million"]
    for globs in (None, ["*"], ["first*"]):
        assert "ls-million" not in {workload.slug for workload in choose(globs)}


def test_every_row_has_a_name_of_its_own_and_a_title_that_can_be_filled() -> None:
    slugs = [row.slug for workload in WORKLOADS for row in workload.rows]
    assert len(set(slugs)) == len(slugs)
    for sizes in (NEAR, QUICK):
        titles = [row.title.format_map(sizes.words()) for workload in WORKLOADS for row in workload.rows]
        assert not any("{" in title for title in titles)
