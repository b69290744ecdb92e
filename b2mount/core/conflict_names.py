"""Name the lost update stored beside the one that won: `report.conflict-20261122-083011-1a2b.txt`.

It tells when the version was made and, by four digits of its id's checksum, which: two hosts that find the
same conflict choose the same name. Sorted, it stands beside the file, and it keeps the extension, so that
what opens the one opens the other. Syncthing and Nextcloud name theirs alike.
"""

import hashlib
import posixpath
from datetime import UTC, datetime

from b2mount.core.names import MAX_COMPONENT_BYTES, MAX_NAME_BYTES

LONGEST_EXTENSION = 16  # bytes; what is longer is no extension that a program opens files by; a guess


def conflict_name(name: str, *, file_id: str, made_ms: int, limit: str = "") -> str | None:
    """Return a name for version *file_id* of *name*, made at *made_ms*; None where the key has room for none.

    *limit* is the key's prefix, which *name* begins with, and the name returned does, too.
    """
    cut = name.rfind("/") + 1
    directory, component = name[:cut], name[cut:]
    stem, extension = posixpath.splitext(component)
    if len(extension.encode()) > LONGEST_EXTENSION:
        stem, extension = component, ""
    when = datetime.fromtimestamp(made_ms / 1000, UTC)
    digest = hashlib.sha1(file_id.encode(), usedforsecurity=False).hexdigest()[:4]
    mark = f".conflict-{when:%Y%m%d-%H%M%S}-{digest}"
    for whole, tail in ((stem, mark + extension), (component, mark)):
        room = min(MAX_COMPONENT_BYTES, MAX_NAME_BYTES - len(directory.encode())) - len(tail.encode())
        kept = whole.encode()[: max(room, 0)].decode(errors="ignore")
        if room > 0 and kept and (directory + kept + tail).startswith(limit):
            return directory + kept + tail
    return None
