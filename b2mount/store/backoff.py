"""When to try again: pure rules, and the time that is left for it.

Source of the rules: Backblaze docs, "Integration Checklist": one second, doubling to 64; Retry-After wins; an
upload that one pod is too busy for goes to another at once.
"""

from collections.abc import Callable

from b2mount.core.replies import Failure, Fault, Verdict

FIRST_PAUSE = 1.0  # seconds
LONGEST_PAUSE = 64.0
TRIES_ELSEWHERE = 4  # at once, with a new upload URL each; b2sdk makes 5 in all
WORTH_A_CALL = 16 << 10  # bytes; a try that brought as many is followed by the next one at once; a guess
LEAST_PAUSE = 0.25  # seconds; when less than this is left, there is no further try


class Backoff:
    """The pauses of one operation; counts its failures. *first* is the first pause in seconds."""

    def __init__(self, first: float = FIRST_PAUSE) -> None:
        self._first = first
        self._elsewhere = 0
        self._resets = 0
        self._paused = 0
        self._goes_on = False

    def moved(self, count: int) -> None:
        """Note that the try that failed brought *count* bytes which need not come again."""
        if count > 0:
            self._paused = 0
        self._goes_on = count >= WORTH_A_CALL

    def pause(self, failure: Failure, jitter: float) -> float:
        """Return the seconds to wait after *failure*; *jitter* in [0, 1) spreads clients apart."""
        if failure.retry_after is not None:
            return failure.retry_after
        if self._goes_on:
            self._goes_on = False
            return 0.0
        if failure.verdict is Verdict.RETRY_NEW_URL and self._elsewhere < TRIES_ELSEWHERE:
            self._elsewhere += 1
            return 0.0
        if failure.answer is Fault.RESET and self._resets == 0:
            self._resets += 1  # most often a kept connection that the server had closed meanwhile
            return 0.0
        pause: float = min(self._first * 2**self._paused, LONGEST_PAUSE)
        self._paused += 1
        return pause * (0.75 + jitter / 2)


class Budget:
    """Seconds that may pass without success. While bytes move, none do.

    A stretch without progress is charged when it ends in a failure, and so is each pause; the time in which
    an upload's bytes moved is not, so that a large body on a slow line is no reason to give up, and one that
    fails at its end again and again is.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left = seconds
        self._quiet_since = clock()

    def begin(self) -> None:
        """Start a try."""
        self._quiet_since = self._clock()

    def progress(self) -> None:
        """Note that bytes moved; may be called from any thread if the clock may."""
        self._quiet_since = self._clock()

    def charge(self) -> None:
        """Take off what passed since the last progress, or since the try began."""
        now = self._clock()
        self._left -= now - self._quiet_since
        self._quiet_since = now

    @property
    def left(self) -> float:
        """Seconds left at the last charge."""
        return max(self._left, 0.0)
