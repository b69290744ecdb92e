"""A mount whose clocks a test may put forward, so that a key's end is not a matter of waiting."""

import sys
from pathlib import Path

HOURS = 24
PROGRAM = f"""
import os, sys, time
passed, stepped = sys.argv.pop(1), sys.argv.pop(1)
now, now_ns, get = time.time, time.time_ns, time.clock_gettime
ahead = lambda *flags: {HOURS} * 3600 if any(map(os.path.exists, flags)) else 0
time.time = lambda: now() + ahead(passed, stepped)
time.time_ns = lambda: now_ns() + ahead(passed, stepped) * 10**9
time.clock_gettime = lambda which: get(which) + ahead(passed)
from b2mount import mount_key
from b2mount.cli.main import main
mount_key.LONGEST_SLEEP = 0.2
sys.exit(main())
"""


class Clock:
    """The clocks of the mounts that are started by `program`."""

    def __init__(self, base: Path) -> None:
        self._passed = base / "a day later"
        self._stepped = base / "set wrong by a day"

    @property
    def program(self) -> list[str]:
        """The words that start b2mount by these clocks."""
        return [sys.executable, "-c", PROGRAM, str(self._passed), str(self._stepped)]

    def jump(self) -> None:
        """Let it be a day later."""
        self._passed.touch()

    def set_wrong(self) -> None:
        """Let the clock on the wall say that it is a day later."""
        self._stepped.touch()

    def set_right(self) -> None:
        """Let the clock on the wall tell the time again."""
        self._stepped.unlink()
