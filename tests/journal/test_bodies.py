"""What small files' bytes in the journal are worth: one wait for the disk, and no less kept than by two."""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from b2mount.core.errors import LocalStorageError
from b2mount.journal import body_rows, database, drafts
from b2mount.journal.body_rows import LARGEST
from b2mount.journal.drafts import Spool
from b2mount.journal.export import export
from b2mount.journal.leftover import look
from tests.journal.lives import living, made_older, memory, shown, until

CONTENT = b"precious" * 500


def _cut(path: Path) -> None:
    os.truncate(path, 17)


def _zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


POWER_CUTS: dict[str, Callable[[Path], None]] = {"gone": Path.unlink, "cut": _cut, "zeros": _zero}
power_cuts = pytest.mark.parametrize("cut", POWER_CUTS.values(), ids=POWER_CUTS)


def bodies(directory: Path) -> int:
    """Count the rows that hold bytes."""
    db = sqlite3.connect(directory / "journal.sqlite")
    try:
        (count,) = db.execute("SELECT count(*) FROM bodies").fetchone()
        return int(count)
    finally:
        db.close()


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The spool files that the disk was waited for, by name."""
    told: list[str] = []
    sync = Spool.sync

    def noting(spool: Spool) -> bool:
        told.append(spool.path.name)
        return sync(spool)

    monkeypatch.setattr(Spool, "sync", noting)
    return told


@power_cuts
async def test_a_small_file_is_sent_whatever_a_power_cut_made_of_its_spool_file(
    tmp_path: Path, cut: Callable[[Path], None]
) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id, running=False) as life:
        op = life.put("a", CONTENT)
        await life.journal.commit()
    cut(tmp_path / "spool" / str(op.id))
    async with living(tmp_path, store, bucket_id) as life:
        assert await life.flush() == []
        assert shown(store.account, bucket_id) == {"a": CONTENT}
        await until(lambda: not list((tmp_path / "spool").iterdir()))
    assert bodies(tmp_path) == 0


@power_cuts
async def test_a_small_change_of_a_stored_file_is_sent_whatever_a_power_cut_made_of_its_spool_file(
    tmp_path: Path, cut: Callable[[Path], None]
) -> None:
    store, bucket_id = memory()
    base = store.account.add(bucket_id, "a", bytes(10_000), info={})
    async with living(tmp_path, store, bucket_id, running=False) as life:
        draft = life.draft(b"first", base, at=7)
        draft.write(9_998, b"behind")
        draft.write(5_000, b"between")
        op = life.journal.put(bucket_id, "a", draft)
        await life.journal.commit()
    cut(tmp_path / "spool" / str(op.id))
    async with living(tmp_path, store, bucket_id) as life:
        assert await life.flush() == []
    expected = bytearray(10_004)
    expected[7:12], expected[5_000:5_007], expected[9_998:10_004] = b"first", b"between", b"behind"
    assert shown(store.account, bucket_id) == {"a": bytes(expected)}


@power_cuts
async def test_an_export_has_what_a_power_cut_took_from_the_spool_and_changes_nothing(
    tmp_path: Path, cut: Callable[[Path], None]
) -> None:
    store, bucket_id = memory()
    state = tmp_path / "state"
    async with living(state, store, bucket_id, running=False) as life:
        op = life.put("file", CONTENT)
        await life.journal.commit()
    path = state / "spool" / str(op.id)
    cut(path)
    before = path.read_bytes() if path.exists() else None
    left = look(state)
    assert not left.damage
    done = export(left, tmp_path / "out", None, incomplete=False, progress=lambda _files, _size: None)
    assert not done.missing
    assert (tmp_path / "out/files" / bucket_id / "file").read_bytes() == CONTENT
    assert (path.read_bytes() if path.exists() else None) == before


async def test_the_disk_is_waited_for_once_for_a_small_file_and_twice_for_a_larger(
    tmp_path: Path, synced: list[str]
) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id, running=False) as life:
        life.put("small", bytes(LARGEST))
        await life.journal.commit()
        assert synced == []
        large = life.put("large", bytes(LARGEST + 1))
        await life.journal.commit()
        assert synced == [str(large.id)]


async def test_the_name_of_a_spool_file_is_on_the_disk_before_it_is_promised(
    tmp_path: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems have a new file's bytes on the disk before its name; small files need neither."""
    state, store_and_bucket = tmp_path, memory()
    real = drafts.sync_directory

    def noting(directory: Path) -> None:
        real(directory)
        synced.append(directory.name)
        with contextlib.closing(sqlite3.connect(state / "journal.sqlite")) as db:
            assert not {name for (name,) in db.execute("SELECT name FROM ops")} & {op.name for op in ops}

    monkeypatch.setattr(database, "sync_directory", noting)
    async with living(state, *store_and_bucket, running=False) as life:
        ops = [life.put("small", bytes(LARGEST))]
        await life.journal.commit()
        assert synced == []
        ops = [life.put(f"large{number}", bytes(LARGEST + 1)) for number in range(3)]
        await life.journal.commit()
        assert synced == [*(str(op.id) for op in ops), "spool"]
        synced.clear()
        monkeypatch.setattr(Spool, "print", lambda _spool, _ranges: None)  # as of what left it in part
        ops = [life.put("last", bytes(LARGEST + 1))]
        await life.journal.commit()
        assert synced == [str(ops[0].id), "spool"]


async def test_what_the_journal_holds_of_files_is_bounded_and_comes_free_as_they_are_sent(
    tmp_path: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_rows, "MOST", 2 * len(CONTENT))
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id, running=False) as life:
        first, _, third = (life.put(name, CONTENT) for name in ("a", "b", "c"))
        await life.journal.commit()
        assert synced == [str(third.id)]
        life.put("a", CONTENT)  # takes the place of the first
        await life.journal.commit()
        assert synced == [str(third.id)]
        assert first.successor is not None
    assert bodies(tmp_path) == 2
    async with living(tmp_path, store, bucket_id) as life:  # counted again by the next life
        fifth = life.put("d", CONTENT)
        await life.journal.commit()
        assert synced == [str(third.id), str(fifth.id)]
        assert await life.flush() == []
        life.put("e", CONTENT)
        await life.journal.commit()
        assert synced == [str(third.id), str(fifth.id)]
        assert await life.flush() == []
    assert shown(store.account, bucket_id) == dict.fromkeys("abcde", CONTENT)
    assert bodies(tmp_path) == 0


async def test_a_deleted_spool_file_of_a_small_file_is_told_where_the_bytes_cannot_be_read(
    tmp_path: Path,
) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id) as life:
        draft = life.draft(b"lost")
        draft.spool.close()
        draft.spool.path.unlink()
        life.journal.put(bucket_id, "a", draft)
        with pytest.raises(LocalStorageError):
            await life.journal.commit()


async def test_a_journal_of_the_second_format_is_read_and_sent(tmp_path: Path) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id, running=False) as life:
        life.put("a", CONTENT)
        await life.journal.commit()
    with made_older(tmp_path, 2) as db:
        db.execute("DROP TABLE bodies")
    left = look(tmp_path)
    assert [op.name for op in left.ops] == ["a"] and not left.damage
    async with living(tmp_path, store, bucket_id) as life:
        life.put("b", CONTENT)
        assert await life.flush() == []
    assert shown(store.account, bucket_id) == {"a": CONTENT, "b": CONTENT}


async def test_a_journal_of_a_later_format_is_refused(tmp_path: Path) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id, running=False):
        pass
    with sqlite3.connect(tmp_path / "journal.sqlite") as db:
        db.execute("UPDATE meta SET value = '5' WHERE key = 'format'")
    db.close()
    with pytest.raises(LocalStorageError, match="another version"):
        async with living(tmp_path, store, bucket_id):
            pass


async def test_bytes_of_no_operation_are_never_taken_for_those_of_a_later_one(tmp_path: Path) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id, running=False):
        pass
    with made_older(tmp_path, 3) as db:  # one that did not seal what it wrote
        db.executemany("INSERT INTO bodies VALUES (?, ?)", [(number, b"stray") for number in range(1, 9)])
    async with living(tmp_path, store, bucket_id, running=False) as life:
        life.put("a", bytes(LARGEST + 1))
        await life.journal.commit()
    assert bodies(tmp_path) == 0


async def test_the_log_of_writes_has_its_size_from_the_start_and_a_crash_loses_none_of_it(
    tmp_path: Path,
) -> None:
    store, bucket_id = memory()
    state, copy = tmp_path / "state", tmp_path / "copy"
    log_of_writes = state / "journal.sqlite-wal"
    names = [f"file{number}" for number in range(300)]
    async with living(state, store, bucket_id, running=False) as life:
        life.put("first", CONTENT)
        await life.journal.commit()
        size = log_of_writes.stat().st_size
        assert size >= database.LOG_SIZE
        for name in names:
            life.put(name, CONTENT)
            await life.journal.commit()
        assert log_of_writes.stat().st_size == size
        shutil.copytree(state, copy)  # what a crash at this moment leaves
    async with living(copy, store, bucket_id) as life:
        assert {op.name for op in life.left} == {"first", *names}
        assert await life.flush() == []
    assert shown(store.account, bucket_id) == dict.fromkeys(["first", *names], CONTENT)


async def test_a_journal_gives_back_what_the_bytes_took_once_all_is_sent(tmp_path: Path) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id) as life:
        for number in range(40):
            life.put(f"file{number}", bytes(LARGEST))
        await life.journal.commit()
        assert await life.flush() == []
        await until(lambda: not list((tmp_path / "spool").iterdir()))
    assert (tmp_path / "journal.sqlite").stat().st_size < 1 << 20
