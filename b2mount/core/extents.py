"""Which bytes of a draft are new, and which still lie in the file version it began from.

A draft never moves bytes: offset N of the draft is offset N of its spool file and of its base version. So
three facts say everything: how long the draft is, up to where its base may still show, and which ranges were
written. Truncating lowers the second for good; what is grown afterwards reads as zeros, as POSIX has it.

Knows nothing of where the bytes are kept, of file versions, or of B2.
"""

import enum
from bisect import bisect_left, bisect_right
from dataclasses import dataclass


class Origin(enum.Enum):
    """Where a byte of a draft comes from."""

    NEW = "new"  # written to the draft: in its spool
    BASE = "base"  # untouched: at the same offset of the base version
    ZERO = "zero"  # never written, and the base does not reach: reads as a zero byte


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes [start, end) of a draft that share one origin; never empty."""

    start: int
    end: int
    origin: Origin

    @property
    def size(self) -> int:
        return self.end - self.start


class Extents:
    """The map of one draft. All numbers are bytes, all ranges half-open.

    Holds always: base_limit <= size; dirty ranges are sorted, not empty, do not touch each other, and end at
    or before size.
    """

    __slots__ = ("_base_limit", "_base_size", "_dirty_bytes", "_ends", "_size", "_starts")

    def __init__(self, base_size: int = 0) -> None:
        """Begin as an exact copy of a base of *base_size* bytes; 0 where there is none."""
        if base_size < 0:
            raise ValueError(f"a base cannot have {base_size} bytes")
        self._base_size = base_size
        self._base_limit = base_size
        self._size = base_size
        self._dirty_bytes = 0
        self._starts: list[int] = []
        self._ends: list[int] = []

    @property
    def size(self) -> int:
        """The length of the draft."""
        return self._size

    @property
    def base_size(self) -> int:
        """The length of the base version, whether or not it still shows."""
        return self._base_size

    @property
    def base_limit(self) -> int:
        """Where the base stops showing: bytes from here on are new or zero."""
        return self._base_limit

    @property
    def dirty(self) -> tuple[tuple[int, int], ...]:
        """The written ranges, in order, with a gap between any two."""
        return tuple(zip(self._starts, self._ends, strict=True))

    @property
    def dirty_bytes(self) -> int:
        """How many bytes were written, counted once each."""
        return self._dirty_bytes

    @property
    def is_untouched(self) -> bool:
        """Whether the draft is still the base, byte for byte, without looking at any."""
        return not self._starts and self._size == self._base_size == self._base_limit

    @property
    def needs_base(self) -> bool:
        """Whether any byte of the base shows, so that the base cannot be forgotten yet."""
        if not self._starts or self._starts[0] > 0:
            return self._base_limit > 0
        return self._ends[0] < self._base_limit

    def write(self, start: int, end: int) -> None:
        """Mark [start, end) as written, growing the draft where it ends beyond. Nothing if empty."""
        if not 0 <= start <= end:
            raise ValueError(f"cannot write [{start}, {end})")
        if start == end:
            return
        if self._ends and self._ends[-1] == start:  # what a sequential writer does every time
            self._ends[-1] = end
            self._dirty_bytes += end - start
        else:
            self._merge(start, end)
        self._size = max(self._size, end)

    def _merge(self, start: int, end: int) -> None:
        """Put [start, end) among the dirty ranges, joining it with all that it overlaps or touches."""
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        replaced = sum(self._ends[first:last]) - sum(self._starts[first:last])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]
        self._dirty_bytes += end - start - replaced

    def resize(self, size: int) -> None:
        """Truncate or extend to *size* bytes; what is grown is zeros, whatever was there before."""
        if size < 0:
            raise ValueError(f"a file cannot have {size} bytes")
        if size < self._size:
            self._base_limit = min(self._base_limit, size)
            self._cut(size)
        self._size = size

    def _cut(self, size: int) -> None:
        """Forget what was written at *size* and beyond."""
        kept = bisect_left(self._starts, size)
        lost = sum(self._ends[kept:]) - sum(self._starts[kept:])
        del self._starts[kept:], self._ends[kept:]
        if self._ends and self._ends[-1] > size:
            lost += self._ends[-1] - size
            self._ends[-1] = size
        self._dirty_bytes -= lost

    def written_to(self, start: int) -> int:
        """Return up to where all bytes from *start* on are written; *start* where that one is not."""
        index = bisect_right(self._ends, start)
        if index < len(self._starts) and self._starts[index] <= start:
            return self._ends[index]
        return start

    def segments(self, start: int, end: int) -> list[Segment]:
        """Say where each byte of [start, min(end, size)) comes from, in order and without gaps.

        Empty where nothing of the range lies in the draft. Neighbours differ in origin.
        """
        if start < 0:
            raise ValueError(f"no file has an offset {start}")
        end = min(end, self._size)
        found: list[Segment] = []
        at = start
        index = bisect_right(self._ends, start)
        while at < end:
            dirty_start = self._starts[index] if index < len(self._starts) else end
            if at < dirty_start:
                self._append_untouched(found, at, min(dirty_start, end))
                at = dirty_start
            if at < end:
                stop = min(self._ends[index], end)
                found.append(Segment(at, stop, Origin.NEW))
                at = stop
                index += 1
        return found

    def _append_untouched(self, found: list[Segment], start: int, end: int) -> None:
        """Append [start, end), which nobody wrote, cut where the base stops showing."""
        border = min(max(self._base_limit, start), end)
        if start < border:
            found.append(Segment(start, border, Origin.BASE))
        if border < end:
            found.append(Segment(border, end, Origin.ZERO))

    def copy(self) -> "Extents":
        """Return an independent map with the same content, such as for an upload while writing goes on."""
        twin = Extents(self._base_size)
        twin._base_limit = self._base_limit
        twin._size = self._size
        twin._dirty_bytes = self._dirty_bytes
        twin._starts = self._starts.copy()
        twin._ends = self._ends.copy()
        return twin

    def to_text(self) -> str:
        """Write the map as one line of ASCII for a database.

        Base size, base limit and size, then `gap+length` for each dirty range, counted from the one before.
        """
        words = [f"{self._base_size} {self._base_limit} {self._size}"]
        at = 0
        for start, end in self.dirty:
            words.append(f"{start - at}+{end - start}")
            at = end
        return " ".join(words)

    @classmethod
    def from_text(cls, text: str) -> "Extents":
        """Read what `to_text` wrote. Raises ValueError for anything it cannot have written."""
        base_size, base_limit, size, *ranges = text.split()
        found = cls(_natural(base_size))
        found._base_limit = _natural(base_limit)
        found._size = _natural(size)
        at = 0
        for word in ranges:
            gap, _, length = word.partition("+")
            start = at + _natural(gap)
            at = start + _natural(length)
            if start == at or (found._ends and found._ends[-1] == start):
                raise ValueError(f"dirty ranges touch or are empty: {text!r}")
            found._starts.append(start)
            found._ends.append(at)
        found._dirty_bytes = sum(found._ends) - sum(found._starts)
        if found._base_limit > min(found._base_size, found._size) or at > found._size:
            raise ValueError(f"not the map of any draft: {text!r}")
        return found

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Extents):
            return NotImplemented
        return self.to_text() == other.to_text()

    __hash__ = None  # type: ignore[assignment]  # it changes, so it must not be a key

    def __repr__(self) -> str:
        return f"Extents({self.to_text()!r})"


def _natural(word: str) -> int:
    """Read an unsigned decimal. Raises ValueError for all else that int() would take."""
    if not (word.isascii() and word.isdigit()):
        raise ValueError(f"not a decimal number: {word!r}")
    return int(word)
