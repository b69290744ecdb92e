"""Where credentials are found, in which order, and what is said when they are not."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2mount.cli.credentials import Search, explain_refusal, find_credentials
from b2mount.cli.report import Exit, Failure
from b2mount.core.credentials import Credentials
from b2mount.core.errors import KeyRejected

KEY_IDS = {name: f"0018f5033aa086000000000{number:02d}" for number, name in enumerate("abcdef", 1)}
KEY = "K001abcdefghijklmnopqrstuvwx+/="


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def find(
    home: Path, environ: dict[str, str] | None = None, *, file: Path | None = None, profile: str | None = None
) -> Credentials:
    return find_credentials(
        Search(
            environ if environ is not None else {}, home, file, profile, system_profiles=home.parent / "etc"
        )
    )


def toml(key_id: str) -> str:
    return f'key_id = "{key_id}"\nkey = "{KEY}"\n'


def everywhere(home: Path) -> dict[str, str]:
    """Put a different key ID in every place there is; return the environment."""
    write(home / "credentials" / "b2mount", toml(KEY_IDS["b"]))
    write(home / ".config" / "b2mount" / "default.toml", toml(KEY_IDS["e"]))
    write(home.parent / "etc" / "default.toml", toml(KEY_IDS["f"]))
    return {
        "CREDENTIALS_DIRECTORY": str(home / "credentials"),
        "B2_APPLICATION_KEY_ID": KEY_IDS["c"],
        "B2_APPLICATION_KEY": KEY,
        "B2_ACCOUNT_ID": KEY_IDS["d"],
        "B2_ACCOUNT_KEY": KEY,
    }


def test_the_first_found_wins_in_the_documented_order(home: Path) -> None:
    environ = everywhere(home)
    file = write(home / "my-key", toml(KEY_IDS["a"]))
    assert find(home, dict(environ), file=file).key_id == KEY_IDS["a"]
    assert find(home, dict(environ)).key_id == KEY_IDS["b"]
    del environ["CREDENTIALS_DIRECTORY"]
    assert find(home, dict(environ)).key_id == KEY_IDS["c"]
    del environ["B2_APPLICATION_KEY_ID"], environ["B2_APPLICATION_KEY"]
    assert find(home, dict(environ)).key_id == KEY_IDS["d"]
    assert find(home, {}).key_id == KEY_IDS["e"]
    (home / ".config" / "b2mount" / "default.toml").unlink()
    assert find(home, {}).key_id == KEY_IDS["f"]


def test_a_profile_that_is_named_comes_before_the_environment(home: Path) -> None:
    write(home / ".config" / "b2mount" / "work.toml", toml(KEY_IDS["a"]))
    found = find(home, everywhere(home), profile="work")
    assert found.key_id == KEY_IDS["a"]
    assert found.source == f"profile {home}/.config/b2mount/work.toml"


def test_xdg_config_home_moves_the_profiles(home: Path) -> None:
    write(home / "elsewhere" / "b2mount" / "default.toml", toml(KEY_IDS["a"]))
    assert find(home, {"XDG_CONFIG_HOME": str(home / "elsewhere")}).key_id == KEY_IDS["a"]


@pytest.mark.parametrize(
    "text",
    [
        "{id}\n{key}\n",
        "# the key of the photos\n\n{id}\n{key}",
        "\ufeff{id}\r\n{key}\r\n",
        "B2_APPLICATION_KEY_ID={id}\nB2_APPLICATION_KEY={key}\n",
        "export B2_APPLICATION_KEY_ID='{id}'\nexport B2_APPLICATION_KEY=\"{key}\"\n",
        "B2_ACCOUNT_KEY={key}\nB2_ACCOUNT_ID={id}\n",
        "key_id={id}\nkey={key}\n",
        'key_id = "{id}"\nkey = "{key}"\n',
        "\ufeff# a profile\nkey = '{key}'\nkey_id = '{id}'\n[later]\nmore = 1\n",
    ],
)
def test_every_file_format_is_read(home: Path, text: str) -> None:
    file = write(home / "file", text.format(id=KEY_IDS["a"], key=KEY))
    assert find(home, file=file) == Credentials(KEY_IDS["a"], KEY, f"file {file}")


def test_systemd_credentials_may_be_two_files(home: Path) -> None:
    write(home / "credentials" / "key_id", KEY_IDS["a"] + "\n")
    write(home / "credentials" / "key", KEY + "\n")
    found = find(home, {"CREDENTIALS_DIRECTORY": str(home / "credentials")})
    assert (found.key_id, found.key) == (KEY_IDS["a"], KEY)


def test_systemd_credentials_of_other_programs_are_passed_over(home: Path) -> None:
    write(home / "credentials" / "tls.pem", "whatever")
    environ = {**everywhere(home), "CREDENTIALS_DIRECTORY": str(home / "nothing-here")}
    assert find(home, environ).key_id == KEY_IDS["c"]


def test_credentials_leave_the_environment_even_when_others_are_used(home: Path) -> None:
    environ = everywhere(home)
    find(home, environ)
    assert set(environ) == {"CREDENTIALS_DIRECTORY"}


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("B2_APPLICATION_KEY_ID", "B2_APPLICATION_KEY"),
        ("B2_APPLICATION_KEY", "B2_APPLICATION_KEY_ID"),
        ("B2_ACCOUNT_ID", "B2_ACCOUNT_KEY"),
        ("B2_ACCOUNT_KEY", "B2_ACCOUNT_ID"),
    ],
)
def test_half_a_pair_in_the_environment_names_the_missing_half(home: Path, name: str, other: str) -> None:
    with pytest.raises(Failure) as caught:
        find(home, {name: "something", other: ""})
    assert str(caught.value) == f"the environment has {name} but no {other}"
    assert caught.value.status == Exit.CREDENTIALS


def test_half_a_pair_in_a_file_names_the_missing_half(home: Path) -> None:
    file = write(home / "half", f'key_id = "{KEY_IDS["a"]}"\n')
    with pytest.raises(Failure, match=f"^{file} has key_id but no key$"):
        find(home, file=file)


def test_half_a_pair_in_systemd_names_the_missing_half(home: Path) -> None:
    write(home / "credentials" / "key", KEY)
    with pytest.raises(Failure, match=f"^{home}/credentials has key but no key_id$"):
        find(home, {"CREDENTIALS_DIRECTORY": str(home / "credentials")})


def test_nothing_anywhere_says_where_to_put_a_key(home: Path) -> None:
    with pytest.raises(Failure) as caught:
        find(home)
    assert str(caught.value) == "no credentials found"
    assert caught.value.hints == (
        "set B2_APPLICATION_KEY_ID and B2_APPLICATION_KEY, or write both to a file for --credentials FILE",
        f"or write key_id and key to {home}/.config/b2mount/default.toml",
    )
    assert caught.value.status == Exit.CREDENTIALS


def test_a_profile_that_is_not_there_is_named(home: Path) -> None:
    with pytest.raises(Failure, match=r"^there is no profile 'work'$"):
        find(home, everywhere(home), profile="work")


@pytest.mark.parametrize("name", ["../../etc/shadow", "", ".", "a/b", "-x"])
def test_a_profile_name_cannot_leave_its_directory(home: Path, name: str) -> None:
    with pytest.raises(Failure, match="is not a profile's name"):
        find(home, profile=name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty, not a key ID and a key"),
        (f"{KEY}\n", "holds 1 line, not a key ID and a key"),
        ("a\nb\nc\n", "holds 3 lines, not a key ID and a key"),
        ("FOO=bar\n", "names no key"),
        (f'key_id = "x"\nkey = "{KEY}\n', "is not TOML (at line 2, column 39)"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_without_quoting_it(
    home: Path, text: str, message: str
) -> None:
    file = write(home / "odd", text)
    with pytest.raises(Failure) as caught:
        find(home, file=file)
    assert str(caught.value) == f"{file} {message}"
    assert KEY not in str(caught.value) + "".join(caught.value.hints)


TOKENS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=12, max_size=40)
SEPARATORS = st.sampled_from(
    ["\n", "=", " = ", '"', "'", "\nkey_id = ", "\nkey=", "B2_ACCOUNT_KEY=", "[", "\ufeff", "#"]
)


@given(st.lists(st.tuples(SEPARATORS, TOKENS), max_size=6))
def test_no_file_whatever_is_quoted_in_what_is_said_about_it(pieces: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        file = write(Path(directory) / "file", "".join(separator + token for separator, token in pieces))
        try:
            find(Path(directory), file=file)
        except Failure as failure:
            said = str(failure) + "".join(failure.hints)
            assert [token for _, token in pieces if token in said] == []


def test_a_file_that_is_not_there_is_named(home: Path) -> None:
    with pytest.raises(Failure, match=f"^{home}/none cannot be read: No such file or directory$"):
        find(home, file=home / "none")


def test_a_file_of_bytes_is_refused(home: Path) -> None:
    (home / "bytes").write_bytes(os.urandom(16) + b"\xff\xfe")
    with pytest.raises(Failure, match="is not UTF-8 text"):
        find(home, file=home / "bytes")


def test_a_character_no_key_holds_is_refused_with_its_place(home: Path) -> None:
    file = write(home / "file", f"{KEY_IDS['a']}\n{KEY[:-1]}é\n")
    with pytest.raises(Failure) as caught:
        find(home, file=file)
    assert str(caught.value) == (
        "the application key holds the character U+00E9 (LATIN SMALL LETTER E WITH ACUTE), "
        f"which no B2 key holds (file {file})"
    )


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_a_file_that_others_can_read_is_warned_about(
    home: Path, capsys: pytest.CaptureFixture[str], mode: int, warned: bool
) -> None:
    file = write(home / "file", f"{KEY_IDS['a']}\n{KEY}\n", mode)
    find(home, file=file)
    expected = f"b2mount: warning: {file} can be read by other users: chmod 600 {file}\n" if warned else ""
    assert capsys.readouterr().err == expected


def test_a_refusal_is_explained_by_what_is_odd_about_the_pair(home: Path) -> None:
    credentials = find(home, {"B2_APPLICATION_KEY_ID": "8f5033aa0860", "B2_APPLICATION_KEY": f"{KEY}\n"})
    failure = explain_refusal(KeyRejected("B2 does not accept the credentials"), credentials)
    assert failure.status == Exit.CREDENTIALS
    assert failure.hints == (
        "it seems that an account ID is used as the key ID of an application key",
        "use the keyID (25 characters) shown with the application key; "
        "the account ID goes with the master key only",
        "key ID 8f5033aa0860 came from B2_APPLICATION_KEY_ID and B2_APPLICATION_KEY",
    )


def test_a_swapped_pair_is_explained_without_showing_the_secret(home: Path) -> None:
    credentials = find(home, {"B2_APPLICATION_KEY_ID": KEY, "B2_APPLICATION_KEY": KEY_IDS["a"]})
    failure = explain_refusal(KeyRejected("B2 does not accept the credentials"), credentials)
    assert failure.hints[0] == "it seems that the key ID and the application key are swapped"
    assert KEY not in str(failure) + "".join(failure.hints)
