"""Completion in the shells that it is for: what bash, fish and zsh make of what is typed."""

import os
import pty
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from b2mount.cli.completion import SHELLS
from tests.cli.running import Shell
from tests.support.programs import need

PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
SECONDS = 240.0
ZSHRC = """
autoload -Uz compinit
compinit -u -D
source <(b2mount completion zsh)
zle-line-init() { print -r -- ready >>"$SEEN"; }
seen() { print -r -- "$BUFFER" >>"$SEEN"; BUFFER=; }
zle -N zle-line-init
zle -N seen
bindkey '^Xs' seen
"""


@pytest.fixture
def profiles(shell: Shell) -> Shell:
    """A home with profiles in it."""
    directory = shell.home / ".config" / "b2mount"
    directory.mkdir(parents=True)
    for name in ("photos", "phones", "tax"):
        (directory / f"{name}.toml").touch()
    return shell


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
    command = [need("bash"), "--norc", "-euo", "pipefail", "-c", script, "bash", *words]
    env = shell.environ({"PATH": PATH})
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, f"{shlex.join(words)}: {done.stderr}"
    return done.stdout.split("\n")[:-1]


def test_bash_completes_verbs_and_options(shell: Shell) -> None:
    assert complete(shell, "unm") == ["unmount"]
    assert complete(shell, "mount", "--read") == ["--read-only"]
    assert complete(shell, "keys", "cr") == ["create"]
    assert complete(shell, "mount", "--log-level", "w") == ["warning"]


def test_bash_completes_profiles_where_they_are_meant(profiles: Shell) -> None:
    assert complete(profiles, "mount", "--profile", "ph") == ["phones", "photos"]
    assert complete(profiles, "mount", "profile:t") == ["profile:tax"]
    assert complete(profiles, "config", "check", "pho") == ["phones", "photos"]


def test_bash_completes_directories_for_a_mount_point(shell: Shell) -> None:
    assert complete(shell, "mount", "/mn")[0] == "compopt dirnames"


def fish(shell: Shell, line: str) -> dict[str, str]:
    """Return what fish offers for the end of a line, each with what it says of it."""
    script = "b2mount completion fish | source; complete --do-complete $argv[1]"
    done = subprocess.run(
        [need("fish"), "--no-config", "-c", script, line],
        env=shell.environ({"PATH": PATH}),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), line
    rows = (row.partition("\t") for row in done.stdout.splitlines())
    return {word: text for word, _, text in rows}


def test_fish_completes_verbs_and_options_with_their_whole_help(shell: Shell) -> None:
    assert fish(shell, "b2mount unm") == {"unmount": "Flush, then unmount."}
    assert fish(shell, "b2mount mount --read") == {"--read-only": "Change nothing in B2."}
    assert list(fish(shell, "b2mount mount --log-level w")) == ["warning"]


def test_fish_completes_profiles_and_directories(profiles: Shell) -> None:
    assert list(fish(profiles, "b2mount mount --profile ph")) == ["phones", "photos"]
    assert list(fish(profiles, "b2mount mount profile:t")) == ["profile:tax"]
    assert "/mnt/" in fish(profiles, "b2mount mount /mn")


def zsh(shell: Shell, *lines: str) -> list[str]:
    """Type each line and a tab into a zsh on a terminal; return what it made of them."""
    seen = shell.home / "seen"
    (shell.home / ".zshrc").write_text(ZSHRC)
    environ = shell.environ({"PATH": PATH, "SEEN": str(seen), "TERM": "vt100", "ZDOTDIR": str(shell.home)})
    return type_and_complete([need("zsh"), "-i"], environ, seen, lines)


def type_and_complete(
    command: Sequence[str], environ: Mapping[str, str], seen: Path, lines: Sequence[str]
) -> list[str]:
    """Type each line and a tab into a shell on a terminal; return what it made of them, by *seen*."""
    terminal, other = pty.openpty()
    process = subprocess.Popen(
        command, env=environ, stdin=other, stdout=other, stderr=other, start_new_session=True
    )
    os.close(other)
    try:
        wait_for_lines(terminal, seen, 1)
        for number, line in enumerate(lines):
            os.write(terminal, f"{line}\t\x18s".encode())
            wait_for_lines(terminal, seen, number + 2)
        return seen.read_text().splitlines()[1:]
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def wait_for_lines(terminal: int, file: Path, count: int) -> None:
    """Read what a terminal shows until a file has so many lines."""
    deadline, shown = time.monotonic() + SECONDS, b""
    while not file.exists() or len(file.read_text().splitlines()) < count:
        assert time.monotonic() < deadline, shown.decode(errors="replace")
        if select.select([terminal], [], [], 0.05)[0]:
            shown += os.read(terminal, 4096)


def test_zsh_completes_verbs_options_profiles_and_directories(profiles: Shell) -> None:
    typed = {
        "b2mount unm": "b2mount unmount ",
        "b2mount keys cr": "b2mount keys create ",
        "b2mount mount --read": "b2mount mount --read-only ",
        "b2mount mount --log-level w": "b2mount mount --log-level warning ",
        "b2mount mount --profile ph": "b2mount mount --profile pho",
        "b2mount mount profile:t": "b2mount mount profile:tax ",
        f"b2mount mount {profiles.home}/.conf": f"b2mount mount {profiles.home}/.config/",
    }
    assert dict(zip(typed, zsh(profiles, *typed), strict=True)) == typed


def test_bash_completes_mount_points_of_any_name(shell: Shell) -> None:
    """A program in b2mount's place gives the answers, since what is mounted on this machine is not ours."""
    answers, seen = shell.home / "bin", shell.home / "seen"
    answers.mkdir()
    (answers / "b2mount").write_text("#!/bin/sh\nprintf 'plain,%s\\n' '/mnt/my  photos (ü), 2*'\n")
    (answers / "b2mount").chmod(0o755)
    script = shell.run("completion", "bash").stdout
    keys = 'seen() { printf "%s\\n" "$READLINE_LINE" >>"$SEEN"; READLINE_LINE=; }\n'
    (shell.home / "rc").write_text(f'{script}\n{keys}bind -x \'"\\C-xs":seen\'\nPS1=\necho ready >>"$SEEN"\n')
    environ = shell.environ(
        {"PATH": f"{answers}:{os.environ['PATH']}", "SEEN": str(seen), "TERM": "vt100", "LC_ALL": "C.UTF-8"}
    )
    command = [need("bash"), "--noprofile", "--rcfile", str(shell.home / "rc"), "-i"]
    lines = (
        "b2mount status ",
        "b2mount status /mnt/my",
        "b2mount status '/mnt/my ",
        'b2mount status "/mnt/my',
    )
    for typed, line in zip(lines, type_and_complete(command, environ, seen, lines), strict=True):
        assert line.startswith(typed.replace(" /mnt/my", " ")), line
        assert shlex.split(line) == ["b2mount", "status", "/mnt/my  photos (ü), 2*"]  # however bash quotes it
