"""What the command line says when something is wrong, and the exit status that goes with it.

An error says what happened, a hint what to do next: one line each, on standard error.
"""

import enum
import errno
import os
import sys
from collections.abc import Callable

import click

from b2mount.core.errors import B2MountError, KeyExpired, KeyRejected, KeyRevoked

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # of a file that the answer goes to


class Exit(enum.IntEnum):
    """The exit statuses of every verb."""

    FINE = 0
    FAILED = 1
    USAGE = 2  # click's own
    CREDENTIALS = 3  # missing, unusable or refused
    UNSENT = 4  # something that was written is not in B2


class Failure(Exception):
    """The end of a verb: what happened, what to do next, and the exit status."""

    def __init__(self, message: str, *hints: str, status: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.hints = hints
        self.status = status


def say_error(message: str) -> None:
    """Print one error line."""
    _say("error", message)


def say_hint(message: str) -> None:
    """Print one line about what to do next."""
    _say("hint", message)


def say_warning(message: str) -> None:
    """Print one line about something odd that stops nothing."""
    _say("warning", message)


def printable(text: str) -> str:
    """Return *text* on one line, harmless to a terminal: B2 file names may hold any character."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def _say(kind: str, message: str) -> None:
    click.echo(f"b2mount: {kind}: {printable(message)}", err=True)


def status_of(action: Callable[[], int | None]) -> int:
    """Run a verb; return its exit status, having printed what went wrong."""
    _open_missing_streams()
    try:
        return action() or Exit.FINE
    except Failure as failure:
        say_error(str(failure))
        for hint in failure.hints:
            say_hint(hint)
        return failure.status
    except click.UsageError as error:
        return _report_usage(error)
    except click.ClickException as error:
        say_error(error.format_message())
        return error.exit_code
    except B2MountError as error:
        return _report_b2mount_error(error)
    except OSError as error:
        if error.errno not in UNWRITABLE or error.filename is not None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or what is left of it would be written at the end
        say_error(f"what is to be told cannot be written: {error.strerror}")
        return Exit.FAILED
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("\n")
        return 130  # 128 + SIGINT, as shells count


def _open_missing_streams() -> None:
    """Open the standard streams that the program was started without, so that no file takes their number."""
    if sys.stdin is not None and sys.stdout is not None and sys.stderr is not None:
        return
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(number, True)
    os.close(number)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 (for as long as we run)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _report_usage(error: click.UsageError) -> int:
    """Print what was wrong with the words; of a command that got none, its help."""
    if error.ctx is not None and error.message == error.ctx.get_help():
        click.echo(error.message, err=True)
        return Exit.USAGE
    say_error(error.format_message().rstrip("."))
    command = error.ctx.command_path if error.ctx else "b2mount"
    say_hint(f"{command} --help shows what can be said")
    return Exit.USAGE


def _report_b2mount_error(error: B2MountError) -> int:
    """Print an error of ours: its first line is the error, further lines are hints."""
    first, *rest = str(error).splitlines() or [type(error).__name__]
    say_error(first)
    for line in rest:
        say_hint(line)
    refused = isinstance(error, (KeyExpired, KeyRevoked, KeyRejected))
    return Exit.CREDENTIALS if refused else Exit.FAILED
