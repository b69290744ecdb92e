"""Open the store that a mount uses: B2 behind retries.

b2sdk is imported here and not before, since that takes a fifth of a second which a mount need not wait for.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from b2mount.core.errors import B2MountError
from b2mount.core.grant import Grant
from b2mount.store.early import EarlyAuthorization, KeyPair
from b2mount.store.retry import RetryingStore

if TYPE_CHECKING:
    from b2mount.store.b2 import B2Store
    from b2mount.store.keys import Keys


class MountStore(RetryingStore):
    """B2 behind retries, and the key, which may be replaced while it is in use."""

    def __init__(self, b2: "B2Store", *, io_timeout: float) -> None:
        super().__init__(b2, io_timeout=io_timeout, server_ms=b2.server_ms, counters=b2.counters)
        self._b2 = b2

    @property
    def keys(self) -> "Keys":
        """The application keys of the account, for a key that may manage them."""
        from b2mount.store.keys import Keys  # late: no mount needs it

        return Keys(self._b2.caller)

    def server_ms(self) -> int:
        """Return B2's time in milliseconds since the epoch, as far as known."""
        return self._b2.server_ms()

    @property
    def skew_seconds(self) -> float:
        """B2's clock minus this machine's, as of the last authorization; 0 where they agree."""
        return self._b2.caller.skew_seconds

    @property
    def key_refusal(self) -> B2MountError | None:
        """Why B2 does not take the key any more, as far as known; None where it does."""
        return self._b2.caller.key_refusal

    async def prepare_upload(self, bucket_id: str) -> None:
        """Get an upload URL of a bucket, which the first upload will use. Raises NoSuchFile for no bucket."""
        await self._persist("get_upload_url", lambda: self._b2.caller.prepare_upload(bucket_id))

    def break_off(self) -> None:
        """End the requests under way at once, so that a program can end although the network hangs."""
        self._b2.caller.break_off()

    async def replace_key(self, credentials: KeyPair, check: Callable[[Grant], None]) -> Grant:
        """Authorize with another key and go on with it, unless *check* raises for what it opens.

        Raises what `authorize` does; the old key stays in use then.
        """
        return await self._persist("authorize", lambda: self._b2.caller.replace_key(credentials, check))


def open_store(
    credentials: KeyPair,
    *,
    endpoint: str | None = None,
    ca_file: Path | None = None,
    io_timeout: float = 60.0,
    uploads: int = 64,
    downloads: int = 40,
    early: EarlyAuthorization | None = None,
) -> MountStore:
    """Return a store for *credentials*; nothing is sent before its first call. Needs a running trio loop.

    *early* is that first call where it is on its way already, made of the same key, endpoint and authorities.
    """
    from b2mount.store.b2 import B2Store

    inner = B2Store(
        credentials,
        endpoint=endpoint,
        ca_file=None if ca_file is None else str(ca_file),
        uploads=uploads,
        downloads=downloads,
        early=early,
    )
    return MountStore(inner, io_timeout=io_timeout)
