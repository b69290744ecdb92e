"""One line in the log for the beginning of an incident and one for its end, however many requests it hits."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger("b2mount.store")

QUIET_SECONDS = 60.0  # an operation that fails again so soon after it recovered is the same incident


@dataclass(frozen=True, slots=True)
class Incident:
    """A kind of operation that fails now and is tried again."""

    operation: str
    seconds: float  # since it began to fail
    retries: int
    error: str  # of the last try


class Incidents:
    """Remembers, for each kind of operation, since when it fails."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}
        self._retries: dict[str, int] = {}
        self._errors: dict[str, str] = {}
        self._told: dict[str, float] = {}

    def failed(self, operation: str, error: Exception) -> None:
        """Note a failure that will be tried again."""
        now = self._clock()
        self._retries[operation] = self._retries.get(operation, 0) + 1
        self._errors[operation] = str(error)
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
        self._errors.pop(operation, None)
        if self._told.get(operation, -1.0) >= since:
            log.info("%s works again after %.0f s and %d retries", operation, self._clock() - since, retries)

    def current(self) -> list[Incident]:
        """Return what fails now."""
        now = self._clock()
        return [
            Incident(operation, now - since, self._retries.get(operation, 0), self._errors.get(operation, ""))
            for operation, since in self._since.items()
        ]
