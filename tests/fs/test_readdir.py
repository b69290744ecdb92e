"""A directory that changes while it is read shows once what is there all the time."""

import random
from pathlib import Path

import pytest
import trio.testing

from b2mount.cache import listings
from b2mount.store.memory import MemoryStore
from tests.fs.worlds import ROOT, Little, little
from tests.journal.lives import memory

PAGE = 5


async def read_some(mount: Little, handle: int, offset: int, most: int) -> tuple[list[bytes], int, bool]:
    """Read up to *most* entries as the kernel would; return them, the next offset, and if that was all."""
    while True:
        told, is_full = mount.told(handle, offset, most)
        if told or is_full:
            return [entry.name for entry in told], told[-1].next_offset if told else offset, False
        if not await mount.fs.more_entries(handle):
            return [], offset, True


@pytest.mark.parametrize("seed", range(6))
async def test_what_is_there_all_the_time_shows_once(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "FIRST_PAGE", PAGE)
    monkeypatch.setattr(listings, "PAGE_GROWTH", 1)
    chance = random.Random(seed)
    plain, bucket_id = memory()
    for number in range(40):
        plain.account.add(bucket_id, f"{number:03}", b"x")
        if number % 7 == 0:
            plain.account.add(bucket_id, f"{number:03}/in", b"x")  # a directory beside the file
            plain.account.add(bucket_id, f"{number:03}-", b"x")
    async with little(tmp_path, MemoryStore(plain.account), settle=0.01) as mount:
        handle = mount.fs.opendir(ROOT)
        if chance.random() < 0.5:
            await mount.create("zz-made-before", b"1")
        before = await everything(mount)
        removed: set[bytes] = set()
        shown: list[bytes] = []
        offset, ended = 0, False
        while not ended:
            names, offset, ended = await read_some(mount, handle, offset, chance.randrange(1, 6))
            shown += names
            await change(mount, chance, removed)
            if chance.random() < 0.1:
                await mount.flush()
            if chance.random() < 0.1:
                mount.mounted.world.listings.forget(bucket_id, "")  # as if its time were over
        stable = before - removed
        assert [name for name in stable if shown.count(name) != 1] == []
        assert len(shown) == len(set(shown))


async def change(mount: Little, chance: random.Random, removed: set[bytes]) -> None:
    """Make, replace or remove a name at random."""
    name = f"{chance.randrange(50):03}{chance.choice(('', '!'))}"
    if int(name[:3]) % 7 == 0:
        return  # its twin would change names
    if chance.random() < 0.5:
        removed.add(name.encode())
        try:
            await mount.fs.unlink(ROOT, name.encode())
        except Exception as exc:
            assert "no such file" in str(exc)
    else:
        try:
            await mount.create(name, b"new")
        except Exception as exc:
            assert "exists" in str(exc)


async def everything(mount: Little) -> set[bytes]:
    handle, names, offset, ended = mount.fs.opendir(ROOT), set(), 0, False
    while not ended:
        some, offset, ended = await read_some(mount, handle, offset, 1000)
        names |= set(some)
    mount.fs.releasedir(handle)
    return names


async def test_what_is_known_is_given_before_the_next_page_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "FIRST_PAGE", PAGE)
    plain, bucket_id = memory()
    for number in range(40):
        plain.account.add(bucket_id, f"{number:03}", b"x")
    calls: list[str] = []
    async with little(tmp_path, MemoryStore(plain.account)) as mount:
        plain.account.on_call = calls.append
        handle = mount.fs.opendir(ROOT)
        names, offset, _ = await read_some(mount, handle, 0, 100)
        assert (names, calls) == ([b".", b".."], [])
        names, offset, _ = await read_some(mount, handle, offset, 2)
        assert (names, len(calls)) == ([b"000", b"001"], 1)
        await read_some(mount, handle, offset, 2)
        await trio.testing.wait_all_tasks_blocked()
        assert len(calls) == 2  # half of the page is read: the next was asked for


async def test_nodes_that_were_not_handed_out_are_not_kept(tmp_path: Path) -> None:
    plain, bucket_id = memory()
    for number in range(40):
        plain.account.add(bucket_id, f"{number:03}", b"x")
    async with little(tmp_path, MemoryStore(plain.account)) as mount:
        handle = mount.fs.opendir(ROOT)
        _, offset, _ = await read_some(mount, handle, 0, 10)
        await read_some(mount, handle, offset, 8)
        assert len(mount.mounted.world.nodes) == 1 + 8  # the root, and what followed its dots
