"""A download that broke off goes on from where it broke. Tells backoff.py what moved; knows no pauses."""

from collections.abc import Callable

from b2mount.core.errors import B2MountError, DataCorrupt
from b2mount.core.replies import Fault, failure_behind
from b2mount.store.backoff import WORTH_A_CALL, Backoff, Budget
from b2mount.store.store import Store


class ResumedRead:
    """Fills one buffer, over as many attempts as it takes."""

    def __init__(
        self,
        store: Store,
        file_id: str,
        start: int,
        buffer: memoryview,
        arrived: Callable[[int], None],
        here: int,
        budget: Budget,
        backoff: Backoff,
    ) -> None:
        """Begin with *here* bytes that have come already."""
        self._store = store
        self._file_id = file_id
        self._start = start
        self._buffer = buffer
        self._arrived = arrived
        self._here = here  # bytes that have come
        self._told = here  # bytes at which the budget was last told of progress
        self._budget = budget
        self._backoff = backoff
        self._resumes = True

    async def attempt(self) -> None:
        """Fetch what is missing. Raises what the store does."""
        if not self._resumes:
            self._here = 0
        begin = self._here
        try:
            await self._store.read_into(self._file_id, self._start, self._buffer, self._note, here=self._here)
        except DataCorrupt:
            self._here = 0
            raise
        except B2MountError as error:
            if self._must_begin_anew(error, begin):
                self._resumes = False
                await self.attempt()
                return
            self._backoff.moved(self._here - begin if self._resumes else 0)
            raise

    def _must_begin_anew(self, error: B2MountError, begin: int) -> bool:
        """Say whether the server gives nothing but whole files, and this is the beginning of one."""
        failure = failure_behind(error)
        is_rangeless = failure is not None and failure.answer is Fault.NO_RANGES
        return is_rangeless and self._resumes and begin > 0 and self._start == 0

    def _note(self, count: int) -> None:
        self._here = count
        if self._resumes and count - self._told >= WORTH_A_CALL:  # a trickle is no progress
            self._told = count
            self._budget.progress()
        self._arrived(count)
