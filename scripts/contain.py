"""Run a command and leave nothing of it behind: no process, no mount, no temporary file.

    python3 scripts/contain.py [--seconds N] [--grace N] -- COMMAND [ARGUMENT...]

The command gets a session of its own, no standard input and a private TMPDIR. When it ends, or runs out of
time, or this program is told to end (SIGINT, SIGTERM, SIGHUP), what it left running is ended, what it left
mounted under TMPDIR is unmounted, and TMPDIR is removed. Exit status: the command's own; 124 when its time
was up; 128 + N when signal N ended the run.

Whose processes they are is not guessed from names or environments: Linux gives every orphan below a
"child subreaper" (prctl(2), PR_SET_CHILD_SUBREAPER) to that process as its child, however it daemonised.

It does not know what it runs. Python 3.8 or newer and the standard library suffice, for it runs before
anything is installed.
"""

from __future__ import annotations  # the machine's own Python may be older than the project's

import argparse
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
TIMED_OUT = 124  # as timeout(1) says it
GRACE_SECONDS = 15.0  # between asking and killing: a mount may have to flush and unmount
POLL_SECONDS = 0.05


class Interrupted(Exception):
    """A signal asked this program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


def adopt_orphans() -> None:
    """Become the parent of every orphan below; raises OSError where the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def parents() -> dict[int, int]:
    """Return the parent of every process that /proc shows; zombies are left out."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it ended meanwhile
            # after the command's name, which may hold anything, even ")": state, parent
            state, parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state not in "ZX":
                found[int(entry.name)] = int(parent)
    return found


def descendants(ancestor: int) -> set[int]:
    """Return the living processes below *ancestor*."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents().items():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    todo = [ancestor]
    while todo:
        for pid in children.get(todo.pop(), []):
            found.add(pid)
            todo.append(pid)
    return found


def name_of(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "?"
    return words[:120].strip() or "?"


def reap() -> None:
    """Collect the exit statuses of adopted children that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass


def end_descendants(grace_seconds: float) -> list[str]:
    """End all that still runs below this process, gently first; return what that was."""
    left = {pid: name_of(pid) for pid in descendants(os.getpid())}
    for sent, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, GRACE_SECONDS)):
        deadline = time.monotonic() + seconds
        told: set[int] = set()
        while time.monotonic() < deadline:
            reap()
            alive = descendants(os.getpid())
            if not alive:
                return list(left.values())
            for pid in alive - told:
                told.add(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sent)
            time.sleep(POLL_SECONDS)
    return list(left.values())


def mounts_under(folder: Path) -> list[str]:
    """Return the mount points below *folder*, the last mounted first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        # proc(5): the fifth field, with space, tab, newline and backslash written in octal
        point = os.fsdecode(line.split()[4].decode("unicode_escape").encode("latin-1"))
        if point.startswith(f"{folder}/"):
            found.append(point)
    return found[::-1]


def unmount(point: str) -> None:
    """Detach *point*, dead or busy; what refuses is reported by the caller, which looks again."""
    words = ["umount", "--lazy", point] if os.geteuid() == 0 else ["fusermount3", "-u", "-z", point]
    with contextlib.suppress(OSError):
        subprocess.run(words, stdin=subprocess.DEVNULL, check=False)


def clean_up(folder: Path, grace_seconds: float) -> list[str]:
    """End, unmount and remove what the command left; return a line for each thing worth telling."""
    told = [f"was still running: {name}" for name in end_descendants(grace_seconds)]
    for point in mounts_under(folder):
        told.append(f"was still mounted: {point}")
        unmount(point)
    if mounts_under(folder):  # removing would reach into what is mounted
        told.append(f"could not be unmounted, so {folder} stays")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return told


def run(command: list[str], folder: Path, seconds: float | None, grace_seconds: float) -> int:
    """Run *command* to its end, or tell it to end; return the exit status to end with."""
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(folder)},
        start_new_session=True,
    )
    try:
        status = child.wait(seconds)
        return 128 - status if status < 0 else status
    except subprocess.TimeoutExpired:
        print(f"contain: {seconds:.0f} seconds are over", file=sys.stderr)
        sent, verdict = signal.SIGINT, TIMED_OUT  # so that pytest still prints its summary
    except Interrupted as asked:
        sent, verdict = signal.Signals(asked.number), 128 + asked.number
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, sent)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(grace_seconds)
    return verdict


def on_signal(number: int, frame: FrameType | None) -> None:
    for ours in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ours, signal.SIG_IGN)  # once is enough: cleaning up is not to be cut short
    raise Interrupted(number)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run a command and leave nothing of it behind.")
    parser.add_argument("--seconds", type=float, help="end it after so long")
    parser.add_argument("--grace", type=float, default=GRACE_SECONDS, help="time to end in, once asked")
    parser.add_argument("command", nargs="+")
    words = parser.parse_args()
    adopt_orphans()
    folder = Path(tempfile.mkdtemp(prefix="run-")).resolve()
    folder.chmod(0o711)  # to be passed through by users that the command may turn into, not read
    for ours in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ours, on_signal)
    try:
        status = run(words.command, folder, words.seconds, words.grace)
    except Interrupted as asked:  # between two lines of run()
        status = 128 + asked.number
    finally:
        for line in clean_up(folder, words.grace):
            print(f"contain: {line}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
