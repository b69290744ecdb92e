"""Large files that B2 may have begun although its reply never came: told from those whose ID did come.

b2_start_large_file sent again makes a second unfinished file, and the first would stay for good. So after a
lost reply the unfinished files of the name are listed: one that is alike, begun since, and whose ID nobody
here was told is the lost one. Others of a mount have other names or other times, to the nanosecond.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from b2mount.core.grant import Capability
from b2mount.store.lookback import CLOCK_SLACK_MS, Expected, lowered
from b2mount.store.store import Store

KNOWN_KEPT = 10_000  # IDs; the oldest large files are done with long before


class Beginnings:
    """The large files begun in this life."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, None] = OrderedDict()
        self._under_way: list[str] = []

    @contextmanager
    def under_way(self, expected: Expected) -> Iterator[None]:
        """Take note that a file is being begun: of two alike at once none is taken, as none can be told."""
        self._under_way.append(expected.key)
        try:
            yield
        finally:
            self._under_way.remove(expected.key)

    def know(self, file_id: str) -> None:
        """Take note of an ID that was told."""
        self._known[file_id] = None
        if len(self._known) > KNOWN_KEPT:
            self._known.popitem(last=False)

    async def look(self, store: Store, expected: Expected) -> str | None:
        """Return the ID that a lost reply would have told; cancel what further lost replies left."""
        if not store.grant.has(Capability.LIST_FILES):
            return None
        rows = await store.list_unfinished(expected.bucket_id, expected.name)
        lost = [
            row.file_id
            for row in rows
            if row.name == expected.name
            and row.file_id not in self._known
            and row.uploaded_ms >= expected.since_ms - CLOCK_SLACK_MS
            and lowered(row.info) == lowered(expected.info)
        ]
        if not lost or self._under_way.count(expected.key) > 1:
            return None
        for file_id in lost:
            self.know(file_id)
        for file_id in lost[1:]:
            await store.cancel_large(file_id)
        return lost[0]
