"""When operations are sent, who is told what, and that every wait ends. The clock stands unless moved."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from b2mount.core.errors import B2Unavailable, CapReached, LocalStorageError
from b2mount.journal.ops import State
from b2mount.journal.uploader import GRAIN
from b2mount.store.memory import MemoryStore
from b2mount.store.memory_account import MemoryB2
from b2mount.store.store import Body, FileVersion
from tests.journal.lives import Life, living, memory, shown, until

Clock = trio.testing.MockClock


class Doors(MemoryStore):
    """A store whose uploads wait for their door, and fail where they are told to."""

    def __init__(self, account: MemoryB2) -> None:
        super().__init__(account)
        self.inside: list[str] = []
        self.most = 0
        self.closed = trio.Event()
        self.closed.set()
        self.errors: dict[str, Exception] = {}
        self.tried = trio.Event()

    async def upload(self, bucket_id: str, name: str, body: Body, **named: Any) -> FileVersion:
        self.inside.append(name)
        self.most = max(self.most, len(self.inside))
        try:
            await self.closed.wait()
            if name in self.errors:
                raise self.errors[name]
            return await super().upload(bucket_id, name, body, **named)
        finally:
            self.inside.remove(name)
            self.tried.set()
            self.tried = trio.Event()


def doors() -> tuple[Doors, str]:
    plain, bucket_id = memory()
    return Doors(plain.account), bucket_id


async def attempt(store: Doors) -> None:
    """Wait until an attempt has ended, its failure noted."""
    await store.tried.wait()
    await trio.testing.wait_all_tasks_blocked()


def names(life: Life) -> set[str]:
    return set(shown(life.store.account, life.bucket_id)) if isinstance(life.store, MemoryStore) else set()


async def test_a_change_rests_for_the_settle_time_and_each_change_begins_it_anew(
    tmp_path: Path, mock_clock: Clock
) -> None:
    store, bucket_id = doors()
    async with living(tmp_path, store, bucket_id, settle=10) as life:
        op = life.put("a", b"1")
        mock_clock.jump(9)
        await trio.testing.wait_all_tasks_blocked()
        life.journal.update(op)
        mock_clock.jump(9)
        await trio.testing.wait_all_tasks_blocked()
        assert op.attempts == 0
        mock_clock.jump(1.5)
        await op.finished.wait()
        assert names(life) == {"a"}


async def test_what_is_due_a_moment_after_something_else_goes_out_a_moment_later(
    tmp_path: Path, mock_clock: Clock
) -> None:
    store, bucket_id = doors()
    async with living(tmp_path, store, bucket_id, settle=10) as life:
        life.put("a", b"1")
        mock_clock.jump(GRAIN / 4)
        later = [life.put(name, b"2") for name in ("b", "c")]
        mock_clock.jump(10 - GRAIN / 8)
        await attempt(store)
        assert names(life) == {"a"}
        mock_clock.jump(2 * GRAIN)
        for op in later:
            await op.finished.wait()
        assert names(life) == {"a", "b", "c"}


async def test_who_waits_for_something_due_a_moment_later_has_it_sent_at_once(
    tmp_path: Path, mock_clock: Clock
) -> None:
    store, bucket_id = doors()
    async with living(tmp_path, store, bucket_id, settle=10) as life:
        life.put("a", b"1")
        mock_clock.jump(GRAIN / 4)
        later = life.put("b", b"2")
        mock_clock.jump(10 - GRAIN / 8)
        await attempt(store)
        await life.journal.uploader.wait(later)
        assert names(life) == {"a", "b"}


async def test_attempts_that_fail_are_made_more_and_more_seldom(tmp_path: Path, mock_clock: Clock) -> None:
    store, bucket_id = doors()
    store.errors["a"] = B2Unavailable("not now")
    async with living(tmp_path, store, bucket_id, settle=0) as life:
        op = life.put("a", b"1")
        await attempt(store)
        for number, pause in enumerate([2, 4, 8, 16, 32, 64, 128, 256, 300, 300], 1):
            assert op.attempts == number
            mock_clock.jump(pause - 0.5)
            await trio.testing.wait_all_tasks_blocked()
            assert op.attempts == number, "tried too soon"
            mock_clock.jump(1)
            await attempt(store)
        assert op.state is State.QUEUED and not op.failed_for_good
        assert isinstance(op.error, B2Unavailable)


async def test_who_waits_takes_the_pause_away_and_hears_the_next_failure(
    tmp_path: Path, mock_clock: Clock
) -> None:
    store, bucket_id = doors()
    store.errors["a"] = CapReached("storage cap")
    async with living(tmp_path, store, bucket_id, settle=1000) as life:
        op = life.put("a", b"1")
        behind = life.put("b", b"2", after=[op])
        for count in (1, 2, 3):
            with pytest.raises(CapReached):
                await life.journal.uploader.wait(behind)
            assert op.attempts == count
        del store.errors["a"]
        await life.journal.uploader.wait(behind)
        assert names(life) == {"a", "b"}
        assert op.error is None


async def test_no_more_attempts_than_the_width_are_under_way(tmp_path: Path, mock_clock: Clock) -> None:
    store, bucket_id = doors()
    store.closed = trio.Event()
    async with living(tmp_path, store, bucket_id, settle=0, width=3) as life:
        ops = [life.put(f"f{number}", b"x") for number in range(10)]
        with trio.move_on_after(0):
            await life.journal.uploader.wait(ops[0])
        while len(store.inside) < 3:
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        store.closed.set()
        assert await life.journal.uploader.wait_all() == []
        assert store.most == 3
        assert len(names(life)) == 10


async def test_one_commit_says_of_all_that_is_due_that_it_is_begun(tmp_path: Path, mock_clock: Clock) -> None:
    store, bucket_id = doors()
    store.closed = trio.Event()
    async with living(tmp_path, store, bucket_id, settle=0, width=2) as life:
        for number in range(10):
            life.put(f"f{number}", b"x")
        while len(store.inside) < 2:
            await trio.lowlevel.checkpoint()
        with sqlite3.connect(tmp_path / "journal.sqlite") as db:
            begun = db.execute("SELECT count(*) FROM ops WHERE sending=1").fetchone()
        assert begun == (10,)  # durable: another connection reads what was committed
        assert sum(op.sent_before for op in life.journal.queue.ops.values()) == 2
        store.closed.set()
        assert await life.journal.uploader.wait_all() == []
    assert list((tmp_path / "spool").iterdir()) == []


async def test_a_wait_goes_on_with_what_took_the_operations_place(tmp_path: Path, mock_clock: Clock) -> None:
    store, bucket_id = doors()
    async with living(tmp_path, store, bucket_id, settle=1000) as life:
        first = life.put("a", b"1")
        life.journal.uploader.hold(first)
        done: list[str] = []

        async def wait() -> None:
            await life.journal.uploader.wait(first)
            done.append("waited")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert done == []
            life.put("a", b"2")
        assert shown(store.account, bucket_id) == {"a": b"2"}
        assert first.state is State.DROPPED


async def test_a_wait_for_something_undone_before_it_was_sent_ends_well(
    tmp_path: Path, mock_clock: Clock
) -> None:
    store, bucket_id = doors()
    async with living(tmp_path, store, bucket_id, settle=1000) as life:
        first = life.put("a", b"1")
        life.journal.uploader.hold(first)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(life.journal.uploader.wait, first)
            await trio.testing.wait_all_tasks_blocked()
            assert life.hide("a", exists=False) is None
        assert await life.journal.uploader.wait_all([first]) == []
        assert store.account.files == {}


async def test_a_flush_names_each_failure_and_counts_down(tmp_path: Path, mock_clock: Clock) -> None:
    store, bucket_id = doors()
    store.errors = {"b": B2Unavailable("b"), "d": CapReached("d")}
    told: list[tuple[int, int]] = []
    async with living(tmp_path, store, bucket_id, settle=1000) as life:
        for name in "abcd":
            life.put(name, b"12345")
        failures = await life.journal.uploader.wait_all(progress=lambda ops, size: told.append((ops, size)))
        assert {(failure.name, type(failure.error)) for failure in failures} == {
            ("b", B2Unavailable),
            ("d", CapReached),
        }
        assert names(life) == {"a", "c"}
        assert told[0] == (4, 20) and told[-1] == (2, 10)
        assert told == sorted(told, reverse=True)


async def test_a_bug_in_sending_costs_neither_the_file_nor_the_mount(
    tmp_path: Path, mock_clock: Clock
) -> None:
    store, bucket_id = doors()
    store.errors["a"] = ZeroDivisionError("a bug")
    async with living(tmp_path, store, bucket_id, settle=0) as life:
        bad = life.put("a", b"1")
        with pytest.raises(LocalStorageError, match="bug"):
            await life.journal.uploader.wait(bad)
        await life.journal.uploader.wait(life.put("b", b"2"))
        assert bad.state is State.QUEUED
    async with living(tmp_path, MemoryStore(store.account), bucket_id, settle=0) as life:
        assert [op.name for op in life.left] == ["a"]


async def test_what_is_written_while_it_is_sent_is_sent_after_it(tmp_path: Path, mock_clock: Clock) -> None:
    store, bucket_id = doors()
    store.closed = trio.Event()
    async with living(tmp_path, store, bucket_id, settle=0) as life:
        first = life.put("a", b"first")
        while first.state is not State.SENDING or not store.inside:
            await trio.lowlevel.checkpoint()
        second = life.put("a", b"second")
        assert not life.journal.move(first, bucket_id, "b")
        third = life.hide("a", exists=False)
        assert third is not None and second.state is State.DROPPED
        fourth = life.journal.put(bucket_id, "c", life.draft(base=first.draft))
        store.closed.set()
        assert await life.journal.uploader.wait_all() == []
        assert fourth.state is State.DONE
        assert shown(store.account, bucket_id) == {"c": b"first"}


async def test_a_row_is_struck_off_only_once_b2_has_answered(tmp_path: Path) -> None:
    store, bucket_id = memory()
    store.account.add(bucket_id, "gone", b"")
    seen: list[tuple[str, list[str]]] = []

    def rows() -> list[str]:
        with contextlib.closing(sqlite3.connect(tmp_path / "journal.sqlite")) as db:
            return [name for (name,) in db.execute("SELECT name FROM ops ORDER BY name")]

    store.account.on_call = lambda call: seen.append((call, rows()))
    async with living(tmp_path, store, bucket_id) as life:
        life.hide("gone")
        await life.journal.commit()
        assert await life.flush() == []
        life.put("new", b"content")
        await life.journal.commit()
        assert await life.flush() == []
        await until(lambda: rows() == [])
    assert ("b2_hide_file", ["gone"]) in seen and ("b2_upload_file", ["new"]) in seen


class ByTurns(MemoryStore):
    """A store that is away: one upload fails at once and hangs when tried again, the other fails late."""

    def __init__(self, account: MemoryB2) -> None:
        super().__init__(account)
        self.late = trio.Event()
        self.tried: set[str] = set()

    async def upload(self, bucket_id: str, name: str, body: Body, **named: Any) -> FileVersion:
        if name == "late":
            await self.late.wait()
        elif name in self.tried:
            await trio.sleep_forever()
        self.tried.add(name)
        raise B2Unavailable("away")


async def test_who_waits_for_all_is_told_although_one_of_them_is_being_tried_again(tmp_path: Path) -> None:
    plain, bucket_id = memory()
    store = ByTurns(plain.account)
    async with living(tmp_path, store, bucket_id) as life, trio.open_nursery() as nursery:
        first = life.put("first", b"1")
        life.put("late", b"2")
        told: list[str] = []

        async def wait() -> None:
            told.extend(failure.name for failure in await life.journal.uploader.wait_all())

        nursery.start_soon(wait)
        await until(lambda: first.failed_at)
        life.journal.uploader.hurry(first)
        await until(lambda: first.attempts == 2)
        store.late.set()
        await until(lambda: sorted(told) == ["first", "late"])
