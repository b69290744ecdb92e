"""docs/semantics.md, "Attributes": what is kept of them, and where B2 has it."""

import errno
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import mounted
from tests.support.semantics import (
    UTIME_NOW,
    UTIME_OMIT,
    Here,
    fresh_bucket,
    own_directory,
    refused,
    shared_mount,
    utimensat,
)

pytestmark = pytest.mark.fuse

IS_ROOT = os.geteuid() == 0

S = 1_000_000_000  # nanoseconds


@pytest.fixture(scope="module")
def shared(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    with shared_mount(emulator, tmp_path_factory.mktemp("attributes")) as here:
        yield here


@pytest.fixture
def here(shared: Here, request: pytest.FixtureRequest) -> Here:
    return own_directory(shared, request)


def touch(path: Path, data: bytes = b"x") -> Path:
    path.write_bytes(data)
    return path


def read_again(here: Here) -> None:
    """Have everything in B2 and believe nothing that is remembered here."""
    here.flush()
    here.refresh()


# --- times ------------------------------------------------------------------------------------------------


def test_times_are_kept_to_the_nanosecond(here: Here) -> None:
    for number, moment in enumerate((0, 1, 1_234_567_890_123_456_789, 4_000_000_000 * S + 999, -5 * S + 7)):
        path = touch(here.path / f"file{number}")
        utimensat(path, (0, UTIME_OMIT), divmod(moment, S))
        assert os.stat(path).st_mtime_ns == moment
        read_again(here)
        assert os.stat(path).st_mtime_ns == moment


def test_utime_now_and_omit_do_as_posix_says(here: Here) -> None:
    path = touch(here.path / "file")
    utimensat(path, (1000, 1), (2000, 2))
    before = time.time_ns()
    utimensat(path, (0, UTIME_OMIT), (0, UTIME_NOW))
    told = os.stat(path)
    assert told.st_atime_ns == 1000 * S + 1
    assert abs(told.st_mtime_ns - before) < 60 * S
    utimensat(path, (5, 5), (0, UTIME_OMIT))
    assert os.stat(path).st_mtime_ns == told.st_mtime_ns
    utimensat(path, (0, UTIME_OMIT), (0, UTIME_OMIT))
    assert (os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns) == (5 * S + 5, told.st_mtime_ns)


def test_the_modification_time_is_where_b2_and_rclone_keep_it(here: Here) -> None:
    path = touch(here.path / "ours")
    os.utime(path, ns=(0, 1_500_000_000_123_456_789))
    assert here.row("ours")["fileInfo"]["src_last_modified_millis"] == "1500000000123"
    here.upload("theirs", b"x", info={"src_last_modified_millis": "1400000000456"})
    here.upload("none", b"x")
    here.upload("nonsense", b"x", info={"src_last_modified_millis": "yesterday"})
    here.refresh()
    assert os.stat(here.path / "theirs").st_mtime_ns == 1_400_000_000_456_000_000
    for name in ("none", "nonsense"):
        assert os.stat(here.path / name).st_mtime_ns == here.row(name)["uploadTimestamp"] * 1_000_000


def test_a_write_and_a_truncation_set_the_modification_time(here: Here) -> None:
    path = touch(here.path / "file")
    for change in (lambda: touch(path, b"yy"), lambda: os.truncate(path, 1), lambda: os.truncate(path, 1)):
        os.utime(path, (1, 1))
        read_again(here)
        change()
        assert abs(os.stat(path).st_mtime - time.time()) < 60
    read_again(here)
    assert abs(os.stat(path).st_mtime - time.time()) < 60


def changed_and_number(path: Path) -> tuple[int, int]:
    told = os.lstat(path)
    return told.st_ctime_ns, told.st_ino


def test_change_times_and_inode_numbers_stay_until_something_changes(
    emulator: Emulator, tmp_path: Path
) -> None:
    with fresh_bucket(emulator) as bucket, mounted(emulator, tmp_path, bucket) as mount:
        (mount.path / "dir" / "below").mkdir(parents=True)
        names = ("written", "dated", "link", "open", "below/deep", "below")
        written, dated, link, opened, deep, below = paths = [mount.path / "dir" / name for name in names]
        for path in written, dated, deep:
            touch(path)
        os.utime(dated, ns=(0, 1_000_000_000 * S))
        link.symlink_to("written")
        with opened.open("wb") as file:
            file.write(b"x")
            file.flush()
            of_handle = os.fstat(file.fileno())
        first = {path: changed_and_number(path) for path in paths}
        assert first[opened] == (of_handle.st_ctime_ns, of_handle.st_ino)
        assert len({number for _, number in first.values()}) == len(paths)
        assert abs(first[dated][0] / S - time.time()) < 60, "that of the change, not the time that was set"
        files = [path for path in paths if path != below]
        for step in mount.flush, lambda: mount.ask("refresh"), lambda: mount.remount(empty_cache=True):
            step()
            assert os.stat(below).st_ino == first[below][1]
            assert {path: changed_and_number(path) for path in files} == {path: first[path] for path in files}
        for change in (lambda: written.chmod(0o600), lambda: touch(written, b"y")):
            before = os.stat(written).st_ctime_ns
            change()
            assert os.stat(written).st_ctime_ns > before
        mount.flush()
        before = os.stat(written).st_ctime_ns
        written.rename(written.with_name("moved"))
        for step in mount.flush, lambda: mount.remount(empty_cache=True):
            step()
            assert os.stat(written.with_name("moved")).st_ctime_ns > before


def test_reading_changes_nothing_in_b2(here: Here) -> None:
    path = touch(here.path / "file")
    here.flush()
    row = here.row("file")
    path.read_bytes()
    os.utime(path, ns=(7 * S, os.stat(path).st_mtime_ns))  # the access time alone
    assert os.stat(path).st_atime_ns == 7 * S
    assert here.row("file")["fileId"] == row["fileId"]


def test_making_and_removing_names_sets_the_directorys_modification_time(here: Here) -> None:
    (here.path / "dir").mkdir()
    for change in (lambda: touch(here.path / "dir/file"), lambda: os.unlink(here.path / "dir/file")):
        os.utime(here.path / "dir", (1, 1))
        change()
        assert abs(os.stat(here.path / "dir").st_mtime - time.time()) < 60


# --- modes and owners -------------------------------------------------------------------------------------


def test_modes_and_owners_are_kept(here: Here) -> None:
    file, directory = touch(here.path / "file"), here.path / "dir"
    directory.mkdir(0o750)
    owner, other = ((1234, 5678), (42, 43)) if IS_ROOT else ((os.getuid(), os.getgid()),) * 2
    os.chown(file, *owner)
    os.chmod(file, 0o4711)
    os.chown(directory, *other)
    for _ in range(2):
        told = os.stat(file)
        assert (stat.S_IMODE(told.st_mode), told.st_uid, told.st_gid) == (0o4711, *owner)
        told = os.stat(directory)
        assert (stat.S_IMODE(told.st_mode), told.st_uid, told.st_gid) == (0o750, *other)
        read_again(here)


@pytest.mark.skipif(not IS_ROOT, reason="gives a directory to another group")
def test_what_is_made_in_a_set_group_id_directory_belongs_to_its_group(here: Here) -> None:
    shared = here.path / "shared"
    shared.mkdir()
    os.chown(shared, -1, 5678)
    os.chmod(shared, 0o2775)
    touch(shared / "file")
    os.symlink("file", shared / "link")
    os.mkfifo(shared / "fifo")
    (shared / "dir").mkdir(0o755)
    touch(shared / "dir/inside")
    for _ in range(2):
        for name in ("file", "link", "fifo", "dir", "dir/inside"):
            assert os.lstat(shared / name).st_gid == 5678, name
        assert stat.S_IMODE(os.stat(shared / "dir").st_mode) == 0o2755
        read_again(here)


def test_the_mode_given_to_open_and_mkdir_is_kept(here: Here) -> None:
    before = os.umask(0o027)
    try:
        os.close(os.open(here.path / "file", os.O_CREAT | os.O_WRONLY, 0o777))
        os.mkdir(here.path / "dir", 0o777)
    finally:
        os.umask(before)
    read_again(here)
    assert stat.S_IMODE(os.stat(here.path / "file").st_mode) == 0o750
    assert stat.S_IMODE(os.stat(here.path / "dir").st_mode) == 0o750


def test_chmod_and_utimes_of_a_stored_file_are_one_copy_inside_b2(here: Here) -> None:
    here.seed({"name": "big", "size": 20_000_000, "content_type": "image/png", "info": {"note": "theirs"}})
    since = here.emulator.last_seq()
    os.chmod(here.path / "big", 0o600)
    os.utime(here.path / "big", (1, 1))
    row = here.row("big")
    assert here.calls_about("big", since) == ["b2_copy_file"]
    assert row["contentType"] == "image/png"
    assert row["fileInfo"]["note"] == "theirs"
    read_again(here)
    assert stat.S_IMODE(os.stat(here.path / "big").st_mode) == 0o600


def test_attributes_of_a_file_not_yet_sent_join_its_upload(here: Here) -> None:
    since = here.emulator.last_seq()
    path = touch(here.path / "file")
    os.chmod(path, 0o600)
    os.utime(path, (1, 1))
    os.setxattr(path, "user.k", b"v")
    os.rename(path, here.path / "final")
    here.flush()
    assert here.calls_about("final", since) == ["b2_upload_file"]
    assert here.calls_about("file", since) == []


def test_files_of_others_show_the_mounts_defaults(emulator: Emulator, tmp_path: Path) -> None:
    owner = (1001, 1002) if IS_ROOT else (os.getuid(), os.getgid())  # others could not look at it
    options = ["--uid", str(owner[0]), "--gid", str(owner[1]), "--umask", "0077"]
    with fresh_bucket(emulator) as bucket, mounted(emulator, tmp_path, bucket, options=options) as mount:
        emulator.upload(bucket, "dir/file", b"x")
        told = os.stat(mount.path / "dir/file")
        assert (stat.S_IMODE(told.st_mode), told.st_uid, told.st_gid) == (0o600, *owner)
        told = os.stat(mount.path / "dir")
        assert (stat.S_IMODE(told.st_mode), told.st_uid, told.st_gid) == (0o700, *owner)


# --- kinds ------------------------------------------------------------------------------------------------


def test_special_files_keep_their_kind_and_number(here: Here) -> None:
    kinds = {
        "fifo": (stat.S_IFIFO, 0),
        "socket": (stat.S_IFSOCK, 0),
        "plain": (stat.S_IFREG, 0),
    }
    if IS_ROOT:  # mknod(2): devices take CAP_MKNOD
        kinds["character"] = (stat.S_IFCHR, os.makedev(1, 3))
        kinds["block"] = (stat.S_IFBLK, os.makedev(259, 70000))
    for name, (kind, device) in kinds.items():
        os.mknod(here.path / name, kind | 0o640, device)
    for _ in range(2):
        for name, (kind, device) in kinds.items():
            told = os.lstat(here.path / name)
            assert (stat.S_IFMT(told.st_mode), told.st_rdev) == (kind, device), name
            assert stat.S_IMODE(told.st_mode) == 0o640
        read_again(here)
    with refused(errno.EEXIST):
        os.mkfifo(here.path / "plain")


def test_symbolic_links_are_kept_as_files_that_other_tools_can_read(here: Here) -> None:
    os.symlink("target/of/it", here.path / "link")
    assert here.stored("link") == b"target/of/it"
    read_again(here)
    assert os.readlink(here.path / "link") == "target/of/it"
    assert stat.S_ISLNK(os.lstat(here.path / "link").st_mode)


# --- extended attributes ----------------------------------------------------------------------------------


def test_extended_attributes_are_set_read_listed_and_removed(here: Here) -> None:
    path = touch(here.path / "file")
    os.setxattr(path, "user.text", "ü".encode())
    os.setxattr(path, "user.binary", bytes(range(256)))
    os.setxattr(path, "user.empty", b"")
    for _ in range(2):
        assert set(os.listxattr(path)) == {"user.text", "user.binary", "user.empty"}
        assert os.getxattr(path, "user.binary") == bytes(range(256))
        assert os.getxattr(path, "user.empty") == b""
        read_again(here)
    os.removexattr(path, "user.binary")
    with refused(errno.ENODATA):
        os.getxattr(path, "user.binary")
    with refused(errno.ENODATA):
        os.removexattr(path, "user.binary")
    with refused(errno.EEXIST):
        os.setxattr(path, "user.text", b"x", os.XATTR_CREATE)
    with refused(errno.ENODATA):
        os.setxattr(path, "user.new", b"x", os.XATTR_REPLACE)


def test_directories_have_extended_attributes_too(here: Here) -> None:
    (here.path / "dir").mkdir()
    os.setxattr(here.path / "dir", "user.note", b"kept")
    read_again(here)
    assert os.getxattr(here.path / "dir", "user.note") == b"kept"


def test_extended_attributes_larger_than_b2_can_hold_are_refused_with_enospc(here: Here) -> None:
    path = touch(here.path / "file")
    os.setxattr(path, "user.small", b"x" * 3000)
    with refused(errno.ENOSPC):
        os.setxattr(path, "user.big", b"x" * 8000)
    with refused(errno.E2BIG):
        os.setxattr(path, "user.huge", b"x" * 70_000)
    read_again(here)
    assert os.getxattr(path, "user.small") == b"x" * 3000


def test_attributes_outside_the_user_namespace_are_not_kept(here: Here) -> None:
    path = touch(here.path / "file")
    with refused(errno.EOPNOTSUPP if IS_ROOT else errno.EPERM):  # xattr(7): the kernel keeps others out
        os.setxattr(path, "trusted.x", b"x")
    for name in ("trusted.x", "security.capability", "system.posix_acl_access"):
        with refused(errno.ENODATA if name == "trusted.x" and not IS_ROOT else errno.EOPNOTSUPP):
            os.getxattr(path, name)


def test_what_b2_knows_of_a_file_shows_as_read_only_attributes(here: Here) -> None:
    row = here.upload("file", b"data", info={"author": "somebody"}, content_type="text/x-test")
    here.refresh()
    path = here.path / "file"
    assert os.listxattr(path) == []  # or cp -a would try to set them elsewhere
    expected = {
        "user.b2.file_id": row["fileId"],
        "user.b2.sha1": row["contentSha1"],
        "user.b2.content_type": "text/x-test",
        "user.b2.uploaded": str(row["uploadTimestamp"]),
        "user.b2.info.author": "somebody",
    }
    for name, value in expected.items():
        assert os.getxattr(path, name).decode() == value
        with refused(errno.EPERM):
            os.setxattr(path, name, b"x")


def test_attributes_survive_a_change_of_content_and_a_rename(here: Here) -> None:
    path = touch(here.path / "file")
    os.chmod(path, 0o751)
    os.setxattr(path, "user.note", b"kept")
    read_again(here)
    with open(path, "ab") as file:
        file.write(b"more")
    os.rename(path, here.path / "moved")
    read_again(here)
    assert stat.S_IMODE(os.stat(here.path / "moved").st_mode) == 0o751
    assert os.getxattr(here.path / "moved", "user.note") == b"kept"
    assert (here.path / "moved").read_bytes() == b"xmore"


def test_everything_is_there_after_a_remount_with_nothing_kept_here(
    emulator: Emulator, tmp_path: Path
) -> None:
    with fresh_bucket(emulator) as bucket, mounted(emulator, tmp_path, bucket) as mount:
        (mount.path / "dir/empty").mkdir(parents=True)
        os.chmod(mount.path / "dir/empty", 0o711)
        file = touch(mount.path / "dir/file", b"content")
        os.chmod(file, 0o604)
        os.utime(file, ns=(1, 1_500_000_000_123_456_789))
        os.symlink("file", mount.path / "dir/link")
        os.mkfifo(mount.path / "dir/fifo")
        os.setxattr(file, "user.note", b"kept")
        mount.remount(empty_cache=True)
        assert sorted(os.listdir(mount.path / "dir")) == ["empty", "fifo", "file", "link"]
        assert stat.S_IMODE(os.stat(mount.path / "dir/empty").st_mode) == 0o711
        told = os.stat(file)
        assert (stat.S_IMODE(told.st_mode), told.st_mtime_ns) == (0o604, 1_500_000_000_123_456_789)
        assert os.readlink(mount.path / "dir/link") == "file"
        assert stat.S_ISFIFO(os.lstat(mount.path / "dir/fifo").st_mode)
        assert os.getxattr(file, "user.note") == b"kept"
        assert file.read_bytes() == b"content"


def test_attributes_of_strangers_that_no_program_could_read_are_not_listed(here: Here) -> None:
    names = ("user.good", "security.capability", "trusted.a", "user.b2.sha1", "user." + "n" * 251)
    entry = ";".join(["1", *(f"x{name}=v" for name in names)])
    here.emulator.seed(
        here.bucket, [{"name": here.prefix + "file", "content": "x", "info": {"b2mount": entry}}]
    )
    read_again(here)
    assert os.listxattr(here.path / "file") == ["user.good"]
    assert os.getxattr(here.path / "file", "user.b2.sha1") != b"v"
