"""The disk cache's own bounds: how many versions it takes note of, and what a restart finds."""

from pathlib import Path

import pytest

from b2mount.cache import disk
from b2mount.cache.disk import DiskCache

BLOCK = 1000


def keep(cache: DiskCache, file_id: str, data: bytes = b"x" * 10) -> None:
    version = cache.make_room(file_id, len(data), len(data))
    assert version is not None
    cache.note(version, 0, cache.write(version, 0, memoryview(data), direct=False))
    cache.release(len(data))


def files(directory: Path) -> int:
    return len(list(directory.glob("*.blocks")))


def test_the_version_used_least_recently_leaves_when_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "MOST_VERSIONS", 3)
    cache = DiskCache(tmp_path, 10**9, BLOCK)
    for file_id in "abc":
        keep(cache, file_id)
    cache.use("a")
    keep(cache, "a", b"y" * 10)  # what is here already takes no other's place
    assert [cache.has(file_id, 0) for file_id in "abc"] == [True, True, True]
    keep(cache, "d")
    assert [cache.has(file_id, 0) for file_id in "abcd"] == [True, False, True, True]
    assert files(tmp_path) == 3
    assert cache.used_bytes == 30
    cache.close()


def test_a_restart_keeps_no_more_versions_than_are_taken_note_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = DiskCache(tmp_path, 10**9, BLOCK)
    for file_id in "abcde":
        keep(cache, file_id)
    cache.close()
    monkeypatch.setattr(disk, "MOST_VERSIONS", 2)
    again = DiskCache(tmp_path, 10**9, BLOCK)
    assert [again.has(file_id, 0) for file_id in "de"] == [True, True]
    assert again.used_bytes == 20
    assert files(tmp_path) == 2
    again.close()


def test_a_restart_deletes_blocks_that_no_version_claims_and_forgets_versions_without_blocks(
    tmp_path: Path,
) -> None:
    cache = DiskCache(tmp_path, 10**9, BLOCK)
    for file_id in "ab":
        keep(cache, file_id)
    lost = cache.use("a")
    assert lost is not None
    lost.path.unlink()
    cache.close()
    (tmp_path / ("0" * 32 + ".blocks")).write_bytes(b"unknown")
    again = DiskCache(tmp_path, 10**9, BLOCK)
    assert [again.use(file_id) is not None for file_id in "ab"] == [False, True]
    assert files(tmp_path) == 1
    again.close()
