"""`mount.b2mount`: mount(8)'s words and mount(8)'s exit statuses."""

from pathlib import Path

import pytest

from b2mount.cli.mount_helper import mount_status
from tests.cli.running import Shell


def run(shell: Shell, *words: str | Path) -> tuple[int, list[str]]:
    done = shell.run(*words, program="mount.b2mount")
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def test_the_statuses_are_those_of_mount() -> None:
    assert [mount_status(status) for status in (0, 1, 2, 3, 4, 130)] == [0, 32, 1, 32, 32, 32]


@pytest.mark.parametrize("words", [("-f",), ("-sfnv",), ("-f", "-t", "fuse.b2mount"), ("-n", "-f")])
def test_the_flags_that_mount_passes_are_known(shell: Shell, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert run(shell, "none", tmp_path, *words, "-o", "rw,_netdev,nofail,x-systemd.automount") == (0, [])


def test_an_unknown_option_is_mounts_status_1(shell: Shell, tmp_path: Path) -> None:
    assert run(shell, "none", tmp_path, "-o", "rw,zork=5") == (
        1,
        [
            "b2mount: error: unknown option 'zork'",
            "b2mount: hint: b2mount mount --help shows what can be said",
        ],
    )


def test_sloppy_passes_it_over(shell: Shell, tmp_path: Path) -> None:
    assert run(shell, "none", tmp_path, "-s", "-f", "-o", "rw,zork=5") == (0, [])


def test_a_secret_among_the_options_is_refused_and_not_repeated(shell: Shell, tmp_path: Path) -> None:
    status, lines = run(shell, "none", tmp_path, "-o", "key=K001abcdef")
    assert status == 1
    assert lines[0] == "b2mount: error: option key: keys are not given as options, where everybody sees them"
    assert "K001" not in "".join(lines)


def test_a_mount_that_fails_is_mounts_status_32(shell: Shell, tmp_path: Path) -> None:
    missing = tmp_path / "none"
    assert run(shell, "photos", missing) == (
        32,
        [f"b2mount: error: {missing} does not exist", f"b2mount: hint: mkdir -p {missing}"],
    )


def test_missing_words_are_mounts_status_1(shell: Shell) -> None:
    assert run(shell, "photos")[0] == 1
