"""`b2mount status`: what a running mount says about itself, for people or as JSON."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from b2mount.cli import units
from b2mount.cli.control import ask_once
from b2mount.cli.findings import describe_access
from b2mount.cli.mount_words import parse_path
from b2mount.cli.report import printable

ITEMS_SHOWN = 20
Facts = Mapping[str, Any]


@click.command(short_help="Show what a mount has pending, caches, costs.")
@click.argument("mountpoint", callback=units.reading(parse_path))
@click.option("--json", "as_json", is_flag=True, help="Print the mount's answer as JSON.")
def status(mountpoint: Path, as_json: bool) -> None:
    """\b
    b2mount status /mnt/photos
    b2mount status --json /mnt/photos | jq .pending

    Show pending uploads, cache use, errors, and the API calls made with what they cost.
    """
    facts = ask_once(mountpoint, {"op": "status"}).get("status") or {}
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for line in describe(facts):
        click.echo(printable(line))
    if log := find_log(facts.get("pid")):
        click.echo(printable(_row("log", log)))


def find_log(pid: Any) -> str | None:
    """Say where the log of a mount's process goes; None where that cannot be seen from here."""
    try:
        if b"b2mount" not in Path(f"/proc/{pid}/cmdline").read_bytes():  # a process of another PID namespace
            return None
        target = str(Path(f"/proc/{pid}/fd/2").readlink())
    except OSError:
        return None
    if target.startswith("socket:"):
        return f"journalctl _PID={pid}"
    return target if target.startswith("/") else None


def describe(facts: Facts) -> Iterator[str]:
    """Write the facts for people, a line each; what the mount does not tell is left out."""
    yield from _describe_mount(facts)
    yield from _describe_pending(facts.get("pending") or {}, kept_in=facts.get("state_dir"))
    yield from _describe_cache(facts.get("cache") or {})
    yield from _describe_calls(facts)
    for error in facts.get("errors") or []:
        yield _row("error", f"{_moment(error.get('when_ms'))} {error.get('text', '')}".strip())


def _row(name: str, text: str) -> str:
    return f"{name + ':':<10} {text}"


def _describe_mount(facts: Facts) -> Iterator[str]:
    scope: Facts = facts.get("scope") or {}
    if source := facts.get("source"):
        yield _row("source", source)
    if at := facts.get("at"):
        yield _row("as it was", at)
    if buckets := scope.get("buckets"):
        yield _row("buckets", ", ".join(buckets))
    if directory := scope.get("directory"):
        yield _row("root", directory)
    if prefix := scope.get("prefix"):
        yield _row("prefix", prefix)
    capabilities = scope.get("capabilities") or []
    if "read_only" in scope:
        yield _row("access", describe_access(capabilities, read_only=scope["read_only"]))
    if capabilities:
        yield _row("key may", " ".join(capabilities))
    if expires_ms := (facts.get("key") or {}).get("expires_ms"):
        yield _row("key ends", _moment(expires_ms))
    if warning := (facts.get("key") or {}).get("warning"):
        yield _row("key", warning)
    if "uptime_seconds" in facts:
        by = f" (process {facts['pid']})" if "pid" in facts else ""
        yield _row("up", f"{units.show_duration(facts['uptime_seconds'])}{by}")


def _describe_pending(pending: Facts, *, kept_in: str | None) -> Iterator[str]:
    count = pending.get("files", 0)
    if not count:
        yield _row("pending", "nothing: all that was written is in B2")
        return
    yield _row("pending", show_pending(count, pending.get("bytes", 0)))
    items = (pending.get("items") or [])[:ITEMS_SHOWN]
    for item in items:
        yield f"  {_describe_item(item)}"
    if count > len(items):
        yield f"  and {count - len(items)} more (--json shows all that the mount tells)"
    if kept_in:
        yield _row("kept in", kept_in)


def show_pending(files: int, size_bytes: int) -> str:
    """Write how much is not yet in B2."""
    return f"{units.show_count(files, 'file')}, {units.show_size(size_bytes)} not yet in B2"


def without_name(error: str, name: str) -> str:
    """Return what an error says beside the name that it begins with."""
    return error.removeprefix(f"{name}: ")


def _describe_item(item: Facts) -> str:
    words = [str(item.get("name", "")), units.show_size(item.get("bytes", 0)), str(item.get("state", ""))]
    if item.get("attempts"):
        words.append(units.show_count(item["attempts"], "attempt"))
    if item.get("error"):
        words.append(without_name(str(item["error"]), words[0]))
    return ", ".join(word for word in words if word)


def _describe_cache(cache: Facts) -> Iterator[str]:
    words = []
    for field, place in (("memory_bytes", "memory"), ("disk_bytes", "disk")):
        if field in cache:
            words.append(f"{units.show_size(cache[field])} {place}")
    hits, misses = cache.get("hits", 0), cache.get("misses", 0)
    if hits or misses:
        words.append(
            f"{100 * hits / (hits + misses):.0f}% of {units.show_count(hits + misses, 'read')} answered"
        )
    for field in ("listings", "inodes"):
        if field in cache:
            words.append(f"{cache[field]} {field}")
    if words:
        yield _row("cache", ", ".join(words))


def _describe_calls(facts: Facts) -> Iterator[str]:
    calls: Facts = facts.get("calls") or {}
    classes = [f"{calls[name]} class {name}" for name in ("A", "B", "C") if name in calls]
    if classes:
        cost = f", about ${facts['cost_dollars']:.4f}" if "cost_dollars" in facts else ""
        yield _row("calls", ", ".join(classes) + cost)
    by_name: Mapping[str, int] = calls.get("by_name") or {}
    for name, count in sorted(by_name.items(), key=lambda row: (-row[1], row[0])):
        yield f"  {count:>8} {name}"


def _moment(when_ms: Any) -> str:
    """Write a moment in local time."""
    if not isinstance(when_ms, (int, float)):
        return ""
    return datetime.fromtimestamp(when_ms / 1000, UTC).astimezone().isoformat(" ", "seconds")
