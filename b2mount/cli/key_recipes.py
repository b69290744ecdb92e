"""How a new key is used: the mount command, the fstab line and the service's profile, to be copied."""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

FILE_TEMPLATE = """\
# b2mount: key {name}
B2_APPLICATION_KEY_ID={key_id}
B2_APPLICATION_KEY={key}
"""

SERVICE_DIRECTORY = Path("/etc/b2mount")  # where b2mount@.service looks for profiles and keys


@dataclass(frozen=True, slots=True)
class Recipes:
    """One key's use on one machine."""

    name: str
    source: str | None  # BUCKET[/PREFIX]; None: the key decides
    file: Path  # where the key lies
    mountpoint: Path
    endpoint: str | None = None

    @property
    def mount_command(self) -> str:
        """The command that mounts by hand."""
        words = ["b2mount", "mount", "--credentials", str(self.file)]
        words += ["--endpoint", self.endpoint] if self.endpoint else []
        words += [self.source] if self.source else []
        return shlex.join([*words, str(self.mountpoint)])

    @property
    def fstab_line(self) -> str:
        """The line of /etc/fstab."""
        words = [f"credentials={_option(str(self.file))}"]
        words += [f"endpoint={_option(self.endpoint)}"] if self.endpoint else []
        fields = [
            _field(self.source or "none"),
            _field(str(self.mountpoint)),
            "b2mount",
            _field(",".join(["_netdev", "nofail", "allow_other", *words])),
            "0",
            "0",
        ]
        return " ".join(fields)

    @property
    def unit_name(self) -> str:
        """The name of the service; systemd/b2mount@.service is its template."""
        return f"b2mount@{self.name}.service"

    @property
    def profile_file(self) -> Path:
        """Where the service looks for its profile."""
        return SERVICE_DIRECTORY / f"{self.name}.toml"

    @property
    def profile(self) -> str:
        """The text of the profile; the key is not in it, for systemd hands it to the service."""
        lines = [f"source = {_toml(self.source)}"] if self.source else []
        lines += [f"mountpoint = {_toml(str(self.mountpoint))}"]
        lines += [f"endpoint = {_toml(self.endpoint)}"] if self.endpoint else []
        return "\n".join([*lines, "allow_other = true", ""])

    @property
    def service_commands(self) -> list[str]:
        """What else is to be done for the service, as root."""
        key = SERVICE_DIRECTORY / f"{self.name}.key"
        place = shlex.quote(str(self.mountpoint))
        moved = [] if self.file == key else [f"install -m 600 {shlex.quote(str(self.file))} {key}"]
        return [
            *moved,
            f"install -d -o b2mount -g b2mount {place}",
            f"systemctl enable --now {self.unit_name}",
        ]


def key_file(name: str, key_id: str, key: str) -> str:
    """Write the file that --credentials reads; a shell and systemd's EnvironmentFile= read it too."""
    return FILE_TEMPLATE.format(name=name, key_id=key_id, key=key)


def _option(text: str) -> str:
    """Write a value of -o: a comma in it is written `\\,`."""
    return text.replace(",", "\\,")


def _field(text: str) -> str:
    """Write a field of fstab: fstab(5) has octal escapes for white space, and for the backslash."""
    return re.sub(r"[\\ \t\n#]", lambda found: f"\\{ord(found[0]):03o}", text)


def _toml(text: str) -> str:
    """Write a basic string of TOML, whose escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
