"""`b2mount check`: ask B2 what the key is, and say what a mount with it will be."""

import json
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from b2mount.cli import units
from b2mount.cli.account_options import Account, account_options, find_account
from b2mount.cli.credentials import explain_refusal
from b2mount.cli.findings import Findings, describe_access, describe_kind, describe_root
from b2mount.cli.mount_words import parse_bucket_id
from b2mount.cli.profiles import take_source
from b2mount.cli.reach import hints_on_reach
from b2mount.cli.report import Exit, Failure, printable, say_hint, say_warning
from b2mount.core.credentials import Credentials
from b2mount.core.endpoints import remarks_on_endpoint
from b2mount.core.errors import B2MountError, KeyExpired, KeyRejected, KeyRevoked
from b2mount.core.scope import (
    Scope,
    ScopeError,
    Source,
    parse_source,
)

IO_TIMEOUT = 20.0  # seconds; somebody sits and waits


@click.command(short_help="Say what the key may do, before mounting.")
@click.argument("source", required=False)
@click.option(
    "--bucket-id",
    metavar="ID",
    callback=units.reading(parse_bucket_id),
    help="Of SOURCE's bucket, for a key of all buckets that lacks listBuckets.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@account_options()
@click.option(
    "--io-timeout",
    metavar="TIME",
    callback=units.reading(units.parse_duration),
    default=f"{IO_TIMEOUT:.0f}s",
    show_default=True,
    help="Give up after this long.",
)
def check(
    source: str | None,
    bucket_id: str | None,
    as_json: bool,
    file: Path | None,
    profile: str | None,
    endpoint: str | None,
    ca_file: Path | None,
    io_timeout: float,
) -> int:
    """\b
    b2mount check
    b2mount check photos/2024 && b2mount mount photos/2024 /mnt/photos
    b2mount check profile:photos

    Authorize, and say what the key is, what a mount with it will show and allow, and what is odd about the
    credentials. Exit status 0: usable; 3: not, by the key or for want of one; 1: B2 could not be asked.
    """
    logging.basicConfig(level=logging.WARNING, format="b2mount: %(levelname)s: %(message)s")
    source, said = take_source(source, {"profile": profile} if profile is not None else {})
    wanted = parse_source(source) if source else None
    account: Account | None = None
    try:
        account = find_account(file=file, profile=said.get("profile"), endpoint=endpoint, ca_file=ca_file)
        if wanted is None:
            wanted = parse_source(account.source) if account.source else None
            bucket_id = bucket_id or account.bucket_id
        findings = _ask_b2(
            account,
            wanted,
            bucket_id=bucket_id,
            io_timeout=io_timeout,
        )
    except (B2MountError, Failure) as error:
        failure = _explain(error, account)
        if as_json:
            click.echo(
                json.dumps(_refused_as_json(account.credentials if account else None, failure), indent=2)
            )
        raise failure from None
    if as_json:
        click.echo(json.dumps(as_object(findings), indent=2))
    else:
        _print(findings)
    if not findings.is_usable:
        raise Failure("a mount with this key would show nothing and take nothing", status=Exit.CREDENTIALS)
    return Exit.FINE


def _explain(error: B2MountError | Failure, account: Account | None) -> Failure:
    """Say why there are no findings: a fault of the key (status 3), or of the way to B2 (status 1)."""
    if isinstance(error, Failure):
        return error
    assert account is not None
    credentials, endpoint = account.credentials, account.endpoint
    if isinstance(error, (KeyRejected, KeyExpired, KeyRevoked, ScopeError)):
        return explain_refusal(error, credentials, endpoint)
    hints = hints_on_reach(error, endpoint) or [
        line
        for remark in remarks_on_endpoint(endpoint, credentials.key_id)
        for line in (f"it may be that {remark.message}", remark.hint)
    ]
    first, *rest = str(error).splitlines() or [type(error).__name__]
    return Failure(first, *rest, *hints)


def _ask_b2(account: Account, source: Source | None, *, bucket_id: str | None, io_timeout: float) -> Findings:
    """Authorize, and look for the buckets where the key does not tell them."""
    import trio

    from b2mount.mount_scope import find_scope
    from b2mount.store.connect import open_store
    from b2mount.store.store import Store

    async def ask() -> Findings:
        store = open_store(
            account.credentials, endpoint=account.endpoint, ca_file=account.ca_file, io_timeout=io_timeout
        )
        try:
            grant = await store.authorize()
            scope = await find_scope(store, grant, source, bucket_id=bucket_id)
            names = await look_for_buckets(store, scope)
            skew = store.skew_seconds
        finally:
            await store.aclose()
        return Findings(account.credentials, grant, scope, names, int(time.time() * 1000), skew)

    async def look_for_buckets(store: Store, scope: Scope) -> tuple[str, ...]:
        if scope.buckets is not None:
            return tuple(bucket.name for bucket in scope.buckets)
        return tuple(row.name for row in await store.list_buckets())

    return trio.run(ask)


# --- for people -------------------------------------------------------------------------------------------


def _print(findings: Findings) -> None:
    for line in describe(findings):
        click.echo(printable(line))
    for remark in findings.remarks():
        say_warning(remark.message)
        say_hint(remark.hint)


def describe(findings: Findings) -> Iterator[str]:
    """Write the findings for people, a line each."""
    grant, names = findings.grant, findings.bucket_names
    kind = describe_kind(grant, is_master=findings.is_master)
    yield f"key:      {findings.credentials.shown_id}, {kind}"
    yield f"found in: {findings.credentials.source}"
    yield f"account:  {grant.account_id}"
    yield f"buckets:  {', '.join(names) or 'none'}"
    yield f"prefix:   {grant.prefix or 'none'}"
    yield f"ends:     {'never' if grant.expires_ms is None else _moment(grant.expires_ms)}"
    yield f"may:      {' '.join(findings.capability_names()) or 'nothing'}"
    yield f"root:     {describe_root(findings.scope)}"
    access = describe_access(findings.capability_names(), read_only=findings.is_read_only)
    yield f"access:   {access}"
    yield ""
    for verdict in findings.verdicts():
        answer = "yes" if verdict.errno_name is None else f"{verdict.errno_name:<11} {verdict.why}"
        yield f"{verdict.operation:<34} {answer}"


def _moment(when_ms: int) -> str:
    return datetime.fromtimestamp(when_ms / 1000, UTC).astimezone().isoformat(" ", "seconds")


# --- for scripts ------------------------------------------------------------------------------------------


def as_object(findings: Findings) -> dict[str, Any]:
    """Write the findings for scripts."""
    grant = findings.grant
    return {
        "usable": findings.is_usable,
        "key_id": findings.credentials.shown_id,
        "found_in": findings.credentials.source,
        "kind": describe_kind(grant, is_master=findings.is_master),
        "account": grant.account_id,
        "buckets": list(findings.bucket_names),
        "prefix": grant.prefix,
        "expires_ms": grant.expires_ms,
        "capabilities": findings.capability_names(),
        "root": describe_root(findings.scope),
        "read_only": findings.is_read_only,
        "operations": [
            {
                "operation": verdict.operation,
                "allowed": verdict.errno_name is None,
                "errno": verdict.errno_name,
                "why": verdict.why or None,
            }
            for verdict in findings.verdicts()
        ],
        "remarks": [{"message": remark.message, "hint": remark.hint} for remark in findings.remarks()],
    }


def _refused_as_json(credentials: Credentials | None, failure: Failure) -> dict[str, Any]:
    remarks = credentials.remarks if credentials is not None else ()
    return {
        "usable": False,
        "key_id": credentials.shown_id if credentials is not None else None,
        "found_in": credentials.source if credentials is not None else None,
        "error": str(failure),
        "hints": list(failure.hints),
        "remarks": [{"message": remark.message, "hint": remark.hint} for remark in remarks],
    }
