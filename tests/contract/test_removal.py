"""Hiding, deleting and uncovering; buckets; Object Lock."""

import time
import uuid

import pytest

from b2mount.core.errors import AlreadyExists, DirectoryNotEmpty, HeldByLock, InvalidArgument, NotSupported
from b2mount.store.store import Action, LockSettings, Retention
from tests.contract.worlds import Bytes, World, every_name, every_version, put

HOUR_MS = 3_600_000


def soon() -> int:
    return int(time.time() * 1000) + HOUR_MS


async def test_a_hidden_name_is_not_listed_and_its_versions_stay(world: World) -> None:
    row = await put(world, "f", b"1")
    marker = await world.store.hide(world.bucket.bucket_id, row.name)
    assert marker is not None
    assert (marker.action, marker.name, marker.size, marker.sha1) == (Action.HIDE, row.name, 0, None)
    assert await every_name(world) == []
    versions = await every_version(world.store, world.bucket.bucket_id, world.prefix)
    assert versions == [marker, row]


async def test_hiding_nothing_or_twice_says_so(world: World) -> None:
    assert await world.store.hide(world.bucket.bucket_id, world.prefix + "nothing") is None
    row = await put(world, "f", b"1")
    assert await world.store.hide(world.bucket.bucket_id, row.name) is not None
    assert await world.store.hide(world.bucket.bucket_id, row.name) is None


async def test_deleting_a_hide_marker_uncovers_the_file(world: World) -> None:
    row = await put(world, "f", b"1")
    marker = await world.store.hide(world.bucket.bucket_id, row.name)
    assert marker is not None
    await world.store.delete_version(row.name, marker.file_id)
    assert await every_name(world) == [row]


async def test_deleting_the_newest_version_uncovers_the_one_before(world: World) -> None:
    old = await put(world, "f", b"old")
    new = await put(world, "f", b"new")
    await world.store.delete_version(new.name, new.file_id)
    assert await every_name(world) == [old]


async def test_an_upload_over_a_hide_marker_shows(world: World) -> None:
    row = await put(world, "f", b"1")
    await world.store.hide(world.bucket.bucket_id, row.name)
    again = await put(world, "f", b"2")
    assert await every_name(world) == [again]


async def test_deleting_twice_is_no_error(world: World) -> None:
    row = await put(world, "f", b"1")
    await world.store.delete_version(row.name, row.file_id)
    await world.store.delete_version(row.name, row.file_id)
    assert await every_version(world.store, world.bucket.bucket_id, world.prefix) == []


async def test_the_bucket_is_listed_by_name_and_by_id(world: World) -> None:
    by_name = await world.store.list_buckets(name=world.bucket.name)
    by_id = await world.store.list_buckets(bucket_id=world.bucket.bucket_id)
    assert by_name == by_id == [world.bucket]
    assert world.bucket in await world.store.list_buckets()


async def test_a_bucket_is_made_once_and_removed_when_empty(world: World) -> None:
    if world.prefix:
        pytest.skip("no buckets are made on real B2")
    name = f"test-{uuid.uuid4().hex[:16]}"
    made = await world.store.create_bucket(name)
    assert made.name == name
    with pytest.raises(AlreadyExists):
        await world.store.create_bucket(name)
    row = await world.store.upload(made.bucket_id, "f", Bytes(b"1"), content_type="text/plain", info={})
    with pytest.raises(DirectoryNotEmpty):
        await world.store.delete_bucket(made.bucket_id)
    await world.store.delete_version("f", row.file_id)
    await world.store.delete_bucket(made.bucket_id)
    assert made not in await world.store.list_buckets()


async def test_object_lock_needs_a_bucket_that_has_it(world: World) -> None:
    row = await put(world, "f", b"1")
    with pytest.raises(NotSupported):
        await world.store.set_legal_hold(row.name, row.file_id, True)
    with pytest.raises(NotSupported):
        await world.store.set_retention(row.name, row.file_id, Retention("governance", soon()))


async def test_a_version_held_by_governance_is_deleted_by_bypass_alone(locking_world: World) -> None:
    world = locking_world
    row = await put(world, "f", b"1")
    retention = Retention("governance", soon())
    await world.store.set_retention(row.name, row.file_id, retention)
    assert (await world.store.get_info(row.file_id)).retention == retention
    with pytest.raises(HeldByLock):
        await world.store.delete_version(row.name, row.file_id)
    await world.store.delete_version(row.name, row.file_id, bypass_governance=True)
    assert await every_name(world) == []


async def test_governance_is_lifted_by_bypass_alone(locking_world: World) -> None:
    world = locking_world
    row = await put(world, "f", b"1")
    await world.store.set_retention(row.name, row.file_id, Retention("governance", soon()))
    with pytest.raises(HeldByLock):
        await world.store.set_retention(row.name, row.file_id, None)
    await world.store.set_retention(row.name, row.file_id, None, bypass_governance=True)
    await world.store.delete_version(row.name, row.file_id)


async def test_compliance_holds_against_everybody(locking_world: World) -> None:
    world = locking_world
    row = await put(world, "f", b"1")
    await world.store.set_retention(row.name, row.file_id, Retention("compliance", soon()))
    with pytest.raises(HeldByLock):
        await world.store.delete_version(row.name, row.file_id, bypass_governance=True)


async def test_a_legal_hold_holds_until_it_is_lifted(locking_world: World) -> None:
    world = locking_world
    row = await put(world, "f", b"1")
    await world.store.set_legal_hold(row.name, row.file_id, True)
    assert (await world.store.get_info(row.file_id)).legal_hold is True
    with pytest.raises(HeldByLock):
        await world.store.delete_version(row.name, row.file_id)
    await world.store.set_legal_hold(row.name, row.file_id, False)
    await world.store.delete_version(row.name, row.file_id)


async def test_retention_in_the_past_is_refused(locking_world: World) -> None:
    world = locking_world
    row = await put(world, "f", b"1")
    with pytest.raises(InvalidArgument):
        await world.store.set_retention(row.name, row.file_id, Retention("governance", 1_000_000))


async def test_lock_settings_go_with_uploads_copies_and_large_files(locking_world: World) -> None:
    world = locking_world
    lock = LockSettings(Retention("governance", soon()), True)
    bucket_id = world.bucket.bucket_id
    row = await world.store.upload(bucket_id, "f", Bytes(b"1"), content_type="text/plain", info={}, lock=lock)
    copy = await world.store.copy_file(row.file_id, bucket_id, "g", lock=lock)
    large = await world.store.start_large(bucket_id, "h", content_type="text/plain", info={}, lock=lock)
    for file_id in (row.file_id, copy.file_id, large):
        told = await world.store.get_info(file_id)
        assert (told.retention, told.legal_hold) == (lock.retention, True)
