"""What the pages tell people to type works: blocks marked `<!-- run -->` are run in order, on the emulator.

Absolute paths of the page are moved into a directory of the test's own; nothing else is changed.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import ALL

pytestmark = [pytest.mark.fuse, pytest.mark.tools]

PROJECT = Path(__file__).parent.parent
RUNNABLE = re.compile(r"^ *<!-- run -->\n((?: {4,}\S.*\n|\s*\n)+)", re.MULTILINE)
ROOTS = re.compile(r"(?<![\w./])/(?=(?:etc|srv|mnt)/)|(?<=file://)/(?=srv/)")
PROGRAMS = ("restic", "borg", "rsync", "tar", "duplicity", "openssl")
LONGEST_SECONDS = 240


def blocks(page: str) -> list[str]:
    """Return what *page* says can be run."""
    return [textwrap.dedent(block) for block in RUNNABLE.findall((PROJECT / page).read_text())]


class Machine:
    """A directory that stands for a newcomer's machine: a home, /etc, /srv and /mnt."""

    def __init__(self, root: Path, emulator: Emulator, gnupg: Path) -> None:
        self.root, self.emulator, self.gnupg = root, emulator, gnupg
        self.home = root / "home"
        (self.home / "documents/old").mkdir(parents=True)
        (self.home / "documents/report.txt").write_text("figures\n")
        (self.home / "documents/old/large.bin").write_bytes(os.urandom(7_000_000))
        (self.home / "report.pdf").write_bytes(b"%PDF")

    def run(self, script: list[str], key: tuple[str, str]) -> str:
        """Run the blocks in one shell that ends at the first failure; return what they said."""
        moved = ROOTS.sub(f"{self.root}/", "\n".join(script))
        dropped = ("B2_", "B2MOUNT_", "XDG_", "RESTIC_", "BORG_")
        environ = {k: v for k, v in os.environ.items() if not k.startswith(dropped)} | {
            "HOME": str(self.home),
            "GNUPGHOME": str(self.gnupg),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "B2_APPLICATION_KEY_ID": key[0],
            "B2_APPLICATION_KEY": key[1],
            "B2MOUNT_ENDPOINT": self.emulator.url,
        }
        said = self.root / "said"
        with said.open("w") as out:  # a file: daemons that inherit a pipe would hold it open
            done = subprocess.run(
                ["bash", "-euxo", "pipefail", "-c", moved],
                cwd=self.home, env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                timeout=LONGEST_SECONDS, check=False,
            )  # fmt: skip
        assert done.returncode == 0, said.read_text()[-6000:]
        return said.read_text()

    def left_mounted(self) -> list[str]:
        """Name the mount points that nobody unmounted."""
        rows = Path("/proc/self/mountinfo").read_text().splitlines()
        return [point for row in rows if (point := row.split()[4]).startswith(f"{self.root}/")]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    # gpg's agent listens on a socket, whose address has room for 107 bytes
    with (
        Emulator(tmp_path / "b2") as emulator,
        tempfile.TemporaryDirectory(prefix="gpg-", dir="/tmp") as gnupg,
    ):
        made = Machine(tmp_path, emulator, Path(gnupg))
        yield made
        subprocess.run(["gpgconf", "--kill", "all"], env={**os.environ, "GNUPGHOME": gnupg}, check=False)
        command = [sys.executable, "-m", "b2mount.cli.main", "unmount", "--force"]
        for point in made.left_mounted():  # after a failure
            subprocess.run([*command, point], timeout=240, check=False)


def test_every_recipe_works(machine: Machine) -> None:
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        assert "CI" not in os.environ, missing
        pytest.skip(f"not installed: {missing}")
    for bucket in ("backups", "shared"):
        machine.emulator.create_bucket(bucket)
    script = blocks("docs/recipes.md")
    assert len(script) >= 10
    machine.run(script, (machine.emulator.master_key_id, machine.emulator.master_key))
    assert machine.left_mounted() == []
    emulator = machine.emulator
    assert emulator.download("shared", "ann/hello.txt") == b"for ann alone\nwith the new key\n"
    assert emulator.download("shared", "inbox/report.txt") == b"figures\n"
    assert emulator.download("backups", "host1/documents/report.txt") == b"figures\n"
    assert (machine.home / "restored" / machine.home.relative_to("/") / "documents/report.txt").exists()


def test_the_first_mount_of_the_readme_works(machine: Machine) -> None:
    machine.emulator.create_bucket("photos")
    script = blocks("README.md")
    assert [line for line in "".join(script).splitlines() if line.startswith("b2mount mount ")]
    machine.run(script, machine.emulator.create_key(ALL, ["photos"]))
    assert machine.left_mounted() == []
    assert machine.emulator.download("photos", "report.pdf") == b"%PDF"
