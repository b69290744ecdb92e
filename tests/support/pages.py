"""The pages as a stranger walks through them: their blocks of commands, and a machine to type them on.

A block after `<!-- run -->` is run. What has to be there already is said in the comment, where no reader
sees it: `<!-- run, after: COMMANDS -->`. Absolute paths of a page are moved into a directory of the test's
own, the port of its examples to a free one; nothing else is changed, but for what a test says.
"""

import os
import random
import re
import socket
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.emulator import Emulator

PROJECT = Path(__file__).parents[2]
RUNNABLE = re.compile(
    r"^ *<!-- run(?:, after:(?P<before>(?:(?!-->)[\s\S])*))? ?-->\n(?P<block>(?: {4,}\S.*\n|\s*\n)+)",
    re.MULTILINE,
)
BLOCK = re.compile(
    r"(?<=\n\n)(?P<indented>(?: {4,}\S.*\n|\n+(?= {4,}\S))+)|"
    r"^ *```\w*\n(?P<fenced>(?s:.*?))^ *```$",
    re.MULTILINE,
)
ROOTS = re.compile(r"(?<![\w./])/(?=(?:etc|srv|mnt|usr/local/share)/)|(?<=file://)/(?=srv/)")
PORT = re.compile(r"\b9847\b")  # the one of the pages
BELOW_THE_KERNEL_S_CHOICE = range(20_000, 32_000)
LONGEST_SECONDS = 240


def runnable(page: str) -> list[str]:
    """Return what *page* says can be run, each block after what it wants to be done before."""
    found = RUNNABLE.finditer((PROJECT / page).read_text())
    return [f"{textwrap.dedent(one['before'] or '')}\n{textwrap.dedent(one['block'])}" for one in found]


def session(page: str) -> list[tuple[str, str]]:
    """Return the commands of the session on *page*, each with what it said there."""
    text = (PROJECT / page).read_text().split("```console\n")[1].split("```\n")[0]
    steps = [step.partition("\n") for step in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]]
    return [(command, said) for command, _, said in steps]


@dataclass(frozen=True, slots=True)
class Block:
    """A block on a page, as a reader sees it."""

    page: str
    text: str
    is_run: bool

    @property
    def first_line(self) -> str:
        return self.text.splitlines()[0]


def all_blocks(page: str) -> list[Block]:
    """Return every indented or fenced block of *page*."""
    text = (PROJECT / page).read_text()
    run = [one.span("block") for one in RUNNABLE.finditer(text)]
    found = []
    for one in BLOCK.finditer(text):
        inside = any(start <= one.start() < end for start, end in run)
        found.append(Block(page, textwrap.dedent(one["indented"] or one["fenced"]), inside))
    return found


def free_port() -> int:
    """Return a port that nobody listens on; one that the kernel gives to no outgoing connection meanwhile."""
    while True:
        port = random.choice(BELOW_THE_KERNEL_S_CHOICE)
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def block(page: str, first_line: str) -> str:
    """Return the block of *page* that begins so."""
    (found,) = [one.text for one in all_blocks(page) if one.first_line == first_line]
    return found


class Machine:
    """A directory that stands for a newcomer's machine: a home, /etc, /srv, /mnt and /usr/local/share."""

    def __init__(self, root: Path, emulator: Emulator, gnupg: Path) -> None:
        self.root, self.emulator, self.gnupg = root, emulator, gnupg
        self.home = root / "home"
        (self.home / "documents/old").mkdir(parents=True)
        (self.home / "documents/report.txt").write_text("figures\n")
        (self.home / "documents/old/large.bin").write_bytes(os.urandom(7_000_000))
        (self.home / "report.pdf").write_bytes(b"%PDF")

    @property
    def master(self) -> tuple[str, str]:
        """The account's master key."""
        return self.emulator.master_key_id, self.emulator.master_key

    def environ(self, key: tuple[str, str] | None) -> dict[str, str]:
        """Return the variables of somebody who has just sat down, and said nothing but *key*."""
        dropped = ("B2_", "B2MOUNT_", "XDG_", "RESTIC_", "BORG_")
        environ = {k: v for k, v in os.environ.items() if not k.startswith(dropped)} | {
            "HOME": str(self.home),
            "GNUPGHOME": str(self.gnupg),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "LC_ALL": "C.UTF-8",
        }
        if key is not None:
            environ |= {
                "B2_APPLICATION_KEY_ID": key[0],
                "B2_APPLICATION_KEY": key[1],
                "B2MOUNT_ENDPOINT": self.emulator.url,
                "B2_ENVIRONMENT": self.emulator.url,  # the b2 tool's word for it
            }
        return environ

    def run(self, script: list[str], key: tuple[str, str], replaced: Mapping[str, str] | None = None) -> str:
        """Run the blocks in one shell that ends at the first failure; return what they said.

        *replaced* has what stands on the page for something that the reader has to fill in.
        """
        moved = PORT.sub(str(free_port()), self.moved("\n".join(script)))
        for word, value in (replaced or {}).items():
            assert word in moved
            moved = moved.replace(word, value)
        said = self.root / "said"
        with said.open("w") as out:  # a file: daemons that inherit a pipe would hold it open
            done = subprocess.run(
                ["bash", "-euxo", "pipefail", "-c", moved],
                cwd=self.home, env=self.environ(key), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                timeout=LONGEST_SECONDS, check=False,
            )  # fmt: skip
        assert done.returncode == 0, said.read_text()[-6000:]
        return said.read_text()

    def moved(self, text: str) -> str:
        """Return *text* with the page's absolute paths on this machine."""
        return ROOTS.sub(f"{self.root}/", text)

    def type(self, command: str) -> str:
        """Type one command, in a shell without a key; return what a screen shows, the home as `~`."""
        said = self.root / "said"
        with said.open("w") as out:
            subprocess.run(
                ["bash", "-c", command],
                cwd=self.home, env=self.environ(None), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                timeout=LONGEST_SECONDS, check=False,
            )  # fmt: skip
        return said.read_text().replace(str(self.home), "~")

    def left_mounted(self) -> list[str]:
        """Name the mount points that nobody unmounted."""
        rows = Path("/proc/self/mountinfo").read_text().splitlines()
        return [point for row in rows if (point := row.split()[4]).startswith(f"{self.root}/")]
