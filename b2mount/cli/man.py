"""`b2mount man`: the manual page b2mount(1), made from the same definitions as --help.

Written in roff with the man macros. Source: groff_man(7). No page is kept in the project: none can be stale.
"""

import inspect
import re
from collections.abc import Iterator

import click

from b2mount import __version__
from b2mount.cli.main import b2mount as program
from b2mount.cli.report import Exit

MEANINGS = {
    Exit.FINE: "Fine.",
    Exit.FAILED: "Failed; standard error says why and what to do.",
    Exit.USAGE: "Wrong words.",
    Exit.CREDENTIALS: "Credentials are missing, unusable or refused.",
    Exit.UNSENT: "Something that was written is not in B2; it is kept.",
}
VARIABLES = (
    ("B2_APPLICATION_KEY_ID, B2_APPLICATION_KEY", "The key ID and the application key."),
    ("B2_ACCOUNT_ID, B2_ACCOUNT_KEY", "The same, by the names that restic and rclone's users know."),
    ("B2MOUNT_ENDPOINT", "Where to authorize, if not at Backblaze."),
    ("CREDENTIALS_DIRECTORY", "Where systemd puts a key: a file b2mount, or two files key_id and key."),
    (
        "STATE_DIRECTORY, CACHE_DIRECTORY, XDG_STATE_HOME, XDG_CACHE_HOME",
        "Where state and cache lie; the first two are systemd's.",
    ),
)
FILES = (
    ("/etc/b2mount/NAME.toml, ~/.config/b2mount/NAME.toml", "Profiles."),
    ("~/.local/state/b2mount", "What is written and not yet in B2. Never delete it."),
    ("~/.cache/b2mount", "The block cache. May be deleted at any time."),
    ("/sbin/mount.b2mount", "What mount(8) runs, where it was linked."),
)


@click.command(short_help="Print the manual page.")
def man() -> None:
    """\b
    b2mount man | man -l -
    b2mount man > /usr/local/share/man/man1/b2mount.1

    Print the manual page b2mount(1), in roff.
    """
    click.echo("\n".join(page()))


def page() -> Iterator[str]:
    """Yield the lines of the page."""
    yield f'.TH B2MOUNT 1 "" "b2mount {__version__}" "User Commands"'
    yield ".SH NAME"
    yield r"b2mount \- mount exactly what a Backblaze B2 application key may see"
    context = click.Context(program, info_name="b2mount")
    yield ".SH SYNOPSIS"
    for _, usage, _ in _verbs(program, context):
        yield f".B {_quoted(usage)}"
        yield ".br"
    yield ".SH DESCRIPTION"
    yield from _help(program)
    yield ".SH VERBS"
    for verb, usage, verb_context in _verbs(program, context):
        yield f".SS {_quoted(usage)}"
        yield from _help(verb)
        yield from _options(verb, verb_context)
        if verb.epilog:
            yield from (".PP", _text(verb.epilog))
    yield ".SH EXIT STATUS"
    for status, meaning in MEANINGS.items():
        yield from _item(str(status.value), meaning)
    yield ".SH ENVIRONMENT"
    for name, meaning in VARIABLES:
        yield from _item(name, meaning)
    yield ".SH FILES"
    for name, meaning in FILES:
        yield from _item(name, meaning)
    yield from (".SH SEE ALSO", r".BR mount (8), fstab (5), fusermount3 (1), systemd.exec (5)")


def _verbs(group: click.Group, context: click.Context) -> Iterator[tuple[click.Command, str, click.Context]]:
    """Yield each command that does something, with how it is called."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _verbs(command, inner)
        else:
            words = command.collect_usage_pieces(inner)
            yield command, " ".join([inner.command_path, *words]), inner


def _help(command: click.Command) -> Iterator[str]:
    """Yield a command's own text; click marks a paragraph that keeps its lines with a backspace character."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "")):
        if paragraph.startswith("\b"):
            yield from (".PP", ".nf", ".RS 4")
            yield from (_text(line, fill=False) for line in paragraph.lstrip("\b").strip("\n").split("\n"))
            yield from (".RE", ".fi")
        else:
            yield from (".PP", _text(paragraph))


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            yield from _item(*record)


def _item(term: str, text: str) -> Iterator[str]:
    yield from (".TP", f".B {_quoted(term)}", _text(text))


def _quoted(text: str) -> str:
    """Write one argument of a macro; a quotation mark in it would end it."""
    return '"' + _escaped(text).replace('"', r"\(dq") + '"'


def _text(text: str, *, fill: bool = True) -> str:
    """Write a line of text, which must not begin as a request does."""
    line = _escaped(" ".join(text.split()) if fill else text)
    return r"\&" + line if line.startswith((".", "'")) else line


def _escaped(text: str) -> str:
    return text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("`", r"\(ga")
