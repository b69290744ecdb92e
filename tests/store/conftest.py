"""Stores on the emulator, closed when the test is over."""

from collections.abc import AsyncIterator, Callable
from typing import Unpack

import pytest

from b2mount.store.b2 import B2Store
from b2mount.store.backoff import Backoff
from b2mount.store.caller import CallerOptions
from b2mount.store.retry import RetryingStore
from tests.contract.worlds import Key
from tests.support.emulator import Emulator

FIRST_PAUSE = 0.02  # seconds; the rule itself is tested on a clock that jumps


class Shop:
    """Makes stores for keys; the default is the master key."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self._open: list[B2Store] = []

    def plain(self, key: tuple[str, str] | None = None, **options: Unpack[CallerOptions]) -> B2Store:
        """Return a store that tries once."""
        key_id, secret = key or (self.emulator.master_key_id, self.emulator.master_key)
        options.setdefault("endpoint", self.emulator.url)
        store = B2Store(Key(key_id, secret), **options)
        self._open.append(store)
        return store

    def retrying(
        self,
        key: tuple[str, str] | None = None,
        *,
        io_timeout: float = 120.0,
        **options: Unpack[CallerOptions],
    ) -> RetryingStore:
        """Return a store that tries again, after short pauses."""
        inner = self.plain(key, **options)
        return RetryingStore(
            inner,
            io_timeout=io_timeout,
            server_ms=inner.server_ms,
            backoff=lambda: Backoff(FIRST_PAUSE),
            counters=inner.counters,
        )

    async def aclose(self) -> None:
        for store in self._open:
            await store.aclose()


@pytest.fixture
async def shop(emulator: Emulator) -> AsyncIterator[Shop]:
    """Give a maker of stores."""
    shop = Shop(emulator)
    yield shop
    await shop.aclose()
    emulator.clear_faults()


@pytest.fixture
def calls_since(emulator: Emulator) -> Callable[[str], int]:
    """Give a counter of the requests of one call that reached the server in this test."""
    first = emulator.last_seq()

    def count(call: str) -> int:
        return sum(entry["call"] == call for entry in emulator.log(first))

    return count
