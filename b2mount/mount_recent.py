"""The last warnings and errors of the log, kept for `b2mount status`: whoever asks need not find the log."""

import logging
from collections import Counter, deque
from typing import Any

KEPT = 50
LONGEST = 500  # characters of one


class RecentErrors(logging.Handler):
    """Keeps what is logged as a warning or worse, the newest last."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._rows: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._counts: Counter[str] = Counter(warning=0, error=0)

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" ({type(record.exc_info[1]).__name__}: {record.exc_info[1]})"
        row = {
            "when_ms": int(record.created * 1000),
            "level": record.levelname.lower(),
            "text": text[:LONGEST],
        }
        self._rows.append(row)
        self._counts[record.levelname.lower()] += 1

    def counts(self) -> dict[str, int]:
        """Return how many there were of each level."""
        return dict(self._counts)

    def rows(self) -> list[dict[str, Any]]:
        """Return what was kept, the oldest first."""
        return list(self._rows)
