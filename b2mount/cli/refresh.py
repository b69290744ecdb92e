"""`b2mount refresh`: make a running mount look again at what others may have changed in B2."""

from pathlib import Path

import click

from b2mount.cli import units
from b2mount.cli.control import ask_once, locate
from b2mount.cli.mount_words import parse_path


@click.command(short_help="Show now what others changed in B2.")
@click.argument("path", callback=units.reading(parse_path))
def refresh(path: Path) -> None:
    """\b
    b2mount refresh /mnt/photos/2024

    Forget what is believed about PATH and what lies under it, so that others' changes show at once.
    """
    mountpoint, inside = locate(path)
    ask_once(mountpoint, {"op": "refresh", "path": inside})
