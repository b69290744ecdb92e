"""Every b2mount command on the pages, run by a test or not, has words that b2mount takes.

What is run is in tests/test_recipes.py and tests/test_pages.py; the rest wants a machine's root, systemd
or an account of its own.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from b2mount.cli.main import b2mount

PROJECT = Path(__file__).parent.parent
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
CODE = re.compile(r"(?:(?:    )+|\$ )(?:.*(?:\|\||&&|;|do|then) )?(?:[A-Z_0-9]+=\S+ )*(b2mount .*)")
INLINE = re.compile(r"`(b2mount [a-z-][^`]*)`")
ENDS = {"|", "||", "&&", ";", ">", ">>", "<", "&"}


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield the commands of each page, in blocks and in the text: their words, to the first command's end."""
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        for line in text.splitlines():
            found = CODE.match(line)
            for one in [found[1]] if found else INLINE.findall(line):
                if words := split(one):
                    yield page.name, words


def split(line: str) -> list[str]:
    """Return the words of the first command, without `b2mount`; none where it is no command."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:
        return []  # prose
    end = next((at for at, word in enumerate(words) if word in ENDS or word == ")"), len(words))
    return words[1:end]


FOUND = list(commands())


@pytest.mark.parametrize(("page", "words"), FOUND, ids=[f"{page}: {shlex.join(w)}" for page, w in FOUND])
def test_the_words_are_taken(page: str, words: list[str]) -> None:
    command: click.Command = b2mount
    context = click.Context(b2mount, info_name="b2mount")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"{page}: there is no {words[0]}"
        command, words = found, words[1:]
        context = click.Context(command, parent=context, info_name=command.name)
    if words == ["..."]:
        return
    command.make_parser(context).parse_args(list(words))


def test_commands_are_found_on_the_pages() -> None:
    assert len(FOUND) > 100
    assert {"README.md", "operating.md", "recipes.md", "archives.md", "keys.md"} <= {
        page for page, _ in FOUND
    }
