"""`b2mount mount`: from words to one running mount."""

import functools
import gc
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from b2mount.cli import units
from b2mount.cli.completion import COMPLETED, places, profiles
from b2mount.cli.credentials import ENVIRONMENT_SOURCES, Search, explain_refusal, find_credentials
from b2mount.cli.daemon import run_in_background
from b2mount.cli.machine import INSTALL_HINT, check_machine
from b2mount.cli.mount_words import (
    LOG_LEVELS,
    PASSED_ON,
    SWITCHES,
    VALUES,
    UnknownWord,
    make_options,
    parse_endpoint,
    parse_o,
    parse_path,
)
from b2mount.cli.mountpoints import check_mountpoint, clear_dead_mounts
from b2mount.cli.profiles import SOURCE_PREFIX, SYSTEM_PROFILES, find_profile, read_profile, take_source
from b2mount.cli.reach import hints_on_reach
from b2mount.cli.report import Exit, Failure
from b2mount.core.credentials import Credentials
from b2mount.core.errors import B2MountError, KeyExpired, KeyRejected, KeyRevoked
from b2mount.core.options import MountOptions
from b2mount.core.places import choose_places

ENDPOINT_VARIABLE = "B2MOUNT_ENDPOINT"
DEFAULT_LOG_LEVEL = "info"


def _valued(name: str, metavar: str, text: str) -> Callable[[Any], Any]:
    """Make the flag of one word of `VALUES`."""
    return click.option(
        f"--{name.replace('_', '-')}",
        name,
        callback=units.reading(VALUES[name]),
        metavar=metavar,
        help=text,
        shell_complete=profiles if name == "profile" else COMPLETED.get(metavar),
    )


def _switch(name: str, text: str) -> Callable[[Any], Any]:
    return click.option(f"--{name.replace('_', '-')}", name, is_flag=True, default=None, help=text)


def _o_help() -> str:
    valued = ", ".join(f"{name}=" for name in VALUES)
    return (
        f"Words for -o, most as the option of that name: {', '.join(SWITCHES)}, {valued}. "
        f"Passed on to the kernel: {', '.join(sorted(PASSED_ON))}. "
        "What else mount(8) and fstab say is ignored; a word that nobody knows is refused."
    )


@click.command(short_help="Mount what the key may see.", epilog=_o_help())
@click.argument("words", nargs=-1, metavar="[SOURCE] MOUNTPOINT", shell_complete=places)
@click.option(
    "-o",
    "o_words",
    multiple=True,
    metavar="WORD[,WORD=VALUE...]",
    help="As mount(8) passes it; the words are below.",
)
@_switch("read_only", "Change nothing in B2.")
@_valued("credentials", "FILE", "Read the key from this file.")
@_valued(
    "profile", "NAME", "Take the key, and all of this, from ~/.config/b2mount/NAME.toml or /etc/b2mount."
)
@_valued("bucket_id", "ID", "Of SOURCE's bucket, for a key of all buckets that lacks listBuckets.")
@_valued("endpoint", "URL", f"Where to authorize, if not at Backblaze; also ${ENDPOINT_VARIABLE}.")
@_valued("ca_file", "FILE", "Trust these certificate authorities as well.")
@_valued("cache_dir", "DIR", "Block cache; may be deleted at any time.")
@_valued("cache_size", "SIZE", "Limit of the block cache on disk.  [10G]")
@_valued("memory_size", "SIZE", "Limit of the block cache in memory.  [128M]")
@_valued("state_dir", "DIR", "What is written and not yet in B2; never delete it.")
@_valued(
    "spool_size", "SIZE", "Limit of what is written and not yet in B2; 0: none.  [half of the free disk]"
)
@_valued("listing_ttl", "TIME", "How long to believe a listing: others' changes show this late.  [60s]")
@_valued("io_timeout", "TIME", "Give up a call to B2 after this long.  [60s]")
@_valued(
    "settle", "TIME", "Upload this long after the last change: what changes again meanwhile goes once.  [1s]"
)
@_valued("uploads", "N", "Uploads at once.  [64]")
@_valued("downloads", "N", "Downloads at once.  [40]")
@_valued("metrics", "[ADDR:]PORT", "Serve Prometheus metrics there, or on unix:PATH; port 0: any.")
@_valued("max_class_b_per_day", "N", "Spend fewer class B calls once so many were made since 00:00 UTC.")
@_valued("max_class_c_per_day", "N", "The same for class C: listings are then believed longer.")
@_valued("max_download_per_day", "SIZE", "The same for bytes: nothing is then fetched ahead.")
@_switch("allow_other", "Let other users in.")
@_valued("uid", "USER", "Owner of what has none stored.")
@_valued("gid", "GROUP", "Group of what has none stored.")
@_valued("umask", "MASK", "Permissions to take from what has none stored.  [022]")
@_switch("hard_delete", "Delete versions for good instead of hiding the name.")
@_switch("bypass_governance", "Let go what governance retention holds, if the key may.")
@_switch("manage_buckets", "Let mkdir and rmdir in a root of buckets make and delete them.")
@_switch("versions", "Show every version under .b2versions/, and past moments as .b2versions/@TIME/.")
@_valued(
    "at", "TIME", "Show what was there then, read-only: 2026-01-31, 2026-01-31T12:00Z, '3 days ago', @EPOCH."
)
@_valued(
    "conflicts",
    "HOW",
    "Where another host wrote a file meanwhile: report it, or keep-both: store beside it, as "
    "NAME.conflict-TIME.EXT, the version that shows no more.  [report]",
)
@_switch("write_through", "Let close() wait until B2 has the file.")
@click.option(
    "--log-level",
    type=click.Choice(LOG_LEVELS),
    help=f"debug tells most, warning only trouble.  [{DEFAULT_LOG_LEVEL}]",
)
@_valued("log_file", "FILE", "With --daemon: log to this file and nowhere else.")
@click.option(
    "--daemon",
    is_flag=True,
    help="Return when the mount works; serve it in the background, log to the systemd journal "
    "or, without one, to b2mount.log in the state directory.",
)
def mount(words: tuple[str, ...], o_words: tuple[str, ...], daemon: bool, **flags: Any) -> int:
    """\b
    b2mount mount /mnt/b2                       what the key decides
    b2mount mount photos/2024 /mnt/photos       a part of a bucket
    b2mount mount --daemon --read-only archive /mnt/archive

    Mount SOURCE (BUCKET[/PREFIX] or profile:NAME) on the directory MOUNTPOINT; without it the key decides.

    Stays in the foreground. SIGTERM or Ctrl-C uploads what is pending, unmounts and ends with status 0.
    """
    said = {**read_o(o_words), **{name: value for name, value in flags.items() if value is not None}}
    source, where, said = with_profile(*_split_places(words), said)
    if where is None:
        raise Failure("no MOUNTPOINT was given", "b2mount mount [SOURCE] MOUNTPOINT", status=Exit.USAGE)
    return mount_as_said(source, where, said, daemon=daemon)


def with_profile(
    source: str | None, mountpoint: Path | None, said: dict[str, Any]
) -> tuple[str | None, Path | None, dict[str, Any]]:
    """Put what was said over what the profile says, if one was named. Raises Failure."""
    source, said = take_source(source, said)
    if "profile" not in said:
        return source, mountpoint, said
    path = find_profile(os.environ, Path.home(), SYSTEM_PROFILES, said["profile"])
    profile = read_profile(path)
    return source or profile.source, mountpoint or profile.mountpoint, {**profile.said, **said}


def mount_as_said(source: str | None, mountpoint: Path, said: dict[str, Any], *, daemon: bool) -> int:
    """Check what can be checked up front, find the key and serve the mount; return the exit status."""
    if "endpoint" not in said:
        said = {**said, "endpoint": read_endpoint()}
    options = make_options(mountpoint, source, said)
    clear_dead_mounts(mountpoint)
    check_mountpoint(mountpoint, nonempty=said.get("nonempty", False))
    check_machine(allow_other=options.allow_other, uid=os.geteuid())
    search = Search(os.environ, Path.home(), file=said.get("credentials"), profile=said.get("profile"))
    credentials = find_credentials(search)
    serve = functools.partial(
        _serve,
        options,
        credentials,
        functools.partial(find_again, search, credentials),
        said.get("log_level", DEFAULT_LOG_LEVEL),
    )
    if not daemon:
        return serve(functools.partial(_say_ready, options))
    places = choose_places(
        state_dir=options.state_dir, cache_dir=options.cache_dir, environ=os.environ, home=Path.home()
    )
    if "log_file" in said:
        _demand_writable(said["log_file"])
        return run_in_background(serve, log_file=said["log_file"], journal=None)
    return run_in_background(serve, log_file=places.state / "b2mount.log")


def _demand_writable(log_file: Path) -> None:
    """Refuse a log that cannot be written, before anything is mounted. Raises Failure."""
    try:
        os.close(os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    except OSError as error:
        raise Failure(f"{log_file} cannot be written: {error.strerror}", "name another --log-file") from None


def read_endpoint() -> str | None:
    """Read the endpoint from the environment."""
    value = os.environ.get(ENDPOINT_VARIABLE, "")
    try:
        return parse_endpoint(value) if value else None
    except ValueError as error:
        raise Failure(f"${ENDPOINT_VARIABLE}: {error}", status=Exit.USAGE) from None


def read_o(o_words: Sequence[str], *, sloppy: bool = False) -> dict[str, Any]:
    """Read all that was said with `-o`. Raises Failure (usage)."""
    try:
        return parse_o(",".join(o_words), sloppy=sloppy)
    except UnknownWord as error:
        raise Failure(str(error), error.hint, status=Exit.USAGE) from None
    except ValueError as error:
        raise Failure(str(error), status=Exit.USAGE) from None


def _split_places(words: tuple[str, ...]) -> tuple[str | None, Path | None]:
    if len(words) > 2:
        raise Failure(
            "more than SOURCE and MOUNTPOINT were given",
            "b2mount mount [SOURCE] MOUNTPOINT",
            status=Exit.USAGE,
        )
    if len(words) == 1 and words[0].startswith(SOURCE_PREFIX):
        return words[0], None
    return (words[0] if len(words) == 2 else None), (parse_path(words[-1]) if words else None)


def find_again(search: Search, first: Credentials) -> Credentials:
    """Read the credentials anew from where *first* was found. Raises B2MountError, with hints as lines."""
    if first.source in ENVIRONMENT_SOURCES:
        raise B2MountError(
            f"the key came from {first.source} in the environment, which no one can change from outside\n"
            "unmount and mount again with the new key; with --credentials FILE, reload would read the file"
        )
    try:
        return find_credentials(search)
    except Failure as failure:
        raise B2MountError("\n".join([str(failure), *failure.hints])) from None


def _serve(
    options: MountOptions,
    credentials: Credentials,
    find_credentials: Callable[[], Credentials],
    log_level: str,
    on_ready: Callable[[], None],
) -> int:
    """Serve the mount until it ends. The import is late: it is slow, and the daemon must fork before it.

    B2 is asked what the key may do meanwhile: in a thread, so it too must come after the fork.
    """
    gc.disable()  # there is no garbage among what is imported: `run` enables it again
    from b2mount.store.early import EarlyAuthorization

    early = EarlyAuthorization(
        credentials,
        endpoint=options.endpoint,
        ca_file=None if options.ca_file is None else str(options.ca_file),
        io_timeout=options.io_timeout,
    )
    try:
        from b2mount.mount import run
    except ImportError as error:
        if error.name != "pyfuse3":
            raise
        raise Failure(f"FUSE cannot be used: {error}", INSTALL_HINT) from None
    try:
        return run(
            options,
            credentials,
            log_level=log_level,
            on_ready=on_ready,
            find_credentials=find_credentials,
            early=early,
        )
    except (KeyRejected, KeyExpired, KeyRevoked) as error:
        raise explain_refusal(error, credentials, options.endpoint) from None
    except B2MountError as error:
        hints = hints_on_reach(error, options.endpoint)
        if not hints:
            raise
        raise Failure(*str(error).splitlines(), *hints) from None


def _say_ready(options: MountOptions) -> None:
    if sys.stderr.isatty():
        click.echo(
            f"b2mount: {options.mountpoint} is ready; Ctrl-C uploads what is pending and ends it", err=True
        )
