"""`b2mount config`: what is effective and what is odd, never the key; and the table of the page."""

import json
import tomllib
from pathlib import Path

import pytest

from b2mount.cli.profiles import ALL_NAMES, parse_profile
from tests.cli.running import Shell
from tests.support.profile_page import PAGE, TABLES
from tests.support.semantics_page import generated

KEY_ID = "0018f5033aa08600000000001"
KEY = "K001abcdefghijklmnopqrstuvwx+/="


@pytest.fixture
def profile(shell: Shell) -> Path:
    path = shell.home / ".config" / "b2mount" / "photos.toml"
    path.parent.mkdir(parents=True)
    path.write_text(
        f'source = "photos/2024"\nmountpoint = "{shell.home}"\nkey_id = "{KEY_ID}"\nkey = "{KEY}"\n'
        'cache-size = "50G"\nread_only = true\n'
    )
    path.chmod(0o600)
    return path


def test_the_table_of_the_page_is_the_codes() -> None:
    assert generated(PAGE.read_text())["profile"] == TABLES["profile"](), (
        "run: python -m tests.support.profile_page"
    )


def test_check_tells_what_is_effective_and_not_the_key(shell: Shell, profile: Path) -> None:
    for words in ([], ["photos"], [profile]):
        done = shell.run("config", "check", *words)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [
            f"{profile}",
            "  source             photos/2024",
            f"  mountpoint         {shell.home}",
            "  cache_size         50G",
            "  read_only          True",
            f"  key                key ID {KEY_ID}, from profile {profile}",
        ]


def test_show_is_a_profile_again_with_all_that_can_be_said_and_not_the_key(
    shell: Shell, profile: Path
) -> None:
    done = shell.run("config", "show", "photos")
    assert (done.returncode, done.stderr) == (0, "")
    assert KEY not in done.stdout
    assert parse_profile(profile, done.stdout).said == {"cache_size": 50 << 30, "read_only": True}
    lines = done.stdout.splitlines()
    for name in set(ALL_NAMES) - {"key_id", "key"}:
        assert any(line.lstrip("# ").split(" ")[0] == name for line in lines), name
    uncommented = [line.removeprefix("# ") for line in lines[1:] if " = " in line]
    assert tomllib.loads("\n".join(uncommented))["listing_ttl"] == "60s"
    told = json.loads(shell.run("config", "show", "photos", "--json").stdout)
    assert told == {
        "path": str(profile),
        "source": "photos/2024",
        "mountpoint": str(shell.home),
        "cache_size": "50G",
        "read_only": True,
    }


def test_what_is_wrong_is_an_error_and_the_rest_is_still_looked_at(shell: Shell, profile: Path) -> None:
    (profile.parent / "a.toml").write_text("cahe_size = 1")
    done = shell.run("config", "check")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"b2mount: error: {profile.parent}/a.toml line 1: cahe_size is nothing that can be said in a profile",
        "b2mount: hint: did you mean cache_size?",
    ]
    assert str(profile) in done.stdout


def test_what_is_odd_is_pointed_out(shell: Shell, profile: Path) -> None:
    (profile.parent / "b.toml").write_text(
        'source = "photos"\nstate_dir = "/tmp/c/s"\ncache_dir = "/tmp/c"\n'
    )
    (profile.parent / "z.toml").write_text(f'mountpoint = "{shell.home}"\nca_file = "/no/file"')
    (profile.parent / "n.toml").write_text('mountpoint = "/no/directory"')
    done = shell.run("config", "check")
    assert done.returncode == 0
    here = profile.parent
    for remark in (
        f"{here}/b.toml: it names no mountpoint: say one when you mount it",
        f"{here}/b.toml: state_dir /tmp/c/s lies in cache_dir: "
        "what is not yet in B2 goes when somebody clears that",
        f"{here}/n.toml: /no/directory does not exist",
        f"{here}/z.toml: {profile} has the same mountpoint",
        f"{here}/z.toml: ca_file /no/file does not exist",
    ):
        assert f"b2mount: warning: {remark}" in done.stderr.splitlines()


def test_a_key_file_that_cannot_be_used_is_an_error(shell: Shell, profile: Path) -> None:
    profile.write_text('credentials = "/no/file"')
    done = shell.run("config", "check", "photos")
    assert done.returncode == 3
    assert done.stderr.splitlines()[0] == (
        "b2mount: error: /no/file cannot be read: No such file or directory"
    )


def test_no_profiles_at_all_says_where_they_go(shell: Shell) -> None:
    if list(Path("/etc/b2mount").glob("*.toml")):
        pytest.skip("this machine has profiles")
    done = shell.run("config", "check")
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "b2mount: error: there are no profiles"
