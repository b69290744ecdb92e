"""Profiles: what is said about one mount in /etc/b2mount/NAME.toml or ~/.config/b2mount/NAME.toml.

A profile may hold each option of `b2mount mount` by its name, the source, the mount point, and the key. It is
read strictly: what nobody knows, or what has the wrong type, is an error that names the line, and never shows
a key. What is on the command line comes before what a profile says.
"""

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from b2mount.cli import units
from b2mount.cli.mount_words import SECRETS, SWITCHES, VALUES, UnknownWord, parse_o, parse_path
from b2mount.cli.report import Exit, Failure

SYSTEM_PROFILES = Path("/etc/b2mount")
DEFAULT_PROFILE = "default"
SOURCE_PREFIX = "profile:"  # where a SOURCE is asked for; no bucket's name holds a colon
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*")
KEY_NAMES = ("key_id", "key")
OWN_NAMES = ("source", "mountpoint", *KEY_NAMES, "options")  # besides the options of a mount
SWITCH_NAMES = tuple(dict.fromkeys(name for name, (field, _) in SWITCHES.items() if name == field))
VALUE_NAMES = tuple(name for name in VALUES if name != "profile")
ALL_NAMES = (*OWN_NAMES, *VALUE_NAMES, *SWITCH_NAMES)
COUNTED = (units.parse_size, units.parse_duration, units.parse_count, units.parse_uid, units.parse_gid)
# For the rest a number would be a slip: 022 is not octal in TOML, and there is no file 5.
NUMBERS_TOO = frozenset(name for name, read in VALUES.items() if read in COUNTED)


@dataclass(frozen=True, slots=True)
class Profile:
    """What one file says. The secret is in `key` and `written`, which `repr` does not show."""

    path: Path
    source: str | None = None
    mountpoint: Path | None = None
    key_id: str | None = None
    key: str | None = field(default=None, repr=False)
    said: Mapping[str, Any] = field(default_factory=dict)  # as mount_words.parse_o gives it
    written: Mapping[str, Any] = field(default_factory=dict, repr=False)  # by name, as it stands in the file

    @property
    def credentials(self) -> Path | None:
        """The file that holds the key, where the profile names one."""
        path: Path | None = self.said.get("credentials")
        return path

    @property
    def has_key(self) -> bool:
        """Say whether the profile holds a key, or half of one."""
        return self.key_id is not None or self.key is not None


def profile_paths(environ: Mapping[str, str], home: Path, system: Path, name: str) -> tuple[Path, Path]:
    """Return where a profile may lie: the user's own before the machine's."""
    configured = environ.get("XDG_CONFIG_HOME", "")
    user = Path(configured) if configured.startswith("/") else home / ".config"
    return user / "b2mount" / f"{name}.toml", system / f"{name}.toml"


def find_profile(environ: Mapping[str, str], home: Path, system: Path, name: str) -> Path:
    """Return the file of a profile. Raises Failure where the name is none, or there is no such file."""
    if not NAME.fullmatch(name):
        raise Failure(
            f"{name!r} is not a profile's name", "use letters, digits and _ . @ -", status=Exit.USAGE
        )
    paths = profile_paths(environ, home, system, name)
    for path in paths:
        if exists(path):
            return path
    raise Failure(
        f"there is no profile {name!r}",
        f"write key_id and key to {paths[0]} or {paths[1]}",
        status=Exit.CREDENTIALS,
    )


def exists(path: Path) -> bool:
    """Say whether there is something at *path*; what may not be looked at is not there for this user."""
    try:
        return path.exists()
    except PermissionError:
        return False


def read_profile(path: Path) -> Profile:
    """Read a profile. Raises Failure (usage, or credentials where other users can read the key)."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}", status=Exit.CREDENTIALS) from None
    except UnicodeDecodeError:
        raise Failure(f"{path} is not UTF-8 text", status=Exit.USAGE) from None
    profile = parse_profile(path, text)
    _demand_privacy(profile, path.stat())
    return profile


def parse_profile(path: Path, text: str) -> Profile:
    """Read the text of a profile; *path* is for what is said about it. Raises Failure."""
    import tomllib  # late: most mounts have no profile

    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = str(error).split(" (at ")[-1].rstrip(")")  # the position; the text before may quote a value
        raise Failure(
            f"{path} is not TOML (at {where})", 'write NAME = "VALUE", one a line', status=Exit.USAGE
        ) from None
    return _Reader(path, text).read(table)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the values of one file, and says where in it something is wrong."""

    path: Path
    text: str

    def read(self, table: Mapping[str, Any]) -> Profile:
        said: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for written, value in table.items():
            name = written.replace("-", "_")
            if name not in ALL_NAMES:
                raise self._unknown(written, value)
            if name in said or name in own:
                raise self._wrong(written, "is said twice", "leave one of them out")
            if name in OWN_NAMES:
                own[name] = self._text(written, value)
            elif name in SWITCH_NAMES:
                said[name] = self._switch(written, value)
            else:
                said[name] = self._value(written, name, value)
        if "credentials" in said and any(name in own for name in KEY_NAMES):
            raise self._wrong("credentials", "names a file, but the key stands here too", "keep one of them")
        words = self._words(own.pop("options", ""))
        mountpoint = own.pop("mountpoint", None)
        return Profile(
            self.path,
            mountpoint=None if mountpoint is None else self._path("mountpoint", mountpoint),
            said={**words, **said},
            written={name.replace("-", "_"): value for name, value in table.items()},
            **own,
        )

    def _text(self, name: str, value: Any) -> str:
        if isinstance(value, str) and value:
            return value
        what = "is empty" if value == "" else f"is {_kind(value)}, not a text"
        raise self._wrong(name, what, f'write {name} = "..."')

    def _switch(self, name: str, value: Any) -> bool:
        if isinstance(value, bool):
            return value
        raise self._wrong(
            name, f"is {_kind(value)}, not true or false", f"write {name} = true, without quotes"
        )

    def _value(self, written: str, name: str, value: Any) -> Any:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number and name not in NUMBERS_TOO:
            raise self._wrong(written, "is a number, not a text", f'write {written} = "..."')
        text = str(value) if is_number else self._text(written, value)
        read: Callable[[str], Any] = VALUES[name]
        if read is parse_path:
            return self._path(written, text)
        try:
            return read(text)
        except ValueError as error:
            raise self._wrong(written, f": {error}", f"correct it in {self.path}") from None

    def _path(self, name: str, text: str) -> Path:
        if text.startswith(("/", "~/")):
            return Path(text).expanduser()
        raise self._wrong(
            name, "is not an absolute path", "a profile has no directory of its own: begin with / or ~/"
        )

    def _words(self, text: str) -> dict[str, Any]:
        try:
            return {name: value for name, value in parse_o(text).items() if name != "profile"}
        except UnknownWord as error:
            raise self._wrong("options", f": {error}", error.hint) from None
        except ValueError as error:
            raise self._wrong("options", f": {error}", f"correct it in {self.path}") from None

    def _unknown(self, name: str, value: Any) -> Failure:
        import difflib  # late: for mistakes alone

        near = difflib.get_close_matches(name.replace("-", "_"), ALL_NAMES, n=1)
        if name in SECRETS - set(KEY_NAMES):
            hint = "the key ID goes under key_id, the secret under key"
        elif isinstance(value, dict):
            hint = "a profile has no tables: write what is in it without this line"
        elif near:
            hint = f"did you mean {near[0]}?"
        else:
            hint = "b2mount config show lists all that can be said"
        return self._wrong(name, "is nothing that can be said in a profile", hint)

    def _wrong(self, name: str, what: str, hint: str) -> Failure:
        found = re.search(rf"^\s*\[?\[?[\"']?{re.escape(name)}[\"']?\s*[\]=.]", self.text, re.MULTILINE)
        line = "" if found is None else f" line {self.text.count(chr(10), 0, found.end()) + 1}"
        gap = "" if what.startswith(":") else " "
        return Failure(f"{self.path}{line}: {name}{gap}{what}", hint, status=Exit.USAGE)


def _kind(value: Any) -> str:
    """Name the type of a value of TOML."""
    if isinstance(value, bool):
        return "true or false"
    names = {str: "a text", int: "a number", float: "a number", list: "a list", dict: "a table"}
    return names.get(type(value), "a date or time")


def _demand_privacy(profile: Profile, facts: os.stat_result) -> None:
    """Refuse a profile that others can change, or that shows a key to everybody."""
    if facts.st_mode & stat.S_IWOTH:
        raise Failure(
            f"{profile.path} can be changed by every user, who could have anything mounted",
            f"chmod o-w {profile.path}",
            status=Exit.CREDENTIALS,
        )
    if profile.has_key and facts.st_mode & stat.S_IROTH:
        raise Failure(
            f"{profile.path} holds a key, and every user can read it",
            f"chmod 600 {profile.path}; if it was ever open to strangers, make another key",
            status=Exit.CREDENTIALS,
        )


def take_source(source: str | None, said: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Turn a SOURCE `profile:NAME` into what `--profile NAME` says. Raises Failure where both are said."""
    if source is None or not source.startswith(SOURCE_PREFIX):
        return source, dict(said)
    name = source.removeprefix(SOURCE_PREFIX)
    if said.get("profile", name) != name:
        raise Failure(
            f"two profiles were named: {name!r} and {said['profile']!r}", "name one", status=Exit.USAGE
        )
    return None, {**said, "profile": name}
