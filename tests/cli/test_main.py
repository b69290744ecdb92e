"""The command line as a whole: help that begins with an example, quick; errors on standard error."""

import subprocess
import sys

import click
import pytest

from b2mount import __version__
from b2mount.cli.main import VERBS, b2mount
from b2mount.cli.mount_words import PASSED_ON, SWITCHES, VALUES
from b2mount.cli.report import Exit, Failure, printable, status_of
from b2mount.core.errors import KeyRejected, NoSuchFile
from tests.cli.running import Shell

SLOW_MODULES = ("trio", "pyfuse3", "b2sdk", "requests", "starlette", "uvicorn", "sqlite3")


def test_help_begins_with_an_example_and_names_every_verb(shell: Shell) -> None:
    done = shell.run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[2].strip().startswith("b2mount demo ")
    for verb in VERBS:
        assert any(line.startswith(f"  {verb} ") for line in lines), verb


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "emulator"])
def test_the_help_of_each_verb_begins_with_an_example(shell: Shell, verb: str) -> None:
    done = shell.run(verb, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    usage, blank, example = done.stdout.splitlines()[:3]
    assert usage.startswith(f"Usage: b2mount {verb}")
    assert (blank, example.strip().partition(" ")[0]) == ("", "b2mount")


def test_the_help_of_mount_names_every_word_of_o_and_where_its_log_goes(shell: Shell) -> None:
    said = " ".join(shell.run("mount", "--help").stdout.split())
    words = said.partition("Words for -o")[2]
    for word in (*SWITCHES, *(f"{name}=" for name in VALUES), *PASSED_ON):
        assert word in words, word
    assert "or, without one, to b2mount.log in the state directory" in said


def test_the_help_of_the_mount_helper_begins_with_an_example(shell: Shell) -> None:
    done = shell.run("--help", program="mount.b2mount")
    assert done.returncode == 0
    assert done.stdout.splitlines()[2].strip().startswith("mount -t b2mount ")


def test_help_loads_nothing_slow() -> None:
    """Loading trio, pyfuse3 and b2sdk takes half a second; help of every verb does without."""
    script = (
        "import sys, click\n"
        "from b2mount.cli.main import VERBS, b2mount\n"
        "from b2mount.cli import mount_helper\n"
        "for verb in VERBS: b2mount.get_command(click.Context(b2mount), verb)\n"
        f"print(*[name for name in {SLOW_MODULES!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_verb_is_a_command_of_its_own_name() -> None:
    for verb in VERBS:
        command = b2mount.get_command(click.Context(b2mount), verb)
        assert command is not None
        assert command.name == verb


def test_the_version_is_told(shell: Shell) -> None:
    assert shell.run("--version").stdout == f"b2mount {__version__}\n"


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (("nope",), ["error: No such command 'nope'", "hint: b2mount --help shows what can be said"]),
        (
            ("unmount",),
            ["error: Missing argument 'MOUNTPOINT'", "hint: b2mount unmount --help shows what can be said"],
        ),
        (("mount",), ["error: no MOUNTPOINT was given", "hint: b2mount mount [SOURCE] MOUNTPOINT"]),
        (
            ("mount", "a", "b", "c"),
            ["error: more than SOURCE and MOUNTPOINT were given", "hint: b2mount mount [SOURCE] MOUNTPOINT"],
        ),
        (
            ("mount", "-o", "ro,zork=5", "/mnt"),
            ["error: unknown option 'zork'", "hint: b2mount mount --help shows what can be said"],
        ),
        (
            ("mount", "--cache-size", "much", "/mnt"),
            [
                "error: Invalid value for '--cache-size': 'much' is not a size; write 512M, 10G or 1.5TiB",
                "hint: b2mount mount --help shows what can be said",
            ],
        ),
        (
            ("mount", "--endpoint", "http://b2.example.org", "/mnt"),
            [
                "error: Invalid value for '--endpoint': 'http://b2.example.org' would send the key "
                "unencrypted; http:// works on this machine alone",
                "hint: b2mount mount --help shows what can be said",
            ],
        ),
        (("demo", "--purge"), ["error: --purge goes with --stop", "hint: b2mount demo --stop --purge"]),
    ],
)
def test_wrong_words_are_told_on_standard_error_with_status_2(
    shell: Shell, words: tuple[str, ...], lines: list[str]
) -> None:
    done = shell.run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [f"b2mount: {line}" for line in lines]


def test_no_option_takes_a_secret() -> None:
    for verb in VERBS:
        command = b2mount.get_command(click.Context(b2mount), verb)
        assert command is not None
        names = {option for parameter in command.params for option in parameter.opts}
        assert not names & {"--key", "--application-key", "--key-id", "--password", "--secret"}, verb


def test_an_endpoint_in_the_environment_is_checked_too(shell: Shell) -> None:
    done = shell.run(
        "check", env={"B2MOUNT_ENDPOINT": "ftp://x", "B2_ACCOUNT_ID": "a", "B2_ACCOUNT_KEY": "b"}
    )
    assert done.returncode == 2
    assert done.stderr.startswith("b2mount: error: $B2MOUNT_ENDPOINT: 'ftp://x' is not a base URL")


def test_an_endpoint_in_the_environment_without_a_scheme_is_told_so(shell: Shell) -> None:
    done = shell.run("check", env={"B2MOUNT_ENDPOINT": "127.0.0.1:18080"})
    assert done.returncode == 2
    assert done.stderr == (
        "b2mount: error: $B2MOUNT_ENDPOINT: '127.0.0.1:18080' has no scheme; say http:// or https:// "
        "(http:// on this machine alone)\n"
    )


@pytest.mark.parametrize("words", [(), ("keys",)])
def test_a_command_without_its_verb_shows_its_help(shell: Shell, words: tuple[str, ...]) -> None:
    done = shell.run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == shell.run(*words, "--help").stdout


def test_each_kind_of_end_has_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    def end(error: BaseException) -> int:
        def action() -> int:
            raise error

        return status_of(action)

    assert status_of(lambda: None) == Exit.FINE
    assert end(Failure("x", status=Exit.UNSENT)) == 4
    assert end(NoSuchFile("x")) == Exit.FAILED
    assert end(KeyRejected("B2 does not know the key\nmake another")) == Exit.CREDENTIALS
    assert end(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err.splitlines()[-3:] == [
        "b2mount: error: B2 does not know the key",
        "b2mount: hint: make another",
        "",
    ]


def test_what_is_printed_cannot_drive_a_terminal() -> None:
    assert printable("a\x1b[2J\nb\u202ec é☕") == "a\\x1b[2J\\nb\\u202ec é☕"


def test_recovering_a_scope_where_nothing_was_mounted_says_that_nothing_was(shell: Shell) -> None:
    done = shell.run("recover", "photos")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "b2mount: error: no scope is called 'photos'",
        "b2mount: hint: no mount has left anything in the state directory",
        "b2mount: hint: --state-dir names another place",
    ]


@pytest.mark.parametrize("words", [["config", "--help"], ["status"], ["recover"]])
def test_an_answer_that_cannot_be_written_is_one_line_and_a_failure(shell: Shell, words: list[str]) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >/dev/full', "sh", sys.executable, "-m", "b2mount.cli.main", *words],
        env=shell.environ(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    said = "b2mount: error: what is to be told cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_verbs_do_without_standard_streams(shell: Shell, closed: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "b2mount.cli.main", "status"],
        env=shell.environ(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
