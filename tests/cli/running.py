"""Run the command line as users do: in a process of its own, with a home and an environment of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

MODULES = {
    "b2mount": "b2mount.cli.main",
    "mount.b2mount": "b2mount.cli.mount_helper",
    "umount.fuse.b2mount": "b2mount.cli.umount_helper",
}


@dataclass(frozen=True, slots=True)
class Shell:
    """A user's shell: a home directory and no variables but those given."""

    home: Path

    def environ(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "LANG") if name in os.environ}
        return {**kept, "HOME": str(self.home), **(extra or {})}

    def run(
        self,
        *words: str | Path,
        program: str = "b2mount",
        env: Mapping[str, str] | None = None,
        timeout: float = 240,
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end; standard output and error are kept apart."""
        return subprocess.run(
            [sys.executable, "-m", MODULES[program], *map(str, words)],
            env=self.environ(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


def processes_naming(text: str) -> list[int]:
    """Return the processes that have *text* among their words."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(text) in words:
                found.append(int(entry.name))
    return found


def wait_until(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def entries(directory: Path) -> list[str]:
    """Return the names in a directory, sorted."""
    return sorted(path.name for path in directory.iterdir())
