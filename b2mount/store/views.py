"""List each look at a bucket its own way: the present as B2 does, past and history from the versions."""

from typing import Protocol

from cachetools import LRUCache

from b2mount.core.views import parse_bucket_id
from b2mount.store.history import History
from b2mount.store.past import Past
from b2mount.store.store import Page, Store

MOMENTS = 100  # of which directories known are remembered


class Lister(Protocol):
    """What lists names."""

    async def list_names(
        self,
        bucket_id: str,
        prefix: str,
        *,
        start: str | None = None,
        delimiter: str | None = None,
        limit: int = 1000,
    ) -> Page: ...


class Views:
    """All looks at the buckets of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._history = History(store)
        self._pasts: LRUCache[int, Past] = LRUCache(MOMENTS)

    async def list_names(
        self,
        bucket_id: str,
        prefix: str,
        *,
        start: str | None = None,
        delimiter: str | None = None,
        limit: int = 1000,
    ) -> Page:
        """List names in the look that *bucket_id* means."""
        view, real_id = parse_bucket_id(bucket_id)
        lister: Lister = self._store
        if view is not None:
            lister = self._history if view.at_ms is None else self._past(view.at_ms)
        return await lister.list_names(real_id, prefix, start=start, delimiter=delimiter, limit=limit)

    def _past(self, at_ms: int) -> Past:
        if at_ms not in self._pasts:
            self._pasts[at_ms] = Past(self._store, at_ms)
        return self._pasts[at_ms]
