"""Application keys: made, listed and deleted, with a key that may.

Not behind retries: a key made again, because the first reply was lost, would leave one that nobody holds and
that still opens the bucket. Whoever asks sees the error and can look.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from b2mount.core.grant import B2_NAMES, Capability, parse_capabilities
from b2mount.core.replies import Fault
from b2mount.store.authorization import Access
from b2mount.store.caller import Caller
from b2mount.store.transport import Transport

PAGE = 1000  # keys; a list call is one class C transaction, whatever it returns


@dataclass(frozen=True, slots=True)
class KeyRow:
    """What B2 tells of a key; its secret it tells once, to who made it."""

    key_id: str
    name: str
    capabilities: Capability
    unknown_capabilities: frozenset[str]
    bucket_ids: tuple[str, ...] | None  # None: every bucket of the account
    prefix: str
    expires_ms: int | None  # milliseconds since the epoch; None: never


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made."""

    row: KeyRow
    secret: str = field(repr=False)


class Keys:
    """The application keys of an account."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def create(
        self,
        name: str,
        capabilities: Capability,
        *,
        bucket_ids: Sequence[str] | None = None,
        prefix: str = "",
        seconds: int | None = None,
    ) -> NewKey:
        """Make a key; *seconds* is its life, for ever where None. Raises AccessDenied without writeKeys."""
        rights = [B2_NAMES[capability] for capability in Capability if capability in capabilities]
        buckets = None if bucket_ids is None else list(bucket_ids)

        def work(raw: Any, access: Access, transport: Transport) -> NewKey:
            reply = raw.create_key(
                access.api_url,
                access.token,
                access.grant.account_id,
                rights,
                name,
                seconds,
                buckets,
                prefix or None,
            )
            secret = reply.get("applicationKey")
            if not isinstance(secret, str):
                raise transport.failed(Fault.ODD_REPLY, "no key in it")
            return NewKey(_row(reply), secret)

        return await self._caller.call("b2_create_key", name, work)

    async def list(self) -> list[KeyRow]:
        """List all keys that have not expired. Raises AccessDenied without listKeys."""
        found: list[KeyRow] = []
        start: str | None = None
        while True:
            reply = await self._page(start)
            found += [_row(row) for row in reply.get("keys") or ()]
            start = reply.get("nextApplicationKeyId")
            if start is None:
                return found

    async def _page(self, start: str | None) -> Mapping[str, Any]:
        def work(raw: Any, access: Access, _: Transport) -> Mapping[str, Any]:
            account = access.grant.account_id
            reply: Mapping[str, Any] = raw.list_keys(access.api_url, access.token, account, PAGE, start)
            return reply

        return await self._caller.call("b2_list_keys", "", work, abandon=True)

    async def delete(self, key_id: str) -> None:
        """Delete a key. Raises AccessDenied without deleteKeys."""

        def work(raw: Any, access: Access, _: Transport) -> None:
            raw.delete_key(access.api_url, access.token, key_id)

        await self._caller.call("b2_delete_key", key_id, work)


def _row(row: Mapping[str, Any]) -> KeyRow:
    known, unknown = parse_capabilities(list(row.get("capabilities") or ()))
    buckets = row.get("bucketIds")
    return KeyRow(
        key_id=str(row.get("applicationKeyId")),
        name=str(row.get("keyName") or ""),
        capabilities=known,
        unknown_capabilities=unknown,
        bucket_ids=None if buckets is None else tuple(buckets),
        prefix=row.get("namePrefix") or "",
        expires_ms=row.get("expirationTimestamp"),
    )
