"""`mount.b2mount`: what mount(8) runs for `mount -t b2mount` and for a line of /etc/fstab.

Its words and its exit statuses are mount(8)'s (0 mounted, 1 wrong words or no permission, 32 failed), not
those of `b2mount`. Source: mount(8), "External helpers" and "Exit status".
"""

import sys
from collections.abc import Sequence

import click

from b2mount.cli.mount import mount_as_said, read_o, with_profile
from b2mount.cli.mount_words import make_options, parse_path
from b2mount.cli.report import Exit, status_of

WRONG_WORDS = 1
MOUNT_FAILED = 32
NO_SOURCE = ("none", "-")  # /etc/fstab needs a first field; B2 has no bucket names shorter than 6 characters


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source")
@click.argument("mountpoint")
@click.option("-o", "o_words", multiple=True, metavar="WORD[,WORD=VALUE...]", help="Options of the mount.")
@click.option("-s", "sloppy", is_flag=True, help="Pass over unknown options.")
@click.option("-f", "fake", is_flag=True, help="Check the words, mount nothing.")
@click.option("-n", "no_mtab", is_flag=True, help="Ignored: there is no mtab to write.")
@click.option("-v", "verbose", is_flag=True, help="Say what is mounted.")
@click.option("-t", "kind", metavar="TYPE", help="Ignored: the type is b2mount.")
def mount_b2mount(
    source: str,
    mountpoint: str,
    o_words: tuple[str, ...],
    sloppy: bool,
    fake: bool,
    no_mtab: bool,
    verbose: bool,
    kind: str | None,
) -> int:
    """\b
    mount -t b2mount -o credentials=/etc/b2mount/photos.toml photos/2024 /mnt/photos
    none  /mnt/b2  b2mount  _netdev,nofail,allow_other,profile=photos  0  0

    Mount SOURCE (BUCKET[/PREFIX]; `none`: the key decides) in the background, called by mount(8).
    """
    said = read_o(o_words, sloppy=sloppy)
    where = parse_path(mountpoint)
    wanted, _, said = with_profile(None if source in NO_SOURCE else source, where, said)
    if fake:
        make_options(where, wanted, said)
        return Exit.FINE
    status = mount_as_said(wanted, where, said, daemon=True)
    if verbose and status == Exit.FINE:
        click.echo(f"mount.b2mount: {source} mounted on {where}")
    return status


def mount_status(status: int) -> int:
    """Turn an exit status of b2mount into one of mount(8)."""
    if status in (Exit.FINE, Exit.USAGE):
        return WRONG_WORDS if status else 0
    return MOUNT_FAILED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the helper; return mount(8)'s exit status."""

    def run() -> int | None:
        result = mount_b2mount.main(args=arguments, prog_name="mount.b2mount", standalone_mode=False)
        return result if isinstance(result, int) else None

    return mount_status(status_of(run))


if __name__ == "__main__":
    sys.exit(main())
