"""The command `b2mount`: its verbs by name, each imported when it is asked for, so that help is quick."""

import importlib
import sys
from collections.abc import Mapping, Sequence

import click

from b2mount import __version__
from b2mount.cli.report import status_of

VERBS: Mapping[str, str] = {
    "mount": "b2mount.cli.mount",
    "check": "b2mount.cli.check",
    "status": "b2mount.cli.status",
    "flush": "b2mount.cli.flush",
    "unmount": "b2mount.cli.flush",
    "refresh": "b2mount.cli.refresh",
    "reload": "b2mount.cli.reload",
    "recover": "b2mount.cli.recover",
    "restore": "b2mount.cli.restore",
    "keys": "b2mount.cli.keys",
    "config": "b2mount.cli.config",
    "man": "b2mount.cli.man",
    "completion": "b2mount.cli.completion",
    "emulator": "b2mount.cli.emulator",
    "demo": "b2mount.cli.demo",
}


class Verbs(click.Group):
    """A group whose commands live in modules of their own, in a function of the verb's name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command = getattr(importlib.import_module(VERBS[cmd_name]), cmd_name)
        return command if isinstance(command, click.Command) else None


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="b2mount", message="%(prog)s %(version)s")
def b2mount() -> None:
    """\b
    b2mount demo                            try it without an account
    b2mount check                           what the key may do
    b2mount mount photos/2024 /mnt/photos   mount a part of a bucket

    Mount exactly what a Backblaze B2 application key may see, as a Linux file system.

    \b
    Credentials come from --credentials FILE, systemd, the environment
    (B2_APPLICATION_KEY_ID and B2_APPLICATION_KEY) or a profile; never from
    the command line.

    \b
    Exit status: 0 fine, 1 failed, 2 usage, 3 credentials missing or refused,
    4 something written is not in B2.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""

    def run() -> int | None:
        result = b2mount.main(args=arguments, prog_name="b2mount", standalone_mode=False)
        return result if isinstance(result, int) else None

    return status_of(run)


if __name__ == "__main__":
    sys.exit(main())
