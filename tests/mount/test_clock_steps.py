"""This machine's clock is set wrong under a running mount, and right again: nothing depends on it."""

import os
from pathlib import Path

import pytest

from tests.support.clock import Clock
from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount
from tests.support.semantics import wait_until

pytestmark = pytest.mark.fuse


def versions(emulator: Emulator, bucket: str, name: str) -> list[str]:
    """Return what was done to a name, the newest first."""
    return [row["action"] for row in emulator.list_versions(bucket, name)]


def test_a_clock_that_is_set_by_a_day_ends_no_key_and_doubles_no_upload(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    clock, key = Clock(tmp_path), emulator.create_key(list(ALL), [bucket], seconds=3600)
    emulator.upload(bucket, "old", b"old")
    options = ["--settle", "0", "--listing-ttl", "0"]
    with Mount(emulator, tmp_path / "b2", key, options=options, program=clock.program) as mount:
        clock.set_wrong()
        assert os.listdir(mount.path) == ["old"]
        assert mount.status()["key"]["warning"] == "the application key ends within an hour"
        emulator.fault(call="b2_upload_file", kind="drop_after", times=1)
        (mount.path / "new").write_bytes(b"new")
        mount.flush()
        assert [rule["fired"] for rule in emulator.faults()] == [1]
    assert versions(emulator, bucket, "new") == ["upload"]


def test_what_was_promised_by_a_wrong_clock_is_done_once_by_a_right_one(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    clock, key = Clock(tmp_path), emulator.create_key(list(ALL), [bucket])
    emulator.upload(bucket, "old", b"old")
    options = ["--settle", "0", "--io-timeout", "600"]
    mount = Mount(emulator, tmp_path / "b2", key, options=options, program=clock.program).start()
    try:
        clock.set_wrong()
        (mount.path / "first").write_bytes(b"so that it has an upload URL")
        mount.flush()
        emulator.fault(call="b2_upload_file", kind="drop_after", times=1)
        emulator.fault(call="*", kind="stall", seconds=600, times=-1)
        (mount.path / "new").write_bytes(b"new")
        os.unlink(mount.path / "old")
        wait_until(lambda: all(rule["fired"] for rule in emulator.faults()), "B2 has it, and nobody knows")
        mount.kill()
        emulator.clear_faults()
        clock.set_right()
        mount.start()
        mount.flush()
        assert sorted(os.listdir(mount.path)) == ["first", "new"]
        assert mount.stop() == 0
    finally:
        emulator.clear_faults()
        mount.kill()
    assert versions(emulator, bucket, "new") == ["upload"]
    assert versions(emulator, bucket, "old") == ["hide", "upload"]
