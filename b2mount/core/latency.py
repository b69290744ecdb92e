"""How long calls took, in a fixed number of bins: bounded memory however many there were.

The bins are those that Prometheus is told; a quantile is read within its bin, so it is right to about a
factor of two, and never beyond the longest that was seen.
"""

import bisect
from dataclasses import dataclass

# Seconds; the upper ends of the bins, the last bin has none. From a call within a data centre to the longest
# that a copy inside B2 may take.
BOUNDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 300.0)


@dataclass(frozen=True, slots=True)
class Latency:
    """How long the answered requests of one call took, in seconds."""

    bins: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    total: float = 0.0
    longest: float = 0.0

    @property
    def count(self) -> int:
        return sum(self.bins)

    def plus(self, seconds: float) -> "Latency":
        """Return the same with one more."""
        at = bisect.bisect_left(BOUNDS, seconds)
        bins = (*self.bins[:at], self.bins[at] + 1, *self.bins[at + 1 :])
        return Latency(bins, self.total + seconds, max(self.longest, seconds))

    def quantile(self, part: float) -> float:
        """Return the time that *part* (0 to 1) of the calls did not pass; 0 where there were none."""
        wanted = part * self.count
        passed = 0
        for at, inside in enumerate(self.bins):
            if inside and passed + inside >= wanted:
                low = BOUNDS[at - 1] if at else 0.0
                high = min(BOUNDS[at] if at < len(BOUNDS) else self.longest, self.longest)
                return min(low + (high - low) * (wanted - passed) / inside, self.longest)
            passed += inside
        return 0.0
