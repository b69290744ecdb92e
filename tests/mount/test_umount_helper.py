"""umount(8) with /sbin/umount.fuse.b2mount: it returns when all is in B2, or says why not."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import Mount, mounted

pytestmark = pytest.mark.fuse

UMOUNT_FAILED = 32
# /sbin of a mount namespace of its own holds the helper alone; what is unmounted outside is unmounted inside.
INSIDE = """set -e
PATH=/usr/bin:/bin
mount -t tmpfs none "$(readlink -f /sbin)"
printf '#!/bin/sh\\nexec %s -m b2mount.cli.umount_helper "$@"\\n' "$PYTHON" >"/sbin/$NAME"
chmod 755 "/sbin/$NAME"
exec umount "$@"
"""


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A directory under which an unmount is seen in other mount namespaces, too."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root can give umount(8) another /sbin")
    directory = tmp_path / "shared"
    directory.mkdir()
    if subprocess.run(["mount", "--bind", directory, directory], check=False).returncode:
        pytest.skip("nobody may mount here")
    try:
        subprocess.run(["mount", "--make-shared", directory], check=True)
        yield directory
    finally:
        subprocess.run(["umount", "-i", "-l", directory], check=True)


def umount(mount: Mount, *words: str, name: str = "umount.fuse") -> subprocess.CompletedProcess[str]:
    """Run umount(8) on a mount, with the helper installed as *name*."""
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "slave", "sh", "-c", INSIDE, "sh", *words, str(mount.path)],
        env={**os.environ, "PYTHON": sys.executable, "NAME": name},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("words", [(), ("-v",)])
def test_umount_returns_when_all_is_in_b2_and_the_process_has_ended(
    emulator: Emulator, bucket: str, shared: Path, words: tuple[str, ...]
) -> None:
    with mounted(emulator, shared, bucket, options=["--settle", "1h"]) as mount:
        (mount.path / "file").write_bytes(b"written last")
        done = umount(mount, *words)
        assert done.returncode == 0, done.stderr
        assert mount.process is not None
        assert mount.process.poll() == 0  # it had ended before umount returned
        assert not mount.is_mounted()
        assert emulator.download(bucket, "file") == b"written last"
        assert ("unmounted" in done.stdout) is ("-v" in words)


def test_what_cannot_be_sent_keeps_the_mount_unless_it_is_forced(
    emulator: Emulator, bucket: str, shared: Path
) -> None:
    key = emulator.create_key(["listFiles", "readFiles", "writeFiles"], [bucket])
    mount = Mount(emulator, shared, key, options=["--settle", "1h"]).start()
    try:
        (mount.path / "file").write_bytes(b"kept")
        emulator.delete_key(key[0])
        done = umount(mount)
        assert done.returncode == UMOUNT_FAILED, done.stderr
        assert "file is not in B2" in done.stderr
        assert mount.is_mounted()
        done = umount(mount, "-f", name="umount.fuse.b2mount")
        assert done.returncode == UMOUNT_FAILED, done.stderr
        assert "it is kept in" in done.stderr
        assert not mount.is_mounted()
    finally:
        mount.kill()


def test_a_dead_mount_is_cleared(emulator: Emulator, bucket: str, shared: Path) -> None:
    with mounted(emulator, shared, bucket) as mount:
        assert mount.process is not None
        mount.process.kill()
        mount.process.wait()
        done = umount(mount)
        assert done.returncode == 0, done.stderr


def test_a_mount_of_another_program_is_left_to_umount(tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root may mount")
    script = (
        'mount -t tmpfs none "$2" || exit 77; "$1" -m b2mount.cli.umount_helper "$2" && ! mountpoint -q "$2"'
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip("nobody may mount here")
    assert done.returncode == 0, done.stderr
