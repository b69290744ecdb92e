"""Blocks on their way: a buffer that a worker thread fills, and the readers that wait for its parts.

A large range is of use from its first bytes on. The thread says how far it is; a reader is woken once what it
waits for is there. Knows nothing of where the bytes come from.
"""

import sys

import trio

NEVER = sys.maxsize


class Flight:
    """Blocks [first, end) of a version, its bytes [low, high), on their way."""

    __slots__ = (
        "__weakref__",
        "_token",
        "_waiting",
        "_wanted",
        "arrived",
        "data",
        "end",
        "error",
        "file_id",
        "first",
        "gradual",
        "high",
        "is_over",
        "low",
        "scope",
        "turn",
    )

    def __init__(self, file_id: str, first: int, end: int, low: int, high: int, *, gradual: bool) -> None:
        """Begin one; *gradual*: its bytes may be used as they come: nothing at its end can refuse them."""
        self.file_id = file_id
        self.first = first
        self.end = end
        self.low = low
        self.high = high
        self.gradual = gradual
        self.data = memoryview(b"")
        self.arrived = 0  # bytes at the start of data; written by the thread that fills it
        self.is_over = False
        self.error: BaseException | None = None
        self.scope = trio.CancelScope()  # of the task that fetches it
        self.turn = trio.CancelScope()  # of its wait for a place among those that fetch ahead
        self._token = trio.lowlevel.current_trio_token()
        self._waiting: list[tuple[int, trio.Event]] = []
        self._wanted = NEVER  # bytes at which somebody is to be woken

    @property
    def usable(self) -> int:
        """Bytes at the start that may be read now."""
        is_good = self.is_over and self.error is None and self.arrived == self.high - self.low
        return self.arrived if self.gradual or is_good else 0

    @property
    def is_awaited(self) -> bool:
        return bool(self._waiting)

    def note(self, count: int) -> None:
        """Take note, in any thread, that the first *count* bytes are there."""
        if count <= self.arrived:
            return  # a second try of bytes that were there
        self.arrived = count
        if self.gradual and count >= self._wanted:
            self._wanted = NEVER
            self._token.run_sync_soon(self._wake)

    def hurry(self) -> None:
        """Have it begin without a place among those that fetch ahead: who holds one waits for it."""
        self.turn.cancel()

    async def wait(self, count: int) -> None:
        """Return when the first *count* bytes may be read, or it is over, for better or worse."""
        while not self.is_over:
            event = trio.Event()
            entry = (count, event)
            self._waiting.append(entry)
            self._wanted = min(self._wanted, count)  # first this, then the look: `note` does it the other way
            try:
                if self.usable >= count:
                    return
                await event.wait()
            finally:
                if entry in self._waiting:
                    self._waiting.remove(entry)

    def finish(self, error: BaseException | None) -> None:
        """Take note that it is over, and wake all who wait."""
        self.error = error
        self.is_over = True
        self._wake()

    def _wake(self) -> None:
        usable, waiting = NEVER if self.is_over else self.usable, self._waiting
        self._waiting = [entry for entry in waiting if entry[0] > usable]
        self._wanted = min((count for count, _ in self._waiting), default=NEVER)
        for count, event in waiting:
            if count <= usable:
                event.set()
        if self.usable >= self._wanted:  # came between the two looks
            self._wake()
