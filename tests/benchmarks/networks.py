"""The three networks of the benchmark, and the server that plays each of them.

Knows how to start an emulator and what it is told; not what is measured on it.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.emulator import Emulator

MEMORY = Path("/dev/shm")
MEMORY_NEEDED = 6 << 30  # bytes: two mounts' uploads and copies of them, with room to spare

NEAR = {"latency_ms": 0, "bandwidth": None, "list_ms_per_1000": 0}


@dataclass(frozen=True, slots=True)
class Network:
    """How far away the server pretends to be."""

    name: str
    words: str  # for the page
    is_far: bool = False
    has_tls: bool = False
    latency_ms: int = 0
    bandwidth: int | None = None  # bytes a second, of each connection and direction
    list_ms_per_1000: int = 0

    @property
    def settings(self) -> dict[str, float | None]:
        """What the emulator is told."""
        return {
            "latency_ms": self.latency_ms,
            "bandwidth": self.bandwidth,
            "list_ms_per_1000": self.list_ms_per_1000,
        }


NETWORKS = {
    network.name: network
    for network in (
        Network("loopback", "the loopback interface as it is, plain HTTP"),
        Network("tls", "the loopback interface, HTTPS", has_tls=True),
        Network(
            "far",
            "40 ms to the first byte of each answer, 25 MB/s a connection and direction, 100 ms for each"
            " 1,000 rows listed; plain HTTP",
            is_far=True,
            latency_ms=40,
            bandwidth=25_000_000,
            list_ms_per_1000=100,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Server:
    """A running emulator and what a client needs to trust it."""

    emulator: Emulator
    cafile: Path | None


def choose_data_directory() -> Path | None:
    """Return where the emulator's content is to lie: in memory if there is room, not to measure a disk."""
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_NEEDED:
        return MEMORY
    return None


@contextmanager
def serving(network: Network, data: Path) -> Iterator[Server]:
    """Run an emulator on *data*, as near as it can be; ends it."""
    data.mkdir()
    if not network.has_tls:
        with Emulator(data / "server") as emulator:
            yield Server(emulator, None)
        return
    certificate, key = data / "certificate.pem", data / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    words = ["--tls-cert", str(certificate), "--tls-key", str(key)]
    with Emulator(data / "server", arguments=words, cafile=certificate) as emulator:
        yield Server(emulator, certificate)
