"""docs/semantics.md, "Directories" and "Changing names": mkdir, rmdir, readdir, rename, link, unlink."""

import ctypes
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import mounted
from tests.support.semantics import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    Here,
    libc,
    own_directory,
    refused,
    renameat2,
    shared_mount,
)

pytestmark = pytest.mark.fuse


@pytest.fixture(scope="module")
def shared(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    with shared_mount(emulator, tmp_path_factory.mktemp("directories")) as here:
        yield here


@pytest.fixture
def here(shared: Here, request: pytest.FixtureRequest) -> Here:
    return own_directory(shared, request)


def touch(path: Path, data: bytes = b"") -> Path:
    path.write_bytes(data)
    return path


# --- directories ------------------------------------------------------------------------------------------


def test_mkdir_writes_a_placeholder_and_rmdir_hides_it(here: Here) -> None:
    (here.path / "dir").mkdir()
    assert here.names() == {".bzEmpty", "dir/.bzEmpty"}
    with refused(errno.EEXIST):
        os.mkdir(here.path / "dir")
    os.rmdir(here.path / "dir")
    assert here.names() == {".bzEmpty"}
    with refused(errno.ENOENT):
        os.rmdir(here.path / "dir")


def test_a_directory_exists_where_names_lie_under_it(here: Here) -> None:
    here.seed({"name": "implied/deep/file", "content": "x"})
    assert os.listdir(here.path) == ["implied"]
    assert (here.path / "implied/deep").is_dir()
    assert (here.path / "implied/deep/file").read_bytes() == b"x"


def test_a_directory_stays_when_its_last_file_is_removed(here: Here) -> None:
    here.seed({"name": "implied/file", "content": "x"})
    os.unlink(here.path / "implied/file")
    assert os.listdir(here.path / "implied") == []
    assert here.names() == {".bzEmpty", "implied/.bzEmpty"}


def test_a_directory_stays_when_its_last_file_is_moved_away(here: Here) -> None:
    here.seed({"name": "implied/file", "content": "x"})
    os.rename(here.path / "implied/file", here.path / "file")
    assert os.listdir(here.path / "implied") == []
    assert here.names() == {".bzEmpty", "implied/.bzEmpty", "file"}


def test_rmdir_of_a_directory_that_is_not_empty_is_refused(here: Here) -> None:
    here.seed({"name": "dir/file", "content": "x"})
    (here.path / "local").mkdir()
    touch(here.path / "local/file")
    for name in ("dir", "local"):
        with refused(errno.ENOTEMPTY):
            os.rmdir(here.path / name)
    with refused(errno.ENOTDIR):
        os.rmdir(here.path / "dir/file")
    assert (here.path / "dir/file").exists()


def test_unlink_of_a_directory_and_of_nothing_is_refused(here: Here) -> None:
    (here.path / "dir").mkdir()
    with refused(errno.EISDIR):
        os.unlink(here.path / "dir")
    with refused(errno.ENOENT):
        os.unlink(here.path / "nothing")


def test_a_removed_directory_that_is_open_is_empty_and_takes_no_names(here: Here) -> None:
    (here.path / "dir").mkdir()
    fd = os.open(here.path / "dir", os.O_RDONLY)
    os.rmdir(here.path / "dir")
    assert os.listdir(fd) == []
    assert os.fstat(fd).st_nlink == 0
    with refused(errno.ENOENT):
        os.open("name", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.close(fd)


def test_large_directories_are_listed_whole(here: Here) -> None:
    here.seed(*({"name": f"{number:05}", "size": 0} for number in range(3500)))
    assert sorted(os.listdir(here.path)) == [f"{number:05}" for number in range(3500)]
    assert (here.path / "03499").stat().st_size == 0


def test_a_large_directory_can_be_removed_while_it_is_read(here: Here) -> None:
    here.seed(*({"name": f"big/{number:05}", "size": 1} for number in range(1200)))
    with os.scandir(here.path / "big") as entries:
        for entry in entries:
            os.unlink(entry.path)
    assert os.listdir(here.path / "big") == []
    os.rmdir(here.path / "big")
    assert here.names() == {".bzEmpty"}


def test_entries_that_stay_are_shown_once_while_others_come_and_go(here: Here) -> None:
    here.seed(*({"name": f"stay{number:04}", "size": 0} for number in range(1500)))
    seen: list[str] = []
    with os.scandir(here.path) as entries:
        for count, entry in enumerate(entries):
            seen.append(entry.name)
            if count % 100 == 0:
                touch(here.path / f"new{count}")
                if count >= 200:
                    os.unlink(here.path / f"new{count - 200}")
    stayed = [name for name in seen if name.startswith("stay")]
    assert sorted(stayed) == [f"stay{number:04}" for number in range(1500)]


class _Dirent(ctypes.Structure):
    _fields_ = (
        ("ino", ctypes.c_ulong),
        ("offset", ctypes.c_long),
        ("length", ctypes.c_ushort),
        ("kind", ctypes.c_ubyte),
        ("name", ctypes.c_char * 256),
    )


libc.opendir.restype = ctypes.c_void_p
libc.readdir.restype = ctypes.POINTER(_Dirent)
libc.telldir.restype = ctypes.c_long
libc.telldir.argtypes = libc.readdir.argtypes = libc.rewinddir.argtypes = [ctypes.c_void_p]
libc.closedir.argtypes = [ctypes.c_void_p]
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]


def rest_of(stream: int) -> Iterator[tuple[int, bytes]]:
    """Read a directory stream to its end: entries, each with the place before it."""
    while True:
        place = libc.telldir(stream)
        entry = libc.readdir(stream)
        if not entry:
            return
        yield place, entry.contents.name


def test_seekdir_goes_back_to_the_same_entry(here: Here) -> None:
    here.seed(*({"name": f"{number:05}", "size": 0} for number in range(1200)))
    stream = libc.opendir(os.fsencode(here.path))
    places = list(rest_of(stream))
    assert len(places) == 1202
    for place, name in (places[1000], places[3], places[700], places[1199]):
        libc.seekdir(stream, place)
        assert libc.readdir(stream).contents.name == name
    touch(here.path / "added")
    libc.rewinddir(stream)
    again = {name for _, name in rest_of(stream)}
    libc.closedir(stream)
    assert again == {name for _, name in places} | {b"added"}


def test_statfs_says_that_there_is_room(here: Here) -> None:
    told = os.statvfs(here.path)
    assert told.f_bavail * told.f_frsize > 1 << 40
    assert told.f_favail > 1 << 20
    subprocess.run(["df", here.path], check=True, capture_output=True)


# --- names ------------------------------------------------------------------------------------------------


def test_a_name_found_missing_shows_at_once_when_it_is_made_here(here: Here) -> None:
    for make in (touch, os.mkdir, os.mkfifo):
        path = here.path / make.__name__
        assert not path.exists()
        make(path)
        assert path.exists()
    assert not (here.path / "moved").exists()
    os.rename(here.path / "touch", here.path / "moved")
    assert (here.path / "moved").exists()
    assert not (here.path / "touch").exists()


def test_hard_links_are_refused_with_eperm(here: Here) -> None:
    file = touch(here.path / "file")
    with refused(errno.EPERM):
        os.link(file, here.path / "link")


def test_symbolic_links_keep_their_target_and_loops_end(here: Here) -> None:
    for target in ("file", "/etc/hostname", "../up", "x" * 2000, b"latin-\xe9", "ü" * 300):
        link = here.path / "link"
        os.symlink(target, link)
        assert os.readlink(os.fsencode(link)) == os.fsencode(target)
        assert os.lstat(link).st_size == len(os.fsencode(target))
        os.unlink(link)
    os.symlink("b", here.path / "a")
    os.symlink("a", here.path / "b")
    with refused(errno.ELOOP):
        os.open(here.path / "a", os.O_RDONLY)
    with refused(errno.EINVAL):
        os.readlink(touch(here.path / "file"))
    with refused(errno.EEXIST):
        os.symlink("x", here.path / "file")
    here.flush()


def test_a_symbolic_link_longer_than_b2_can_hold_is_refused_with_enospc(here: Here) -> None:
    with refused(errno.ENOSPC):
        os.symlink("ü" * 2000, here.path / "link")
    assert os.listdir(here.path) == []


# --- rename -----------------------------------------------------------------------------------------------


def test_rename_replaces_a_file_and_an_empty_directory(here: Here) -> None:
    touch(here.path / "old", b"old")
    touch(here.path / "new", b"new")
    os.rename(here.path / "new", here.path / "old")
    assert here.stored("old") == b"new"
    (here.path / "dir").mkdir()
    touch(here.path / "dir/file", b"f")
    (here.path / "empty").mkdir()
    os.rename(here.path / "dir", here.path / "empty")
    assert sorted(os.listdir(here.path)) == ["empty", "old"]
    assert here.stored("empty/file") == b"f"
    assert here.names() == {".bzEmpty", "old", "empty/.bzEmpty", "empty/file"}


def test_renames_that_make_no_sense_are_refused_as_posix_says(here: Here) -> None:
    file, directory = touch(here.path / "file", b"f"), here.path / "dir"
    directory.mkdir()
    (here.path / "full").mkdir()
    touch(here.path / "full/inside")
    with refused(errno.EISDIR):
        os.rename(file, directory)
    with refused(errno.ENOTDIR):
        os.rename(directory, file)
    with refused(errno.ENOTEMPTY):
        os.rename(directory, here.path / "full")
    with refused(errno.EINVAL):
        os.rename(directory, directory / "sub")
    with refused(errno.ENOENT):
        os.rename(here.path / "nothing", file)
    with refused(errno.ENOENT):
        os.rename(file, here.path / "nothing/file")
    with refused(errno.ENOTDIR):
        os.rename(file, file / "below")
    os.rename(file, file)
    os.rename(directory, directory)
    assert sorted(os.listdir(here.path)) == ["dir", "file", "full"]


def test_rename_noreplace_keeps_what_is_there(here: Here) -> None:
    old, new = touch(here.path / "old", b"old"), touch(here.path / "new", b"new")
    with refused(errno.EEXIST):
        renameat2(new, old, RENAME_NOREPLACE)
    here.seed({"name": "stored", "content": "stored"})
    with refused(errno.EEXIST):
        renameat2(new, here.path / "stored", RENAME_NOREPLACE)
    renameat2(new, here.path / "free", RENAME_NOREPLACE)
    assert sorted(os.listdir(here.path)) == ["free", "old", "stored"]
    with refused(errno.EINVAL):
        renameat2(old, here.path / "free", RENAME_EXCHANGE)


def test_a_stored_file_is_renamed_inside_b2(here: Here) -> None:
    here.seed({"name": "big", "size": 20_000_000})
    since = here.emulator.last_seq()
    os.rename(here.path / "big", here.path / "moved")
    assert (here.path / "moved").stat().st_size == 20_000_000
    here.flush()
    assert here.calls_about("big", since) + here.calls_about("moved", since) == [
        "b2_hide_file",
        "b2_copy_file",
    ]
    assert here.names() == {".bzEmpty", "moved"}


def test_a_directory_is_renamed_with_all_under_it(here: Here) -> None:
    here.seed(
        {"name": "dir/.bzEmpty", "size": 0},
        {"name": "dir/a", "content": "a"},
        {"name": "dir/sub/b", "content": "b"},
        {"name": "dir/s3/", "size": 0},
        {"name": "dir/both/", "size": 0},
        {"name": "dir/both/.bzEmpty", "size": 0},
    )
    touch(here.path / "dir/new", b"n")
    with open(here.path / "dir/open", "wb") as file:
        file.write(b"before ")
        file.flush()
        os.rename(here.path / "dir", here.path / "moved")
        file.write(b"after")
    assert sorted(os.listdir(here.path / "moved")) == ["a", "both", "new", "open", "s3", "sub"]
    assert (here.path / "moved/sub/b").read_bytes() == b"b"
    assert os.listdir(here.path / "moved/s3") == []
    assert here.stored("moved/open") == b"before after"
    assert not (here.path / "dir").exists()
    assert here.names() == {
        ".bzEmpty",
        *(f"moved/{name}" for name in (".bzEmpty", "a", "sub/b", "new", "open", "s3/.bzEmpty")),
        "moved/both/.bzEmpty",
    }
    here.refresh()
    assert sorted(os.listdir(here.path / "moved")) == ["a", "both", "new", "open", "s3", "sub"]


def test_the_progress_of_a_renamed_directory_is_told(emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    for number in range(3):
        emulator.upload(bucket, f"old/{number}", b"12345")
    with mounted(emulator, tmp_path, bucket, options=["--settle", "0"]) as mount:
        emulator.fault(call="b2_copy_file", kind="status", status=503, times=-1)
        os.rename(mount.path / "old", mount.path / "new")
        (rename,) = mount.status()["pending"]["renames"]
        assert (rename["from"], rename["to"]) == ("old/", "new/")
        assert (rename["files"], rename["files_done"]) == (3, 0)
        assert (rename["bytes"], rename["bytes_done"]) == (15, 0)
        waited = mount.ask("flush", "--timeout", "2s")
        words = "old/ to new/: 0 of 3 files, 0 B of 15 B done"
        assert waited.returncode == 4 and f"renaming {words}" in waited.stderr
        table = mount.ask("status").stdout
        assert "renaming" in table and words in table
        emulator.clear_faults()
        mount.flush()
        assert mount.status()["pending"]["renames"] == []
    assert {row["fileName"] for row in emulator.list_names(bucket)} == {"new/0", "new/1", "new/2"}


def test_a_renamed_directory_without_a_placeholder_costs_no_call_for_one(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    emulator.upload(bucket, "old/file", b"content")
    emulator.upload(bucket, "old/sub/file", b"content")
    with mounted(emulator, tmp_path, bucket, options=["--settle", "0"]) as mount:
        os.listdir(mount.path)
        emulator.reset_counters()
        os.rename(mount.path / "old", mount.path / "new")
        mount.flush()
        counters = emulator.counters()
        assert counters["calls"]["b2_hide_file"] == 2
        assert not counters.get("errors")


def test_a_directory_that_was_renamed_can_be_made_anew(here: Here) -> None:
    here.seed({"name": "log/1", "content": "old"})
    os.rename(here.path / "log", here.path / "log.1")
    (here.path / "log").mkdir()
    assert os.listdir(here.path / "log") == []
    touch(here.path / "log/2", b"new")
    assert here.names() == {".bzEmpty", "log/.bzEmpty", "log/2", "log.1/1"}
    here.refresh()
    assert os.listdir(here.path / "log") == ["2"]
    assert os.listdir(here.path / "log.1") == ["1"]


def test_a_tree_can_be_copied_moved_and_removed(here: Here, tmp_path: Path) -> None:
    for number in range(60):
        directory = tmp_path / f"tree/{number % 5}/{number % 3}"
        directory.mkdir(parents=True, exist_ok=True)
        touch(directory / f"file{number}", os.urandom(100))
    subprocess.run(["cp", "-a", tmp_path / "tree", here.path / "tree"], check=True)
    subprocess.run(["mv", here.path / "tree", here.path / "moved"], check=True)
    subprocess.run(["diff", "-r", tmp_path / "tree", here.path / "moved"], check=True)
    here.flush()
    here.refresh()
    subprocess.run(["diff", "-r", tmp_path / "tree", here.path / "moved"], check=True)
    subprocess.run(["rm", "-r", here.path / "moved"], check=True)
    assert os.listdir(here.path) == []
    assert here.names() == {".bzEmpty"}
