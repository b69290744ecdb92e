"""docs/semantics.md, "When something fails": dead keys, caps, locks, an unreachable B2, and our own bugs."""

import errno
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clock import Clock
from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount, mounted
from tests.support.semantics import fresh_bucket, refused, wait_until

pytestmark = pytest.mark.fuse

QUICK = ["--listing-ttl", "1", "--settle", "0.1"]


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator of its own, for tests that stop it or set caps."""
    with Emulator(tmp_path_factory.mktemp("own-emulator")) as server:
        yield server


@pytest.fixture
def stored(own: Emulator) -> str:
    """A bucket with a file."""
    own.create_bucket("failures")
    own.upload("failures", "file", b"content")
    return "failures"


# --- keys -------------------------------------------------------------------------------------------------


def test_an_expired_key_gives_ekeyexpired_and_what_was_written_waits(
    own: Emulator, stored: str, tmp_path: Path
) -> None:
    key, clock = own.create_key(ALL, [stored], seconds=3600), Clock(tmp_path)
    options = ["--settle", "600", "--listing-ttl", "1"]
    mount = Mount(own, tmp_path, key, options=options, program=clock.program).start()
    (mount.path / "waiting").write_bytes(b"waits")
    assert (mount.path / "file").read_bytes() == b"content"
    clock.jump()
    own.expire_key(key[0])
    with refused(errno.EKEYEXPIRED):
        os.listdir(mount.path)
    with refused(errno.EKEYEXPIRED):
        os.open(mount.path / "new", os.O_CREAT | os.O_WRONLY)
    assert mount.status()["pending"]["files"] == 1
    assert mount.stop() != 0
    assert "not in B2" in mount.log()
    assert "expired" in mount.log()
    mount.key = own.create_key(ALL, [stored])
    with mount:
        mount.flush()
    assert own.download(stored, "waiting") == b"waits"


def test_a_deleted_key_gives_ekeyrevoked(own: Emulator, stored: str, tmp_path: Path) -> None:
    key = own.create_key(ALL, [stored])
    mount = Mount(own, tmp_path, key, options=QUICK).start()
    assert os.listdir(mount.path) == ["file"]
    own.delete_key(key[0])
    own.expire_tokens("all", key[0])

    def is_revoked() -> bool:
        try:
            os.listdir(mount.path)
        except OSError as exc:
            assert exc.errno == errno.EKEYREVOKED, exc
            return True
        return False

    wait_until(is_revoked, "the listing expires and the key is found dead")
    mount.stop()


# --- caps and locks ---------------------------------------------------------------------------------------


def test_a_reached_cap_gives_edquot_and_what_was_written_arrives_when_it_is_lifted(
    own: Emulator, stored: str, tmp_path: Path
) -> None:
    with mounted(own, tmp_path, stored, options=QUICK) as mount:
        own.caps(storage_bytes=10)
        fd = os.open(mount.path / "new", os.O_CREAT | os.O_WRONLY)
        os.write(fd, b"more than ten bytes")
        with refused(errno.EDQUOT):
            os.fsync(fd)
        os.close(fd)
        assert (mount.path / "new").read_bytes() == b"more than ten bytes"
        assert mount.status()["pending"]["files"] == 1
        own.caps()
        wait_until(lambda: "new" in {row["fileName"] for row in own.list_names(stored)}, "it arrives")
    assert own.download(stored, "new") == b"more than ten bytes"


def test_a_download_cap_gives_edquot(own: Emulator, stored: str, tmp_path: Path) -> None:
    with mounted(own, tmp_path, stored, options=QUICK) as mount:
        own.caps(class_b=0)
        with open(mount.path / "file", "rb", buffering=0) as file, refused(errno.EDQUOT):
            file.read(10)
        own.caps()
        assert (mount.path / "file").read_bytes() == b"content"


def test_a_file_held_by_object_lock_comes_back_where_it_cannot_be_deleted(
    own: Emulator, tmp_path: Path
) -> None:
    own.create_bucket("locked", fileLockEnabled=True)
    row = own.upload("locked", "held", b"held")
    own.ask("b2_update_file_legal_hold", {"fileName": "held", "fileId": row["fileId"], "legalHold": "on"})
    with mounted(own, tmp_path, "locked", options=["--settle", "600", "--hard-delete"]) as mount:
        assert (mount.path / "held").read_bytes() == b"held"
        os.unlink(mount.path / "held")  # this key cannot see the lock
        directory = os.open(mount.path, os.O_RDONLY)
        with refused(errno.EPERM):
            os.fsync(directory)
        os.close(directory)
        wait_until(lambda: (mount.path / "held").exists(), "the name is back")
        assert (mount.path / "held").read_bytes() == b"held"
        assert any("held" in str(error) for error in mount.status()["errors"])


# --- the network ------------------------------------------------------------------------------------------


def test_an_unreachable_b2_gives_etimedout_and_what_was_written_arrives_afterwards(
    own: Emulator, stored: str, tmp_path: Path
) -> None:
    own.upload(stored, "unread", b"u" * 100)
    with mounted(own, tmp_path, stored, options=["--settle", "0.1", "--io-timeout", "8"]) as mount:
        assert (mount.path / "file").read_bytes() == b"content"
        with open(mount.path / "unread", "rb", buffering=0) as unread:
            own.stop()
            began = time.monotonic()
            with refused(errno.ETIMEDOUT):
                unread.read(10)
            fd = os.open(mount.path / "synced", os.O_CREAT | os.O_WRONLY)
            os.write(fd, b"synced")
            with refused(errno.ETIMEDOUT):
                os.fsync(fd)
            os.close(fd)
            (mount.path / "written").write_bytes(b"written while B2 was away")
            os.rename(mount.path / "written", mount.path / "renamed")
            assert (mount.path / "renamed").read_bytes() == b"written while B2 was away"
            assert time.monotonic() - began < 200  # two calls of 8 s; far from hanging
            own.start()
            assert unread.read(10) == b"u" * 10
        mount.flush()
    assert own.download(stored, "renamed") == b"written while B2 was away"
    assert own.download(stored, "synced") == b"synced"


def test_the_root_and_known_directories_can_be_looked_at_while_b2_is_away(
    own: Emulator, stored: str, tmp_path: Path
) -> None:
    own.upload(stored, "known/file", b"x")
    options = ["--settle", "0", "--io-timeout", "250", "--listing-ttl", "0"]
    with mounted(own, tmp_path / "seen", stored, options=options) as seen:
        os.mkdir(seen.path / "own")
        os.chmod(seen.path / "own", 0o710)
        seen.flush()
        before = {name: (seen.path / name).stat() for name in ("known", "own", ".")}
        held = {name: os.open(seen.path / name, os.O_PATH) for name in before}
        own.stop()
        began = time.monotonic()
        for name, was in before.items():
            now = os.fstat(held[name])
            assert (now.st_mode, now.st_ino) == (was.st_mode, was.st_ino)
        os.stat(seen.path)
        assert time.monotonic() - began < 200  # less than one wait for B2
        for fd in held.values():
            os.close(fd)
        own.start()
        assert os.listdir(seen.path / "known") == ["file"]


def test_short_troubles_are_not_seen(emulator: Emulator, tmp_path: Path) -> None:
    with fresh_bucket(emulator) as bucket, mounted(emulator, tmp_path, bucket, options=QUICK) as mount:
        for kind in ("status", "drop_before", "drop_after", "truncate", "corrupt"):
            emulator.upload(bucket, f"read-{kind}", b"content")
        for kind in ("status", "drop_before", "drop_after", "truncate", "corrupt"):
            for call in ("b2_list_file_names", "b2_download_file_by_id", "b2_upload_file", "b2_copy_file"):
                emulator.fault(call=call, kind=kind, status=503, code="service_unavailable", times=1)
            assert (mount.path / f"read-{kind}").read_bytes() == b"content"
            (mount.path / f"written-{kind}").write_bytes(b"new")
            os.rename(mount.path / f"read-{kind}", mount.path / f"moved-{kind}")
            mount.flush()
            emulator.clear_faults()
            assert emulator.download(bucket, f"written-{kind}") == b"new"
            assert emulator.download(bucket, f"moved-{kind}") == b"content"
        names = [row["fileName"] for row in emulator.list_versions(bucket) if row["action"] == "upload"]
        assert len(names) == len(set(names))  # nothing was done twice


# --- our own bugs -----------------------------------------------------------------------------------------

BUGGY = """
import sys
from b2mount.cli.main import main
from b2mount.fs.filesystem import FileSystem

def readlink(self, ino):
    return {}["a bug"]

FileSystem.readlink = readlink
sys.exit(main())
"""


def test_a_bug_gives_eio_and_a_traceback_in_the_log_and_the_mount_lives(
    emulator: Emulator, tmp_path: Path
) -> None:
    with fresh_bucket(emulator) as bucket:
        key = emulator.create_key(ALL, [bucket])
        mount = Mount(emulator, tmp_path, key, program=[sys.executable, "-c", BUGGY]).start()
        try:
            os.symlink("target", mount.path / "link")
            for _ in range(2):
                with refused(errno.EIO):
                    os.readlink(mount.path / "link")
            assert "KeyError: 'a bug'" in mount.log()
            assert "Traceback" in mount.log()
            (mount.path / "file").write_bytes(b"the mount lives")
            assert (mount.path / "file").read_bytes() == b"the mount lives"
        finally:
            status = mount.stop()
        assert status == 0
        assert emulator.download(bucket, "file") == b"the mount lives"
