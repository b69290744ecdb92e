"""docs/semantics.md, "What a key may do": every kind of key, each refusal, none of them B2's."""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount
from tests.support.semantics import LOOKS, calls_of, fresh_bucket, refusals_of, refused, requests_of

pytestmark = pytest.mark.fuse


@pytest.fixture
def stored(emulator: Emulator) -> Iterator[str]:
    """A bucket that holds a file, a directory with a file, and an empty directory."""
    with fresh_bucket(emulator) as bucket:
        emulator.upload(bucket, "file", b"content")
        emulator.upload(bucket, "dir/inside", b"inside")
        emulator.upload(bucket, "empty/.bzEmpty", b"")
        yield bucket


@contextlib.contextmanager
def mount_by(
    emulator: Emulator, base: Path, bucket: str, capabilities: Sequence[str], options: Sequence[str] = ()
) -> Iterator[Mount]:
    """Mount by a key with these rights; at the end, demand that B2 had to refuse nothing."""
    key = emulator.create_key(capabilities, [bucket])
    since = emulator.last_seq()
    with Mount(emulator, base, key, options=options) as mount:
        yield mount
    assert refusals_of(emulator, key, since) == []


def changes(path: Path) -> dict[str, Callable[[], object]]:
    """Return every kind of change, on names that exist and on new ones."""
    return {
        "create": lambda: os.open(path / "new", os.O_CREAT | os.O_WRONLY),
        "write": lambda: os.open(path / "file", os.O_WRONLY),
        "read and write": lambda: os.open(path / "file", os.O_RDWR),
        "append": lambda: os.open(path / "file", os.O_WRONLY | os.O_APPEND),
        "replace": lambda: os.open(path / "file", os.O_WRONLY | os.O_TRUNC),
        "truncate": lambda: os.truncate(path / "file", 1),
        "unlink": lambda: os.unlink(path / "file"),
        "mkdir": lambda: os.mkdir(path / "new"),
        "rmdir": lambda: os.rmdir(path / "empty"),
        "rename": lambda: os.rename(path / "file", path / "new"),
        "rename over": lambda: os.rename(path / "file", path / "dir/inside"),
        "rename directory": lambda: os.rename(path / "dir", path / "new"),
        "symlink": lambda: os.symlink("x", path / "new"),
        "link": lambda: os.link(path / "file", path / "new"),
        "mknod": lambda: os.mkfifo(path / "new"),
        "chmod": lambda: os.chmod(path / "file", 0o600),
        "chown": lambda: os.chown(path / "file", 1, 1),
        "utime": lambda: os.utime(path / "file", (1, 1)),
        "chmod directory": lambda: os.chmod(path / "dir", 0o700),
        "setxattr": lambda: os.setxattr(path / "file", "user.x", b"x"),
    }


def mode(path: Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


# --- read-only --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["key", "option"])
def test_a_read_only_mount_refuses_every_change_with_erofs_and_sends_nothing(
    emulator: Emulator, stored: str, tmp_path: Path, by: str
) -> None:
    rights = ["listFiles", "readFiles"] if by == "key" else ALL
    options = [] if by == "key" else ["--read-only"]
    with mount_by(emulator, tmp_path, stored, rights, options) as mount:
        assert os.statvfs(mount.path).f_flag & os.ST_RDONLY
        assert (mount.path / "file").read_bytes() == b"content"
        assert sorted(os.listdir(mount.path)) == ["dir", "empty", "file"]
        assert os.listdir(mount.path / "empty") == []
        since = emulator.last_seq()
        for what, change in changes(mount.path).items():
            with pytest.raises(OSError) as failure:
                change()
            assert failure.value.errno == errno.EROFS, what
        assert set(calls_of(emulator, mount.key, since)) <= LOOKS
        assert (mode(mount.path / "file"), mode(mount.path / "dir")) == (0o444, 0o555)
        assert not os.access(mount.path / "file", os.W_OK)
        assert os.access(mount.path / "file", os.R_OK)


@pytest.mark.parametrize("by", ["key", "option"])
def test_a_read_only_mount_keeps_what_an_earlier_one_left_unsent(
    emulator: Emulator, stored: str, tmp_path: Path, by: str
) -> None:
    key = emulator.create_key(ALL, [stored])
    mount = Mount(emulator, tmp_path, key, options=["--settle", "600"]).start()
    (mount.path / "new").write_bytes(b"new")
    os.unlink(mount.path / "file")
    mount.kill()
    mount.key = emulator.create_key(["listFiles", "readFiles"], [stored]) if by == "key" else key
    mount.options = [] if by == "key" else ["--read-only"]
    since = emulator.last_seq()
    mount.start()
    assert sorted(os.listdir(mount.path)) == ["dir", "empty", "new"]
    assert (mount.path / "new").read_bytes() == b"new"
    assert mount.status()["pending"]["files"] == 2
    assert mount.stop() == 4
    assert "2 changes not in B2" in mount.log()
    assert set(calls_of(emulator, mount.key, since)) <= {"b2_list_file_names"}
    mount.key, mount.options = key, []
    with mount:
        mount.flush()
    assert emulator.download(stored, "new") == b"new"
    assert "file" not in {row["fileName"] for row in emulator.list_names(stored)}


def test_a_key_that_only_lists_shows_names_and_sizes_and_opens_nothing(
    emulator: Emulator, stored: str, tmp_path: Path
) -> None:
    with mount_by(emulator, tmp_path, stored, ["listFiles"]) as mount:
        assert sorted(os.listdir(mount.path)) == ["dir", "empty", "file"]
        assert os.stat(mount.path / "file").st_size == 7
        since = emulator.last_seq()
        for _ in range(2):
            with refused(errno.EACCES):
                os.open(mount.path / "file", os.O_RDONLY)
        with refused(errno.EROFS):
            os.open(mount.path / "new", os.O_CREAT | os.O_WRONLY)
        assert calls_of(emulator, mount.key, since) == []
        assert mode(mount.path / "file") == 0
        assert not os.access(mount.path / "file", os.R_OK)


def test_a_key_that_only_reads_opens_known_names_and_lists_nothing(
    emulator: Emulator, stored: str, tmp_path: Path
) -> None:
    with mount_by(emulator, tmp_path, stored, ["readFiles"]) as mount:
        assert (mount.path / "file").read_bytes() == b"content"
        assert (mount.path / "dir/inside").read_bytes() == b"inside"
        assert os.stat(mount.path / "file").st_size == 7
        for directory in (mount.path, mount.path / "dir"):
            with refused(errno.EACCES):
                os.listdir(directory)
        with refused(errno.EROFS):
            os.unlink(mount.path / "file")
        since = emulator.last_seq()
        with refused(errno.ENAMETOOLONG):
            os.stat(mount.path / ("d" * 240) / ("e" * 240) / ("f" * 240) / ("g" * 240) / ("h" * 255))
        looks = [entry["name"] for entry in requests_of(emulator, mount.key, since)]
        assert len(looks) == 2 * 4  # of no name that is longer than B2's


# --- keys that may write but not all ----------------------------------------------------------------------


def test_without_readfiles_files_can_be_made_and_replaced_but_not_read_or_changed(
    emulator: Emulator, stored: str, tmp_path: Path
) -> None:
    with mount_by(emulator, tmp_path, stored, ["listFiles", "writeFiles", "deleteFiles"]) as mount:
        path = mount.path
        assert sorted(os.listdir(path)) == ["dir", "empty", "file"]
        assert mode(path / "file") & 0o444 == 0
        since = emulator.last_seq()
        for what in (os.O_RDONLY, os.O_RDWR):
            with refused(errno.EACCES):
                os.open(path / "file", what)
        for name, change in changes(path).items():
            if name in ("append", "write", "truncate", "rename", "chmod", "chown", "utime", "setxattr"):
                with pytest.raises(OSError) as failure:
                    change()
                assert failure.value.errno == errno.EPERM, name
        with refused(errno.EPERM):
            os.rename(path / "dir", path / "new")
        assert [call for call in calls_of(emulator, mount.key, since) if "list" not in call] == []
        (path / "new").write_bytes(b"dropped")
        os.chmod(path / "new", 0o600)  # joins the upload
        os.rename(path / "new", path / "final")
        with open(path / "file", "wb") as file:
            file.write(b"replaced")
        (path / "made").mkdir()
        os.rmdir(path / "empty")
        os.unlink(path / "dir/inside")
        mount.flush()
        with refused(errno.EACCES):
            os.open(path / "final", os.O_RDONLY)
    assert emulator.download(stored, "final") == b"dropped"
    assert emulator.download(stored, "file") == b"replaced"
    names = {row["fileName"] for row in emulator.list_names(stored)}
    assert names == {"final", "file", "made/.bzEmpty", "dir/.bzEmpty"}


def test_without_listfiles_known_names_work_and_listing_is_refused(
    emulator: Emulator, stored: str, tmp_path: Path
) -> None:
    with mount_by(emulator, tmp_path, stored, ["readFiles", "writeFiles"]) as mount:
        path = mount.path
        since = emulator.last_seq()
        with refused(errno.EACCES):
            os.listdir(path)
        assert calls_of(emulator, mount.key, since) == []
        assert (path / "file").read_bytes() == b"content"
        with refused(errno.ENOENT):
            os.stat(path / "nothing")
        with open(path / "file", "ab") as file:
            file.write(b" and more")
        (path / "new").write_bytes(b"new")
        os.rename(path / "new", path / "moved")
        (path / "made").mkdir()
        (path / "made/inside").write_bytes(b"i")
        with refused(errno.EPERM):
            os.rmdir(path / "made")  # whether it is empty cannot be known
        with refused(errno.EPERM):
            os.rename(path / "made", path / "other")
        mount.flush()
        assert (path / "moved").read_bytes() == b"new"
        os.unlink(path / "moved")
        mount.flush()
        with refused(errno.ENOENT):
            os.stat(path / "moved")
    assert emulator.download(stored, "file") == b"content and more"
    assert emulator.download(stored, "made/inside") == b"i"


def test_a_drop_box_takes_files_and_gives_nothing_back(
    emulator: Emulator, stored: str, tmp_path: Path
) -> None:
    with mount_by(emulator, tmp_path, stored, ["writeFiles"]) as mount:
        path = mount.path
        with refused(errno.EACCES):
            os.listdir(path)
        with open(path / "note.tmp", "w+b") as file:
            file.write(b"dropped")
            file.flush()
            assert os.pread(file.fileno(), 7, 0) == b"dropped"  # while it is open
        os.rename(path / "note.tmp", path / "note")
        (path / "in").mkdir()
        (path / "in/side").write_bytes(b"x")
        mount.flush()
        assert os.stat(path / "note").st_size == 7  # remembered
        with refused(errno.EACCES):
            os.open(path / "note", os.O_RDONLY)
        with refused(errno.EPERM):
            os.rename(path / "note", path / "elsewhere")
        (path / "note").write_bytes(b"dropped again")
        os.unlink(path / "in/side")
        mount.flush()
    assert emulator.download(stored, "note") == b"dropped again"
    assert emulator.download(stored, "file") == b"content"
    assert "in/side" not in {row["fileName"] for row in emulator.list_names(stored)}


def test_without_deletefiles_unlink_hides_and_every_version_stays(
    emulator: Emulator, stored: str, tmp_path: Path
) -> None:
    with mount_by(emulator, tmp_path, stored, ["listFiles", "readFiles", "writeFiles"]) as mount:
        (mount.path / "file").write_bytes(b"second")
        mount.flush()
        os.unlink(mount.path / "file")
        mount.flush()
        assert not (mount.path / "file").exists()
    versions = [(row["action"], row["contentLength"]) for row in emulator.list_versions(stored, "file")]
    assert versions == [("hide", 0), ("upload", 6), ("upload", 7)]


def test_hard_delete_leaves_no_version(emulator: Emulator, stored: str, tmp_path: Path) -> None:
    with mount_by(emulator, tmp_path, stored, ALL, ["--hard-delete"]) as mount:
        (mount.path / "file").write_bytes(b"second")
        mount.flush()
        os.unlink(mount.path / "file")
        mount.flush()
    assert emulator.list_versions(stored, "file") == []


def test_hard_delete_without_deletefiles_is_refused_with_eperm(
    emulator: Emulator, stored: str, tmp_path: Path
) -> None:
    rights = ["listFiles", "readFiles", "writeFiles"]
    with mount_by(emulator, tmp_path, stored, rights, ["--hard-delete"]) as mount:
        since = emulator.last_seq()
        with refused(errno.EPERM):
            os.unlink(mount.path / "file")
        assert [call for call in calls_of(emulator, mount.key, since) if "list" not in call] == []
        assert (mount.path / "file").read_bytes() == b"content"
