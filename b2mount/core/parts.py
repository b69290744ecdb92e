"""How to make a draft's content in B2 for the least moving of bytes.

B2 can make a file from one upload, from one copy of (a range of) another file, or from numbered parts, each
of them uploaded or copied (Backblaze docs, "Large Files", "b2_copy_file", "b2_copy_part"). What a draft left
alone is copied inside B2; what it changed is uploaded. A part must not be small, so a small change goes up
with some of what follows it, which has to be fetched first; changes close to each other share one upload.

b2sdk has a planner too; where ranges overlap it takes the copy and loses the new bytes, so this one exists,
and its ranges never overlap.

Knows nothing of file IDs, spool files or time: it says which ranges, and others move the bytes.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from b2mount.core.errors import FileTooLarge, NotPermitted
from b2mount.core.extents import Origin, Segment

Range = tuple[int, int]  # bytes [start, end), the same in the draft and in its base

UPLOAD_PART_SIZE = 16_000_000  # small enough for several connections to share a file of 100 MB; a guess
COPY_PART_SIZE = 1_000_000_000  # one call should be done, or have failed, within a minute or so; a guess
COPIES_AT_ONCE = 4  # parts to copy that a file has at the least, if they are not small; each is billed
LEAST_COPY_PART = 128_000_000  # bytes; a guess
STREAM_STEP = 900  # parts of one size in a stream; then twice that, so that 10,000 parts are enough
STREAM_PARTS = 9_000  # of a stream; the rest of B2's number is for what follows it
CALL_BYTES = 2_000_000  # what a connection of 20 MB/s moves while a call of 100 ms is answered; a guess


@dataclass(frozen=True, slots=True)
class Limits:
    """What B2 accepts, in bytes.

    The smallest part is as b2_authorize_account tells it (absoluteMinimumPartSize), the rest from Backblaze
    docs, "Large Files". Raises ValueError for limits that leave no way to cut every file.
    """

    minimum_part: int = 5_000_000  # of every part but the last
    maximum_part: int = 5_000_000_000  # uploaded or copied
    maximum_parts: int = 10_000
    maximum_single: int = 5_000_000_000  # of a file from one upload or one b2_copy_file
    maximum_file: int = 10_000_000_000_000

    def __post_init__(self) -> None:
        if not 1 <= self.minimum_part <= self.maximum_part // 2:
            raise ValueError(
                f"parts of {self.minimum_part} to {self.maximum_part} bytes cannot make every file"
            )
        if self.maximum_single < self.maximum_part:
            raise ValueError(f"one upload of {self.maximum_single} bytes is less than a part of a file")
        if self.maximum_parts < 4 or self.maximum_file > self.maximum_parts // 2 * self.maximum_part:
            raise ValueError(f"{self.maximum_parts} parts cannot make a file of {self.maximum_file} bytes")


@dataclass(frozen=True, slots=True)
class UploadWhole:
    """One upload of all *size* bytes; *fetched* are the ranges of the base that are read for it first."""

    size: int
    fetched: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class CopyWhole:
    """One b2_copy_file of bytes [start, end) of the base, and nothing else to do."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class CopyPart:
    """A part that B2 copies from bytes [start, end) of the base."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class UploadPart:
    """A part that is uploaded; *fetched* are the ranges of the base that are read for it first."""

    start: int
    end: int
    fetched: tuple[Range, ...]

    @property
    def size(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Assemble:
    """A large file of two parts or more; part number N is the Nth of *parts*, and they lie end to end."""

    parts: tuple[CopyPart | UploadPart, ...]


Plan = UploadWhole | CopyWhole | Assemble


def plan_parts(
    segments: Sequence[Segment],
    *,
    base_size: int,
    may_read_base: bool = True,
    limits: Limits = Limits(),
    upload_part_size: int = UPLOAD_PART_SIZE,
    copy_part_size: int | None = None,
    call_bytes: int = CALL_BYTES,
) -> Plan:
    """Choose how to make the draft that *segments* describe; they cover all of it, in order.

    *may_read_base*: whether the key has readFiles, which copying needs as much as fetching. The part sizes
    are what to aim at; they grow with the file where B2's number of parts would not suffice. *call_bytes* is
    the price of a call, as the bytes that could be sent or fetched instead.

    Raises FileTooLarge, NotPermitted (the base shows and may not be read), ValueError (not of this base).
    """
    size = _checked_size(segments, base_size)
    if size > limits.maximum_file:
        raise FileTooLarge(f"{size} bytes, and B2 holds files of up to {limits.maximum_file} bytes")
    base = _BaseRanges(segments)
    if base.total and not may_read_base:
        raise NotPermitted(
            "the key lacks readFiles, so what a file holds already cannot go into its new version"
        )
    if size and base.total == size <= limits.maximum_single:
        return CopyWhole(0, size)
    whole = UploadWhole(size, base.within(0, size))
    if size <= 2 * limits.minimum_part:
        return whole
    uploads = _upload_ranges(segments, size, limits, call_bytes)
    parts = _cut(uploads, size, base, limits, upload_part_size, copy_part_size or _copy_part_size(size))
    if len(parts) < 2:
        return whole
    is_quick = size <= min(2 * upload_part_size, limits.maximum_single)  # not worth several connections
    if is_quick and _moved([whole]) + call_bytes <= _moved(parts) + call_bytes * (len(parts) + 2):
        return whole
    return Assemble(parts)


# --- a file that is sent while it is written --------------------------------------------------------------


def plan_head(base_bytes: int, *, limits: Limits = Limits()) -> tuple[CopyPart, ...]:
    """Plan the parts before those that a stream uploads: copies of the first bytes of the base.

    Nothing where they are too few for a part; then the first upload begins with them.
    """
    if base_bytes < limits.minimum_part:
        return ()
    aim = max(_copy_part_size(base_bytes), limits.minimum_part, base_bytes // STREAM_STEP)
    aim = min(aim, limits.maximum_part)
    return tuple(CopyPart(start, end) for start, end in _evenly((0, base_bytes), aim, limits))


def stream_part_size(uploaded: int, *, at_most: int, limits: Limits = Limits()) -> int:
    """Return the size of the next part of a stream that has *uploaded* parts already, in bytes."""
    size = UPLOAD_PART_SIZE << (uploaded // STREAM_STEP)
    return max(min(size, at_most, limits.maximum_part), limits.minimum_part)


def plan_tail(
    segments: Sequence[Segment],
    *,
    base_size: int,
    parts_before: int,
    limits: Limits = Limits(),
    upload_part_size: int = UPLOAD_PART_SIZE,
    copy_part_size: int | None = None,
) -> tuple[CopyPart | UploadPart, ...]:
    """Plan the parts after those that a stream has planned, once it is known how the file ends.

    *segments* cover the rest of the draft; none, and there are no parts. Raises ValueError.
    """
    if not segments:
        return ()
    begin, size = segments[0].start, segments[-1].end
    if segments[-1].origin is Origin.BASE and size > base_size:
        raise ValueError(f"{segments[-1]} lies beyond a base of {base_size} bytes")
    left = limits.maximum_parts - parts_before
    limits = replace(
        limits, maximum_parts=left, maximum_file=min(limits.maximum_file, left // 2 * limits.maximum_part)
    )
    moved = [Segment(s.start - begin, s.end - begin, s.origin) for s in segments]
    uploads = _upload_ranges(moved, size - begin, limits, CALL_BYTES)
    copy_size = copy_part_size or _copy_part_size(size - begin)
    parts = _cut(uploads, size - begin, _BaseRanges(moved), limits, upload_part_size, copy_size)
    return tuple(_shifted(part, begin) for part in parts)


def _shifted(part: CopyPart | UploadPart, by: int) -> CopyPart | UploadPart:
    if isinstance(part, CopyPart):
        return CopyPart(part.start + by, part.end + by)
    fetched = tuple((start + by, end + by) for start, end in part.fetched)
    return UploadPart(part.start + by, part.end + by, fetched)


# --- how a plan is made -----------------------------------------------------------------------------------


def _checked_size(segments: Sequence[Segment], base_size: int) -> int:
    at = 0
    for segment in segments:
        if segment.start != at or segment.end <= at:
            raise ValueError(f"{segment} does not follow on {at}")
        at = segment.end
        if segment.origin is Origin.BASE and at > base_size:
            raise ValueError(f"{segment} lies beyond a base of {base_size} bytes")
    return at


class _BaseRanges:
    """Where the base shows."""

    def __init__(self, segments: Iterable[Segment]) -> None:
        self._ranges = [(s.start, s.end) for s in segments if s.origin is Origin.BASE]
        self._ends = [end for _, end in self._ranges]
        self.total = sum(end - start for start, end in self._ranges)

    def within(self, start: int, end: int) -> tuple[Range, ...]:
        found: list[Range] = []
        for index in range(bisect_right(self._ends, start), len(self._ranges)):
            base_start, base_end = self._ranges[index]
            if base_start >= end:
                break
            found.append((max(base_start, start), min(base_end, end)))
        return tuple(found)


def _moved(steps: Iterable[UploadWhole | UploadPart | CopyPart]) -> int:
    """Count the bytes that go up or come down."""
    total = 0
    for step in steps:
        if not isinstance(step, CopyPart):
            total += step.size + sum(end - start for start, end in step.fetched)
    return total


def _upload_ranges(segments: Iterable[Segment], size: int, limits: Limits, call_bytes: int) -> list[Range]:
    """Choose what to upload: all that is not in the base, grown and joined until B2 takes the parts.

    Every range but one that ends the file has at least the minimum, and so has every gap but one that ends
    the file. A change too small for a part grows over what follows it. A gap is uploaded too where it is too
    small for a part, or where the change after it would have to grow so much that joining them costs less.
    """
    minimum = limits.minimum_part
    ranges = [(0, 0)]  # what starts too early in the file to leave a part before it joins this
    for segment in segments:
        if segment.origin is Origin.BASE:
            continue
        start, end = ranges[-1]
        growth = min(max(0, minimum - segment.size), size - segment.end)
        if segment.start - end < max(minimum, growth + call_bytes):
            ranges[-1] = (start, min(max(end, segment.end, start + minimum), size))
        else:
            ranges.append((segment.start, segment.end + growth))
    return _joined([r for r in ranges if r[0] < r[1]], at_most=limits.maximum_parts // 4)


def _joined(ranges: list[Range], *, at_most: int) -> list[Range]:
    """Join the ranges with the smallest gaps between them until there are few enough.

    A quarter of B2's number of parts leaves another for the gaps, and half to cut long ranges with.
    """
    surplus = len(ranges) - at_most
    if surplus <= 0:
        return ranges
    gaps = sorted(range(1, len(ranges)), key=lambda index: ranges[index][0] - ranges[index - 1][1])
    closed = set(gaps[:surplus])
    found = ranges[:1]
    for index in range(1, len(ranges)):
        if index in closed:
            found[-1] = (found[-1][0], ranges[index][1])
        else:
            found.append(ranges[index])
    return found


def _cut(
    uploads: list[Range], size: int, base: _BaseRanges, limits: Limits, upload_size: int, copy_size: int
) -> tuple[CopyPart | UploadPart, ...]:
    """Cut the uploads, and the gaps between them, into parts; larger ones until B2's number suffices."""
    borders = [0, *(border for upload in uploads for border in upload), size]
    copies = [(start, end) for start, end in zip(borders[::2], borders[1::2], strict=True) if start < end]
    while True:
        upload_size = min(max(upload_size, limits.minimum_part), limits.maximum_part)
        copy_size = min(max(copy_size, limits.minimum_part), limits.maximum_part)
        count = sum(_pieces(r, upload_size, limits) for r in uploads)
        count += sum(_pieces(r, copy_size, limits) for r in copies)
        if count <= limits.maximum_parts:
            break
        upload_size, copy_size = 2 * upload_size, 2 * copy_size
    parts: list[CopyPart | UploadPart] = []
    for upload in uploads:
        parts += (UploadPart(a, b, base.within(a, b)) for a, b in _evenly(upload, upload_size, limits))
    for copy in copies:
        parts += (CopyPart(a, b) for a, b in _evenly(copy, copy_size, limits))
    return tuple(sorted(parts, key=lambda part: part.start))


def _copy_part_size(size: int) -> int:
    """Return how much one call is to copy of a file of *size* bytes: B2 works at several side by side."""
    return min(max(size // COPIES_AT_ONCE, LEAST_COPY_PART), COPY_PART_SIZE)


def _pieces(whole: Range, aim: int, limits: Limits) -> int:
    """Say into how many parts of about *aim* bytes a range goes without any being too small."""
    length = whole[1] - whole[0]
    return max(1, min(-(-length // aim), length // limits.minimum_part))


def _evenly(whole: Range, aim: int, limits: Limits) -> Iterable[Range]:
    start, end = whole
    count = _pieces(whole, aim, limits)
    return pairwise(start + (end - start) * index // count for index in range(count + 1))
