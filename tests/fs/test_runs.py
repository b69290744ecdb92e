"""Files that were only listed have no node before somebody asks for them, and lose nothing by it."""

import contextlib
import os
import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from b2mount.core.errors import B2MountError, NoSuchFile
from b2mount.fs.nodes import DirectoryNode
from b2mount.store.memory import MemoryStore
from b2mount.store.memory_account import MemoryB2
from tests.fs.worlds import ROOT, Little, Told, little
from tests.journal.lives import memory

MANY = 300


def stored(count: int) -> tuple[MemoryB2, str]:
    plain, bucket_id = memory()
    for number in range(count):
        plain.account.add(bucket_id, f"{number:04}", b"x" * (number % 7))
    return plain.account, bucket_id


def nodes_made(mount: Little) -> int:
    return len(list(mount.mounted.world.nodes)) - 1  # the root


def held(mount: Little) -> int:
    return len(mount.mounted.world.nodes) - 1


def numbers(told: Iterable[Told]) -> dict[bytes, int]:
    return {entry.name: entry.ino for entry in told if entry.ino != ROOT}


def expire(mount: Little, bucket_id: str) -> None:
    """As if the time of all listings were over."""
    mount.mounted.world.listings.forget(bucket_id, "")


async def test_listed_files_take_no_node_until_somebody_asks(tmp_path: Path) -> None:
    account, _ = stored(MANY)
    async with little(tmp_path, MemoryStore(account)) as mount:
        inos = numbers(await mount.told_all(ROOT))
        assert (len(inos), held(mount), nodes_made(mount)) == (MANY, MANY, 0)
        assert (await mount.fs.getattr(inos[b"0013"])).size == 13 % 7
        assert (await mount.fs.lookup(ROOT, b"0014")).ino == inos[b"0014"]
        assert await mount.read("0020") == b"x" * (20 % 7)
        assert (held(mount), nodes_made(mount)) == (MANY, 3)
        assert numbers(await mount.told_all(ROOT)) == inos


async def test_listed_files_have_the_numbers_that_looking_up_gives(tmp_path: Path) -> None:
    account, _ = stored(20)
    async with little(tmp_path / "a", MemoryStore(account)) as mount:
        listed = numbers(await mount.told_all(ROOT))
    async with little(tmp_path / "b", MemoryStore(account)) as mount:
        looked_up = {name: await mount.ino(name.decode()) for name in listed}
    assert listed == looked_up


async def test_what_is_forgotten_as_often_as_it_was_listed_is_gone(tmp_path: Path) -> None:
    account, bucket_id = stored(MANY)
    async with little(tmp_path, MemoryStore(account)) as mount:
        inos = numbers(await mount.told_all(ROOT))
        await mount.told_all(ROOT)
        expire(mount, bucket_id)
        assert (
            numbers(await mount.told_all(ROOT)) == inos
        )  # told by another listing, and still the same files
        await mount.fs.lookup(ROOT, b"0001")
        mount.fs.forget((ino, 2) for ino in inos.values())
        assert held(mount) == MANY
        mount.fs.forget((ino, 1) for ino in inos.values())
        assert held(mount) == 1
        mount.fs.forget([(inos[b"0001"], 1)])
        assert held(mount) == 0
        root = mount.mounted.world.directory(ROOT)
        assert (root.children, root.runs) == ({}, [])


async def test_a_file_that_others_replaced_is_another_file(tmp_path: Path) -> None:
    account, bucket_id = stored(MANY)
    async with little(tmp_path, MemoryStore(account)) as mount:
        before = numbers(await mount.told_all(ROOT))
        account.add(bucket_id, "0008", b"quite new")
        expire(mount, bucket_id)
        told = await mount.told_all(ROOT)
        after = numbers(told)
        assert {name for name in before if after[name] != before[name]} == {b"0008"}
        assert {entry.name: entry.size for entry in told}[b"0008"] == 9
        old = await mount.fs.getattr(before[b"0008"])
        assert (old.nlink, old.size) == (0, 1)  # who holds the old one reads the old one
        assert (await mount.fs.getattr(after[b"0008"])).nlink == 1


async def test_the_kernel_hears_at_once_of_a_replaced_file_that_it_only_listed(tmp_path: Path) -> None:
    account, bucket_id = stored(MANY)
    async with little(tmp_path, MemoryStore(account)) as mount:
        said: list[tuple[int, str]] = []
        mount.mounted.world.invalidate_entry = lambda ino, name: said.append((ino, name))
        await mount.told_all(ROOT)
        account.add(bucket_id, "0008", b"quite new")
        expire(mount, bucket_id)
        await mount.fs.lookup(ROOT, b"0001")
        assert said == [(ROOT, "0008")]


async def test_a_refresh_names_files_that_were_only_listed(tmp_path: Path) -> None:
    account, _ = stored(5)
    async with little(tmp_path, MemoryStore(account)) as mount:
        said: list[tuple[int, str]] = []
        mount.mounted.world.invalidate_entries_now = said.extend
        await mount.told_all(ROOT)
        await mount.fs.refresh("")
        assert {(ROOT, f"{number:04}") for number in range(5)} <= set(said)


async def test_a_page_is_not_kept_for_a_few_of_its_files(tmp_path: Path) -> None:
    account, _ = stored(MANY)
    async with little(tmp_path, MemoryStore(account)) as mount:
        inos = list(numbers(await mount.told_all(ROOT)).values())
        root = mount.mounted.world.directory(ROOT)
        mount.fs.forget((ino, 1) for ino in inos[: MANY * 7 // 8])
        assert len(root.runs) == 1
        mount.fs.forget((ino, 1) for ino in inos[MANY * 7 // 8 : MANY - 5])
        assert (root.runs, held(mount)) == ([], 5)
        assert (await mount.fs.getattr(inos[-1])).size == (MANY - 1) % 7
        mount.fs.forget((ino, 1) for ino in inos[MANY - 5 :])
        assert held(mount) == 0


async def test_changes_reach_files_that_were_only_listed(tmp_path: Path) -> None:
    account, _ = stored(MANY)
    async with little(tmp_path, MemoryStore(account)) as mount:
        inos = numbers(await mount.told_all(ROOT))
        await mount.rename("0001", "0002")
        await mount.fs.unlink(ROOT, b"0003")
        handle = mount.fs.open(inos[b"0005"], os.O_WRONLY)
        mount.fs.files.write(handle, 0, b"longer")
        await mount.fs.files.release(handle)
        sizes = {entry.name: (entry.ino, entry.size) for entry in await mount.told_all(ROOT)}
        assert {b"0001", b"0003"}.isdisjoint(sizes)
        assert sizes[b"0002"] == (inos[b"0001"], 1)
        assert sizes[b"0005"] == (inos[b"0005"], 6)
        assert (await mount.fs.getattr(inos[b"0002"])).nlink == 0
        assert (await mount.fs.getattr(inos[b"0003"])).nlink == 0


class Watcher:
    """Holds what the kernel would, and knows each name's number and version."""

    def __init__(self, mount: Little) -> None:
        self.mount = mount
        self.counts: Counter[int] = Counter()

    async def list(self) -> dict[bytes, tuple[int, int]]:
        told = [entry for entry in await self.mount.told_all(ROOT) if entry.ino != ROOT]
        self.counts.update(entry.ino for entry in told)
        assert len({entry.name for entry in told}) == len(told) == len({entry.ino for entry in told})
        return {entry.name: (entry.ino, entry.size) for entry in told}

    async def look_up(self, name: str) -> tuple[int, int] | None:
        try:
            stat = await self.mount.fs.lookup(ROOT, name.encode())
        except NoSuchFile:
            return None
        self.counts[stat.ino] += 1
        return stat.ino, stat.size

    def forget(self, ino: int, count: int) -> None:
        self.counts[ino] -= count
        if not self.counts[ino]:
            del self.counts[ino]
        self.mount.fs.forget([(ino, count)])

    def check(self) -> None:
        world = self.mount.mounted.world
        assert {ino for ino in self.counts if world.nodes.get(ino) is None} == set()


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_happens_numbers_last_as_long_as_the_kernel_holds_them(
    seed: int, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    account, bucket_id = stored(90)
    async with little(tmp_path, MemoryStore(account), settle=0.01) as mount:
        kernel = Watcher(mount)
        for step in range(120):
            name = f"{chance.randrange(100):04}"
            match chance.randrange(9):
                case 0 | 1:
                    expire(mount, bucket_id)
                case 2:
                    account.add(bucket_id, name, b"y" * (10 + step))
                case 3:
                    account.hide(bucket_id, name)
                case 4:
                    with contextlib.suppress(B2MountError):
                        await mount.fs.unlink(ROOT, name.encode())
                case 5:
                    with contextlib.suppress(B2MountError):
                        await mount.rename(name, f"{chance.randrange(100):04}")
                case 6:
                    for ino in chance.sample(sorted(kernel.counts), len(kernel.counts) // 2):
                        kernel.forget(ino, chance.randint(1, kernel.counts[ino]))
                case 7:
                    await kernel.look_up(name)
                case _:
                    await mount.flush()
            if chance.random() < 0.4:
                seen = await kernel.list()
                for looked in chance.sample(sorted(seen), min(3, len(seen))):
                    assert await kernel.look_up(looked.decode()) == seen[looked]
            kernel.check()
        await mount.flush()
        for ino, count in list(kernel.counts.items()):
            kernel.forget(ino, count)
        left = [node for node in mount.mounted.world.nodes if not isinstance(node, DirectoryNode)]
        assert [node.key for node in left if node.lookups] == []
        root = mount.mounted.world.directory(ROOT)
        assert root.runs == []
