"""The first b2_authorize_account of a mount, sent while the rest of the program is still being imported.

A start is imports and this round trip (several, with TCP and TLS), and neither needs the other. What comes
back, a failure too, is told to whoever authorizes first, as if they had asked at that moment. Knows neither
trio, whose import is a third of a start, nor what the reply says; so a thread of its own carries it.
"""

import base64
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from b2mount import __version__
from b2mount.core.replies import CallFailed, Failure, Fault
from b2mount.store.counting import Counters
from b2mount.store.steady import steady_seconds
from b2mount.store.transport import Transport
from b2mount.store.wire import Limits, Wire

CALL = "b2_authorize_account"
PRODUCTION = "https://api.backblazeb2.com"


class KeyPair(Protocol):
    """Credentials, as core/credentials.py holds them."""

    @property
    def key_id(self) -> str: ...
    @property
    def key(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Told:
    """What came of asking, and when; moments in seconds since the epoch."""

    asked: float
    answered: float
    server_seconds: float | None  # by the server's clock, if it told
    outcome: dict[str, Any] | Exception


def realm_of(endpoint: str | None) -> str:
    """Return the base URL at which to authorize."""
    return (endpoint or PRODUCTION).rstrip("/")


def make_wire(environment: Mapping[str, str], ca_file: str | None) -> Wire:
    """Return the connections of one program."""
    return Wire(user_agent=f"b2mount/{__version__}", environment=environment, ca_file=ca_file)


def ask(transport: Transport, realm: str, credentials: KeyPair, clock: Callable[[], float]) -> Told:
    """Authorize once; blocks the thread. Backblaze docs, b2_authorize_account: HTTP's basic authorization."""
    secret = base64.b64encode(f"{credentials.key_id}:{credentials.key}".encode()).decode()
    asked = clock()
    outcome: dict[str, Any] | Exception
    try:
        outcome = transport.post_json_return_json(
            f"{realm}/b2api/v4/{CALL}", {"Authorization": f"Basic {secret}"}, {}
        )
    except Exception as exc:  # told to who asked
        outcome = exc
    return Told(asked, clock(), transport.server_seconds, outcome)


class EarlyAuthorization:
    """One authorize call under way from the moment this is made; its connection serves what comes later."""

    def __init__(
        self,
        credentials: KeyPair,
        *,
        endpoint: str | None = None,
        ca_file: str | None = None,
        io_timeout: float = 60.0,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.counters = Counters()
        self.wire = make_wire(environment, ca_file)
        self._credentials = credentials
        self._realm = realm_of(endpoint)
        self._seconds = io_timeout
        self._landed = threading.Event()
        self._told: Told | None = None
        # A daemon: a program that ends, for it was told to or cannot import, does not wait for B2.
        threading.Thread(target=self._run, name="authorize", daemon=True).start()

    def _run(self) -> None:
        limits = Limits(self._seconds, time.monotonic() + self._seconds)
        transport = Transport(
            self.wire, self.counters, CALL, limits, progress=lambda _count: None, check=lambda: None
        )
        self._told = ask(transport, self._realm, self._credentials, steady_seconds)
        self._landed.set()

    def wait(self, seconds: float) -> Told:
        """Return what came of it, within *seconds*; blocks the thread."""
        if self._landed.wait(seconds) and self._told is not None:
            return self._told
        now = steady_seconds()
        return Told(now, now, None, CallFailed(Failure(CALL, Fault.TIMEOUT, sent=False)))
