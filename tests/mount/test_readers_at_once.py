"""Many readers at once: far away each waits for a round trip, and none for the round trips of the others."""

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from b2mount import fuse_background
from tests.support.emulator import Emulator, pattern
from tests.support.mount import mounted
from tests.support.semantics import wait_until

pytestmark = pytest.mark.fuse

READERS = 24
KERNELS_OWN = 12  # requests in the background; Linux, fs/fuse, FUSE_DEFAULT_MAX_BACKGROUND
LENGTH = 64 << 10
FILE_BYTES = 2_000_000_000  # too large to be fetched whole
FAR_MS = 2000  # to an answer


def may_change_the_kernels_limits() -> bool:
    try:
        os.close(fuse_background.open_connections())
    except OSError:
        return False
    return True


@pytest.mark.skipif(not may_change_the_kernels_limits(), reason="needs the right to mount fusectl: root")
def test_more_reads_are_under_way_at_once_than_the_kernel_allows_by_itself(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    emulator.seed(bucket, [{"name": "huge", "size": FILE_BYTES}])
    places = random.Random(1).sample(range(FILE_BYTES // LENGTH), READERS)
    with mounted(emulator, tmp_path, bucket) as mount:
        file = os.open(mount.path / "huge", os.O_RDONLY)

        def read(place: int) -> bytes:
            return os.pread(file, LENGTH, place * LENGTH)

        def downloads() -> int:
            busy = emulator.control("GET", "busy")["entries"]
            return sum(entry["call"] == "b2_download_file_by_id" for entry in busy)

        try:
            emulator.network(latency_ms=FAR_MS)
            with ThreadPoolExecutor(READERS) as pool:
                reading = [pool.submit(read, place) for place in places]
                wait_until(lambda: downloads() > KERNELS_OWN, "more than twelve are asked for at once")
                for place, done in zip(places, reading, strict=True):
                    assert done.result() == pattern("huge", place * LENGTH, LENGTH)
        finally:
            emulator.network(latency_ms=0)
            os.close(file)
