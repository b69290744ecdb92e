"""Every way to bring a draft to B2, and what is left there when one fails."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from b2mount.core.errors import (
    AccessDenied,
    B2MountError,
    B2Unavailable,
    CapReached,
    DataCorrupt,
    VersionGone,
)
from b2mount.core.parts import plan_parts
from b2mount.journal import large, sender, uploader
from b2mount.store.memory import MemoryStore
from b2mount.store.memory_account import MemoryB2
from b2mount.store.store import Action, FileVersion
from tests.journal.lives import Life, living, memory, shown, unfinished

PART = 1000  # the smallest part in these tests
BASE = bytes(range(251)) * 60  # 15,060 bytes


@pytest.fixture(autouse=True)
def no_retries_but_those_of_a_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploader, "RETRY_FIRST", 600.0)
    monkeypatch.setattr(uploader, "RETRY_LAST", 600.0)


def stored(store: MemoryStore, bucket_id: str, data: bytes = BASE) -> FileVersion:
    return store.account.add(bucket_id, "base", data, info={"large_file_sha1": "0" * 40, "colour": "blue"})


def small_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the planner think that bytes are dear and calls cheap, so that small files go in parts."""
    plan = plan_parts
    monkeypatch.setattr(
        sender,
        "plan_parts",
        lambda *args, **named: plan(
            *args, **named, upload_part_size=2 * PART, copy_part_size=3 * PART, call_bytes=10
        ),
    )


Edit = tuple[str, int, int]
EDITS = st.lists(
    st.tuples(st.sampled_from(["write", "write", "resize"]), st.integers(0, 16_000), st.integers(1, 3_000)),
    max_size=6,
)


@given(EDITS, st.sampled_from([0, 10, 5_000, 15_060]))
@settings(max_examples=60, deadline=None)
def test_any_draft_arrives_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, edits: list[Edit], base_size: int
) -> None:
    async def check(directory: Path) -> None:
        store, bucket_id = memory(minimum_part=PART)
        version = stored(store, bucket_id, BASE[:base_size]) if base_size else None
        expected = bytearray(BASE[:base_size])
        async with living(directory, store, bucket_id) as life:
            draft = life.journal.new_draft(life.draft().attributes, base=version)
            for verb, at, length in edits:
                if verb == "write":
                    data = os.urandom(length)
                    draft.write(at, data)
                    expected.extend(bytes(max(at - len(expected), 0)))
                    expected[at : at + length] = data
                else:
                    draft.resize(at)
                    expected[at:] = bytes(max(at - len(expected), 0))
            life.journal.put(bucket_id, "new", draft)
            assert await life.flush() == []
        assert shown(store.account, bucket_id)["new"] == bytes(expected)
        assert unfinished(store.account) == []

    with pytest.MonkeyPatch.context() as monkeypatch:
        small_calls(monkeypatch)
        trio.run(check, tmp_path_factory.mktemp("draft"))


async def edited(life: Life, version: FileVersion | None, text: bytes = b"new") -> bytes:
    """Queue a draft that needs copied and uploaded parts; return what it holds."""
    draft = life.journal.new_draft(life.draft().attributes, base=version)
    expected = bytearray(BASE)
    for at in (4_000, 9_000):
        draft.write(at, text * 500)
        expected[at : at + 1500] = text * 500
    life.journal.put(life.bucket_id, "new", draft)
    await life.journal.commit()
    return bytes(expected)


async def test_a_change_in_the_middle_copies_what_it_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_calls(monkeypatch)
    store, bucket_id = memory(minimum_part=PART)
    calls: list[str] = []
    store.account.on_call = calls.append
    async with living(tmp_path, store, bucket_id) as life:
        expected = await edited(life, stored(store, bucket_id))
        assert await life.flush() == []
    assert shown(store.account, bucket_id)["new"] == expected
    assert calls.count("b2_copy_part") >= 3 and calls.count("b2_upload_part") == 2
    assert "b2_download_file_by_id" not in calls


async def patched(life: Life, version: FileVersion) -> bytes:
    """Queue a change so small that bytes of the base go up with it; return what it makes of the file."""
    draft = life.journal.new_draft(life.draft().attributes, base=version)
    draft.write(5_000, b"new")
    life.journal.put(life.bucket_id, "new", draft)
    await life.journal.commit()
    return BASE[:5_000] + b"new" + BASE[5_003:]


async def test_what_goes_up_with_a_small_change_is_fetched_while_b2_begins_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_calls(monkeypatch)
    store, bucket_id = memory(minimum_part=PART)
    begin, fetch, fetching = store.start_large, store.read_range, trio.Event()

    async def start_large(*words: Any, **more: Any) -> str:
        await fetching.wait()
        return await begin(*words, **more)

    async def read_range(*words: Any) -> bytes:
        fetching.set()
        return await fetch(*words)

    monkeypatch.setattr(store, "start_large", start_large)
    monkeypatch.setattr(store, "read_range", read_range)
    async with living(tmp_path, store, bucket_id) as life:
        expected = await patched(life, stored(store, bucket_id))
        assert await life.flush() == []
    assert shown(store.account, bucket_id)["new"] == expected


@pytest.mark.parametrize("call", ["b2_start_large_file", "b2_download_file_by_id"])
@pytest.mark.parametrize("times", [1, 2])
async def test_a_small_change_arrives_after_a_failure_to_begin_or_to_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, times: int
) -> None:
    small_calls(monkeypatch)
    store, bucket_id = memory(minimum_part=PART)
    left = times

    def fail(name: str) -> None:
        nonlocal left
        if name == call and left:
            left -= 1
            raise B2Unavailable("B2 is away")

    store.account.on_call = fail
    async with living(tmp_path, store, bucket_id) as life:
        expected = await patched(life, stored(store, bucket_id))
        errors = await life.flush()
        assert {type(error) for error in errors} <= {B2Unavailable}
        while await life.flush():
            assert not left
    assert shown(store.account, bucket_id)["new"] == expected
    assert unfinished(store.account) == []


@pytest.mark.parametrize("keep", [0, 700, 15_060])
async def test_cutting_a_file_short_is_one_copy_or_nothing_at_all(tmp_path: Path, keep: int) -> None:
    store, bucket_id = memory()
    calls: list[str] = []
    store.account.on_call = calls.append
    async with living(tmp_path, store, bucket_id) as life:
        draft = life.journal.new_draft(life.draft().attributes, base=stored(store, bucket_id))
        draft.resize(keep)
        life.journal.put(bucket_id, "new", draft)
        assert await life.flush() == []
    row = store.account.bucket(bucket_id).visible("new")
    assert row is not None and row.sha1 == hashlib.sha1(BASE[:keep]).hexdigest()
    assert set(calls) == {"b2_copy_file" if keep else "b2_upload_file"}
    assert ("large_file_sha1" in row.info) is False or keep == len(BASE)


KINDS = [B2Unavailable, CapReached, AccessDenied, DataCorrupt]


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_failure_at_any_call_leaves_no_unfinished_file_and_loses_nothing(
    tmp_path: Path, kind: type[B2MountError], for_good: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_calls(monkeypatch)
    at, reached = 0, True
    while reached:
        at += 1
        store, bucket_id = memory(minimum_part=PART)
        version = stored(store, bucket_id)
        store.account.on_call = failing = Failing(at, kind, for_good)
        async with living(tmp_path / str(at), store, bucket_id) as life:
            expected = await edited(life, version)
            failures = await life.flush()
            reached = failing.failed
            assert [type(failure) for failure in failures] == ([kind] if reached else [])
            assert reached is ("new" not in shown(store.account, bucket_id))
            failing.over = True
            assert await life.flush() == []
        assert shown(store.account, bucket_id)["new"] == expected
        assert unfinished(store.account) == []
    assert at > 6


class Failing:
    """Makes the Nth call fail, or it and all that follow until it is over."""

    def __init__(self, at: int, kind: type[B2MountError], for_good: bool) -> None:
        self.left = at
        self.kind = kind
        self.for_good = for_good
        self.failed = False
        self.over = False

    def __call__(self, call: str) -> None:
        self.left -= 1
        due = self.left <= 0 if self.for_good else self.left == 0
        if due and not self.over:
            self.failed = True
            raise self.kind(f"{call} failed")


@pytest.mark.parametrize("part", range(1, 9))
async def test_a_kill_among_the_parts_sends_only_those_that_miss(
    tmp_path: Path, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_calls(monkeypatch)
    monkeypatch.setattr(large, "PARTS_AT_ONCE", 1)
    store, bucket_id = memory(minimum_part=PART)
    version = stored(store, bucket_id)
    calls: list[str] = []
    stuck = Stuck(store.account, "_part", part)
    async with living(tmp_path / "state", stuck, bucket_id) as life:
        expected = await edited(life, version)
        life.journal.uploader.hurry(next(iter(life.journal.queue.ops.values())))
        with trio.fail_after(60):
            await stuck.reached.wait()
    (begun,) = (file for file in store.account.files.values() if file.row.action is Action.START)
    have = len(begun.parts)
    store.account.on_call = calls.append
    async with living(tmp_path / "state", store, bucket_id) as life:
        assert await life.flush() == []
    sent = calls.count("b2_upload_part") + calls.count("b2_copy_part") // 2  # it checks source and target
    calls.clear()
    async with living(tmp_path / "other state", store, bucket_id) as life:
        await edited(life, version)
        assert await life.flush() == []
    assert have + sent == calls.count("b2_upload_part") + calls.count("b2_copy_part") // 2
    assert "b2_start_large_file" in calls
    assert shown(store.account, bucket_id)["new"] == expected
    assert unfinished(store.account) == []


class Stuck(MemoryStore):
    """Hangs at the Nth call whose name ends so."""

    def __init__(self, account: MemoryB2, ending: str, number: int) -> None:
        super().__init__(account)
        self.ending, self.left = ending, number
        self.reached = trio.Event()

    async def _enter(self, call: str, *args: Any, **named: Any) -> None:
        if call.endswith(self.ending):
            self.left -= 1
            if self.left <= 0:
                self.reached.set()
                await trio.sleep_forever()
        await super()._enter(call, *args, **named)


async def test_a_base_that_is_gone_is_told_and_the_draft_kept(tmp_path: Path) -> None:
    store, bucket_id = memory()
    version = stored(store, bucket_id)
    async with living(tmp_path, store, bucket_id) as life:
        draft = life.journal.new_draft(life.draft().attributes, base=version)
        draft.write(5, b"precious")
        op = life.journal.put(bucket_id, "new", draft)
        store.account.delete("base", version.file_id, bypass=False)
        assert [type(failure) for failure in await life.flush()] == [VersionGone]
        assert draft.spool.read(5, 8) == b"precious"
        assert op.failed_for_good
    async with living(tmp_path, store, bucket_id, running=False) as life:
        assert [op.name for op in life.left] == ["new"]


async def test_bytes_of_a_write_that_failed_half_way_never_show(tmp_path: Path) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id) as life:
        draft = life.draft(b"head")
        draft.spool.write(10, b"left by a write that failed")
        draft.resize(100)
        life.journal.put(bucket_id, "new", draft)
        assert await life.flush() == []
    assert shown(store.account, bucket_id)["new"] == b"head" + bytes(96)


async def test_attributes_changed_between_two_attempts_are_those_that_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_calls(monkeypatch)
    store, bucket_id = memory(minimum_part=PART)
    version = stored(store, bucket_id)
    store.account.on_call = failing = Failing(4, B2Unavailable, True)
    async with living(tmp_path, store, bucket_id) as life:
        expected = await edited(life, version)
        assert len(await life.flush()) == 1
        (op,) = life.journal.queue.ops.values()
        assert op.draft is not None
        op.draft.attributes = replace(op.draft.attributes, mtime_ns=7_000_000_000)
        life.journal.update(op)
        failing.over = True
        assert await life.flush() == []
        await trio.testing.wait_all_tasks_blocked(0.01)
    row = store.account.bucket(bucket_id).visible("new")
    assert row is not None and row.info["src_last_modified_millis"] == "7000"
    assert shown(store.account, bucket_id)["new"] == expected
    assert unfinished(store.account) == []
