"""Files in the spool that no change names: which are rubbish of a crash, and which were promised to somebody.

A file of the spool is marked, by an extended attribute, once the write of the journal that promises its bytes
is on the disk: with the number of that write, and the file's name. So what has no mark was never closed or
synced, and what a later write struck off is told from what the journal never heard of. What cannot be told is
kept under another name. Knows no rows.
"""

import contextlib
import logging
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from b2mount.core.errors import LocalStorageError
from b2mount.core.words import show_count, show_size
from b2mount.journal.drafts import local_error

log = logging.getLogger("b2mount.journal")

LOST = "lost-"  # before the number of a file that is kept
SALVAGE = "what can be read of it is shown and saved by: b2mount recover --state-dir"
_MARK = "user.b2mount"
_NAME_BYTES = 1024  # B2's longest


@dataclass(frozen=True, slots=True)
class Stray:
    """A file of the spool that no change names."""

    path: Path
    size: int
    changed_ms: int
    write: int | None  # of the journal, which promised its bytes; None: not known that any did
    name: str  # that the bytes were for; "" where it is not known


def mark(path: Path, write: int, name: str) -> None:
    """Note on a spool file that the journal promises its bytes; nothing where the disk cannot."""
    with contextlib.suppress(OSError):
        text = f"{write} {name}".encode(errors="surrogatepass")
        os.setxattr(path, _MARK, text[: _NAME_BYTES + 20], follow_symlinks=False)


def are_marked(spool: Path) -> bool:
    """Say whether the files of a spool are marked, so that what has no mark was not promised."""
    with contextlib.suppress(OSError):
        os.getxattr(spool, _MARK)
        return True
    return False


def begin_marking(spool: Path) -> None:
    """Note on the spool that its files are marked from now on."""
    if not are_marked(spool):
        mark(spool, 0, "")


def find_strays(spool: Path, known: Collection[int]) -> Iterator[Stray]:
    """Yield what no change names. Raises OSError."""
    for path in sorted(spool.iterdir()):
        if path.name.isdecimal() and int(path.name) in known:
            continue
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            continue  # nothing of ours
        yield Stray(path, status.st_size, status.st_mtime_ns // 1_000_000, *_read_mark(path))


def _read_mark(path: Path) -> tuple[int | None, str]:
    try:
        write, _, name = (
            os.getxattr(path, _MARK, follow_symlinks=False).decode(errors="replace").partition(" ")
        )
    except OSError:
        return None, ""
    return (int(write), name) if write.isdecimal() else (None, "")


def unheard_of(strays: Collection[Stray], writes: int) -> str | None:
    """Say that a journal of so many writes never heard of files that it promised; None where it did."""
    lost = [stray for stray in strays if stray.write is not None and stray.write > writes]
    if not lost:
        return None
    names = ", ".join(stray.name or stray.path.name for stray in lost[:3]) + (", …" if len(lost) > 3 else "")
    return f"it is older than {show_count(len(lost), 'file')} of its spool ({names})"


def sweep(spool: Path, known: Collection[int], writes: int, *, told: bool) -> list[Stray]:
    """Delete what was never promised, or is done; return what is kept since that cannot be told.

    *told*: what has no mark was not promised. Raises LocalStorageError, and then nothing was deleted: also
    where the journal, after *writes* writes, knows nothing of what it promised.
    """
    try:
        strays = list(find_strays(spool, known))
        words = unheard_of(strays, writes)
        if words is not None:
            raise LocalStorageError(
                f"the journal in {spool.parent} is damaged: {words}\n{SALVAGE} {spool.parent}"
            )
        kept = []
        for stray in strays:
            if stray.path.name.startswith(LOST):
                kept.append(stray)
            elif told or stray.write is not None or not stray.size:
                stray.path.unlink()
            else:
                kept.append(replace(stray, path=stray.path.rename(spool / (LOST + stray.path.name))))
    except OSError as exc:
        raise local_error(exc, f"looking through {spool}") from exc
    if kept:
        size = show_size(sum(stray.size for stray in kept))
        log.warning(
            "%s in %s: written by an earlier mount, perhaps closed, and of no change: kept (%s)",
            show_count(len(kept), "file"),
            spool,
            size,
        )
    return kept
