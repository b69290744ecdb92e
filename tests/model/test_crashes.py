"""A mount that dies between any two steps of its journal and its calls loses nothing that was acknowledged.

The mount counts its own steps and ends without a word at the Nth (dying/sitecustomize.py); a new mount must
then show each change that had returned, the one under way wholly or not at all, and end clean.
"""

import os
from collections.abc import Iterator
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


def survives(
    server: Emulator, base: Path, variant: Variant, die_at: int, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """Run the script on a mount that dies at step *die_at*, recover and check; say whether it died at all."""
    base.mkdir()
    driver = new_driver(server, base, variant)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "dying"))
    monkeypatch.setenv("DIE_AT", str(die_at))
    try:
        driver.mount.start()
        states = _run_until_death(driver)
        assert driver.mount.process is not None
        died = driver.mount.process.poll() is not None
        monkeypatch.delenv("DIE_AT")
        driver.mount.kill()
        driver.real.close_all()
        driver.model.close_all()
        driver.mount.start()
        found = snapshot(driver.real.root)
        assert found in states, f"died at step {die_at}: {_differences(found, states)}"
        if found != snapshot(driver.model.root):
            driver.event_flush_only()
        else:
            driver.event_remount_empty()
        assert driver.mount.stop() == 0, driver.mount.log()
        driver.demand_nothing_left()
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


def _differences(found: dict[str, tuple[object, ...]], states: list[dict[str, tuple[object, ...]]]) -> str:
    return "\n".join(
        f"{name}: {str(found.get(name))[:200]} instead of {[str(state.get(name))[:200] for state in states]}"
        for name in sorted({name for state in [found, *states] for name in state})
        if any(found.get(name) != state.get(name) for state in states)
    )


def try_all(server: Emulator, base: Path, variant: Variant, steps: range) -> None:
    """Let the mount die at each of *steps*, until it lives through the script."""
    for die_at in steps:
        with pytest.MonkeyPatch.context() as monkeypatch:
            try:
                if not survives(server, base / str(die_at), variant, die_at, monkeypatch):
                    return
            except MountFailed as exc:
                raise AssertionError(f"died at step {die_at}, and no mount since: {exc}") from exc


QUICK = ("--settle", "0")
HARD = ("--settle", "0.05", "--hard-delete")
STREAMING = ("--settle", "0", "--spool-size", "300K")  # less than the files: parts go while they are written


@pytest.mark.parametrize(("first", "options"), [(3, QUICK), (8, HARD), (12, STREAMING)])
def test_a_mount_that_dies_at_some_steps_loses_nothing(
    server: Emulator, tmp_path: Path, first: int, options: tuple[str, ...]
) -> None:
    try_all(server, tmp_path, Variant("t/", options), range(first, 1000, 29))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("options", [QUICK, HARD, (), STREAMING])
def test_a_mount_that_dies_at_any_step_loses_nothing(
    server: Emulator, tmp_path: Path, options: tuple[str, ...]
) -> None:
    try_all(server, tmp_path, Variant("t/", options), range(1, int(os.environ.get("CRASH_STEPS", "1000"))))
