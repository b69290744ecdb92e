"""The processes that another one has started, as the kernel tells."""

import os
import time
from collections.abc import Callable
from pathlib import Path

SECONDS = 60.0


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started and not yet waited for."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(word) for task in tasks for word in (task / "children").read_text().split()]


def is_running(pid: int) -> bool:
    """Say whether a process is there, and not merely waiting to be waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def sockets_of(pid: int) -> int:
    """Return how many sockets a process holds."""
    found = 0
    for file in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found += os.readlink(file).startswith("socket:")
        except OSError:  # closed meanwhile
            continue
    return found


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Return when something holds; fail after a minute."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"not so in {SECONDS:.0f} s: {what}"
        time.sleep(0.01)
