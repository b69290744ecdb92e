"""The journal over the real adapter and a server: what a lost reply or a kill leaves in the bucket."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from b2mount.journal.large import LargeFiles
from b2mount.journal.sender import Sender
from b2mount.store.b2 import B2Store
from b2mount.store.backoff import Backoff
from b2mount.store.retry import RetryingStore
from tests.contract.worlds import Key
from tests.journal.lives import FILE, living
from tests.support.emulator import Emulator


@pytest.fixture
async def store(emulator: Emulator) -> AsyncIterator[RetryingStore]:
    inner = B2Store(Key(emulator.master_key_id, emulator.master_key), endpoint=emulator.url)
    yield RetryingStore(
        inner,
        io_timeout=120.0,
        server_ms=inner.server_ms,
        backoff=lambda: Backoff(0.02),
        counters=inner.counters,
    )
    await inner.aclose()


async def bucket_id_of(store: RetryingStore, bucket: str) -> str:
    await store.authorize()
    (row,) = await store.list_buckets(name=bucket)
    return row.bucket_id


async def test_a_lost_reply_makes_no_second_version(
    tmp_path: Path, emulator: Emulator, bucket: str, store: RetryingStore
) -> None:
    bucket_id = await bucket_id_of(store, bucket)
    async with living(tmp_path, store, bucket_id) as life:
        emulator.fault(call="b2_upload_file", kind="drop_after", times=1)
        life.put("a", b"content")
        assert await life.flush() == []
        emulator.fault(call="b2_hide_file", kind="drop_after", times=1)
        life.hide("a")
        assert await life.flush() == []
    assert [row["action"] for row in emulator.list_versions(bucket)] == ["hide", "upload"]


@pytest.mark.parametrize("begins_with", [b"", b"stored: "], ids=["new", "changed"])
async def test_a_kill_after_the_upload_makes_no_second_version(
    tmp_path: Path, emulator: Emulator, bucket: str, store: RetryingStore, begins_with: bytes
) -> None:
    bucket_id = await bucket_id_of(store, bucket)
    base = None
    if begins_with:
        emulator.upload(bucket, "a", begins_with)
        (base,) = (await store.list_names(bucket_id, "a")).rows
    before = len(emulator.list_versions(bucket))
    async with living(tmp_path, store, bucket_id, running=False) as life:
        op = life.journal.put(bucket_id, "a", life.draft(b"content", base, at=len(begins_with)))
        op.sent_before = True  # the attempt had begun ...
        life.journal.database.record(op)
        await life.journal.commit()
        large = LargeFiles(store, life.journal.database, life.journal.room.tell)
        sender = Sender(store, large, new_id=life.journal.new_id, hard_delete=False, info_limits={})
        sent = await sender.send(op)  # ... and B2 has carried it out
        assert sent is not None
    async with living(tmp_path, store, bucket_id) as life:
        assert [left.name for left in life.left] == ["a"]
        assert await life.flush() == []
    assert emulator.download(bucket, "a") == begins_with + b"content"
    assert len(emulator.list_versions(bucket)) == before + 1


async def test_hundreds_of_small_changes_arrive_in_any_order_but_their_own(
    tmp_path: Path, emulator: Emulator, bucket: str, store: RetryingStore
) -> None:
    bucket_id = await bucket_id_of(store, bucket)
    async with living(tmp_path, store, bucket_id, width=16) as life:
        for number in range(300):
            op = life.put(f"new/{number}", b"%d" % number)
            life.hide(f"old/{number}", after=[op], exists=False)
            if number % 3 == 0:
                life.journal.move(op, bucket_id, f"moved/{number}")
        await life.journal.commit()
        assert await life.flush() == []
    names = {row["fileName"] for row in emulator.list_names(bucket)}
    assert names == {f"moved/{n}" if n % 3 == 0 else f"new/{n}" for n in range(300)}


async def test_a_kill_after_a_truncation_inside_b2_makes_no_second_version(
    tmp_path: Path, emulator: Emulator, bucket: str, store: RetryingStore
) -> None:
    bucket_id = await bucket_id_of(store, bucket)
    emulator.upload(bucket, "a", b"stored" * 1000)
    (base,) = (await store.list_names(bucket_id, "a")).rows
    async with living(tmp_path, store, bucket_id, running=False) as life:
        draft = life.journal.new_draft(replace(FILE, ctime_ns=FILE.mtime_ns), base=base)
        draft.resize(3000)
        op = life.journal.put(bucket_id, "a", draft)
        life.journal.database.mark_begun(op)
        await life.journal.commit()
        large = LargeFiles(store, life.journal.database, life.journal.room.tell)
        sender = Sender(store, large, new_id=life.journal.new_id, hard_delete=False, info_limits={})
        assert await sender.send(op) is not None
    async with living(tmp_path, store, bucket_id) as life:
        assert await life.flush() == []
    assert emulator.download(bucket, "a") == b"stored" * 500
    assert len(emulator.list_versions(bucket)) == 2
