"""What a mount says of itself: the facts behind `b2mount status` and the metrics, without secrets.

The keys are documented in docs/monitoring.md; scripts read them, so they stay. Costs no call and little time:
everything is counted where it happens.
"""

import functools
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import trio

from b2mount import __version__
from b2mount.core.access import is_read_only
from b2mount.core.grant import B2_NAMES
from b2mount.core.moments import format_moment
from b2mount.journal.journal import Journal
from b2mount.journal.ops import Op, State
from b2mount.mount_key import KeyKeeper
from b2mount.mount_recent import RecentErrors
from b2mount.mount_world import Mounted
from b2mount.store.budget import Budget
from b2mount.store.connect import MountStore
from b2mount.store.counting import Totals

ITEMS_TOLD = 1000  # pending changes named one by one

Facts = dict[str, Any]


class Reporter:
    """Gathers the facts of one mount."""

    def __init__(
        self, mounted: Mounted, store: MountStore, key: KeyKeeper, budget: Budget, recent: RecentErrors
    ) -> None:
        self._mounted = mounted
        self._store = store
        self._key = key
        self._budget = budget
        self._recent = recent
        self._started = time.monotonic()
        self._started_ms = time.time_ns() // 1_000_000

    def prepare_metrics(self) -> Callable[[], bytes]:
        """Gather the facts of this moment; what is returned writes them for Prometheus, in any thread."""
        from b2mount.mount_metrics import render  # a tenth of a second that only who wants metrics waits for

        return functools.partial(render, self.facts(), self._store.counters.totals())

    def facts(self) -> Facts:
        """Return all there is to say."""
        mounted = self._mounted
        totals = self._store.counters.totals()
        return {
            "version": __version__,
            "mountpoint": str(mounted.options.mountpoint),
            "pid": os.getpid(),
            "started_ms": self._started_ms,
            "uptime_seconds": time.monotonic() - self._started,
            "source": mounted.options.source,
            "at": None if mounted.options.at is None else format_moment(mounted.options.at),
            "state_dir": str(mounted.state_dir),
            "scope": self._scope(),
            "key": self._key.facts(),
            "pending": self._pending(),
            "failing": [asdict(incident) for incident in self._store.incidents.current()],
            "conflicts": mounted.conflicts.rows(),
            "conflict_count": mounted.conflicts.count,
            "cache": self._cache(),
            "open_files": mounted.fs.files.open_count,
            **_calls(totals),
            "today": self._budget.facts(),
            "caps": [asdict(cap) for cap in totals.caps.values()],
            "latency": _latency(totals),
            "errors": self._recent.rows(),
            "log_messages": self._recent.counts(),
        }

    def _scope(self) -> Facts:
        mounted, world = self._mounted, self._mounted.world
        grant, scope = world.grant, mounted.scope
        buckets = [scope.single] if scope.single is not None else (scope.buckets or [])
        return {
            "account": grant.account_id,
            "buckets": [bucket.name for bucket in buckets],
            "prefix": scope.limit,
            "directory": scope.directory,
            "read_only": world.read_only,
            "read_only_because": self._why_read_only(),
            "capabilities": [B2_NAMES[one] for one in grant.capabilities],
        }

    def _why_read_only(self) -> str | None:
        world = self._mounted.world
        if not world.read_only:
            return None
        if is_read_only(world.grant, False):
            return "the key may write nothing"
        return "it was mounted so"

    def _pending(self) -> Facts:
        journal = self._mounted.journal
        queue = journal.queue
        return {
            "files": len(queue),
            "bytes": journal.pending_bytes(),
            "oldest_seconds": _oldest_seconds(journal),
            "failed_attempts": journal.uploader.failures,
            "sent_bytes": sum(op.sent_bytes for op in queue.ops.values()),
            "renames": journal.moves.facts()[:ITEMS_TOLD],
            "kept_files": [
                {"file": str(one.path), "bytes": one.size, "changed_ms": one.changed_ms}
                for one in journal.kept[:ITEMS_TOLD]
            ],
            "items": [_item(op) for op in list(queue.ops.values())[:ITEMS_TOLD]],
        }

    def _cache(self) -> Facts:
        world, files = self._mounted.world, self._mounted.fs.files
        counts = world.blocks.counts
        return {
            "memory_bytes": world.blocks.memory_bytes,
            "memory_limit": world.blocks.memory_size,
            "disk_bytes": world.blocks.disk_bytes,
            "disk_limit": world.options.cache_size,
            "hits": counts.hits,
            "disk_hits": counts.disk_hits,
            "misses": counts.misses,
            "fetched_bytes": counts.fetched_bytes,
            "listings": len(world.listings),
            "listing_hits": world.listings.hits,
            "listing_misses": world.listings.misses,
            "inodes": len(world.nodes),
            "scans": {"fetched": files.scans.fetched, "hits": files.scans.hits, "unread": files.scans.unread},
        }


def _oldest_seconds(journal: Journal) -> float:
    """Say how long the oldest change has waited."""
    promised = [op.promised_ms for op in journal.queue.ops.values() if op.promised_ms]
    return max((journal.server_ms() - min(promised)) / 1000, 0.0) if promised else 0.0


def _item(op: Op) -> Facts:
    waits = op.state is State.QUEUED and op.error is not None
    return {
        "name": op.name,
        "change": op.kind.value,
        "bytes": op.draft.extents.dirty_bytes if op.draft is not None else 0,
        "sent_bytes": op.sent_bytes,
        "state": "sending" if op.state is State.SENDING else "waiting",
        "attempts": op.attempts,
        "error": str(op.error) if op.error is not None else None,
        "next_try_seconds": max(op.due - trio.current_time(), 0.0) if waits else None,
    }


def _calls(totals: Totals) -> Facts:
    return {
        "calls": {**totals.classes, "by_name": dict(totals.requests)},
        "cost_dollars": totals.dollars,
        "bytes": {"up": totals.bytes_up, "down": totals.bytes_down},
        "refused": totals.refused,
        "failed": totals.failed,
    }


def _latency(totals: Totals) -> Facts:
    return {
        call: {
            "count": latency.count,
            "p50": latency.quantile(0.5),
            "p90": latency.quantile(0.9),
            "p99": latency.quantile(0.99),
            "longest": latency.longest,
        }
        for call, latency in totals.latency.items()
    }
