"""How long the request under way may take: set by whoever retries, read by the adapter and its threads.

A context variable, since trio carries the context of a task into its worker threads, and the seam need not
name a deadline in each of its calls.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

DEFAULT_SECONDS = 60.0  # for a store used without RetryingStore

_end: ContextVar[float | None] = ContextVar("b2mount_request_end", default=None)
_copied: ContextVar[int | None] = ContextVar("b2mount_bytes_copied", default=None)


@contextmanager
def request_limit(seconds: float) -> Iterator[None]:
    """Let the requests made inside end within *seconds* from now."""
    token = _end.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _end.reset(token)


def seconds_left() -> float:
    """Return the seconds that the request under way may still take; not less than a tenth."""
    end = _end.get()
    return DEFAULT_SECONDS if end is None else max(end - time.monotonic(), 0.1)


@contextmanager
def copying(size: int | None) -> Iterator[None]:
    """Tell how many bytes a copy inside B2 has that is asked for inside; None where that is not known."""
    token = _copied.set(size)
    try:
        yield
    finally:
        _copied.reset(token)


def bytes_copied() -> int | None:
    """Return what `copying` tells; None where nobody knows."""
    return _copied.get()
