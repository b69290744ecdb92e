"""fio with verification, and random operations on one file beside a model, as fsx does."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import Mount
from tests.support.programs import run, slow

pytestmark = [pytest.mark.fuse, pytest.mark.tools]

STEPS = int(os.environ.get("B2MOUNT_FSX_STEPS", "400"))


@pytest.mark.parametrize("engine", ["psync", slow("mmap"), slow("sync --direct=1")])
def test_fio_reads_back_what_several_jobs_wrote_at_random(tenant: Mount, engine: str, tmp_path: Path) -> None:
    words = ["fio", "--name=job", f"--directory={tenant.path}", "--rw=randwrite", "--bsrange=4k-64k"]
    words += ["--size=8m", "--numjobs=3", "--verify=crc32c", "--verify_fatal=1", "--randseed=7"]
    words += ["--ba=4k", "--group_reporting", *f"--ioengine={engine}".split()]
    run(*words, "--do_verify=1", "--fsync=50", cwd=tmp_path)  # where it leaves what it knows of its state
    tenant.remount(empty_cache=True)
    run(*words, "--verify_only", cwd=tmp_path)


def test_fio_mixes_reads_and_overwrites_of_a_stored_file(tenant: Mount, tmp_path: Path) -> None:
    words = ["fio", "--name=mixed", f"--directory={tenant.path}", "--bs=4k", "--size=8m", "--ioengine=psync"]
    words += ["--verify=crc32c", "--verify_fatal=1"]
    run(*words, "--rw=write", "--do_verify=1", cwd=tmp_path)
    tenant.remount(empty_cache=True)
    run(*words, "--rw=randrw", "--rwmixread=50", "--io_size=4m", "--verify_backlog=64", cwd=tmp_path)


class RandomFile:
    """One file under random operations, and the bytes that it should hold."""

    def __init__(self, mount: Mount, seed: int, limit: int) -> None:
        """Begin with an empty file, to which writes at up to *limit* bytes are made."""
        self.mount = mount
        self.limit = limit
        self.path = mount.path / "file"
        self.chance = random.Random(seed)
        self.model = bytearray()
        self.history: list[str] = []
        self.fds = [os.open(self.path, os.O_RDWR | os.O_CREAT)]

    def step(self) -> None:
        """Do one operation, and compare what a reader sees."""
        choice = self.chance.choices(
            [self.write, self.read, self.truncate, self.append, self.reopen, self.sync, self.flush],
            [30, 30, 10, 8, 8, 3, 1],
        )[0]
        choice()

    def note(self, text: str) -> None:
        self.history.append(text)

    def fd(self) -> int:
        return self.chance.choice(self.fds)

    def put(self, offset: int, data: bytes) -> None:
        if offset > len(self.model):
            self.model.extend(bytes(offset - len(self.model)))
        self.model[offset : offset + len(data)] = data

    def write(self) -> None:
        offset, size = self.chance.randrange(self.limit), self.chance.choice([1, 10, 4096, 50_000, 200_000])
        self.note(f"write {offset} {size}")
        data = self.chance.randbytes(size)
        assert os.pwrite(self.fd(), data, offset) == size
        self.put(offset, data)

    def append(self) -> None:
        size = self.chance.choice([1, 100, 30_000])
        self.note(f"append {len(self.model)} {size}")
        data = self.chance.randbytes(size)
        with self.path.open("ab") as file:
            file.write(data)
        self.put(len(self.model), data)

    def read(self) -> None:
        offset, size = self.chance.randrange(self.limit + 1000), self.chance.randrange(300_000)
        self.note(f"read {offset} {size}")
        assert os.pread(self.fd(), size, offset) == self.model[offset : offset + size]

    def truncate(self) -> None:
        size = self.chance.choice([0, self.chance.randrange(self.limit), max(len(self.model) - 3, 0)])
        way = self.chance.choice(["handle", "path"])
        self.note(f"truncate {size} by {way}")
        os.truncate(self.path if way == "path" else self.fd(), size)
        del self.model[size:]
        self.put(size, b"")

    def reopen(self) -> None:
        self.note("close and open")
        if len(self.fds) == 3 or (len(self.fds) > 1 and self.chance.random() < 0.5):
            os.close(self.fds.pop(0))
        self.fds.append(os.open(self.path, os.O_RDWR))
        assert os.fstat(self.fd()).st_size == os.stat(self.path).st_size == len(self.model)

    def sync(self) -> None:
        self.note("fsync")
        os.fsync(self.fd())

    def flush(self) -> None:
        self.note("flush")
        self.mount.flush()

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.pop())


@pytest.fixture
def part_size(emulator: Emulator, request: pytest.FixtureRequest) -> Iterator[int]:
    """Have the server take parts as small as this."""
    before = emulator.settings()["min_part_size"]
    emulator.settings(min_part_size=request.param)
    yield request.param
    emulator.settings(min_part_size=before)


@pytest.mark.parametrize(
    ("part_size", "limit", "seed"),
    [(5_000_000, 700_000, 1), (100_000, 30_000_000, 2), slow(5_000_000, 50_000_000, 3)],
    indirect=["part_size"],
)
def test_random_operations_on_one_file_give_what_they_should(
    part_size: int, tenant: Mount, bucket: str, limit: int, seed: int
) -> None:
    tenant.emulator.reset_counters()
    file = RandomFile(tenant, seed, limit)
    try:
        for number in range(STEPS):
            file.step()
            if number % 150 == 149:
                file.close()
                file.note("remount")
                tenant.remount(empty_cache=True)
                file.fds = [os.open(file.path, os.O_RDWR)]
        assert Path(file.path).read_bytes() == file.model, file.history
    except BaseException:
        print(*file.history, sep="\n")
        raise
    finally:
        file.close()
    tenant.flush()
    assert tenant.emulator.download(bucket, "tenant-a/file") == file.model
    copies = tenant.emulator.counters()["calls"].get("b2_copy_part", 0)
    assert copies > 0 or part_size > limit, "nothing was assembled from parts of the old version"
