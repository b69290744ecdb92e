"""How fast the emulator itself is, asked by plain HTTP clients: what no mount on it can exceed."""

import threading
import time
from collections.abc import Callable

from tests.benchmarks.content import CHUNK
from tests.benchmarks.networks import NEAR, Server

DOWNLOADED = 512 << 20
BUCKET = "bench-ceiling"
NAMES = 10_000
SMALL_PAGE = 1_000
CONNECTIONS = (1, 4, 8)


def measure_ceilings(server: Server, *, is_quick: bool) -> dict[str, float]:
    """Return megabytes a second by connections, listing pages and small downloads a second."""
    emulator, size = server.emulator, DOWNLOADED // 16 if is_quick else DOWNLOADED
    emulator.network(**NEAR)
    emulator.create_bucket(BUCKET)
    emulator.seed(BUCKET, [{"name": "huge", "size": size}])
    values = {"bucket": BUCKET, "pattern": "n/%06d", "count": NAMES, "size": 1000}
    emulator.control("POST", "seed", values)
    found = {f"download_{count}_MB_s": _download(server, size, count) for count in CONNECTIONS}
    pages, repeats = {"bucketId": emulator.bucket_id(BUCKET)}, 3 if is_quick else 20
    found["pages_of_1000_a_s"] = _rate(
        repeats, lambda: emulator.ask("b2_list_file_names", {**pages, "maxFileCount": SMALL_PAGE})
    )
    found["pages_of_10000_a_s"] = _rate(
        max(2, repeats // 5), lambda: emulator.ask("b2_list_file_names", {**pages, "maxFileCount": NAMES})
    )
    found["small_downloads_a_s"] = _rate(
        repeats * 10, lambda: emulator.get(f"/file/{BUCKET}/huge", range_="bytes=0-999")
    )
    emulator.wipe(BUCKET)
    return found


def _rate(count: int, call: Callable[[], object]) -> float:
    call()
    began = time.perf_counter()
    for _ in range(count):
        call()
    return round(count / (time.perf_counter() - began), 1)


def _download(server: Server, size: int, count: int) -> float:
    """Return the megabytes a second of *count* connections that share a file."""
    token, each, done = server.emulator.master_token(), size // count, []

    def fetch(index: int) -> None:
        connection, buffer, got = server.emulator.connect(), bytearray(CHUNK), 0
        headers = {"Authorization": token, "Range": f"bytes={index * each}-{(index + 1) * each - 1}"}
        connection.request("GET", f"/file/{BUCKET}/huge", headers=headers)
        response = connection.getresponse()
        while part := response.readinto(buffer):
            got += part
        connection.close()
        done.append(got)

    threads = [threading.Thread(target=fetch, args=(index,)) for index in range(count)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    assert done == [each] * count
    return round(size / seconds / 1e6)
