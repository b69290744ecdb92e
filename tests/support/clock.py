"""A mount whose clock a test may put forward, so that a key's end is not a matter of waiting."""

import sys
from pathlib import Path

HOURS = 24
PROGRAM = f"""
import os, sys, time
flag, now, now_ns = sys.argv.pop(1), time.time, time.time_ns
time.time = lambda: now() + ({HOURS} * 3600 if os.path.exists(flag) else 0)
time.time_ns = lambda: now_ns() + ({HOURS} * 3600 * 10**9 if os.path.exists(flag) else 0)
from b2mount import mount_key
from b2mount.cli.main import main
mount_key.LONGEST_SLEEP = 0.2
sys.exit(main())
"""


class Clock:
    """The wall clock of the mounts that are started by `program`."""

    def __init__(self, base: Path) -> None:
        self._flag = base / "a day later"

    @property
    def program(self) -> list[str]:
        """The words that start b2mount by this clock."""
        return [sys.executable, "-c", PROGRAM, str(self._flag)]

    def jump(self) -> None:
        """Let it be a day later."""
        self._flag.touch()
