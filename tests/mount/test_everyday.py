"""What people do all day, through the kernel, with a key limited to a prefix."""

import hashlib
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import Mount, mounted

pytestmark = pytest.mark.fuse


@pytest.fixture
def tenant(emulator: Emulator, bucket: str, tmp_path: Path) -> Iterator[Mount]:
    """A mount of `tenant-a/` in a bucket where another tenant lives too."""
    emulator.upload(bucket, "tenant-a/hello.txt", b"hello\n")
    emulator.upload(bucket, "tenant-a/deep/er/file.bin", bytes(range(256)) * 1000)
    emulator.upload(bucket, "tenant-b/secret.txt", b"not yours")
    with mounted(emulator, tmp_path, bucket, prefix="tenant-a/") as mount:
        yield mount


def names(emulator: Emulator, bucket: str) -> set[str]:
    return {row["fileName"] for row in emulator.list_names(bucket)}


def test_the_mount_shows_the_prefix_and_nothing_else(tenant: Mount) -> None:
    found = sorted(str(path.relative_to(tenant.path)) for path in tenant.path.rglob("*"))
    assert found == ["deep", "deep/er", "deep/er/file.bin", "hello.txt"]
    assert (tenant.path / "hello.txt").read_bytes() == b"hello\n"
    assert (tenant.path / "deep/er/file.bin").read_bytes() == bytes(range(256)) * 1000


def test_what_is_written_is_in_b2_after_flush(tenant: Mount, bucket: str) -> None:
    (tenant.path / "new.txt").write_bytes(b"new")
    (tenant.path / "dir").mkdir()
    (tenant.path / "dir/inner").write_bytes(b"inner")
    tenant.flush()
    assert tenant.emulator.download(bucket, "tenant-a/new.txt") == b"new"
    assert tenant.emulator.download(bucket, "tenant-a/dir/inner") == b"inner"
    assert "tenant-a/dir/.bzEmpty" in names(tenant.emulator, bucket)


def test_everything_survives_a_remount_with_nothing_local(tenant: Mount) -> None:
    base = tenant.path
    (base / "a").write_bytes(b"a" * 100)
    (base / "a").chmod(0o640)
    os.utime(base / "a", ns=(1_500_000_000_123_456_789, 1_500_000_000_123_456_789))
    (base / "empty").mkdir()
    (base / "empty").chmod(0o700)
    os.utime(base / "empty", (1_400_000_000, 1_400_000_000))
    (base / "link").symlink_to("a")
    os.mkfifo(base / "fifo")
    owner = (1234, 5678) if os.geteuid() == 0 else (os.getuid(), os.getgid())
    os.chown(base / "a", *owner)
    os.setxattr(base / "a", "user.note", b"kept \x00\xff")
    tenant.remount(empty_cache=True)
    info = (base / "a").stat()
    assert (info.st_size, stat.S_IMODE(info.st_mode), info.st_mtime_ns) == (
        100,
        0o640,
        1_500_000_000_123_456_789,
    )
    assert (info.st_uid, info.st_gid) == owner
    assert os.getxattr(base / "a", "user.note") == b"kept \x00\xff"
    assert stat.S_IMODE((base / "empty").stat().st_mode) == 0o700
    assert (base / "empty").stat().st_mtime == 1_400_000_000
    assert os.readlink(base / "link") == "a"
    assert stat.S_ISFIFO((base / "fifo").stat().st_mode)
    assert os.listdir(base / "empty") == []


def test_vim_style_save_replaces_the_file(tenant: Mount, bucket: str) -> None:
    target, temp, backup = (tenant.path / name for name in ("hello.txt", ".hello.swp", "hello.txt~"))
    os.rename(target, backup)
    with temp.open("wb") as file:
        file.write(b"edited\n")
        os.fsync(file.fileno())
    os.rename(temp, target)
    os.unlink(backup)
    assert target.read_bytes() == b"edited\n"
    assert sorted(os.listdir(tenant.path)) == ["deep", "hello.txt"]
    tenant.flush()
    assert tenant.emulator.download(bucket, "tenant-a/hello.txt") == b"edited\n"
    assert names(tenant.emulator, bucket) == {
        "tenant-a/hello.txt",
        "tenant-a/deep/er/file.bin",
        "tenant-b/secret.txt",
    }


def test_sed_in_place_tar_and_find(tenant: Mount, tmp_path: Path) -> None:
    subprocess.run(["sed", "-i", "s/hello/goodbye/", tenant.path / "hello.txt"], check=True)
    assert (tenant.path / "hello.txt").read_text() == "goodbye\n"
    archive = tmp_path / "all.tar"
    subprocess.run(["tar", "cf", archive, "-C", tenant.path, "."], check=True)
    (tenant.path / "copy").mkdir()
    subprocess.run(["tar", "xpf", archive, "-C", tenant.path / "copy"], check=True)
    tenant.remount(empty_cache=True)
    subprocess.run(["diff", "-r", tenant.path / "deep", tenant.path / "copy/deep"], check=True)
    count = subprocess.run(
        ["find", tenant.path / "copy", "-type", "f"], check=True, capture_output=True, text=True
    ).stdout.count("\n")
    assert count == 2


def test_renaming_a_directory_moves_all_under_it(tenant: Mount, bucket: str) -> None:
    (tenant.path / "deep/new").write_bytes(b"n")
    os.rename(tenant.path / "deep", tenant.path / "moved")
    assert sorted(os.listdir(tenant.path)) == ["hello.txt", "moved"]
    assert (tenant.path / "moved/er/file.bin").read_bytes() == bytes(range(256)) * 1000
    assert (tenant.path / "moved/new").read_bytes() == b"n"
    tenant.remount(empty_cache=True)
    assert sorted(os.listdir(tenant.path)) == ["hello.txt", "moved"]
    assert (tenant.path / "moved/er/file.bin").read_bytes() == bytes(range(256)) * 1000
    assert (tenant.path / "moved/new").read_bytes() == b"n"


def test_a_large_file_arrives_whole(tenant: Mount, bucket: str, tmp_path: Path) -> None:
    source = tmp_path / "large"
    digest = hashlib.sha1()
    with source.open("wb") as file:
        for _ in range(30):
            chunk = os.urandom(1 << 20)
            digest.update(chunk)
            file.write(chunk)
    subprocess.run(["cp", source, tenant.path / "large"], check=True)
    tenant.remount(empty_cache=True)
    held = hashlib.sha1(tenant.emulator.download(bucket, "tenant-a/large")).hexdigest()
    seen = hashlib.sha1((tenant.path / "large").read_bytes()).hexdigest()
    assert held == seen == digest.hexdigest()


def test_nothing_outside_the_prefix_is_asked_for_or_changed(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    emulator.upload(bucket, "tenant-a/x", b"x")
    emulator.upload(bucket, "tenant-b/secret.txt", b"not yours")
    before = emulator.last_seq()
    key = emulator.create_key(
        ["listBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles"], [bucket], "tenant-a/"
    )
    with Mount(emulator, tmp_path, key) as mount:
        subprocess.run(["ls", "-lR", mount.path], check=True, capture_output=True)
        (mount.path / "y").write_bytes(b"y")
        os.rename(mount.path / "y", mount.path / "z")
        with pytest.raises(FileNotFoundError):
            os.stat(mount.path / "../tenant-b" / "nothing")
        mount.flush()
    for entry in emulator.log(before):
        if entry["key_id"] == key[0]:
            asked = entry["name"] or entry["prefix"]
            assert not asked or asked.startswith("tenant-a/"), entry
            assert entry["status"] < 400, entry
    assert emulator.download(bucket, "tenant-b/secret.txt") == b"not yours"
