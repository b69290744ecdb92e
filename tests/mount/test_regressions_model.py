"""What random steps beside a model found wrong once: each the shortest sequence that showed it."""

import os
import stat
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import mounted

pytestmark = pytest.mark.fuse


def test_a_directory_keeps_its_attributes_where_no_listing_is_believed(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    with mounted(emulator, tmp_path, bucket, options=["--listing-ttl", "0", "--settle", "0"]) as mount:
        directory = mount.path / "d"
        directory.mkdir(mode=0o700)
        emulator.upload(bucket, "implicit/file", b"")
        mount.remount(empty_cache=True)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        for target in (directory, mount.path / "implicit"):
            os.utime(target, (1_400_000_000, 1_400_000_000))
            mount.remount(empty_cache=True)
            assert target.stat().st_mtime == 1_400_000_000


def test_a_clean_end_leaves_no_spool_file(emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    with mounted(emulator, tmp_path, bucket, options=["--settle", "0"]) as mount:
        for round_ in range(5):
            for number in range(20):
                (mount.path / str(number)).write_bytes(b"x" * 1000 * round_)
            assert mount.stop() == 0
            assert list(mount.state.rglob("spool/*")) == []
            mount.start()


def test_a_file_written_after_its_name_is_gone_leaves_nothing(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    with mounted(emulator, tmp_path, bucket) as mount:
        with (mount.path / "gone").open("w+b") as file:
            os.unlink(mount.path / "gone")
            file.write(b"x" * 1000)
            file.flush()
            file.seek(0)
            assert file.read() == b"x" * 1000
        assert mount.stop() == 0
        assert list(mount.state.rglob("spool/*")) == []
        assert emulator.list_versions(bucket) == []
        mount.start()
