"""One line in the log for the beginning of an incident and one for its end, however many requests it hits."""

import logging
from collections.abc import Callable

log = logging.getLogger("b2mount.store")

QUIET_SECONDS = 60.0  # an operation that fails again so soon after it recovered is the same incident


class Incidents:
    """Remembers, for each kind of operation, since when it fails."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}
        self._retries: dict[str, int] = {}
        self._told: dict[str, float] = {}

    def failed(self, operation: str, error: Exception) -> None:
        """Note a failure that will be tried again."""
        now = self._clock()
        self._retries[operation] = self._retries.get(operation, 0) + 1
        if operation in self._since:
            return
        self._since[operation] = now
        if now - self._told.get(operation, -QUIET_SECONDS) >= QUIET_SECONDS:
            self._told[operation] = now
            log.warning("%s fails, trying again: %s", operation, error)

    def worked(self, operation: str) -> None:
        """Note a success."""
        since = self._since.pop(operation, None)
        if since is None:
            return
        retries = self._retries.pop(operation, 0)
        if self._told.get(operation, -1.0) >= since:
            log.info("%s works again after %.0f s and %d retries", operation, self._clock() - since, retries)
