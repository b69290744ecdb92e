"""A download that broke off goes on from where it broke. Knows neither how often to try, nor how long."""

from collections.abc import Callable

from b2mount.core.errors import DataCorrupt
from b2mount.store.store import Store

RESUMED_FROM = 1 << 20  # bytes; a shorter start is fetched again, so that small files are checked whole


class ResumedRead:
    """Fills one buffer, over as many attempts as it takes."""

    def __init__(
        self,
        store: Store,
        file_id: str,
        start: int,
        buffer: memoryview,
        arrived: Callable[[int], None],
    ) -> None:
        self._store = store
        self._file_id = file_id
        self._start = start
        self._buffer = buffer
        self._arrived = arrived
        self._here = 0  # bytes that have come

    async def attempt(self) -> None:
        """Fetch what is missing. Raises what the store does."""
        begin = self._here if self._here >= RESUMED_FROM else 0

        def note(count: int) -> None:
            self._here = begin + count
            self._arrived(self._here)

        try:
            await self._store.read_into(self._file_id, self._start + begin, self._buffer[begin:], note)
        except DataCorrupt:
            self._here = 0
            raise
