"""docs/semantics.md, "Large files": sent while they are written, in a spool of bounded size."""

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount, mounted
from tests.support.semantics import fresh_bucket, refused, wait_until

pytestmark = pytest.mark.fuse

PART = 100_000  # bytes; the smallest part, here
SPOOL = 32 * PART
OPTIONS = ["--spool-size", str(SPOOL), "--settle", "0.1"]
MIB = 1 << 20
OVER = 2 * MIB  # beyond the limit: what the kernel wrote when it was let in, whole blocks about holes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """Give a server that takes small parts, so that small files are large ones."""
    with Emulator(tmp_path_factory.mktemp("emulator")) as emulator:
        emulator.settings(min_part_size=PART)
        yield emulator


@pytest.fixture
def bucket(server: Emulator) -> Iterator[str]:
    with fresh_bucket(server) as name:
        yield name
    server.network(latency_ms=0, bandwidth=None)


def unfinished(server: Emulator, bucket: str) -> list[str]:
    body = {"bucketId": server.bucket_id(bucket)}
    return [row["fileName"] for row in server.ask("b2_list_unfinished_large_files", body)["files"]]


def versions(server: Emulator, bucket: str) -> list[tuple[str, str, int]]:
    rows = server.list_versions(bucket)
    return [(row["fileName"], row["action"], row["contentLength"]) for row in rows]


def spooled(mount: Mount) -> int:
    """Return how many bytes the spool takes on disk."""
    total = 0
    for path in mount.state.rglob("spool/*"):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total


class Watch:
    """Looks all the time how large the spool is."""

    def __init__(self, mount: Mount) -> None:
        self.largest = 0
        self._mount = mount
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.005):
            self.largest = max(self.largest, spooled(self._mount))


def write_much(fd: int, size: int) -> str:
    """Write *size* bytes, each block another; return their SHA-1."""
    block, digest = os.urandom(MIB), hashlib.sha1()
    for number in range(-(-size // MIB)):
        data = (number.to_bytes(8, "big") + block[8:])[: size - number * MIB]
        assert os.write(fd, data) == len(data)
        digest.update(data)
    return digest.hexdigest()


def demand_bounded(server: Emulator, bucket: str, base: Path, size: int, spool: int) -> None:
    """Demand that *size* bytes go through a spool of *spool* bytes."""
    options = ["--spool-size", str(spool), "--settle", "0"]
    with mounted(server, base, bucket, options=options) as mount:
        with Watch(mount) as watch:
            fd = os.open(mount.path / "big", os.O_CREAT | os.O_WRONLY)
            sha1 = write_much(fd, size)
            at_close = server.counters()["bytes_in"]
            os.close(fd)
            mount.flush()
        assert at_close > size - 2 * spool, "most was sent before the file was closed"
        assert watch.largest <= spool + OVER
        assert hashlib.sha1(server.download(bucket, "big")).hexdigest() == sha1
        assert versions(server, bucket) == [("big", "upload", size)], "nothing in between is left"
        (row,) = server.list_names(bucket)
        assert row["fileInfo"]["large_file_sha1"] == sha1
        mtime_ms = os.stat(mount.path / "big").st_mtime_ns // 1_000_000
        assert int(row["fileInfo"]["src_last_modified_millis"]) == mtime_ms
    assert unfinished(server, bucket) == []


def test_a_file_of_many_times_the_spools_size_goes_through_it(
    server: Emulator, bucket: str, tmp_path: Path
) -> None:
    server.reset_counters()
    demand_bounded(server, bucket, tmp_path, 60 * MIB, SPOOL)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_half_a_gigabyte_goes_through_a_spool_of_64_megabytes(tmp_path: Path) -> None:
    with Emulator(tmp_path / "emulator") as emulator:
        emulator.create_bucket("bucket-one")
        demand_bounded(emulator, "bucket-one", tmp_path / "mount", 512 * MIB, 64 * MIB)


def test_a_writer_waits_for_a_slow_network_and_gets_no_error(
    server: Emulator, bucket: str, tmp_path: Path
) -> None:
    with mounted(server, tmp_path, bucket, options=OPTIONS) as mount:
        server.network(latency_ms=5, bandwidth=200_000)  # bytes a second, of each connection
        with Watch(mount) as watch, open(mount.path / "big", "wb", buffering=0) as file:
            sha1 = write_much(file.fileno(), 12 * MIB)
        assert watch.largest <= SPOOL + OVER
        server.network(latency_ms=0, bandwidth=None)
        mount.flush()
        assert hashlib.sha1(server.download(bucket, "big")).hexdigest() == sha1


def test_many_open_files_share_the_spool(server: Emulator, bucket: str, tmp_path: Path) -> None:
    """None of them alone is large enough for parts, and together they do not fit."""
    with mounted(server, tmp_path, bucket, options=OPTIONS) as mount:
        files = [os.open(mount.path / f"file{number}", os.O_CREAT | os.O_RDWR) for number in range(40)]
        with Watch(mount) as watch:
            for number, fd in enumerate(files):
                assert os.write(fd, bytes([number]) * 140_000) == 140_000
        for number, fd in enumerate(files):
            os.write(fd, b"end")
            assert os.pread(fd, 200_000, 0) == bytes([number]) * 140_000 + b"end"
            os.close(fd)
        assert watch.largest <= SPOOL + OVER
        mount.flush()
        for number in range(40):
            assert server.download(bucket, f"file{number}") == bytes([number]) * 140_000 + b"end"


def test_where_nothing_can_be_sent_write_fails_in_time_and_what_was_taken_is_safe(
    server: Emulator, bucket: str, tmp_path: Path
) -> None:
    with mounted(server, tmp_path, bucket, options=[*OPTIONS, "--io-timeout", "5"]) as mount:
        fd = os.open(mount.path / "big", os.O_CREAT | os.O_WRONLY)
        assert os.write(fd, b"a" * PART) == PART
        server.fault(call="b2_upload_part", kind="status", status=503, times=100_000)
        taken = PART
        with refused(errno.ETIMEDOUT):
            while True:
                taken += os.write(fd, b"b" * PART)
        assert taken > SPOOL // 2
        server.clear_faults()
        taken += os.write(fd, b"c" * PART)
        os.close(fd)
        mount.flush()
        assert server.download(bucket, "big") == b"a" * PART + b"b" * (taken - 2 * PART) + b"c" * PART


@pytest.mark.parametrize("by", ["unlinked", "replaced"])
def test_files_without_a_name_take_no_room_from_those_that_are_sent(
    server: Emulator, bucket: str, tmp_path: Path, by: str
) -> None:
    options = ["--spool-size", str(SPOOL), "--settle", "0", "--io-timeout", "5"]
    with mounted(server, tmp_path, bucket, options=options) as mount:
        nameless = os.open(mount.path / "temporary", os.O_CREAT | os.O_RDWR)
        os.write(nameless, b"f" * (SPOOL // 2))
        if by == "unlinked":
            os.unlink(mount.path / "temporary")
        else:
            (mount.path / "other").write_bytes(b"short")
            os.rename(mount.path / "other", mount.path / "temporary")
        more = write_much(nameless, 2 * SPOOL // MIB * MIB)  # nobody could ever make room for this
        fd = os.open(mount.path / "big", os.O_CREAT | os.O_RDWR)
        sha1 = write_much(fd, 20 * MIB)
        os.close(fd)
        assert os.pread(nameless, 5, 0) == b"fffff"
        kept = Path(f"/proc/self/fd/{nameless}").read_bytes()
        assert hashlib.sha1(kept[SPOOL // 2 :]).hexdigest() == more
        os.close(nameless)
        mount.flush()
        assert hashlib.sha1(server.download(bucket, "big")).hexdigest() == sha1
        assert spooled(mount) == 0


def write_at(fd: int, data: bytes, at: int) -> None:
    """Write all of it: one call may take less."""
    while data:
        done = os.pwrite(fd, data, at)
        data, at = data[done:], at + done


def edit_begin(fd: int, data: bytearray) -> None:
    write_at(fd, b"header", 0)
    data[:6] = b"header"


def edit_middle(fd: int, data: bytearray) -> None:
    write_at(fd, b"middle", 20 * PART)
    data[20 * PART : 20 * PART + 6] = b"middle"


def edit_all(fd: int, data: bytearray) -> None:
    for at in range(0, len(data), 7 * PART):
        write_at(fd, b"x" * 1000, at)
        data[at : at + 1000] = b"x" * 1000


def cut(fd: int, data: bytearray) -> None:
    os.ftruncate(fd, 30 * PART + 77)
    del data[30 * PART + 77 :]


def cut_to_nothing(fd: int, data: bytearray) -> None:
    os.ftruncate(fd, 0)
    data.clear()


def extend(fd: int, data: bytearray) -> None:
    os.ftruncate(fd, len(data) + 5 * PART)
    data.extend(bytes(5 * PART))


def sync(fd: int, data: bytearray) -> None:
    os.fsync(fd)


EDITS = [edit_begin, edit_middle, edit_all, cut, cut_to_nothing, extend, sync]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
@pytest.mark.parametrize("parts", [20, 90], ids=["all in the spool", "most in b2 alone"])
def test_what_was_sent_already_can_be_changed_and_read(
    server: Emulator, bucket: str, tmp_path: Path, edit: Callable[[int, bytearray], None], parts: int
) -> None:
    if parts == 20 and edit in (edit_middle, cut):
        pytest.skip("the file is shorter")
    data = bytearray(os.urandom(parts * PART))
    with mounted(server, tmp_path, bucket, options=OPTIONS) as mount:
        fd = os.open(mount.path / "big", os.O_CREAT | os.O_RDWR)
        for at in range(0, len(data), PART):
            write_at(fd, bytes(data[at : at + PART]), at)
        edit(fd, data)
        assert os.pread(fd, 3 * PART, 2 * PART) == data[2 * PART : 5 * PART]
        more = os.urandom(40 * PART)
        write_at(fd, more, len(data))
        data += more
        os.close(fd)
        assert (mount.path / "big").read_bytes() == data
        mount.flush()
        assert server.download(bucket, "big") == data
    assert unfinished(server, bucket) == []


def test_a_file_that_is_streamed_can_be_renamed_replaced_and_removed(
    server: Emulator, bucket: str, tmp_path: Path
) -> None:
    with mounted(server, tmp_path, bucket, options=OPTIONS) as mount:
        fds, contents = [], []
        for name in ("renamed", "replaced", "removed"):
            fd = os.open(mount.path / name, os.O_CREAT | os.O_RDWR)
            fds.append(fd)
            contents.append(os.urandom(50 * PART))
            for at in range(0, 50 * PART, PART):
                os.write(fd, contents[-1][at : at + PART])
        os.rename(mount.path / "renamed", mount.path / "new name")
        (mount.path / "small").write_bytes(b"small")
        os.rename(mount.path / "small", mount.path / "replaced")
        os.unlink(mount.path / "removed")
        for fd, content in zip(fds, contents, strict=True):
            assert os.pread(fd, 50 * PART, 0) == content
            os.write(fd, b"end")
            assert os.pread(fd, 10, 50 * PART) == b"end"
            os.close(fd)
        mount.flush()
        assert sorted(os.listdir(mount.path)) == ["new name", "replaced"]
        names = {row["fileName"] for row in server.list_names(bucket)}
        assert names == {"new name", "replaced"}
        assert server.download(bucket, "new name") == contents[0] + b"end"
        assert server.download(bucket, "replaced") == b"small"
    assert unfinished(server, bucket) == []


@pytest.mark.parametrize("moment", ["while it is written", "after close", "after fsync"])
def test_a_crash_keeps_what_was_promised_and_leaves_nothing_unfinished(
    server: Emulator, bucket: str, tmp_path: Path, moment: str
) -> None:
    key = server.create_key(ALL, [bucket])
    mount = Mount(server, tmp_path, key, options=["--spool-size", str(SPOOL), "--settle", "600"]).start()
    fd = os.open(mount.path / "big", os.O_CREAT | os.O_WRONLY)
    sha1 = write_much(fd, 20 * MIB)
    assert unfinished(server, bucket) == ["big"]
    if moment == "after close":
        os.close(fd)
    if moment == "after fsync":
        os.fsync(fd)
        os.write(fd, b"not promised")
    mount.kill()
    if moment != "after close":
        with contextlib.suppress(OSError):  # of the dead mount
            os.close(fd)
    with mount:
        if moment == "while it is written":
            assert os.listdir(mount.path) == []
        else:
            assert os.stat(mount.path / "big").st_size == 20 * MIB
            assert hashlib.sha1((mount.path / "big").read_bytes()).hexdigest() == sha1
        mount.flush()
        if moment != "while it is written":
            assert versions(server, bucket) == [("big", "upload", 20 * MIB)], "nothing in between is left"
        wait_until(lambda: unfinished(server, bucket) == [], "unfinished large files are cancelled")
        wait_until(lambda: spooled(mount) == 0, "the spool is let go")


def test_a_key_that_may_not_delete_streams_only_when_room_is_short(
    server: Emulator, bucket: str, tmp_path: Path
) -> None:
    rights = [right for right in ALL if right != "deleteFiles"]
    with mounted(server, tmp_path, bucket, capabilities=rights, options=OPTIONS) as mount:
        with open(mount.path / "middle", "wb") as file:
            file.write(b"m" * 15 * PART)
            file.flush()
            assert unfinished(server, bucket) == []
        mount.flush()
        assert versions(server, bucket) == [("middle", "upload", 15 * PART)], "no second version for its time"
        with open(mount.path / "big", "wb", buffering=0) as file:
            sha1 = write_much(file.fileno(), 20 * MIB)
        mount.flush()
        assert hashlib.sha1(server.download(bucket, "big")).hexdigest() == sha1


def test_a_drop_box_takes_what_is_larger_than_the_spool(
    server: Emulator, bucket: str, tmp_path: Path
) -> None:
    with mounted(server, tmp_path, bucket, capabilities=["writeFiles"], options=OPTIONS) as mount:
        with open(mount.path / "big", "wb", buffering=0) as file:
            sha1 = write_much(file.fileno(), 20 * MIB)
        mount.flush()
    assert hashlib.sha1(server.download(bucket, "big")).hexdigest() == sha1
    assert unfinished(server, bucket) == []
