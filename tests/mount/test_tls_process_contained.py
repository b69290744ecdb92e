"""The process that does TLS where a mount may do little: as a service, as a user without rights, as a daemon.

systemd's side is played by what it uses: seccomp with its own lists of calls, prctl(2), fewer rights, and a
mount namespace in which little can be written. `/dev/fuse` is open to all there, as udev has it.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from b2mount.store import tls_relay
from b2mount.store.tls_process import PASSED_ON
from tests.cli.running import processes_naming
from tests.support.children import children_of, is_running, wait_until
from tests.support.emulator import Emulator
from tests.support.mount import ALL
from tests.support.programs import need

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take rights and devices away")
pytestmark = [pytest.mark.fuse, AS_ROOT]

PART = os.urandom(8 << 20)
PARTS = 3
NAMES = "first", "second"  # one for each mount: what was read once lies in the cache
DIGEST = hashlib.sha256(PART * PARTS).hexdigest()
DROP_IN = Path(__file__).parents[2] / "systemd" / "b2mount@.service.d" / "without-fusermount.conf.example"
NOBODY = 65534

# Everything is read only but what a unit may write, and its /tmp is its own; $1 is that one place.
NAMESPACE = """
own=$1; shift
test -e "$own/fuse" || mknod "$own/fuse" c 10 229
chmod 666 "$own/fuse"
mount --bind "$own/fuse" /dev/fuse
mount --bind "$own" "$own"
mount -o remount,bind,ro /
exec "$@"
"""

# Whoever asks for a call that is none of those in its words is refused it, as the unit says.
FILTER = """
import ctypes, os, socket, struct, sys

names, families, command = sys.argv[1].split(), sys.argv[2].split(), sys.argv[3:]
libc, seccomp = ctypes.CDLL(None, use_errno=True), ctypes.CDLL("libseccomp.so.2")
ALLOW, EPERM, EQUAL = 0x7FFF0000, 0x00050001, 4


KINDS = ("uint", "argument"), ("uint", "how"), ("uint64", "a"), ("uint64", "b")


class Compared(ctypes.Structure):
    _fields_ = [(name, getattr(ctypes, "c_" + kind)) for kind, name in KINDS]


def demand(result):
    if result:
        raise OSError(ctypes.get_errno() or -result, "it cannot be contained")


seccomp.seccomp_init.restype = ctypes.c_void_p
context = ctypes.c_void_p(seccomp.seccomp_init(EPERM))
for name in set(names) - {"socket"}:
    number = seccomp.seccomp_syscall_resolve_name(name.encode())
    if number >= 0:
        demand(seccomp.seccomp_rule_add(context, ALLOW, number, 0))
number = seccomp.seccomp_syscall_resolve_name(b"socket")
for family in families:
    compared = (Compared * 1)(Compared(0, EQUAL, getattr(socket, family)))
    demand(seccomp.seccomp_rule_add_array(context, ALLOW, number, 1, compared))
NO_NEW_PRIVILEGES, DENY_WRITE_EXECUTE = 38, 65
demand(libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0))
libc.prctl(DENY_WRITE_EXECUTE, 1, 0, 0, 0)  # from Linux 6.3 on
demand(seccomp.seccomp_load(context))
os.execv(command[0], command)
"""


def allowed_calls(sets: Sequence[str]) -> list[str]:
    """Return the system calls that systemd means by its names for sets of them."""
    command = [need("systemd-analyze"), "syscall-filter", "--no-pager"]
    text = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout
    known: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("@"):
            members = known[line.strip()] = []
        elif (word := line.strip()) and not word.startswith("#") and known:
            members.append(word)
    found: set[str] = set()
    waiting = list(sets)
    while waiting:
        name = waiting.pop()
        waiting += known[name] if name.startswith("@") else []
        found.add(name)
    return sorted(name for name in found if not name.startswith("@"))


def as_a_service() -> list[str]:
    """Return what runs the words after it as the unit with the drop-in would."""
    settings = dict(re.findall(r"^(\w+)=(.+)$", DROP_IN.read_text(), re.MULTILINE))
    calls = allowed_calls(settings["SystemCallFilter"].split())
    assert settings["CapabilityBoundingSet"] == "CAP_SYS_ADMIN"
    rights = ["setpriv", "--no-new-privs", "--bounding-set=-all,+sys_admin", "--inh-caps=-all,+sys_admin"]
    contained = [sys.executable, "-c", FILTER, " ".join(calls), settings["RestrictAddressFamilies"]]
    return [*rights, *contained]


def as_nobody() -> list[str]:
    """Return what runs the words after it as a user without rights, who has an interpreter."""
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    if subprocess.run([*command, "test", "-x", sys.executable], check=False).returncode:
        pytest.skip(f"{sys.executable} is root's alone")
    return command


@dataclass(frozen=True, slots=True)
class Scene:
    """A bucket with large files behind TLS, and a directory that everybody may come to."""

    emulator: Emulator
    home: Path
    bucket: str
    key: tuple[str, str]

    @property
    def mountpoint(self) -> Path:
        return self.home / "mnt"

    @property
    def log(self) -> Path:
        return self.home / "log"

    def words(self) -> list[str]:
        """Return the command that mounts."""
        places = ["--state-dir", str(self.home / "state"), "--cache-dir", str(self.home / "cache")]
        server = ["--endpoint", self.emulator.url, "--ca-file", str(self.home / "ca.pem")]
        program = [sys.executable, "-m", "b2mount.cli.main", "mount", "--log-level", "debug"]
        return [*program, *places, *server, self.bucket, str(self.mountpoint)]

    def environ(self) -> dict[str, str]:
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("B2_", "B2MOUNT_", "XDG_"))}
        secrets = {"B2_APPLICATION_KEY_ID": self.key[0], "B2_APPLICATION_KEY": self.key[1]}
        return {**environ, **secrets, "HOME": str(self.home)}

    def start(self, before: Sequence[str]) -> subprocess.Popen[bytes]:
        """Mount by way of other programs, in a mount namespace of its own, and wait for it."""
        command = [need("unshare"), "--mount", "--propagation", "private", "sh", "-euc", NAMESPACE, "sh"]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*command, str(self.home), *before, *self.words()],
                env=self.environ(),
                stdout=log,
                stderr=log,
                cwd="/",
            )
        wait_until(lambda: process.poll() is not None or self.shows(process.pid), "it is mounted")
        assert process.poll() is None, self.log.read_text()
        return process

    def shows(self, pid: int) -> bool:
        """Say whether a process sees something mounted at the mount point."""
        return f" {self.mountpoint} " in Path(f"/proc/{pid}/mountinfo").read_text()

    def read(self, name: str, pid: int, before: Sequence[str] = ()) -> str:
        """Return the SHA-256 of a file, as it is read beside a process."""
        command = [
            "nsenter",
            "--mount",
            f"--target={pid}",
            *before,
            "sha256sum",
            str(self.mountpoint / name),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
        return done.stdout.split()[0]

    def demand_no_secret(self, child: int) -> None:
        """Demand that the process was told how to start, and that no key stands in the log."""
        home = Path(f"/proc/{child}")
        names = [entry.partition(b"=")[0].decode() for entry in (home / "environ").read_bytes().split(b"\0")]
        assert set(names) - {"", *PASSED_ON} == set()
        words = (home / "cmdline").read_text().split("\0")
        assert words == [sys.executable, "-I", "-S", "-B", tls_relay.__file__, ""]
        assert self.key[1] not in self.log.read_text()


@pytest.fixture
def scene(tls_emulator: Emulator, certificate: tuple[Path, Path]) -> Iterator[Scene]:
    bucket = f"test-{uuid.uuid4().hex[:16]}"
    tls_emulator.create_bucket(bucket)
    for name in NAMES:
        tls_emulator.upload_large(bucket, name, [PART] * PARTS)
    home = Path(tempfile.mkdtemp(prefix="b2mount-contained-"))
    scene = Scene(tls_emulator, home, bucket, tls_emulator.create_key(ALL))
    for name in ("state", "cache", "mnt"):
        (home / name).mkdir()
        os.chown(home / name, NOBODY, NOBODY)
    shutil.copy(certificate[0], home / "ca.pem")
    for place in (home, home / "ca.pem"):
        place.chmod(0o755)
    yield scene
    tls_emulator.wipe(bucket)
    shutil.rmtree(home)


def helper_of(pid: int) -> int:
    """Return the process that does TLS for a mount, once it is ready."""
    wait_until(lambda: bool(children_of(pid)), "a process does TLS")
    (child,) = children_of(pid)
    wait_until(lambda: b"tls_relay" in Path(f"/proc/{child}/cmdline").read_bytes(), "it runs")
    return child


def end(pid: int, number: int) -> None:
    """Send a signal, and wait until a process that is not our child has ended."""
    os.kill(pid, number)
    wait_until(lambda: not is_running(pid), "the mount ends")


def test_a_mount_in_the_background_has_it_and_takes_it_along(scene: Scene) -> None:
    words = [*scene.words(), "--daemon", "--log-file", str(scene.log)]
    for name, ending in zip(NAMES, (signal.SIGTERM, signal.SIGKILL), strict=True):
        done = subprocess.run(words, env=scene.environ(), capture_output=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        (pid,) = (pid for pid in processes_naming(str(scene.mountpoint)) if is_running(pid))
        try:
            assert hashlib.sha256((scene.mountpoint / name).read_bytes()).hexdigest() == DIGEST
            child = helper_of(pid)
            scene.demand_no_secret(child)
            end(pid, ending)
        finally:
            if is_running(pid):
                end(pid, signal.SIGKILL)
            if scene.shows(os.getpid()):
                subprocess.run(["umount", "-l", str(scene.mountpoint)], check=True)
        wait_until(lambda gone=child: not is_running(gone), "it ends with the mount")  # type: ignore[misc]


@pytest.mark.parametrize("how", ["service", "nobody"])
def test_a_contained_mount_has_it_and_takes_it_along(scene: Scene, how: str) -> None:
    before, reader = (as_a_service(), ()) if how == "service" else (as_nobody(), as_nobody())
    if how == "service":
        for name in ("state", "cache", "mnt"):
            os.chown(scene.home / name, 0, 0)
    for name, ending in zip(NAMES, (signal.SIGTERM, signal.SIGKILL), strict=True):
        process = scene.start(before)
        try:
            assert scene.read(name, process.pid, reader) == DIGEST
            child = helper_of(process.pid)
            scene.demand_no_secret(child)
            process.send_signal(ending)
            assert process.wait(240) == (0 if ending == signal.SIGTERM else -signal.SIGKILL)
        finally:
            process.kill()
            process.wait()
        wait_until(lambda gone=child: not is_running(gone), "it ends with the mount")  # type: ignore[misc]
    assert "process that does TLS" not in scene.log.read_text(), "no complaints"
