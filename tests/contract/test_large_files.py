"""Large files: parts sent and copied, finished, listed, cancelled."""

import hashlib
from collections.abc import Mapping

import pytest

from b2mount.core.errors import DataCorrupt, RefusedByB2, VersionGone
from b2mount.store.store import Action, PartRow
from tests.contract.test_contents import NO_ID, noise
from tests.contract.worlds import Bytes, World, every_name, every_version, put


async def start(world: World, name: str = "big", info: Mapping[str, str] | None = None) -> str:
    return await world.store.start_large(
        world.bucket.bucket_id, world.prefix + name, content_type="text/x-big", info=info or {}
    )


async def send_parts(world: World, file_id: str, data: bytes) -> list[PartRow]:
    size = world.minimum_part
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return [
        await world.store.upload_part(file_id, number, Bytes(part)) for number, part in enumerate(parts, 1)
    ]


async def test_seven_megabytes_in_parts_of_five(world: World) -> None:
    data = noise(7_000_000)
    sha1 = hashlib.sha1(data).hexdigest()
    file_id = await start(world, info={"large_file_sha1": sha1, "x": "y"})
    parts = await send_parts(world, file_id, data)
    assert [(part.number, part.size) for part in parts] == [(1, 5_000_000), (2, 2_000_000)]
    assert await every_name(world) == []
    row = await world.store.finish_large(file_id, [part.sha1 for part in parts])
    assert (row.file_id, row.size, row.action, row.sha1) == (file_id, 7_000_000, Action.UPLOAD, sha1)
    assert (row.content_type, row.info) == ("text/x-big", {"large_file_sha1": sha1, "x": "y"})
    assert await every_name(world) == [row]
    assert await world.store.read_range(file_id, 4_999_990, 5_000_010) == data[4_999_990:5_000_010]
    assert await world.store.read_range(file_id, 0, 7_000_000) == data


async def test_the_old_version_shows_until_the_new_one_is_finished(world: World) -> None:
    old = await put(world, "big", b"old")
    file_id = await start(world)
    parts = await send_parts(world, file_id, noise(5_000_001))
    assert await every_name(world) == [old]
    await world.store.finish_large(file_id, [part.sha1 for part in parts])
    assert [row.file_id for row in await every_name(world)] == [file_id]


async def test_parts_are_listed_as_they_were_sent(world: World) -> None:
    file_id = await start(world)
    assert await world.store.list_parts(file_id) == []
    second = await world.store.upload_part(file_id, 2, Bytes(b"second"))
    first = await world.store.upload_part(file_id, 1, Bytes(b"first"))
    assert await world.store.list_parts(file_id) == [first, second]
    assert first == PartRow(1, 5, hashlib.sha1(b"first").hexdigest())


async def test_a_part_sent_again_replaces_the_first_one(world: World) -> None:
    file_id = await start(world)
    await world.store.upload_part(file_id, 1, Bytes(b"wrong"))
    right = await world.store.upload_part(file_id, 1, Bytes(b"right!"))
    assert await world.store.list_parts(file_id) == [right]


async def test_copied_and_sent_parts_make_one_file(world: World) -> None:
    source_data = noise(6_000_000, seed=1)
    source = await put(world, "source", source_data)
    file_id = await start(world)
    copied = await world.store.copy_part(source.file_id, 100, 5_000_100, file_id, 1)
    sent = await world.store.upload_part(file_id, 2, Bytes(b"the end"))
    assert (copied.number, copied.size) == (1, 5_000_000)
    row = await world.store.finish_large(file_id, [copied.sha1, sent.sha1])
    assert row.size == 5_000_007
    assert await world.store.read_range(file_id, 0, row.size) == source_data[100:5_000_100] + b"the end"


async def test_a_large_file_without_a_whole_hash_has_none(world: World) -> None:
    file_id = await start(world)
    parts = await send_parts(world, file_id, noise(5_000_001))
    row = await world.store.finish_large(file_id, [part.sha1 for part in parts])
    assert row.sha1 is None


async def test_an_unfinished_file_is_listed_as_such_and_can_be_cancelled(world: World) -> None:
    first = await start(world, "big/1", {"a": "b"})
    second = await start(world, "big/2")
    await start(world, "other")
    rows = await world.store.list_unfinished(world.bucket.bucket_id, world.prefix + "big/")
    assert [(row.file_id, row.action) for row in rows] == [(first, Action.START), (second, Action.START)]
    assert rows[0].info == {"a": "b"}
    versions = await every_version(world.store, world.bucket.bucket_id, world.prefix + "big/")
    assert [row.action for row in versions] == [Action.START, Action.START]
    await world.store.cancel_large(first)
    rows = await world.store.list_unfinished(world.bucket.bucket_id, world.prefix + "big/")
    assert [row.file_id for row in rows] == [second]


async def test_cancelling_twice_is_no_error(world: World) -> None:
    file_id = await start(world)
    await world.store.cancel_large(file_id)
    await world.store.cancel_large(file_id)


async def test_a_cancelled_file_takes_no_more_parts(world: World) -> None:
    file_id = await start(world)
    await world.store.upload_part(file_id, 1, Bytes(b"x"))
    await world.store.cancel_large(file_id)
    with pytest.raises(VersionGone):
        await world.store.upload_part(file_id, 2, Bytes(b"x"))
    with pytest.raises(VersionGone):
        await world.store.list_parts(file_id)


async def test_one_part_is_no_large_file(world: World) -> None:
    file_id = await start(world)
    part = await world.store.upload_part(file_id, 1, Bytes(noise(5_000_000)))
    with pytest.raises(RefusedByB2):
        await world.store.finish_large(file_id, [part.sha1])


async def test_a_small_part_before_the_last_is_refused_at_the_end(world: World) -> None:
    file_id = await start(world)
    parts = [await world.store.upload_part(file_id, number, Bytes(b"small")) for number in (1, 2)]
    with pytest.raises(RefusedByB2):
        await world.store.finish_large(file_id, [part.sha1 for part in parts])


async def test_a_missing_part_is_told(world: World) -> None:
    file_id = await start(world)
    first = await world.store.upload_part(file_id, 1, Bytes(noise(5_000_000)))
    with pytest.raises(RefusedByB2):
        await world.store.finish_large(file_id, [first.sha1, first.sha1])


async def test_a_part_of_another_hash_is_told(world: World) -> None:
    file_id = await start(world)
    first = await world.store.upload_part(file_id, 1, Bytes(noise(5_000_000)))
    second = await world.store.upload_part(file_id, 2, Bytes(b"x"))
    with pytest.raises(DataCorrupt):
        await world.store.finish_large(file_id, [second.sha1, first.sha1])


async def test_many_unfinished_files_are_all_listed(world: World) -> None:
    if world.prefix:
        pytest.skip("too many calls for real B2")
    started = [await start(world, f"f{number:03d}") for number in range(105)]
    rows = await world.store.list_unfinished(world.bucket.bucket_id, "f")
    assert [row.file_id for row in rows] == started


async def test_parts_for_a_file_that_never_was(world: World) -> None:
    with pytest.raises((VersionGone, RefusedByB2)):
        await world.store.upload_part(NO_ID.format(world.bucket.bucket_id), 1, Bytes(b"x"))
