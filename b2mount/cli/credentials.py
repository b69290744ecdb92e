"""Where credentials are found: a file, systemd, the environment, a profile; the first found wins.

Never the command line, which `ps` shows to everyone. What is found in the environment is taken out of it, so
that programs started by this one do not inherit it. docs/credentials.md tells users the same in their words.
"""

import re
import stat
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from b2mount.cli.profiles import (
    DEFAULT_PROFILE,
    SYSTEM_PROFILES,
    Profile,
    exists,
    find_profile,
    profile_paths,
    read_profile,
)
from b2mount.cli.report import Exit, Failure, say_warning
from b2mount.cli.units import show_count
from b2mount.core.credentials import Credentials, CredentialsError, make_credentials
from b2mount.core.endpoints import remarks_on_endpoint
from b2mount.core.errors import B2MountError, KeyRejected

ENVIRONMENT_PAIRS = (
    ("B2_APPLICATION_KEY_ID", "B2_APPLICATION_KEY"),  # the b2 tool's names
    ("B2_ACCOUNT_ID", "B2_ACCOUNT_KEY"),  # restic's names
)
ENVIRONMENT_SOURCES = tuple(f"{id_name} and {key_name}" for id_name, key_name in ENVIRONMENT_PAIRS)
FILE_PAIRS = (("key_id", "key"), *ENVIRONMENT_PAIRS)
FORMATS_HINT = (
    "it holds two lines (key ID, key), or B2_APPLICATION_KEY_ID=… and B2_APPLICATION_KEY=…, or TOML"
)
# B2 answers alike to a wrong secret and to a key that is gone, so neither can be ruled out.
REJECTED_HINTS = (
    "the key may have expired or been deleted: if so, make a new one",
    "or its secret is wrong: copy the key again; B2 shows it once, when the key is made",
)


@dataclass(frozen=True, slots=True)
class Search:
    """What was said about credentials, and the surroundings to search in."""

    environ: MutableMapping[str, str]
    home: Path
    file: Path | None = None
    profile: str | None = None
    system_profiles: Path = SYSTEM_PROFILES


def find_credentials(search: Search) -> Credentials:
    """Find the credentials; what is named on the command line comes before what lies around.

    Raises Failure (exit status 3) where there are none, half a pair, or a file that makes no sense.
    """
    from_environment = _take_from_environment(search.environ)
    if search.file is not None:
        return _read_file(search.file, f"file {search.file}")
    profile = None
    if search.profile is not None:
        path = find_profile(search.environ, search.home, search.system_profiles, search.profile)
        profile = read_profile(path)
        if (told := read_key_file(profile)) is not None:
            return told
    found = _find_systemd(search.environ) or _pick_environment(from_environment)
    return found or _find_default(search, profile)


def _find_default(search: Search, named: Profile | None) -> Credentials:
    """Take the key of the profile `default`, unless another profile was named. Raises Failure."""
    paths = profile_paths(search.environ, search.home, search.system_profiles, DEFAULT_PROFILE)
    for path in paths if named is None else ():
        if exists(path) and (told := read_key_file(read_profile(path))) is not None:
            return told
    raise Failure(
        "no credentials found" if named is None else f"{named.path} names no key, and there is no other",
        "set B2_APPLICATION_KEY_ID and B2_APPLICATION_KEY, or write both to a file for --credentials FILE",
        f"or write key_id and key to {paths[0] if named is None else named.path}",
        *_hints_on_rclone(search.environ),
        status=Exit.CREDENTIALS,
    )


def read_key_file(profile: Profile) -> Credentials | None:
    """Return the key that a profile holds or names a file for, or None. Raises Failure."""
    if profile.credentials is not None:
        return _read_file(profile.credentials, f"file {profile.credentials}, named by {profile.path}")
    if not profile.has_key:
        return None
    halves = {"key_id": profile.key_id, "key": profile.key}
    told = {name: value for name, value in halves.items() if value is not None}
    _demand_both(told, FILE_PAIRS[0], str(profile.path))
    return _make(told["key_id"], told["key"], f"profile {profile.path}")


def explain_refusal(error: B2MountError, credentials: Credentials, endpoint: str | None = None) -> Failure:
    """Say why B2 may have refused the credentials, judging by their shape and by where they were asked."""
    suspicions = [remark for remark in credentials.remarks if remark.is_suspicion]
    is_well_formed = not suspicions
    if isinstance(error, KeyRejected):
        suspicions += remarks_on_endpoint(endpoint, credentials.key_id)
    hints = [line for remark in suspicions for line in (f"it seems that {remark.message}", remark.hint)]
    if is_well_formed and isinstance(error, KeyRejected):
        hints += REJECTED_HINTS
    hints.append(f"key ID {credentials.shown_id} came from {credentials.source}")
    first, *rest = str(error).splitlines() or [type(error).__name__]
    return Failure(first, *rest, *hints, status=Exit.CREDENTIALS)


def _hints_on_rclone(environ: Mapping[str, str]) -> list[str]:
    if not environ.get("RCLONE_B2_ACCOUNT"):
        return []
    return [
        "RCLONE_B2_ACCOUNT and RCLONE_B2_KEY are rclone's alone; the same values go under the names above"
    ]


# --- the environment --------------------------------------------------------------------------------------


def _take_from_environment(environ: MutableMapping[str, str]) -> dict[str, str]:
    """Take every credential out of *environ*, so that no child process gets it."""
    names = [name for pair in ENVIRONMENT_PAIRS for name in pair]
    return {name: value for name in names if (value := environ.pop(name, ""))}


def _pick_environment(variables: Mapping[str, str]) -> Credentials | None:
    for id_name, key_name in ENVIRONMENT_PAIRS:
        if id_name in variables or key_name in variables:
            _demand_both(variables, (id_name, key_name), "the environment")
            _warn_of_others(variables, id_name)
            return _make(variables[id_name], variables[key_name], f"{id_name} and {key_name}")
    return None


def _warn_of_others(variables: Mapping[str, str], taken: str) -> None:
    for other, _ in ENVIRONMENT_PAIRS:
        if other != taken and variables.get(other, variables[taken]) != variables[taken]:
            say_warning(f"{other} is set too, to another key ID, and goes unused: {taken} comes first")


# --- systemd ----------------------------------------------------------------------------------------------


def _find_systemd(environ: Mapping[str, str]) -> Credentials | None:
    """Look where systemd puts what LoadCredential= names: one file `b2mount`, or `key_id` and `key`."""
    directory = environ.get("CREDENTIALS_DIRECTORY", "")
    if not directory:
        return None
    one_file = Path(directory) / "b2mount"
    if exists(one_file):
        return _parse_file(one_file, f"systemd credential {one_file}")
    halves = {name: path for name in FILE_PAIRS[0] if exists(path := Path(directory) / name)}
    if not halves:
        return None
    texts = {name: _read_text(path) for name, path in halves.items()}
    _demand_both(texts, FILE_PAIRS[0], directory)
    return _make(texts["key_id"], texts["key"], f"systemd credentials in {directory}")


# --- files --------------------------------------------------------------------------------------------------


def _read_file(path: Path, source: str) -> Credentials:
    credentials = _parse_file(path, source)
    if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        say_warning(f"{path} can be read by other users: chmod 600 {path}")
    return credentials


def _parse_file(path: Path, source: str) -> Credentials:
    text = _read_text(path)
    lines = [line for line in text.splitlines() if _is_content(line)]
    named = _parse_toml(path, text) if _looks_like_toml(lines) else _parse_assignments(lines)
    if named:
        for pair in FILE_PAIRS:
            if pair[0] in named or pair[1] in named:
                _demand_both(named, pair, str(path))
                return _make(named[pair[0]], named[pair[1]], source)
        raise Failure(f"{path} names no key", FORMATS_HINT, status=Exit.CREDENTIALS)
    if len(lines) != 2:
        found = "is empty" if not lines else f"holds {show_count(len(lines), 'line')}"
        raise Failure(f"{path} {found}, not a key ID and a key", FORMATS_HINT, status=Exit.CREDENTIALS)
    return _make(lines[0], lines[1], source)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise Failure(
            f"{path} cannot be read: {error.strerror}", FORMATS_HINT, status=Exit.CREDENTIALS
        ) from None
    except UnicodeDecodeError:
        raise Failure(f"{path} is not UTF-8 text", FORMATS_HINT, status=Exit.CREDENTIALS) from None


def _is_content(line: str) -> bool:
    stripped = line.strip("\ufeff \t\r\n")
    return bool(stripped) and not stripped.startswith("#")


_ASSIGNMENT = re.compile(r"\s*\ufeff?(?:export\s+)?([A-Za-z][A-Za-z0-9_]*)[ \t]*=(.*)", re.DOTALL)
_TOML_ASSIGNMENT = re.compile(r"\s*\ufeff?(?:key_id|key)\s*=\s*[\"']")


def _looks_like_toml(lines: list[str]) -> bool:
    return any(_TOML_ASSIGNMENT.match(line) for line in lines)


def _parse_toml(path: Path, text: str) -> dict[str, str]:
    import tomllib  # late: few keep their key in TOML

    try:
        table = tomllib.loads(text.lstrip("\ufeff"))
    except tomllib.TOMLDecodeError as error:
        reason = str(error).split(" (at ")[-1].rstrip(")")  # the position; the text before may quote a value
        raise Failure(f"{path} is not TOML (at {reason})", FORMATS_HINT, status=Exit.CREDENTIALS) from None
    return {name: value for name, value in table.items() if isinstance(value, str)}


def _parse_assignments(lines: list[str]) -> dict[str, str]:
    """Read NAME=VALUE lines as a shell or systemd's EnvironmentFile= would; empty where a line is none."""
    matches = [_ASSIGNMENT.fullmatch(line) for line in lines]
    if not all(matches):
        return {}
    return {match[1]: _unquote(match[2]) for match in matches if match}


def _unquote(value: str) -> str:
    value = value.strip()
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value


# --- both halves ------------------------------------------------------------------------------------------


def _demand_both(found: Mapping[str, str], pair: tuple[str, str], where: str) -> None:
    for name, other in (pair, pair[::-1]):
        if name not in found:
            raise Failure(
                f"{where} has {other} but no {name}",
                f"set {name} too: the key ID and the application key belong together",
                status=Exit.CREDENTIALS,
            )


def _make(key_id: str, key: str, source: str) -> Credentials:
    try:
        return make_credentials(key_id, key, source)
    except CredentialsError as error:
        raise Failure(f"{error} ({source})", error.hint, status=Exit.CREDENTIALS) from None
