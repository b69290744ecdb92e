"""What a spool file's bytes are known by, so that the next life sends none that somebody else put there.

Of a file of up to a mebibyte each byte counts; of what is larger, blocks all over it, so that a close does
not wait for all to be read again. Written down with the promise, once the bytes have reached the disk. Knows
neither drafts nor what becomes of a file that is another.
"""

import contextlib
import os
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

from b2mount.journal.large_rows import Statement

WHOLE = 1 << 20  # bytes that are all read: 0.6 ms; a guess
BLOCK = 4096
_MASK = 0x5EA15EA1

SCHEMA = """
CREATE TABLE IF NOT EXISTS prints (  -- of the new bytes of puts that lie in the spool alone
    id INTEGER PRIMARY KEY,
    print TEXT NOT NULL
);
"""
# Of what has left the spool in part nothing can be said.
SELECT = (
    "SELECT id, print FROM prints WHERE id NOT IN "
    "(SELECT draft_id FROM large JOIN parts ON large.id = large_id WHERE away)"
)
FORGET_STRAYS = "DELETE FROM prints WHERE id NOT IN (SELECT id FROM ops)"

Ranges = Sequence[tuple[int, int]]


def print_of(fd: int, ranges: Ranges) -> int:
    """Return what is known by heart of the bytes in *ranges* of a file. Blocks. Raises OSError."""
    found = 0
    for start, end in _looked_at(ranges):
        while start < end:
            data = os.pread(fd, min(end - start, WHOLE), start)
            if not data:
                return -1  # the file was cut
            found = zlib.crc32(data, found)
            start += len(data)
    return found


def _looked_at(ranges: Ranges) -> Ranges:
    size = sum(end - start for start, end in ranges)
    if size <= WHOLE:
        return ranges
    step = size // (WHOLE // BLOCK)
    blocks: list[tuple[int, int]] = []
    ahead = 0  # bytes until the next block
    for start, end in ranges:
        at = start + ahead
        while at < end:
            blocks.append((at, min(at + BLOCK, end)))
            at += step
        ahead = at - end
    return [*blocks, (max(ranges[-1][0], ranges[-1][1] - BLOCK), ranges[-1][1])]


def save(op_id: int, found: int) -> Statement:
    """Return the statement that writes down what a file is known by."""
    return "INSERT OR REPLACE INTO prints VALUES (?, ?)", (op_id, _text(found))


def forget(op_id: int) -> Statement:
    """Return the statement that strikes it off."""
    return "DELETE FROM prints WHERE id=?", (op_id,)


def read(rows: Iterable[tuple[Any, Any]]) -> dict[int, int]:
    """Return what files are known by; without rows that are damaged themselves."""
    found = {}
    for op_id, text in rows:
        with contextlib.suppress(ValueError):
            number = int(str(text)[:8], 16)
            if _text(number) == text:
                found[op_id] = number
    return found


def _text(found: int) -> str:
    """Say it twice, so that a damaged row is not taken for a damaged file."""
    return f"{found:08x}{found ^ _MASK:08x}"
