"""The options by which verbs that speak to B2 without a mount are told whom to speak to, and as whom."""

from collections.abc import Callable
from typing import Any

import click

from b2mount.cli import units
from b2mount.cli.mount_words import parse_endpoint, parse_path

DEFAULT_ENDPOINT = "Where to authorize, if not at Backblaze; also $B2MOUNT_ENDPOINT."


def account_options(
    *,
    file: str = "Read the key from this file.",
    profile: str = "Read the key from a profile.",
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
