"""`b2mount restore`: bring a file or a directory of a running mount back as it was, inside B2."""

import json
import time
from pathlib import Path
from typing import Any

import click

from b2mount.cli import units
from b2mount.cli.control import ask, locate
from b2mount.cli.mount_words import parse_path
from b2mount.cli.progress import Progress
from b2mount.cli.report import Exit, Failure, printable, say_error
from b2mount.fs.local_time import read_moment

FAILURES_SHOWN = 20


def _read_past(text: str) -> int:
    moment = read_moment(text)
    if moment > time.time() * 1000:
        raise ValueError(f"{text!r} lies in the future")
    return moment


@click.command(short_help="Bring back what a file or directory was.")
@click.argument("path", callback=units.reading(parse_path))
@click.option(
    "--at",
    "at_ms",
    metavar="TIME",
    callback=units.reading(_read_past),
    help="As it was then: 2026-01-31, 2026-01-31T12:00Z, '3 days ago', @EPOCH.",
)
@click.option(
    "--to", "to", metavar="NEWPATH", callback=units.reading(parse_path), help="Bring it back under this name."
)
@click.option("--delete", is_flag=True, help="With --at: remove in the directory what was not there then.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def restore(
    path: Path, at_ms: int | None, to: Path | None, delete: bool, dry_run: bool, as_json: bool
) -> int:
    """\b
    b2mount restore /mnt/photos/cat.jpg                         undelete, or the previous version
    b2mount restore --at "3 days ago" --dry-run /mnt/photos/2024
    b2mount restore --at 2026-01-31 --to /mnt/photos/then /mnt/photos/2024

    Bring PATH, in a running mount, back as it was, by copies inside B2: nothing is downloaded.

    Without --at a file has the version before its last change again, and of a directory all comes back that
    was removed. What was made since stays, unless --delete is said.
    """
    if delete and (at_ms is None or to is not None):
        raise Failure("--delete needs --at, and does not go with --to", status=Exit.USAGE)
    mountpoint, inside = locate(path)
    request: dict[str, Any] = {"op": "restore", "path": inside, "at": at_ms, "delete": delete, "dry": dry_run}
    if to is not None:
        other, request["to"] = locate(to)
        if other != mountpoint:
            raise Failure(f"{to} is not in the mount at {mountpoint}", "name a path in the same mount")
    last: dict[str, Any] = {}
    with Progress("restoring", "begun so far") as progress:
        for last in ask(mountpoint, request, patience=None):
            if not last.get("done"):
                progress.show(last["files"], last["bytes"])
                if dry_run and not as_json:
                    _show_steps(last["steps"])
    if as_json:
        click.echo(json.dumps({key: last[key] for key in ("restored", "removed", "failed")}))
    return _conclude(last, dry_run=dry_run, quiet=as_json)


def _show_steps(steps: list[dict[str, Any]]) -> None:
    for step in steps:
        what = "remove" if step["uploaded"] is None else f"restore, from {step['uploaded']}:"
        click.echo(printable(f"{what} {step['name']}"))


def _conclude(last: dict[str, Any], *, dry_run: bool, quiet: bool) -> int:
    failed = last["failed"]
    for item in failed[:FAILURES_SHOWN]:
        say_error(f"{item['name']} is not restored yet: {item['error']}")
    if failed:
        raise Failure(
            f"{units.show_count(len(failed), 'file')} could not be restored",
            "b2mount status shows what waits; it is kept and tried again",
            status=Exit.UNSENT,
        )
    if not quiet:
        would = "would be " if dry_run else ""
        removed = f", {last['removed']} {would}removed" if last["removed"] else ""
        click.echo(f"{units.show_count(last['restored'], 'file')} {would}restored{removed}")
    return Exit.FINE
