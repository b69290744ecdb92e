"""Going into the background: the shell waits for the mount to work, or learns why it does not."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# The daemon that each test runs: it tells its process, then does what the test says.
PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from b2mount.cli.daemon import run_in_background
from b2mount.cli.report import Exit, Failure

home = Path(sys.argv[1])

def serve(on_ready):
    (home / "facts").write_text(f"{os.getpid()} {os.getppid()} {os.getsid(0)} {os.getcwd()}")
    BODY

sys.exit(run_in_background(serve, log_file=home / "state" / "log"))
"""


def run(home: Path, body: str) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.replace("BODY", body.replace("\n", "\n    "))
    return subprocess.run(
        [sys.executable, "-c", program, home], capture_output=True, text=True, timeout=240, check=False
    )


def wait_for_end(pid: int) -> None:
    """Wait until a process that is not our child has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended, _, _ = select.select([handle], [], [], 240)
    os.close(handle)
    assert ended


def test_the_shell_goes_on_when_the_daemon_is_ready(tmp_path: Path) -> None:
    body = 'on_ready()\nsignal.sigwait({signal.SIGTERM})\n(home / "end").write_text("clean")\nreturn 0'
    done = run(tmp_path, "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n" + body)
    pid, _, session, directory = (tmp_path / "facts").read_text().split()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    os.kill(int(pid), 0)  # it lives
    assert session != pid  # it leads no session, so it can never get a terminal again
    assert int(session) != os.getsid(0)
    assert directory == "/"
    os.kill(int(pid), signal.SIGTERM)
    wait_for_end(int(pid))
    assert (tmp_path / "end").read_text() == "clean"


def test_what_the_daemon_says_later_goes_to_its_log(tmp_path: Path) -> None:
    if Path("/run/systemd/journal/stdout").exists():
        pytest.skip("here it goes to the journal")
    done = run(tmp_path, 'on_ready()\nprint("one line", file=sys.stderr)\nreturn 0')
    assert done.stderr == ""
    wait_for_end(int((tmp_path / "facts").read_text().split()[0]))
    log = tmp_path / "state" / "log"
    assert log.read_text() == "one line\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_an_error_before_that_is_the_shells_with_its_status(tmp_path: Path) -> None:
    done = run(tmp_path, 'raise Failure("the key has expired", "make another", status=Exit.CREDENTIALS)')
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        "b2mount: error: the key has expired",
        "b2mount: hint: make another",
    ]


def test_a_status_without_words_is_passed_on(tmp_path: Path) -> None:
    assert run(tmp_path, "return 4").returncode == 4


def test_an_end_without_error_before_it_was_ready_is_a_failure(tmp_path: Path) -> None:
    assert run(tmp_path, "return 0").returncode == 1


def test_a_bug_is_told_with_its_traceback(tmp_path: Path) -> None:
    done = run(tmp_path, 'raise RuntimeError("oh")')
    assert done.returncode == 1
    assert done.stderr.endswith("RuntimeError: oh\n")


def test_a_sudden_death_is_told(tmp_path: Path) -> None:
    done = run(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "b2mount: error: the mount's program ended before it was ready"
