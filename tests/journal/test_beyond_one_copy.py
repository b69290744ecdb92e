"""Files larger than one b2_copy_file takes (5 GB): each copy goes in parts, none too large."""

import functools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

from b2mount.core import parts as core_parts
from b2mount.core.errors import B2Unavailable
from b2mount.core.parts import Limits, plan_parts
from b2mount.core.posix import from_info
from b2mount.journal import sender, streams
from b2mount.store.b2 import B2Store
from b2mount.store.backoff import Backoff
from b2mount.store.retry import RetryingStore
from b2mount.store.store import Action, FileVersion
from tests.contract.worlds import Key
from tests.journal.lives import FILE, Life, living, memory, shown, unfinished
from tests.journal.test_interim import Moments
from tests.journal.test_streams import write
from tests.support.emulator import Emulator

PART = 1000  # bytes; the smallest part
LIMIT = 4 * PART  # the most that one copy or one part holds
SPOOL = 64 * PART
LARGE = 25_300
LATER = FILE.mtime_ns + 1


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client know of smaller limits, and think that calls are cheap: the files are small here."""
    small = functools.partial(
        Limits, maximum_part=LIMIT, maximum_single=LIMIT, maximum_file=LIMIT * 1000, maximum_parts=10_000
    )
    for module in (sender, streams):
        monkeypatch.setattr(module, "Limits", small)
    cheap = functools.partial(plan_parts, upload_part_size=PART, call_bytes=10)
    monkeypatch.setattr(sender, "plan_parts", cheap)
    monkeypatch.setattr(core_parts, "UPLOAD_PART_SIZE", PART)
    monkeypatch.setattr(streams, "RETRY_FIRST", 0.01)


@pytest.fixture
def server(emulator: Emulator) -> Iterator[Emulator]:
    yield emulator
    emulator.settings(min_part_size=5_000_000, max_part_size=5_000_000_000)


@pytest.fixture
async def store(server: Emulator) -> AsyncIterator[RetryingStore]:
    server.settings(min_part_size=PART)
    inner = B2Store(Key(server.master_key_id, server.master_key), endpoint=server.url)
    store = RetryingStore(inner, server_ms=inner.server_ms, backoff=lambda: Backoff(0.02))
    await store.authorize()
    yield store
    await inner.aclose()


async def base_of(store: RetryingStore, server: Emulator, bucket: str, data: bytes) -> FileVersion:
    """Store a file, then have the server refuse whatever passes the limit."""
    server.upload(bucket, "base", data)
    server.settings(max_part_size=LIMIT)
    page = await store.list_names(server.bucket_id(bucket), "base")
    return page.rows[0]


async def stream(life: Life, data: bytes) -> None:
    draft = life.journal.new_draft(FILE)
    await write(life, draft, data)
    draft.written_ns = LATER
    life.journal.put(life.bucket_id, "big", draft)
    await life.journal.commit()


@pytest.mark.parametrize("change", ["appended to", "changed inside", "cut", "renamed"])
async def test_a_stored_file_above_the_limit_is_changed_by_copies_of_parts(
    tmp_path: Path, server: Emulator, bucket: str, store: RetryingStore, change: str
) -> None:
    data = bytearray(os.urandom(LARGE))
    base = await base_of(store, server, bucket, bytes(data))
    async with living(tmp_path, store, server.bucket_id(bucket)) as life:
        draft = life.journal.new_draft(FILE, base=base)
        if change == "appended to":
            draft.write(LARGE, b"more")
            data += b"more"
        elif change == "changed inside":
            draft.write(12_345, b"other")
            data[12_345:12_350] = b"other"
        elif change == "cut":
            draft.resize(LARGE - 700)
            del data[LARGE - 700 :]
        server.reset_counters()
        life.journal.put(server.bucket_id(bucket), "new", draft)
        assert await life.flush() == []
        calls = server.counters()["calls"]
    assert server.download(bucket, "new") == data
    assert calls["b2_copy_part"] >= LARGE // LIMIT and "b2_copy_file" not in calls


async def test_a_stream_above_the_limit_gets_its_last_attributes_by_copies_of_parts(
    tmp_path: Path, server: Emulator, bucket: str, store: RetryingStore
) -> None:
    data = os.urandom(LARGE)
    server.settings(max_part_size=LIMIT)
    async with living(tmp_path, store, server.bucket_id(bucket), spool_size=SPOOL) as life:
        await stream(life, data)
        assert await life.flush() == []
    assert server.download(bucket, "big") == data
    (row,) = server.list_versions(bucket)
    assert from_info(row["fileInfo"], fallback_ms=0).mtime_ns == LATER
    assert row["fileInfo"]["large_file_sha1"]
    assert server.ask("b2_list_unfinished_large_files", {"bucketId": row["bucketId"]})["files"] == []


async def test_a_stream_above_the_limit_leaves_one_version_after_a_crash_at_any_call(tmp_path: Path) -> None:
    store, bucket_id = memory(minimum_part=PART)
    data = os.urandom(LARGE)
    moments = Moments(store, tmp_path / "state", tmp_path)
    async with living(tmp_path / "state", store, bucket_id, spool_size=SPOOL, settle=0) as life:
        await stream(life, data)
        store.account.on_call = moments.keep
        assert await life.flush() == []
    assert "b2_copy_part" in [call for call, _, _ in moments.kept]
    await moments.demand_one_version_each(bucket_id, "big", data)


async def test_attributes_set_while_such_a_stream_is_corrected_are_those_that_it_gets(tmp_path: Path) -> None:
    store, bucket_id = memory(minimum_part=PART)
    data = os.urandom(LARGE)
    async with living(tmp_path, store, bucket_id, spool_size=SPOOL, settle=600) as life:
        await stream(life, data)
        copies = 0

        def fail(call: str) -> None:
            nonlocal copies
            copies += call == "b2_copy_part"
            if call == "b2_copy_part" and copies > 2:
                raise B2Unavailable("the network is down")

        store.account.on_call = fail
        with trio.fail_after(60):
            assert await life.flush()
        store.account.on_call = lambda _call: None
        (op,) = life.journal.queue.ops.values()
        assert op.draft is not None and op.draft.interim is not None and op.draft.large is not None
        op.draft.written_ns = LATER + 5
        op.draft.settle_mtime()
        life.journal.update(op)
        assert await life.flush() == []
    row = store.account.bucket(bucket_id).visible("big")
    assert row is not None and from_info(row.info, fallback_ms=0).mtime_ns == LATER + 5
    assert shown(store.account, bucket_id) == {"big": data}
    assert unfinished(store.account) == []
    assert [file.row.action for file in store.account.files.values()] == [Action.UPLOAD]
