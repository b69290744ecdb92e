"""The facts about a mount in words: rows of a label and a text, in the order in which people ask.

Whatever a mount does not tell is left out, so that an older or newer one can be asked too.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from b2mount.cli import units
from b2mount.cli.findings import describe_access

ITEMS_SHOWN = 20
ERRORS_SHOWN = 10
Facts = Mapping[str, Any]
Row = tuple[str, str]  # a label, "" under the one before; and what there is to say

BUDGET_WORDS = {"class_b": "class B calls", "class_c": "class C calls", "download_bytes": "download"}


def describe(facts: Facts) -> Iterator[Row]:
    """Write the facts for people."""
    yield from _describe_mount(facts)
    yield from _describe_key(facts.get("key") or {})
    yield from _describe_pending(facts.get("pending") or {}, kept_in=facts.get("state_dir"))
    for failing in facts.get("failing") or []:
        yield "failing", _describe_failing(failing)
    for conflict in facts.get("conflicts") or []:
        yield "conflict", f"{_moment(conflict.get('when_ms'))} {conflict.get('text', '')}".strip()
    yield from _describe_cache(facts.get("cache") or {}, facts.get("open_files"))
    yield from _describe_calls(facts)
    yield from _describe_today(facts.get("today") or {})
    for cap in facts.get("caps") or []:
        yield "cap", _describe_cap(cap)
    for error in (facts.get("errors") or [])[-ERRORS_SHOWN:]:
        yield (
            error.get("level") or "error",
            f"{_moment(error.get('when_ms'))} {error.get('text', '')}".strip(),
        )


def _describe_mount(facts: Facts) -> Iterator[Row]:
    scope: Facts = facts.get("scope") or {}
    if mountpoint := facts.get("mountpoint"):
        yield "mount", str(mountpoint)
    if source := facts.get("source"):
        yield "source", source
    if at := facts.get("at"):
        yield "as it was", at
    if buckets := scope.get("buckets"):
        yield "buckets", ", ".join(buckets)
    if directory := scope.get("directory"):
        yield "root", directory
    if prefix := scope.get("prefix"):
        yield "prefix", prefix
    capabilities = scope.get("capabilities") or []
    if "read_only" in scope:
        because = scope.get("read_only_because")
        access = describe_access(capabilities, read_only=scope["read_only"])
        yield "access", f"{access} ({because})" if because else access
    if capabilities:
        yield "key may", " ".join(capabilities)
    if "uptime_seconds" in facts:
        by = f" (process {facts['pid']})" if "pid" in facts else ""
        yield "up", f"{units.show_duration(facts['uptime_seconds'])}{by}"


def _describe_key(key: Facts) -> Iterator[Row]:
    if key_id := key.get("id"):
        yield "key", str(key_id)
    if expires_ms := key.get("expires_ms"):
        left = key.get("left_seconds")
        words = f", in {units.show_duration(left)}" if left else ""
        yield "key ends", f"{_moment(expires_ms)}{words}"
    if warning := key.get("warning"):
        yield "warning", warning


def _describe_pending(pending: Facts, *, kept_in: str | None) -> Iterator[Row]:
    count = pending.get("files", 0)
    if kept := pending.get("kept_files"):
        size = units.show_size(sum(one.get("bytes", 0) for one in kept))
        files = units.show_count(len(kept), "file")
        yield "kept", f"{files}, {size}, of no change, left by a crash: b2mount recover tells of them"
    if not count:
        yield "pending", "nothing: all that was written is in B2"
        return
    yield "pending", show_pending(count, pending.get("bytes", 0))
    for rename in (pending.get("renames") or [])[:ITEMS_SHOWN]:
        yield "renaming", show_rename(rename)
    items = (pending.get("items") or [])[:ITEMS_SHOWN]
    for item in items:
        yield "", _describe_item(item)
    if count > len(items):
        yield "", f"and {count - len(items)} more (--json shows all that the mount tells)"
    if kept_in:
        yield "kept in", kept_in


def show_pending(files: int, size_bytes: int) -> str:
    """Write how much is not yet in B2."""
    return f"{units.show_count(files, 'file')}, {units.show_size(size_bytes)} not yet in B2"


def show_rename(rename: Facts) -> str:
    """Write how far the rename of a directory is in B2."""
    files = f"{rename.get('files_done', 0)} of {units.show_count(rename.get('files', 0), 'file')}"
    size = f"{units.show_size(rename.get('bytes_done', 0))} of {units.show_size(rename.get('bytes', 0))}"
    return f"{rename.get('from', '')} to {rename.get('to', '')}: {files}, {size} done"


def without_name(error: str, name: str) -> str:
    """Return what an error says beside the name that it begins with."""
    return error.removeprefix(f"{name}: ")


def _describe_item(item: Facts) -> str:
    size, sent = item.get("bytes", 0), item.get("sent_bytes", 0)
    progress = f" ({100 * min(sent, size) // size}% sent)" if size and sent else ""
    words = [str(item.get("name", "")), units.show_size(size) + progress, str(item.get("state", ""))]
    if item.get("attempts"):
        words.append(units.show_count(item["attempts"], "attempt"))
    if item.get("error"):
        words.append(without_name(str(item["error"]), words[0]))
    if item.get("next_try_seconds") is not None:
        words.append(f"next try in {units.show_duration(item['next_try_seconds'])}")
    return ", ".join(word for word in words if word)


def _describe_failing(failing: Facts) -> str:
    since = units.show_duration(failing.get("seconds", 0))
    retries = units.show_count(failing.get("retries", 0), "try").replace("trys", "tries")
    return f"{failing.get('operation', '')}, for {since} and {retries}: {failing.get('error', '')}"


def _describe_cache(cache: Facts, open_files: int | None) -> Iterator[Row]:
    words = []
    for field, place in (("memory_bytes", "memory"), ("disk_bytes", "disk")):
        if field in cache:
            words.append(f"{units.show_size(cache[field])} {place}")
    hits = cache.get("hits", 0)
    asked = hits + cache.get("misses", 0)
    if asked:
        words.append(f"{_percent(hits, asked)} of {units.show_count(asked, 'read')} answered")
    if words:
        yield "cache", ", ".join(words)
    words = []
    for field in ("listings", "inodes"):
        if field in cache:
            words.append(f"{cache[field]} {field}")
    hits = cache.get("listing_hits", 0)
    asked = hits + cache.get("listing_misses", 0)
    if asked:
        words.append(f"{_percent(hits, asked)} of {units.show_count(asked, 'look')} answered")
    if open_files is not None:
        words.append(f"{units.show_count(open_files, 'open file')}")
    if words:
        yield "names", ", ".join(words)
    scans: Facts = cache.get("scans") or {}
    if fetched := scans.get("fetched"):
        read = scans.get("hits", 0)
        yield "ahead", f"{units.show_count(fetched, 'file')} fetched ahead of scans, {read} of them read"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f}%"


def _describe_calls(facts: Facts) -> Iterator[Row]:
    calls: Facts = facts.get("calls") or {}
    classes = _classes(calls)
    if classes:
        cost = f", about ${facts['cost_dollars']:.4f}" if "cost_dollars" in facts else ""
        yield "calls", classes + cost
    latencies: Facts = facts.get("latency") or {}
    by_name: Mapping[str, int] = calls.get("by_name") or {}
    for name, count in sorted(by_name.items(), key=lambda row: (-row[1], row[0])):
        yield "", f"{count:>8} {name}{_describe_latency(latencies.get(name))}"
    moved: Facts = facts.get("bytes") or {}
    if moved:
        yield "moved", _moved(moved)


def _classes(calls: Facts) -> str:
    return ", ".join(f"{calls[name]} class {name}" for name in ("A", "B", "C") if name in calls)


def _moved(moved: Facts) -> str:
    return f"{units.show_size(moved.get('up', 0))} up, {units.show_size(moved.get('down', 0))} down"


def _describe_latency(latency: Facts | None) -> str:
    if not latency or not latency.get("count"):
        return ""
    return (
        f", half in {_quick(latency.get('p50', 0))}, 99% in {_quick(latency.get('p99', 0))}, "
        f"all in {_quick(latency.get('longest', 0))}"
    )


def _quick(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _describe_today(today: Facts) -> Iterator[Row]:
    if not today:
        return
    cost = f", about ${today['cost_dollars']:.4f} past the free ones" if "cost_dollars" in today else ""
    yield "today", f"{_classes(today)}{cost}; {_moved(today)} (UTC)"
    for item, budget in (today.get("budget") or {}).items():
        yield "budget", _describe_budget(str(item), budget)


def _describe_budget(item: str, budget: Facts) -> str:
    spent, limit = budget.get("spent", 0), budget.get("limit", 0)
    shown = f"{spent} of {limit}"
    if item == "download_bytes":
        shown = f"{units.show_size(spent)} of {units.show_size(limit)}"
    words = f"{shown} {BUDGET_WORDS.get(item, item)} today"
    if budget.get("stage") == "near":
        return f"{words}: nearly spent"
    if budget.get("stage") == "spent":
        return f"{words}: spent; until 00:00 UTC {budget.get('means') or 'less is fetched'}"
    return words


def _describe_cap(cap: Facts) -> str:
    words = f"B2 said that the account's cap is reached ({cap.get('kind', '')}), at {cap.get('call', '')}"
    since, last, over = _moment(cap.get("since_ms")), _moment(cap.get("last_ms")), _moment(cap.get("over_ms"))
    words += f", since {since}" if since == last else f", from {since} to {last}"
    return f"{words}; lifted {over}" if over else words


def _moment(when_ms: Any) -> str:
    """Write a moment in local time."""
    if not isinstance(when_ms, (int, float)):
        return ""
    return datetime.fromtimestamp(when_ms / 1000, UTC).astimezone().isoformat(" ", "seconds")
