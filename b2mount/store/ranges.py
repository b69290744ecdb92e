"""Whether the answer to a download brings the bytes that were asked for; told before the first of them."""

import logging
import re
from http.client import HTTPMessage

from b2mount.core.errors import InvalidArgument
from b2mount.core.replies import Fault
from b2mount.store.transport import Transport

log = logging.getLogger("b2mount.store")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def check_range(
    transport: Transport, status: int, headers: HTTPMessage, file_id: str, start: int, end: int
) -> bool:
    """Raise CallFailed where an answer does not bring bytes [start, end), InvalidArgument past the end.

    Return whether it brings more: all of the file, whose beginning was asked for. Some proxies drop Range.
    """
    told = _told(status, headers)
    if told is None:
        raise transport.failed(Fault.ODD_REPLY, f"{status} without a range")
    first, stop, size = told
    if size < end:
        raise InvalidArgument(f"{file_id} has {size} bytes; {start} to {end} were asked for")
    if "Content-Range" not in headers and start > 0:
        log.error("%s: %s", file_id, Fault.NO_RANGES.value)
        raise transport.failed(Fault.NO_RANGES, f"{size} bytes, not {start} to {end}")
    is_longer = "Content-Range" not in headers and stop > end
    if (first, stop) != (start, end) and not is_longer:
        raise transport.failed(Fault.TRUNCATED, f"{first} to {stop}, not {start} to {end}")
    return is_longer


def _told(status: int, headers: HTTPMessage) -> tuple[int, int, int] | None:
    """Return (start, end, size of the file) as the answer tells; a 200 is the whole file."""
    told = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    if told is not None:
        first, last, size = map(int, told.groups())
        return first, last + 1, size
    length = headers.get("Content-Length", "")
    return (0, int(length), int(length)) if status == 200 and length.isdecimal() else None
