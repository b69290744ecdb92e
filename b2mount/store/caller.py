"""How one call to B2 is made: with the account's token, in a thread, within its time, its failure explained.

Knows nothing of what the calls mean, nor b2sdk: it is given the maker of b2sdk's raw API. Each request is
sent once, or twice where B2 asks for a new authorization; other retries are retry.py's matter.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, TypedDict, TypeVar

import trio

from b2mount.core.errors import B2MountError, InvalidArgument, LocalStorageError, RefusedByB2
from b2mount.core.grant import Capability, Grant, parse_authorize_reply
from b2mount.core.replies import CallFailed, Failure, Fault, Reply, Verdict, failure_behind
from b2mount.store.authorization import Access, AccessKeeper
from b2mount.store.counting import Counters
from b2mount.store.deadline import bytes_copied, seconds_left
from b2mount.store.early import CALL as AUTHORIZE
from b2mount.store.early import EarlyAuthorization, KeyPair, Told, ask, make_wire, realm_of
from b2mount.store.steady import steady_seconds
from b2mount.store.store import Progress
from b2mount.store.threads import check_cancelled, run_in_thread
from b2mount.store.transport import Transport
from b2mount.store.upload_urls import UploadUrl, UploadUrls, leaves_url_good
from b2mount.store.wire import BadHeader, Limits

log = logging.getLogger("b2mount.store")

COPY_SECONDS = 1200.0  # b2sdk's limit for a copy inside B2, which may take minutes for 5 GB
COPY_BYTES_A_SECOND = 4_000_000  # so those of 5 GB, the largest, have all of that
SKEW_SECONDS = 600.0  # b2sdk's limit for a clock that is wrong
DATE_SLACK = 1.0  # seconds; many servers look at the clock once a second for the Date that they write
DOUBT_PAUSE_SECONDS = 60.0  # a guess; each look costs a class C call, and B2 limits their rate
PARTS_AT_ONCE = 32  # of large files: so many fill any line, and leave threads to small files; a guess
T = TypeVar("T")


def _unheeded(_: int) -> None:
    return None


class CallerOptions(TypedDict, total=False):
    """What may be chosen about a `Caller`."""

    endpoint: str | None  # the base URL that b2_authorize_account is asked at; None: production
    ca_file: str | None  # certificate authorities besides the known ones
    uploads: int  # threads
    downloads: int
    calls: int
    counters: Counters | None
    environment: Mapping[str, str]  # for proxies and authorities
    clock: Callable[[], float]  # seconds since the epoch
    copy_seconds: float  # how long a copy inside B2 may take
    early: EarlyAuthorization | None  # of the same key, and with what else was chosen here


class Caller:
    """Owns the authorization, the connections, the upload URLs and the threads of one key."""

    def __init__(
        self,
        raw_api: Callable[[Transport], Any],
        credentials: KeyPair,
        *,
        endpoint: str | None = None,
        ca_file: str | None = None,
        uploads: int = 64,
        downloads: int = 16,
        calls: int = 32,
        counters: Counters | None = None,
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = steady_seconds,
        copy_seconds: float = COPY_SECONDS,
        early: EarlyAuthorization | None = None,
    ) -> None:
        self._raw_api = raw_api
        self._credentials = credentials
        self._realm = realm_of(endpoint)
        self._clock = clock
        self._copy_seconds = copy_seconds
        self._early = early
        self.counters = early.counters if early is not None else counters or Counters()
        self._wire = early.wire if early is not None else make_wire(environment, ca_file)
        self._keeper = AccessKeeper(self._authorize_once, now_ms=self.server_ms)
        self.urls = UploadUrls()
        self._slots = {
            "b2_upload_file": trio.CapacityLimiter(uploads),
            "b2_upload_part": trio.CapacityLimiter(min(uploads, PARTS_AT_ONCE)),
        }
        self._upload_limit = trio.CapacityLimiter(uploads)
        self.download_limit = trio.CapacityLimiter(downloads)
        self._call_limit = trio.CapacityLimiter(calls)
        self._no_doubt_until = 0.0
        self.skew_seconds = 0.0  # B2's clock minus ours, as of the last authorization

    def server_ms(self) -> int:
        """Return B2's time in milliseconds since the epoch, as far as known."""
        return int((self._clock() + self.skew_seconds) * 1000)

    # --- authorization ----------------------------------------------------------------------------------

    @property
    def grant(self) -> Grant:
        """What the key opens. Raises RuntimeError before the first authorization."""
        access = self._keeper.latest
        if access is None:
            raise RuntimeError("the store is not authorized yet")
        return access.grant

    async def authorize(self) -> Grant:
        """Authorize (again), also where B2 refused the key a moment ago."""
        return (await self._keeper.renew(self._keeper.latest, even_if_refused=True)).grant

    @property
    def key_refusal(self) -> B2MountError | None:
        """Why B2 does not take the key any more, as far as known; None where it does."""
        return self._keeper.refusal

    async def replace_key(self, credentials: KeyPair, check: Callable[[Grant], None]) -> Grant:
        """Authorize with another key and go on with it, unless *check* raises for what it opens.

        Raises what `authorize` does; the old key stays in use then.
        """
        access = await self._authorize_with(credentials)
        check(access.grant)
        self._credentials = credentials
        self._keeper.adopt(access)
        self.urls.forget_all()
        return access.grant

    async def _authorize_once(self) -> Access:
        early, self._early = self._early, None
        return await self._authorize_with(self._credentials, early)

    async def _authorize_with(self, credentials: KeyPair, early: EarlyAuthorization | None = None) -> Access:
        def work(_: Any, transport: Transport) -> Access:
            if early is not None:
                told = early.wait(seconds_left())
            else:
                told = ask(transport, self._realm, credentials, self._clock)
            self._note_skew(told)
            if isinstance(told.outcome, Exception):
                raise told.outcome
            reply = told.outcome
            try:
                storage = reply["apiInfo"]["storageApi"]
                return Access(
                    grant=parse_authorize_reply(reply),
                    token=str(reply["authorizationToken"]),
                    api_url=str(storage["apiUrl"]),
                    download_url=str(storage["downloadUrl"]),
                )
            except (KeyError, TypeError, ValueError) as exc:
                raise RefusedByB2(f"{self._realm} does not answer as B2 does: {exc}") from None

        try:
            return await self.thread(AUTHORIZE, "", work, abandon=True)
        except B2MountError as exc:
            if abs(self.skew_seconds) <= SKEW_SECONDS:
                raise
            minutes = f"{-self.skew_seconds / 60:+.0f} minutes"
            raise type(exc)(f"{exc}; this machine's clock is off by {minutes}") from exc.__cause__

    def _note_skew(self, told: Told) -> None:
        """Take the skew from a reply: its Date, cut to the second, lies between request and answer."""
        if told.server_seconds is None:
            return
        least, most = told.server_seconds - told.answered, told.server_seconds + 1 - told.asked
        is_right = least - DATE_SLACK <= 0 <= most + DATE_SLACK
        before, self.skew_seconds = self.skew_seconds, 0.0 if is_right else (least + most) / 2
        if abs(before) <= SKEW_SECONDS < abs(self.skew_seconds):
            log.warning("this machine's clock is %+.0f minutes off B2's", -self.skew_seconds / 60)

    # --- how a call is made -----------------------------------------------------------------------------

    async def thread(
        self,
        call: str,
        target: str,
        work: Callable[[Any, Transport], T],
        *,
        abandon: bool,
        limiter: trio.CapacityLimiter | None = None,
        limits: Callable[[], Limits] | None = None,
        progress: Progress = _unheeded,
    ) -> T:
        """Run *work* with b2sdk's raw API in a thread; turn what goes wrong into our errors."""

        def run() -> T:
            transport = Transport(
                self._wire,
                self.counters,
                call,
                (limits or self.whole_limits)(),
                progress=progress,
                check=check_cancelled,
            )
            try:
                return work(self._raw_api(transport), transport)
            except CallFailed as exc:
                raise exc.failure.error(target) from exc
            except BadHeader as exc:
                raise InvalidArgument(f"{target}: {exc}") from None

        return await run_in_thread(run, abandon_on_cancel=abandon, limiter=limiter or self._call_limit)

    async def call(
        self,
        call: str,
        target: str,
        work: Callable[[Any, Access, Transport], T],
        *,
        abandon: bool = False,
        limiter: trio.CapacityLimiter | None = None,
        limits: Callable[[], Limits] | None = None,
    ) -> T:
        """Make a call with the account's token; once more with a new one where B2 no longer takes it."""
        access = await self._keeper.current()
        for is_last in (False, True):
            current = access

            def with_access(raw: Any, transport: Transport, current: Access = current) -> T:
                return work(raw, current, transport)

            try:
                return await self.thread(
                    call, target, with_access, abandon=abandon, limiter=limiter, limits=limits
                )
            except B2MountError as exc:
                failure = failure_behind(exc)
                if is_last or failure is None:
                    raise
                if failure.verdict is not Verdict.REAUTHORIZE and not self._casts_doubt(failure):
                    raise
                if code_behind(exc) is None and not access.grant.has(Capability.READ_FILES):
                    raise  # the answer to HEAD tells no reason, and this one is plain
            access = await self._keeper.renew(access)
        raise AssertionError("unreachable")

    def _casts_doubt(self, failure: Failure) -> bool:
        """Say whether an answer is reason to ask B2 if it still takes the key.

        401 "unauthorized" is for what a key may not do, which is not sent on purpose; B2 may well say it of a
        key that was deleted, too. Asked once a minute at most, until the key is known to be dead.
        """
        answer = failure.answer
        if not isinstance(answer, Reply) or (answer.status, answer.code) != (401, "unauthorized"):
            return False
        now = time.monotonic()
        if self._keeper.refusal is None and now < self._no_doubt_until:
            return False
        self._no_doubt_until = now + DOUBT_PAUSE_SECONDS
        return True

    def whole_limits(self) -> Limits:
        left = seconds_left()
        return Limits(left, time.monotonic() + left)

    def copy_limits(self) -> Limits:
        """Return the limits of a call that B2 may be long at work on, by what it copies if that is known."""
        size = bytes_copied()
        work = self._copy_seconds if size is None else min(self._copy_seconds, size / COPY_BYTES_A_SECOND)
        left = seconds_left() + work
        return Limits(left, time.monotonic() + left)

    def download_limits(self) -> Limits:
        left = seconds_left()  # half of it for one silence, so that there is time for a second try
        return Limits(max(left / 2, min(left, 5.0)), time.monotonic() + left)

    def _upload_limits(self) -> Limits:
        return Limits(seconds_left())

    # --- uploads ----------------------------------------------------------------------------------------

    async def upload(
        self,
        call: str,
        owner: str,
        target: str,
        work: Callable[[Any, UploadUrl, Transport], T],
        progress: Progress | None,
    ) -> T:
        """Upload through a URL of *owner*'s pile, which gets it back unless the upload says it is spent."""
        async with self._slots[call]:  # before a URL is taken, so that there are no more URLs than threads
            url = self.urls.take(owner) or await self._new_url(call, owner, target)
            return await self._upload_to(url, call, owner, target, work, progress)

    async def prepare_upload(self, bucket_id: str) -> None:
        """Put one more URL on the pile of a bucket."""
        self.urls.put_back(bucket_id, await self._new_url("b2_upload_file", bucket_id, bucket_id))

    async def _upload_to(
        self,
        url: UploadUrl,
        call: str,
        owner: str,
        target: str,
        work: Callable[[Any, UploadUrl, Transport], T],
        progress: Progress | None,
    ) -> T:
        keep = False

        def with_url(raw: Any, transport: Transport) -> T:
            try:
                return work(raw, url, transport)
            except (OSError, EOFError) as exc:  # from the body: those of sockets never get here
                raise LocalStorageError(f"{target}: cannot read what is to be sent: {exc}") from None

        try:
            result = await self.thread(
                call,
                target,
                with_url,
                abandon=False,
                limiter=self._upload_limit,
                limits=self._upload_limits,
                progress=progress or _unheeded,
            )
            keep = True
            return result
        except B2MountError as exc:
            failure = failure_behind(exc)
            keep = failure is not None and leaves_url_good(failure)
            raise
        finally:
            if keep:
                self.urls.put_back(owner, url)

    async def _new_url(self, call: str, owner: str, target: str) -> UploadUrl:
        def work(raw: Any, access: Access, transport: Transport) -> UploadUrl:
            get = raw.get_upload_url if call == "b2_upload_file" else raw.get_upload_part_url
            reply = get(access.api_url, access.token, owner)
            try:
                return UploadUrl(str(reply["uploadUrl"]), str(reply["authorizationToken"]))
            except KeyError as exc:
                raise transport.failed(Fault.ODD_REPLY, f"no {exc}") from None

        name = "b2_get_upload_url" if call == "b2_upload_file" else "b2_get_upload_part_url"
        return await self.call(name, target, work)

    async def current(self) -> Access:
        """Return an authorization that should hold."""
        return await self._keeper.current()

    def break_off(self) -> None:
        """End the requests under way at once: what they were to do may have happened or not."""
        self._wire.break_off()

    def close(self) -> None:
        """Close the connections; threads end with their requests."""
        self._wire.close()


def code_behind(error: B2MountError) -> str | None:
    """Return B2's error code behind one of our errors; None where there was none."""
    failure = failure_behind(error)
    answer = failure.answer if failure is not None else None
    return answer.code if isinstance(answer, Reply) else None
