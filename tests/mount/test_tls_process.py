"""Mounts over TLS: large reads by way of the process that does TLS, and what becomes of that process."""

import hashlib
import os
import signal
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.children import children_of, is_running, sockets_of, wait_until
from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount

pytestmark = pytest.mark.fuse

MIB = 1 << 20
PART = os.urandom(8 * MIB)
PARTS = 4
DIGEST = hashlib.sha256(PART * PARTS).hexdigest()


@pytest.fixture
def tls_mount(tls_emulator: Emulator, certificate: tuple[Path, Path], tmp_path: Path) -> Iterator[Mount]:
    bucket = f"test-{uuid.uuid4().hex[:16]}"
    tls_emulator.create_bucket(bucket)
    for name in ("first", "second"):
        tls_emulator.upload_large(bucket, name, [PART] * PARTS)
    for number in range(20):
        tls_emulator.upload(bucket, f"small/{number}", bytes([number]) * 10_000)
    options = ["--ca-file", str(certificate[0])]
    mount = Mount(tls_emulator, tmp_path, tls_emulator.create_key(ALL), source=bucket, options=options)
    mount.start()
    yield mount
    tls_emulator.network(bandwidth=None)
    if mount.is_mounted():
        assert mount.stop() == 0, mount.log()
    tls_emulator.wipe(bucket)


def helper_of(mount: Mount) -> int:
    """Read a large file; return the process that does TLS, ready for the next one."""
    assert digest_of(mount.path / "first") == DIGEST
    assert mount.process is not None
    pid = mount.process.pid
    wait_until(lambda: bool(children_of(pid)), "a process does TLS")
    (child,) = children_of(pid)
    wait_until(lambda: b"tls_relay" in Path(f"/proc/{child}/cmdline").read_bytes(), "it runs")
    wait_until(lambda: "anon_inode:[eventpoll]" in links_of(child), "it is ready")
    return child


def links_of(pid: int) -> list[str]:
    return [os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir() if file.is_symlink()]


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_small_files_need_no_process_of_their_own(tls_mount: Mount) -> None:
    for number in range(20):
        assert (tls_mount.path / f"small/{number}").read_bytes() == bytes([number]) * 10_000
    assert tls_mount.process is not None
    assert children_of(tls_mount.process.pid) == []


def test_a_read_goes_on_although_the_process_that_does_tls_is_killed(tls_mount: Mount) -> None:
    child = helper_of(tls_mount)
    tls_mount.emulator.network(bandwidth=4 * MIB)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(digest_of(tls_mount.path / "second")))
    reader.start()
    wait_until(lambda: sockets_of(child) > 2 or not reader.is_alive(), "it has connections")
    assert reader.is_alive(), "the read was over before anything could be killed"
    os.kill(child, signal.SIGKILL)
    tls_mount.emulator.network(bandwidth=None)
    reader.join()
    assert found == [DIGEST]
    assert not is_running(child)


def test_unmounting_leaves_no_process(tls_mount: Mount) -> None:
    child = helper_of(tls_mount)
    assert tls_mount.stop() == 0
    assert not Path(f"/proc/{child}").exists()


def test_a_mount_that_is_killed_takes_the_process_along(tls_mount: Mount) -> None:
    child = helper_of(tls_mount)
    tls_mount.kill()
    wait_until(lambda: not is_running(child), "the process that does TLS ends")


def test_without_tls_there_is_none(emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    emulator.upload_large(bucket, "first", [PART] * PARTS)
    mount = Mount(emulator, tmp_path, emulator.create_key(ALL), source=bucket).start()
    try:
        assert digest_of(mount.path / "first") == DIGEST
        assert mount.process is not None
        assert children_of(mount.process.pid) == []
    finally:
        assert mount.stop() == 0
