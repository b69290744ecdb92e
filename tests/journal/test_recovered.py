"""What a journal does with changes that an earlier life left: it sends them, and hides nobody else's work."""

import time
from pathlib import Path

import pytest

from b2mount.core.errors import Conflict, LocalStorageError
from b2mount.journal.journal import Journal
from b2mount.journal.ops import State
from tests.journal.lives import living, memory, shown


async def test_a_removal_left_unsent_is_sent(tmp_path: Path) -> None:
    store, bucket_id = memory()
    store.account.add(bucket_id, "file", b"old")
    async with living(tmp_path, store, bucket_id, running=False) as life:
        life.hide("file")
        await life.journal.commit()
    async with living(tmp_path, store, bucket_id) as life:
        assert await life.flush() == []
    assert shown(store.account, bucket_id) == {}


async def test_a_removal_left_unsent_spares_what_somebody_else_wrote_since(tmp_path: Path) -> None:
    store, bucket_id = memory()
    store.account.add(bucket_id, "file", b"old")
    async with living(tmp_path, store, bucket_id, running=False) as life:
        life.hide("file")
        await life.journal.commit()
    store.account.now_ms = lambda: int(time.time() * 1000) + 60_000  # the next life comes a minute later
    store.account.add(bucket_id, "file", b"by somebody else")
    async with living(tmp_path, store, bucket_id) as life:
        assert [type(error) for error in await life.flush()] == [Conflict]
        assert life.refused == ["file"]
        await life.journal.commit()
    assert shown(store.account, bucket_id) == {"file": b"by somebody else"}
    async with living(tmp_path, store, bucket_id) as life:
        assert life.left == []


async def test_a_removal_takes_the_version_it_was_to_take_whatever_the_clock_said(tmp_path: Path) -> None:
    store, bucket_id = memory()
    known = store.account.add(bucket_id, "file", b"old")
    async with living(tmp_path, store, bucket_id, running=False) as life:
        life.journal.server_ms = lambda: 1_600_000_000_000  # years behind
        life.journal.shows = lambda _bucket_id, _name: known.file_id
        life.hide("file")
        await life.journal.commit()
    async with living(tmp_path, store, bucket_id) as life:
        assert await life.flush() == []
    assert shown(store.account, bucket_id) == {}


async def test_a_removal_behind_an_upload_of_our_own_is_sent_however_late_that_was(tmp_path: Path) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id, running=False) as life:
        op = life.put("file", b"ours")
        op.state = State.SENDING  # so that the removal does not take its place
        life.hide("file")
        await life.journal.commit()
    store.account.now_ms = lambda: int(time.time() * 1000) + 60_000
    store.account.add(bucket_id, "file", b"ours", info={"src_last_modified_millis": "1600000000123"})
    async with living(tmp_path, store, bucket_id) as life:
        assert await life.flush() == []
    assert shown(store.account, bucket_id) == {}


async def test_a_spool_without_its_journal_is_not_swept_away(tmp_path: Path) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id, running=False) as life:
        life.put("file", b"precious")
        await life.journal.commit()
    (tmp_path / "journal.sqlite").unlink()
    for _ in range(2):
        with pytest.raises(LocalStorageError, match="recover"):
            Journal(tmp_path)
    assert [path.read_bytes() for path in (tmp_path / "spool").iterdir()] == [b"precious"]
