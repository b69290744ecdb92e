"""What a journal does with changes that an earlier life left: it sends them, and hides nobody else's work."""

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from b2mount.core.errors import B2Unavailable, Conflict, LocalStorageError
from b2mount.core.posix import to_info
from b2mount.journal.journal import Journal
from b2mount.journal.ops import State
from b2mount.journal.uploader import Uploader
from b2mount.store.memory import MemoryStore
from b2mount.store.store import FileVersion
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


async def test_a_change_is_known_to_be_sent_also_when_what_it_was_made_of_is_gone(tmp_path: Path) -> None:
    """A full disk: the removal of what a change was made of went before the journal knew of the change."""
    store, bucket_id = memory()
    store.account.add(bucket_id, "old", b"0123456789")
    base = store.account.bucket(bucket_id).visible("old")
    assert base is not None
    async with living(tmp_path, store, bucket_id, running=False) as life:
        op = life.journal.put(bucket_id, "new", life.draft(b"xyz", base=base, at=10))
        assert op.draft is not None
        info = to_info(op.draft.attributes, {}, file_name="new")
        await life.journal.commit()
    sent = store.account.add(bucket_id, "new", b"0123456789xyz", info=info)
    await store.delete_version("old", base.file_id)
    async with living(tmp_path, store, bucket_id) as life:
        assert await life.flush() == []
    newest = store.account.bucket(bucket_id).visible("new")
    assert newest is not None
    assert newest.file_id == sent.file_id


class Deaf(MemoryStore):
    """Copies, and never hears that B2 did."""

    async def copy_file(self, source_id: str, bucket_id: str, name: str, **options: Any) -> FileVersion:
        await super().copy_file(source_id, bucket_id, name, **options)
        raise B2Unavailable(f"{name}: no answer in time")


async def test_a_copy_that_was_made_although_no_answer_came_is_not_made_again(tmp_path: Path) -> None:
    store, bucket_id = memory()
    store.account.add(bucket_id, "a", b"0123456789")
    base = store.account.bucket(bucket_id).visible("a")
    async with living(tmp_path, Deaf(store.account), bucket_id) as life:
        life.journal.put(bucket_id, "b", life.draft(base=base))
        for _ in range(3):
            await life.flush()
        assert life.done == ["put b"]
    assert [row.name for row in store.account.bucket(bucket_id).versions_from("")] == ["a", "b"]


class Copying(MemoryStore):
    """Copies a directory each time that a version is deleted: what a kill at that moment would leave."""

    def __init__(self, inner: MemoryStore, directory: Path, copy: Path) -> None:
        super().__init__(inner.account)
        self.directory = directory
        self.copy = copy

    async def delete_version(self, name: str, file_id: str, *, bypass_governance: bool = False) -> None:
        shutil.copytree(self.directory, self.copy)
        await super().delete_version(name, file_id, bypass_governance=bypass_governance)


async def test_the_journal_knows_what_a_removal_waited_for_before_it_deletes(tmp_path: Path) -> None:
    """mv a b, append to b, and kills: nothing is left to be made of what was deleted."""
    store, bucket_id = memory()
    store.account.add(bucket_id, "a", b"0123456789")
    base = store.account.bucket(bucket_id).visible("a")
    here, killed = tmp_path / "here", tmp_path / "killed"
    async with living(here, store, bucket_id, running=False, hard_delete=True) as life:
        renamed = life.journal.put(bucket_id, "b", life.draft(base=base))
        hidden = life.hide("a", after=[renamed])
        assert hidden is not None
        life.journal.database.mark_begun(hidden)  # tried in vain, before the append
        appended = life.draft(b"xyz", base=renamed.draft, at=10)
        await life.journal.flatten(appended)
        life.journal.put(bucket_id, "b", appended)
        await life.journal.commit()
    copying = Copying(store, here, killed)
    async with living(here, copying, bucket_id, hard_delete=True) as life:
        assert await life.flush() == []
    assert shown(store.account, bucket_id) == {"b": b"0123456789xyz"}
    async with living(killed, store, bucket_id, running=False, hard_delete=True) as life:
        assert [op.name for op in life.left] == ["a"]


async def test_a_removal_marked_ahead_of_what_it_came_to_wait_for_goes_after_it_in_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mv a b, the removal marked beside another's attempt, append to b: the append is struck off first."""

    async def idle(_uploader: Uploader) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(Uploader, "_let_spools_go", idle)  # its commit may well come later
    store, bucket_id = memory()
    store.account.add(bucket_id, "a", b"0123456789")
    base = store.account.bucket(bucket_id).visible("a")
    here, killed = tmp_path / "here", tmp_path / "killed"
    copying = Copying(store, here, killed)
    async with living(here, copying, bucket_id, hard_delete=True) as life:
        renamed = life.journal.put(bucket_id, "b", life.draft(base=base))
        hidden = life.hide("a", after=[renamed])
        assert hidden is not None
        life.journal.database.mark_begun(hidden)
        appended = life.draft(b"xyz", base=renamed.draft, at=10)
        await life.journal.flatten(appended)
        life.journal.put(bucket_id, "b", appended)
        await life.journal.commit()
        assert await life.flush() == []
    assert shown(store.account, bucket_id) == {"b": b"0123456789xyz"}
    async with living(killed, store, bucket_id, running=False, hard_delete=True) as life:
        assert [op.name for op in life.left] == ["a"]


@pytest.mark.parametrize("known", ["", None])
async def test_a_file_renamed_away_and_back_is_there_after_a_kill(tmp_path: Path, known: str | None) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id) as life:
        life.journal.shows = lambda _bucket_id, _name: known
        first = life.put("file", b"precious")
        assert await life.flush() == []
        moved = life.rename(first, "other")
        assert await life.flush() == []
        life.rename(moved, "file")  # and killed before this is sent
        await life.journal.commit()
    async with living(tmp_path, store, bucket_id) as life:
        assert len(life.left) == 2
        assert await life.flush() == []
    assert shown(store.account, bucket_id) == {"file": b"precious"}


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
