"""The manual page and shell completion, put to use by the programs that they are for."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from b2mount.cli.completion import SHELLS
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


@pytest.mark.parametrize("kind", SHELLS)
def test_each_shell_gets_a_script(shell: Shell, kind: str) -> None:
    done = shell.run("completion", kind)
    assert done.returncode == 0
    assert f"_B2MOUNT_COMPLETE={kind}_complete" in done.stdout


def complete(shell: Shell, *words: str) -> list[str]:
    """Return what bash offers for the last word."""
    script = (
        'source <(b2mount completion bash)\nCOMP_WORDS=(b2mount "$@")\nCOMP_CWORD=$#\n'
        "compopt() { printf 'compopt %s\\n' \"$2\"; }\n"
        '_b2mount_completion b2mount\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = [need("bash"), "--norc", "-euo", "pipefail", "-c", script, "bash", *words]
    env = shell.environ({"PATH": path})
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, f"{shlex.join(words)}: {done.stderr}"
    return done.stdout.split("\n")[:-1]


def test_bash_completes_verbs_and_options(shell: Shell) -> None:
    assert complete(shell, "unm") == ["unmount"]
    assert complete(shell, "mount", "--read") == ["--read-only"]
    assert complete(shell, "keys", "cr") == ["create"]
    assert complete(shell, "mount", "--log-level", "w") == ["warning"]


def test_bash_completes_profiles_where_they_are_meant(shell: Shell) -> None:
    directory = shell.home / ".config" / "b2mount"
    directory.mkdir(parents=True)
    for name in ("photos", "phones", "tax"):
        (directory / f"{name}.toml").touch()
    assert complete(shell, "mount", "--profile", "ph") == ["phones", "photos"]
    assert complete(shell, "mount", "profile:t") == ["profile:tax"]
    assert complete(shell, "config", "check", "pho") == ["phones", "photos"]


def test_bash_completes_directories_for_a_mount_point(shell: Shell) -> None:
    assert complete(shell, "mount", "/mn")[0] == "compopt dirnames"
