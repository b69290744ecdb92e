"""Byte ranges as requests write them. Source: Backblaze docs, b2_download_file_by_id (one range, the end is
clamped).
"""

from __future__ import annotations

import re

from b2mount.emulator.errors import bad_request

_RANGE = re.compile(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)")


def parse_range(text: str, size: int) -> tuple[int, int] | None:
    """Give the half-open range of a file of *size* bytes; None when nothing of it exists."""
    match = _RANGE.fullmatch(text.strip())
    if match is None or not (match[1] or match[2]):
        raise bad_request(f"Bad range: {text}")
    if not match[1]:
        start, end = max(0, size - int(match[2])), size
    else:
        start = int(match[1])
        end = min(int(match[2]) + 1, size) if match[2] else size
        if match[2] and int(match[2]) < start:
            raise bad_request(f"Bad range: {text}")
    return (start, end) if start < end else None
