"""Open the store that a mount uses: B2 behind retries.

b2sdk is imported here and not before, since that takes a fifth of a second which a mount need not wait for.
"""

from pathlib import Path

from b2mount.store.caller import KeyPair
from b2mount.store.keys import Keys
from b2mount.store.retry import RetryingStore


def open_store(
    credentials: KeyPair,
    *,
    endpoint: str | None = None,
    ca_file: Path | None = None,
    io_timeout: float = 60.0,
    uploads: int = 16,
    downloads: int = 16,
) -> RetryingStore:
    """Return a store for *credentials*; nothing is sent before its first call. Needs a running trio loop."""
    from b2mount.store.b2 import B2Store

    inner = B2Store(
        credentials,
        endpoint=endpoint,
        ca_file=None if ca_file is None else str(ca_file),
        uploads=uploads,
        downloads=downloads,
    )
    return RetryingStore(inner, io_timeout=io_timeout, server_ms=inner.server_ms, counters=inner.counters)


def open_keys(credentials: KeyPair, *, endpoint: str | None = None, ca_file: Path | None = None) -> Keys:
    """Return the way to the account's application keys; close it after use. Needs a running trio loop."""
    from b2mount.store.b2 import B2Store

    return B2Store(credentials, endpoint=endpoint, ca_file=None if ca_file is None else str(ca_file)).keys
