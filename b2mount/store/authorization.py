"""The authorization in use: one renewal at a time however many wait for it, and ahead of its end.

Knows neither HTTP nor threads: it is given the call that authorizes. Used from the event loop alone.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from b2mount.core.errors import B2MountError, KeyExpired, KeyRejected, KeyRevoked
from b2mount.core.grant import Grant
from b2mount.core.replies import Reply, failure_behind

log = logging.getLogger("b2mount.store")

RENEW_SECONDS = 23 * 3600.0  # B2 honours a token for 24 hours at most (Backblaze docs, b2_authorize_account)
EARLY_RENEWAL_PAUSE_SECONDS = 60.0  # between two tries to renew a token that is still good
REMEMBER_REFUSAL_SECONDS = 30.0  # B2 limits the rate of authorize calls, and each costs a class C transaction
CLOCK_SLACK_MS = 2000  # B2's clock is known by HTTP dates, which are cut to the second


@dataclass(frozen=True, slots=True)
class Access:
    """What one authorization gave."""

    grant: Grant
    token: str = field(repr=False)
    api_url: str
    download_url: str
    got: float = field(default_factory=time.monotonic)


class _Flight:
    """One authorize call under way, and its outcome for all who wait."""

    def __init__(self) -> None:
        self.landed = trio.Event()
        self.access: Access | None = None
        self.error: B2MountError | None = None


class AccessKeeper:
    """Owns the current `Access`; renews it when asked, or when it is old."""

    def __init__(
        self,
        authorize: Callable[[], Awaitable[Access]],
        *,
        now_ms: Callable[[], int],
    ) -> None:
        self._authorize = authorize
        self._now_ms = now_ms
        self._access: Access | None = None
        self._flight: _Flight | None = None
        self._refusal: tuple[float, B2MountError] | None = None
        self._no_early_renewal_until = 0.0

    @property
    def latest(self) -> Access | None:
        """The authorization of last; None before the first."""
        return self._access

    @property
    def refusal(self) -> B2MountError | None:
        """Why B2 does not take the key any more, by the last time that it was asked; None where it does."""
        return self._refusal[1] if self._refusal is not None else None

    def adopt(self, access: Access) -> None:
        """Go on with the authorization of another key; one under way for the old key counts no more."""
        self._access = access
        self._refusal = None
        self._flight = None

    async def current(self) -> Access:
        """Return an authorization that should hold; asks for one where there is none or it is old."""
        access = self._access
        if access is None:
            return await self.renew(None)
        now = time.monotonic()
        if now - access.got < RENEW_SECONDS or now < self._no_early_renewal_until:
            return access
        self._no_early_renewal_until = now + EARLY_RENEWAL_PAUSE_SECONDS
        try:
            return await self.renew(access)
        except B2MountError as exc:
            log.warning("the authorization could not be renewed ahead of its end: %s", exc)
            return access

    async def renew(self, stale: Access | None, *, even_if_refused: bool = False) -> Access:
        """Return an authorization other than *stale*, asking B2 for one unless somebody else just has.

        A definite refusal is remembered for a while, so that a dead key does not ask B2 at every operation.
        """
        while True:
            if self._access is not None and self._access is not stale:
                return self._access
            if self._refusal is not None and not even_if_refused:
                since, error = self._refusal
                if time.monotonic() - since < REMEMBER_REFUSAL_SECONDS:
                    raise _again(error)
            flight = self._flight
            if flight is None:
                return await self._lead()
            await flight.landed.wait()
            if flight.error is not None:
                raise _again(flight.error)
            if flight.access is not None:
                return flight.access
            # the one who led was cancelled: another leads

    async def _lead(self) -> Access:
        """Authorize on behalf of all who ask meanwhile."""
        flight = self._flight = _Flight()
        try:
            access = await self._authorize()
        except B2MountError as exc:
            if self._flight is not flight and self._access is not None:  # the key was replaced meanwhile
                flight.access = self._access
                return self._access
            flight.error = self._explain(exc)
            if isinstance(flight.error, KeyExpired | KeyRevoked | KeyRejected):
                self._refusal = (time.monotonic(), flight.error)
            raise flight.error from exc.__cause__
        else:
            if self._flight is not flight and self._access is not None:
                access = self._access
            self._access = flight.access = access
            self._refusal = None
            return access
        finally:
            if self._flight is flight:
                self._flight = None
            flight.landed.set()

    def _explain(self, error: B2MountError) -> B2MountError:
        """Say of a refused key whether its time was over, or whether it worked before."""
        if not isinstance(error, KeyRejected) or self._access is None or _is_about_account(error):
            return error
        if self._access.grant.has_expired(self._now_ms() + CLOCK_SLACK_MS):
            return _like(error, KeyExpired, "the application key has expired")
        return _like(error, KeyRevoked, "the application key worked before, and was deleted or replaced")


def _is_about_account(error: B2MountError) -> bool:
    """Say whether B2 knew the key and serves the account no more: 403 (docs, b2_authorize_account)."""
    failure = failure_behind(error)
    return failure is not None and isinstance(failure.answer, Reply) and failure.answer.status == 403


def _like(error: B2MountError, kind: type[B2MountError], words: str) -> B2MountError:
    found = kind(f"{words} ({error})")
    found.__cause__ = error.__cause__
    return found


def _again(error: B2MountError) -> B2MountError:
    """Return a fresh copy: one exception object raised in several tasks would mix their tracebacks."""
    copy = type(error)(*error.args)
    if failure_behind(error) is not None:
        copy.__cause__ = error.__cause__
    return copy
