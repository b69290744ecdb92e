"""The resolver fails under a running mount: as when the network is away, and over when it answers again."""

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount
from tests.support.semantics import fresh_bucket, refused, wait_until

pytestmark = pytest.mark.fuse

# b2mount on a machine whose resolver fails as long as a file is there.
PROGRAM = """
import os, socket, sys
flag, look_up = sys.argv.pop(1), socket.getaddrinfo
def look_up_or_fail(*args, **kwargs):
    if os.path.exists(flag):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return look_up(*args, **kwargs)
socket.getaddrinfo = look_up_or_fail
from b2mount.cli.main import main
sys.exit(main())
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Emulator]:
    """A server of this test's own: it is stopped, so that no connection stays."""
    with Emulator(tmp_path / "emulator") as server:
        yield server


@pytest.mark.slow
def test_a_resolver_that_fails_costs_time_and_nothing_else(own: Emulator, tmp_path: Path) -> None:
    flag = tmp_path / "no names"
    with fresh_bucket(own) as bucket:
        own.upload(bucket, "old", b"old")
        options = ["--settle", "0.1", "--io-timeout", "6"]
        program = [sys.executable, "-c", PROGRAM, str(flag)]
        key = own.create_key(list(ALL), [bucket])
        with Mount(own, tmp_path / "b2", key, options=options, program=program) as mount:
            assert os.listdir(mount.path) == ["old"]
            flag.touch()
            own.stop()  # with all connections
            own.start()
            with refused(errno.ETIMEDOUT):
                (mount.path / "old").read_bytes()
            fd = os.open(mount.path / "new", os.O_CREAT | os.O_WRONLY)
            os.write(fd, b"new")
            with refused(errno.ETIMEDOUT):
                os.fsync(fd)
            os.close(fd)
            flag.unlink()
            wait_until(lambda: not mount.status()["pending"]["files"], "all is sent")
            assert sorted(os.listdir(mount.path)) == ["new", "old"]
            assert (mount.path / "old").read_bytes() == b"old"
        assert own.download(bucket, "new") == b"new"
        assert len(own.list_versions(bucket, "new")) == 1
