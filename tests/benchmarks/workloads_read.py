"""The reading half: streams, random places, many small files, and programs that read."""

import hashlib
import mmap
import os
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.benchmarks.content import CHUNK, Buffer, read_at, read_unchecked, read_whole
from tests.benchmarks.measure import drop_page_cache
from tests.benchmarks.networks import Server
from tests.benchmarks.sizes import KIB, MIB, Sizes
from tests.benchmarks.workload import BYTES, MEMORY, Goal, Row, Run, Workload, goals
from tests.support.emulator import pattern

KIND = "Reading"
NEAR = 0.6  # of rclone's time, for every read near by
SMALL = 16 * KIB
DEPTH = 16
SKIP = 4 * MIB
RANDOM_LIMIT_SECONDS = 15.0  # rclone tuned for streams fetches 64 MiB and more for each place
NEEDLE = "a needle in this hay"


def one_file(server: Server, bucket: str, name: str, size: int) -> None:
    server.emulator.seed(bucket, [{"name": name, "size": size}])


def sequential(run: Run) -> None:
    buffer, file, size = Buffer(), run.path / "large", run.sizes.sequential
    with run.row("read-cold"):
        read_whole(file, "large", size, buffer)
    drop_page_cache()
    with run.row("read-again"):
        read_whole(file, "large", size, buffer)
    with run.row("read-cached"):
        read_unchecked(file, size, buffer)
    read_whole(file, "large", size, buffer)


def checked_file(server: Server, bucket: str, sizes: Sizes) -> None:
    """Seed a file whose uploader told its SHA-1, as rclone and b2 do; b2mount checks it."""
    digest = hashlib.sha1(pattern("checked", 0, sizes.checked), usedforsecurity=False).hexdigest()
    row = {"name": "checked", "size": sizes.checked, "info": {"large_file_sha1": digest}}
    server.emulator.seed(bucket, [row])


def checked(run: Run) -> None:
    buffer, size = Buffer(), run.sizes.checked
    with run.row("read-checked"):
        read_whole(run.path / "checked", "checked", size, buffer)


def random_reads(run: Run) -> None:
    buffer, size = Buffer(), run.sizes.huge
    places = [run.random.randrange(size // 4096) * 4096 for _ in range(run.sizes.random_reads)]
    with run.row("random-4k"):
        fd = os.open(run.path / "huge", os.O_RDONLY)
        for place in places:
            read_at(fd, "huge", place, 4096, buffer)
        os.close(fd)


def deep_reads(run: Run) -> None:
    length = 64 * KIB
    places = [run.random.randrange(run.sizes.huge // length) * length for _ in range(run.sizes.deep_reads)]
    buffers = threading.local()

    def read(place: int) -> None:
        if not hasattr(buffers, "own"):
            buffers.own = Buffer(length)
        read_at(fd, "huge", place, length, buffers.own)

    with ThreadPoolExecutor(DEPTH) as pool, run.row("random-64k"):
        fd = os.open(run.path / "huge", os.O_RDONLY)
        for done in [pool.submit(read, place) for place in places]:
            done.result()
        os.close(fd)


def first_bytes(run: Run) -> None:
    buffer = Buffer()
    with run.row("first-64k"):
        fd = os.open(run.path / "huge", os.O_RDONLY)
        read_at(fd, "huge", 0, 64 * KIB, buffer)
        os.close(fd)


def small_names(sizes: Sizes) -> list[str]:
    return [f"small/file{index:04}" for index in range(sizes.small_files)]


def many_small(server: Server, bucket: str, sizes: Sizes) -> None:
    server.emulator.seed(bucket, [{"name": name, "size": SMALL} for name in small_names(sizes)])


def small_serial(run: Run) -> None:
    buffer = Buffer(2 * SMALL)
    with run.row("small-serial"):
        for name in small_names(run.sizes):
            read_whole(run.path / name, name, SMALL, buffer)


def small_parallel(run: Run) -> None:
    def read(name: str) -> None:
        read_whole(run.path / name, name, SMALL, Buffer(2 * SMALL))

    with ThreadPoolExecutor(8) as pool, run.row("small-parallel"):
        list(pool.map(read, small_names(run.sizes)))


def two_readers(run: Run) -> None:
    def read(buffer: Buffer) -> None:
        read_whole(run.path / "shared", "shared", run.sizes.shared, buffer)

    buffers = [Buffer(), Buffer()]
    with ThreadPoolExecutor(2) as pool, run.row("two-readers"):
        list(pool.map(read, buffers))


def skipping(run: Run) -> None:
    buffer = Buffer()
    with run.row("skipping"):
        fd = os.open(run.path / "skipped", os.O_RDONLY)
        for place in range(0, run.sizes.skipped, SKIP):
            read_at(fd, "skipped", place, 64 * KIB, buffer)
        os.close(fd)


def mapped(run: Run) -> None:
    size = run.sizes.mapped
    expected = pattern("mapped", 0, size)
    with (
        run.row("mmap"),
        open(run.path / "mapped", "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory,
    ):
        for place in range(0, size, CHUNK):
            assert memory[place : place + CHUNK] == expected[place : place + CHUNK]
        assert len(memory) == size


def hay_names(sizes: Sizes) -> list[str]:
    return [f"hay/dir{index % 20:02}/file{index // 20:03}" for index in range(sizes.searched)]


def hay(server: Server, bucket: str, sizes: Sizes) -> None:
    names = hay_names(sizes)
    rows: list[dict[str, object]] = [{"name": name, "size": SMALL} for name in names]
    rows[len(names) // 2] = {"name": names[len(names) // 2], "content": NEEDLE.rjust(SMALL, "-")}
    server.emulator.seed(bucket, rows)


def grep(run: Run) -> None:
    command = ["grep", "-rlF", NEEDLE, str(run.path / "hay")]
    with run.row("grep"):
        done = subprocess.run(command, capture_output=True, text=True, env={"LC_ALL": "C"})
    names = hay_names(run.sizes)
    assert done.stdout == f"{run.path}/{names[len(names) // 2]}\n", done.stdout + done.stderr


def _file(name: str, size: Callable[[Sizes], int]) -> Callable[[Server, str, Sizes], None]:
    return lambda server, bucket, sizes: one_file(server, bucket, name, size(sizes))


_huge = _file("huge", lambda sizes: sizes.huge)
_few_bytes = Goal(BYTES, 0.05, is_far=True)  # rclone fetched 1,002 MB for 240 KiB wanted
_little_memory = Goal(MEMORY, 200, is_far=True)

WORKLOADS = (
    Workload(
        "sequential",
        KIND,
        (
            Row("read-cold", "read {sequential} from end to end, cold", goals(NEAR, 0.4)),
            Row("read-again", "read it again, page cache dropped", goals(NEAR, 0.6)),
            Row("read-cached", "read it again, from the page cache", goals(NEAR)),
        ),
        _file("large", lambda sizes: sizes.sequential),
        sequential,
        data="large",
    ),
    Workload(
        "checked",
        KIND,
        (Row("read-checked", "read {checked} of which B2 holds a SHA-1, cold", goals(NEAR, 0.4)),),
        checked_file,
        checked,
        data="checked",
    ),
    Workload(
        "random-4k",
        KIND,
        (
            Row(
                "random-4k",
                "{random_reads} random reads of 4 KiB in {huge}",
                goals(NEAR, 0.75, _few_bytes, _little_memory),
            ),
        ),
        _huge,
        random_reads,
        data="huge",
        limit_seconds=RANDOM_LIMIT_SECONDS,
    ),
    Workload(
        "random-64k",
        KIND,
        (
            Row(
                "random-64k",
                "{deep_reads} random reads of 64 KiB in {huge}, 16 at a time",
                goals(NEAR, 0.25, _few_bytes, _little_memory),
            ),
        ),
        _huge,
        deep_reads,
        data="huge",
        limit_seconds=RANDOM_LIMIT_SECONDS,
    ),
    Workload(
        "first-64k",
        KIND,
        (Row("first-64k", "the first 64 KiB of {huge}", goals(NEAR, 0.6)),),
        _huge,
        first_bytes,
        data="huge",
    ),
    Workload(
        "small-serial",
        KIND,
        (Row("small-serial", "{small_files} files of 16 KiB, one by one", goals(NEAR, 0.15)),),
        many_small,
        small_serial,
        data="small",
    ),
    Workload(
        "small-parallel",
        KIND,
        (Row("small-parallel", "{small_files} files of 16 KiB, eight at a time", goals(NEAR, 0.3)),),
        many_small,
        small_parallel,
        data="small",
    ),
    Workload(
        "two-readers",
        KIND,
        (Row("two-readers", "two readers of the same {shared} at once", goals(NEAR)),),
        _file("shared", lambda sizes: sizes.shared),
        two_readers,
        data="shared",
    ),
    Workload(
        "skipping",
        KIND,
        (Row("skipping", "64 KiB of every 4 MiB of {skipped}", goals(NEAR)),),
        _file("skipped", lambda sizes: sizes.skipped),
        skipping,
        data="skipped",
    ),
    Workload(
        "mmap",
        KIND,
        (Row("mmap", "{mapped} through mmap, from end to end", goals(NEAR)),),
        _file("mapped", lambda sizes: sizes.mapped),
        mapped,
        data="mapped",
    ),
    Workload(
        "grep",
        KIND,
        (Row("grep", "grep -r over {searched} files of 16 KiB in 20 directories", goals(NEAR)),),
        hay,
        grep,
        data="hay",
    ),
)
