"""A mount that dies between any two steps of its journal and its calls loses nothing that was acknowledged.

The mount counts its own steps and ends without a word at the Nth (dying/sitecustomize.py); a new mount must
then show each change that had returned, the one under way wholly or not at all, and end clean.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.model.driver import Driver
from tests.model.generator import PART
from tests.model.operations import Step, snapshot
from tests.model.torture import Variant, new_driver
from tests.support.emulator import Emulator
from tests.support.mount import MountFailed

pytestmark = pytest.mark.fuse

DEAD = ("ENOTCONN", "ECONNABORTED")
DEATH = 9  # the exit status of dying/sitecustomize.py

SCRIPT: tuple[Step, ...] = (
    ("mkdir", "d"),
    ("write", "d/small", 1, 500),
    ("write", "large", 2, 5 * PART),
    ("open", 0, "large", "rw"),
    ("fsync", 0),
    ("close", 0),
    ("patch", "large", 2 * PART, 3, 1000),
    ("chmod", "d/small", 0o600),
    ("rename", "d/small", "moved"),
    ("write", "d/small", 4, 800),
    ("setxattr", "moved", "one", "value"),
    ("rename", "d", "e"),
    ("write", "temporary", 5, 3000),
    ("rename", "temporary", "large"),
    ("unlink", "moved"),
    ("symlink", "large", "moved"),
    ("open", 1, "moved", "rw"),
    ("fsync", 1),
    ("close", 1),
    ("write", "e/other", 6, 10),
    ("unlink", "e/small"),
    ("unlink", "e/other"),
    ("rmdir", "e"),
    ("append", "large", 7, 2 * PART),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("emulator")) as emulator:
        emulator.settings(min_part_size=PART)
        yield emulator


@dataclass(frozen=True, slots=True)
class Deaths:
    """At which of its steps a mount dies, and at which the next one does, which takes up what it left."""

    first: int
    second: int | None = None

    def __str__(self) -> str:
        return f"{self.first}-{self.second}"


def survives(
    server: Emulator, base: Path, variant: Variant, deaths: Deaths, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """Run the script on a mount that dies as *deaths* say, recover and check; say whether it died at all."""
    base.mkdir()
    driver = new_driver(server, base, variant)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "dying"))
    try:
        monkeypatch.setenv("DIE_AT", str(deaths.first))
        driver.mount.start()
        states = _run_until_death(driver)
        died = driver.mount.stop() == DEATH  # at once, or while it sends what is left
        driver.mount.kill()
        driver.real.close_all()
        driver.model.close_all()
        if deaths.second is not None:
            monkeypatch.setenv("DIE_AT", str(deaths.second))
            _die_again(driver)
        monkeypatch.delenv("DIE_AT")
        driver.mount.start()
        found = snapshot(driver.real.root)
        assert found in states, f"died at step {deaths}: {_differences(found, states)}"
        if found != snapshot(driver.model.root):
            driver.event_flush_only()
        else:
            driver.event_remount_empty()
        assert driver.mount.stop() == 0, driver.mount.log()
        driver.demand_nothing_left()
        demand_no_doubles(driver)
        assert "Traceback" not in driver.mount.log(), driver.mount.log()
        return died
    finally:
        driver.real.close_all()
        driver.mount.kill()
        server.wipe(driver.bucket)


def _run_until_death(driver: Driver) -> list[dict[str, tuple[object, ...]]]:
    """Do the steps until the mount has died, or all; return what it may show afterwards."""
    for step in SCRIPT:
        before = snapshot(driver.model.root)
        real = driver.real.run(step)
        expected = driver.model.run(step)
        if real in DEAD:
            return [before, snapshot(driver.model.root)]
        assert real == expected, step
    return [snapshot(driver.model.root)]


def _die_again(driver: Driver) -> None:
    """Have a mount take up what is left, and die before it has sent all, if it comes to its step."""
    try:
        driver.mount.start()
    except MountFailed:
        assert driver.mount.process is not None
        assert driver.mount.process.returncode == DEATH, driver.mount.log()
        driver.mount.kill()  # the mount point that it may have left
    else:
        assert driver.mount.stop() in (0, DEATH), driver.mount.log()


def demand_no_doubles(driver: Driver) -> None:
    """Demand that nobody sent the same change twice: each has a time of its own, to the nanosecond."""
    made = Counter(
        (row["fileName"], row["contentLength"], str(sorted(row["fileInfo"].items())))
        for row in driver.emulator.list_versions(driver.bucket, driver.prefix)
        if row["action"] == "upload" and not row["fileName"].endswith("/.bzEmpty")
    )
    assert [one for one, times in made.items() if times > 1] == []


def _differences(found: dict[str, tuple[object, ...]], states: list[dict[str, tuple[object, ...]]]) -> str:
    return "\n".join(
        f"{name}: {str(found.get(name))[:200]} instead of {[str(state.get(name))[:200] for state in states]}"
        for name in sorted({name for state in [found, *states] for name in state})
        if any(found.get(name) != state.get(name) for state in states)
    )


def try_all(server: Emulator, base: Path, variant: Variant, steps: range, *, again: bool) -> int:
    """Let the mount die at each of *steps*, until it lives through the script; return how often it died.

    With *again*, the mount that takes up what is left dies as well, at one of its first steps, another each
    time.
    """
    for times, die_at in enumerate(steps):
        deaths = Deaths(die_at, 1 + times % AGAIN if again else None)
        with pytest.MonkeyPatch.context() as monkeypatch:
            try:
                if not survives(server, base / str(die_at), variant, deaths, monkeypatch):
                    return times
            except MountFailed as exc:
                raise AssertionError(f"died at step {deaths}, and no mount since: {exc}") from exc
    return len(steps)


QUICK = ("--settle", "0")
HARD = ("--settle", "0.05", "--hard-delete")
STREAMING = ("--settle", "0", "--spool-size", "300K")  # less than the files: parts go while they are written
AGAIN = 13  # steps of a mount that takes up what is left; a prime, so that each meets each


@pytest.mark.parametrize(
    ("first", "options", "again"), [(3, QUICK, False), (8, HARD, True), (12, STREAMING, True)]
)
def test_a_mount_that_dies_at_some_steps_loses_nothing(
    server: Emulator, tmp_path: Path, first: int, options: tuple[str, ...], again: bool
) -> None:
    assert try_all(server, tmp_path, Variant("t/", options), range(first, 1000, 29), again=again) >= 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("again", [False, True], ids=["", "again"])
@pytest.mark.parametrize("options", [QUICK, HARD, (), STREAMING])
def test_a_mount_that_dies_at_any_step_loses_nothing(
    server: Emulator, tmp_path: Path, options: tuple[str, ...], again: bool
) -> None:
    steps = range(int(os.environ.get("CRASH_FIRST", "1")), int(os.environ.get("CRASH_STEPS", "1000")))
    assert try_all(server, tmp_path, Variant("t/", options), steps, again=again) >= 20
