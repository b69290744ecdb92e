"""`b2mount demo`: an emulator, the files of two tenants, a key for one, a mount; and nothing left behind."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from b2mount.cli.mountpoints import find_our_mount, is_dead
from tests.cli.running import Shell, entries, processes_naming, wait_until

pytestmark = pytest.mark.fuse


@pytest.fixture
def home(shell: Shell) -> Iterator[Path]:
    yield shell.home
    for pid in processes_naming(str(shell.home)):
        os.kill(pid, signal.SIGKILL)
    if find_our_mount(shell.home / "b2mount-demo"):
        subprocess.run(["umount", "-l", shell.home / "b2mount-demo"], check=True)
    wait_until(lambda: not processes_naming(str(shell.home)))


def start(shell: Shell) -> str:
    done = shell.run("demo")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_demo_shows_one_tenant_and_hides_the_other(shell: Shell, home: Path) -> None:
    said = start(shell)
    mountpoint = home / "b2mount-demo"
    assert entries(mountpoint) == sorted(["Grüße", "empty", "hello.txt", "notes", "pictures"])
    assert entries(mountpoint / "empty") == []
    assert (mountpoint / "Grüße" / "naïve café ☕.txt").read_text() == "Names are UTF-8, as in B2.\n"
    assert (mountpoint / "pictures" / "2026" / "sunrise.ppm").stat().st_size > 3_000_000
    assert "tenant-b" not in subprocess.run(["find", mountpoint], capture_output=True, text=True).stdout
    assert "K0" not in said  # the secret is in a file


def test_every_command_it_suggests_works(shell: Shell, home: Path) -> None:
    script, stop = start(shell).rsplit("# Stop", 1)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=shell.environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "tenant-a/notes/mine.txt" in done.stdout  # as the b2 tool sees it
    assert "tenant-b" not in done.stdout
    assert "pending:   nothing" in done.stdout
    ending = stop.splitlines()[-1]
    assert subprocess.run(["bash", "-c", ending], env=shell.environ(), check=False).returncode == 0
    assert processes_naming(str(home)) == []


def test_run_again_it_explains_again_and_changes_nothing(shell: Shell, home: Path) -> None:
    first = start(shell)
    before = processes_naming(str(home))
    (home / "b2mount-demo" / "mine.txt").write_text("kept")
    assert start(shell) == first
    assert processes_naming(str(home)) == before
    assert (home / "b2mount-demo" / "mine.txt").read_text() == "kept"


def test_stopped_it_keeps_its_files_for_the_next_time(shell: Shell, home: Path) -> None:
    start(shell)
    (home / "b2mount-demo" / "mine.txt").write_text("kept")
    assert shell.run("demo", "--stop").returncode == 0
    assert processes_naming(str(home)) == []
    assert entries(home / "b2mount-demo") == []
    start(shell)
    assert (home / "b2mount-demo" / "mine.txt").read_text() == "kept"


def test_purged_it_leaves_nothing(shell: Shell, home: Path) -> None:
    start(shell)
    done = shell.run("demo", "--stop", "--purge")
    assert (done.returncode, done.stderr) == (0, "the demo has ended\n")
    assert processes_naming(str(home)) == []
    assert [path for path in home.rglob("*") if path.is_file()] == []
    assert not (home / ".local" / "state" / "b2mount").exists()
    assert not (home / "b2mount-demo").exists()


def test_a_directory_that_is_not_empty_is_refused_with_a_way_out(shell: Shell, home: Path) -> None:
    (home / "b2mount-demo" / "mine").mkdir(parents=True)
    done = shell.run("demo")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"b2mount: error: {home}/b2mount-demo is not empty, and a mount would cover what is in it",
        "b2mount: hint: choose an empty directory, or name another: "
        "b2mount demo DIR (make demo MOUNTPOINT=DIR)",
    ]


def test_stopping_what_does_not_run_is_no_error(shell: Shell) -> None:
    done = shell.run("demo", "--stop", "--purge")
    assert (done.returncode, done.stderr) == (0, "no demo was running\n")


def test_it_comes_back_after_its_server_was_killed(shell: Shell, home: Path) -> None:
    said = start(shell)
    (server,) = processes_naming("b2mount.emulator\0--json\0--data\0" + str(home))
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: server not in processes_naming(str(home)))
    assert start(shell) == said  # the same port: the mount goes on
    assert (home / "b2mount-demo" / "hello.txt").read_text().startswith("These files")


def test_it_comes_back_after_its_mount_was_killed(shell: Shell, home: Path) -> None:
    start(shell)
    (mount,) = processes_naming(f"{home}/b2mount-demo")
    os.kill(mount, signal.SIGKILL)
    wait_until(lambda: is_dead(home / "b2mount-demo"))
    start(shell)
    assert (home / "b2mount-demo" / "hello.txt").read_text().startswith("These files")


def test_a_second_place_is_refused_while_it_runs(shell: Shell, home: Path) -> None:
    start(shell)
    done = shell.run("demo", home / "elsewhere")
    assert done.returncode == 1
    error, hint = done.stderr.splitlines()
    assert error == f"b2mount: error: the demo is mounted on {home}/b2mount-demo already"
    assert hint.endswith(" demo --stop ends it")
