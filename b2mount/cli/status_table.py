"""The rows about a mount on a terminal: a table in colours, and one that renews itself. Knows no fact."""

import time
from collections.abc import Callable, Iterable, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from b2mount.cli.report import printable

STYLES = {
    "mount": "bold",
    "warning": "yellow",
    "failing": "yellow",
    "budget": "cyan",
    "cap": "red",
    "conflict": "red",
    "error": "red",
    "critical": "red",
}

Rows = Sequence[tuple[str, str]]


def make_table(rows: Iterable[tuple[str, str]]) -> Table:
    """Return the rows about one mount as a table."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in rows:
        table.add_row(label, Text(printable(text), style=STYLES.get(label, "")))
    return table


def _page(mounts: Iterable[Rows]) -> RenderableType:
    tables: list[RenderableType] = []
    for rows in mounts:
        tables += [Text(), make_table(rows)] if tables else [make_table(rows)]
    return Group(*tables)


def print_page(mounts: Iterable[Rows]) -> None:
    """Print the tables of some mounts."""
    Console(highlight=False).print(_page(mounts))


def watch_page(ask: Callable[[], Iterable[Rows]], seconds: float) -> None:
    """Show the tables on a screen of their own, renewed every so many seconds, until Ctrl-C."""
    console = Console(highlight=False)
    page = _page(ask())
    try:
        with Live(page, console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.refresh()
                time.sleep(seconds)
                live.update(_page(ask()))
    except KeyboardInterrupt:
        return  # the screen is as it was before
