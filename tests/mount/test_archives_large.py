"""Archives that are large: 100,000 versions of one name, 100,000 names with versions, files beyond 5 GB."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.mount.test_archives import DAY, READER, T0, epoch, hide, put
from tests.mount.test_archives_restore import FAST, restore, said
from tests.support.emulator import Emulator
from tests.support.mount import mounted
from tests.support.semantics import calls_of, requests_of

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

MANY = 100_000
MEMORY_A_VERSION = 2_000  # bytes at most; 1,430 were measured, each entry's inode held by the kernel


def resident_bytes(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_name_with_very_many_versions(emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    emulator.seed(bucket, ({"name": "many", "size": n, "uploaded_ms": T0 + 1000 * n} for n in range(MANY)))
    emulator.seed(bucket, [put("other", "x", T0)])
    with mounted(emulator, tmp_path, bucket, capabilities=READER, options=["--versions"]) as mount:
        assert mount.process is not None
        before = resident_bytes(mount.process.pid)
        since, began = emulator.last_seq(), time.monotonic()
        assert sorted(os.listdir(mount.path / ".b2versions")) == ["many", "other"]
        assert len(calls_of(emulator, mount.key, since)) <= 3
        entries = os.listdir(mount.path / ".b2versions/many")
        assert len(set(entries)) == MANY
        assert entries == sorted(entries)
        took, grown = time.monotonic() - began, resident_bytes(mount.process.pid) - before
        print(f"{MANY} versions: {took:.1f} s, {grown / MANY:.0f} bytes each")
        assert len(calls_of(emulator, mount.key, since)) <= 16
        assert grown < MEMORY_A_VERSION * MANY
        for number in (0, MANY // 2, MANY - 1):
            assert (mount.path / ".b2versions/many" / entries[number]).stat().st_size == number
            then = mount.path / ".b2versions" / epoch(T0 + 1000 * number) / "many"
            assert then.stat().st_size == number


def test_very_many_names_with_versions(emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    for age in range(3):
        emulator.seed(bucket, pattern="d/%06d", count=MANY, size=age + 1, uploaded_ms=T0 + DAY * age)
    with mounted(emulator, tmp_path, bucket, capabilities=READER, options=["--at", epoch(T0 + DAY)]) as mount:
        since, began = emulator.last_seq(), time.monotonic()
        done = subprocess.run(
            ["find", mount.path, "-type", "f", "-size", "2c"], capture_output=True, text=True, check=True
        )
        print(f"{MANY} names of {3 * MANY} versions: {time.monotonic() - began:.1f} s")
        assert done.stdout.count("\n") == MANY
        rows = requests_of(emulator, mount.key, since)
        assert len(rows) <= 3 * MANY / 1000


def test_a_file_of_more_than_5_gb_comes_back_by_parts(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    size = 5_100_000_000
    emulator.seed(bucket, [{"name": "huge", "size": size, "uploaded_ms": T0}, hide("huge", T0 + DAY)])
    with mounted(emulator, tmp_path, bucket, options=FAST) as mount:
        since = emulator.last_seq()
        assert said(restore(mount.path / "huge")).endswith("1 file restored\n")
        assert (mount.path / "huge").stat().st_size == size
        calls = calls_of(emulator, mount.key, since)
        assert "b2_copy_part" in calls
        assert not {"b2_upload_part", "b2_upload_file"} & set(calls)
