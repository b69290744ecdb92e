"""`umount.fuse.b2mount`: what umount(8) runs for a b2mount mount, so that it returns when all is in B2.

umount(8) finds it by the type of the mount, as /sbin/umount.fuse.b2mount. But where root says an absolute
path, util-linux asks fstatfs(2) alone, which knows no more than "fuse", and looks for /sbin/umount.fuse. So
it may be called for the mounts of other programs, and leaves those to umount(8) itself. Its words and exit
statuses are umount(8)'s. Source: umount(8), "External helpers": `umount.suffix {directory|device} [-flnrv]
[-N namespace] [-t type.subtype]`.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from b2mount.cli.flush import end_mount
from b2mount.cli.mount_helper import mount_status
from b2mount.cli.mount_words import parse_path
from b2mount.cli.mountpoints import find_our_mount, is_dead
from b2mount.cli.report import Failure, status_of

UMOUNT = "umount"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("mountpoint")
@click.option("-f", "force", is_flag=True, help="End it also if something is unsent; that is kept.")
@click.option("-l", "lazy", is_flag=True, help="Take it away at once; the rest is sent in the background.")
@click.option("-n", "no_mtab", is_flag=True, help="Ignored: there is no mtab to write.")
@click.option("-r", "read_only", is_flag=True, help="Ignored: it is unmounted or stays as it is.")
@click.option("-v", "verbose", is_flag=True, help="Say what is unmounted.")
@click.option("-N", "namespace", metavar="NS", help="Ignored: umount(8) is there already.")
@click.option("-t", "kind", metavar="TYPE", help="Ignored: the type is fuse.b2mount.")
def umount_b2mount(
    mountpoint: str,
    force: bool,
    lazy: bool,
    no_mtab: bool,
    read_only: bool,
    verbose: bool,
    namespace: str | None,
    kind: str | None,
) -> int:
    """\b
    umount /mnt/photos

    Send what is pending, then unmount, called by umount(8).
    """
    where = parse_path(mountpoint)
    if find_our_mount(where) is None:
        return _umount(where, [flag for flag, said in (("-f", force), ("-l", lazy)) if said])
    if lazy or is_dead(where):
        status = _umount(where, ["-l"] if lazy or os.geteuid() == 0 else [])
    else:
        status = end_mount(where, force=force)
    if verbose and status == 0:
        click.echo(f"umount.fuse.b2mount: {where} unmounted")
    return status


def _umount(mountpoint: Path, flags: Sequence[str]) -> int:
    """Take a mount away by umount(8) itself, which calls no helper with -i. Raises Failure."""
    done = subprocess.run(
        [UMOUNT, "-i", *flags, str(mountpoint)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Failure(f"{mountpoint} cannot be unmounted: {done.stderr.strip()}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the helper; return umount(8)'s exit status, which counts as mount(8)'s does."""

    def run() -> int | None:
        result = umount_b2mount.main(args=arguments, prog_name="umount.fuse.b2mount", standalone_mode=False)
        return result if isinstance(result, int) else None

    return mount_status(status_of(run))


if __name__ == "__main__":
    sys.exit(main())
