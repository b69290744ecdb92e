"""Unmounting leaves running programs alone unless it is told not to; a full disk does not keep files."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import Mount, mounted

pytestmark = pytest.mark.fuse


def test_unmount_refuses_while_a_program_uses_the_mount_and_names_it(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    with mounted(emulator, tmp_path, bucket) as mount:
        user = subprocess.Popen([sys.executable, "-c", "input()"], cwd=mount.path, stdin=subprocess.PIPE)
        try:
            refused = mount.ask("unmount")
            assert refused.returncode == 1
            assert f"{mount.path} is busy" in refused.stderr
            assert f"(process {user.pid})" in refused.stderr
            assert "b2mount unmount --force" in refused.stderr
            assert mount.is_mounted()
        finally:
            user.communicate(b"\n")
        assert mount.ask("unmount").returncode == 0
        assert mount.wait() == 0


def test_force_unmounts_under_a_running_program(emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    with mounted(emulator, tmp_path, bucket) as mount:
        user = subprocess.Popen([sys.executable, "-c", "input()"], cwd=mount.path, stdin=subprocess.PIPE)
        try:
            assert mount.ask("unmount", "--force").returncode == 0
            assert mount.wait() == 0
        finally:
            user.communicate(b"\n")


def test_force_does_not_wait_for_a_server_that_hangs(emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    with mounted(emulator, tmp_path, bucket) as mount:
        emulator.fault(call="b2_upload_file", kind="stall", seconds=3600, times=-1)
        (mount.path / "waits").write_bytes(b"waits")
        done = mount.ask("unmount", "--force", "--timeout", "1")
        emulator.clear_faults()
        assert done.returncode == 4, done.stderr
        assert mount.wait() == 4
        mount.start()
        mount.flush()
        assert emulator.download(bucket, "waits") == b"waits"


def fill_up(path: Path) -> None:
    """Leave no room on a disk."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(65536))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_neither_keeps_a_removed_file_nor_brings_it_back(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    key = emulator.create_key(
        ["listBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles"], [bucket]
    )
    mount = Mount(emulator, tmp_path, key)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", mount.state], check=True)
    try:
        with mount:
            (mount.path / "kept").write_bytes(b"kept")
            mount.flush()
            (mount.path / "doc").write_bytes(b"d" * 500_000)
            fill_up(mount.state / "filler")
            with pytest.raises(OSError, match="No space left"):
                (mount.path / "big").write_bytes(os.urandom(20 << 20))
            os.unlink(mount.path / "big")
            os.unlink(mount.path / "doc")
            mount.flush()
        assert [row["fileName"] for row in emulator.list_names(bucket)] == ["kept"]
        emulator.upload(bucket, "big", b"of somebody else")
        with mount:
            mount.flush()
            assert sorted(os.listdir(mount.path)) == ["big", "kept"]
            assert (mount.path / "big").read_bytes() == b"of somebody else"
    finally:
        subprocess.run(["umount", "-l", mount.state], check=True)
