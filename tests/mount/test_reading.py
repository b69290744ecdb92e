"""Reading through the kernel: damage, broken connections, bounded memory, a shared cache directory."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.emulator import Emulator, pattern
from tests.support.mount import ALL, Mount, mounted
from tests.support.semantics import fresh_bucket, refused, wait_until

pytestmark = pytest.mark.fuse

MIB = 1 << 20


def reads_whole(path: Path) -> bytes | None:
    """Read a file by plain reads; None where one is refused with EIO."""
    with path.open("rb", buffering=0) as file:
        pieces = []
        try:
            while piece := file.read(MIB):
                pieces.append(piece)
        except OSError as problem:
            assert problem.errno == errno.EIO, problem
            return None
    return b"".join(pieces)


def test_a_file_that_comes_damaged_cannot_be_read_to_its_end_and_is_fetched_again(
    emulator: Emulator, tmp_path: Path
) -> None:
    data = os.urandom(6 * MIB)
    with fresh_bucket(emulator) as bucket:
        emulator.upload(bucket, "file", data)
        with mounted(emulator, tmp_path, bucket) as mount:
            emulator.fault(call="b2_download_file_by_id", kind="corrupt", after_bytes=1000, times=1)
            with (mount.path / "file").open("rb", buffering=0) as file, refused(errno.EIO):
                while file.read(MIB):
                    pass
            emulator.clear_faults()
            wait_until(lambda: reads_whole(mount.path / "file") == data, "the file comes as it is")
            assert "does not have the SHA-1" in mount.log()


def test_a_long_answer_that_breaks_off_goes_on_where_it_broke(emulator: Emulator, tmp_path: Path) -> None:
    size = 64 * MIB
    with fresh_bucket(emulator) as bucket:
        emulator.seed(bucket, [{"name": "file", "size": size}])
        with mounted(emulator, tmp_path, bucket) as mount:
            emulator.fault(call="b2_download_file_by_id", kind="truncate", after_bytes=3 * MIB // 2, times=5)
            before = emulator.counters()["bytes_out"]
            assert reads_whole(mount.path / "file") == pattern("file", 0, size)
            assert emulator.counters()["bytes_out"] - before < size + 10 * MIB


def test_memory_is_bounded_however_many_files_are_read_at_once(emulator: Emulator, tmp_path: Path) -> None:
    count, size = 100, 4 * MIB
    with fresh_bucket(emulator) as bucket:
        emulator.seed(bucket, [{"name": f"f{number}", "size": size} for number in range(count)])
        options = ["--memory-size", "32M", "--cache-size", "64M"]
        with mounted(emulator, tmp_path, bucket, options=options) as mount:

            def read(number: int) -> bool:
                return reads_whole(mount.path / f"f{number}") == pattern(f"f{number}", 0, size)

            with ThreadPoolExecutor(count) as pool:
                assert all(pool.map(read, range(count)))
            assert mount.process is not None
            status = Path(f"/proc/{mount.process.pid}/status").read_text()
            peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
            assert peak * 1024 < 200 * MIB
            taken = sum(path.stat().st_blocks * 512 for path in mount.cache.rglob("*.blocks"))
            assert taken <= 64 * MIB


def test_two_mounts_of_one_key_share_a_cache_directory_without_harm(
    emulator: Emulator, tmp_path: Path
) -> None:
    size = 8 * MIB
    with fresh_bucket(emulator) as bucket:
        emulator.seed(bucket, [{"name": f"f{number}", "size": size} for number in range(6)])
        key = emulator.create_key(ALL, [bucket])
        first = Mount(emulator, tmp_path / "1", key, options=["--cache-size", "20M"])
        second = Mount(emulator, tmp_path / "2", key, options=["--cache-size", "20M"])
        second.cache = first.cache
        with first, second:

            def read(mount: Mount, number: int) -> bool:
                return reads_whole(mount.path / f"f{number}") == pattern(f"f{number}", 0, size)

            with ThreadPoolExecutor(4) as pool:
                work = [(mount, number) for number in range(6) for mount in (first, second)]
                assert all(pool.map(lambda each: read(*each), work))
            assert "used by another mount" in second.log()

            def taken() -> int:
                return sum(path.stat().st_blocks * 512 for path in first.cache.rglob("*.blocks"))

            wait_until(lambda: taken() > 0, "blocks are kept")
            assert taken() <= 20 * MIB
        with first:  # what was kept serves the next mount
            before = first.status()["cache"]["disk_bytes"]
            assert before > 0
