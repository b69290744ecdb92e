"""`b2mount recover`: see, send, save or throw away what mounts wrote and could not send before they ended."""

import json
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from b2mount.cli import units
from b2mount.cli.account_options import account_options, find_account
from b2mount.cli.credentials import explain_refusal
from b2mount.cli.mount_words import parse_path
from b2mount.cli.progress import Progress
from b2mount.cli.reach import hints_on_reach
from b2mount.cli.report import Exit, Failure, printable, say_error, say_hint, say_warning
from b2mount.core.errors import B2MountError, KeyExpired, KeyRejected, KeyRevoked
from b2mount.core.places import choose_places

if TYPE_CHECKING:  # trio and sqlite3 take time that help does not need
    from b2mount.journal.leftover import Leftover
    from b2mount.journal.ops import Op
    from b2mount.mount_recover import Reach

NAMED_AT_MOST = 20


@dataclass(frozen=True, slots=True)
class Words:
    """What was said about B2."""

    file: Path | None
    profile: str | None
    endpoint: str | None
    ca_file: Path | None
    io_timeout: float | None


@click.command(short_help="See, send or save what a crash left unsent.")
@click.argument("scope", required=False)
@click.option("--upload", is_flag=True, help="Send it to B2, in order.")
@click.option(
    "--export",
    "target",
    metavar="DIR",
    callback=units.reading(parse_path),
    help="Write it as files under DIR, new or empty.",
)
@click.option("--incomplete", is_flag=True, help="With --export: zeros where bytes of B2 cannot be had.")
@click.option("--discard", is_flag=True, help="Throw it away; asks twice.")
@click.option(
    "--yes-discard", type=int, metavar="N", help="With --discard, in scripts: the number of changes there."
)
@click.option("--hard-delete", is_flag=True, help="With --upload: delete versions as such a mount would.")
@click.option("--json", "as_json", is_flag=True, help="Print what there is as JSON.")
@click.option("--state-dir", metavar="DIR", callback=units.reading(parse_path), help="As said to mount.")
@click.option("--cache-dir", metavar="DIR", callback=units.reading(parse_path), help="As said to mount.")
@account_options(endpoint="Where to authorize; else where the mount did.")
@click.option(
    "--io-timeout",
    metavar="TIME",
    callback=units.reading(units.parse_duration),
    help="Give up a call to B2 after this long.  [60s]",
)
def recover(
    scope: str | None,
    upload: bool,
    target: Path | None,
    incomplete: bool,
    discard: bool,
    yes_discard: int | None,
    hard_delete: bool,
    as_json: bool,
    state_dir: Path | None,
    cache_dir: Path | None,
    **about_b2: Any,
) -> int:
    """\b
    b2mount recover                              what waits, by scope
    b2mount recover photos/2024                  its changes, one by one
    b2mount recover photos/2024 --upload         send them
    b2mount recover photos/2024 --export /tmp/x  save them as files

    Deal with what mounts wrote and could not send to B2 before they ended. SCOPE is a bucket (and prefix)
    as mounted, or the name of its directory.

    The next mount of the same source sends it by itself, too. Listing asks B2 nothing and changes nothing.
    """
    if upload + (target is not None) + discard > 1:
        raise Failure("--upload, --export and --discard exclude each other", status=Exit.USAGE)
    places = choose_places(state_dir=state_dir, cache_dir=cache_dir, environ=os.environ, home=Path.home())
    found = _look_at(places.state)
    words = Words(**about_b2)
    if not (upload or discard or target is not None):
        chosen = _choose(found, scope) if scope else None
        _list(found if chosen is None else [chosen], places.state, as_json=as_json, each=chosen is not None)
        return Exit.FINE
    left = _choose(found, scope)
    if left.is_empty:
        click.echo(f"{_called(left)}: nothing waits", err=True)
        return Exit.FINE
    if upload:
        return _upload(left, words, hard_delete=hard_delete)
    if target is not None:
        return _export(left, target, words, incomplete=incomplete)
    return _discard(left, yes_discard)


# --- which one --------------------------------------------------------------------------------------------


def _look_at(root: Path) -> "list[Leftover]":
    from b2mount.journal.leftover import find_scopes, look

    return [look(directory) for directory in find_scopes(root)]


def _choose(found: "list[Leftover]", scope: str | None) -> "Leftover":
    """Return the scope that was named, or the only one where something waits. Raises Failure."""
    if scope is None:
        waiting = [left for left in found if not left.is_empty]
        if len(waiting) == 1 or len(found) == 1:
            return (waiting or found)[0]
        what = "in several scopes something waits" if waiting else "nothing waits"
        raise Failure(f"{what}; name one", *(f"b2mount recover {_called(left)}" for left in waiting))
    word = scope.removeprefix("b2://").rstrip("/")
    named = [left for left in found if word in (left.directory.name, str(left.directory))]
    named = named or [left for left in found if left.label is not None and left.label.source == word]
    if len(named) != 1:
        problem = "no scope is called" if not named else "several scopes are called"
        known = ", ".join(left.directory.name for left in (named or found))
        there = f"there is: {known}" if known else "no mount has left anything in the state directory"
        raise Failure(f"{problem} {scope!r}", there, "--state-dir names another place")
    return named[0]


def _called(left: "Leftover") -> str:
    """Return the words by which a person names a scope."""
    return (left.label.source if left.label is not None else "") or left.directory.name


# --- listing ----------------------------------------------------------------------------------------------


def _list(found: "list[Leftover]", root: Path, *, as_json: bool, each: bool) -> None:
    if as_json:
        rows = [_facts(left, each=each) for left in found]
        click.echo(json.dumps(rows[0] if each else rows, indent=2))
        return
    waiting = [left for left in found if each or not left.is_empty]
    if not waiting:
        click.echo(f"nothing waits in {root}: all that mounts wrote is in B2")
    for left in waiting:
        for line in _describe(left, each=each):
            click.echo(printable(line))


def _facts(left: "Leftover", *, each: bool) -> dict[str, Any]:
    label = left.label
    facts: dict[str, Any] = {
        "scope": left.directory.name,
        "source": label.source if label else None,
        "account": label.account_id if label else None,
        "buckets": sorted(label.buckets.values()) if label else [],
        "mountpoint": label.mountpoint if label else None,
        "directory": str(left.directory),
        "in_use": left.in_use,
        "process": left.process,
        "changes": left.count,
        "bytes": left.new_bytes,
        "oldest_ms": left.oldest_ms,
        "damage": left.damage,
        "stray_files": [stray.path.name for stray in left.strays],
    }
    if each:
        facts["items"] = [_item(left, op) for op in left.ops]
        facts["strays"] = [
            {"file": one.path.name, "size": one.size, "changed_ms": one.changed_ms, "name": one.name or None}
            for one in left.strays
        ]
    return facts


def _item(left: "Leftover", op: "Op") -> dict[str, Any]:
    item: dict[str, Any] = {
        "id": op.id,
        "change": _change(op),
        "bucket": left.bucket_name(op.bucket_id),
        "name": op.name,
        "since_ms": op.promised_ms or None,
        "error": left.errors.get(op.id),
    }
    if op.draft is not None:
        attributes = op.draft.attributes
        item |= {
            "size": op.draft.size,
            "new_bytes": op.draft.extents.dirty_bytes,
            "needs_b2": op.draft.extents.needs_base and not op.draft.only_metadata,
            "spool_lost": op.draft.spool.is_lost,
            "mtime_ns": attributes.mtime_ns,
            "mode": None if attributes.mode is None else f"{attributes.mode:04o}",
            "uid": attributes.uid,
            "gid": attributes.gid,
            "target": attributes.target,
            "xattrs": sorted(attributes.xattrs),
        }
    return item


def _change(op: "Op") -> str:
    """Return in a word what an operation does."""
    if op.draft is None:
        return "remove"
    if op.name.rpartition("/")[2] == ".bzEmpty":
        return "mkdir"
    if op.draft.only_metadata:
        return "copy"
    return "write" if op.draft.attributes.target is None else "symlink"


def _describe(left: "Leftover", *, each: bool) -> Iterator[str]:
    size = units.show_size(left.new_bytes)
    since = f", the oldest of {_moment(left.oldest_ms)}" if left.oldest_ms else ""
    yield f"{_called(left)}: {units.show_count(left.count, 'change')}, {size}{since}"
    if left.label is not None and left.label.mountpoint:
        yield f"  last mounted at {left.label.mountpoint}, account {left.label.account_id}"
    yield f"  kept in {left.directory}"
    if left.in_use:
        by = f" (process {left.process})" if left.process else ""
        yield f"  in use: a mount{by} is sending it"
    for damage in left.damage:
        yield f"  damaged: {damage}"
    if left.strays:
        count = units.show_count(len(left.strays), "spool file")
        yield f"  {count} that no change names: written and never closed, or lost by damage"
    if each:
        for op in left.ops:
            yield f"  {_describe_item(_item(left, op))}"
        for one in left.strays:
            of = f" of {one.name}" if one.name else ""
            size, when = units.show_size(one.size), _moment(one.changed_ms)
            yield f"  spool file {one.path.name}{of}, {size}, written {when}"


def _describe_item(item: dict[str, Any]) -> str:
    words = [f"{item['change']:<7} {item['bucket']}/{item['name']}"]
    if item.get("size"):
        words.append(units.show_size(item["size"]))
        if item["new_bytes"] < item["size"]:
            words.append(f"{units.show_size(item['new_bytes'])} of it new")
    if item.get("target"):
        words.append(f"to {item['target']}")
    words += [str(item["mode"])] if item.get("mode") else []
    words += ["its bytes are gone from the spool"] if item.get("spool_lost") else []
    words += [f"since {_moment(item['since_ms'])}"] if item["since_ms"] else []
    words += [item["error"]] if item["error"] else []
    return ", ".join(words)


def _moment(when_ms: int | None) -> str:
    if when_ms is None:
        return ""
    return datetime.fromtimestamp(when_ms / 1000, UTC).astimezone().isoformat(" ", "seconds")


# --- doing ------------------------------------------------------------------------------------------------


def _reach(left: "Leftover", words: Words) -> "Reach":
    """Find credentials, and where to ask with them. Raises Failure."""
    from b2mount.mount_recover import Reach

    known = left.label.endpoint if left.label is not None else None
    account = find_account(
        file=words.file,
        profile=words.profile,
        endpoint=words.endpoint,
        ca_file=words.ca_file,
        known_endpoint=known,
    )
    return Reach(account.credentials, account.endpoint, account.ca_file, words.io_timeout or 60.0)


def _explained(error: B2MountError, reach: "Reach") -> Exception:
    if isinstance(error, (KeyRejected, KeyExpired, KeyRevoked)):
        return explain_refusal(error, reach.credentials, reach.endpoint)
    hints = hints_on_reach(error, reach.endpoint)
    return Failure(*str(error).splitlines(), *hints) if hints else error


def _upload(left: "Leftover", words: Words, *, hard_delete: bool) -> int:
    from b2mount.mount_recover import upload_left

    if left.damage:
        raise Failure(
            f"the journal in {left.directory} is damaged: {left.damage[0]}",
            "sending part of it could undo what the rest says; --export saves what can be read",
        )
    reach = _reach(left, words)
    logging.basicConfig(format="b2mount: %(levelname)s: %(message)s")
    logging.getLogger("b2mount.journal").setLevel(logging.CRITICAL)  # what it would say is said here
    with Progress("sending", "not yet in B2") as progress:
        try:
            failures = upload_left(left, reach, hard_delete=hard_delete, progress=progress.show)
        except B2MountError as error:
            raise _explained(error, reach) from None
    for failure in failures[:NAMED_AT_MOST]:
        say_error(f"{failure.name} is not in B2: {str(failure.error).removeprefix(f'{failure.name}: ')}")
    if failures:
        raise Failure(
            f"not everything is in B2: {units.show_count(len(failures), 'change')} could not be made",
            f"b2mount recover {_called(left)} shows what waits still, in {left.directory}",
            status=Exit.UNSENT,
        )
    click.echo(f"{_called(left)}: {units.show_count(left.count, 'change')} sent")
    return Exit.FINE


def _export(left: "Leftover", target: Path, words: Words, *, incomplete: bool) -> int:
    from b2mount.journal.leftover import has_content, needs_b2
    from b2mount.mount_recover import export_left

    drafts = [op.draft for op in left.ops if op.draft is not None and has_content(op)]
    reach = _reach_for_export(left, words) if any(needs_b2(left, draft) for draft in drafts) else None
    with Progress("writing", "to go") as progress:
        done = export_left(
            left.directory,
            target,
            reach,
            incomplete=incomplete,
            progress=progress.show,
            on_no_b2=lambda error: say_warning(f"B2 cannot be read: {str(error).splitlines()[0]}"),
        )
    for line in done.missing[:NAMED_AT_MOST]:
        say_error(f"not written: {line}")
    for line in done.incomplete[:NAMED_AT_MOST]:
        say_warning(f"written with parts missing: {line}")
    count = units.show_count(len(done.written), "file")
    click.echo(f"{_called(left)}: {count} written to {target}; {done.report.name} there tells of the rest")
    if not done.is_whole:
        say_hint("what is missing lies in B2: give a key that may read it, or say --incomplete")
        if left.away and left.unfinished:
            say_hint(f"large files half sent can be finished: b2mount recover {_called(left)} --upload")
        return Exit.FAILED
    return Exit.FAILED if left.damage else Exit.FINE


def _reach_for_export(left: "Leftover", words: Words) -> "Reach | None":
    """Find the way to B2, for files of which only changes are here; without one, the rest is written."""
    try:
        return _reach(left, words)
    except Failure as failure:
        if words.file is not None or words.profile is not None:
            raise
        say_warning(f"{failure}: files of which only changes are here cannot be put together")
        return None


def _discard(left: "Leftover", yes_discard: int | None) -> int:
    from b2mount.mount_recover import discard_left

    if left.in_use:
        raise Failure(f"a mount is using {left.directory}", "unmount it first")
    count = left.count
    if yes_discard is None:
        _ask_twice(left, count)
    elif yes_discard != count:
        raise Failure(
            f"nothing was discarded: here {units.show_count(count, 'change')} wait, not {yes_discard}",
            f"b2mount recover {_called(left)} shows them",
            status=Exit.USAGE,
        )
    discard_left(left.directory, count)
    click.echo(f"{_called(left)}: {units.show_count(count, 'change')} discarded")
    if left.unfinished:
        names = ", ".join(left.unfinished[:NAMED_AT_MOST])
        say_hint(f"unfinished large files stay in B2 until cancelled: {names}")
    return Exit.FINE


def _ask_twice(left: "Leftover", count: int) -> None:
    """Ask on the terminal, by yes and by number. Raises Failure where that was not the answer."""
    if not sys.stdin.isatty():
        raise Failure(
            "--discard asks on a terminal, and this is none",
            f"to throw away all {count} changes for good: --discard --yes-discard {count}",
            status=Exit.USAGE,
        )
    for line in _describe(left, each=True):
        click.echo(printable(line))
    sure = click.confirm("Throw all this away? It is nowhere else.", default=False)
    if not sure or click.prompt("Then type the number of changes", default="", show_default=False) != str(
        count
    ):
        raise Failure("nothing was discarded")
