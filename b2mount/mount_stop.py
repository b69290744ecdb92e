"""The end of a mount: the service manager is told what is left, and asked for time while that gets less.

What cannot be sent is safe in the journal, so an end that gets nowhere is given up: a machine that is being
switched off must not wait for ever for a B2 that it cannot reach. Knows neither the journal nor FUSE.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import trio

from b2mount.core.words import show_count, show_size
from b2mount.mount_notify import notify

log = logging.getLogger("b2mount.mount")

LOOK_SECONDS = 5.0  # between two looks at what is left
ASKED_SECONDS = 30  # of patience asked for at each look: six looks may come late
# Without any progress. More than two of the attempts that --io-timeout (60 s) and its retries allow; a guess.
STALLED_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Left:
    """What is still to be sent, and a count that grows with each byte that leaves."""

    changes: int
    size_bytes: int
    progress: int

    def __str__(self) -> str:
        if not self.changes:
            return "unmounting"
        return f"sending {show_count(self.changes, 'change')} ({show_size(self.size_bytes)}) to B2"


async def watch_the_end(left: Callable[[], Left], give_up: Callable[[], None]) -> None:
    """Tell of what is left until cancelled; call *give_up*, once, when it does not get less."""
    seen, since = left(), trio.current_time()
    while True:
        now = left()
        if now != seen:
            seen, since = now, trio.current_time()
        if trio.current_time() - since >= STALLED_SECONDS:
            break
        notify(f"EXTEND_TIMEOUT_USEC={ASKED_SECONDS * 1_000_000}", f"STATUS={now}")
        await trio.sleep(LOOK_SECONDS)
    log.error("nothing could be sent for %d s: leaving the rest to the next mount", STALLED_SECONDS)
    give_up()
