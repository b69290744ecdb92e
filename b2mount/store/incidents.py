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
    """Remembers, for each kind of operation, since when it fails.

    The log hears of one incident where several operations fail alike at the same time.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}
        self._retries: dict[str, int] = {}
        self._errors: dict[str, str] = {}
        self._alike: dict[str, set[str]] = {}  # operations that fail now, by the kind of error
        self._told: dict[str, float] = {}  # when an incident of this kind of error was last begun in the log

    def failed(self, operation: str, error: Exception) -> None:
        """Note a failure that will be tried again."""
        now = self._clock()
        self._retries[operation] = self._retries.get(operation, 0) + 1
        self._errors[operation] = str(error)
        self._since.setdefault(operation, now)
        kind = type(error).__name__
        alike = self._alike.setdefault(kind, set())
        is_news = not alike
        alike.add(operation)
        if is_news and now - self._told.get(kind, -QUIET_SECONDS) >= QUIET_SECONDS:
            self._told[kind] = now
            log.warning("%s fails, trying again: %s", operation, error)

    def worked(self, operation: str) -> None:
        """Note a success."""
        since = self._since.pop(operation, None)
        if since is None:
            return
        retries = self._retries.pop(operation, 0)
        self._errors.pop(operation, None)
        for kind, alike in self._alike.items():
            if operation in alike:
                alike.remove(operation)
                if not alike and self._told[kind] >= since:
                    seconds = self._clock() - since
                    log.info("%s works again after %.0f s and %d retries", operation, seconds, retries)

    def current(self) -> list[Incident]:
        """Return what fails now."""
        now = self._clock()
        return [
            Incident(operation, now - since, self._retries.get(operation, 0), self._errors.get(operation, ""))
            for operation, since in self._since.items()
        ]
