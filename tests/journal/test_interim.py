"""The version that a stream makes first, with its first name and time, is gone in the end."""

import copy
import os
import shutil
from pathlib import Path

import pytest
import trio
import trio.testing

from b2mount.core import parts as core_parts
from b2mount.journal import streams as module
from b2mount.store.memory import MemoryStore
from b2mount.store.memory_account import MemoryB2
from tests.journal.lives import FILE, living, memory, shown
from tests.journal.test_streams import PART, SPOOL, write


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_parts, "UPLOAD_PART_SIZE", PART)
    monkeypatch.setattr(module, "RETRY_FIRST", 0.01)


class Moments:
    """Keeps what a kill would find before each call: the account, and the state directory."""

    def __init__(self, store: MemoryStore, directory: Path, base: Path) -> None:
        self.kept: list[tuple[str, MemoryB2, Path]] = []
        self._store = store
        self._directory = directory
        self._base = base

    def keep(self, call: str) -> None:
        """Take a copy of everything."""
        place = self._base / str(len(self.kept))
        shutil.copytree(self._directory, place)
        account = self._store.account
        listener, account.on_call = account.on_call, lambda _call: None
        try:
            self.kept.append((call, copy.deepcopy(account), place))
        finally:
            account.on_call = listener

    async def demand_one_version_each(self, bucket_id: str, name: str, data: bytes) -> None:
        """Go on from each of them; demand that *name* is all that B2 holds in the end, and whole."""
        for call, account, place in self.kept:
            async with living(place, MemoryStore(account), bucket_id) as life:
                assert await life.flush() == []
            assert shown(account, bucket_id) == {name: data}, f"killed before {call}"
            rows = [file.row for file in account.files.values()]
            assert [row.name for row in rows] == [name], f"killed before {call}: {rows}"


async def test_after_a_crash_at_any_call_one_version_is_left(tmp_path: Path) -> None:
    store, bucket_id = memory(minimum_part=PART)
    data = os.urandom(20_300)
    moments = Moments(store, tmp_path / "state", tmp_path)
    async with living(tmp_path / "state", store, bucket_id, spool_size=SPOOL * 4, settle=0) as life:
        draft = life.journal.new_draft(FILE)
        await write(life, draft, data)
        draft.written_ns = FILE.mtime_ns + 1
        op = life.journal.put(bucket_id, "big", draft)
        await life.journal.commit()
        store.account.on_call = moments.keep
        with trio.fail_after(60):
            await life.journal.uploader.wait(op)
        moments.keep("return from fsync")
        assert await life.flush() == []
    calls = [call for call, _, _ in moments.kept]
    assert "b2_copy_file" in calls and "b2_delete_file_version" in calls
    await moments.demand_one_version_each(bucket_id, "big", data)
