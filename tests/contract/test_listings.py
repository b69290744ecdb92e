"""Listings: order, prefixes, folders, pages, versions."""

import pytest

from b2mount.store.store import Action
from tests.contract.worlds import World, every_name, every_version, names, put

AWKWARD = [
    "a b",
    "plus+sign",
    "per%20cent",
    "quote'and\"",
    "ümlaut",
    "日本語/ファイル",
    "emoji-😀",
    "high-\U0001f600",
    "e\u0301-nfd",
    "\u00e9-nfc",
    "semi;colon=&?#",
    ".hidden",
    "..",
    "a/../b",
]


async def test_names_come_in_the_byte_order_of_utf8(world: World) -> None:
    order = ["B", "a", "a-b", "a/b", "a0", "b", "é", "中", "\ufb00", "😀"]
    for name in reversed(order):
        await put(world, name)
    assert names(await every_name(world), world) == sorted(order, key=str.encode)


@pytest.mark.parametrize("name", AWKWARD)
async def test_an_awkward_name_is_stored_listed_and_read_by_the_same_name(world: World, name: str) -> None:
    row = await put(world, name, b"x")
    assert names(await every_name(world), world) == [name]
    assert (await world.store.head(world.bucket.name, world.prefix + name)).file_id == row.file_id


async def test_a_prefix_is_a_string_and_no_folder(world: World) -> None:
    for name in ("foo", "foo/a", "foobar", "fo", "g"):
        await put(world, name)
    assert names(await every_name(world, "foo"), world) == ["foo", "foo/a", "foobar"]


async def test_names_below_the_delimiter_become_one_folder_row(world: World) -> None:
    for name in ("d/1", "d/2", "d/e/3", "f", "d.txt"):
        await put(world, name)
    rows = await every_name(world, delimiter="/")
    assert [(row.name.removeprefix(world.prefix), row.action) for row in rows] == [
        ("d.txt", Action.UPLOAD),
        ("d/", Action.FOLDER),
        ("f", Action.UPLOAD),
    ]
    folder = rows[1]
    assert (folder.file_id, folder.size, folder.info, folder.sha1) == ("", 0, {}, None)


async def test_a_delimiter_looks_behind_the_prefix_only(world: World) -> None:
    for name in ("photos/cats/1", "photos/c", "photos/dogs/1"):
        await put(world, name)
    rows = await every_name(world, "photos/c", delimiter="/")
    assert names(rows, world) == ["photos/c", "photos/cats/"]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 100])
async def test_pages_of_any_size_give_the_same_rows(world: World, limit: int) -> None:
    for name in ("a", "b/1", "b/2", "c/1", "d", "e/1"):
        await put(world, name)
    assert names(await every_name(world, limit=limit), world) == ["a", "b/1", "b/2", "c/1", "d", "e/1"]
    folders = await every_name(world, delimiter="/", limit=limit)
    assert names(folders, world) == ["a", "b/", "c/", "d", "e/"]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_pages_of_versions_give_the_same_rows(world: World, limit: int) -> None:
    first = await put(world, "a", b"1")
    second = await put(world, "a", b"2")
    await world.store.hide(world.bucket.bucket_id, world.prefix + "a")
    other = await put(world, "b", b"3")
    rows = await every_version(world.store, world.bucket.bucket_id, world.prefix, limit=limit)
    assert [row.action for row in rows] == [Action.HIDE, Action.UPLOAD, Action.UPLOAD, Action.UPLOAD]
    assert [row.file_id for row in rows[1:]] == [second.file_id, first.file_id, other.file_id]


async def test_a_start_lies_in_the_page(world: World) -> None:
    for name in ("a", "b", "c"):
        await put(world, name)
    start = world.prefix + "b"
    page = await world.store.list_names(world.bucket.bucket_id, world.prefix, start=start)
    assert names(page.rows, world) == ["b", "c"]


async def test_a_row_tells_what_was_uploaded(world: World) -> None:
    uploaded = await put(world, "a", b"hello", {"src_last_modified_millis": "1700000000123", "x": "ü +%"})
    (row,) = await every_name(world)
    assert row == uploaded
    assert (row.size, row.content_type, row.action) == (5, "text/plain", Action.UPLOAD)
    assert row.sha1 == "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"
    assert row.info == {"src_last_modified_millis": "1700000000123", "x": "ü +%"}
    assert abs(row.uploaded_ms / 1000 - 1.7e9) < 1e9


async def test_versions_show_folders_too(world: World) -> None:
    await put(world, "d/a", b"1")
    await put(world, "d/a", b"2")
    await put(world, "e", b"1")
    rows = await every_version(world.store, world.bucket.bucket_id, world.prefix, delimiter="/")
    assert [(row.name.removeprefix(world.prefix), row.action) for row in rows] == [
        ("d/", Action.FOLDER),
        ("e", Action.UPLOAD),
    ]


async def test_a_folder_is_gone_with_its_last_visible_name(world: World) -> None:
    await put(world, "d/a", b"1")
    await world.store.hide(world.bucket.bucket_id, world.prefix + "d/a")
    assert await every_name(world, delimiter="/") == []


async def test_more_than_ten_thousand_names_come_in_several_pages(world: World) -> None:
    wanted = [f"n/{number:06d}" for number in range(10_050)]
    if not world.seed(wanted):
        pytest.skip("too many calls for real B2")
    page = await world.store.list_names(world.bucket.bucket_id, "n/", limit=50_000)
    assert len(page.rows) == 10_000
    assert names(await every_name(world, "n/", limit=10_000), world) == wanted


async def test_names_that_only_s3_tools_can_make_are_listed(world: World) -> None:
    odd = ["/lead", "a//b", "dir/", "x\\y", "l" * 600, "./.", "tab\tname"]
    if not world.seed(odd):
        pytest.skip("cannot be made on real B2 through the native API")
    assert names(await every_name(world), world) == sorted(odd)


async def test_an_empty_bucket_lists_nothing(world: World) -> None:
    assert await every_name(world) == []
    assert await every_version(world.store, world.bucket.bucket_id, world.prefix) == []
    assert await world.store.list_unfinished(world.bucket.bucket_id, world.prefix) == []
