"""The mounts that are compared: b2mount, and rclone mount as it comes and tuned, on the same emulator.

Each is one process, mounted with nothing cached, and knows how to say that all that was written is in B2.
"""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from b2mount.cli.control import ask
from tests.benchmarks.networks import Server
from tests.support.emulator import find_program
from tests.support.mount import ALL, Mount

END_SECONDS = 60.0
SETTLED_SECONDS = 0.01  # between two looks at rclone's queue of uploads

# rclone's own pages, `rclone mount`: "a reasonable place to start might be --vfs-read-chunk-streams 16 and
# --vfs-read-chunk-size 4M"; "--vfs-read-ahead is set large" with --vfs-cache-mode full; --transfers "adjusts
# the number of parallel uploads"; and `rclone b2`, --b2-upload-concurrency: "increasing this may help". The
# waiting before an upload is as short as it goes without making close() wait, which is rclone's best case.
TUNED = (
    "--vfs-read-chunk-streams 16 --vfs-read-chunk-size 4M --buffer-size 16M --vfs-read-ahead 128M"
    " --dir-cache-time 1h --attr-timeout 60s --transfers 16 --b2-upload-concurrency 16 --vfs-write-back 100ms"
)


class Contender(Protocol):
    """One file system under measurement."""

    path: Path

    def start(self) -> None:
        """Mount with nothing cached; return when the kernel shows it."""

    def flush(self, arrived: Callable[[], bool]) -> None:
        """Return when all that was written is in B2; *arrived* says that B2 took as many files as it must."""

    def pid(self) -> int:
        """Return the process that serves the mount."""

    def stop(self) -> None:
        """Unmount in good order."""

    def kill(self) -> None:
        """End the process, whatever it does, and clear the mount point."""

    def log(self) -> str:
        """Return what the mount said."""


class Ours:
    """b2mount, with the options that it has when none is given."""

    def __init__(self, server: Server, base: Path, key: tuple[str, str], bucket: str) -> None:
        options = ["--ca-file", str(server.cafile)] if server.cafile else []
        self._mount = Mount(server.emulator, base, key, source=bucket, log_level="warning", options=options)
        self.path = self._mount.path

    def start(self) -> None:
        self._mount.start()

    def flush(self, arrived: Callable[[], bool]) -> None:
        *_, last = ask(self.path, {"op": "flush", "timeout": END_SECONDS}, patience=END_SECONDS)
        assert last["ok"], last

    def pid(self) -> int:
        assert self._mount.process is not None
        return self._mount.process.pid

    def stop(self) -> None:
        assert self._mount.stop() == 0, self._mount.log()

    def kill(self) -> None:
        self._mount.kill()

    def log(self) -> str:
        return self._mount.log()


class Rclone:
    """rclone mount --vfs-cache-mode full, and what more it is told."""

    flags: tuple[str, ...] = ()

    def __init__(self, server: Server, base: Path, key: tuple[str, str], bucket: str) -> None:
        self.path, self._log, self._control = base / "mnt", base / "log", base / "rc.sock"
        self.path.mkdir(parents=True)
        program = find_program("rclone")
        assert program is not None, "rclone is not installed: pip install '.[bench]'"
        self._process: subprocess.Popen[bytes] | None = None
        self._command = [program, "mount", f"X:{bucket}", str(self.path), "--vfs-cache-mode", "full"]
        self._command += ["--cache-dir", str(base / "cache"), "--log-file", str(self._log), *self.flags]
        self._command += ["--rc", "--rc-no-auth", "--rc-addr", f"unix://{self._control}"]
        self._command += ["--ca-cert", str(server.cafile)] if server.cafile else []
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RCLONE_")},
            "RCLONE_CONFIG": str(base / "rclone.conf"),
            "RCLONE_CONFIG_X_TYPE": "b2",
            "RCLONE_CONFIG_X_ACCOUNT": key[0],
            "RCLONE_CONFIG_X_KEY": key[1],
            "RCLONE_CONFIG_X_ENDPOINT": server.emulator.url,
        }

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + END_SECONDS
        while not self._is_mounted():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, "rclone does not mount"
            time.sleep(0.01)
        self.path.stat()  # answered when its fusermount3 has ended, which would be measured while it goes

    def _is_mounted(self) -> bool:
        return f" {self.path} " in Path("/proc/self/mountinfo").read_text()

    def flush(self, arrived: Callable[[], bool]) -> None:
        # Its queue alone does not tell: close() returns before rclone is told, and where a file was changed
        # in part, it fetches the rest before it queues the upload.
        deadline = time.monotonic() + END_SECONDS
        while not arrived() or self._pending():
            assert time.monotonic() < deadline, "rclone's uploads do not end"
            time.sleep(SETTLED_SECONDS)

    def _pending(self) -> int:
        connection = _UnixConnection(self._control)
        try:
            connection.request("POST", "/vfs/stats", body=b"{}", headers={"Content-Type": "application/json"})
            cache = json.loads(connection.getresponse().read())["diskCache"]
        finally:
            connection.close()
        return int(cache["uploadsInProgress"]) + int(cache["uploadsQueued"])

    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(END_SECONDS)
        self._clear()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._clear()

    def _clear(self) -> None:
        while self._is_mounted():
            subprocess.run(["umount", "-l", str(self.path)], check=True)

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""


class TunedRclone(Rclone):
    """rclone with the flags that its own documentation advises for object stores that are far away."""

    flags = tuple(TUNED.split())


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket, so that asking rclone costs no process."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=END_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(END_SECONDS)
        self.sock.connect(str(self._path))


OURS = "b2mount"
CONTENDERS: dict[str, type[Ours] | type[Rclone]] = {
    OURS: Ours,
    "rclone": Rclone,
    "rclone-tuned": TunedRclone,
}


def make(name: str, server: Server, base: Path, bucket: str) -> Contender:
    """Make one contender for one bucket, with a key of its own for that bucket."""
    key = server.emulator.create_key(ALL, [bucket])
    return CONTENDERS[name](server, base, key, bucket)


def remove(base: Path) -> None:
    """Remove what a contender kept; nothing may be mounted below."""
    assert f" {base}/" not in Path("/proc/self/mountinfo").read_text()
    shutil.rmtree(base)
