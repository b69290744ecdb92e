"""The two mounts that are compared: b2mount's and rclone's, on the same emulator, each in its own process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

from tests.support.emulator import Emulator, find_program
from tests.support.mount import Mount

END_SECONDS = 120.0
SETTLED_SECONDS = 0.05  # between two looks at rclone's queue of uploads


class Contender(Protocol):
    """One file system under measurement."""

    name: str
    path: Path

    def start(self) -> None:
        """Mount with nothing cached."""

    def flush(self) -> None:
        """Return when all that was written is in B2."""

    def pid(self) -> int:
        """Return the process that serves the mount."""

    def stop(self) -> None:
        """Unmount and forget all that was cached."""


class Ours:
    """b2mount."""

    name = "b2mount"

    def __init__(self, emulator: Emulator, base: Path, key: tuple[str, str], bucket: str) -> None:
        self._mount = Mount(emulator, base, key, source=bucket, log_level="warning")
        self.path = self._mount.path

    def start(self) -> None:
        self._mount.start()

    def flush(self) -> None:
        self._mount.flush()

    def pid(self) -> int:
        assert self._mount.process is not None
        return self._mount.process.pid

    def stop(self) -> None:
        assert self._mount.stop() == 0, self._mount.log()
        for directory in (self._mount.state, self._mount.cache):
            subprocess.run(["rm", "-rf", str(directory)], check=True)
            directory.mkdir()


class Rclone:
    """rclone mount in its better configuration: --vfs-cache-mode full, and every upload in parallel."""

    name = "rclone"

    def __init__(self, emulator: Emulator, base: Path, key: tuple[str, str], bucket: str) -> None:
        self.path, self._cache, self._log = base / "mnt", base / "cache", base / "log"
        self.path.mkdir(parents=True)
        program = find_program("rclone")
        assert program is not None, "rclone is not installed"
        self._program = program
        self._bucket = bucket
        self._process: subprocess.Popen[bytes] | None = None
        self._control = base / "rc.sock"
        self._environment = {
            **os.environ,
            "RCLONE_CONFIG": str(base / "rclone.conf"),
            "RCLONE_CONFIG_X_TYPE": "b2",
            "RCLONE_CONFIG_X_ACCOUNT": key[0],
            "RCLONE_CONFIG_X_KEY": key[1],
            "RCLONE_CONFIG_X_ENDPOINT": emulator.url,
        }

    def start(self) -> None:
        words = ["mount", f"X:{self._bucket}", str(self.path), "--vfs-cache-mode", "full"]
        words += ["--cache-dir", str(self._cache), "--dir-cache-time", "60s", "--attr-timeout", "60s"]
        words += ["--vfs-write-back", "1s", "--transfers", "16", "--vfs-read-chunk-streams", "8"]
        words += ["--vfs-read-chunk-size", "8M", "--log-file", str(self._log)]
        words += ["--rc", "--rc-no-auth", "--rc-addr", f"unix://{self._control}"]
        self._process = subprocess.Popen([self._program, *words], env=self._environment)
        while f" {self.path} " not in Path("/proc/self/mountinfo").read_text():
            assert self._process.poll() is None, self._log.read_text()
            time.sleep(0.01)

    def flush(self) -> None:
        deadline = time.monotonic() + END_SECONDS
        while self._queued():
            assert time.monotonic() < deadline, "rclone's uploads do not end"
            time.sleep(SETTLED_SECONDS)

    def _queued(self) -> bool:
        words = [self._program, "rc", "--unix-socket", str(self._control), "vfs/stats"]
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=self._environment)
        lines = [line for line in done.stdout.splitlines() if "uploads" in line]
        assert lines, done.stdout
        return any(int(line.split(":")[1].strip(" ,")) for line in lines)

    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(END_SECONDS)
        while f" {self.path} " in Path("/proc/self/mountinfo").read_text():
            subprocess.run(["umount", "-l", str(self.path)], check=True)
        subprocess.run(["rm", "-rf", str(self._cache)], check=True)


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_memory_bytes(pid: int) -> int:
    """Return the greatest resident set that a process has had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def drop_page_cache() -> None:
    """Have the kernel forget what it read, so that both begin cold; needs root."""
    subprocess.run(["sync"], check=True)
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def say(text: str) -> None:
    """Tell how far the run is."""
    print(text, file=sys.stderr, flush=True)
