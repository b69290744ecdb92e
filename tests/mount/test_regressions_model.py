"""What random steps beside a model found wrong once: each the shortest sequence that showed it."""

import os
import stat
import threading
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import mounted
from tests.support.semantics import wait_until

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


def test_a_removed_or_renamed_directory_stays_so_through_a_crash(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    emulator.seed(bucket, [{"name": "old/deep/file", "content": "kept"}, {"name": "implicit/x", "size": 1}])
    with mounted(emulator, tmp_path, bucket, options=["--settle", "600", "--uploads", "1"]) as mount:
        os.unlink(mount.path / "implicit/x")
        os.rmdir(mount.path / "implicit")
        os.rename(mount.path / "old", mount.path / "new")
        (mount.path / "old").write_bytes(b"a file now")
        mount.kill()
        emulator.network(latency_ms=300)
        try:
            mount.start()
            assert sorted(os.listdir(mount.path)) == ["new", "old"]
            assert (mount.path / "old").read_bytes() == b"a file now"
            assert (mount.path / "new/deep/file").read_bytes() == b"kept"
        finally:
            emulator.network(latency_ms=0)
        mount.remount(empty_cache=True)
        assert sorted(os.listdir(mount.path)) == ["new", "old"]


def test_what_is_removed_and_made_again_is_listed_once(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    with mounted(emulator, tmp_path, bucket, options=["--settle", "0"]) as mount:
        (mount.path / "kept").write_bytes(b"x")
        mount.flush()
        for _ in range(3):
            assert os.listdir(mount.path) == ["kept"]
            (mount.path / "again").mkdir()
            assert sorted(os.listdir(mount.path)) == ["again", "kept"]
            mount.flush()
            assert sorted(os.listdir(mount.path)) == ["again", "kept"]
            (mount.path / "again").rmdir()
            (mount.path / "again").mkdir()
            assert sorted(os.listdir(mount.path)) == ["again", "kept"]
            (mount.path / "again").rmdir()
            mount.flush()


def test_a_file_removed_before_its_last_change_is_sent_goes_from_b2_too(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    with mounted(emulator, tmp_path, bucket, options=["--settle", "600"]) as mount:
        os.listdir(mount.path)
        path = mount.path / "file"
        path.write_bytes(b"content")
        emulator.fault(call="b2_upload_file", kind="stall", seconds=4, times=1)
        flushing = threading.Thread(target=mount.flush)
        flushing.start()
        wait_until(lambda: any(rule["fired"] for rule in emulator.faults()), "the first change is under way")
        path.chmod(0o600)  # another one, queued behind it
        flushing.join()
        os.unlink(path)
        mount.flush()
        assert emulator.list_names(bucket) == []


def test_a_strangers_change_shows_though_an_own_one_was_sent_during_a_listing(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    emulator.upload(bucket, "elsewhere/x", b"x")
    with mounted(emulator, tmp_path, bucket, options=["--settle", "0", "--listing-ttl", "60"]) as mount:
        os.listdir(mount.path)
        emulator.fault(call="b2_list_file_names", kind="stall", seconds=2, times=1)
        listing = threading.Thread(target=os.listdir, args=[mount.path / "elsewhere"])
        listing.start()
        wait_until(lambda: any(rule["fired"] for rule in emulator.faults()), "the listing is under way")
        (mount.path / "own").write_bytes(b"own")
        mount.flush()
        assert listing.is_alive()
        listing.join()
        emulator.hide(bucket, "own")
        assert mount.ask("refresh").returncode == 0
        with pytest.raises(FileNotFoundError):
            (mount.path / "own").stat()


def test_a_refresh_returns_once_the_kernel_has_forgotten(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    names = [f"file {number}" for number in range(200)]
    emulator.seed(bucket, [{"name": name, "content": "old"} for name in names])
    with mounted(emulator, tmp_path, bucket) as mount:
        for round_ in range(3):
            for name in [*names, "missing"]:
                os.path.exists(mount.path / name)
            emulator.seed(bucket, [{"name": name, "content": f"new {round_}"} for name in names])
            if round_ == 2:
                emulator.upload(bucket, "missing", b"here now")
            assert mount.ask("refresh").returncode == 0
            for name in reversed(names):
                assert (mount.path / name).stat().st_size == 5
                assert (mount.path / name).read_text() == f"new {round_}"
        assert (mount.path / "missing").read_bytes() == b"here now"


def test_the_placeholder_of_a_replaced_directory_goes_when_what_replaced_it_moves_on(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    with mounted(emulator, tmp_path, bucket, options=["--settle", "1h"]) as mount:
        (mount.path / "outer" / "replaced").mkdir(parents=True)
        emulator.seed(bucket, [{"name": "outer/s3/", "size": 0}])  # kept as S3 tools do
        mount.flush()
        mount.ask("refresh")
        assert sorted(os.listdir(mount.path / "outer")) == ["replaced", "s3"]
        for name in ("replaced", "s3"):
            assert os.listdir(mount.path / "outer" / name) == []
            (mount.path / "new").mkdir()
            os.rename(mount.path / "new", mount.path / "outer" / name)
        os.rename(mount.path / "outer", mount.path / "moved")
        mount.flush()
        rows = {row["fileName"] for row in emulator.list_names(bucket)}
        assert rows == {"moved/.bzEmpty", "moved/replaced/.bzEmpty", "moved/s3/.bzEmpty"}
