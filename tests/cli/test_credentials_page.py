"""docs/credentials.md promises exact words; here they are held to the code."""

import re
from pathlib import Path

import pytest

from b2mount.cli.credentials import ENVIRONMENT_PAIRS
from b2mount.cli.report import Exit
from b2mount.core.credentials import diagnose
from tests.cli.running import Shell

PAGE = (Path(__file__).parents[2] / "docs" / "credentials.md").read_text()
KEY_ID = "0018f5033aa08600000000001"
KEY = "K001" + "x" * 27
SUSPICIOUS_PAIRS = [
    ("8f5033aa0860", KEY),
    (KEY_ID, "0" * 42),
    (KEY, KEY_ID),
    (KEY_ID, "K002" + "x" * 27),
    (KEY_ID[1:], KEY),
    (KEY_ID[2:], KEY),
    (KEY_ID, KEY + "x"),
    ("my-key", KEY),
]


@pytest.mark.parametrize("pair", SUSPICIOUS_PAIRS)
def test_every_suspicion_stands_on_the_page(pair: tuple[str, str]) -> None:
    (remark,) = diagnose(*pair)
    assert remark.message in PAGE


def test_the_table_of_suspicions_has_no_row_that_nothing_says() -> None:
    table = PAGE.split('said after "it seems that …"')[1].split("\n\n")[0]
    rows = re.findall(r"^\| (?!---)(.+?) \|", table, re.MULTILINE)
    said = {diagnose(*pair)[0].message for pair in SUSPICIOUS_PAIRS}
    assert len(rows) == len(said)
    assert [row for row in rows if not any(row.startswith(message) for message in said)] == []


@pytest.mark.parametrize(
    "form", re.findall(r"(?m)(?:^    \S.*\n){2}", PAGE.split("## Formats")[1].split("##")[0])[:3]
)
def test_every_format_on_the_page_is_read(shell: Shell, form: str) -> None:
    file = shell.home / "key"
    file.write_text("\n".join(line.strip() for line in form.splitlines()))
    file.chmod(0o600)
    done = shell.run("check", "--credentials", file, "--endpoint", "http://127.0.0.1:9", "--io-timeout", "1")
    assert done.returncode == Exit.FAILED  # the pair was read: all that is missing is a server
    assert "credentials" not in done.stderr


def test_half_a_pair_is_told_in_the_words_of_the_page(shell: Shell) -> None:
    done = shell.run("check", env={"B2_APPLICATION_KEY_ID": KEY_ID})
    assert done.returncode == Exit.CREDENTIALS
    for line in done.stderr.splitlines():
        assert f"    {line}\n" in PAGE


def test_an_open_file_and_a_foreign_letter_are_told_in_the_words_of_the_page(shell: Shell) -> None:
    file = shell.home / "key"
    file.write_text(f"{KEY_ID}\n\N{CYRILLIC CAPITAL LETTER KA}001{'x' * 27}\n")
    file.chmod(0o644)
    done = shell.run("check", "--credentials", file)
    assert done.returncode == Exit.CREDENTIALS
    file.chmod(0o600)
    assert len(done.stderr.splitlines()) == 2
    file.write_text(f"{KEY_ID}\n{KEY}\n")
    file.chmod(0o644)
    open_to_all = shell.run(
        "check", "--credentials", file, "--endpoint", "http://127.0.0.1:9", "--io-timeout", "1"
    )
    (warning,) = [line for line in open_to_all.stderr.splitlines() if "warning" in line]
    for line in (*done.stderr.splitlines(), warning):
        assert f"    {line.replace(str(shell.home), '/home/ann')}\n" in PAGE


def test_the_variables_and_the_exit_statuses_stand_on_the_page() -> None:
    for pair in ENVIRONMENT_PAIRS:
        for name in pair:
            assert f"`{name}`" in PAGE
    for status in Exit:
        assert f"\n| {status.value} | " in PAGE
