"""Who asks a mount over its control socket may go away at any time; the mount goes on."""

import contextlib
import json
import os
import socket
import sys
import time
from pathlib import Path

import pytest

from tests.mount.test_archives import DAY, T0, hide, put
from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount, mounted
from tests.support.semantics import wait_until

pytestmark = pytest.mark.fuse


@pytest.mark.parametrize("op", ["flush", "restore"])
def test_a_client_that_goes_away_while_it_waits_leaves_the_mount_alone(
    emulator: Emulator, bucket: str, tmp_path: Path, op: str
) -> None:
    emulator.seed(bucket, [put("dir/gone", "kept", T0), hide("dir/gone", T0 + DAY)])
    with mounted(emulator, tmp_path, bucket) as mount:
        emulator.fault(
            kind="stall", call="b2_copy_file" if op == "restore" else "b2_upload_file", seconds=1.5
        )
        if op == "flush":
            (mount.path / "file").write_text("content")
        with socket.socket(socket.AF_UNIX) as connection:
            control = Path(os.fsdecode(os.getxattr(mount.path, "user.b2mount.control")))
            directory = os.open(control.parent, os.O_PATH)  # an address has room for 107 bytes
            connection.connect(f"/proc/self/fd/{directory}/{control.name}")
            os.close(directory)
            connection.sendall(json.dumps({"op": op, "path": "dir"}).encode() + b"\n")
            time.sleep(0.5)
        name = "file" if op == "flush" else "dir/gone"
        wait_until(lambda: bool(emulator.list_names(bucket, name)), "what was begun is done")
        mount.flush()
        assert (mount.path / name).exists()
        assert "a control request failed" not in mount.log()


def test_more_clients_than_there_are_descriptors_leave_the_mount_alone(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    program = ("prlimit", "--nofile=100:100", sys.executable, "-m", "b2mount.cli.main")
    with Mount(emulator, tmp_path, emulator.create_key(ALL, [bucket]), program=program) as mount:
        control = Path(os.fsdecode(os.getxattr(mount.path, "user.b2mount.control")))
        directory = os.open(control.parent, os.O_PATH)  # an address has room for 107 bytes
        clients = []
        for _ in range(110):  # of which the mount accepts as many as it can; the rest wait
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            clients.append(client)
            with contextlib.suppress(BlockingIOError):
                client.connect(f"/proc/self/fd/{directory}/{control.name}")
            time.sleep(0.01)
        wait_until(lambda: "a control request was not accepted" in mount.log(), "there are none left")
        for client in clients:
            client.close()
        os.close(directory)
        (mount.path / "file").write_bytes(b"content")
        mount.flush()
        assert emulator.download(bucket, "file") == b"content"
