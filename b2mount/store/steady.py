"""The time of day as no step of this machine's clock moves it.

NTP, a person or a virtual machine's host may set the clock by an hour under a running mount. What compares
moments with B2's (which upload is ours, whether the key has ended) counts on from the program's start; by how
much the clock was wrong then, the authorization's reply tells (caller.py).
"""

import time

_BEGAN = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def steady_seconds() -> float:
    """Return seconds since the epoch, as this machine's clock told them when the program began.

    The time that the machine sleeps counts.
    """
    return _BEGAN + time.clock_gettime(time.CLOCK_BOOTTIME)


def steady_ms() -> int:
    """Return the same in milliseconds."""
    return int(steady_seconds() * 1000)
