"""Large files sent while they are written: what is kept, what is let go, and what a kill leaves."""

import os
from pathlib import Path

import pytest
import trio.testing

from b2mount.core import parts as core_parts
from b2mount.core.errors import AccessDenied, B2Unavailable
from b2mount.journal import streams as module
from b2mount.journal.drafts import Draft, lacking
from b2mount.store.memory import MemoryStore
from b2mount.store.store import Action
from tests.journal.lives import FILE, Life, living, memory, shown, unfinished, until
from tests.journal.test_sender import Failing

PART = 1000  # bytes of a part, here the smallest too
SPOOL = 16 * PART


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_parts, "UPLOAD_PART_SIZE", PART)
    monkeypatch.setattr(module, "RETRY_FIRST", 0.01)


async def write(life: Life, draft: Draft, data: bytes, *, pressed: bool = False) -> None:
    """Write behind what is there, as a program does that goes from one end to the other."""
    for at in range(0, len(data), 500):
        draft.write(draft.size, data[at : at + 500])
        if pressed or draft.extents.dirty_bytes >= draft.stream_at:
            life.journal.streams.offer(draft, life.bucket_id, "big", pressed=pressed)
        await trio.testing.wait_all_tasks_blocked(0.001)
    await until(lambda: settled(life, draft))  # threads sum the parts


def settled(life: Life, draft: Draft) -> bool:
    """Say whether all parts that the writer has moved on from are planned and sent, or none will be."""
    if not life.journal.streams.is_idle:
        return False
    large = draft.large
    return large is None or (
        len(large.parts) > 0 and large.has_all and draft.size < large.planned_to + 2 * PART
    )


def begun(store: MemoryStore) -> dict[int, int]:
    """Return the sizes of the parts that B2 has of the one unfinished file, by number."""
    (file,) = (file for file in store.account.files.values() if file.row.action is Action.START)
    return {number: len(data) for number, data in file.parts.items()}


async def test_parts_go_out_while_the_writer_writes_and_closing_sends_the_rest(tmp_path: Path) -> None:
    store, bucket_id = memory(minimum_part=PART)
    data = os.urandom(20_300)
    async with living(tmp_path, store, bucket_id, spool_size=SPOOL * 4) as life:
        draft = life.journal.new_draft(FILE)
        await write(life, draft, data)
        sent = begun(store)
        assert 15 <= len(sent) <= 19, "the last part is not sent before its writer has moved on"
        assert draft.large is not None and draft.large.sent_bytes == sum(sent.values())
        calls: list[str] = []
        store.account.on_call = calls.append
        op = life.journal.put(bucket_id, "big", draft)
        assert op.sent_bytes == sum(sent.values())
        await life.journal.commit()
        assert await life.flush() == []
        assert calls.count("b2_upload_part") == len(life_parts(20_300)) - len(sent)
    row = store.account.bucket(bucket_id).visible("big")
    assert row is not None and row.info["large_file_sha1"]
    assert shown(store.account, bucket_id) == {"big": data}
    assert [file.row.name for file in store.account.files.values()] == ["big"], "the interim version is gone"


def life_parts(size: int) -> list[int]:
    """Return the sizes of a stream's parts."""
    return [PART] * (size // PART - 1) + [size - (size // PART - 1) * PART]


async def test_what_b2_has_leaves_the_spool_under_pressure_alone(tmp_path: Path) -> None:
    store, bucket_id = memory(minimum_part=PART)
    data = os.urandom(12_000)
    async with living(tmp_path, store, bucket_id, spool_size=SPOOL) as life:
        draft = life.journal.new_draft(FILE)
        await write(life, draft, data)
        assert life.journal.room.used == len(data)
        await life.journal.streams.make_room(3 * PART)
        assert life.journal.room.used == len(data) - 3 * PART
        assert lacking(draft, 0, PART) is None, "the first part goes last"
        assert lacking(draft, PART, 2 * PART) is draft
        life.journal.put(bucket_id, "big", draft)
        await life.journal.commit()
        assert await life.flush() == []
        await until(lambda: life.journal.room.used == 0)
    assert shown(store.account, bucket_id) == {"big": data}


@pytest.mark.parametrize("torn", [False, True], ids=["all in the spool", "some in B2 alone"])
async def test_a_kill_after_close_goes_on_where_the_stream_was(tmp_path: Path, torn: bool) -> None:
    store, bucket_id = memory(minimum_part=PART)
    data = os.urandom(12_300)
    async with living(tmp_path, store, bucket_id, spool_size=SPOOL) as life:
        draft = life.journal.new_draft(FILE)
        await write(life, draft, data)
        if torn:
            await life.journal.streams.make_room(5 * PART)
        sent = begun(store)
        life.journal.uploader.hold(life.journal.put(bucket_id, "big", draft))
        await life.journal.commit()
    calls: list[str] = []
    store.account.on_call = calls.append
    async with living(tmp_path, store, bucket_id, spool_size=SPOOL) as life:
        assert life.journal.room.used == len(data) - (5 * PART if torn else 0)
        assert await life.flush() == []
    assert calls.count("b2_upload_part") <= 13 - len(sent) and "b2_start_large_file" not in calls
    assert shown(store.account, bucket_id) == {"big": data}
    assert unfinished(store.account) == []


async def test_a_kill_before_close_leaves_nothing_in_b2(tmp_path: Path) -> None:
    store, bucket_id = memory(minimum_part=PART)
    async with living(tmp_path, store, bucket_id, spool_size=SPOOL) as life:
        draft = life.journal.new_draft(FILE)
        await write(life, draft, bytes(9_000))
        await life.journal.streams.make_room(PART)
    assert unfinished(store.account) == ["big"]
    async with living(tmp_path, store, bucket_id, spool_size=SPOOL) as life:
        assert life.left == [] and life.journal.room.used == 0
        assert await life.flush() == []
        assert unfinished(store.account) == []
    assert shown(store.account, bucket_id) == {}


async def test_bytes_written_anew_are_sent_anew(tmp_path: Path) -> None:
    store, bucket_id = memory(minimum_part=PART)
    data = bytearray(os.urandom(9_000))
    async with living(tmp_path, store, bucket_id, spool_size=SPOOL) as life:
        draft = life.journal.new_draft(FILE)
        await write(life, draft, bytes(data))
        large = draft.large
        assert large is not None and large.may_change(1_900, 2_100)
        life.journal.database.record_parts(large, large.touch(1_900, 2_100))
        draft.write(1_900, b"x" * 200)
        data[1_900:2_100] = b"x" * 200
        await life.journal.streams.make_room(100 * PART)
        assert lacking(draft, 1_000, 3_000) is None, "what B2 has not is not let go"
        life.journal.put(bucket_id, "big", draft)
        assert await life.flush() == []
    assert shown(store.account, bucket_id) == {"big": bytes(data)}


@pytest.mark.parametrize("kind", [B2Unavailable, AccessDenied])
async def test_a_failure_at_any_call_of_a_stream_loses_nothing(
    tmp_path: Path, kind: type[B2Unavailable | AccessDenied]
) -> None:
    at, reached = 0, True
    while reached:
        at += 1
        store, bucket_id = memory(minimum_part=PART)
        data = os.urandom(7_700)
        store.account.on_call = failing = Failing(at, kind, False)
        async with living(tmp_path / str(at), store, bucket_id, spool_size=SPOOL) as life:
            draft = life.journal.new_draft(FILE)
            await write(life, draft, data)
            life.journal.put(bucket_id, "big", draft)
            await life.flush()
            reached = failing.failed
            assert await life.flush() == []
        assert shown(store.account, bucket_id) == {"big": data}
        async with living(tmp_path / str(at), store, bucket_id) as life:
            assert await life.flush() == []  # what could not be removed is removed by the next mount
        assert len(store.account.files) == 1, "one version, and no interim one"
    assert at > 10


@pytest.mark.parametrize("how", ["given up", "discarded"])
async def test_a_draft_given_up_just_after_it_was_offered_is_not_begun(tmp_path: Path, how: str) -> None:
    """A file unlinked at that moment would lose from the spool what B2 was sent, and be read no more."""
    store, bucket_id = memory(minimum_part=PART)
    async with living(tmp_path, store, bucket_id, spool_size=SPOOL) as life:
        draft = life.journal.new_draft(FILE)
        draft.write(0, bytes(9_000))
        life.journal.streams.offer(draft, bucket_id, "big")
        if how == "given up":
            life.journal.streams.give_up(draft)
        else:
            life.journal.discard(draft)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert draft.large is None and unfinished(store.account) == []


async def test_a_file_put_under_another_name_appears_there_alone(tmp_path: Path) -> None:
    store, bucket_id = memory(minimum_part=PART)
    data = os.urandom(9_000)
    async with living(tmp_path, store, bucket_id, spool_size=SPOOL) as life:
        draft = life.journal.new_draft(FILE)
        await write(life, draft, data)
        op = life.journal.put(bucket_id, "big", draft)
        assert life.journal.move(op, bucket_id, "moved")
        life.hide("big", after=[op])
        await life.journal.commit()
        assert await life.flush() == []
    assert shown(store.account, bucket_id) == {"moved": data}
    assert unfinished(store.account) == []


async def test_what_follows_a_stored_base_is_streamed_behind_a_copy_of_it(tmp_path: Path) -> None:
    store, bucket_id = memory(minimum_part=PART)
    for size in (300, 2_500):  # too small for a part, and a part of its own
        base = store.account.add(bucket_id, f"base{size}", bytes(range(250)) * (size // 250), info={})
        data = os.urandom(9_000)
        async with living(tmp_path / str(size), store, bucket_id, spool_size=SPOOL) as life:
            draft = life.journal.new_draft(FILE, base=base)
            await write(life, draft, data)
            assert len(begun(store)) > 3
            life.journal.put(bucket_id, "big", draft)
            assert await life.flush() == []
        assert shown(store.account, bucket_id)["big"] == (bytes(range(250)) * (size // 250)) + data


async def test_a_stream_waits_for_what_the_name_still_has_to_send(tmp_path: Path) -> None:
    """A large file is as old as its beginning: what was sent after that would show instead of it."""
    store, bucket_id = memory(minimum_part=PART)
    async with living(tmp_path, store, bucket_id, spool_size=SPOOL, settle=600) as life:
        life.put("big", b"earlier")
        draft = life.journal.new_draft(FILE)
        await write(life, draft, bytes(9_000))
        assert draft.large is None and unfinished(store.account) == []
