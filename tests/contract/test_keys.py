"""Keys: what one that is limited may not do, and how that is told."""

from collections.abc import Awaitable, Callable

import pytest

from b2mount.core.errors import AccessDenied, B2MountError, NotPermitted
from b2mount.core.grant import Capability as C
from b2mount.store.store import Retention, Store
from tests.contract.worlds import Bytes, World, put

FILE = (C.LIST_FILES, C.READ_FILES, C.WRITE_FILES, C.DELETE_FILES, C.LIST_BUCKETS)
Act = Callable[[Store, str, str, str], Awaitable[object]]  # store, bucket id, name, file id

ACTS: dict[str, tuple[C, type[B2MountError], Act]] = {
    "list names": (C.LIST_FILES, AccessDenied, lambda s, b, n, i: s.list_names(b, n)),
    "list versions": (C.LIST_FILES, AccessDenied, lambda s, b, n, i: s.list_versions(b, n)),
    "list unfinished": (C.LIST_FILES, AccessDenied, lambda s, b, n, i: s.list_unfinished(b, n)),
    "read": (C.READ_FILES, AccessDenied, lambda s, b, n, i: s.read_range(i, 0, 1)),
    "info": (C.READ_FILES, AccessDenied, lambda s, b, n, i: s.get_info(i)),
    "upload": (
        C.WRITE_FILES,
        AccessDenied,
        lambda s, b, n, i: s.upload(b, n, Bytes(b"x"), content_type="text/plain", info={}),
    ),
    "start": (
        C.WRITE_FILES,
        AccessDenied,
        lambda s, b, n, i: s.start_large(b, n, content_type="text/plain", info={}),
    ),
    "copy": (C.WRITE_FILES, AccessDenied, lambda s, b, n, i: s.copy_file(i, b, n)),
    "copy from": (C.READ_FILES, AccessDenied, lambda s, b, n, i: s.copy_file(i, b, n)),
    "hide": (C.WRITE_FILES, NotPermitted, lambda s, b, n, i: s.hide(b, n)),
    "delete": (C.DELETE_FILES, NotPermitted, lambda s, b, n, i: s.delete_version(n, i)),
}


def without(right: C) -> tuple[C, ...]:
    return tuple(other for other in FILE if other is not right)


@pytest.mark.parametrize("act", ACTS)
async def test_a_key_without_the_right_is_refused(world: World, act: str) -> None:
    right, error, call = ACTS[act]
    row = await put(world, "f", b"1")
    store = await world.limited(*without(right))
    with pytest.raises(error):
        await call(store, world.bucket.bucket_id, row.name, row.file_id)


@pytest.mark.parametrize("act", ACTS)
async def test_a_key_for_another_prefix_is_refused(world: World, act: str) -> None:
    _, error, call = ACTS[act]
    row = await put(world, "inside/f", b"1")
    store = await world.limited(*FILE, prefix="elsewhere/")
    with pytest.raises(error):
        await call(store, world.bucket.bucket_id, row.name, row.file_id)


@pytest.mark.parametrize("act", ACTS)
async def test_a_key_for_another_bucket_is_refused(world: World, act: str) -> None:
    _, error, call = ACTS[act]
    row = await put(world, "f", b"1")
    store = await world.limited(*FILE, other_bucket=True)
    with pytest.raises(error):
        await call(store, world.bucket.bucket_id, row.name, row.file_id)


@pytest.mark.parametrize("act", ACTS)
async def test_a_key_with_the_rights_and_the_prefix_is_served(world: World, act: str) -> None:
    _, _, call = ACTS[act]
    row = await put(world, "inside/f", b"1")
    store = await world.limited(*FILE, prefix="inside/")
    await call(store, world.bucket.bucket_id, row.name, row.file_id)


async def test_a_head_outside_the_prefix_is_refused(world: World) -> None:
    await put(world, "f", b"1")
    store = await world.limited(*FILE, prefix="elsewhere/")
    with pytest.raises(AccessDenied):
        await store.head(world.bucket.name, "f")


async def test_a_head_without_the_right_is_refused(world: World) -> None:
    await put(world, "f", b"1")
    store = await world.limited(*without(C.READ_FILES))
    with pytest.raises(AccessDenied):
        await store.head(world.bucket.name, "f")


async def test_the_grant_tells_what_the_key_opens(world: World) -> None:
    store = await world.limited(C.LIST_FILES, C.READ_FILES, prefix="a/b")
    assert store.grant.capabilities == C.LIST_FILES | C.READ_FILES
    assert store.grant.prefix == "a/b"
    assert [bucket.name for bucket in store.grant.buckets or ()] == [world.bucket.name]
    assert store.grant.expires_ms is None


@pytest.mark.parametrize("rights", [(C.LIST_FILES,), (C.LIST_FILES, C.LIST_BUCKETS)])
async def test_a_limited_key_names_its_bucket_with_and_without_listBuckets(
    world: World, rights: tuple[C, ...]
) -> None:
    store = await world.limited(*rights)
    assert [bucket.name for bucket in await store.list_buckets()] == [world.bucket.name]


async def test_a_limited_key_cannot_list_another_bucket(world: World) -> None:
    store = await world.limited(C.LIST_BUCKETS, other_bucket=True)
    with pytest.raises(AccessDenied):
        await store.list_buckets(name=world.bucket.name)


async def test_a_drop_box_key_writes_and_sees_nothing(world: World) -> None:
    store = await world.limited(C.WRITE_FILES)
    bucket_id = world.bucket.bucket_id
    row = await store.upload(bucket_id, "f", Bytes(b"1"), content_type="text/plain", info={})
    with pytest.raises(AccessDenied):
        await store.read_range(row.file_id, 0, 1)
    assert await store.hide(bucket_id, "f") is not None


async def test_what_the_key_may_not_read_of_a_lock_is_not_told(locking_world: World) -> None:
    world = locking_world
    row = await put(world, "f", b"1")
    until = row.uploaded_ms + 3_600_000
    await world.store.set_retention(row.name, row.file_id, Retention("governance", until))
    store = await world.limited(*FILE)
    assert (await store.get_info(row.file_id)).retention is None
    assert (await world.store.get_info(row.file_id)).retention is not None
