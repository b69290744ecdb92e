"""`b2mount flush` and `b2mount unmount`: wait until what was written is in B2, and say so if it cannot be."""

import contextlib
import os
import select
import shlex
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from b2mount.cli import units
from b2mount.cli.completion import mount_points
from b2mount.cli.control import QUICK_SECONDS, ask, ask_once, mountpoint_of
from b2mount.cli.mount_words import parse_path
from b2mount.cli.mountpoints import detach_dead, find_our_mount, is_dead
from b2mount.cli.progress import Progress
from b2mount.cli.report import Exit, Failure, say_error
from b2mount.cli.status_words import Facts, show_rename, without_name

POLL_SECONDS = 0.05
GONE_SECONDS = 60.0  # a guess: detaching and ending take milliseconds once all is sent
FAILURES_SHOWN = 20

_mountpoint = click.argument("mountpoint", callback=units.reading(parse_path), shell_complete=mount_points)
_timeout = click.option(
    "--timeout",
    callback=units.reading(units.parse_duration),
    metavar="TIME",
    help="Give up after this long.",
)


@click.command(short_help="Wait until everything written is in B2.")
@_mountpoint
@_timeout
def flush(mountpoint: Path, timeout: float | None) -> int:
    """\b
    b2mount flush /mnt/photos && echo all is in B2
    b2mount flush --timeout 10m /mnt/photos

    Return when everything written so far is in B2; exit status 4 if something cannot be, or not in time.
    """
    mountpoint = mountpoint_of(mountpoint)
    failed = _settle(mountpoint, {"op": "flush", "timeout": timeout})
    return Exit.FINE if failed is None else _refuse(mountpoint, failed)


@click.command(short_help="Flush, then unmount.")
@_mountpoint
@_timeout
@click.option("--force", is_flag=True, help="Unmount also if something is unsent; it is kept and sent later.")
def unmount(mountpoint: Path, timeout: float | None, force: bool) -> int:
    """\b
    b2mount unmount /mnt/photos
    b2mount unmount --force --timeout 30s /mnt/photos

    Wait until everything written is in B2, then unmount; return when the mount's process has ended.

    If something cannot be sent the mount stays, with exit status 4. With --force it ends all the same: what
    is unsent stays in the state directory and is sent by the next mount.
    """
    if force and is_dead(mountpoint):
        detach_dead(mountpoint)
        return Exit.FINE
    return end_mount(mountpoint, force=force, timeout=timeout)


def end_mount(mountpoint: Path, *, force: bool, timeout: float | None = None) -> int:
    """Send what is pending and unmount; return when the mount's process has ended. Raises Failure."""
    facts = ask_once(mountpoint, {"op": "status"}).get("status") or {}
    with _opened_process(facts.get("pid")) as process:
        failed = _settle(mountpoint, {"op": "unmount", "timeout": timeout, "force": force})
        if failed is not None and not force:
            return _refuse(mountpoint, failed)
        _wait_until_gone(mountpoint)
        has_ended = _wait_until_ended(process)
    if failed is not None:
        return _tell_kept(mountpoint, failed, facts.get("state_dir"))
    if not has_ended:
        raise Failure(
            f"{mountpoint} is unmounted, but the process that served it has not ended",
            "it may still be sending what was written last; its log tells",
        )
    return Exit.FINE


def _settle(mountpoint: Path, request: Mapping[str, Any]) -> list[Facts] | None:
    """Send the request and show its progress; return None where all is in B2, else what is not."""
    last: dict[str, Any] = {}
    timeout = request["timeout"]
    patience = None if timeout is None else timeout + QUICK_SECONDS
    with Progress("sending", "not yet in B2") as progress:
        for last in ask(mountpoint, request, patience=patience):
            if not last.get("done"):
                renames = last.get("renames") or []
                more = f"renaming {show_rename(renames[0])}" if renames else ""
                progress.show(last.get("pending_files", 0), last.get("pending_bytes", 0), more)
    if last.get("ok") and not last.get("failed"):  # by force it is ok to end, and some are unsent
        return None
    return list(last.get("failed") or [])


def _name_unsent(failed: list[Facts]) -> None:
    for item in failed[:FAILURES_SHOWN]:
        name = str(item.get("name"))
        say_error(f"{name} is not in B2: {without_name(str(item.get('error')), name)}")


def _refuse(mountpoint: Path, failed: list[Facts]) -> int:
    """Say what is not in B2 while the mount goes on. Raises Failure."""
    _name_unsent(failed)
    what = f"{units.show_count(len(failed), 'file')} could not be sent" if failed else "the time is over"
    raise Failure(
        f"not everything is in B2: {what}",
        f"b2mount status {shlex.quote(str(mountpoint))} shows what waits; it is kept and tried again",
        status=Exit.UNSENT,
    )


def _tell_kept(mountpoint: Path, failed: list[Facts], state_dir: str | None) -> int:
    """Say where that lies which was not sent before the mount ended. Raises Failure."""
    _name_unsent(failed)
    count = units.show_count(len(failed), "change") if failed else "something"
    raise Failure(
        f"{mountpoint} is unmounted, but {count} could not be sent to B2",
        f"it is kept in {state_dir or 'the state directory'}: never delete that",
        "the next mount of the same source sends it",
        status=Exit.UNSENT,
    )


def _wait_until_gone(mountpoint: Path) -> None:
    """Wait until the kernel no longer lists the mount, so that the next command sees the bare directory."""
    deadline = time.monotonic() + GONE_SECONDS
    while find_our_mount(mountpoint) is not None:
        if time.monotonic() > deadline:
            raise Failure(
                f"{mountpoint} is still mounted",
                f"fuser -vm {shlex.quote(str(mountpoint))} shows what uses it",
            )
        time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def _opened_process(pid: Any) -> Iterator[int | None]:
    """Open the mount's process while it surely lives, since process IDs are used again."""
    try:
        handle = os.pidfd_open(pid)
    except (OSError, TypeError, OverflowError):  # not told, or of another PID namespace
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)


def _wait_until_ended(process: int | None) -> bool:
    """Wait until the mount's process has ended, its state directory free for the next mount; say whether."""
    return process is None or bool(select.select([process], [], [], GONE_SECONDS)[0])
