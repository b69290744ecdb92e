"""What a workload is: what it needs to find, what it does, which rows it gives, and what is aimed at."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.measure import Clock, Cost, Snapshot, count_uploads, forget_peaks, take
from tests.benchmarks.mounts import Contender
from tests.benchmarks.networks import NEAR, Network, Server
from tests.benchmarks.sizes import Sizes

LIMIT_SECONDS = 100.0

SECONDS = "time"  # ratio to rclone's better configuration
CLASS_C = "class C calls"  # likewise
BYTES = "bytes down"  # likewise
MOVED = "bytes up and down"  # likewise
MEMORY = "peak MiB"  # absolute
ABSOLUTE_SECONDS = "seconds"  # absolute
CALLS = "calls"  # absolute, of all classes


@dataclass(frozen=True, slots=True)
class Goal:
    """What is aimed at: no more than *most* of *what*, near or far."""

    what: str
    most: float
    is_far: bool


def goals(near: float | None, far: float | None = None, *others: Goal) -> tuple[Goal, ...]:
    """Return goals for the time near and far, and *others*."""
    times = ((near, False), (far, True))
    return (*(Goal(SECONDS, most, is_far) for most, is_far in times if most is not None), *others)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. {words} in the title are names of sizes."""

    slug: str
    title: str
    goals: tuple[Goal, ...]


class Run:
    """One run of one workload on one mount, inside the process that does the work."""

    def __init__(
        self,
        mount: Contender,
        server: Server,
        network: Network,
        bucket: str,
        sizes: Sizes,
        report: Callable[[str, Cost], None],
        before_start: Snapshot,
        start_seconds: float,
    ) -> None:
        self.path: Path = mount.path
        self.mount = mount
        self.emulator = server.emulator
        self.bucket = bucket
        self.sizes = sizes
        self.random = random.Random(1)  # the same places for every mount
        self._before_start = before_start
        self._start_seconds = start_seconds
        self._network = network
        self._uploads = 0  # when the row began
        self._report = report

    @contextmanager
    def row(self, slug: str) -> Iterator[Clock]:
        """Measure what happens inside as one row."""
        clock, pid = Clock(), self.mount.pid()
        forget_peaks(pid)
        before = take(pid, self.emulator)
        self._uploads = before.uploads
        began = time.perf_counter()
        yield clock
        elapsed = time.perf_counter() - began
        self._report(slug, clock.cost(elapsed, before, take(pid, self.emulator)))

    def flush(self, *, uploads: int) -> None:
        """Return when all is in B2 that was written since the row began, *uploads* files at least."""
        self.mount.flush(lambda: count_uploads(self.emulator) - self._uploads >= uploads)

    def report_start(self, slug: str) -> None:
        """Give what starting took and what was done since, with the memory held now, as a row."""
        pid = self.mount.pid()
        forget_peaks(pid)
        now = take(pid, self.emulator)
        self._report(slug, Clock().cost(self._start_seconds, self._before_start, now))

    @contextmanager
    def nearby(self) -> Iterator[None]:
        """Have the server near, so that verifying takes no longer than it must."""
        self.emulator.network(**NEAR)
        try:
            yield
        finally:
            self.emulator.network(**self._network.settings)


Prepare = Callable[[Server, str, Sizes], None]
Work = Callable[[Run], None]


@dataclass(frozen=True, slots=True)
class Workload:
    """One piece of work on a fresh mount with nothing cached.

    *data* names the bucket that it finds, and *prepare* fills it; None: each run has an empty bucket of its
    own, filled by *prepare*.
    """

    slug: str
    kind: str  # heading of the table
    rows: tuple[Row, ...]
    prepare: Prepare
    work: Work
    data: str | None = None
    limit_seconds: float = LIMIT_SECONDS  # a run that takes longer is ended and reported as such
    is_optional: bool = False  # only when asked for by name


def nothing(server: Server, bucket: str, sizes: Sizes) -> None:
    """Leave the bucket empty."""
