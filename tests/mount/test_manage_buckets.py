"""mkdir and rmdir in the root of a mount that shows all buckets."""

import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount, MountFailed
from tests.support.semantics import calls_of, refused, requests_of

pytestmark = pytest.mark.fuse

MANAGING = (*ALL, "writeBuckets", "deleteBuckets")
OPTIONS = ("--settle", "0", "--manage-buckets")


@pytest.fixture
def name(emulator: Emulator) -> Iterator[str]:
    """Give the name of a bucket that is yet to be made."""
    bucket = f"made-{uuid.uuid4().hex[:12]}"
    yield bucket
    if bucket in emulator.control("GET", "buckets"):
        emulator.wipe(bucket)


def account_mount(
    emulator: Emulator, base: Path, capabilities: tuple[str, ...], options: tuple[str, ...] = OPTIONS
) -> Mount:
    return Mount(emulator, base, emulator.create_key(list(capabilities)), options=options)


def test_mkdir_makes_a_private_bucket_and_rmdir_deletes_it(
    emulator: Emulator, name: str, tmp_path: Path
) -> None:
    with account_mount(emulator, tmp_path, MANAGING) as mount:
        os.listdir(mount.path)
        os.mkdir(mount.path / name)
        assert (
            emulator.ask("b2_list_buckets", {"accountId": emulator.account_id, "bucketName": name})[
                "buckets"
            ][0]["bucketType"]
            == "allPrivate"
        )
        assert name in os.listdir(mount.path)
        with refused(errno.EEXIST):
            os.mkdir(mount.path / name)
        (mount.path / name / "file").write_bytes(b"x")
        mount.flush()
        assert emulator.download(name, "file") == b"x"
        with refused(errno.ENOTEMPTY):
            os.rmdir(mount.path / name)
        os.unlink(mount.path / name / "file")
        with refused(errno.ENOTEMPTY):  # the hidden version is still there
            os.rmdir(mount.path / name)
        for row in emulator.list_versions(name):
            emulator.ask("b2_delete_file_version", {"fileName": row["fileName"], "fileId": row["fileId"]})
        os.rmdir(mount.path / name)
        assert not (mount.path / name).exists()
        assert name not in emulator.control("GET", "buckets")
        os.mkdir(mount.path / name)
        assert os.listdir(mount.path / name) == []


def test_with_hard_deletion_a_bucket_empties_and_goes(emulator: Emulator, name: str, tmp_path: Path) -> None:
    with account_mount(emulator, tmp_path, MANAGING, (*OPTIONS, "--hard-delete")) as mount:
        os.mkdir(mount.path / name)
        (mount.path / name / "file").write_bytes(b"x")
        os.unlink(mount.path / name / "file")
        os.rmdir(mount.path / name)
        assert name not in emulator.control("GET", "buckets")


def test_without_the_option_no_bucket_is_made_or_deleted(
    emulator: Emulator, bucket: str, name: str, tmp_path: Path
) -> None:
    with account_mount(emulator, tmp_path, MANAGING, ("--settle", "0")) as mount:
        os.listdir(mount.path)
        since = emulator.last_seq()
        with refused(errno.EPERM):
            os.mkdir(mount.path / name)
        with refused(errno.EPERM):
            os.rmdir(mount.path / bucket)
        with refused(errno.EPERM):
            os.rename(mount.path / bucket, mount.path / name)
        with refused(errno.EPERM):
            (mount.path / "file").write_bytes(b"")
        assert calls_of(emulator, mount.key, since) == []


def test_each_of_the_two_rights_allows_its_own_half(
    emulator: Emulator, bucket: str, name: str, tmp_path: Path
) -> None:
    halves = {"writeBuckets": "deleting", "deleteBuckets": "making"}
    for right, lacking in halves.items():
        with account_mount(emulator, tmp_path / right, (*ALL, right)) as mount:
            os.listdir(mount.path)
            since = emulator.last_seq()
            with refused(errno.EPERM):
                if lacking == "deleting":
                    os.rmdir(mount.path / bucket)
                else:
                    os.mkdir(mount.path / name)
            assert calls_of(emulator, mount.key, since) == []
            if lacking == "making":
                os.rmdir(mount.path / bucket)
                emulator.create_bucket(bucket)  # for the fixture, which removes it
            assert [r for r in requests_of(emulator, mount.key, since) if r["status"] in (401, 403)] == []


def test_a_name_that_b2_does_not_take_is_einval_without_a_call(emulator: Emulator, tmp_path: Path) -> None:
    with account_mount(emulator, tmp_path, MANAGING) as mount:
        os.listdir(mount.path)
        since = emulator.last_seq()
        for odd in ("short", "b2-reserved", "under_score", "d.o.t.s", "x" * 64, "grüße-aus"):
            with refused(errno.EINVAL):
                os.mkdir(mount.path / odd)
        assert [call for call in calls_of(emulator, mount.key, since) if call != "b2_list_buckets"] == []


def test_a_key_with_neither_right_is_refused_the_option_at_the_start(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    mount = Mount(emulator, tmp_path, emulator.create_key(list(ALL), [bucket]), options=OPTIONS)
    with pytest.raises(MountFailed, match="the key lacks writeBuckets and deleteBuckets"):
        mount.start()
