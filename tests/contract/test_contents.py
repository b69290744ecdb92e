"""Contents: uploads of every size, reads of every range, and what a version is known by."""

import hashlib
import random

import pytest

from b2mount.core.errors import IllegalName, InvalidArgument, NameTooLong, NoSuchFile, VersionGone
from b2mount.store.store import Action
from tests.contract.worlds import Bytes, World, every_name, put

MIB = 1 << 20
NO_ID = "4_z{}_f1000000000000fff_d20260101_m000000_c001_v0001000_t0000"


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize("size", [0, 1, 1000, MIB - 1, MIB, MIB + 1, 3 * MIB + 5])
@pytest.mark.parametrize("is_hash_known", [True, False])
async def test_what_is_uploaded_is_read_back(world: World, size: int, is_hash_known: bool) -> None:
    data = noise(size)
    sha1 = hashlib.sha1(data).hexdigest()
    sent: list[int] = []
    row = await world.store.upload(
        world.bucket.bucket_id,
        world.prefix + "f",
        Bytes(data),
        content_type="application/octet-stream",
        info={},
        sha1=sha1 if is_hash_known else None,
        progress=sent.append,
    )
    assert (row.size, row.sha1, sum(sent)) == (size, sha1, size)
    assert await world.store.read_range(row.file_id, 0, size) == data


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, 1), (0, 10), (9, 10), (3, 7), (0, 9), (1, 10), (5, 5), (0, 0), (10, 10)],
)
async def test_every_range_is_exact(world: World, start: int, end: int) -> None:
    row = await put(world, "f", b"0123456789")
    assert await world.store.read_range(row.file_id, start, end) == b"0123456789"[start:end]


@pytest.mark.parametrize(("start", "end"), [(0, 11), (9, 12), (10, 11), (50, 60)])
async def test_a_range_past_the_end_is_refused_and_not_cut(world: World, start: int, end: int) -> None:
    row = await put(world, "f", b"0123456789")
    with pytest.raises(InvalidArgument):
        await world.store.read_range(row.file_id, start, end)


async def test_a_read_of_nothing_asks_nobody(world: World) -> None:
    assert await world.store.read_range(NO_ID.format(world.bucket.bucket_id), 0, 0) == b""


async def test_any_range_of_an_empty_file_is_refused(world: World) -> None:
    row = await put(world, "f")
    with pytest.raises(InvalidArgument):
        await world.store.read_range(row.file_id, 0, 1)


async def test_an_old_version_stays_readable_by_its_id(world: World) -> None:
    old = await put(world, "f", b"old")
    new = await put(world, "f", b"new")
    await world.store.hide(world.bucket.bucket_id, world.prefix + "f")
    assert await world.store.read_range(old.file_id, 0, 3) == b"old"
    assert await world.store.read_range(new.file_id, 0, 3) == b"new"


async def test_a_deleted_version_is_gone_for_readers(world: World) -> None:
    row = await put(world, "f", b"data")
    await world.store.delete_version(row.name, row.file_id)
    with pytest.raises(VersionGone):
        await world.store.read_range(row.file_id, 0, 4)
    with pytest.raises(VersionGone):
        await world.store.get_info(row.file_id)


async def test_head_and_info_agree_with_the_listing(world: World) -> None:
    row = await put(world, "dir/f +ü", b"hello", {"src_last_modified_millis": "5", "colour": "grün +"})
    assert await world.store.get_info(row.file_id) == row
    assert await world.store.head(world.bucket.name, row.name) == row


async def test_head_of_a_name_that_is_not_there(world: World) -> None:
    with pytest.raises(NoSuchFile):
        await world.store.head(world.bucket.name, world.prefix + "nothing")


async def test_head_of_a_hidden_name(world: World) -> None:
    row = await put(world, "f", b"1")
    await world.store.hide(world.bucket.bucket_id, row.name)
    with pytest.raises(NoSuchFile):
        await world.store.head(world.bucket.name, row.name)


async def test_a_second_upload_is_the_one_that_shows(world: World) -> None:
    await put(world, "f", b"1")
    second = await put(world, "f", b"22")
    assert await every_name(world) == [second]


async def test_info_of_an_unfinished_file_says_so(world: World) -> None:
    file_id = await world.store.start_large(
        world.bucket.bucket_id, world.prefix + "f", content_type="text/plain", info={"a": "b"}
    )
    row = await world.store.get_info(file_id)
    assert (row.action, row.info) == (Action.START, {"a": "b"})


@pytest.mark.parametrize("name", ["a//b", "/a", "a/", "a\tb", "x" * 251, "y" * 1025, "del\x7f"])
async def test_a_name_that_b2_cannot_hold_is_refused(world: World, name: str) -> None:
    if world.prefix:
        pytest.skip("a name of its own is needed")
    with pytest.raises((IllegalName, NameTooLong)):
        await put(world, name)
