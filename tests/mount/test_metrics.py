"""Metrics of a real mount: what is served is what is documented, counts are true, and no scraper harms."""

import contextlib
import http.client
import os
import re
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.emulator import Emulator
from tests.support.mount import Mount, MountFailed, mounted
from tests.support.semantics import fresh_bucket, wait_until
from tests.test_alerts import promtool

pytestmark = pytest.mark.fuse

DOCS = Path(__file__).parent.parent.parent / "docs"
ROW = re.compile(r"^\| `(b2mount_\w+)` \| (gauge|counter|histogram) \| \S", re.MULTILINE)
Key = tuple[str, tuple[tuple[str, str], ...]]


class Scraped:
    """What one scrape gave."""

    def __init__(self, text: str) -> None:
        self.kinds: dict[str, str] = {}
        self.samples: dict[Key, float] = {}
        for family in text_string_to_metric_families(text):
            name = family.name
            if family.type == "counter":
                name += "_total"
            self.kinds[name] = family.type
            assert family.documentation
            for sample in family.samples:
                key = (sample.name, tuple(sorted(sample.labels.items())))
                assert key not in self.samples, "each once"
                self.samples[key] = sample.value

    def get(self, name: str, /, **labels: str) -> float:
        return self.samples[name, tuple(sorted(labels.items()))]


def address_of(mount: Mount) -> tuple[str, int]:
    words = re.compile(r"metrics are served on http://([\d.]+):(\d+)/metrics")
    wait_until(lambda: words.search(mount.log()) is not None, "the log names the address")
    found = words.search(mount.log())
    assert found
    return found[1], int(found[2])


def request(mount: Mount, target: str = "/metrics", method: str = "GET") -> tuple[int, str, str]:
    connection = http.client.HTTPConnection(*address_of(mount), timeout=240)
    try:
        connection.request(method, target)
        answer = connection.getresponse()
        return answer.status, answer.headers.get("Content-Type", ""), answer.read().decode()
    finally:
        connection.close()


def scrape(mount: Mount) -> Scraped:
    status, kind, text = request(mount)
    assert status == 200
    assert kind.startswith("text/plain; version=")
    return Scraped(text)


@pytest.fixture(scope="module")
def mount(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    base = tmp_path_factory.mktemp("metrics")
    options = ["--metrics", "0", "--max-class-c-per-day", "1000", "--settle", "0s"]
    with fresh_bucket(emulator) as bucket:
        emulator.upload(bucket, "old", bytes(1000))
        emulator.upload(bucket, "unseen", bytes(10))
        key = emulator.create_key(["listFiles", "readFiles", "writeFiles"], [bucket], seconds=86_400)
        with Mount(emulator, base, key, source=bucket, options=options) as made:
            (made.path / "old").read_bytes()
            (made.path / "new").write_bytes(bytes(500))
            made.flush()
            try:
                emulator.caps(class_b=0)
                with pytest.raises(OSError, match="quota"):
                    (made.path / "unseen").read_bytes()
                yield made
            finally:
                emulator.caps()


def test_every_metric_that_is_served_is_documented_and_the_reverse(mount: Mount) -> None:
    served = {name: kind for name, kind in scrape(mount).kinds.items() if name.startswith("b2mount_")}
    documented = dict(ROW.findall((DOCS / "monitoring.md").read_text()))
    may_be_absent = {"b2mount_failing_seconds"}  # where all is well again
    assert {n: k for n, k in documented.items() if n not in may_be_absent} == {
        n: k for n, k in served.items() if n not in may_be_absent
    }


def test_prometheus_finds_nothing_to_complain_of_in_what_is_served(mount: Mount) -> None:
    assert promtool("check", "metrics", stdin=request(mount)[2]) == ""


def test_the_numbers_are_those_of_status(mount: Mount) -> None:
    facts, told = mount.status(), scrape(mount)
    assert told.get("b2mount_build_info", version=facts["version"]) == 1
    assert told.get("b2mount_mount_info", mountpoint=str(mount.path), source=facts["source"]) == 1
    assert told.get("b2mount_bytes_total", direction="down") == facts["bytes"]["down"] == 1000
    lists = told.get("b2mount_api_calls_total", name="b2_list_file_names", **{"class": "C"})
    assert lists == facts["calls"]["by_name"]["b2_list_file_names"]
    assert told.get("b2mount_transactions_total", **{"class": "A"}) >= 2
    assert told.get("b2mount_today_transactions", **{"class": "B"}) == facts["today"]["B"]
    assert told.get("b2mount_key_expiry_timestamp_seconds") == facts["key"]["expires_ms"] / 1000
    assert told.get("b2mount_budget_limit", item="class_c") == 1000
    assert 0 < told.get("b2mount_budget_used_ratio", item="class_c") < 1
    assert told.get("b2mount_cap_active", cap="download") == 1
    count = told.get("b2mount_request_seconds_count", name="b2_list_file_names")
    assert count == told.get("b2mount_request_seconds_bucket", name="b2_list_file_names", le="+Inf") == lists
    assert told.get("process_resident_memory_bytes") > 1 << 20


def test_no_file_name_and_no_key_is_in_it(mount: Mount) -> None:
    text = request(mount)[2]
    assert mount.key[0] not in text
    assert mount.key[1] not in text
    assert "unseen" not in text


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [("GET", "/", 200), ("HEAD", "/metrics", 200), ("GET", "/x", 404), ("POST", "/metrics", 405)],
)
def test_what_else_may_be_asked(mount: Mount, method: str, target: str, status: int) -> None:
    assert request(mount, target, method)[0] == status


@pytest.mark.parametrize("said", [b"GET /metrics HTTP/1.1\r\n", b"\x16\x03\x01\r\n\r\n", b"x" * 20_000])
def test_a_scraper_that_hangs_or_talks_nonsense_harms_nobody(mount: Mount, said: bytes) -> None:
    with socket.create_connection(address_of(mount), timeout=240) as connection:
        connection.sendall(said)
        assert scrape(mount).samples
        assert (mount.path / "old").stat().st_size == 1000
        try:
            answer = connection.recv(65536)
        except ConnectionError:
            answer = b""
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")


def test_metrics_can_be_asked_on_a_socket_also_after_a_crash(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    path = tmp_path / "metrics.sock"
    options = ["--metrics", f"unix:{path}"]
    key = emulator.create_key(["listFiles", "readFiles"], [bucket])
    Mount(emulator, tmp_path, key, options=options).start().kill()
    assert stat.S_ISSOCK(path.stat().st_mode)
    with Mount(emulator, tmp_path, key, options=options):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(240)
            connection.connect(str(path))
            connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            with connection.makefile("rb") as answer:
                head, _, body = answer.read().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert Scraped(body.decode()).get("b2mount_read_only") == 1
        with pytest.raises(MountFailed, match=r"metrics cannot be served on unix:.*in use"):
            Mount(emulator, tmp_path / "other", key, options=options).start()
    assert not os.path.exists(path)


def test_without_the_option_nothing_listens(emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    with mounted(emulator, tmp_path, bucket) as mount:
        assert mount.process is not None
        sockets = Path(f"/proc/{mount.process.pid}/fd")
        inodes = set()
        for fd in os.listdir(sockets):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                inodes.add(os.readlink(sockets / fd))
        listening = [
            line.split()[9]
            for line in Path(f"/proc/{mount.process.pid}/net/tcp").read_text().splitlines()[1:]
            if line.split()[3] == "0A"
        ]
        assert not [inode for inode in listening if f"socket:[{inode}]" in inodes]
