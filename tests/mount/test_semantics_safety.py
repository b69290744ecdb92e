"""docs/semantics.md, "Durability" on bad days: signals, refusals, a disk full, gone or read-only."""

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount
from tests.support.semantics import fresh_bucket, refused, wait_until

pytestmark = pytest.mark.fuse

LATER = ["--settle", "600"]
DISK_BYTES = 24 << 20  # of which the journal keeps a third in reserve


@pytest.fixture
def mount(emulator: Emulator, tmp_path: Path) -> Iterator[Mount]:
    """A mount that is not started yet, of a bucket of its own."""
    with fresh_bucket(emulator) as bucket:
        mount = Mount(emulator, tmp_path, emulator.create_key(ALL, [bucket]), options=LATER)
        mount.source = bucket
        try:
            yield mount
        finally:
            emulator.clear_faults()
            mount.kill()


@pytest.fixture
def little_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of few bytes."""
    if os.geteuid() != 0:
        pytest.skip("a disk of its own needs root")
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "b2mount-test", str(place)]
    made = subprocess.run(command, capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no tmpfs here: {made.stderr.decode()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def stored(mount: Mount) -> dict[str, bytes]:
    assert mount.source is not None
    names = [row["fileName"] for row in mount.emulator.list_names(mount.source)]
    return {name: mount.emulator.download(mount.source, name) for name in names}


def hang_uploads(mount: Mount) -> None:
    mount.emulator.fault(call="b2_upload_file", kind="stall", seconds=600, times=-1)


# --- who waits hears of it --------------------------------------------------------------------------------


def test_flush_names_what_cannot_be_sent(mount: Mount) -> None:
    mount.start()
    mount.emulator.caps(storage_bytes=0)
    (mount.path / "file").write_bytes(b"content")
    done = mount.ask("flush")
    assert done.returncode == 4
    assert "file is not in B2" in done.stderr
    assert "cap" in done.stderr
    mount.emulator.caps()
    mount.flush()
    assert stored(mount) == {"file": b"content"}
    assert mount.stop() == 0


def test_with_write_through_close_gives_the_error(mount: Mount) -> None:
    mount.options = [*LATER, "--write-through"]
    mount.start()
    mount.emulator.caps(storage_bytes=0)
    fd = os.open(mount.path / "file", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"content")
    with refused(errno.EDQUOT):
        os.close(fd)
    mount.emulator.caps()
    assert mount.stop() == 0
    assert stored(mount) == {"file": b"content"}


def test_sigterm_sends_what_waits_and_says_so(mount: Mount) -> None:
    mount.start()
    (mount.path / "file").write_bytes(b"content")
    assert mount.stop() == 0
    assert "SIGTERM: sending what is pending" in mount.log()
    assert "1 change to send" in mount.log()
    assert stored(mount) == {"file": b"content"}


def test_a_second_sigint_leaves_at_once_and_names_what_is_unsent(mount: Mount) -> None:
    mount.options = [*LATER, "--io-timeout", "600"]
    mount.start()
    hang_uploads(mount)
    (mount.path / "file").write_bytes(b"content")
    assert mount.process is not None
    mount.process.send_signal(signal.SIGINT)
    wait_until(lambda: any(rule["fired"] for rule in mount.emulator.faults()), "it sends")
    mount.process.send_signal(signal.SIGINT)
    assert mount.wait() == 4
    assert "not in B2: file: not sent yet" in mount.log()
    mount.emulator.clear_faults()
    with mount:
        mount.flush()
    assert stored(mount) == {"file": b"content"}


# --- the local disk ---------------------------------------------------------------------------------------


def test_a_full_disk_gives_enospc_and_keeps_what_was_promised(mount: Mount, little_disk: Path) -> None:
    shutil.rmtree(mount.state)
    mount.state = little_disk / "state"
    mount.options = [*LATER, "--spool-size", "0"]  # which would make writers wait before the disk is full
    mount.start()
    hang_uploads(mount)  # else flushing would make room
    promised: dict[str, bytes] = {}
    with refused(errno.ENOSPC):
        for number in range(1000):
            (mount.path / f"file{number}").write_bytes(bytes([number % 251]) * 500_000)
            promised[f"file{number}"] = bytes([number % 251]) * 500_000
    assert len(promised) > 10
    os.rename(mount.path / "file0", mount.path / "moved")  # what needs little room goes on
    promised["moved"] = promised.pop("file0")
    mount.kill()
    mount.emulator.clear_faults()
    with mount:
        mount.flush()
        assert {name: (mount.path / name).read_bytes() for name in promised} == promised
    assert {name: data for name, data in stored(mount).items() if name in promised} == promised


def test_a_removed_spool_gives_eio_and_the_mount_lives(mount: Mount) -> None:
    mount.start()
    (mount.path / "lost").write_bytes(b"lost with the spool")
    (scope,) = mount.state.iterdir()
    shutil.rmtree(scope / "spool")
    with refused(errno.EIO):
        (mount.path / "new").write_bytes(b"cannot be kept")
    done = mount.ask("flush")
    assert done.returncode in (0, 4)  # it may still be open, or it says what is lost
    if done.returncode:
        assert "lost is not in B2" in done.stderr
        assert "spool" in done.stderr
    else:
        assert stored(mount)["lost"] == b"lost with the spool"
    assert stored(mount).get("new", b"") == b""  # made, and told that it could not be written
    (scope / "spool").mkdir(mode=0o700)
    (mount.path / "later").write_bytes(b"kept again")
    mount.ask("flush")
    assert stored(mount)["later"] == b"kept again"


def test_a_removed_journal_gives_eio_instead_of_a_promise(mount: Mount) -> None:
    mount.start()
    (mount.path / "before").write_bytes(b"before")
    (scope,) = mount.state.iterdir()
    for path in scope.glob("journal.sqlite*"):
        path.unlink()
    with refused(errno.EIO):
        os.unlink(mount.path / "before")
    assert "journal" in mount.log() and "removed" in mount.log()


def test_a_state_directory_that_cannot_be_written_is_refused_at_start(
    mount: Mount, little_disk: Path
) -> None:
    mount.state = little_disk / "state"
    subprocess.run(["mount", "-o", "remount,ro", str(little_disk)], check=True)
    mount.start_refused("the state directory", "cannot be used", "Read-only file system")


def test_a_cache_directory_that_cannot_be_written_costs_the_disk_cache_alone(
    mount: Mount, little_disk: Path
) -> None:
    mount.cache = little_disk / "cache"
    subprocess.run(["mount", "-o", "remount,ro", str(little_disk)], check=True)
    with mount:
        (mount.path / "file").write_bytes(b"content")
        mount.flush()
    assert "blocks are kept in memory alone" in mount.log()
    assert stored(mount) == {"file": b"content"}
