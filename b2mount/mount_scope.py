"""Find what the root of a mount shows, the IDs of its buckets included, which no key is told in every case.

A key limited to buckets names them in its authorization, one with listBuckets may ask. A key for all buckets
without it is told neither: then a person names the bucket, and says its ID where listing or writing needs it
(downloads go by names and file IDs alone; Backblaze docs, b2_download_file_by_name).
"""

import logging
from dataclasses import replace

from b2mount.core.errors import B2MountError, NoSuchFile
from b2mount.core.grant import Capability, Grant
from b2mount.core.options import MountOptions
from b2mount.core.scope import (
    RootBucket,
    Scope,
    ScopeError,
    Source,
    needs_bucket_id,
    parse_source,
    resolve_scope,
    unknown_bucket_id,
)
from b2mount.store.connect import MountStore
from b2mount.store.store import BucketRow, Store

log = logging.getLogger("b2mount.mount")


async def find_scope(
    store: Store,
    grant: Grant,
    source: Source | None,
    *,
    bucket_id: str | None = None,
    read_only: bool = False,
    told: list[BucketRow] | None = None,
) -> Scope:
    """Say what the root of the mount shows; *bucket_id* is what a person said of SOURCE's bucket.

    What B2 tells of buckets on the way is added to *told*. The bucket's ID stays None where the key cannot
    learn it and need not. Raises ScopeError.
    """
    scope = resolve_scope(grant, source)
    if scope.single is None:
        if bucket_id is not None:
            raise ScopeError("--bucket-id was said, but no bucket", "name the bucket too, as SOURCE")
        return scope
    known = scope.single.bucket_id or await _ask_for_id(store, grant, scope.single, told)
    if known is not None:
        if bucket_id not in (None, known):
            raise ScopeError(
                f"bucket {scope.single.name!r} has the ID {known}, not {bucket_id}",
                "leave --bucket-id out: this key finds it out by itself",
            )
    elif bucket_id is not None:
        await _demand_bucket(store, grant, scope, bucket_id)
        known = bucket_id
    elif needs_bucket_id(grant, read_only=read_only):
        raise unknown_bucket_id(scope.single.name)
    return replace(scope, single=replace(scope.single, bucket_id=known))


async def _ask_for_id(
    store: Store, grant: Grant, bucket: RootBucket, told: list[BucketRow] | None
) -> str | None:
    """Ask B2 for the ID of a bucket, if the key may. Raises ScopeError where there is no such bucket."""
    if not grant.has(Capability.LIST_BUCKETS):
        return None
    rows = [row for row in await store.list_buckets(name=bucket.name) if row.name == bucket.name]
    if not rows:
        raise ScopeError(
            f"there is no bucket {bucket.name!r} in this account", "b2mount check lists the buckets there are"
        )
    if told is not None:
        told += rows
    return rows[0].bucket_id


async def _demand_bucket(store: Store, grant: Grant, scope: Scope, bucket_id: str) -> None:
    """Raise ScopeError where B2 knows no bucket of this ID: what is written would never find its way."""
    try:
        if grant.has(Capability.WRITE_FILES) and isinstance(store, MountStore):
            await store.prepare_upload(bucket_id)
        elif grant.has(Capability.LIST_FILES):
            await store.list_names(bucket_id, max(scope.directory, scope.limit, key=len), limit=1)
    except NoSuchFile as exc:
        raise ScopeError(
            f"the account has no bucket of the ID {bucket_id}",
            "B2's web page shows the ID beside each bucket's name",
        ) from exc


async def warn_if_empty(store: Store, grant: Grant, scope: Scope, options: MountOptions) -> None:
    """Say so where SOURCE names a directory in which there is nothing: its name may be mistyped."""
    named = parse_source(options.source).prefix if options.source else ""
    if not named or scope.single is None or scope.single.bucket_id is None or options.at is not None:
        return
    if not grant.has(Capability.LIST_FILES) or not scope.directory.startswith(scope.limit):
        return  # what lies above the key's prefix is made up from it
    try:
        page = await store.list_names(scope.single.bucket_id, scope.directory, limit=1)
    except B2MountError as exc:
        log.info("whether there is anything under %r is not known: %s", scope.directory, exc)
        return
    if not page.rows:
        log.warning("there is nothing yet under %r in bucket %r", scope.directory, scope.single.name)
