"""What the journal promises, and keeps through a crash: in order, and nothing dropped that is built on."""

import contextlib
import shutil
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from b2mount.core.errors import LocalStorageError, NotPermitted
from b2mount.journal import uploader
from b2mount.journal.body_rows import LARGEST
from b2mount.journal.drafts import Spool
from b2mount.journal.ops import State
from b2mount.store.memory import MemoryStore
from tests.journal.lives import living, memory, shown


@pytest.fixture(autouse=True)
def no_retries_but_those_of_a_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploader, "RETRY_FIRST", 600.0)


async def upload(store: MemoryStore, bucket_id: str, name: str, data: bytes) -> str:
    return store.account.add(bucket_id, name, data).file_id


async def test_a_put_shows_in_the_bucket_with_its_bytes_and_times(tmp_path: Path) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id) as life:
        life.put("a", b"hello")
        await life.journal.commit()
        assert await life.flush() == []
        assert shown(store.account, bucket_id) == {"a": b"hello"}
    async with living(tmp_path, store, bucket_id) as life:
        assert life.left == []
        assert not list((tmp_path / "spool").iterdir())
    row = store.account.bucket(bucket_id).visible("a")
    assert row is not None and row.info["src_last_modified_millis"] == "1600000000123"


async def test_what_a_kill_left_is_sent_by_the_next_life(tmp_path: Path) -> None:
    store, bucket_id = memory()
    await upload(store, bucket_id, "old", b"old")
    async with living(tmp_path, store, bucket_id, running=False) as life:
        first = life.put("a", b"one")
        life.hide("old", after=[first])
        await life.journal.commit()
    async with living(tmp_path, store, bucket_id) as life:
        assert [(op.kind.value, op.name) for op in life.left] == [("put", "a"), ("hide", "old")]
        assert await life.flush() == []
        assert life.done == ["put a", "hide old"]
    assert shown(store.account, bucket_id) == {"a": b"one"}


async def test_after_a_crash_a_newer_change_still_comes_after_a_moved_one(tmp_path: Path) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id, running=False) as life:
        op = life.put("a", b"old content")
        for name in ("b", "c", "d", "e"):
            assert life.journal.move(op, bucket_id, name)
        await life.journal.commit()
    async with living(tmp_path, store, bucket_id, running=False) as life:
        life.left[0].state = State.SENDING  # on its way when the newer one is written
        life.put("e", b"new content")
        await life.journal.commit()
    async with living(tmp_path, store, bucket_id) as life:
        assert await life.flush() == []
    assert shown(store.account, bucket_id) == {"e": b"new content"}


async def test_after_a_crash_a_hide_still_waits_for_a_put_that_moved_on(tmp_path: Path) -> None:
    store, bucket_id = memory()
    await upload(store, bucket_id, "a", b"base bytes")
    base = store.account.bucket(bucket_id).visible("a")
    async with living(tmp_path, store, bucket_id, running=False, hard_delete=True) as life:
        op = life.journal.put(bucket_id, "b", life.draft(base=base))
        life.hide("a", after=[op])
        assert life.journal.move(op, bucket_id, "c")
        await life.journal.commit()
    async with living(tmp_path, store, bucket_id, hard_delete=True, width=1) as life:
        assert await life.flush() == []
        assert life.done == ["put c", "hide a"]
    assert shown(store.account, bucket_id) == {"c": b"base bytes"}


async def test_ids_of_done_operations_mean_nothing_in_a_later_life(tmp_path: Path) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id, running=False) as life:
        kept = life.put("kept", b"1")
        gone = life.put("gone", b"2")
        kept.after.add(gone.id)
        life.journal.database.record(kept)
        life.journal.database.forget(gone)
        await life.journal.commit()
    async with living(tmp_path, store, bucket_id, running=False) as life:
        assert life.left[0].after == set()


async def test_hard_deletion_waits_for_what_took_the_place_of_a_renamed_file(tmp_path: Path) -> None:
    """mv a b, then append to b: the bytes of a go only when the new b is there."""
    store, bucket_id = memory()
    await upload(store, bucket_id, "a", b"0123456789")
    base = store.account.bucket(bucket_id).visible("a")
    async with living(tmp_path, store, bucket_id, hard_delete=True, width=1) as life:
        renamed = life.journal.put(bucket_id, "b", life.draft(base=base))
        hidden = life.hide("a", after=[renamed])
        appended = life.draft(b"xyz", base=renamed.draft, at=10)
        await life.journal.flatten(appended)
        again = life.journal.put(bucket_id, "b", appended)
        await life.journal.commit()
        assert renamed.state is State.DROPPED
        assert hidden is not None
        assert await life.flush() == []
        assert hidden.finished.is_set() and again.finished.is_set()
        assert life.done == ["put b", "hide a"]
    assert shown(store.account, bucket_id) == {"b": b"0123456789xyz"}


async def test_a_hide_that_a_put_replaced_is_sent_after_all_when_the_put_is_undone(tmp_path: Path) -> None:
    """rm a; touch a; rm a: B2 still shows the first a, whatever the listing said."""
    store, bucket_id = memory()
    await upload(store, bucket_id, "a", b"first")
    async with living(tmp_path, store, bucket_id, settle=60) as life:
        life.hide("a", exists=True)
        life.put("a", b"second")
        assert life.hide("a", exists=False) is not None
        assert await life.flush() == []
        assert shown(store.account, bucket_id) == {}


async def test_a_put_that_moved_away_leaves_the_hide_it_had_replaced(tmp_path: Path) -> None:
    store, bucket_id = memory()
    await upload(store, bucket_id, "a", b"first")
    async with living(tmp_path, store, bucket_id, settle=60) as life:
        life.hide("a", exists=True)
        op = life.put("a", b"second")
        assert life.journal.move(op, bucket_id, "b")
        life.hide("a", exists=False, after=[op])
        assert await life.flush() == []
        assert shown(store.account, bucket_id) == {"b": b"second"}


async def test_a_new_file_that_is_removed_before_it_was_sent_costs_no_call(tmp_path: Path) -> None:
    store, bucket_id = memory()
    calls: list[str] = []
    store.account.on_call = calls.append
    async with living(tmp_path, store, bucket_id, settle=60) as life:
        for _ in range(3):
            life.put("a", b"x")
            assert life.hide("a", exists=False) is None
        assert await life.flush() == []
    assert calls == []


async def test_flatten_is_harmless_when_the_base_is_dropped_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, bucket_id = memory()
    go_on = threading.Event()
    copy = Spool.copy_range_from

    def slowly(self: Spool, other: Spool, start: int, end: int) -> None:
        assert go_on.wait(60)
        copy(self, other, start, end)

    monkeypatch.setattr(Spool, "copy_range_from", slowly)
    async with living(tmp_path, store, bucket_id, settle=60) as life:
        first = life.put("a", b"0123456789")
        second = life.draft(b"y", base=first.draft, at=5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(life.journal.flatten, second)
            await trio.testing.wait_all_tasks_blocked(0.05)
            life.hide("a", exists=False)
            go_on.set()
        assert first.state is State.DROPPED


async def test_flattened_drafts_hold_what_both_wrote(tmp_path: Path) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id, settle=60) as life:
        first = life.put("a", b"0123456789")
        second = life.draft(b"AB", base=first.draft, at=4)
        second.resize(7)
        second.resize(9)
        await life.journal.flatten(second)
        life.journal.put(bucket_id, "a", second)
        assert first.state is State.DROPPED
        assert await life.flush() == []
        assert shown(store.account, bucket_id) == {"a": b"0123AB6\0\0"}
        assert life.done == ["put a"]


async def test_a_draft_over_one_being_sent_is_sent_after_it(tmp_path: Path) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id, settle=60) as life:
        drafts = [life.draft(b"first.....")]
        first = life.journal.put(bucket_id, "a", drafts[0])
        first.state = State.SENDING  # so nothing may take its place
        for number in range(1, 4):
            drafts.append(life.draft(b"%d" % number, base=drafts[-1], at=number))
            await life.journal.flatten(drafts[-1])
            life.journal.put(bucket_id, "a", drafts[-1])
        first.state = State.QUEUED
        assert await life.flush() == []
        assert shown(store.account, bucket_id) == {"a": b"f123t....."}


async def test_a_superseded_draft_that_another_name_builds_on_is_sent(tmp_path: Path) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id, settle=60) as life:
        first = life.put("a", b"shared")
        life.journal.put(bucket_id, "b", life.draft(base=first.draft))
        life.put("a", b"other")
        assert await life.flush() == []
        assert shown(store.account, bucket_id) == {"a": b"other", "b": b"shared"}


async def test_a_refused_removal_tells_who_waits_and_lets_the_rest_go_on(tmp_path: Path) -> None:
    store, bucket_id = memory()
    await upload(store, bucket_id, "a", b"kept")

    def refuse(call: str) -> None:
        if call == "b2_hide_file":
            raise NotPermitted("no")

    store.account.on_call = refuse
    async with living(tmp_path, store, bucket_id, settle=60) as life:
        op = life.hide("a")
        assert op is not None
        later = life.put("b", b"after it", after=[op])
        with pytest.raises(NotPermitted):
            await life.journal.uploader.wait(op)
        with pytest.raises(NotPermitted):
            await life.journal.uploader.wait(op)
        assert [type(failure.error) for failure in await life.journal.uploader.wait_all([op])] == [
            NotPermitted
        ]
        await life.journal.uploader.wait(later)
        assert life.refused == ["a"]
    assert shown(store.account, bucket_id) == {"a": b"kept", "b": b"after it"}
    async with living(tmp_path, store, bucket_id) as life:
        assert life.left == []


async def test_a_second_mount_of_the_scope_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id):
        with pytest.raises(LocalStorageError, match="another mount"):
            async with living(tmp_path, store, bucket_id):
                raise AssertionError("two journals in one place")
    async with living(tmp_path, store, bucket_id):
        pass


@pytest.mark.parametrize("name", ["lock", "reserve"])
async def test_no_link_in_the_state_directory_leads_to_another_file(tmp_path: Path, name: str) -> None:
    store, bucket_id = memory()
    state = tmp_path / "state"
    state.mkdir()
    other = tmp_path / "other"
    other.write_text("as it was")
    (state / name).symlink_to(other)
    with pytest.raises(LocalStorageError) if name == "lock" else contextlib.nullcontext():
        async with living(state, store, bucket_id):
            pass
    assert other.read_text() == "as it was"


@pytest.mark.parametrize("damage", ["not a database at all" * 100, ""])
async def test_a_damaged_journal_is_refused_and_lets_go_of_its_lock(tmp_path: Path, damage: str) -> None:
    store, bucket_id = memory()
    path = tmp_path / "journal.sqlite"
    path.write_text(damage)
    if damage:
        with pytest.raises(LocalStorageError, match=r"journal\.sqlite"):
            async with living(tmp_path, store, bucket_id):
                pass
        path.unlink()
    async with living(tmp_path, store, bucket_id) as life:
        assert life.left == []


@pytest.mark.parametrize("column", ["extents", "base_op", "after", "info", "kind"])
async def test_rows_that_nobody_wrote_are_refused_with_a_sentence(tmp_path: Path, column: str) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id, running=False) as life:
        life.put("a", b"1")
        await life.journal.commit()
    with sqlite3.connect(tmp_path / "journal.sqlite") as db:
        db.execute(f"UPDATE ops SET {column}=?", (77 if column == "base_op" else "[rubbish",))
    db.close()
    with pytest.raises(LocalStorageError, match="damaged"):
        async with living(tmp_path, store, bucket_id):
            pass


@pytest.mark.parametrize("keep", [None, 3])
async def test_a_lost_or_cut_spool_file_is_never_sent_as_zeros(tmp_path: Path, keep: int | None) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id, running=False) as life:
        op = life.put("a", bytes(LARGEST) + b"0123456789")
        other = life.put("b", b"fine")
        await life.journal.commit()
    path = tmp_path / "spool" / str(op.id)
    if keep is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:keep])
    async with living(tmp_path, store, bucket_id) as life:
        failures = await life.flush()
        assert [type(failure) for failure in failures] == [LocalStorageError]
        assert shown(store.account, bucket_id) == {"b": b"fine"}
        assert [left.name for left in life.journal.queue.ops.values()] == ["a"]
    assert other.name == "b"


async def test_a_deleted_spool_file_hurts_nobody_else(tmp_path: Path) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id, settle=60) as life:
        draft = life.draft(b"lost")
        draft.spool.close()
        draft.spool.path.unlink()
        life.journal.put(bucket_id, "a", draft)
        with pytest.raises(LocalStorageError):
            await life.journal.commit()
        life.put("b", b"fine")
        await life.journal.commit()
        assert [type(failure) for failure in await life.flush()] == [LocalStorageError]
        assert shown(store.account, bucket_id) == {"b": b"fine"}


async def test_attributes_changed_while_queued_are_sent_and_survive(tmp_path: Path) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id, running=False) as life:
        op = life.put("a", b"1")
        assert op.draft is not None
        op.draft.attributes = replace(op.draft.attributes, mode=0o640, mtime_ns=5_000_000_000)
        life.journal.update(op)
        await life.journal.commit()
    shutil.copytree(tmp_path, tmp_path.with_name("copy"))
    for directory in (tmp_path, tmp_path.with_name("copy")):
        async with living(directory, store, bucket_id) as life:
            (again,) = life.left
            assert again.draft is not None and again.draft.attributes.mode == 0o640
            assert await life.flush() == []
        row = store.account.bucket(bucket_id).visible("a")
        assert row is not None and row.info["src_last_modified_millis"] == "5000"
