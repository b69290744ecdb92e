"""scripts/contain.py leaves nothing behind, however the command ends."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CONTAIN = Path(__file__).parents[2] / "scripts" / "contain.py"

# Daemonises as thoroughly as a program can: two forks, a session of its own, an empty environment.
DAEMON = """
import os, signal, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        {before}
        print(os.getpid(), file=open(sys.argv[1], "w"), flush=True)
        os.execve("/bin/sleep", ["sleep", "1000"], {{}})
    os._exit(0)
os.wait()
while not os.path.exists(sys.argv[1]) or not open(sys.argv[1]).read().endswith("\\n"):
    pass
"""


def contain(*words: str, inside: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(CONTAIN), *words],
        env={**os.environ, "TMPDIR": str(inside)},
        capture_output=True,
        text=True,
        timeout=240,
    )


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "a folder"
    folder.mkdir()
    return folder


def test_the_exit_status_is_the_commands_own(folder: Path) -> None:
    assert contain("--", "sh", "-c", "exit 7", inside=folder).returncode == 7


def test_a_command_killed_by_a_signal_is_told_as_the_shell_tells_it(folder: Path) -> None:
    assert contain("--", "sh", "-c", "kill -9 $$", inside=folder).returncode == 128 + signal.SIGKILL


def test_the_temporary_folder_is_private_and_goes(folder: Path) -> None:
    done = contain("--", "sh", "-c", 'touch "$TMPDIR/x" && stat -c "%a %n" "$TMPDIR"', inside=folder)
    mode, _, made = done.stdout.strip().partition(" ")
    assert (mode, Path(made).parent) == ("711", folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("before", ["pass", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"])
def test_a_daemon_is_ended_even_without_session_environment_or_manners(
    folder: Path, tmp_path: Path, before: str
) -> None:
    note = tmp_path / "pid"
    script = DAEMON.format(before=before)
    done = contain("--grace", "0.5", "--", sys.executable, "-c", script, str(note), inside=folder)
    assert done.returncode == 0
    assert "was still running: sleep 1000" in done.stderr
    assert not is_alive(int(note.read_text()))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tmpfs needs root")
def test_mounts_below_the_temporary_folder_are_unmounted(folder: Path) -> None:
    script = 'mkdir "$TMPDIR/a b" && mount -t tmpfs none "$TMPDIR/a b"'
    script += ' && mkdir "$TMPDIR/a b/c" && mount -t tmpfs none "$TMPDIR/a b/c"'
    done = contain("--", "sh", "-c", script, inside=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("was still mounted: ") == 2
    assert str(folder).replace(" ", "\\040") not in Path("/proc/self/mountinfo").read_text()
    assert list(folder.iterdir()) == []


def test_time_over_interrupts_the_command_and_says_so(folder: Path) -> None:
    done = contain(
        "--seconds",
        "5",  # in which a shell has set its trap
        "--",
        "sh",
        "-c",
        "trap 'echo asked; exit' INT; while :; do sleep 0.1; done",
        inside=folder,
    )
    assert done.returncode == 124
    assert done.stdout == "asked\n"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_run_and_still_cleans_up(folder: Path, tmp_path: Path, number: int) -> None:
    note = tmp_path / "pid"
    os.mkfifo(note)
    running = subprocess.Popen(
        [sys.executable, str(CONTAIN), "--", "sh", "-c", f"sleep 1000 & echo $! >'{note}'; wait"],
        env={**os.environ, "TMPDIR": str(folder)},
        stderr=subprocess.DEVNULL,
    )
    pid = int(note.read_text())
    running.send_signal(number)
    assert running.wait(timeout=240) == 128 + number
    assert not is_alive(pid)
    assert list(folder.iterdir()) == []


def test_it_runs_on_a_python_older_than_the_projects(folder: Path) -> None:
    old = next(filter(None, map(shutil.which, ["python3.8", "python3.9", "python3.10"])), None)
    if old is None or subprocess.run([old, "-c", ""], capture_output=True).returncode != 0:
        pytest.skip("no older Python here")
    done = subprocess.run([old, str(CONTAIN), "--", "true"], env={**os.environ, "TMPDIR": str(folder)})
    assert done.returncode == 0
