"""How many requests at once fill the network, from what requests brought so far.

Near by, a few are enough: more would only share the processor. Far away each is bound by its own connection
and idle for a round trip between two requests, so it takes more. Who is far is told by the shortest wait for
a first byte: a busy machine makes waits longer, but seldom all of them. Near by, what a connection can bring
is likewise told by the quickest request of late: the others shared the processor or the network with each
other, and to answer that with more of them would make each slower still.
"""

TELLING_SIZE = 512 << 10  # bytes of a request from which its speed says something of the network
SPEED_WEIGHT = 0.25  # of the newest request in the average; a guess
FADE = 0.95  # of the quickest request's speed is believed after one more; a guess
FULL_SPEED = 600e6  # bytes a second that reading ahead aims for: more than one mount can hand out over TLS
FAR_SECONDS = 0.01  # to the first byte
FORGET = 1.002  # by which the shortest wait grows with each request: an old one is not believed for ever
MOST_NEAR = 20  # at once for one reader; measured: more gained nothing
# At 40 ms and 25 MB/s each they bring 540 MB/s; 40 brought a tenth more for half as many requests again.
MOST_FAR = 26
LEAST = 4


class Pace:
    """What requests brought, and what that calls for."""

    __slots__ = ("delay", "speed")

    def __init__(self) -> None:
        self.speed: float | None = None  # bytes a second that one request brings: far away on the average
        self.delay: float | None = None  # seconds to the first byte, the shortest of late

    def on_request(self, size: int, delay: float, seconds: float) -> None:
        """Take note that a request brought *size* bytes in *seconds*, the first of them after *delay*."""
        self.delay = delay if self.delay is None else min(delay, self.delay * FORGET)
        if size >= TELLING_SIZE:
            speed = size / max(seconds, 1e-6)
            if self.speed is None:
                self.speed = speed
            elif self.is_near:
                self.speed = max(speed, self.speed * FADE)
            else:
                self.speed += SPEED_WEIGHT * (speed - self.speed)

    @property
    def is_near(self) -> bool:
        """Whether a first byte has come so soon that more requests would only cost."""
        return self.delay is not None and self.delay < FAR_SECONDS

    @property
    def most(self) -> int:
        """The most requests at once that are worth having for one reader."""
        return MOST_NEAR if self.delay is None or self.is_near else MOST_FAR

    def requests(self, allowed: int) -> int:
        """Return how many requests at once, of those *allowed*, reach `FULL_SPEED`."""
        most = min(self.most, allowed)
        if self.speed is None:
            return most
        return max(min(most, round(FULL_SPEED / self.speed)), min(most, LEAST))
