"""Run the command line as users do: in a process of its own, with a home and an environment of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MODULES = {"b2mount": "b2mount.cli.main", "mount.b2mount": "b2mount.cli.mount_helper"}


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
        timeout: float = 120,
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
