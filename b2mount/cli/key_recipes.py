"""How a new key is used: the mount command, the fstab line and the systemd unit, as text to be copied."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

FILE_TEMPLATE = """\
# b2mount: key {name}
B2_APPLICATION_KEY_ID={key_id}
B2_APPLICATION_KEY={key}
"""

UNIT_TEMPLATE = """\
# /etc/systemd/system/{unit}
[Unit]
Description=Backblaze B2: {what} on {mountpoint}
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
ExecStart=b2mount mount --allow-other --credentials {file}{source} {mountpoint}
ExecReload=kill -HUP $MAINPID
StateDirectory=b2mount
CacheDirectory=b2mount
TimeoutStopSec=15min
WatchdogSec=5min
Restart=on-failure
RestartPreventExitStatus=2 3

[Install]
WantedBy=multi-user.target
"""


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
        """The name of the unit."""
        return f"b2mount-{self.name}.service"

    @property
    def unit(self) -> str:
        """The text of the unit."""
        endpoint = f" --endpoint {_unit_word(self.endpoint)}" if self.endpoint else ""
        return UNIT_TEMPLATE.format(
            unit=self.unit_name,
            what=(self.source or "all that the key opens").replace("%", "%%"),
            file=_unit_word(str(self.file)) + endpoint,
            source=f" {_unit_word(self.source)}" if self.source else "",
            mountpoint=_unit_word(str(self.mountpoint)),
        )


def key_file(name: str, key_id: str, key: str) -> str:
    """Write the file that --credentials reads; a shell and systemd's EnvironmentFile= read it too."""
    return FILE_TEMPLATE.format(name=name, key_id=key_id, key=key)


def _option(text: str) -> str:
    """Write a value of -o: a comma in it is written `\\,`."""
    return text.replace(",", "\\,")


def _field(text: str) -> str:
    """Write a field of fstab: fstab(5) has octal escapes for white space, and for the backslash."""
    return re.sub(r"[\\ \t\n#]", lambda found: f"\\{ord(found[0]):03o}", text)


def _unit_word(text: str) -> str:
    """Write one word of ExecStart=: systemd.service(5) has quotes as in C, and % and $ doubled."""
    text = text.replace("%", "%%").replace("$", "$$")
    if re.fullmatch(r"[\w@%+=:,./$-]+", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
