"""The facts of a mount as Prometheus metrics. Each is documented in docs/monitoring.md, and that is tested.

Imported only where a mount is to serve metrics: prometheus-client takes a tenth of a second to import.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from b2mount.core.latency import BOUNDS
from b2mount.store.counting import CLASS_C, CLASSES, Totals

CONTENT_TYPE = CONTENT_TYPE_LATEST
Facts = Mapping[str, Any]
_Rows = Iterable[tuple[tuple[str, ...], float]]


class _Snapshot(Collector):
    """Metrics of one moment."""

    def __init__(self, facts: Facts, totals: Totals) -> None:
        self._facts = facts
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        yield from _mount(self._facts)
        yield from _calls(self._totals)
        yield from _budget(self._facts["today"])
        yield from _caps(self._totals)
        yield from _pending(self._facts)
        yield from _cache(self._facts["cache"])
        yield from _trouble(self._facts)


def render(facts: Facts, totals: Totals) -> bytes:
    """Write the metrics of one moment in Prometheus' text format. May be called in a thread."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(_Snapshot(facts, totals))
    return generate_latest(registry)


def _family(
    kind: Callable[..., Metric], name: str, text: str, rows: _Rows, labels: tuple[str, ...] = ()
) -> Metric:
    family: Any = kind(f"b2mount_{name}", text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    metric: Metric = family
    return metric


def _gauge(name: str, text: str, number: float) -> Metric:
    return _family(GaugeMetricFamily, name, text, [((), number)])


def _counter(name: str, text: str, number: float) -> Metric:
    return _family(CounterMetricFamily, name, text, [((), number)])


def _mount(facts: Facts) -> Iterator[Metric]:
    build = InfoMetricFamily("b2mount_build", "The version that runs.")
    build.add_metric((), {"version": facts["version"]})
    yield build
    mount = InfoMetricFamily("b2mount_mount", "What is mounted, and where.")
    mount.add_metric((), {"mountpoint": facts["mountpoint"], "source": facts["source"] or ""})
    yield mount
    yield _gauge("start_time_seconds", "When the mount began, since the epoch.", facts["started_ms"] / 1000)
    yield _gauge("read_only", "1 where the mount changes nothing.", float(facts["scope"]["read_only"]))
    key = facts["key"]
    if key["expires_ms"] is not None:
        text = "When the application key ends, since the epoch; absent where it has no end."
        yield _gauge("key_expiry_timestamp_seconds", text, key["expires_ms"] / 1000)
    yield _gauge("key_refused", "1 while B2 does not take the key.", float(key["refused"]))
    yield _gauge("open_files", "Open file handles.", facts["open_files"])
    yield _gauge("inodes", "Files and directories that the kernel may hold.", facts["cache"]["inodes"])


def _calls(totals: Totals) -> Iterator[Metric]:
    yield _family(
        CounterMetricFamily,
        "api_calls",
        "Requests sent to B2, each retry again.",
        [((call, CLASSES.get(call, CLASS_C)), count) for call, count in totals.requests.items()],
        ("name", "class"),
    )
    yield _family(
        CounterMetricFamily,
        "transactions",
        "Transactions as B2 bills them: a list call counts once for each 1,000 rows.",
        [((name,), count) for name, count in totals.classes.items()],
        ("class",),
    )
    yield _family(
        CounterMetricFamily,
        "api_errors",
        "Requests without a good answer: refused (401, 403) or failed.",
        [(("refused",), totals.refused), (("failed",), totals.failed)],
        ("kind",),
    )
    yield _counter("cost_dollars", "What the transactions cost, free ones counted too.", totals.dollars)
    yield _family(
        CounterMetricFamily,
        "bytes",
        "Bytes of file content moved.",
        [(("up",), totals.bytes_up), (("down",), totals.bytes_down)],
        ("direction",),
    )
    seconds = HistogramMetricFamily(
        "b2mount_request_seconds", "How long B2 took to answer.", labels=("name",)
    )
    for call, latency in totals.latency.items():
        buckets, passed = [], 0
        for bound, inside in zip([*map(str, BOUNDS), "+Inf"], latency.bins, strict=True):
            passed += inside
            buckets.append((bound, passed))
        seconds.add_metric((call,), buckets, latency.total)
    yield seconds


def _budget(today: Facts) -> Iterator[Metric]:
    yield _family(
        GaugeMetricFamily,
        "today_transactions",
        "Transactions since 00:00 UTC, those of earlier mounts of the scope too.",
        [((name,), today[name]) for name in ("A", "B", "C")],
        ("class",),
    )
    yield _family(
        GaugeMetricFamily,
        "today_bytes",
        "Bytes of file content moved since 00:00 UTC.",
        [(("up",), today["up"]), (("down",), today["down"])],
        ("direction",),
    )
    budget = today["budget"].items()
    yield _family(
        GaugeMetricFamily,
        "budget_limit",
        "What may be spent a day; absent without a budget.",
        [((item,), told["limit"]) for item, told in budget],
        ("item",),
    )
    yield _family(
        GaugeMetricFamily,
        "budget_used_ratio",
        "The part of a day's budget that is spent; 1 and more: less is fetched ahead.",
        [((item,), told["spent"] / told["limit"]) for item, told in budget],
        ("item",),
    )


def _caps(totals: Totals) -> Iterator[Metric]:
    yield _family(
        CounterMetricFamily,
        "cap_reached",
        "Answers that said that a cap of the account is reached, since it was last met.",
        [((cap.kind,), cap.times) for cap in totals.caps.values()],
        ("cap",),
    )
    yield _family(
        GaugeMetricFamily,
        "cap_active",
        "1 while a cap was met and no call has shown that it is lifted.",
        [((cap.kind,), float(cap.over_ms is None)) for cap in totals.caps.values()],
        ("cap",),
    )


def _pending(facts: Facts) -> Iterator[Metric]:
    pending = facts["pending"]
    yield _gauge("pending_files", "Changes that are not in B2 yet.", pending["files"])
    yield _gauge("pending_bytes", "New bytes that are not in B2 yet.", pending["bytes"])
    yield _gauge("pending_sent_bytes", "Of these, what B2 has of unfinished files.", pending["sent_bytes"])
    text = "How long the oldest change has waited; 0 where none waits."
    yield _gauge("pending_oldest_seconds", text, pending["oldest_seconds"])
    yield _counter("upload_errors", "Attempts to send a change that failed.", pending["failed_attempts"])


def _cache(cache: Facts) -> Iterator[Metric]:
    yield _family(
        CounterMetricFamily,
        "cache_hits",
        "What was asked for and was here: blocks in memory or on disk, listings.",
        [
            (("memory",), cache["hits"]),
            (("disk",), cache["disk_hits"]),
            (("listings",), cache["listing_hits"]),
        ],
        ("cache",),
    )
    yield _family(
        CounterMetricFamily,
        "cache_misses",
        "What was asked for and was not: blocks not in memory, listings.",
        [(("memory",), cache["misses"]), (("listings",), cache["listing_misses"])],
        ("cache",),
    )
    yield _family(
        GaugeMetricFamily,
        "cache_bytes",
        "What the block cache holds.",
        [(("memory",), cache["memory_bytes"]), (("disk",), cache["disk_bytes"])],
        ("cache",),
    )
    yield _family(
        GaugeMetricFamily,
        "cache_limit_bytes",
        "What it may hold.",
        [(("memory",), cache["memory_limit"]), (("disk",), cache["disk_limit"])],
        ("cache",),
    )
    yield _gauge("cache_listings", "Directories whose listing is kept.", cache["listings"])
    scans = cache["scans"]
    yield _counter("scan_fetched_files", "Files fetched ahead of a scan.", scans["fetched"])
    yield _counter("scan_read_files", "Of these, files that were read.", scans["hits"])


def _trouble(facts: Facts) -> Iterator[Metric]:
    yield _family(
        GaugeMetricFamily,
        "failing_seconds",
        "For how long an operation has failed, been tried again and not worked; absent where all is well.",
        [((one["operation"],), one["seconds"]) for one in facts["failing"]],
        ("operation",),
    )
    text = "Files overwritten here that somebody else had changed since."
    yield _counter("conflicts", text, facts["conflict_count"])
    yield _family(
        CounterMetricFamily,
        "log_messages",
        "Warnings and errors in the log.",
        [((level,), count) for level, count in facts["log_messages"].items()],
        ("level",),
    )
