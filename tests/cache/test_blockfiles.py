"""Bytes past the page cache and through it: always those that were written, whatever holds them."""

import errno
import fcntl
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b2mount.cache import blockfiles
from b2mount.cache.buffers import MIB, Areas

BLOCK = 128 << 10
LONGEST = 3 * MIB
PATTERN = bytes(range(251)) * (4 * MIB // 251)
PIECES = st.lists(
    st.tuples(st.integers(0, 16), st.integers(1, LONGEST), st.booleans()), min_size=1, max_size=5
)


def drop_from_page_cache(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fdatasync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


@given(PIECES, st.integers(0, 20), st.integers(1, LONGEST), st.booleans())
@settings(max_examples=25, deadline=None)
def test_what_was_written_one_way_is_read_the_other(
    tmp_path_factory: pytest.TempPathFactory,
    pieces: list[tuple[int, int, bool]],
    block: int,
    size: int,
    is_dropped: bool,
) -> None:
    path, areas, expected = tmp_path_factory.mktemp("blocks") / "file", Areas(), bytearray()
    for number, (at, length, direct) in enumerate(pieces):
        data, offset = areas.take(length), at * BLOCK
        data[:] = PATTERN[number : number + length]
        blockfiles.write(path, offset, data, direct=direct)
        expected.extend(bytes(max(offset + length - len(expected), 0)))
        expected[offset : offset + length] = data
    assert path.read_bytes() == expected
    if is_dropped:
        drop_from_page_cache(path)
    buffer, offset = areas.take(size), block * BLOCK
    assert blockfiles.read(path, offset, buffer) == (offset + size <= len(expected))
    if offset + size <= len(expected):
        assert buffer == expected[offset : offset + size]


def test_a_file_half_in_the_page_cache_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(PATTERN[:LONGEST])
    drop_from_page_cache(path)
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # no more than what is asked for
        file.seek(0)
        os.read(file.fileno(), MIB + 12345)
    buffer = Areas().take(LONGEST)
    assert blockfiles.read(path, 0, buffer)
    assert buffer == PATTERN[:LONGEST]


@pytest.mark.parametrize("refused", ["flag", "transfer"])
def test_a_file_system_that_needs_the_page_cache_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    path, data, asked = tmp_path / "file", Areas().take(LONGEST), 0
    data[:] = PATTERN[:LONGEST]

    def is_direct(fd: int) -> bool:
        return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT)

    real_fcntl, real_preadv, real_pwritev = fcntl.fcntl, os.preadv, os.pwritev

    def refuse() -> None:
        nonlocal asked
        asked += 1
        raise OSError(errno.EINVAL, "not here")

    def set_flags(fd: int, command: int, flags: int = 0) -> int:
        if refused == "flag" and command == fcntl.F_SETFL and flags & os.O_DIRECT:
            refuse()
        return real_fcntl(fd, command, flags)

    def preadv(fd: int, buffers: list[memoryview], offset: int) -> int:
        if refused == "transfer" and is_direct(fd):
            refuse()
        return real_preadv(fd, buffers, offset)

    def pwritev(fd: int, buffers: list[memoryview], offset: int) -> int:
        if refused == "transfer" and is_direct(fd):
            refuse()
        return real_pwritev(fd, buffers, offset)

    monkeypatch.setattr(fcntl, "fcntl", set_flags)
    monkeypatch.setattr(os, "preadv", preadv)
    monkeypatch.setattr(os, "pwritev", pwritev)
    blockfiles.write(path, 0, data, direct=True)
    drop_from_page_cache(path)
    buffer = Areas().take(LONGEST)
    assert blockfiles.read(path, 0, buffer)
    assert buffer == PATTERN[:LONGEST]
    assert asked == 2


def test_what_the_page_cache_does_not_hold_is_not_put_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(PATTERN[:LONGEST])
    drop_from_page_cache(path)
    with path.open("rb") as file:
        if blockfiles._is_cached(file.fileno(), 0, LONGEST):
            pytest.skip("this file system keeps its files in the page cache")
        assert blockfiles.read(path, 0, Areas().take(LONGEST))
        assert not blockfiles._is_cached(file.fileno(), 0, LONGEST)


def test_a_disk_error_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_fd: int, _buffers: list[memoryview], _offset: int) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwritev", fail)
    with pytest.raises(OSError, match="full"):
        blockfiles.write(tmp_path / "file", 0, Areas().take(LONGEST), direct=True)
