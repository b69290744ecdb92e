"""The file that holds a draft's new bytes: who reads it in one thread while another lets go of it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from b2mount.core.errors import LocalStorageError
from b2mount.journal.drafts import Spool


def is_open(path: Path) -> bool:
    """Say whether this process has a descriptor of a file."""
    return any(link.is_symlink() and link.readlink() == path for link in Path("/proc/self/fd").iterdir())


def closed_spool(path: Path) -> Spool:
    """Make a spool that was written to, and that nobody has open."""
    spool = Spool(path)
    spool.write(0, b"ours")
    assert is_open(path)
    spool.close()
    assert not is_open(path)
    return spool


def interrupted(
    real: Callable[[int, int, int], bytes], meanwhile: Callable[[], None]
) -> Callable[..., bytes]:
    """Do something else between the moment a read knows its descriptor and its system call."""

    def read(fd: int, size: int, offset: int) -> bytes:
        meanwhile()
        return real(fd, size, offset)

    return read


def test_what_is_closed_under_a_reader_is_closed_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A descriptor's number belongs to the next file that is opened, as soon as it is closed."""
    spool = Spool(tmp_path / "1")
    spool.write(0, b"ours")
    (tmp_path / "2").write_bytes(b"else")
    opened: list[int] = []

    def meanwhile() -> None:
        spool.close()
        opened.append(os.open(tmp_path / "2", os.O_RDONLY))

    monkeypatch.setattr(os, "pread", interrupted(os.pread, meanwhile))
    try:
        assert spool.read(0, 4) == b"ours"
    finally:
        for fd in opened:
            os.close(fd)
    monkeypatch.undo()
    assert not is_open(spool.path)
    assert spool.read(0, 4) == b"ours"


def test_a_spool_that_is_pinned_is_read_after_its_removal(tmp_path: Path) -> None:
    spool = closed_spool(tmp_path / "1")
    spool.pin()
    spool.remove()
    spool.close()
    assert spool.read(0, 4) == b"ours"


def test_a_spool_that_is_removed_unpinned_is_not_made_again(tmp_path: Path) -> None:
    spool = closed_spool(tmp_path / "1")
    spool.remove()
    with pytest.raises(LocalStorageError, match="gone"):
        spool.read(0, 4)
    assert not (tmp_path / "1").exists()
