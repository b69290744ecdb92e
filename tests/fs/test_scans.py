"""What is fetched ahead of programs that read one file after the other, and of those that do not."""

import os
import random
from pathlib import Path

import pytest

from b2mount.store.memory import MemoryStore
from tests.fs.worlds import ROOT, Little, little
from tests.journal.lives import memory

FILES = 40
DIRECTORIES = 6


def stored(directories: int = DIRECTORIES, files: int = FILES) -> MemoryStore:
    plain, bucket_id = memory()
    for number in range(directories):
        for file in range(files):
            plain.account.add(bucket_id, f"{number:03}/{file:03}", b"%d %d" % (number, file))
    return MemoryStore(plain.account)


async def read(mount: Little, number: int, file: int) -> None:
    directory = (await mount.fs.lookup(ROOT, b"%03d" % number)).ino
    ino = (await mount.fs.lookup(directory, b"%03d" % file)).ino
    handle = mount.fs.open(ino, os.O_RDONLY)
    now = mount.fs.files.read_now(handle, 0, 4096)
    data = now if now is not None else await mount.fs.files.read(handle, 0, 4096)
    assert data == b"%d %d" % (number, file)
    await mount.fs.files.release(handle)


async def listed(mount: Little, number: int) -> None:
    await mount.told_all((await mount.fs.lookup(ROOT, b"%03d" % number)).ino)


@pytest.mark.parametrize("readers", [1, 3, 8])
async def test_several_readers_of_a_directory_at_once_are_one_scan(readers: int, tmp_path: Path) -> None:
    order = list(range(FILES))
    chance = random.Random(readers)
    for at in range(0, FILES, readers):  # each group of as many comes in an order of its own
        group = order[at : at + readers]
        chance.shuffle(group)
        order[at : at + readers] = group
    async with little(tmp_path, stored()) as mount:
        await listed(mount, 0)
        for file in order:
            await read(mount, 0, file)
        scans = mount.fs.files.scans
        assert scans.hits >= FILES - 2 * readers
        assert scans.unread == 0


async def test_a_scan_goes_on_in_the_next_directory_with_its_first_file(tmp_path: Path) -> None:
    async with little(tmp_path, stored()) as mount:
        for number in range(DIRECTORIES):
            await listed(mount, number)
            for file in range(FILES):
                await read(mount, number, file)
        scans = mount.fs.files.scans
        # of the first directory two files are the sign, of the second one its first
        assert scans.hits == FILES - 2 + FILES - 1 + (DIRECTORIES - 2) * FILES
        assert scans.unread == 0


async def test_a_scan_of_small_directories_waits_for_hardly_any_of_them(tmp_path: Path) -> None:
    async with little(tmp_path, stored(200, 5)) as mount:
        for number in range(200):
            await listed(mount, number)
            for file in range(5):
                await read(mount, number, file)
        scans = mount.fs.files.scans
        assert scans.hits >= 990
        assert scans.unread == 0


async def test_directories_in_another_order_than_listed_are_not_fetched_ahead(tmp_path: Path) -> None:
    order = random.Random(3).sample(range(200), 200)
    async with little(tmp_path, stored(200, 5)) as mount:
        for number in order:
            await listed(mount, number)
            for file in range(5):
                await read(mount, number, file)
        assert mount.fs.files.scans.unread <= 64


async def test_who_reads_one_directory_has_nothing_fetched_of_the_next(tmp_path: Path) -> None:
    async with little(tmp_path, stored()) as mount:
        for number in range(DIRECTORIES):
            await listed(mount, number)
        for file in range(FILES):
            await read(mount, 0, file)
        assert mount.fs.files.scans.fetched == FILES - 2


async def test_a_scan_that_ends_has_fetched_little_that_nobody_read(tmp_path: Path) -> None:
    async with little(tmp_path, stored(200, 5)) as mount:
        for number in range(100):
            await listed(mount, number)
            for file in range(5):
                await read(mount, number, file)
        assert mount.fs.files.scans.unread <= 64


async def test_the_first_file_of_each_directory_is_no_scan(tmp_path: Path) -> None:
    async with little(tmp_path, stored()) as mount:
        await listed(mount, 0)
        for file in range(FILES):
            await read(mount, 0, file)
        for number in range(1, DIRECTORIES):
            await listed(mount, number)
            await read(mount, number, 0)
        assert mount.fs.files.scans.unread < FILES  # of one guess, which was wrong


async def test_reading_backwards_or_here_and_there_fetches_nothing_ahead(tmp_path: Path) -> None:
    async with little(tmp_path, stored()) as mount:
        await listed(mount, 0)
        await listed(mount, 1)
        for file in range(FILES - 1, -1, -1):
            await read(mount, 0, file)
        for file in range(0, FILES * 7, 19):
            await read(mount, 1, file % FILES)
        assert mount.fs.files.scans.fetched == 0
