"""What a state directory belongs to, in words, so that people and `recover` know it without the mount.

Written beside the journal by each mount; nothing is decided by it. Holds no secrets.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

log = logging.getLogger("b2mount.journal")

NAME = "scope.json"


@dataclass(frozen=True, slots=True)
class Label:
    """The scope of a state directory, and the mount that used it last."""

    account_id: str
    source: str  # "BUCKET/PREFIX" as far as it is one bucket; "" where the key decides
    buckets: Mapping[str, str] = field(default_factory=dict, hash=False)  # names by ID, as far as known
    endpoint: str | None = None
    mountpoint: str = ""
    hard_delete: bool = False


def write_label(directory: Path, label: Label) -> None:
    """Keep *label* in a state directory; a disk that does not take it is no reason to stop."""
    text = json.dumps(asdict(label), indent=1) + "\n"
    path = directory / NAME
    try:
        if path.exists() and path.read_text() == text:
            return
        half = path.with_suffix(".new")
        half.write_text(text)
        half.replace(path)
    except OSError as exc:
        log.info("%s is not written: %s", path, exc.strerror)


def read_label(directory: Path) -> Label | None:
    """Read what a mount wrote; None where there is nothing, or nothing that makes sense."""
    try:
        return Label(**json.loads((directory / NAME).read_text()))
    except (OSError, ValueError, TypeError):
        return None
