"""How verbs that speak to B2 without a mount are told whom to speak to, and as whom: as the mount would.

What is said on the command line comes before the profile that is named, and that before the environment.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from b2mount.cli import units
from b2mount.cli.credentials import Search, find_credentials
from b2mount.cli.mount import read_endpoint
from b2mount.cli.mount_words import parse_endpoint, parse_path
from b2mount.cli.profiles import SYSTEM_PROFILES, find_profile, read_profile
from b2mount.core.credentials import Credentials

DEFAULT_ENDPOINT = "Where to authorize, if not at Backblaze; also $B2MOUNT_ENDPOINT."


def account_options(
    *,
    file: str = "Read the key from this file.",
    profile: str = "Take the key, the endpoint and its authorities from a profile.",
    endpoint: str = DEFAULT_ENDPOINT,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add --credentials (as `file`), --profile, --endpoint and --ca-file to a verb, with these helps."""
    path = units.reading(parse_path)
    options = (
        click.option("--credentials", "file", metavar="FILE", callback=path, help=file),
        click.option("--profile", metavar="NAME", help=profile),
        click.option("--endpoint", metavar="URL", callback=units.reading(parse_endpoint), help=endpoint),
        click.option("--ca-file", metavar="FILE", callback=path, help="Trust these authorities as well."),
    )

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return add


@dataclass(frozen=True, slots=True)
class Account:
    """Whom to speak to, as whom, and of what the profile says that a mount is."""

    credentials: Credentials
    endpoint: str | None = None  # None: Backblaze
    ca_file: Path | None = None
    source: str | None = None
    bucket_id: str | None = None


def find_account(
    *,
    file: Path | None,
    profile: str | None,
    endpoint: str | None,
    ca_file: Path | None,
    known_endpoint: str | None = None,
) -> Account:
    """Put what was said over what the profile says; *known_endpoint* holds where nobody says any.

    Raises Failure where there are no credentials, or where what is said makes no sense.
    """
    named = None
    if profile is not None:
        named = read_profile(find_profile(os.environ, Path.home(), SYSTEM_PROFILES, profile))
    said = named.said if named is not None else {}
    where = endpoint or said.get("endpoint") or read_endpoint() or known_endpoint
    return Account(
        find_credentials(Search(os.environ, Path.home(), file=file, profile=profile)),
        where,
        ca_file or said.get("ca_file"),
        named.source if named is not None else None,
        said.get("bucket_id"),
    )
