"""The recipes and the README's first mount work as they stand: blocks marked `<!-- run -->`, run in order."""

import os
import shutil

import pytest

from tests.support.mount import ALL
from tests.support.pages import Machine, runnable

pytestmark = [pytest.mark.fuse, pytest.mark.tools]

PROGRAMS = ("restic", "borg", "rsync", "tar", "duplicity", "openssl")


def test_every_recipe_works(machine: Machine) -> None:
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        assert "CI" not in os.environ, missing
        pytest.skip(f"not installed: {missing}")
    for bucket in ("backups", "shared"):
        machine.emulator.create_bucket(bucket)
    script = runnable("docs/recipes.md")
    assert len(script) >= 10
    machine.run(script, machine.master)
    assert machine.left_mounted() == []
    emulator = machine.emulator
    assert emulator.download("shared", "ann/hello.txt") == b"for ann alone\nwith the new key\n"
    assert emulator.download("shared", "inbox/report.txt") == b"figures\n"
    assert emulator.download("backups", "host1/documents/report.txt") == b"figures\n"
    assert (machine.home / "restored" / machine.home.relative_to("/") / "documents/report.txt").exists()


def test_the_first_mount_of_the_readme_works(machine: Machine) -> None:
    machine.emulator.create_bucket("photos")
    script = runnable("README.md")
    assert [line for line in "".join(script).splitlines() if line.startswith("b2mount mount ")]
    machine.run(script, machine.emulator.create_key(ALL, ["photos"]))
    assert machine.left_mounted() == []
    assert machine.emulator.download("photos", "report.pdf") == b"%PDF"
