"""The rules that a test may move while the server runs, with the values the service has. A restart keeps
them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from b2mount.emulator.database import Database
from b2mount.emulator.errors import bad_request


@dataclass(slots=True)
class Settings:
    """Limits and terms; sizes in bytes. Sources: Backblaze docs, "Files", "Large Files",
    b2_authorize_account.
    """

    token_seconds: int = 86_400
    upload_url_seconds: int = 86_400
    min_part_size: int = 5_000_000
    recommended_part_size: int = 100_000_000
    max_part_size: int = 5_000_000_000  # also the most one upload or one copy may hold
    max_file_size: int = 10_000_000_000_000
    max_segment_bytes: int = 250  # the first published rule; the current page no longer names it
    allow_backslash: bool = False
    custom_timestamps: bool = False  # has to be enabled for an account by Backblaze

    def change(self, values: dict[str, Any]) -> None:
        """Take new values by name; refuse unknown names and wrong types, then changing nothing."""
        kinds = {field.name: type(getattr(self, field.name)) for field in fields(self)}
        for name, value in values.items():
            if name not in kinds:
                raise bad_request(f"unknown setting: {name}")
            if type(value) is not kinds[name] or (kinds[name] is int and value < 0):
                raise bad_request(f"setting {name} takes {kinds[name].__name__}")
        for name, value in values.items():
            setattr(self, name, value)

    def as_dict(self) -> dict[str, Any]:
        """Give all values by name."""
        return asdict(self)

    def save(self, database: Database) -> None:
        """Keep the values for the next start."""
        database.remember("settings", json.dumps(self.as_dict()))


def load_settings(database: Database) -> Settings:
    """Read what was kept; names that no longer exist are dropped."""
    settings = Settings()
    kept = json.loads(database.meta("settings") or "{}")
    known = {field.name for field in fields(settings)}
    settings.change({name: value for name, value in kept.items() if name in known})
    return settings
