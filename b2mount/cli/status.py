"""`b2mount status`: what running mounts say about themselves, for people or as JSON."""

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from b2mount.cli import units
from b2mount.cli.completion import mount_points
from b2mount.cli.control import QUICK_SECONDS, ask_once, mountpoint_of
from b2mount.cli.mount_words import parse_path
from b2mount.cli.mountpoints import find_mounts_of
from b2mount.cli.progress import is_plain_terminal
from b2mount.cli.report import Exit, Failure, printable
from b2mount.cli.status_words import Facts, Row, describe

WATCH_SECONDS = 2.0
SHORTEST_WATCH = 0.1


@click.command(short_help="Show what a mount has pending, caches, costs.")
@click.argument("mountpoint", required=False, shell_complete=mount_points)
@click.option("--json", "as_json", is_flag=True, help="Print the mount's answer as JSON.")
@click.option(
    "--watch",
    is_flag=False,
    flag_value="",
    metavar="[TIME]",
    help=f"Show it again and again, until Ctrl-C.  [{WATCH_SECONDS:g}s]",
)
def status(mountpoint: str | None, as_json: bool, watch: str | None) -> int:
    """\b
    b2mount status                      all your mounts
    b2mount status --watch /mnt/photos
    b2mount status --json /mnt/photos | jq .pending

    Show pending uploads, cache use, errors, and the API calls made with what they cost.
    """
    seconds, mountpoint = _read_watch(watch, mountpoint)
    path = None if mountpoint is None else _read_path(mountpoint)
    if seconds is None:
        return _show(path, as_json=as_json)
    if not as_json and sys.stdout.isatty() and not is_plain_terminal():
        from b2mount.cli.status_table import watch_page

        watch_page(lambda: [list(rows) for rows in _describe_all(_ask(path))], seconds)
        return Exit.FINE
    return _repeat(lambda: _show(path, as_json=as_json, one_line=True), seconds)


def _read_watch(watch: str | None, mountpoint: str | None) -> tuple[float | None, str | None]:
    """Tell the time of --watch, which may be left out, from the MOUNTPOINT that then follows."""
    if watch is None:
        return None, mountpoint
    if not watch:
        return WATCH_SECONDS, mountpoint
    try:
        return max(units.parse_duration(watch), SHORTEST_WATCH), mountpoint
    except ValueError as error:
        if mountpoint is not None:
            raise Failure(f"--watch: {error}", status=Exit.USAGE) from None
        return WATCH_SECONDS, watch


def _read_path(text: str) -> Path:
    try:
        return parse_path(text)
    except ValueError as error:
        raise Failure(str(error), status=Exit.USAGE) from None


def _show(path: Path | None, *, as_json: bool, one_line: bool = False) -> int:
    answers = _ask(path)
    if as_json:
        told = answers[0] if path is not None else answers
        click.echo(json.dumps(told, indent=None if one_line else 2))
        return Exit.FINE
    if not answers:
        click.echo("you have no b2mount mounts here")
        return Exit.FINE
    pages = list(_describe_all(answers))
    if sys.stdout.isatty():
        from b2mount.cli.status_table import print_page  # a fifth of the time that a plain answer takes

        print_page([list(rows) for rows in pages])
        return Exit.FINE
    for number, rows in enumerate(pages):
        if number:
            click.echo()
        for label, text in rows:
            click.echo(printable(plain(label, text)))
    return Exit.FINE


def plain(label: str, text: str) -> str:
    """Write one row as a line."""
    return f"{label + ':':<10} {text}" if label else f"  {text}"


def _repeat(show: Callable[[], int], seconds: float) -> int:
    try:
        while True:
            show()
            sys.stdout.flush()
            time.sleep(seconds)
    except KeyboardInterrupt:
        return Exit.FINE


# --- asking -----------------------------------------------------------------------------------------------


def _ask(path: Path | None) -> list[Facts]:
    """Ask one mount, or all of this user; of these, one that cannot be asked says why."""
    if path is not None:
        return [_facts_of(mountpoint_of(path))]
    waiting = [_ask_aside(Path(mount.mountpoint)) for mount in find_mounts_of(os.geteuid())]
    deadline = time.monotonic() + QUICK_SECONDS
    answers: list[Facts] = []
    for mountpoint, answer in waiting:
        try:
            answers.append(answer.get(timeout=max(deadline - time.monotonic(), 0)))
        except queue.Empty:
            answers.append(_unknown(mountpoint, "the mount does not answer"))
    return answers


def _facts_of(mountpoint: Path) -> Facts:
    facts: Facts = ask_once(mountpoint, {"op": "status"}).get("status") or {}
    return facts


def _unknown(mountpoint: Path, why: str) -> Facts:
    return {"mountpoint": str(mountpoint), "error": why}


def _ask_aside(mountpoint: Path) -> "tuple[Path, queue.Queue[Facts]]":
    """Ask in a thread that nobody waits for: the kernel lets no one take back a question to a hung mount."""
    answer: queue.Queue[Facts] = queue.Queue()

    def work() -> None:
        try:
            answer.put(_facts_of(mountpoint))
        except Failure as failure:
            answer.put(_unknown(mountpoint, str(failure)))

    threading.Thread(target=work, daemon=True).start()
    return mountpoint, answer


# --- writing ----------------------------------------------------------------------------------------------


def _describe_all(answers: Sequence[Facts]) -> Iterator[Iterator[Row]]:
    for facts in answers:
        yield _describe_one(facts)


def _describe_one(facts: Facts) -> Iterator[Row]:
    if why := facts.get("error"):
        yield "mount", str(facts.get("mountpoint", ""))
        yield "error", str(why)
        return
    yield from describe(facts)
    if log := find_log(facts.get("pid")):
        yield "log", log


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
