"""Whether the answer to a download brings the bytes that were asked for; told before the first of them."""

import re
from http.client import HTTPMessage

from b2mount.core.errors import InvalidArgument
from b2mount.core.replies import Fault
from b2mount.store.transport import Transport

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def check_range(
    transport: Transport, status: int, headers: HTTPMessage, file_id: str, start: int, end: int
) -> None:
    """Raise CallFailed where an answer does not bring bytes [start, end), InvalidArgument past the end."""
    told = _told(status, headers)
    if told is None:
        raise transport.failed(Fault.ODD_REPLY, f"{status} without a range")
    first, stop, size = told
    if size < end:
        raise InvalidArgument(f"{file_id} has {size} bytes; {start} to {end} were asked for")
    if (first, stop) != (start, end):
        raise transport.failed(Fault.TRUNCATED, f"{first} to {stop}, not {start} to {end}")


def _told(status: int, headers: HTTPMessage) -> tuple[int, int, int] | None:
    """Return (start, end, size of the file) as the answer tells; a 200 is the whole file."""
    told = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    if told is not None:
        first, last, size = map(int, told.groups())
        return first, last + 1, size
    length = headers.get("Content-Length", "")
    return (0, int(length), int(length)) if status == 200 and length.isdecimal() else None
