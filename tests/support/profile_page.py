"""The table of docs/operating.md of what a profile may say; run as a module, it renews it."""

import re
from pathlib import Path

from b2mount.cli.config import defaults_by_name
from b2mount.cli.mount import mount
from b2mount.cli.profiles import ALL_NAMES, NUMBERS_TOO, SWITCH_NAMES
from tests.support.semantics_page import renewed

PAGE = Path(__file__).parents[2] / "docs" / "operating.md"

OWN = {
    "source": "BUCKET[/PREFIX]; left out, the key decides.",
    "mountpoint": "The directory to mount on.",
    "key_id": "The key ID.",
    "key": "The application key.",
    "options": "More words, as after -o.",
    "nonempty": "Mount on a directory that holds something.",
}


def profile_table() -> str:
    """Return a row for each name: how its value is written, what holds without it, and what it does."""
    helps = {parameter.name: getattr(parameter, "help", None) or "" for parameter in mount.params} | OWN
    defaults = defaults_by_name()
    rows = ["| name | value | without it | |", "| --- | --- | --- | --- |"]
    for name in ALL_NAMES:
        kind = "true, false" if name in SWITCH_NAMES else "text, number" if name in NUMBERS_TOO else "text"
        text = re.sub(r"\s*\[[^\]]*\]$", "", helps[name]).replace("|", "\\|")
        default = f"`{defaults[name]}`" if name in defaults else ""
        rows.append(f"| `{name}` | {kind} | {default} | {text} |")
    return "\n".join(rows)


TABLES = {"profile": profile_table}

if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(), TABLES))
