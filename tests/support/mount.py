"""A real mount for tests: `b2mount mount` in a process of its own, on the emulator, through the kernel."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.emulator import Emulator

ALL = ("listBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles")
READY_SECONDS = 120.0
END_SECONDS = 240.0


class MountFailed(Exception):
    """`b2mount mount` ended before it was ready; the text is what it said."""


class Mount:
    """One mount of one key. `path` is the mount point; `state` and `cache` stay between mounts."""

    def __init__(
        self,
        emulator: Emulator,
        base: Path,
        key: tuple[str, str],
        *,
        source: str | None = None,
        options: Sequence[str] = (),
        log_level: str = "info",
        program: Sequence[str] = (sys.executable, "-m", "b2mount.cli.main"),
    ) -> None:
        self.program = list(program)
        self.emulator = emulator
        self.path = base / "mnt"
        self.state = base / "state"
        self.cache = base / "cache"
        self.log_path = base / "mount.log"
        self.key = key
        self.source = source
        self.options = list(options)
        self.log_level = log_level
        self.process: subprocess.Popen[bytes] | None = None
        for directory in (self.path, self.state, self.cache):
            directory.mkdir(parents=True, exist_ok=True)

    def start(self) -> Self:
        """Mount, and wait until the kernel shows it. Raises MountFailed."""
        command = [*self.program, "mount", "--endpoint", self.emulator.url]
        command += ["--state-dir", str(self.state), "--cache-dir", str(self.cache)]
        command += ["--log-level", self.log_level, *self.options]
        command += [self.source] if self.source else []
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("B2_", "B2MOUNT_", "XDG_"))}
        environ |= {"B2_APPLICATION_KEY_ID": self.key[0], "B2_APPLICATION_KEY": self.key[1]}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, str(self.path)], env=environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + READY_SECONDS
        while not self.is_mounted():
            if self.process.poll() is not None:
                raise MountFailed(self.log())
            if time.monotonic() > deadline:
                self.kill()
                raise MountFailed(f"not ready in {READY_SECONDS} s:\n{self.log()}")
            time.sleep(0.01)
        return self

    def start_refused(self, *words: str) -> str:
        """Demand that mounting ends with exit status 1 and a log that says *words*; return what it said."""
        before = len(self.log())
        try:
            self.start()
        except MountFailed:
            assert self.process is not None
            said = self.log()[before:]
            assert self.process.returncode == 1, said
            assert [word for word in words if word not in said] == [], said
            assert "Traceback" not in said, said
            return said
        self.kill()
        raise AssertionError(f"it was mounted:\n{self.log()[before:]}")

    def is_mounted(self) -> bool:
        """Say whether the kernel has a file system at the mount point."""
        escaped = str(self.path).replace(" ", "\\040")  # proc(5)
        return f" {escaped} " in Path("/proc/self/mountinfo").read_text()

    def stop(self) -> int:
        """End the mount by SIGTERM, which flushes; return its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait for the process to end by itself; return its exit status."""
        assert self.process is not None
        try:
            status = self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the mount did not end in {END_SECONDS} s:\n{self.log()}") from None
        self._clear_mount_point()
        return status

    def kill(self) -> None:
        """End the process as a crash would (SIGKILL) and clear the dead mount point."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self._clear_mount_point()

    def _clear_mount_point(self) -> None:
        while self.is_mounted():
            subprocess.run(["umount", "-l", str(self.path)], check=True)

    def remount(self, *, empty_cache: bool = False) -> Self:
        """Unmount with a flush and mount again; with *empty_cache* nothing local is kept."""
        assert self.stop() == 0, self.log()
        if empty_cache:
            for directory in (self.state, self.cache):
                subprocess.run(["rm", "-rf", str(directory)], check=True)
                directory.mkdir()
        return self.start()

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `b2mount WORDS...` with the mount point as its last word."""
        command = [sys.executable, "-m", "b2mount.cli.main", *words, str(self.path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=END_SECONDS, check=False)

    def flush(self) -> None:
        """Have everything written so far in B2."""
        done = self.ask("flush")
        assert done.returncode == 0, done.stderr + self.log()

    def status(self) -> dict[str, Any]:
        """Return what `b2mount status --json` says."""
        done = self.ask("status", "--json")
        assert done.returncode == 0, done.stderr + self.log()
        status: dict[str, Any] = json.loads(done.stdout)
        return status

    def log(self) -> str:
        """Return all that the mount said so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is None:
            return
        if self.process.poll() is None and kind is None:
            status = self.stop()
            assert status == 0, f"exit status {status}\n{self.log()}"
        else:
            self.kill()
        if kind is None:
            assert "Traceback" not in self.log(), self.log()


@contextlib.contextmanager
def mounted(
    emulator: Emulator,
    base: Path,
    bucket: str,
    *,
    prefix: str | None = None,
    capabilities: Sequence[str] = ALL,
    source: str | None = None,
    options: Sequence[str] = (),
) -> Iterator[Mount]:
    """Mount *bucket* by a fresh key; unmount at the end, and demand a clean end and no traceback."""
    key = emulator.create_key(list(capabilities), [bucket], prefix)
    with Mount(emulator, base, key, source=source, options=options) as mount:
        yield mount
