"""`b2mount reload`: make a running mount go on with the key that is now where its key was found."""

from pathlib import Path

import click

from b2mount.cli import units
from b2mount.cli.completion import mount_points
from b2mount.cli.control import ask
from b2mount.cli.mount_words import parse_path
from b2mount.cli.report import printable, say_hint

PATIENCE_SECONDS = 180.0  # the mount asks B2, and tries again for as long as its --io-timeout says


@click.command(short_help="Take a new key into a running mount.")
@click.argument("mountpoint", callback=units.reading(parse_path), shell_complete=mount_points)
def reload(mountpoint: Path) -> None:
    """\b
    b2mount reload /mnt/photos

    Read the credentials anew from the file, profile or systemd credential that the mount was started with,
    and go on with them; what waits to be sent goes on at once. The new key must open all that the mount
    shows. SIGHUP does the same.
    """
    *_, answer = ask(mountpoint, {"op": "reload"}, patience=PATIENCE_SECONDS)
    click.echo(printable(f"{mountpoint} goes on with key {answer['key_id']}, from {answer['found_in']}"))
    if answer.get("gained"):
        say_hint(f"the new key may more: {' '.join(answer['gained'])}; mount again to use all of it")
