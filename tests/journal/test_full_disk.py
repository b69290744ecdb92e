"""A state directory that is full or read-only: clear errors, and nothing lost that was promised."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from b2mount.core.errors import LocalStorageError, OutOfSpace
from b2mount.journal import uploader
from tests.journal.lives import Life, living, memory, shown, until

SIZE = 24 << 20  # bytes of the little disk; the journal's reserve takes a third
BLOCK = 64 << 10

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a disk of its own needs root")


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploader, "RETRY_FIRST", 0.02)
    monkeypatch.setattr(uploader, "RETRY_LAST", 0.05)


@pytest.fixture
def little_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a mounted tmpfs of `SIZE` bytes."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "b2mount-test", str(place)], capture_output=True
    )
    if made.returncode:
        pytest.skip(f"no tmpfs here: {made.stderr.decode()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


async def fill(life: Life) -> dict[str, bytes]:
    """Write files until the disk takes no more; return those that the journal has promised."""
    promised: dict[str, bytes] = {}
    for number in range(10_000):
        data = bytes([number % 251]) * BLOCK
        try:
            op = life.put(f"f{number:04}", data)
            await life.journal.commit()
        except OutOfSpace:
            return promised
        promised[op.name] = data
    raise AssertionError("the disk was never full")


async def test_a_full_disk_refuses_with_enospc_and_sends_all_that_it_took(little_disk: Path) -> None:
    store, bucket_id = memory()
    async with living(little_disk / "state", store, bucket_id, settle=600) as life:
        promised = await fill(life)
        assert len(promised) > 100
        with pytest.raises(OutOfSpace):
            life.draft(b"x" * 10 * BLOCK)
        assert await life.flush() == []
        there = shown(store.account, bucket_id)
        assert {name: there.get(name) for name in promised} == promised
        spool = little_disk / "state" / "spool"
        await until(lambda: len(list(spool.iterdir())) <= 2)  # those of the two that were refused
        after = await fill(life)  # what was sent made room
        assert len(after) > len(promised) // 2


async def test_what_a_full_disk_took_outlives_a_kill(little_disk: Path) -> None:
    store, bucket_id = memory()
    async with living(little_disk / "state", store, bucket_id, running=False) as life:
        promised = await fill(life)
    async with living(little_disk / "state", store, bucket_id) as life:
        assert {op.name for op in life.left} >= set(promised)
        assert await life.flush() == []
    there = shown(store.account, bucket_id)
    assert {name: there.get(name) for name in promised} == promised


async def test_a_disk_filled_by_others_to_the_last_block_still_lets_the_queue_empty(
    little_disk: Path,
) -> None:
    store, bucket_id = memory()
    async with living(little_disk / "state", store, bucket_id, settle=600) as life:
        promised = {f"f{number}": bytes([number]) * 1000 for number in range(50)}
        for name, data in promised.items():
            life.put(name, data)
        await life.journal.commit()
        await trio.to_thread.run_sync(take_the_rest, little_disk / "other")
        assert await life.flush() == []
        assert shown(store.account, bucket_id) == promised
    os.unlink(little_disk / "other")
    async with living(little_disk / "state", store, bucket_id) as life:
        assert life.left == []


def take_the_rest(path: Path) -> None:
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


async def test_a_read_only_state_directory_is_refused_with_its_name(little_disk: Path) -> None:
    store, bucket_id = memory()
    await trio.run_process(["mount", "-o", "remount,ro", str(little_disk)])
    for directory in (little_disk, little_disk / "state"):
        with pytest.raises(LocalStorageError, match=str(directory)):
            async with living(directory, store, bucket_id):
                pass
