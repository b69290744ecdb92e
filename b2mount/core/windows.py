"""How much of a file to read ahead, from the reads of one handle so far.

The rule: be ahead by eight times what was read in sequence, up to a maximum. So the network is full within a
few round trips, whoever reads a little fetches in proportion to it, and random readers get what they ask for.
Only the start of a file is taken for the start of a sequence at once. Who reads a small file densely at
random gets all of it.

The kernel sends the reads of its own read-ahead in parallel, so they arrive in any order; it leaves out pages
that it has; and several threads may read in sequence through one handle. Hence a few streams are followed at
a time, each with what was read beyond its head.

Knows nothing of caches or requests: what of a window is there already is the caller's matter.
"""

from typing import NamedTuple

KIB, MIB = 1 << 10, 1 << 20

BLOCK = 128 * KIB  # what the kernel asks for at once, unless told otherwise
FLIGHT = 8 * MIB  # below this the first byte's latency costs more than it should: measured at 40 ms
GROWTH = 8  # times what was read in sequence is worth having ahead; with 2, 256 MiB took a third longer
RECENT = 16  # reads of a handle after which a stream that had none of them is taken for left
DENSE_FILE = 256 * MIB  # the largest file that random readers may get whole
DENSE_SHARE = 32  # they do once they have touched this part of its blocks,
DENSE_LEAST = 8  # and so many of them
SURE_STEPS = 3  # of one length in a row make a stride
MOST_STEPS = 16  # fetched ahead
STREAMS = 4  # followed at a time; a guess
_MOST_BEYOND = 16  # ranges remembered beyond a head: more than the 12 reads that Linux has in the background


class Window(NamedTuple):
    """Bytes [start, end) worth having, or having under way; it holds all that was asked for."""

    start: int
    end: int


class _Stream:
    """Reads that follow on each other: [start, head) was read, apart from short gaps."""

    __slots__ = ("_beyond", "_first_end", "_start", "head", "used_at")

    def __init__(self, start: int, end: int) -> None:
        self._start = start
        self._first_end = end
        self.head = end
        self._beyond: list[tuple[int, int]] = []  # read beyond the head, in order
        self.used_at = 0  # number of the handle's read that came last

    def accepts(self, offset: int, slack: int) -> bool:
        return max(self._start, self.head - slack) <= offset <= self.head + slack

    def follow(self, start: int, end: int) -> None:
        """Take in one more read; the head passes a gap no longer than what was read right behind it."""
        if start <= self.head:
            self.head = max(self.head, end)
        else:
            self._beyond = _merged([*self._beyond, (start, end)])[:_MOST_BEYOND]
        while self._beyond:
            start, end = self._beyond[0]
            if end - start < start - self.head:
                break
            self.head = max(self.head, end)
            del self._beyond[0]

    def ahead(self, initial: int) -> int:
        """Say how many bytes beyond the head are worth having; only the start of a file needs no proof."""
        run = self.head - self._start
        if self._start == 0:
            return max(initial, GROWTH * run if self.head > self._first_end else 0)
        return GROWTH * run if self.head > self._first_end else 0


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sort ranges and join those that touch."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


class ReadAhead:
    """The reads of one handle, and what they call for. All numbers are bytes."""

    __slots__ = ("_block", "_file_size", "_flight", "_initial", "_maximum", "_reads", "_slack", "_streams")

    def __init__(
        self,
        file_size: int,
        *,
        block: int = BLOCK,
        initial: int = MIB,
        maximum: int = 256 * MIB,
        flight: int = FLIGHT,
    ) -> None:
        self._file_size = file_size
        self._block = block
        self._initial = initial
        self._maximum = maximum
        self._flight = flight
        self._slack = 4 * initial  # how far from its turn a read may come and still belong to a sequence
        self._streams: list[_Stream] = []  # the one used last comes first
        self._reads = 0

    def on_read(self, offset: int, size: int) -> Window:
        """Take note of a read and return the window that it calls for, within the file.

        A window ends on borders so far apart that what is new in it makes requests worth sending: about half
        of what is ahead, a flight at the most, a block at least.
        """
        start = min(offset, self._file_size)
        end = min(offset + size, self._file_size)
        if start == end:
            return Window(start, end)
        stream = self._stream_of(start, end)
        ahead = min(stream.ahead(self._initial), self._maximum)
        target = min(stream.head + ahead, end + self._maximum)
        if target >= self._file_size:
            return Window(start, self._file_size)
        step = min(max(1 << max(0, (ahead // 2).bit_length() - 1), self._block), self._flight)
        return Window(start, max(end, target - target % step))

    def _stream_of(self, start: int, end: int) -> _Stream:
        """Find the stream that a read belongs to, or begin one in place of the one used longest ago."""
        streams = self._streams
        self._reads += 1
        if not (streams and streams[0].head == start):
            near = [stream for stream in streams if stream.accepts(start, self._slack)]
            if not near:
                streams.insert(0, _Stream(start, end))
                streams[0].used_at = self._reads
                del streams[STREAMS:]
                return streams[0]
            nearest = min(near, key=lambda stream: abs(stream.head - start))
            streams.remove(nearest)
            streams.insert(0, nearest)
        streams[0].follow(start, end)
        streams[0].used_at = self._reads
        return streams[0]

    def may_come_to(self, start: int, end: int) -> bool:
        """Say whether bytes [start, end) still lie ahead of a stream, or right behind its head."""
        return any(
            stream.head - self._slack < end and start < stream.head + self._maximum + self._flight
            for stream in self._streams
            if self._reads - stream.used_at < RECENT
        )


class RandomReads:
    """How much of a file random reads have touched, to say when all of it is worth fetching."""

    __slots__ = ("_block", "_enough", "_touched")

    def __init__(self, file_size: int, *, block: int = BLOCK) -> None:
        self._block = block
        self._touched: set[int] = set()
        blocks = -(-file_size // block)
        self._enough = max(blocks // DENSE_SHARE, DENSE_LEAST) if file_size <= DENSE_FILE else 0

    def is_dense_with(self, offset: int) -> bool:
        """Take note of a read that follows on no other; say, once, that the whole file is worth having."""
        if not self._enough:
            return False
        self._touched.add(offset // self._block)
        if len(self._touched) < self._enough:
            return False
        self._enough = 0
        self._touched.clear()
        return True


class Strides:
    """Reads at even distances, as of the records or columns of a file: where the next ones will be."""

    __slots__ = ("_end", "_start", "_step", "_steps", "_told", "_vast")

    def __init__(self, *, vast: int = MIB) -> None:
        """Take reads that are less than *vast* bytes apart for reads of one place."""
        self._vast = vast
        self._start = self._end = 0  # of the place that is being read
        self._step = 0  # from the place before to this one
        self._steps = 0  # in a row that were of this length
        self._told = 0  # places that begin before this were told

    def on_read(self, start: int, end: int) -> list[Window]:
        """Take note of a read; return the places, as far as not told yet, that the next ones will be at.

        Told after the third step of one length, and more with each that follows.
        """
        if abs(start - self._end) < self._vast:
            self._end = max(self._end, end)
            return []
        length, step = self._end - self._start, start - self._start
        self._steps = self._steps + 1 if step == self._step else 1
        if self._steps == 1:
            self._told = 0
        self._start, self._end, self._step = start, end, step
        if self._steps < SURE_STEPS or step <= length:
            return []
        count = min(2 ** (self._steps - SURE_STEPS + 1), MOST_STEPS)
        places = [start + number * step for number in range(1, count + 1)]
        new = [Window(place, place + length) for place in places if place >= self._told]
        self._told = places[-1] + 1
        return new


def flight_bytes(distance: int, largest: int) -> int:
    """Return how large a request to send for what lies *distance* bytes ahead of a reader.

    Near ones are smaller, so that requests which begin together come to their ends in the order in which they
    are read, and the next ones begin one by one.
    """
    return max(min(largest, distance // 2), min(largest, MIB))
