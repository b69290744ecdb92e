"""Runs workloads on mounts, one after the other, and keeps what they cost.

Each run has a mount of its own and does its work in a process of its own, so that work that hangs can be
ended. However a run ends, its mount is gone afterwards and so is all that it kept.
"""

import compileall
import multiprocessing
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from tests.benchmarks import content
from tests.benchmarks.ceilings import measure_ceilings
from tests.benchmarks.measure import Cost, Snapshot, drop_page_cache, take
from tests.benchmarks.mounts import Contender, make
from tests.benchmarks.networks import NEAR, Network, Server, choose_data_directory, serving
from tests.benchmarks.results import Results, Sample
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.workload import Row, Run, Workload

ENOUGH_SECONDS = 6.0  # a run that takes longer is not repeated: what disturbs it is small beside it
FAILED = "failed"
PACKAGE = Path(__file__).parent.parent.parent / "b2mount"
LOG_BYTES = 600  # of a mount's log beside a failure

_fork = multiprocessing.get_context("fork")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run."""

    networks: Sequence[Network]
    workloads: Sequence[Workload]
    contenders: Sequence[str]
    rounds: int
    near: Sizes
    far: Sizes
    is_quick: bool


class WorkFailed(Exception):
    """A run ended without all its rows."""

    def __init__(self, reason: str, over_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.over_seconds = over_seconds


def run_plan(plan: Plan, results: Results, output: Path) -> None:
    """Run everything; *output* is written anew after each workload, so that an early end loses little."""
    content.prepare()
    compileall.compile_dir(PACKAGE, quiet=1)  # as pip does when it installs, and a checkout may not
    for network in plan.networks:
        with (
            tempfile.TemporaryDirectory(prefix="b2mount-bench-", dir=choose_data_directory()) as data,
            serving(network, Path(data) / "emulator") as server,
        ):
            say(f"{network.name}: how fast the server is")
            results.ceilings[network.name] = measure_ceilings(server, is_quick=plan.is_quick)
            stage = Stage(server, network, plan.far if network.is_far else plan.near)
            for workload in plan.workloads:
                results.samples += stage.run_rounds(workload, plan.contenders, plan.rounds)
                results.save(output)


class Stage:
    """One network with its server, and the buckets that were filled so far."""

    def __init__(self, server: Server, network: Network, sizes: Sizes) -> None:
        self._server = server
        self._network = network
        self._sizes = sizes
        self._words = sizes.words()
        self._filled: dict[str, str] = {}
        self._buckets = 0

    def run_rounds(self, workload: Workload, contenders: Sequence[str], rounds: int) -> list[Sample]:
        """Run one workload on each contender in turn, as often as is worth it; who goes first changes."""
        samples: list[Sample] = []
        done: set[str] = set()
        for number in range(rounds):
            turn = number % len(contenders)
            for name in (*contenders[turn:], *contenders[:turn]):
                if name in done:
                    continue
                began = time.monotonic()
                taken = self.run_once(workload, name, number)
                samples += taken
                if time.monotonic() - began > ENOUGH_SECONDS:
                    done.add(name)
                shown = ", ".join(f"{s.cost.seconds:.3f} s" if s.cost else s.failure for s in taken)
                say(f"{self._network.name} {workload.slug} {number + 1}/{rounds} {name}: {shown}")
        return samples

    def run_once(self, workload: Workload, name: str, number: int) -> list[Sample]:
        """Run one workload once; give a sample for each of its rows, also for those that failed."""
        costs: dict[str, Cost] = {}
        failure, over = "", None
        self._server.emulator.network(**NEAR)  # raises OSError, which ends everything, if the server is gone
        try:
            with self._bucket(workload) as bucket, self._mounted(name, bucket) as (mount, before, seconds):
                self._work(workload, mount, bucket, before, seconds, costs)
        except WorkFailed as reason:
            failure, over = str(reason), reason.over_seconds
        except Exception as error:
            failure = f"{type(error).__name__}: {str(error)[:LOG_BYTES]}"

        def sample(row: Row) -> Sample:
            title, cost = row.title.format_map(self._words), costs.get(row.slug)
            is_over = over if cost is None else None
            return Sample(self._network.name, row.slug, title, name, number, cost, failure, is_over)

        return [sample(row) for row in workload.rows]

    @contextmanager
    def _bucket(self, workload: Workload) -> Iterator[str]:
        """Give the bucket of a workload, filled: one that all runs share, or one of this run alone."""
        emulator = self._server.emulator
        if workload.data is not None and workload.data in self._filled:
            yield self._filled[workload.data]
            return
        self._buckets += 1
        bucket = f"bench-{self._buckets}-{workload.data or workload.slug}"
        emulator.create_bucket(bucket)
        workload.prepare(self._server, bucket, self._sizes)
        if workload.data is not None:
            self._filled[workload.data] = bucket
            yield bucket
            return
        yield bucket
        emulator.wipe(bucket)  # what a failed run leaves goes with the server

    @contextmanager
    def _mounted(self, name: str, bucket: str) -> Iterator[tuple[Contender, Snapshot, float]]:
        """Mount with nothing cached anywhere; unmount and remove all that is left."""
        emulator = self._server.emulator
        with tempfile.TemporaryDirectory(prefix="b2mount-bench-") as base:
            mount = make(name, self._server, Path(base), bucket)
            drop_page_cache()
            emulator.network(**self._network.settings)
            emulator.reset_counters()
            before, began = take(None, emulator), time.perf_counter()
            try:
                mount.start()
                yield mount, before, time.perf_counter() - began
                emulator.network(**NEAR)
                mount.stop()
            finally:
                mount.kill()

    def _work(
        self,
        workload: Workload,
        mount: Contender,
        bucket: str,
        before: Snapshot,
        seconds: float,
        costs: dict[str, Cost],
    ) -> None:
        """Have a process do the work, for as long as it may take; fill *costs*. Raises WorkFailed."""
        receiver, sender = _fork.Pipe(duplex=False)

        def work() -> None:
            receiver.close()
            self._server.emulator.forget_connections()
            run = Run(
                mount,
                self._server,
                self._network,
                bucket,
                self._sizes,
                lambda slug, cost: sender.send((slug, cost)),
                before,
                seconds,
            )
            _do(workload, run, sender)

        worker = _fork.Process(target=work, daemon=True)
        worker.start()
        sender.close()
        try:
            _collect(receiver, workload.limit_seconds, costs)
        except WorkFailed:
            mount.kill()  # first: what waits for the mount cannot be ended before
            raise
        finally:
            worker.kill()
            worker.join()
            receiver.close()


def _do(workload: Workload, run: Run, sender: Connection) -> None:
    """Do the work, in the process that was made for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's, which ends this process
    try:
        workload.work(run)
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = (
            f"{type(error).__name__}: {str(error)[:LOG_BYTES]} ({Path(place.filename).name}:{place.lineno})"
        )
        sender.send((FAILED, f"{text}; {run.mount.log()[-LOG_BYTES:]}".strip("; ")))
    sender.close()


def _collect(receiver: Connection, limit_seconds: float, costs: dict[str, Cost]) -> None:
    """Take rows until the worker is done. Raises WorkFailed, also when it takes too long."""
    deadline = time.monotonic() + limit_seconds
    while True:
        if not receiver.poll(max(0.0, deadline - time.monotonic())):
            raise WorkFailed(f"ended after {limit_seconds:.0f} s", limit_seconds)
        try:
            slug, value = receiver.recv()
        except EOFError:
            return
        if slug == FAILED:
            raise WorkFailed(value)
        costs[slug] = value


def say(text: str) -> None:
    """Tell how far the run is."""
    print(text, file=sys.stderr, flush=True)
