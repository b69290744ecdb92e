"""Profiles: what they may say, what is said about those that are wrong, and that no key is ever shown."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2mount.cli.credentials import Search, find_credentials
from b2mount.cli.mount import mount
from b2mount.cli.profiles import ALL_NAMES, OWN_NAMES, Profile, parse_profile, read_profile, take_source
from b2mount.cli.report import Exit, Failure

KEY_ID = "0018f5033aa08600000000001"
KEY = "K001abcdefghijklmnopqrstuvwx+/="
PATH = Path("/etc/b2mount/photos.toml")


def parse(text: str) -> Profile:
    return parse_profile(PATH, text)


def refusal(text: str) -> tuple[str, str]:
    with pytest.raises(Failure) as caught:
        parse(text)
    assert caught.value.status == Exit.USAGE
    return str(caught.value), caught.value.hints[0]


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_profile_may_say_all_that_the_command_line_may() -> None:
    flags = {str(parameter.name) for parameter in mount.params}
    assert flags - {"words", "o_words", "daemon", "profile"} == set(ALL_NAMES) - set(OWN_NAMES) - {"nonempty"}


def test_everything_is_read_as_the_command_line_reads_it() -> None:
    profile = parse(
        f'source = "photos/2024"\nmountpoint = "/mnt/photos"\nkey_id = "{KEY_ID}"\nkey = "{KEY}"\n'
        'cache_size = "50G"\nlisting-ttl = 300\numask = "027"\nuploads = 4\nuid = 0\n'
        'cache_dir = "/var/cache/x"\n'
        'allow_other = true\nread_only = false\noptions = "noexec,hard_delete"\n'
    )
    assert (profile.source, profile.mountpoint) == ("photos/2024", Path("/mnt/photos"))
    assert (profile.key_id, profile.key) == (KEY_ID, KEY)
    assert profile.said == {
        "cache_size": 50 << 30,
        "listing_ttl": 300.0,
        "umask": 0o027,
        "uploads": 4,
        "uid": 0,
        "cache_dir": Path("/var/cache/x"),
        "allow_other": True,
        "read_only": False,
        "hard_delete": True,
        "kernel_options": ("noexec",),
    }


def test_what_shows_a_profile_does_not_show_its_key() -> None:
    assert KEY not in repr(parse(f'key_id = "{KEY_ID}"\nkey = "{KEY}"'))


NOTHING = "is nothing that can be said in a profile"
RELATIVE = "is not an absolute path"
NO_TABLES = "a profile has no tables: write what is in it without this line"
NO_PLACE = "a profile has no directory of its own: begin with / or ~/"
WRONG = [
    ("\ncahe_size = 1", f" line 2: cahe_size {NOTHING}", "did you mean cache_size?"),
    ("allow-others = true", f" line 1: allow-others {NOTHING}", "did you mean allow_other?"),
    ("zork = 1", f" line 1: zork {NOTHING}", "b2mount config show lists all that can be said"),
    ("secret = 1", f" line 1: secret {NOTHING}", "the key ID goes under key_id, the secret under key"),
    ("[photos]\nuid = 1", f" line 1: photos {NOTHING}", NO_TABLES),
    (
        '# x\n\nallow_other = "yes"',
        " line 3: allow_other is a text, not true or false",
        "write allow_other = true, without quotes",
    ),
    ("umask = 22", " line 1: umask is a number, not a text", 'write umask = "..."'),
    ("source = true", " line 1: source is true or false, not a text", 'write source = "..."'),
    ("source = 2024-01-01", " line 1: source is a date or time, not a text", 'write source = "..."'),
    ("cache_size = [1]", " line 1: cache_size is a list, not a text", 'write cache_size = "..."'),
    ('key_id = ""', " line 1: key_id is empty", 'write key_id = "..."'),
    (
        'cache_size = "big"',
        " line 1: cache_size: 'big' is not a size; write 512M, 10G or 1.5TiB",
        f"correct it in {PATH}",
    ),
    ("uploads = 0", " line 1: uploads: '0' is not a number from 1", f"correct it in {PATH}"),
    ('cache_dir = "cache"', f" line 1: cache_dir {RELATIVE}", NO_PLACE),
    ('mountpoint = "mnt"', f" line 1: mountpoint {RELATIVE}", NO_PLACE),
    (
        'options = "zork"',
        " line 1: options: unknown option 'zork'",
        "b2mount mount --help shows what can be said",
    ),
    ("uid = 1\nuid = 2\n", " is not TOML (at line 2, column 8)", 'write NAME = "VALUE", one a line'),
    ("uid = 1\ngid = 1\n'u-id' = 1", f" line 3: u-id {NOTHING}", "did you mean uid?"),
    ("cache_size = 1\ncache-size = 2", " line 2: cache-size is said twice", "leave one of them out"),
    (
        f'key = "{KEY}"\ncredentials = "/k"',
        " line 2: credentials names a file, but the key stands here too",
        "keep one of them",
    ),
]


@pytest.mark.parametrize(("text", "message", "hint"), WRONG)
def test_what_is_wrong_is_named_with_its_line_and_what_to_do(text: str, message: str, hint: str) -> None:
    assert refusal(text) == (f"{PATH}{message}", hint)


LINES = st.sampled_from(
    [
        *(f'key = "{KEY}"', f"key = '{KEY}", KEY, f"[{KEY[:4]}", f'key = ["{KEY}"]', f'key_id = "{KEY}"'),
        *('credentials = "/x"', "uid = true", "source = 5", f'uid = {{ key = "{KEY}" }}', ""),
    ]
)


@given(st.lists(LINES, max_size=5))
def test_no_profile_whatever_has_its_key_shown_in_what_is_said_about_it(lines: list[str]) -> None:
    lines = [
        line for line in lines if not line.startswith('"')
    ]  # a name is repeated: it is no secret's place
    try:
        parse("\n".join(lines))
    except Failure as failure:
        assert KEY not in str(failure) + "".join(failure.hints)


@pytest.mark.parametrize("mode", [0o604, 0o644])
def test_a_key_that_everybody_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "x.toml", f'key_id = "{KEY_ID}"\nkey = "{KEY}"\n', mode)
    with pytest.raises(Failure, match=f"^{path} holds a key, and every user can read it$") as caught:
        read_profile(path)
    assert caught.value.status == Exit.CREDENTIALS
    assert caught.value.hints == (f"chmod 600 {path}; if it was ever open to strangers, make another key",)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400])
def test_a_key_that_its_group_can_read_is_the_owners_choice(tmp_path: Path, mode: int) -> None:
    assert read_profile(write(tmp_path / "x.toml", f'key = "{KEY}"', mode)).key == KEY


def test_a_profile_without_a_key_may_be_read_but_not_written_by_everybody(tmp_path: Path) -> None:
    assert read_profile(write(tmp_path / "x.toml", 'source = "photos"', 0o644)).source == "photos"
    with pytest.raises(Failure, match="can be changed by every user"):
        read_profile(write(tmp_path / "x.toml", 'source = "photos"', 0o646))


def test_a_profile_that_names_no_key_leaves_the_search_to_go_on(tmp_path: Path) -> None:
    write(tmp_path / ".config" / "b2mount" / "photos.toml", 'source = "photos"')
    write(tmp_path / ".config" / "b2mount" / "default.toml", f'key_id = "{KEY_ID}"\nkey = "{KEY}"')
    write(tmp_path / "given" / "b2mount", f"{KEY_ID}\n{KEY}\n")
    search = Search({"CREDENTIALS_DIRECTORY": str(tmp_path / "given")}, tmp_path, profile="photos")
    assert find_credentials(search).source == f"systemd credential {tmp_path}/given/b2mount"
    with pytest.raises(Failure, match=r"photos\.toml names no key, and there is no other$"):
        find_credentials(Search({}, tmp_path, profile="photos"))  # and not that of another profile


def test_a_profile_may_name_the_file_of_its_key(tmp_path: Path) -> None:
    key = write(tmp_path / "key", f"{KEY_ID}\n{KEY}\n")
    profile = write(tmp_path / ".config" / "b2mount" / "photos.toml", f'credentials = "{key}"')
    found = find_credentials(Search({}, tmp_path, profile="photos"))
    assert (found.key, found.source) == (KEY, f"file {key}, named by {profile}")


def test_half_a_key_in_a_profile_names_the_missing_half(tmp_path: Path) -> None:
    path = write(tmp_path / ".config" / "b2mount" / "photos.toml", f'key = "{KEY}"')
    with pytest.raises(Failure, match=f"^{path} has key but no key_id$"):
        find_credentials(Search({}, tmp_path, profile="photos"))


def test_a_source_may_be_a_profile() -> None:
    assert take_source("profile:photos", {}) == (None, {"profile": "photos"})
    assert take_source("photos", {"uid": 1}) == ("photos", {"uid": 1})
    with pytest.raises(Failure, match="two profiles were named: 'a' and 'b'"):
        take_source("profile:a", {"profile": "b"})
