"""Under a service manager: the files of systemd/, and a mount that is started, watched and stopped by them.

There is no systemd to be had in a test. Its side is played by what it is made of: a notify socket, a
directory of credentials, the environment of a unit, and SIGTERM.
"""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from b2mount.cli.main import b2mount
from b2mount.mount_notify import keep_watchdog_quiet
from b2mount.mount_stop import ASKED_SECONDS, LOOK_SECONDS, STALLED_SECONDS, Left, watch_the_end
from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount
from tests.support.programs import need
from tests.support.semantics import wait_until

PROJECT = Path(__file__).parents[2]
UNITS = PROJECT / "systemd"
SERVICE = (UNITS / "b2mount@.service").read_text()
OPERATING = (PROJECT / "docs" / "operating.md").read_text()

# Looks often at what is left, and has little patience.
QUICK = """
import sys
from b2mount import mount_stop
from b2mount.cli.main import main
mount_stop.LOOK_SECONDS, mount_stop.STALLED_SECONDS = 0.1, float(sys.argv.pop(1))
sys.exit(main())
"""


def quick(patience: float) -> tuple[str, ...]:
    return (sys.executable, "-c", QUICK, str(patience))


class Manager:
    """The end of a notify socket that a service manager holds; read at once, for its queue is short."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._marks = 0
        self._told: list[list[str]] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while words := self._listener.recv(4096):
            self._told.append(words.decode().splitlines())

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RD)
        self._reader.join()

    def all(self) -> list[list[str]]:
        """Return what was said since the last time."""
        told, self._told = self._told, []
        return told

    def all_sent(self) -> list[list[str]]:
        """Return what was said since the last time, once all that lies in the queue is read."""
        self._marks += 1
        mark = f"MARK={self._marks}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.sendto(mark.encode(), self._listener.getsockname())
        wait_until(lambda: [mark] in self._told, mark)
        told = self.all()
        told.remove([mark])
        return told

    def wait_for(self, line: str) -> None:
        wait_until(lambda: any(line in lines for lines in self._told), line)
        self.all()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0b2mount-test-{os.getpid()}-{tmp_path.name}")
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + os.fsdecode(listener.getsockname()[1:]))
        manager = Manager(listener)
        yield manager
        manager.stop()


# --- the files --------------------------------------------------------------------------------------------


def setting(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", SERVICE, re.MULTILINE)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units, with the command where it is here: systemd looks in its own fixed PATH."""
    command = Path(sys.executable).with_name("b2mount")
    for unit in UNITS.glob("*.*"):
        if unit.is_file():
            text = unit.read_text().replace("ExecStart=b2mount", f"ExecStart={command}")
            (tmp_path / unit.name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("unit", ["b2mount@.service", "mnt-archive.mount", "mnt-archive.automount"])
def test_systemd_finds_nothing_wrong_with_the_units(installed: Path, unit: str) -> None:
    done = verify(installed / unit)
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_would_find_what_is_wrong(installed: Path) -> None:
    unit = installed / "b2mount@.service"
    unit.write_text(unit.read_text().replace("KillMode=mixed", "KillMode=misted"))
    assert "Failed to parse kill mode" in verify(unit).stderr


def verify(unit: Path) -> subprocess.CompletedProcess[str]:
    command = [need("systemd-analyze"), "verify", "--man=no", str(unit)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize("drop_in", [None, "without-fusermount.conf.example"])
def test_the_score_of_the_service_is_the_one_that_the_page_tells(
    installed: Path, drop_in: str | None
) -> None:
    unit = installed / "b2mount@.service"
    if drop_in is not None:
        changes = (UNITS / "b2mount@.service.d" / drop_in).read_text().split("[Service]")[1]
        unit.write_text(unit.read_text().replace("[Install]", changes + "\n[Install]"))
    command = [need("systemd-analyze"), "security", "--offline=true", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    score = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert score is not None, done.stderr
    # Versions of systemd weigh a little differently.
    told = re.search(rf"{drop_in or 'b2mount@.service'}` \| (\d+\.\d)", OPERATING)
    assert told is not None
    assert abs(float(score[1]) - float(told[1])) <= 0.5


def test_nothing_in_the_service_hides_the_mount_or_disarms_fusermount() -> None:
    """Source: systemd.exec(5): these make a mount namespace, or imply NoNewPrivileges= with User=."""
    used = set(re.findall(r"^(\w+)=", SERVICE, re.MULTILINE))
    hiding = {"DynamicUser", "TemporaryFileSystem", "MountFlags", "BindPaths", "RootDirectory", "RootImage"}
    disarming = {"NoNewPrivileges", "SystemCallFilter", "SystemCallArchitectures", "LockPersonality"}
    disarming |= {"MemoryDenyWriteExecute", "SystemCallLog"}
    assert used & (hiding | disarming) == set()
    assert [name for name in used if re.match(r"Private|Protect|Restrict(?!art)|\w+Paths$", name)] == []


def test_the_service_starts_a_profile_by_words_that_exist() -> None:
    (line,) = setting("ExecStart")
    program, verb, *words = shlex.split(line)
    assert (program, words) == ("b2mount", ["--profile", "%i"])
    command = b2mount.get_command(None, verb)  # type: ignore[arg-type] # it asks no context
    assert command is not None
    assert "--profile" in [name for parameter in command.params for name in parameter.opts]


def test_the_key_is_loaded_under_the_name_that_is_looked_for() -> None:
    assert setting("LoadCredential") == ["b2mount:/etc/b2mount/%i.key"]


# --- the watchdog -----------------------------------------------------------------------------------------


async def test_the_watchdog_is_told_only_while_the_event_loop_turns(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_watchdog_quiet)
        await told_again(manager)
        manager.all_sent()
        time.sleep(0.3)  # noqa: ASYNC251 (this is what must be noticed)
        assert manager.all_sent() == []
        await told_again(manager)
        nursery.cancel_scope.cancel()


async def told_again(manager: Manager) -> None:
    manager.all_sent()
    with trio.fail_after(60):
        while ["WATCHDOG=1"] not in manager.all():  # noqa: ASYNC110  # a thread hears it
            await trio.sleep(0.01)


async def test_the_watchdog_of_another_process_is_left_alone(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    await keep_watchdog_quiet()
    assert manager.all() == []


# --- the end ----------------------------------------------------------------------------------------------


async def test_time_is_asked_for_as_long_as_something_is_sent_and_no_longer(
    manager: Manager, autojump_clock: trio.testing.MockClock
) -> None:
    left = Left(3, 5 << 20, 0)
    gave_up: list[float] = []

    async def send() -> None:
        nonlocal left
        for _ in range(5):
            await trio.sleep(STALLED_SECONDS - LOOK_SECONDS)
            left = Left(left.changes, left.size_bytes, left.progress + 1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await watch_the_end(lambda: left, lambda: gave_up.append(trio.current_time()))
        nursery.cancel_scope.cancel()
    last = 5 * (STALLED_SECONDS - LOOK_SECONDS)
    assert len(gave_up) == 1
    assert last + STALLED_SECONDS <= gave_up[0] <= last + STALLED_SECONDS + 2 * LOOK_SECONDS


@pytest.mark.fuse
def test_a_stop_sends_what_is_pending_and_counts_it_down(
    emulator: Emulator, bucket: str, tmp_path: Path, manager: Manager
) -> None:
    key = emulator.create_key(list(ALL), [bucket])
    mount = Mount(emulator, tmp_path, key, options=("--settle", "1h", "--uploads", "1"), program=quick(600))
    mount.start()
    try:
        manager.wait_for("READY=1")
        for number in range(4):
            (mount.path / f"file{number}").write_bytes(b"x" * 1024)
        emulator.fault(kind="stall", call="b2_upload_file", seconds=1, times=4)
        assert mount.stop() == 0, mount.log()
    finally:
        mount.kill()
    told = manager.all()
    assert told[0] == ["STOPPING=1"]
    assert all(lines[0] == f"EXTEND_TIMEOUT_USEC={ASKED_SECONDS}000000" for lines in told[1:])
    seen = [line.removeprefix("STATUS=") for lines in told for line in lines if line.startswith("STATUS=")]
    steps = list(dict.fromkeys(seen))
    assert steps[0] == "sending 4 changes (4.0 KiB) to B2"
    counts = [int(found[1]) for step in steps if (found := re.match(r"sending (\d)", step))]
    assert len(counts) > 1, "it is counted down"
    assert counts == sorted(counts, reverse=True)
    for number in range(4):
        assert emulator.download(bucket, f"file{number}") == b"x" * 1024


@pytest.mark.fuse
def test_a_stop_that_gets_nowhere_ends_and_the_next_start_sends_the_rest(
    emulator: Emulator, bucket: str, tmp_path: Path, manager: Manager
) -> None:
    key = emulator.create_key(list(ALL), [bucket])
    mount = Mount(emulator, tmp_path, key, options=("--settle", "1h"), program=quick(1))
    mount.start()
    try:
        (mount.path / "file").write_bytes(b"kept")
        emulator.fault(kind="stall", call="b2_upload_file", seconds=3600, times=-1)
        assert mount.stop() == 4, mount.log()
        assert "leaving the rest to the next mount" in mount.log()
        assert not mount.is_mounted()
        emulator.clear_faults()
        mount.program = list(quick(600))
        mount.start()
        assert (mount.path / "file").read_bytes() == b"kept"
        assert mount.stop() == 0, mount.log()
    finally:
        mount.kill()
    assert emulator.download(bucket, "file") == b"kept"


# --- as the unit starts it --------------------------------------------------------------------------------


@pytest.mark.fuse
def test_the_command_of_the_unit_mounts_with_what_systemd_gives_it(
    emulator: Emulator, bucket: str, tmp_path: Path, manager: Manager
) -> None:
    places = {name: tmp_path / name for name in ("mnt", "credentials", "state", "cache", "config/b2mount")}
    for place in places.values():
        place.mkdir(parents=True)
    key_id, key = emulator.create_key(list(ALL), [bucket])
    (places["credentials"] / "b2mount").write_text(f"{key_id}\n{key}\n")
    (places["config/b2mount"] / "photos.toml").write_text(
        f'source = "{bucket}"\nmountpoint = "{places["mnt"]}"\nendpoint = "{emulator.url}"\n'
    )
    (line,) = setting("ExecStart")
    command = [sys.executable, "-m", "b2mount.cli.main", *shlex.split(line.replace("%i", "photos"))[1:]]
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),  # stands for /etc/b2mount, which is not ours to write
        "CREDENTIALS_DIRECTORY": str(places["credentials"]),
        "STATE_DIRECTORY": str(places["state"]),
        "CACHE_DIRECTORY": str(places["cache"]),
        "NOTIFY_SOCKET": os.environ["NOTIFY_SOCKET"],
        "WATCHDOG_USEC": "300000000",
    }
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
    try:
        manager.wait_for("READY=1")
        assert places["mnt"].is_mount()
        (places["mnt"] / "file").write_bytes(b"from the service")
        assert list(places["state"].glob("*/scope.json")), "the journal lies in StateDirectory="
        environment = Path(f"/proc/{process.pid}/environ").read_bytes()
        assert key.encode() not in environment + Path(f"/proc/{process.pid}/cmdline").read_bytes()
        process.send_signal(signal.SIGTERM)
        assert process.wait(240) == 0, (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()
        if places["mnt"].is_mount():
            subprocess.run(["umount", "-l", places["mnt"]], check=True)
    assert emulator.download(bucket, "file") == b"from the service"
