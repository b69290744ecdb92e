"""Copies inside B2: whole and in part, with the metadata kept or replaced."""

import hashlib

import pytest

from b2mount.core.errors import InvalidArgument, VersionGone
from b2mount.store.store import Action
from tests.contract.worlds import World, every_name, put


async def test_a_copy_keeps_content_type_and_info(world: World) -> None:
    source = await put(world, "from", b"hello", {"src_last_modified_millis": "7"})
    row = await world.store.copy_file(source.file_id, world.bucket.bucket_id, world.prefix + "to")
    assert (row.name, row.size, row.sha1) == (world.prefix + "to", 5, source.sha1)
    assert (row.content_type, row.info) == (source.content_type, source.info)
    assert row.action is Action.UPLOAD
    assert row.file_id != source.file_id
    assert await world.store.read_range(row.file_id, 0, 5) == b"hello"
    assert await every_name(world) == [source, row]


async def test_a_copy_can_replace_content_type_and_info(world: World) -> None:
    source = await put(world, "f", b"hello", {"old": "1"})
    row = await world.store.copy_file(
        source.file_id, world.bucket.bucket_id, source.name, content_type="text/new", info={"new": "ü"}
    )
    assert (row.content_type, row.info) == ("text/new", {"new": "ü"})
    assert await every_name(world) == [row]


async def test_a_copy_can_replace_the_info_by_nothing(world: World) -> None:
    source = await put(world, "f", b"hello", {"old": "1"})
    row = await world.store.copy_file(
        source.file_id, world.bucket.bucket_id, source.name, content_type="text/plain", info={}
    )
    assert row.info == {}


@pytest.mark.parametrize(("start", "end"), [(0, 4), (2, 6), (9, 10), (0, 10), (3, None)])
async def test_a_copy_of_a_range_holds_these_bytes(world: World, start: int, end: int | None) -> None:
    source = await put(world, "from", b"0123456789")
    row = await world.store.copy_file(
        source.file_id, world.bucket.bucket_id, world.prefix + "to", start=start, end=end
    )
    wanted = b"0123456789"[start:end]
    assert (row.size, row.sha1) == (len(wanted), hashlib.sha1(wanted).hexdigest())
    assert await world.store.read_range(row.file_id, 0, row.size) == wanted


async def test_an_empty_file_can_be_copied(world: World) -> None:
    source = await put(world, "from")
    row = await world.store.copy_file(source.file_id, world.bucket.bucket_id, world.prefix + "to")
    assert row.size == 0


async def test_an_old_version_can_be_copied_over_the_new_one(world: World) -> None:
    old = await put(world, "f", b"old")
    await put(world, "f", b"new")
    row = await world.store.copy_file(old.file_id, world.bucket.bucket_id, old.name)
    assert await every_name(world) == [row]
    assert await world.store.read_range(row.file_id, 0, 3) == b"old"


async def test_a_copy_outlives_its_source(world: World) -> None:
    source = await put(world, "from", b"data")
    row = await world.store.copy_file(source.file_id, world.bucket.bucket_id, world.prefix + "to")
    await world.store.delete_version(source.name, source.file_id)
    assert await world.store.read_range(row.file_id, 0, 4) == b"data"


async def test_a_source_that_is_gone_is_told(world: World) -> None:
    source = await put(world, "from", b"data")
    await world.store.delete_version(source.name, source.file_id)
    with pytest.raises(VersionGone):
        await world.store.copy_file(source.file_id, world.bucket.bucket_id, world.prefix + "to")


async def test_a_content_type_alone_is_refused(world: World) -> None:
    source = await put(world, "from", b"data")
    with pytest.raises(InvalidArgument):
        await world.store.copy_file(
            source.file_id, world.bucket.bucket_id, world.prefix + "to", content_type="text/new"
        )
