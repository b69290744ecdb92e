"""`b2mount keys`: make keys that open no more than a mount needs, list them, and delete them.

Asks B2 with a key that may do so (the master key, or one with writeKeys, listKeys or deleteKeys), found as
for a mount. A new secret is shown once or written to a file that nobody else can read.
"""

import json
import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from b2mount.cli import units
from b2mount.cli.account_options import Account, account_options, find_account
from b2mount.cli.credentials import explain_refusal
from b2mount.cli.key_recipes import Recipes, key_file
from b2mount.cli.mount_words import parse_path
from b2mount.cli.reach import hints_on_reach
from b2mount.cli.report import Exit, Failure, printable, say_hint, say_warning
from b2mount.core.errors import B2MountError, InvalidArgument, KeyExpired, KeyRejected, KeyRevoked
from b2mount.core.grant import B2_NAMES, Capability
from b2mount.core.presets import PRESETS, KeyWish, check_wish, describe_rights, parse_capability_names

if TYPE_CHECKING:
    from b2mount.store.connect import MountStore
    from b2mount.store.keys import KeyRow, NewKey

IO_TIMEOUT = 30.0  # seconds; somebody sits and waits
T = TypeVar("T")


def _common(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that every verb here has."""
    as_json = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
    account = account_options(
        file="Manage with the key in this file.", profile="Manage with the key of this profile."
    )
    return account(as_json(function))


@click.group(short_help="Make, list and delete keys for mounts.")
def keys() -> None:
    """\b
    b2mount keys create tenant-a --preset read-write --bucket photos --prefix a/
    b2mount keys list
    b2mount keys delete 0018f5033aa08600000000001

    Manage application keys, with the master key or one that may manage keys.
    """


@keys.command(short_help="Make a key for a mount.")
@click.argument("name")
@click.option("--preset", type=click.Choice(list(PRESETS)), required=True, help="What the mount is for.")
@click.option(
    "--bucket", "buckets", multiple=True, metavar="NAME", help="Limit to a bucket; may be repeated."
)
@click.option("--prefix", default="", metavar="PREFIX", help="Limit to names that begin so: tenant-a/")
@click.option(
    "--duration", metavar="TIME", callback=units.reading(units.parse_duration), help="Let it end: 12h, 90d."
)
@click.option(
    "--capability",
    "extra",
    multiple=True,
    metavar="NAME",
    help="A right besides the preset's; may be repeated.",
)
@click.option(
    "--output",
    metavar="FILE",
    callback=units.reading(parse_path),
    help="Write the key to this new file, readable by you alone, instead of showing it.",
)
@click.option(
    "--mountpoint", metavar="DIR", callback=units.reading(parse_path), help="For the lines that show its use."
)
@_common
def create(
    name: str,
    preset: str,
    buckets: tuple[str, ...],
    prefix: str,
    duration: float | None,
    extra: tuple[str, ...],
    output: Path | None,
    mountpoint: Path | None,
    as_json: bool,
    **where: Any,
) -> None:
    """\b
    b2mount keys create tenant-a --preset read-write --bucket photos --prefix a/
    b2mount keys create nightly --preset backup --bucket backups --duration 365d \\
        --output /etc/b2mount/nightly.key --mountpoint /srv/backup

    \b
    Presets:
    read-only   list and read
    read-write  list, read, write, delete
    backup      list, read, write; nothing is ever deleted for good
    drop-box    write alone

    Make a key, show its secret once, and show how to mount with it.
    """
    wish = _make_wish(name, PRESETS[preset].capabilities, extra, buckets, prefix, duration)

    async def make(store: "MountStore") -> "NewKey":
        _demand(store, Capability.WRITE_KEYS, "make")
        ids = [await _bucket_id(store, bucket) for bucket in wish.buckets] or None
        return await store.keys.create(
            wish.name, wish.capabilities, bucket_ids=ids, prefix=wish.prefix, seconds=wish.seconds
        )

    account = find_account(**where)
    with _new_file(output) as write:
        made = _ask(make, account)
        write(key_file(wish.name, made.row.key_id, made.secret))
    recipes = Recipes(
        name=wish.name,
        source=wish.buckets[0] + ("/" + wish.prefix if wish.prefix.endswith("/") else "")
        if len(wish.buckets) == 1
        else None,
        file=output or Path("/etc/b2mount") / f"{wish.name}.key",
        mountpoint=mountpoint or Path("/mnt") / wish.name,
        endpoint=account.endpoint,
    )
    if as_json:
        shown = {} if output else {"key": made.secret}
        click.echo(json.dumps({**_as_object(made.row, wish.buckets), **shown, **_uses(recipes)}, indent=2))
    else:
        _print_made(made, recipes, is_written=output is not None)
    if wish.prefix and not wish.prefix.endswith("/"):
        say_warning(
            f"the prefix {wish.prefix!r} does not end in a slash: it opens {wish.prefix + 'xyz'!r} too"
        )


@keys.command("list", short_help="List the account's keys.")
@_common
def list_keys(as_json: bool, **where: Any) -> None:
    """\b
    b2mount keys list
    b2mount keys list --json | jq '.[] | select(.expires_ms)'

    List the keys that have not expired: ID, name, what they open, what they may do, and until when.
    """

    async def read(store: "MountStore") -> "tuple[list[KeyRow], Mapping[str, str]]":
        _demand(store, Capability.LIST_KEYS, "list")
        rows = await store.keys.list()
        if not store.grant.has(Capability.LIST_BUCKETS) or all(row.bucket_ids is None for row in rows):
            return rows, {}
        return rows, {bucket.bucket_id: bucket.name for bucket in await store.list_buckets()}

    rows, names = _ask(read, find_account(**where))
    if as_json:
        click.echo(json.dumps([_as_object(row, _bucket_names(row, names)) for row in rows], indent=2))
        return
    for row in rows:
        words = [row.key_id, row.name, _opens(row, names), _rights(row), _ends(row.expires_ms)]
        click.echo(printable("  ".join(words)))


@keys.command(short_help="Delete keys.")
@click.argument("key_ids", nargs=-1, required=True, metavar="KEY_ID...")
@_common
def delete(key_ids: tuple[str, ...], as_json: bool, **where: Any) -> None:
    """\b
    b2mount keys delete 0018f5033aa08600000000001

    Delete keys. A mount that uses one answers EKEYREVOKED; what it has yet to send waits for another key.
    """

    async def remove(store: "MountStore") -> None:
        _demand(store, Capability.DELETE_KEYS, "delete")
        for key_id in key_ids:
            await store.keys.delete(key_id)
            if not as_json:
                click.echo(f"deleted {printable(key_id)}")

    _ask(remove, find_account(**where))
    if as_json:
        click.echo(json.dumps({"deleted": list(key_ids)}))


# --- asking B2 --------------------------------------------------------------------------------------------


def _ask(action: "Callable[[MountStore], Awaitable[T]]", account: Account) -> T:
    """Authorize with the managing key and do *action*."""
    import trio

    from b2mount.store.connect import open_store

    async def work() -> T:
        store = open_store(
            account.credentials, endpoint=account.endpoint, ca_file=account.ca_file, io_timeout=IO_TIMEOUT
        )
        try:
            await store.authorize()
            return await action(store)
        finally:
            await store.aclose()

    logging.basicConfig(level=logging.WARNING, format="b2mount: %(levelname)s: %(message)s")
    try:
        return trio.run(work)
    except (KeyRejected, KeyExpired, KeyRevoked) as error:
        raise explain_refusal(error, account.credentials, account.endpoint) from None
    except B2MountError as error:
        if not (hints := hints_on_reach(error, account.endpoint)):
            raise
        raise Failure(*str(error).splitlines(), *hints) from None


def _demand(store: "MountStore", right: Capability, verb: str) -> None:
    if not store.grant.has(right):
        raise Failure(
            f"this key may not {verb} keys: it lacks {B2_NAMES[right]}",
            f"use the master key, or a key for the whole account with {B2_NAMES[right]}",
            status=Exit.CREDENTIALS,
        )


async def _bucket_id(store: "MountStore", name: str) -> str:
    for allowed in store.grant.buckets or ():
        if allowed.name == name:
            return allowed.bucket_id
    if not store.grant.has(Capability.LIST_BUCKETS):
        raise Failure(
            f"the ID of bucket {name!r} cannot be found out: this key lacks listBuckets",
            "use the master key, or a key with writeKeys and listBuckets",
            status=Exit.CREDENTIALS,
        )
    for row in await store.list_buckets(name=name):
        if row.name == name:
            return row.bucket_id
    raise Failure(f"there is no bucket {name!r} in this account", "b2mount check lists the buckets there are")


def _make_wish(
    name: str,
    capabilities: Capability,
    extra: Sequence[str],
    buckets: tuple[str, ...],
    prefix: str,
    duration: float | None,
) -> KeyWish:
    try:
        rights = capabilities | parse_capability_names(extra)
        wish = KeyWish(name, rights, buckets, prefix, None if duration is None else int(duration))
        check_wish(wish)
    except InvalidArgument as error:
        problem, *hints = str(error).splitlines()
        raise Failure(problem, *hints, status=Exit.USAGE) from None
    return wish


@contextmanager
def _new_file(path: Path | None) -> Iterator[Callable[[str], object]]:
    """Make the file before the key is, so that no secret is lost for want of a place; none stays empty."""
    if path is None:
        yield lambda _: None
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Failure(
            f"{path} cannot be made: {error.strerror}", "no key was made", status=Exit.USAGE
        ) from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        try:
            yield file.write
        except BaseException:
            path.unlink()
            raise


# --- showing ----------------------------------------------------------------------------------------------


def _print_made(made: "NewKey", recipes: Recipes, *, is_written: bool) -> None:
    row = made.row
    click.echo(f"key ID:           {row.key_id}")
    if is_written:
        click.echo(f"written to:       {recipes.file}")
    else:
        click.echo(f"application key:  {made.secret}")
    click.echo(f"may:              {_rights(row)}")
    click.echo(f"ends:             {_ends(row.expires_ms)}")
    click.echo(f"\nby hand:\n{recipes.mount_command}")
    click.echo(f"\nin /etc/fstab:\n{recipes.fstab_line}")
    click.echo(f"\nas a service, {recipes.profile_file}:\n{recipes.profile}")
    click.echo("and then, as root:\n" + "\n".join(recipes.service_commands))
    if not is_written:
        say_hint(f"B2 does not show this secret again: write it to {recipes.file}, chmod 600")


def _uses(recipes: Recipes) -> dict[str, Any]:
    return {
        "file": str(recipes.file),
        "mount": recipes.mount_command,
        "fstab": recipes.fstab_line,
        "unit_name": recipes.unit_name,
        "profile_file": str(recipes.profile_file),
        "profile": recipes.profile,
        "service": recipes.service_commands,
    }


def _as_object(row: "KeyRow", buckets: Sequence[str] | None) -> dict[str, Any]:
    return {
        "key_id": row.key_id,
        "name": row.name,
        "bucket_ids": None if row.bucket_ids is None else list(row.bucket_ids),
        "buckets": None if row.bucket_ids is None else list(buckets or ()),
        "prefix": row.prefix,
        "capabilities": [*(B2_NAMES[one] for one in row.capabilities), *sorted(row.unknown_capabilities)],
        "expires_ms": row.expires_ms,
    }


def _bucket_names(row: "KeyRow", names: Mapping[str, str]) -> list[str] | None:
    return None if row.bucket_ids is None else [names.get(one, one) for one in row.bucket_ids]


def _opens(row: "KeyRow", names: Mapping[str, str]) -> str:
    buckets = _bucket_names(row, names)
    reach = "all buckets" if buckets is None else ",".join(buckets)
    return f"{reach}/{row.prefix}" if row.prefix else reach


def _rights(row: "KeyRow") -> str:
    return describe_rights(row.capabilities, sorted(row.unknown_capabilities)) or "nothing"


def _ends(expires_ms: int | None) -> str:
    if expires_ms is None:
        return "never"
    return datetime.fromtimestamp(expires_ms / 1000, UTC).astimezone().isoformat(" ", "seconds")
