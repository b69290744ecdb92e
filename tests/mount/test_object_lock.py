"""Object Lock through a real mount: what it refuses, what goes on, and its two attributes."""

import errno
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount, MountFailed, mounted
from tests.support.semantics import calls_of, refused, requests_of

pytestmark = pytest.mark.fuse

RETENTION, HOLD = "user.b2.retention", "user.b2.legal_hold"
READERS = ("readFileRetentions", "readFileLegalHolds")
WRITERS = ("writeFileRetentions", "writeFileLegalHolds")
LOCKERS = (*ALL, *READERS, *WRITERS)
HOUR_MS = 3_600_000
QUICK = ("--settle", "0")


@pytest.fixture
def locked(emulator: Emulator) -> Iterator[str]:
    """Give a bucket with Object Lock."""
    name = f"locked-{uuid.uuid4().hex[:12]}"
    emulator.create_bucket(name, fileLockEnabled=True)
    yield name
    for row in emulator.list_versions(name):
        row_names = {"fileName": row["fileName"], "fileId": row["fileId"]}
        if (row.get("legalHold") or {}).get("value") == "on":
            emulator.ask("b2_update_file_legal_hold", {**row_names, "legalHold": "off"})
    emulator.wipe(name)


def hours(count: float) -> int:
    return (int(time.time() * 1000) + int(count * HOUR_MS)) // 1000 * 1000


def text(mode: str, until_ms: int) -> bytes:
    return f"{mode} {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(until_ms / 1000))}".encode()


def lock(emulator: Emulator, row: dict[str, Any], mode: str, until_ms: int) -> None:
    retention = {"mode": mode, "retainUntilTimestamp": until_ms}
    body = {"fileName": row["fileName"], "fileId": row["fileId"], "fileRetention": retention}
    emulator.ask("b2_update_file_retention", body)


def hold(emulator: Emulator, row: dict[str, Any]) -> None:
    body = {"fileName": row["fileName"], "fileId": row["fileId"], "legalHold": "on"}
    emulator.ask("b2_update_file_legal_hold", body)


def info(emulator: Emulator, row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = emulator.ask("b2_get_file_info", {"fileId": row["fileId"]})
    return found


def refused_by_server(emulator: Emulator, mount: Mount, since: int) -> list[dict[str, Any]]:
    return [row for row in requests_of(emulator, mount.key, since) if row["status"] in (401, 403)]


def test_retention_and_legal_hold_show_as_attributes(emulator: Emulator, locked: str, tmp_path: Path) -> None:
    until = hours(24)
    lock(emulator, emulator.upload(locked, "kept", b"x"), "governance", until)
    hold(emulator, emulator.upload(locked, "held", b"x"))
    emulator.upload(locked, "free", b"x")
    with mounted(emulator, tmp_path, locked, capabilities=(*ALL, *READERS)) as mount:
        assert os.getxattr(mount.path / "kept", RETENTION) == text("governance", until)
        assert os.getxattr(mount.path / "held", HOLD) == b"on"
        for name in (RETENTION, HOLD):
            with refused(errno.ENODATA):
                os.getxattr(mount.path / "free", name)


def test_a_key_that_may_not_read_locks_is_told_so(emulator: Emulator, locked: str, tmp_path: Path) -> None:
    emulator.upload(locked, "file", b"x")
    with mounted(emulator, tmp_path, locked, capabilities=(*ALL, *WRITERS)) as mount:
        for name in (RETENTION, HOLD):
            with refused(errno.EACCES):
                os.getxattr(mount.path / "file", name)


def test_locks_are_set_through_the_attributes(emulator: Emulator, locked: str, tmp_path: Path) -> None:
    row = emulator.upload(locked, "file", b"x")
    until = hours(24)
    with mounted(emulator, tmp_path, locked, capabilities=LOCKERS) as mount:
        path = mount.path / "file"
        os.setxattr(path, RETENTION, text("governance", until))
        os.setxattr(path, HOLD, b"on")
        told = info(emulator, row)
        assert told["fileRetention"]["value"] == {"mode": "governance", "retainUntilTimestamp": until}
        assert told["legalHold"]["value"] == "on"
        assert os.getxattr(path, RETENTION) == text("governance", until)
        assert os.getxattr(path, HOLD) == b"on"
        os.setxattr(path, RETENTION, text("compliance", until + HOUR_MS))  # longer and stricter: always
        os.setxattr(path, HOLD, b"off")
        told = info(emulator, row)
        assert told["fileRetention"]["value"]["mode"] == "compliance"
        assert told["legalHold"]["value"] == "off"
        assert os.getxattr(path, HOLD) == b"off"


def test_a_file_just_written_is_sent_and_then_locked(emulator: Emulator, locked: str, tmp_path: Path) -> None:
    with mounted(emulator, tmp_path, locked, capabilities=LOCKERS, options=("--settle", "1h")) as mount:
        (mount.path / "new").write_bytes(b"x")
        os.setxattr(mount.path / "new", HOLD, b"on")
        assert emulator.list_names(locked)[0]["legalHold"]["value"] == "on"


def test_what_makes_no_lock_is_refused_without_a_call(
    emulator: Emulator, locked: str, tmp_path: Path
) -> None:
    emulator.upload(locked, "file", b"x")
    with mounted(emulator, tmp_path, locked, capabilities=LOCKERS) as mount:
        path = mount.path / "file"
        os.stat(path)
        since = emulator.last_seq()
        for value in (b"governance", b"governance 2001-01-01", b"forever", b""):
            with refused(errno.EINVAL):
                os.setxattr(path, RETENTION, value)
        with refused(errno.EINVAL):
            os.setxattr(path, HOLD, b"maybe")
        assert calls_of(emulator, mount.key, since) == []


def test_a_bucket_without_object_lock_says_so(emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    emulator.upload(bucket, "file", b"x")
    with mounted(emulator, tmp_path, bucket, capabilities=LOCKERS) as mount:
        since = emulator.last_seq()
        with refused(errno.EOPNOTSUPP):
            os.setxattr(mount.path / "file", RETENTION, text("governance", hours(1)))
        with refused(errno.EOPNOTSUPP):
            os.setxattr(mount.path / "file", HOLD, b"on")
        with refused(errno.EOPNOTSUPP):
            os.setxattr(mount.path / "file", RETENTION, text("compliance", hours(1)))
        asked = [call for call in calls_of(emulator, mount.key, since) if call.startswith("b2_update")]
        assert asked == ["b2_update_file_retention"]  # by the first; then it is known


def test_a_key_that_may_set_locks_and_not_read_them_removes_them_too(
    emulator: Emulator, locked: str, tmp_path: Path
) -> None:
    row = emulator.upload(locked, "file", b"x")
    lock(emulator, row, "governance", hours(1))
    hold(emulator, row)
    options = ("--bypass-governance",)
    capabilities = (*ALL, *WRITERS, "bypassGovernance")
    with mounted(emulator, tmp_path, locked, capabilities=capabilities, options=options) as mount:
        since = emulator.last_seq()
        for name in (HOLD, RETENTION):
            with refused(errno.EACCES):
                os.getxattr(mount.path / "file", name)
            os.removexattr(mount.path / "file", name)
        assert refused_by_server(emulator, mount, since) == []
    assert info(emulator, row)["legalHold"]["value"] == "off"
    assert info(emulator, row)["fileRetention"]["value"]["mode"] is None


def test_writing_renaming_and_removing_go_on_and_the_locked_version_stays(
    emulator: Emulator, locked: str, tmp_path: Path
) -> None:
    rows = {name: emulator.upload(locked, name, name.encode()) for name in ("written", "moved", "removed")}
    for row in rows.values():
        lock(emulator, row, "compliance", hours(1))
        hold(emulator, row)
    with mounted(emulator, tmp_path, locked, capabilities=LOCKERS, options=QUICK) as mount:
        (mount.path / "written").write_bytes(b"anew")
        os.rename(mount.path / "moved", mount.path / "elsewhere")
        os.unlink(mount.path / "removed")
        mount.flush()
        assert sorted(os.listdir(mount.path)) == ["elsewhere", "written"]
    for name, row in rows.items():
        assert emulator.download_by_id(row["fileId"]) == name.encode()
        assert info(emulator, row)["legalHold"]["value"] == "on"


@pytest.mark.parametrize("kind", ["governance", "compliance", "legal hold"])
def test_hard_deletion_of_what_is_held_is_eperm_without_a_call(
    emulator: Emulator, locked: str, tmp_path: Path, kind: str
) -> None:
    for name in ("file", "dir/file"):
        row = emulator.upload(locked, name, b"x")
        if kind == "legal hold":
            hold(emulator, row)
        else:
            lock(emulator, row, kind, hours(1))
    options = (*QUICK, "--hard-delete")
    with mounted(emulator, tmp_path, locked, capabilities=LOCKERS, options=options) as mount:
        os.stat(mount.path / "file")
        os.listdir(mount.path / "dir")
        since = emulator.last_seq()
        with refused(errno.EPERM):
            os.unlink(mount.path / "file")
        with refused(errno.EPERM):
            os.rename(mount.path / "file", mount.path / "other")
        assert calls_of(emulator, mount.key, since) == []
        with refused(errno.EPERM):
            os.rename(mount.path / "dir", mount.path / "other")
        assert (mount.path / "file").read_bytes() == b"x"
        assert (mount.path / "dir/file").read_bytes() == b"x"
        assert refused_by_server(emulator, mount, since) == []


def test_an_older_version_that_is_held_keeps_all_of_them(
    emulator: Emulator, locked: str, tmp_path: Path
) -> None:
    lock(emulator, emulator.upload(locked, "file", b"old and held"), "governance", hours(1))
    emulator.upload(locked, "file", b"new and free")
    options = ("--settle", "1h", "--hard-delete", "--listing-ttl", "0")
    with mounted(emulator, tmp_path, locked, capabilities=LOCKERS, options=options) as mount:
        since = emulator.last_seq()
        os.unlink(mount.path / "file")  # that an older one is held shows only when it is sent
        assert mount.ask("flush").returncode == 4
        assert (mount.path / "file").read_bytes() == b"new and free"
        assert refused_by_server(emulator, mount, since) == []
        assert "Object Lock holds version" in mount.status()["errors"][0]["text"]
    assert len(emulator.list_versions(locked)) == 2


def test_a_lock_that_the_key_may_not_read_is_found_at_deletion_and_nothing_is_lost(
    emulator: Emulator, locked: str, tmp_path: Path
) -> None:
    lock(emulator, emulator.upload(locked, "file", b"old and held"), "governance", hours(1))
    emulator.upload(locked, "file", b"new and free")
    options = ("--settle", "1h", "--hard-delete", "--listing-ttl", "0")
    with mounted(emulator, tmp_path, locked, options=options) as mount:
        os.unlink(mount.path / "file")
        assert mount.ask("flush").returncode == 4
        assert (mount.path / "file").read_bytes() == b"new and free"
    assert len(emulator.list_versions(locked)) == 2


def test_governance_gives_way_to_the_option_and_the_capability(
    emulator: Emulator, locked: str, tmp_path: Path
) -> None:
    until = hours(24)
    for name in ("deleted", "shortened", "freed"):
        lock(emulator, emulator.upload(locked, name, b"x"), "governance", until)
    options = (*QUICK, "--hard-delete", "--bypass-governance")
    capabilities = (*LOCKERS, "bypassGovernance")
    with mounted(emulator, tmp_path, locked, capabilities=capabilities, options=options) as mount:
        os.unlink(mount.path / "deleted")
        os.setxattr(mount.path / "shortened", RETENTION, text("governance", until - HOUR_MS))
        os.removexattr(mount.path / "freed", RETENTION)
        mount.flush()
        with refused(errno.ENODATA):
            os.getxattr(mount.path / "freed", RETENTION)
    rows = {row["fileName"]: row for row in emulator.list_versions(locked)}
    assert set(rows) == {"shortened", "freed"}
    assert rows["shortened"]["fileRetention"]["value"]["retainUntilTimestamp"] == until - HOUR_MS
    assert rows["freed"]["fileRetention"]["value"]["mode"] is None


def test_retention_is_not_weakened_without_the_option_nor_compliance_ever(
    emulator: Emulator, locked: str, tmp_path: Path
) -> None:
    until = hours(24)
    lock(emulator, emulator.upload(locked, "governed", b"x"), "governance", until)
    lock(emulator, emulator.upload(locked, "bound", b"x"), "compliance", until)
    capabilities = (*LOCKERS, "bypassGovernance")
    for number, options in enumerate(((), ("--bypass-governance",))):
        base = tmp_path / str(number)
        with mounted(emulator, base, locked, capabilities=capabilities, options=options) as mount:
            os.listdir(mount.path)
            since = emulator.last_seq()
            for name in ("bound",) if options else ("bound", "governed"):
                with refused(errno.EPERM):
                    os.setxattr(mount.path / name, RETENTION, text("governance", until - HOUR_MS))
                with refused(errno.EPERM):
                    os.removexattr(mount.path / name, RETENTION)
            with refused(errno.EPERM):
                os.setxattr(mount.path / "bound", RETENTION, text("governance", until + HOUR_MS))
            assert calls_of(emulator, mount.key, since) == []


def test_the_bypass_is_refused_at_the_start_to_a_key_without_it(
    emulator: Emulator, locked: str, tmp_path: Path
) -> None:
    key = emulator.create_key(list(LOCKERS), [locked])
    with pytest.raises(MountFailed, match="--bypass-governance was said, but the key lacks bypassGovernance"):
        Mount(emulator, tmp_path, key, options=("--bypass-governance",)).start()


def test_file_info_keeps_to_the_smaller_limit_of_a_locking_bucket(
    emulator: Emulator, locked: str, tmp_path: Path
) -> None:
    capabilities = (*LOCKERS, "readBucketRetentions")
    with mounted(emulator, tmp_path, locked, capabilities=capabilities, options=QUICK) as mount:
        (mount.path / "file").write_bytes(b"x")
        os.setxattr(mount.path / "file", "user.little", b"x" * 500)
        with refused(errno.ENOSPC):
            os.setxattr(mount.path / "file", "user.large", b"x" * 2500)  # fits without Object Lock: 7000
        mount.flush()
    assert emulator.download(locked, "file") == b"x"


def test_removing_a_lock_needs_the_right_to_set_it_whether_or_not_there_is_one(
    emulator: Emulator, locked: str, tmp_path: Path
) -> None:
    emulator.upload(locked, "file", b"x")
    for number, capabilities in enumerate((ALL, (*ALL, *READERS))):
        with mounted(emulator, tmp_path / str(number), locked, capabilities=capabilities) as mount:
            os.listdir(mount.path)
            since = emulator.last_seq()
            for name in (RETENTION, HOLD):
                with refused(errno.EPERM):
                    os.removexattr(mount.path / "file", name)
            assert not requests_of(emulator, mount.key, since)


def test_a_key_for_all_buckets_asks_once_of_the_one_that_is_mounted_and_knows_its_lock(
    emulator: Emulator, locked: str, tmp_path: Path
) -> None:
    emulator.upload(locked, "file", b"x")
    key = emulator.create_key([*ALL, "readBucketRetentions"])
    since = emulator.last_seq()
    with Mount(emulator, tmp_path, key, source=locked) as mount:
        assert calls_of(emulator, key, since).count("b2_list_buckets") == 1
        os.setxattr(mount.path / "file", "user.short", b"x" * 100)
        with refused(errno.ENOSPC):  # 2048 bytes of file info are all that a bucket with Object Lock takes
            os.setxattr(mount.path / "file", "user.long", b"x" * 3000)
