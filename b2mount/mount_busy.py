"""Find who uses a mounted file system, so that unmounting does not cut running programs off unasked."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def programs_using(mountpoint: Path) -> list[tuple[int, str]]:
    """Return process ID and name of each program with an open file, or its place, under a mount point.

    Looks at /proc, where a user sees his own processes and root sees all; asks the file system itself
    nothing. Blocks: call in a thread.
    """
    top = str(mountpoint.absolute())
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):  # it ended meanwhile, or belongs to somebody else
                if any(path == top or path.startswith(top + "/") for path in _places(entry)):
                    found.append((int(entry.name), (entry / "comm").read_text().strip()))
    return sorted(found)


def _places(process: Path) -> Iterator[str]:
    """Yield where a process is and what it has open."""
    for name in ("cwd", "root"):
        yield str((process / name).readlink())
    for link in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            yield str(link.readlink())
