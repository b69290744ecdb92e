"""docs/semantics.md, "Durability" and "Consistency": what is safe when, and when others' changes show."""

import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount, mounted
from tests.support.semantics import (
    Here,
    ask,
    calls_of,
    fresh_bucket,
    own_directory,
    shared_mount,
    wait_until,
)

pytestmark = pytest.mark.fuse

LATER = ["--settle", "600"]  # nothing goes to B2 unless somebody waits for it


@pytest.fixture(scope="module")
def shared(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    with shared_mount(emulator, tmp_path_factory.mktemp("durability"), options=LATER) as here:
        yield here


@pytest.fixture
def here(shared: Here, request: pytest.FixtureRequest) -> Here:
    return own_directory(shared, request)


@pytest.fixture
def bucket_of_own(emulator: Emulator) -> Iterator[str]:
    with fresh_bucket(emulator) as bucket:
        yield bucket


def in_b2(here: Here, name: str) -> bytes | None:
    """Return what B2 shows now, without a flush."""
    rows = here.emulator.list_names(here.bucket, here.prefix + name)
    found = any(row["fileName"] == here.prefix + name for row in rows)
    return here.emulator.download(here.bucket, here.prefix + name) if found else None


# --- in B2 when the call returns --------------------------------------------------------------------------


@pytest.mark.parametrize("sync", [os.fsync, os.fdatasync])
def test_fsync_returns_when_the_file_is_in_b2(here: Here, sync: Callable[[int], None]) -> None:
    fd = os.open(here.path / "file", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"one")
    assert in_b2(here, "file") is None
    sync(fd)
    assert in_b2(here, "file") == b"one"
    os.write(fd, b"two")
    sync(fd)
    assert in_b2(here, "file") == b"onetwo"
    os.close(fd)


@pytest.mark.parametrize("flag", [os.O_SYNC, os.O_DSYNC])
def test_a_write_through_o_sync_returns_when_it_is_in_b2(here: Here, flag: int) -> None:
    fd = os.open(here.path / "file", os.O_CREAT | os.O_WRONLY | flag)
    os.write(fd, b"one")
    assert in_b2(here, "file") == b"one"
    os.ftruncate(fd, 2)
    assert in_b2(here, "file") == b"on"
    os.close(fd)


def test_fsync_of_a_directory_returns_when_changes_of_its_names_are_in_b2(here: Here) -> None:
    (here.path / "old").write_bytes(b"x")
    (here.path / "gone").write_bytes(b"x")
    here.flush()
    os.rename(here.path / "old", here.path / "new")
    os.unlink(here.path / "gone")
    (here.path / "dir").mkdir()
    assert in_b2(here, "new") is None
    fd = os.open(here.path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    rows = here.emulator.list_names(here.bucket, here.prefix)
    assert {row["fileName"].removeprefix(here.prefix) for row in rows} == {".bzEmpty", "dir/.bzEmpty", "new"}


def test_msync_and_fsync_bring_mapped_writes_to_b2(here: Here) -> None:
    path = here.path / "map"
    path.write_bytes(b"." * 10_000)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as area:
        area[5000:5005] = b"hello"
        area.flush()
        os.fsync(file.fileno())
        assert in_b2(here, "map") == b"." * 5000 + b"hello" + b"." * 4995


def test_flush_returns_when_everything_is_in_b2(here: Here) -> None:
    for number in range(20):
        (here.path / f"file{number}").write_bytes(b"x" * number)
    with open(here.path / "open", "wb", buffering=0) as file:
        file.write(b"not closed")
        assert here.mount.ask("flush").returncode == 0
        assert in_b2(here, "open") == b"not closed"
    assert in_b2(here, "file19") == b"x" * 19


def test_unmounting_returns_when_everything_is_in_b2(
    emulator: Emulator, bucket_of_own: str, tmp_path: Path
) -> None:
    with mounted(emulator, tmp_path, bucket_of_own, options=LATER) as mount:
        (mount.path / "file").write_bytes(b"content")
        assert emulator.list_names(bucket_of_own) == []
        assert mount.ask("unmount").returncode == 0
        assert emulator.download(bucket_of_own, "file") == b"content"
        mount.wait()
        mount.start()
        (mount.path / "second").write_bytes(b"content")
    assert emulator.download(bucket_of_own, "second") == b"content"


def test_umount_8_sends_what_is_pending_too(emulator: Emulator, bucket_of_own: str, tmp_path: Path) -> None:
    mount = Mount(emulator, tmp_path, emulator.create_key(ALL, [bucket_of_own]), options=LATER).start()
    (mount.path / "file").write_bytes(b"content")
    subprocess.run(["umount", mount.path], check=True)
    assert mount.wait() == 0
    assert emulator.download(bucket_of_own, "file") == b"content"


def test_with_write_through_close_returns_when_the_file_is_in_b2(
    emulator: Emulator, bucket_of_own: str, tmp_path: Path
) -> None:
    with mounted(emulator, tmp_path, bucket_of_own, options=[*LATER, "--write-through"]) as mount:
        with open(mount.path / "file", "wb", buffering=0) as file:
            file.write(b"content")
            assert emulator.list_names(bucket_of_own) == []
        assert emulator.download(bucket_of_own, "file") == b"content"


# --- safe here when the call returns ----------------------------------------------------------------------


def test_what_was_closed_survives_a_crash_and_arrives_at_the_next_mount(
    emulator: Emulator, bucket_of_own: str, tmp_path: Path
) -> None:
    emulator.upload(bucket_of_own, "log", b"first line\n")
    emulator.upload(bucket_of_own, "old", b"old")
    emulator.upload(bucket_of_own, "gone", b"gone")
    mount = Mount(emulator, tmp_path, emulator.create_key(ALL, [bucket_of_own]), options=LATER).start()
    (mount.path / "new").write_bytes(b"new" * 100_000)
    with (mount.path / "log").open("ab") as file:
        file.write(b"second line\n")
    os.rename(mount.path / "old", mount.path / "renamed")
    os.unlink(mount.path / "gone")
    (mount.path / "dir").mkdir()
    os.chmod(mount.path / "dir", 0o700)
    os.symlink("new", mount.path / "link")
    os.utime(mount.path / "new", (1, 1))
    mount.kill()
    before = {row["fileName"] for row in emulator.list_names(bucket_of_own)}
    assert before == {"log", "old", "gone"}
    with mount:
        assert sorted(os.listdir(mount.path)) == ["dir", "link", "log", "new", "renamed"]
        assert (mount.path / "log").read_bytes() == b"first line\nsecond line\n"
        assert os.stat(mount.path / "dir").st_mode & 0o777 == 0o700
        mount.flush()
    names = {row["fileName"] for row in emulator.list_names(bucket_of_own)}
    assert names == {"log", "new", "renamed", "link", "dir/.bzEmpty"}
    assert emulator.download(bucket_of_own, "new") == b"new" * 100_000
    assert emulator.download(bucket_of_own, "log") == b"first line\nsecond line\n"
    assert emulator.download(bucket_of_own, "renamed") == b"old"


def test_a_file_is_replaced_whole_or_not_at_all(
    emulator: Emulator, bucket_of_own: str, tmp_path: Path
) -> None:
    contents = {bytes([number]) * 3_000_000 for number in range(8)}
    seen: set[bytes] = set()
    with mounted(emulator, tmp_path, bucket_of_own, options=["--settle", "0.01"]) as mount:
        for content in sorted(contents):
            (mount.path / "file").write_bytes(content)
            if emulator.list_names(bucket_of_own, "file"):
                seen.add(emulator.download(bucket_of_own, "file"))
        mount.flush()
    assert seen <= contents
    assert emulator.download(bucket_of_own, "file") == max(contents)
    versions = [row for row in emulator.list_versions(bucket_of_own, "file") if row["action"] == "upload"]
    assert {row["contentLength"] for row in versions} == {3_000_000}


def test_changes_of_one_name_reach_b2_in_order(here: Here) -> None:
    path = here.path / "file"
    path.write_bytes(b"1")
    here.flush()
    os.unlink(path)
    path.write_bytes(b"2")
    os.rename(path, here.path / "moved")
    path.write_bytes(b"3")
    os.rename(here.path / "moved", here.path / "again")
    os.unlink(path)
    path.write_bytes(b"4")
    here.flush()
    assert in_b2(here, "file") == b"4"
    assert in_b2(here, "again") == b"2"
    assert in_b2(here, "moved") is None


def test_what_is_made_and_removed_before_it_was_sent_costs_nothing(here: Here) -> None:
    here.flush()
    since = here.emulator.last_seq()
    (here.path / "temp").write_bytes(b"x")
    os.rename(here.path / "temp", here.path / "temp2")
    os.unlink(here.path / "temp2")
    here.flush()
    assert here.calls_about("temp", since) + here.calls_about("temp2", since) == []


# --- consistency ------------------------------------------------------------------------------------------


def test_others_changes_show_within_the_listing_ttl(
    emulator: Emulator, bucket_of_own: str, tmp_path: Path
) -> None:
    emulator.upload(bucket_of_own, "dir/old", b"old")
    emulator.upload(bucket_of_own, "dir/changed", b"1")
    with mounted(emulator, tmp_path, bucket_of_own, options=["--listing-ttl", "2"]) as mount:
        directory = mount.path / "dir"
        assert sorted(os.listdir(directory)) == ["changed", "old"]
        assert (directory / "changed").read_bytes() == b"1"
        assert not (directory / "new").exists()
        emulator.upload(bucket_of_own, "dir/new", b"new")
        emulator.upload(bucket_of_own, "dir/changed", b"22")
        emulator.hide(bucket_of_own, "dir/old")
        ends = time.monotonic() + 2.5
        wait_until(lambda: time.monotonic() > ends, "the time to live passes")
        assert (directory / "new").read_bytes() == b"new"
        assert (directory / "changed").read_bytes() == b"22"
        assert os.stat(directory / "changed").st_size == 2
        assert not (directory / "old").exists()
        assert sorted(os.listdir(directory)) == ["changed", "new"]


def test_a_refresh_shows_others_changes_at_once(
    emulator: Emulator, bucket_of_own: str, tmp_path: Path
) -> None:
    emulator.upload(bucket_of_own, "dir/changed", b"1")
    with mounted(emulator, tmp_path, bucket_of_own, options=["--listing-ttl", "1h"]) as mount:
        assert (mount.path / "dir/changed").read_bytes() == b"1"
        assert not (mount.path / "dir/new").exists()
        emulator.upload(bucket_of_own, "dir/new", b"new")
        emulator.upload(bucket_of_own, "dir/changed", b"22")
        command = ["-m", "b2mount.cli.main", "refresh", str(mount.path / "dir")]
        subprocess.run([sys.executable, *command], check=True)
        assert (mount.path / "dir/new").read_bytes() == b"new"
        assert (mount.path / "dir/changed").read_bytes() == b"22"


def test_a_refresh_of_the_root_reaches_every_bucket_and_escaped_name(
    emulator: Emulator, bucket_of_own: str, tmp_path: Path
) -> None:
    emulator.seed(bucket_of_own, [{"name": "a//x", "content": "1"}, {"name": "b", "content": "1"}])
    emulator.upload(bucket_of_own, "b/c", b"1")
    with fresh_bucket(emulator) as other:
        key = emulator.create_key(ALL, [bucket_of_own, other])
        with Mount(emulator, tmp_path, key, options=["--listing-ttl", "1h"]) as mount:
            path = mount.path / bucket_of_own
            files = [path / "a/%b2-empty/x", path / "b%b2-file", path / "b/c"]
            assert [file.read_bytes() for file in files] == [b"1"] * 3
            assert not (mount.path / other / "new").exists()
            emulator.seed(bucket_of_own, [{"name": "a//x", "content": "2"}, {"name": "b", "content": "2"}])
            emulator.upload(bucket_of_own, "b/c", b"2")
            emulator.upload(other, "new", b"new")
            ask(mount, op="refresh", path="")
            assert [file.read_bytes() for file in files] == [b"2"] * 3
            assert (mount.path / other / "new").read_bytes() == b"new"


def test_own_changes_show_at_once_and_never_go_back(
    emulator: Emulator, bucket_of_own: str, tmp_path: Path
) -> None:
    options = ["--listing-ttl", "0", "--settle", "0"]
    with mounted(emulator, tmp_path, bucket_of_own, options=options) as mount:
        for number in range(30):
            path = mount.path / f"file{number}"
            path.write_bytes(b"x" * number)
            assert path.stat().st_size == number
            assert path.name in os.listdir(mount.path)
            os.rename(path, mount.path / "moved")
            assert os.listdir(mount.path) == ["moved"]
            assert not path.exists()
            os.unlink(mount.path / "moved")
            assert os.listdir(mount.path) == []


def test_a_fresh_listing_answers_every_question_about_its_names(here: Here) -> None:
    here.seed(*({"name": f"file{number}", "size": 10} for number in range(50)))
    assert len(os.listdir(here.path)) == 50
    since = here.emulator.last_seq()
    subprocess.run(["ls", "-l", here.path], check=True, capture_output=True)
    subprocess.run(["find", here.path, "-size", "+100"], check=True)
    for name in ("missing", "file50", "file"):
        assert not (here.path / name).exists()
    calls = calls_of(here.emulator, here.mount.key, since)
    # The look for lost updates comes seconds after what other tests of this mount overwrote.
    assert [call for call in calls if call != "b2_list_file_versions"] == []
