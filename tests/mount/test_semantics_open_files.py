"""docs/semantics.md, "Open files": what open, read, write, truncate and mmap do, through the kernel."""

import errno
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.emulator import Emulator, pattern
from tests.support.semantics import Here, own_directory, refused, shared_mount, wait_until

pytestmark = pytest.mark.fuse

MB = 1_000_000


@pytest.fixture(scope="module")
def shared(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    with shared_mount(
        emulator, tmp_path_factory.mktemp("open"), options=["--listing-ttl", "1", "--memory-size", "8M"]
    ) as here:
        yield here


@pytest.fixture
def here(shared: Here, request: pytest.FixtureRequest) -> Here:
    return own_directory(shared, request)


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# --- open -------------------------------------------------------------------------------------------------


def test_o_excl_makes_a_name_only_once(here: Here) -> None:
    fd = os.open(here.path / "one", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.close(fd)
    with refused(errno.EEXIST):
        os.open(here.path / "one", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    here.upload("other", b"x")
    here.refresh()
    with refused(errno.EEXIST):
        os.open(here.path / "other", os.O_CREAT | os.O_EXCL | os.O_WRONLY)


def test_o_trunc_empties_a_stored_file_without_reading_it(here: Here) -> None:
    here.seed({"name": "big", "size": 50 * MB})
    since = here.emulator.last_seq()
    with open(here.path / "big", "wb") as file:
        assert os.fstat(file.fileno()).st_size == 0
        file.write(b"short")
    assert here.stored("big") == b"short"
    downloads = [entry for entry in here.emulator.log(since) if "download" in entry["call"]]
    assert sum(entry["bytes_out"] for entry in downloads if entry["key_id"] == here.mount.key[0]) == 0


def test_o_trunc_empties_a_file_that_is_opened_for_reading_alone_too(here: Here) -> None:
    for name in ("mine", "stored"):
        put(here.path / name, b"content")
    here.flush()
    put(here.path / "mine", b"draft")
    for name in ("mine", "stored"):
        fd = os.open(here.path / name, os.O_RDONLY | os.O_TRUNC)
        assert os.read(fd, 10) == b""
        os.close(fd)
        assert os.stat(here.path / name).st_size == 0
    here.flush()
    assert here.stored("mine") == here.stored("stored") == b""


def test_o_append_writes_at_the_end_wherever_others_moved_it(here: Here) -> None:
    path = put(here.path / "log", b"1")
    first = os.open(path, os.O_WRONLY | os.O_APPEND)
    second = os.open(path, os.O_WRONLY | os.O_APPEND)
    for text in (b"2", b"3", b"4"):
        os.write(first, text)
        os.lseek(second, 0, os.SEEK_SET)
        os.write(second, text)
    os.close(first)
    os.close(second)
    assert path.read_bytes() == b"1223344"
    assert here.stored("log") == b"1223344"


def test_a_file_opened_for_writing_alone_cannot_be_read_and_the_reverse(here: Here) -> None:
    path = put(here.path / "file", b"data")
    fd = os.open(path, os.O_WRONLY)
    with refused(errno.EBADF):
        os.read(fd, 1)
    os.close(fd)
    fd = os.open(path, os.O_RDONLY)
    with refused(errno.EBADF):
        os.write(fd, b"x")
    os.close(fd)


def test_opening_a_directory_for_writing_is_refused(here: Here) -> None:
    with refused(errno.EISDIR):
        os.open(here.path, os.O_WRONLY)


# --- reading and writing ----------------------------------------------------------------------------------


def test_bytes_can_be_written_at_any_offset_and_holes_read_as_zeros(here: Here) -> None:
    fd = os.open(here.path / "holes", os.O_CREAT | os.O_RDWR)
    os.pwrite(fd, b"end", 300_000)
    os.pwrite(fd, b"middle", 100_000)
    expected = bytearray(300_003)
    expected[300_000:], expected[100_000:100_006] = b"end", b"middle"
    assert os.pread(fd, 400_000, 0) == expected
    os.close(fd)
    assert (here.path / "holes").read_bytes() == expected
    assert here.stored("holes") == expected


def test_reading_past_the_end_gives_nothing(here: Here) -> None:
    path = put(here.path / "short", b"12345")
    here.flush()
    with open(path, "rb", buffering=0) as file:
        assert os.pread(file.fileno(), 100, 3) == b"45"
        assert os.pread(file.fileno(), 100, 5) == b""
        assert os.pread(file.fileno(), 100, 1 << 40) == b""


def test_truncating_down_and_up_again_shows_zeros(here: Here) -> None:
    path = put(here.path / "file", b"x" * 10_000)
    here.flush()
    os.truncate(path, 4_000)
    os.truncate(path, 8_000)
    assert path.read_bytes() == b"x" * 4_000 + bytes(4_000)
    with open(path, "r+b") as file:
        file.truncate(2_000)
        assert os.fstat(file.fileno()).st_size == 2_000
        file.truncate(3_000)
        file.seek(0)
        assert file.read() == b"x" * 2_000 + bytes(1_000)
    assert here.stored("file") == b"x" * 2_000 + bytes(1_000)


def test_a_stored_file_is_truncated_without_being_read(here: Here) -> None:
    here.seed({"name": "big", "size": 20 * MB})
    here.emulator.reset_counters()
    os.truncate(here.path / "big", 12 * MB)
    assert here.stored("big") == pattern(here.prefix + "big", 0, 12 * MB)
    counters = here.emulator.counters()
    assert counters["bytes_in"] < 100_000
    assert counters["bytes_out"] < 12 * MB + 200_000  # the test's own download


def test_all_handles_of_a_file_see_each_others_writes(here: Here) -> None:
    path = put(here.path / "shared", b"a" * 100)
    reader = os.open(path, os.O_RDONLY)
    first, second = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    os.pwrite(first, b"first", 0)
    os.pwrite(second, b"second", 50)
    for fd in (reader, first, second):
        assert os.pread(fd, 100, 0) == b"first" + b"a" * 45 + b"second" + b"a" * 44
    os.close(first)
    os.pwrite(second, b"again", 0)
    assert os.pread(reader, 5, 0) == b"again"
    assert os.fstat(reader).st_size == 100
    os.close(second)
    os.close(reader)
    assert here.stored("shared")[:5] == b"again"


def test_an_append_to_a_stored_file_uploads_only_the_new_bytes(here: Here) -> None:
    here.seed({"name": "log", "size": 30 * MB})
    assert os.stat(here.path / "log").st_size == 30 * MB
    here.emulator.reset_counters()
    with open(here.path / "log", "ab") as file:
        file.write(b"one more line\n")
    here.flush()
    counters = here.emulator.counters()
    assert counters["bytes_in"] < 100_000
    assert counters["bytes_out"] < 100_000
    assert counters["calls"]["b2_copy_part"] >= 1
    expected = pattern(here.prefix + "log", 0, 30 * MB) + b"one more line\n"
    assert here.emulator.download(here.bucket, here.prefix + "log") == expected


def test_a_patch_in_the_middle_of_a_large_file_moves_no_more_than_a_part_or_two(here: Here) -> None:
    here.seed({"name": "db", "size": 60 * MB})
    assert os.stat(here.path / "db").st_size == 60 * MB
    here.emulator.reset_counters()
    with open(here.path / "db", "r+b") as file:
        file.seek(31 * MB)
        file.write(b"patch" * 1000)
    here.flush()
    counters = here.emulator.counters()
    assert counters["bytes_in"] < 11 * MB
    assert counters["bytes_out"] < 11 * MB
    expected = bytearray(pattern(here.prefix + "db", 0, 60 * MB))
    expected[31 * MB : 31 * MB + 5000] = b"patch" * 1000
    assert here.emulator.download(here.bucket, here.prefix + "db") == expected
    assert (here.path / "db").read_bytes() == expected


def test_a_sparse_file_arrives_with_its_zeros(here: Here) -> None:
    with open(here.path / "sparse", "wb") as file:
        file.truncate(12 * MB)
        file.seek(7 * MB)
        file.write(b"island")
    expected = bytearray(12 * MB)
    expected[7 * MB : 7 * MB + 6] = b"island"
    assert here.stored("sparse") == expected


def test_one_handle_reads_and_writes_at_one_position(here: Here) -> None:
    path = put(here.path / "twice", b"abc" * 1000)
    with open(path, "r+b") as file:
        data = file.read()
        file.write(data)
    assert here.stored("twice") == b"abc" * 2000


# --- names that go while a file is open -------------------------------------------------------------------


def test_an_unlinked_open_file_can_be_read_and_written_on(here: Here) -> None:
    path = put(here.path / "temp", b"before")
    here.flush()
    fd = os.open(path, os.O_RDWR)
    os.unlink(path)
    assert not path.exists()
    assert os.pread(fd, 100, 0) == b"before"
    os.pwrite(fd, b"after unlinking", 0)
    assert os.pread(fd, 100, 0) == b"after unlinking"
    assert (os.fstat(fd).st_size, os.fstat(fd).st_nlink) == (15, 0)
    os.ftruncate(fd, 3)
    os.fsync(fd)
    assert os.pread(fd, 100, 0) == b"aft"
    os.close(fd)
    assert "temp" not in here.names()
    assert not path.exists()


def test_a_file_replaced_by_rename_is_still_read_through_open_handles(here: Here) -> None:
    old, new = put(here.path / "file", b"old content"), put(here.path / "new", b"new")
    fd = os.open(old, os.O_RDWR)
    os.rename(new, old)
    assert os.pread(fd, 100, 0) == b"old content"
    os.pwrite(fd, b"OLD", 0)
    assert os.pread(fd, 100, 0) == b"OLD content"
    assert old.read_bytes() == b"new"
    os.close(fd)
    assert here.stored("file") == b"new"


def test_an_open_file_that_is_renamed_takes_its_writes_along(here: Here) -> None:
    path = put(here.path / "before", b"start ")
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"middle ")
    os.rename(path, here.path / "after")
    os.write(fd, b"end")
    os.close(fd)
    assert here.stored("after") == b"start middle end"
    assert here.names() == {".bzEmpty", "after"}


def test_an_open_reader_keeps_its_version_when_somebody_replaces_the_file(here: Here) -> None:
    old, new = b"o" * 20 * MB, b"n" * 20 * MB
    here.upload("file", old)
    here.refresh()
    with open(here.path / "file", "rb", buffering=0) as reader:
        assert reader.read(1000) == old[:1000]
        here.upload("file", new)
        wait_until(lambda: (here.path / "file").open("rb").read(10) == new[:10], "the new version shows")
        assert os.pread(reader.fileno(), 1000, 19 * MB) == old[:1000]
        assert b"".join(iter(lambda: reader.read(1 << 20), b"")) == old[1000:]
    assert (here.path / "file").read_bytes() == new


def test_an_open_reader_keeps_its_version_when_somebody_hides_the_file(here: Here) -> None:
    here.upload("file", b"x" * 20 * MB)
    here.refresh()
    with open(here.path / "file", "rb", buffering=0) as reader:
        assert reader.read(10) == b"x" * 10
        here.emulator.hide(here.bucket, here.prefix + "file")
        wait_until(lambda: not (here.path / "file").exists(), "the file is gone")
        assert os.pread(reader.fileno(), 100, 19 * MB) == b"x" * 100


def test_a_reader_whose_version_was_deleted_gets_estale(here: Here) -> None:
    row = here.upload("file", b"x" * 30 * MB)
    here.refresh()
    with open(here.path / "file", "rb", buffering=0) as reader:
        assert reader.read(10) == b"x" * 10
        here.emulator.ask("b2_delete_file_version", {"fileName": row["fileName"], "fileId": row["fileId"]})
        with refused(errno.ESTALE):
            os.pread(reader.fileno(), 100, 29 * MB)


# --- mmap and flags ---------------------------------------------------------------------------------------


def test_a_stored_file_can_be_mapped_for_reading(here: Here) -> None:
    data = os.urandom(3 * MB)
    here.upload("map", data)
    here.refresh()
    with open(here.path / "map", "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as area:
        assert area[2 * MB : 2 * MB + 100] == data[2 * MB : 2 * MB + 100]
        assert area[:] == data


def test_shared_mappings_write_to_the_file(here: Here) -> None:
    path = put(here.path / "map", b"." * 100_000)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as area:
        area[50_000:50_005] = b"hello"
        area.flush()
        assert os.pread(file.fileno(), 5, 50_000) == b"hello"
        area[99_995:] = b"after"
    assert path.read_bytes()[99_995:] == b"after"
    assert here.stored("map") == b"." * 50_000 + b"hello" + b"." * 49_990 + b"after"


def test_o_direct_reads_and_writes_the_same_bytes(here: Here) -> None:
    path = here.path / "direct"
    block = mmap.mmap(-1, 8192)
    block[:] = bytes(range(256)) * 32
    fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    os.pwritev(fd, [block], 4096)
    back = mmap.mmap(-1, 8192)
    assert os.preadv(fd, [back], 4096) == 8192
    assert back[:] == block[:]
    os.close(fd)
    assert path.read_bytes() == bytes(4096) + block[:]


def test_space_is_allocated_by_writing_and_holes_are_not_told(here: Here) -> None:
    path = put(here.path / "file", b"x" * 1000)
    fd = os.open(path, os.O_RDWR)
    os.posix_fallocate(fd, 0, 5000)  # the C library's own way: there is no space to set aside
    assert os.fstat(fd).st_size == 5000
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 5000
    assert os.lseek(fd, 0, os.SEEK_DATA) == 0
    os.close(fd)


def test_copy_file_range_copies_between_files(here: Here) -> None:
    data = os.urandom(300_000)
    source = put(here.path / "source", data)
    with open(source, "rb") as read, open(here.path / "target", "wb") as write:
        done = 0
        while done < len(data):
            done += os.copy_file_range(read.fileno(), write.fileno(), len(data) - done)
    assert (here.path / "target").read_bytes() == data
