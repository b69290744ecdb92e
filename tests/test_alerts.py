"""The alert rules do what they say, by Prometheus's own tool; and name metrics that a mount has."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.programs import need_if_any

PROJECT = Path(__file__).parent.parent
RULES = PROJECT / "docs" / "prometheus-alerts.yml"
METRICS = (PROJECT / "docs" / "monitoring.md").read_text()
PROMTOOL = "it comes with Prometheus, and tests the alert rules alone"


def promtool(*words: str | Path, stdin: str = "") -> str:
    """Run promtool, demand that it finds nothing to complain of, and return what it said."""
    done = subprocess.run(
        [need_if_any("promtool", PROMTOOL), *words],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_prometheus_reads_the_rules() -> None:
    assert "SUCCESS: 10 rules found" in promtool("check", "rules", RULES)


def test_each_alert_is_raised_by_what_it_is_for_and_by_nothing_else() -> None:
    assert "SUCCESS" in promtool("test", "rules", PROJECT / "tests" / "alerts.yml")


def test_each_alert_is_tested() -> None:
    alerts = re.findall(r"alert: (\w+)", RULES.read_text())
    tested = re.findall(r"alertname: (\w+)\n +exp_alerts:", (PROJECT / "tests" / "alerts.yml").read_text())
    assert sorted(tested) == sorted(alerts)


@pytest.mark.parametrize("file", [RULES, PROJECT / "tests" / "alerts.yml"])
def test_rules_and_their_tests_name_metrics_that_there_are(file: Path) -> None:
    named = {name.removesuffix("_bucket") for name in re.findall(r"\bb2mount_\w+", file.read_text())}
    assert {name for name in named if f"| `{name}` |" not in METRICS} == set()
