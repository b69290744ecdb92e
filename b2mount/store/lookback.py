"""Whether a change whose reply was lost happened after all, found out by looking, where the key may look.

B2 has no request ids: an upload or copy sent again makes a second version. Each function returns the result
that the lost reply would have told, or None where the change did not happen or cannot be seen; an error that
is not temporary means that it cannot be seen, too.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from b2mount.core.errors import B2MountError
from b2mount.core.grant import Capability
from b2mount.core.replies import Verdict, failure_behind
from b2mount.store.store import Action, BucketRow, FileVersion, Store

# HTTP dates, by which B2's clock is known, are cut to seconds; so are some of B2's upload times.
CLOCK_SLACK_MS = 2000
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Expected:
    """What the newest version of a name looks like if the lost change made it."""

    bucket_id: str
    name: str
    since_ms: int  # by B2's clock
    size: int | None
    sha1: str | None
    info: Mapping[str, str]

    @property
    def key(self) -> str:
        """A short name for "this content under this name", the same for each try of it."""
        parts = (self.bucket_id, self.name, str(self.size), str(self.sha1), repr(sorted(self.info.items())))
        text = "\0".join(parts).encode("utf-8", "surrogatepass")
        return hashlib.sha1(text, usedforsecurity=False).hexdigest()

    def is_met_by(self, version: FileVersion) -> bool:
        """Say whether *version* is what was sent, made since it was sent."""
        return (
            version.action is Action.UPLOAD
            and version.name == self.name
            and version.uploaded_ms >= self.since_ms - CLOCK_SLACK_MS
            and (self.size is None or version.size == self.size)
            and (self.sha1 is None or version.sha1 == self.sha1)
            and lowered(version.info) == lowered(self.info)
        )


async def find_version(store: Store, expected: Expected) -> FileVersion | None:
    """Return the newest version of the name if it is the expected one."""
    newest = await _newest(store, expected.bucket_id, expected.name)
    return newest if newest is not None and expected.is_met_by(newest) else None


async def find_finished(store: Store, file_id: str) -> FileVersion | None:
    """Return the file of a large file that is finished (Backblaze docs, b2_finish_large_file)."""
    version = await store.get_info(file_id)
    return version if version.action is Action.UPLOAD else None


async def find_bucket(store: Store, name: str) -> BucketRow | None:
    """Return the bucket of this name if it is the account's own."""
    found = await store.list_buckets(name=name)
    return next((bucket for bucket in found if bucket.name == name), None)


async def _newest(store: Store, bucket_id: str, name: str) -> FileVersion | None:
    grant = store.grant
    if grant.has(Capability.LIST_FILES):
        rows = (await store.list_names(bucket_id, name, start=name, limit=1)).rows
        return rows[0] if rows else None
    bucket_name = _bucket_name(store, bucket_id)
    if grant.has(Capability.READ_FILES) and bucket_name is not None:
        return await store.head(bucket_name, name)
    return None


def _bucket_name(store: Store, bucket_id: str) -> str | None:
    buckets = store.grant.buckets or ()
    return next((bucket.name for bucket in buckets if bucket.bucket_id == bucket_id), None)


def is_temporary(error: B2MountError) -> bool:
    """Say whether the same request may go well later."""
    failure = failure_behind(error)
    return failure is not None and failure.verdict in (Verdict.RETRY, Verdict.RETRY_NEW_URL)


async def seen(look: Callable[[], Awaitable[T | None]]) -> T | None:
    """Look; what the key may not see, or what is not there, is as good as nothing."""
    try:
        return await look()
    except B2MountError as error:
        if is_temporary(error):
            raise
        return None


def lowered(info: Mapping[str, str]) -> dict[str, str]:
    """Return the info as B2 keeps it: with names in lower case."""
    return {name.lower(): value for name, value in info.items()}
