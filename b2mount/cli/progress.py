"""What somebody sees who waits: on a terminal one line that is written over, elsewhere one when it begins."""

import os
import sys
import time
from types import TracebackType
from typing import Self

import click

from b2mount.cli import units
from b2mount.cli.report import printable

PATIENCE_SECONDS = 0.3  # what is over sooner needs no line


def is_plain_terminal() -> bool:
    """Say whether a terminal, if there is one, cannot take back what it has shown."""
    return os.environ.get("TERM", "").lower() in ("dumb", "unknown")


def _columns() -> int | None:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or None  # 0: it does not know
    except (OSError, ValueError):
        return None


class Progress:
    """Files and bytes left of one long job; clear of the terminal when its block ends.

    Without a terminal it says what it waits for once, if it waits at all, so that a log shows why.
    """

    def __init__(self, doing: str, left: str) -> None:
        """*doing* begins the line, as in "sending"; *left* ends it, as in "not yet in B2"."""
        self._doing = doing
        self._left = left
        self._is_terminal = sys.stderr.isatty() and not is_plain_terminal()
        self._is_shown = False
        self._began = time.monotonic()

    def show(self, files: int, size_bytes: int, more: str = "") -> None:
        """Say how much is left, and *more* of it."""
        if not files or time.monotonic() - self._began < PATIENCE_SECONDS:
            return
        text = f"{self._doing}: {units.show_count(files, 'file')}, {units.show_size(size_bytes)} {self._left}"
        text += f"; {more}" if more else ""
        if self._is_terminal:
            width = _columns()  # asked each time: windows change; a line that wraps could not be written over
            shown = printable(text) if width is None else printable(text)[: width - 1]
            click.echo(f"\r\x1b[K{shown}", err=True, nl=False)
        elif not self._is_shown:
            click.echo(f"b2mount: {text}", err=True)
        self._is_shown = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_shown and self._is_terminal:
            click.echo("\r\x1b[K", err=True, nl=False)
