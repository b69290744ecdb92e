"""A key's end, its deletion and its replacement under a running mount, through the kernel."""

import errno
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clock import Clock
from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount
from tests.support.semantics import calls_of, refused, wait_until

pytestmark = pytest.mark.fuse

QUICK = ("--settle", "0", "--listing-ttl", "0", "--io-timeout", "60s")
READ_ONLY = ("listBuckets", "listFiles", "readFiles")


class Keyed:
    """A mount whose key lies in a file that may be written anew."""

    def __init__(self, emulator: Emulator, base: Path) -> None:
        self.emulator = emulator
        self.base = base
        self.file = base / "key"

    def write(self, key: tuple[str, str]) -> None:
        self.file.write_text("\n".join(key) + "\n")
        self.file.chmod(0o600)

    def mount(
        self, key: tuple[str, str], *, source: str | None = None, options: tuple[str, ...] = ()
    ) -> Mount:
        self.write(key)
        words = [*QUICK, "--credentials", str(self.file), *options]
        return Mount(self.emulator, self.base, key, source=source, options=words)


@pytest.fixture
def keyed(emulator: Emulator, tmp_path: Path) -> Iterator[Keyed]:
    yield Keyed(emulator, tmp_path)
    emulator.clear_faults()


def test_an_expired_key_answers_ekeyexpired_without_a_call(keyed: Keyed, bucket: str) -> None:
    emulator = keyed.emulator
    emulator.upload(bucket, "old", b"old")
    key = emulator.create_key(list(ALL), [bucket], seconds=3600)
    clock = Clock(keyed.base)
    made = keyed.mount(key)
    made.program = clock.program
    with made as mount:
        held = os.open(mount.path / "old", os.O_RDONLY)
        clock.jump()
        emulator.expire_key(key[0])
        since = emulator.log()[-1]["seq"]
        with refused(errno.EKEYEXPIRED):
            os.listdir(mount.path)
        with refused(errno.EKEYEXPIRED):
            os.stat(mount.path / "old")
        with refused(errno.EKEYEXPIRED):
            (mount.path / "new").write_bytes(b"")
        with refused(errno.EKEYEXPIRED):
            os.mkdir(mount.path / "dir")
        with refused(errno.EKEYEXPIRED):
            os.unlink(mount.path / "old")
        with refused(errno.EKEYEXPIRED):
            os.rename(mount.path / "old", mount.path / "other")
        with refused(errno.EKEYEXPIRED):
            os.read(held, 10)
        os.close(held)
        assert calls_of(emulator, key, since) == []
        assert mount.status()["key"]["warning"].startswith("the application key has expired")
        wait_until(lambda: "the application key has expired" in mount.log(), "the log says so")


def test_the_end_is_announced_ahead_in_log_and_status(keyed: Keyed, bucket: str) -> None:
    for seconds, words in ((3000, "an hour"), (80_000, "a day"), (600_000, "a week")):
        key = keyed.emulator.create_key(list(ALL), [bucket], seconds=seconds)
        with keyed.mount(key) as mount:
            warning = f"the application key ends within {words}"
            wait_until(lambda line=warning, at=mount: line in at.log(), "the warning")  # type: ignore[misc]
            assert mount.status()["key"]["warning"] == warning
            assert warning in mount.ask("status").stdout


def test_a_key_without_end_is_not_warned_of(keyed: Keyed, bucket: str) -> None:
    with keyed.mount(keyed.emulator.create_key(list(ALL), [bucket])) as mount:
        told = mount.status()["key"]
        assert (told["expires_ms"], told["left_seconds"], told["warning"]) == (None, None, None)
        assert "ends within" not in mount.log()


def test_a_deleted_key_answers_ekeyrevoked_until_another_is_loaded(keyed: Keyed, bucket: str) -> None:
    emulator = keyed.emulator
    emulator.upload(bucket, "gone", b"x")
    emulator.upload(bucket, "moved", b"y")
    key = emulator.create_key(list(ALL), [bucket])
    mount = keyed.mount(key).start()
    try:
        assert sorted(os.listdir(mount.path)) == ["gone", "moved"]
        emulator.delete_key(key[0])
        emulator.expire_tokens("all")
        with refused(errno.EKEYREVOKED):
            os.listdir(mount.path)
        keyed.write(emulator.create_key(list(ALL), [bucket]))
        done = mount.ask("reload")
        assert done.returncode == 0, done.stderr
        assert sorted(os.listdir(mount.path)) == ["gone", "moved"]
    finally:
        assert mount.stop() == 0, mount.log()


def test_an_account_that_b2_serves_no_more_answers_ekeyrejected(keyed: Keyed, bucket: str) -> None:
    emulator = keyed.emulator
    with keyed.mount(emulator.create_key(list(ALL), [bucket])) as mount:
        os.listdir(mount.path)
        emulator.fault(call="b2_authorize_account", kind="status", status=403, code="forbidden", times=-1)
        emulator.expire_tokens("all")
        with refused(errno.EKEYREJECTED):
            os.listdir(mount.path)
        assert "B2 does not serve this account" in mount.status()["key"]["warning"]
        emulator.clear_faults()
        assert mount.ask("reload").returncode == 0
        os.listdir(mount.path)


def test_changes_made_before_the_key_was_deleted_are_sent_with_the_next(keyed: Keyed, bucket: str) -> None:
    emulator = keyed.emulator
    emulator.upload(bucket, "removed", b"x")
    key = emulator.create_key(list(ALL), [bucket])
    mount = keyed.mount(key, options=("--settle", "1h")).start()
    try:
        (mount.path / "written").write_bytes(b"kept")
        os.unlink(mount.path / "removed")
        emulator.delete_key(key[0])
        emulator.expire_tokens("all")
        flushed = mount.ask("flush")
        assert flushed.returncode == 4
        items = {item["name"]: item["error"] for item in mount.status()["pending"]["items"]}
        assert set(items) == {"written", "removed"}
        assert all("was deleted or replaced" in str(error) for error in items.values())
        assert "was deleted or replaced" in mount.status()["key"]["warning"]
        keyed.write(emulator.create_key(list(ALL), [bucket]))
        assert mount.ask("reload").returncode == 0
        wait_until(lambda: mount.status()["pending"]["files"] == 0, "all is sent")
        assert [row["fileName"] for row in emulator.list_names(bucket)] == ["written"]
        assert mount.status()["key"]["warning"] is None
    finally:
        assert mount.stop() == 0, mount.log()


def test_what_a_dead_key_leaves_is_sent_by_the_next_mount(keyed: Keyed, bucket: str) -> None:
    emulator = keyed.emulator
    key = emulator.create_key(list(ALL), [bucket])
    mount = keyed.mount(key, options=("--settle", "1h")).start()
    (mount.path / "written").write_bytes(b"kept")
    emulator.delete_key(key[0])
    emulator.expire_tokens("all")
    assert mount.stop() == 4
    assert "not in B2: written" in mount.log()
    with keyed.mount(emulator.create_key(list(ALL), [bucket])) as again:
        again.flush()
    assert emulator.download(bucket, "written") == b"kept"


def test_sighup_takes_the_new_key(keyed: Keyed, bucket: str) -> None:
    emulator = keyed.emulator
    old = emulator.create_key(list(ALL), [bucket], "a/")
    with keyed.mount(old) as mount:
        new = emulator.create_key(list(ALL), [bucket], "a/")
        keyed.write(new)
        assert mount.process is not None
        mount.process.send_signal(signal.SIGHUP)
        wait_until(lambda: f"the mount goes on with key {new[0]}" in mount.log(), "the new key is taken")
        emulator.delete_key(old[0])
        (mount.path / "file").write_bytes(b"by the new key")
        mount.flush()
    assert emulator.download(bucket, "a/file") == b"by the new key"


def test_a_wider_key_is_taken_and_shows_no_more_than_before(keyed: Keyed, bucket: str) -> None:
    emulator = keyed.emulator
    emulator.upload(bucket, "a/b-in", b"in")
    emulator.upload(bucket, "a/out", b"out")
    with keyed.mount(emulator.create_key(list(ALL), [bucket], "a/b")) as mount:
        keyed.write((emulator.master_key_id, emulator.master_key))
        assert mount.ask("reload").returncode == 0
        assert os.listdir(mount.path) == ["b-in"]
        assert not (mount.path / "out").exists()
        with refused(errno.EACCES):
            (mount.path / "other").write_bytes(b"")
        (mount.path / "b-new").write_bytes(b"")
        assert mount.status()["scope"]["prefix"] == "a/b"


def test_a_narrower_or_foreign_key_is_refused_and_the_old_one_stays(
    keyed: Keyed, bucket: str, emulator: Emulator
) -> None:
    emulator.create_bucket(f"other-{bucket}"[:50])
    old = emulator.create_key(list(ALL), [bucket], "a/")
    unfit = {
        "it opens only names that begin 'a/b/', and the mount shows those that begin 'a/'": (
            list(ALL),
            [bucket],
            "a/b/",
        ),
        f"it does not open bucket '{bucket}'": (list(ALL), [f"other-{bucket}"[:50]], "a/"),
        "it lacks writeFiles and deleteFiles, which the old one has": (list(READ_ONLY), [bucket], "a/"),
    }
    with keyed.mount(old) as mount:
        for reason, (capabilities, buckets, prefix) in unfit.items():
            keyed.write(emulator.create_key(capabilities, buckets, prefix))
            done = mount.ask("reload")
            assert done.returncode == 1
            assert done.stderr.splitlines() == [
                f"b2mount: error: the new key is not taken: {reason}",
                "b2mount: hint: the mount goes on with the old one",
            ]
        (mount.path / "file").write_bytes(b"by the old key")
        mount.flush()
    assert emulator.download(bucket, "a/file") == b"by the old key"
    emulator.wipe(f"other-{bucket}"[:50])


def test_a_key_file_that_makes_no_sense_is_refused(keyed: Keyed, bucket: str) -> None:
    with keyed.mount(keyed.emulator.create_key(list(ALL), [bucket])) as mount:
        keyed.file.write_text("one line\n")
        done = mount.ask("reload")
        assert done.returncode == 1
        assert f"{keyed.file} holds 1 line, not a key ID and a key" in done.stderr
        keyed.write(("0" * 25, "K000" + "x" * 27))
        done = mount.ask("reload")
        assert done.returncode == 1
        assert "B2 does not accept the key" in done.stderr
        os.listdir(mount.path)


def test_a_key_from_the_environment_cannot_be_reloaded(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    with Mount(emulator, tmp_path, emulator.create_key(list(ALL), [bucket]), options=QUICK) as mount:
        done = mount.ask("reload")
        assert done.returncode == 1
        assert done.stderr.splitlines()[0] == (
            "b2mount: error: the key came from B2_APPLICATION_KEY_ID and B2_APPLICATION_KEY "
            "in the environment, which no one can change from outside"
        )


def test_the_service_manager_is_told_of_ready_and_of_the_end(
    emulator: Emulator, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(240)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "60000000")
        with Mount(emulator, tmp_path, emulator.create_key(list(ALL), [bucket]), options=QUICK) as mount:
            assert {manager.recv(4096), manager.recv(4096)} == {
                f"READY=1\nSTATUS=mounted at {mount.path}".encode(),
                b"WATCHDOG=1",
            }
        told = {manager.recv(4096), manager.recv(4096)}
        assert told == {b"STOPPING=1", b"EXTEND_TIMEOUT_USEC=30000000\nSTATUS=unmounting"}


def test_an_error_at_the_start_is_one_error(emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    key = emulator.create_key(list(ALL), [bucket])
    with Mount(emulator, tmp_path / "first", key, options=QUICK) as first:
        second = Mount(emulator, tmp_path / "second", key, options=(*QUICK, "--state-dir", str(first.state)))
        with pytest.raises(Exception, match="another mount of the same scope is using") as failed:
            second.start()
        assert "Traceback" not in str(failed.value)
