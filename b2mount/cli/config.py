"""`b2mount config`: what the profiles say, what of it is wrong or odd, and what is effective. Never the key.

Looks at files alone: neither B2 nor a mount is asked.
"""

import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from b2mount.cli.completion import profiles
from b2mount.cli.credentials import read_key_file
from b2mount.cli.machine import check_machine
from b2mount.cli.mount import mount
from b2mount.cli.profiles import (
    KEY_NAMES,
    NUMBERS_TOO,
    OWN_NAMES,
    SWITCH_NAMES,
    SYSTEM_PROFILES,
    VALUE_NAMES,
    Profile,
    find_profile,
    profile_paths,
    read_profile,
)
from b2mount.cli.report import Exit, Failure, printable, say_error, say_hint, say_warning

SHOWN_NAMES = (*(name for name in OWN_NAMES if name not in KEY_NAMES), *VALUE_NAMES, *SWITCH_NAMES)


@click.group(short_help="Look at the profiles of mounts.")
def config() -> None:
    """\b
    b2mount config check            all profiles: what is wrong, what is odd
    b2mount config check photos
    b2mount config show photos      what is effective, defaults included

    Look at profiles: /etc/b2mount/NAME.toml and ~/.config/b2mount/NAME.toml. NAME may be a file, too.
    """


@config.command(short_help="Say what profiles say, and what is wrong with them.")
@click.argument("names", nargs=-1, metavar="[NAME|FILE]...", shell_complete=profiles)
def check(names: tuple[str, ...]) -> int:
    """\b
    b2mount config check
    b2mount config check photos ./new.toml

    Read profiles (without a NAME all there are) as a mount would. Exit status 0: each can be used; 2 or 3:
    what a mount would end with.
    """
    paths = [_find(name) for name in names] or list(all_profiles())
    if not paths:
        system = SYSTEM_PROFILES
        raise Failure(
            "there are no profiles", f"write one: {system}/NAME.toml or ~/.config/b2mount/NAME.toml"
        )
    status = Exit.FINE
    used: dict[Path, Path] = {}
    for path in paths:
        try:
            profile = read_profile(path)
            key = _describe_key(profile)
        except Failure as failure:
            say_error(str(failure))
            for hint in failure.hints:
                say_hint(hint)
            status = status or failure.status
            continue
        click.echo(printable(f"{path}"))
        for name, text in [*_effective(profile), ("key", key)]:
            click.echo(printable(f"  {name:<18} {text}"))
        for remark in remarks(profile, used):
            say_warning(f"{path}: {remark}")
        if profile.mountpoint is not None:
            used.setdefault(profile.mountpoint, path)
    return status


@config.command(short_help="Print what is effective, as TOML.")
@click.argument("name", metavar="NAME|FILE", shell_complete=profiles)
@click.option("--json", "as_json", is_flag=True, help="Print what the profile says as JSON.")
def show(name: str, as_json: bool) -> None:
    """\b
    b2mount config show photos
    b2mount config show default --json

    Print a profile as it is understood, and behind a # what can be said besides and what holds without it.
    """
    profile = read_profile(_find(name))
    if as_json:
        click.echo(json.dumps({"path": str(profile.path), **_written(profile)}, indent=2))
        return
    click.echo(f"# {profile.path}; key: {printable(_describe_key(profile))}")
    written, defaults = _written(profile), defaults_by_name()
    for known in SHOWN_NAMES:
        if known in written:
            click.echo(f"{known} = {json.dumps(written[known], ensure_ascii=False)}")
        else:
            click.echo(f"# {known} = {defaults.get(known, '')}".rstrip(" ="))


def defaults_by_name() -> dict[str, str]:
    """Return the default of each option that has one, as `b2mount mount --help` tells it, written as TOML."""
    found = dict.fromkeys(SWITCH_NAMES, "false")
    for parameter in mount.params:
        told = re.search(r"\[([^\]]+)\]$", getattr(parameter, "help", None) or "")
        if told is not None and parameter.name in VALUE_NAMES:
            is_number = parameter.name in NUMBERS_TOO and told[1].isdecimal()
            found[parameter.name] = told[1] if is_number else f'"{told[1]}"'
    return found


def all_profiles() -> Iterator[Path]:
    """Yield the profiles there are, the user's own first."""
    for directory in dict.fromkeys(path.parent for path in _places("default")):
        try:
            yield from sorted(directory.glob("*.toml"))
        except PermissionError:
            say_warning(f"{directory} cannot be looked at")


def _places(name: str) -> tuple[Path, Path]:
    return profile_paths(os.environ, Path.home(), SYSTEM_PROFILES, name)


def _find(name: str) -> Path:
    if "/" in name:
        return Path(name).absolute()
    return find_profile(os.environ, Path.home(), SYSTEM_PROFILES, name)


def _written(profile: Profile) -> dict[str, Any]:
    return {name: value for name, value in profile.written.items() if name not in KEY_NAMES}


def _effective(profile: Profile) -> list[tuple[str, str]]:
    written = _written(profile)
    return [(name, str(written[name])) for name in SHOWN_NAMES if name in written]


def _describe_key(profile: Profile) -> str:
    """Say where the key comes from, having read it. Raises Failure where it cannot be used."""
    credentials = read_key_file(profile)
    if credentials is None:
        return "not in the profile: from systemd or the environment"
    return f"key ID {credentials.shown_id}, from {credentials.source}"


def remarks(profile: Profile, used: dict[Path, Path]) -> Iterator[str]:
    """Yield what is odd about a profile; *used* has the mount points of the profiles before it."""
    facts = profile.path.stat()
    if facts.st_uid not in (0, os.geteuid()):
        yield f"it belongs to user {facts.st_uid}, who can change what is mounted"
    if profile.has_key and facts.st_mode & stat.S_IRGRP and facts.st_gid != 0:
        yield f"its key can be read by group {facts.st_gid}"
    if profile.mountpoint is None:
        yield "it names no mountpoint: say one when you mount it"
    elif profile.mountpoint in used:
        yield f"{used[profile.mountpoint]} has the same mountpoint"
    elif not os.path.lexists(profile.mountpoint):
        yield f"{profile.mountpoint} does not exist"
    yield from _remarks_on_files(profile)
    try:
        check_machine(allow_other=bool(profile.said.get("allow_other")), uid=os.geteuid())
    except Failure as failure:
        yield f"this user could not mount it here: {failure}"


def _remarks_on_files(profile: Profile) -> Sequence[str]:
    named = {name: profile.said.get(name) for name in ("ca_file", "state_dir")}
    odd = [f"{name} {path} does not exist" for name, path in named.items() if path and not path.exists()]
    state, cache = profile.said.get("state_dir"), profile.said.get("cache_dir")
    if state is not None and cache is not None and state.is_relative_to(cache):
        odd.append(
            f"state_dir {state} lies in cache_dir: what is not yet in B2 goes when somebody clears that"
        )
    return odd
