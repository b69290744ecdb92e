"""The key of a running mount: how long it lives, whether B2 still takes it, and another in its place.

Warns ahead of the key's end; a new key is read from where the first was found, and taken only if it opens all
that the mount shows. What waits to be sent stays queued meanwhile, and goes on at once with a good key.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import trio

from b2mount.core.credentials import Credentials
from b2mount.core.errors import B2MountError, KeyRejected
from b2mount.core.expiry import Notice, next_notice, notice_at
from b2mount.core.grant import B2_NAMES, Grant
from b2mount.core.rekey import why_unfit
from b2mount.core.scope import Scope
from b2mount.core.words import show_count
from b2mount.journal.journal import Journal
from b2mount.mount_notify import notify_status
from b2mount.store.connect import MountStore

log = logging.getLogger("b2mount.key")

LONGEST_SLEEP = 600.0  # seconds; a laptop may sleep

FindCredentials = Callable[[], Credentials]


class KeyKeeper:
    """Owns what is known about the key's life."""

    def __init__(
        self,
        store: MountStore,
        scope: Scope,
        journal: Journal,
        find: FindCredentials | None,
        *,
        key_id: str,
    ) -> None:
        """Watch the key of *store*; *find* reads credentials anew from where they were found.

        *key_id* is what people are shown of the key.
        """
        self._store = store
        self._scope = scope
        self._journal = journal
        self._find = find
        self._key_id = key_id
        self._reloading = trio.Lock()
        self._changed = trio.Event()

    @property
    def grant(self) -> Grant:
        return self._store.grant

    async def watch(self) -> None:
        """Warn a week, a day and an hour before the key ends, and when it has; until cancelled."""
        told: Notice | None = None
        while True:
            moment = self._store.server_ms()
            notice = notice_at(self.grant.expires_ms, moment)
            if notice is not None and notice is not told:
                self._tell(notice)
            told = notice
            following = next_notice(self.grant.expires_ms, moment)
            self._changed = trio.Event()
            seconds = LONGEST_SLEEP if following is None else (following - moment) / 1000 + 0.01
            with trio.move_on_after(min(seconds, LONGEST_SLEEP)):
                await self._changed.wait()

    def _tell(self, notice: Notice) -> None:
        text = f"{notice.words} ({_moment(self.grant.expires_ms)}); b2mount reload takes a new one"
        waiting = len(self._journal.queue)
        if notice is Notice.OVER:
            text += (
                f"; unsent: {show_count(waiting, 'change')}, kept in {self._journal.directory}"
                if waiting
                else ""
            )
            log.error("%s", text)
        else:
            log.warning("%s", text)
        notify_status(text)

    def facts(self) -> dict[str, Any]:
        """Return what `b2mount status` tells about the key."""
        notice = notice_at(self.grant.expires_ms, self._store.server_ms())
        refusal = self._store.key_refusal
        words = str(refusal) if refusal is not None else notice.words if notice is not None else None
        ends = self.grant.expires_ms
        return {
            "id": self._key_id,
            "expires_ms": ends,
            "left_seconds": None if ends is None else max((ends - self._store.server_ms()) / 1000, 0.0),
            "refused": refusal is not None,
            "warning": words,
        }

    async def reload(self) -> dict[str, Any]:
        """Read the credentials anew and go on with them; return what changed.

        Raises B2MountError where they cannot be read, B2 refuses them, or they open less than the mount
        shows: the mount goes on with the old ones then.
        """
        if self._find is None:
            raise B2MountError("this mount does not know where its key came from\nmount it again")
        async with self._reloading:
            credentials = await trio.to_thread.run_sync(self._find)
            before = self.grant
            await self._store.replace_key(credentials, self._demand_fit)
            self._key_id = credentials.shown_id
            self._changed.set()
            self._resume()
        log.info("the mount goes on with key %s (%s)", credentials.shown_id, credentials.source)
        notify_status(f"mounted, with key {credentials.shown_id}")
        gained = self.grant.capabilities & ~before.capabilities
        return {
            "key_id": credentials.shown_id,
            "found_in": credentials.source,
            "expires_ms": self.grant.expires_ms,
            "gained": [B2_NAMES[one] for one in gained],
        }

    def _demand_fit(self, grant: Grant) -> None:
        unfit = why_unfit(self.grant, grant, self._scope)
        if unfit is not None:
            raise KeyRejected(f"the new key is not taken: {unfit}\nthe mount goes on with the old one")

    def _resume(self) -> None:
        """Send what waits for a better moment now."""
        for op in list(self._journal.queue.ops.values()):
            self._journal.uploader.hurry(op)


def _moment(when_ms: int | None) -> str:
    return "" if when_ms is None else f"{datetime.fromtimestamp(when_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
