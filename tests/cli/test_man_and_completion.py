"""The manual page, put to use by the program that it is for."""

import os
import re
import subprocess

import click
import pytest

from b2mount.cli.main import VERBS, b2mount
from b2mount.cli.man import MEANINGS, page
from b2mount.cli.report import Exit
from tests.cli.running import Shell
from tests.support.programs import need


@pytest.fixture(scope="module")
def formatted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page as man(1) shows it, at a width at which nothing is broken apart."""
    file = tmp_path_factory.mktemp("man") / "b2mount.1"
    file.write_text("\n".join(page()) + "\n")
    done = subprocess.run(
        [need("man"), "--warnings=w", "--local-file", "-E", "UTF-8", str(file)],
        env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "300", "MAN_KEEP_FORMATTING": ""},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return re.sub(r"\x1b\[[\d;]*m|.\x08", "", done.stdout)


@pytest.mark.parametrize("verb", list(VERBS))
def test_the_manual_page_has_every_option_of_every_verb(formatted: str, verb: str) -> None:
    command = b2mount.get_command(click.Context(b2mount), verb)
    assert command is not None
    assert f"b2mount {verb}" in formatted
    commands = command.commands.values() if isinstance(command, click.Group) else [command]
    for one in commands:
        for parameter in one.params:
            for option in parameter.opts if isinstance(parameter, click.Option) else []:
                assert option in formatted, (verb, option)


def test_the_manual_page_tells_all_exit_statuses(formatted: str) -> None:
    assert set(MEANINGS) == set(Exit)
    for section in ("NAME", "SYNOPSIS", "EXIT STATUS", "ENVIRONMENT", "FILES", "SEE ALSO"):
        assert f"\n{section}\n" in formatted
    assert "$B2MOUNT_ENDPOINT" in formatted
    assert "'3 days ago'" in formatted, "quotes are shown as they are typed"


def test_the_command_prints_the_page(shell: Shell) -> None:
    done = shell.run("man")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(".TH B2MOUNT 1 ")
