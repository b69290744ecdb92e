"""`b2mount mount` and the verbs around it, on real mounts."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from b2mount.cli.mountpoints import find_our_mount, is_dead, read_mounts
from b2mount.mount import WHY_NOT_MOUNTED
from tests.cli.running import Shell, entries, processes_naming, wait_until
from tests.support.emulator import Emulator

pytestmark = pytest.mark.fuse

READ_WRITE = ["listFiles", "readFiles", "writeFiles", "deleteFiles"]


class Place:
    """A mount point in the test's home, a key for a bucket, and a shell that knows both."""

    def __init__(self, shell: Shell, emulator: Emulator, bucket: str) -> None:
        self.shell, self.emulator, self.bucket = shell, emulator, bucket
        self.mountpoint = shell.home / "mnt"
        self.mountpoint.mkdir()
        self.key_id, self.key = emulator.create_key(READ_WRITE, [bucket])
        self.file = shell.home / "key"
        self.file.write_text(f"{self.key_id}\n{self.key}\n")
        self.file.chmod(0o600)

    def words(self, *more: str | Path) -> list[str | Path]:
        return ["--credentials", self.file, "--endpoint", self.emulator.url, *more]

    def run(self, verb: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return self.shell.run(verb, *words)

    def mount(self, *more: str | Path) -> subprocess.CompletedProcess[str]:
        return self.run("mount", "--daemon", *self.words(*more), self.mountpoint)

    def start_in_foreground(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "b2mount.cli.main", "mount", *map(str, self.words(self.mountpoint))]
        process = subprocess.Popen(
            command, env=self.shell.environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait_until(lambda: find_our_mount(self.mountpoint) or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        return process

    def status(self) -> dict[str, Any]:
        done = self.run("status", "--json", self.mountpoint)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def clean(self) -> None:
        for pid in processes_naming(str(self.mountpoint)):
            os.kill(pid, signal.SIGKILL)
        if find_our_mount(self.mountpoint):
            subprocess.run(["umount", "-l", self.mountpoint], check=True)
        wait_until(lambda: not processes_naming(str(self.mountpoint)))


@pytest.fixture
def place(shell: Shell, emulator: Emulator, bucket: str) -> Iterator[Place]:
    place = Place(shell, emulator, bucket)
    yield place
    place.clean()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_in_the_foreground_a_signal_uploads_and_unmounts(place: Place, number: int) -> None:
    place.emulator.upload(place.bucket, "a/old.txt", b"old")
    process = place.start_in_foreground()
    assert (place.mountpoint / "a" / "old.txt").read_bytes() == b"old"
    (place.mountpoint / "a" / "new.txt").write_bytes(b"new")
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=240)
    assert (process.returncode, stdout) == (0, ""), stderr
    assert find_our_mount(place.mountpoint) is None
    assert place.emulator.download(place.bucket, "a/new.txt") == b"new"


def test_a_daemon_is_ready_when_the_shell_goes_on(place: Place) -> None:
    place.emulator.upload(place.bucket, "hello.txt", b"hello")
    done = place.mount()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (place.mountpoint / "hello.txt").read_bytes() == b"hello"


def test_flush_returns_when_all_is_in_b2(place: Place) -> None:
    place.mount("--settle", "10m")
    (place.mountpoint / "new.txt").write_bytes(b"new")
    assert place.status()["pending"]["files"] == 1
    done = place.run("flush", place.mountpoint)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert place.emulator.download(place.bucket, "new.txt") == b"new"
    assert place.status()["pending"]["files"] == 0


def test_unmount_sends_what_is_pending_and_is_over_when_it_returns(place: Place) -> None:
    place.mount("--settle", "10m")
    (place.mountpoint / "new.txt").write_bytes(b"new")
    done = place.run("unmount", place.mountpoint)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert find_our_mount(place.mountpoint) is None
    assert place.emulator.download(place.bucket, "new.txt") == b"new"


def test_status_tells_of_the_mount(place: Place) -> None:
    place.mount("--read-only")
    found = place.status()
    assert found["scope"]["buckets"] == [place.bucket]
    assert found["scope"]["read_only"] is True
    assert found["pid"] in processes_naming(str(place.mountpoint))
    said = place.run("status", place.mountpoint).stdout.splitlines()
    assert "access:    read-only (it was mounted so)" in said


def test_refresh_shows_what_others_changed(place: Place) -> None:
    place.emulator.upload(place.bucket, "a/one.txt", b"1")
    place.mount("--listing-ttl", "1h")
    assert entries(place.mountpoint / "a") == ["one.txt"]
    place.emulator.upload(place.bucket, "a/two.txt", b"2")
    done = place.run("refresh", place.mountpoint / "a")
    assert (done.returncode, done.stderr) == (0, "")
    assert entries(place.mountpoint / "a") == ["one.txt", "two.txt"]


def test_what_cannot_be_sent_is_named_by_flush_and_by_unmount(place: Place) -> None:
    place.mount("--settle", "10m")
    (place.mountpoint / "new.txt").write_bytes(b"new")
    place.emulator.delete_key(place.key_id)
    place.emulator.expire_tokens("all", place.key_id)
    for verb in ("flush", "unmount"):
        done = place.run(verb, "--timeout", "5", place.mountpoint)
        assert done.returncode == 4, done.stderr
        assert "b2mount: error: not everything is in B2: " in done.stderr
    assert find_our_mount(place.mountpoint) is not None
    assert place.run("unmount", "--force", "--timeout", "1", place.mountpoint).returncode == 4
    assert find_our_mount(place.mountpoint) is None


@pytest.mark.parametrize("how", [[], ["--daemon"]])
def test_a_refused_key_mounts_nothing(place: Place, how: list[str]) -> None:
    place.emulator.delete_key(place.key_id)
    done = place.run("mount", *how, *place.words(place.mountpoint))
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.splitlines()[0].startswith("b2mount: error: B2 does not accept the key")
    assert "Traceback" not in done.stderr
    assert find_our_mount(place.mountpoint) is None


@pytest.mark.parametrize("how", [[], ["--daemon"]])
def test_a_source_outside_the_key_mounts_nothing(place: Place, how: list[str]) -> None:
    done = place.run("mount", *how, *place.words("other-bucket", place.mountpoint))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "b2mount: error: the key does not cover bucket 'other-bucket'",
        f"b2mount: hint: it covers bucket '{place.bucket}'",
    ]


def test_a_mount_that_the_kernel_refuses_ends_with_one_error(place: Place) -> None:
    words = ["mount", *map(str, place.words(place.mountpoint))]
    # root mounts by its own right, others by that of fusermount3, which is setuid root
    less = "--bounding-set=-sys_admin" if os.geteuid() == 0 else "--no-new-privs"
    other = place.shell.home / "fusermount3"  # of which nobody knows, before it is run, what it may
    other.symlink_to("/bin/false")
    path = f"{other.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["setpriv", less, sys.executable, "-m", "b2mount.cli.main", *words],
        env=place.shell.environ({"PATH": path}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    error, hint = done.stderr.splitlines()[-2:]
    assert error == f"b2mount: error: {place.mountpoint} cannot be mounted: fuse_session_mount failed"
    assert hint == f"b2mount: hint: {WHY_NOT_MOUNTED}"


def test_a_second_mount_on_the_same_place_is_refused(place: Place) -> None:
    place.mount()
    done = place.mount()
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"b2mount: error: {place.mountpoint} is a b2mount mount already",
        f"b2mount: hint: b2mount unmount {place.mountpoint} ends it",
    ]


def test_a_mount_by_way_of_a_symbolic_link_is_recognised(place: Place) -> None:
    link = place.shell.home / "link"
    link.symlink_to(place.mountpoint)
    assert place.run("mount", "--daemon", *place.words(link)).returncode == 0
    assert find_our_mount(link) == find_our_mount(place.mountpoint) is not None
    assert place.run("mount", "--daemon", *place.words(link)).stderr.splitlines()[0] == (
        f"b2mount: error: {link} is a b2mount mount already"
    )
    assert place.run("unmount", link).returncode == 0
    assert find_our_mount(place.mountpoint) is None


def test_a_mount_whose_program_was_killed_is_recognised_and_cleaned(place: Place) -> None:
    place.mount()
    os.kill(place.status()["pid"], signal.SIGKILL)
    wait_until(lambda: is_dead(place.mountpoint))
    with pytest.raises(OSError) as caught:
        entries(place.mountpoint)
    assert caught.value.errno == errno.ENOTCONN
    for done in (place.run("status", place.mountpoint), place.run("unmount", place.mountpoint)):
        assert done.returncode == 1
        assert done.stderr.splitlines() == [
            f"b2mount: error: {place.mountpoint} is a dead mount: the program that served it has ended",
            "b2mount: hint: mount it again: that clears it and sends what was not yet sent; "
            f"only to clear it: b2mount unmount --force {place.mountpoint}",
        ]
    assert place.run("unmount", "--force", place.mountpoint).returncode == 0
    assert find_our_mount(place.mountpoint) is None


def test_the_next_mount_clears_a_dead_one_and_sends_what_it_left(place: Place) -> None:
    place.mount("--settle", "10m")
    (place.mountpoint / "new.txt").write_bytes(b"new")
    os.kill(place.status()["pid"], signal.SIGKILL)
    wait_until(lambda: is_dead(place.mountpoint))
    done = place.mount()
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        0,
        f"b2mount: warning: {place.mountpoint} was a dead mount, whose program was killed, and was cleared",
    )
    assert [mount.mountpoint for mount in read_mounts()].count(str(place.mountpoint)) == 1
    assert (place.mountpoint / "new.txt").read_bytes() == b"new"
    assert place.run("flush", place.mountpoint).returncode == 0
    assert place.emulator.download(place.bucket, "new.txt") == b"new"


def test_a_second_mount_of_the_same_scope_is_told_where_the_first_is(place: Place) -> None:
    place.mount()
    elsewhere = place.shell.home / "elsewhere"
    elsewhere.mkdir()
    done = place.run("mount", "--daemon", *place.words(elsewhere))
    assert done.returncode == 1
    error, hint = done.stderr.splitlines()
    assert error.startswith("b2mount: error: another mount of the same scope is using ")
    assert hint == f"b2mount: hint: it is mounted at {place.mountpoint}"


def test_a_daemon_logs_to_the_file_that_was_named(place: Place) -> None:
    log = place.shell.home / "mine.log"
    assert place.mount("--log-file", log).returncode == 0
    assert place.run("unmount", place.mountpoint).returncode == 0
    assert f"{place.mountpoint}] b2mount: INFO" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
    done = place.mount("--log-file", place.shell.home / "none" / "log")
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        1,
        f"b2mount: error: {place.shell.home}/none/log cannot be written: No such file or directory",
    )
    assert find_our_mount(place.mountpoint) is None


def test_shells_complete_the_mount_points_there_are(place: Place) -> None:
    place.mount()
    env = {"_B2MOUNT_COMPLETE": "bash_complete", "COMP_WORDS": f"b2mount unmount {place.mountpoint}"[:-1]}
    done = place.shell.run(env={**env, "COMP_CWORD": "2"})
    assert done.stdout == f"plain,{place.mountpoint}\n"


def test_a_source_with_nothing_in_it_is_pointed_out(place: Place) -> None:
    place.emulator.upload(place.bucket, "photos/2024/a.txt", b"a")
    for prefix, is_warned in (("photos", False), ("photo", True)):
        done = place.run("mount", "--daemon", *place.words(f"{place.bucket}/{prefix}", place.mountpoint))
        assert done.returncode == 0
        assert ("there is nothing yet under 'photo/'" in done.stderr) is is_warned, done.stderr
        assert place.run("unmount", place.mountpoint).returncode == 0


def test_a_profile_says_all_that_a_mount_needs(place: Place) -> None:
    place.emulator.upload(place.bucket, "photos/a.txt", b"a")
    profile = place.shell.home / ".config" / "b2mount" / "mine.toml"
    profile.parent.mkdir(parents=True)
    profile.write_text(
        f'source = "{place.bucket}/photos"\nmountpoint = "{place.mountpoint}"\nread_only = true\n'
        f'credentials = "{place.file}"\nendpoint = "{place.emulator.url}"\n'
    )
    for words in (["--profile", "mine"], ["profile:mine"], ["-o", "profile=mine"]):
        done = place.run("mount", "--daemon", *words)
        assert (done.returncode, done.stderr) == (0, ""), words
        assert entries(place.mountpoint) == ["a.txt"]
        assert os.statvfs(place.mountpoint).f_flag & os.ST_RDONLY
        assert place.run("unmount", place.mountpoint).returncode == 0
    done = place.run("mount", "--daemon", "--profile", "mine", "-o", "rw", place.bucket, place.mountpoint)
    assert done.returncode == 0, "what is said comes before the profile"
    assert entries(place.mountpoint) == ["photos"]
    assert not os.statvfs(place.mountpoint).f_flag & os.ST_RDONLY


def test_the_secret_is_nowhere_but_in_its_file(place: Place) -> None:
    place.mount("--log-level", "debug")
    (place.mountpoint / "new.txt").write_bytes(b"new")
    (place.mountpoint / "new.txt").read_bytes()
    said = (
        place.run("status", "--json", place.mountpoint).stdout + place.run("status", place.mountpoint).stdout
    )
    pid = place.status()["pid"]
    seen = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
    assert place.run("unmount", place.mountpoint).returncode == 0
    secret = place.key.encode()
    assert secret not in said.encode() + seen
    files = [path for path in place.shell.home.rglob("*") if path.is_file()]
    assert [path for path in files if secret in path.read_bytes()] == [place.file]


def test_the_mount_helper_mounts_in_the_background_with_its_words(place: Place) -> None:
    place.emulator.upload(place.bucket, "photos/a.txt", b"a")
    words = f"ro,noexec,_netdev,nofail,credentials={place.file},endpoint={place.emulator.url}"
    source = f"{place.bucket}/photos"
    done = place.shell.run(source, place.mountpoint, "-v", "-o", words, program="mount.b2mount")
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"mount.b2mount: {source} mounted on {place.mountpoint}\n",
        "",
    )
    assert entries(place.mountpoint) == ["a.txt"]
    row = next(
        row for row in Path("/proc/self/mountinfo").read_text().splitlines() if f" {place.mountpoint} " in row
    )
    assert {"ro", "noexec", "nosuid", "nodev"} <= set(row.split()[5].split(","))
    with pytest.raises(OSError) as caught:
        (place.mountpoint / "b.txt").touch()
    assert caught.value.errno == errno.EROFS


def test_none_as_the_source_lets_the_key_decide(place: Place) -> None:
    words = f"credentials={place.file},endpoint={place.emulator.url}"
    assert place.shell.run("none", place.mountpoint, "-o", words, program="mount.b2mount").returncode == 0
    assert [mount.kind for mount in read_mounts() if mount.mountpoint == str(place.mountpoint)] == [
        "fuse.b2mount"
    ]
