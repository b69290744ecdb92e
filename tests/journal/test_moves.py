"""How far renames of directories are: files and bytes done, and no word of what is over."""

import contextlib
import shutil
import sqlite3
from pathlib import Path

from b2mount.journal.moves import SWEEP_AT_LEAST, Move, Moves
from b2mount.journal.ops import Kind, Op
from tests.journal.lives import FILE, living, memory, shown, until


def done(op: Op) -> Op:
    op.finished.set()
    return op


def ops(number: int) -> tuple[Op, Op]:
    return Op(2 * number, Kind.PUT, "b", f"new/{number}"), Op(2 * number + 1, Kind.HIDE, "b", f"old/{number}")


def test_a_file_is_done_once_its_old_name_is_gone_too() -> None:
    first, second, third = ops(1), ops(2), ops(3)
    over: list[Move] = []
    moves = Moves(over.append)
    moves.begin(Move(1, ("b", "old/"), ("b", "new/"), [(first, 100), (second, 20), (third, 3), ((), 0)]))
    done(first[0]), done(first[1]), done(second[0])
    told = {"from": "old/", "to": "new/", "files": 4, "files_done": 2, "bytes": 123, "bytes_done": 100}
    assert moves.facts() == [told]
    for op in (*second, *third):
        done(op)
    assert (moves.facts(), len(over)) == ([], 1)


def test_what_is_over_is_forgotten_though_nobody_asks() -> None:
    over: list[Move] = []
    moves = Moves(over.append)
    for number in range(10 * SWEEP_AT_LEAST):
        moves.begin(Move(1, ("b", "old/"), ("b", "new/"), [((done(ops(number)[0]),), 1)]))
    assert len(moves._moves) < 2 * SWEEP_AT_LEAST


async def test_a_journal_with_nothing_to_send_holds_none(tmp_path: Path) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id) as life:
        op = life.put("new/a", b"content")
        life.journal.begin_move((bucket_id, "old/"), (bucket_id, "new/"), [((op,), 7)])
        assert [row["files_done"] for row in life.journal.moves.facts()] == [0]
        assert await life.flush() == []
        assert life.journal.moves._moves == []


async def test_a_rename_that_a_crash_interrupts_is_told_of_by_the_next_life(tmp_path: Path) -> None:
    store, bucket_id = memory()
    versions = [store.account.add(bucket_id, f"old/{number}", bytes(number)) for number in range(10)]
    state = tmp_path / "state"
    async with living(tmp_path / "live", store, bucket_id) as life:
        files = []
        for version in versions:
            draft = life.journal.new_draft(FILE, base=version)
            put = life.journal.put(bucket_id, version.name.replace("old", "new"), draft)
            hide = life.hide(version.name, after=[put])
            assert hide is not None
            files.append(((put, hide), version.size))
        life.journal.begin_move((bucket_id, "old/"), (bucket_id, "new/"), files)
        life.put("beside", b"no file of it")
        await life.journal.commit()
        assert await life.journal.uploader.wait_all([op for ops, _ in files[:4] for op in ops]) == []
        await life.journal.commit()
        shutil.copytree(tmp_path / "live", state)
        assert await life.flush() == []
    told = {"from": "old/", "to": "new/", "files": 10, "files_done": 4, "bytes": 45, "bytes_done": 6}
    for _ in range(2):
        async with living(state, store, bucket_id, running=False) as life:
            assert life.journal.moves.facts() == [told]
    async with living(state, store, bucket_id) as life:
        assert await life.flush() == []
        assert life.journal.moves.facts() == []
        await until(lambda: not rows(state))
    assert set(shown(store.account, bucket_id)) == {"beside", *(f"new/{number}" for number in range(10))}
    async with living(state, store, bucket_id) as life:
        assert life.journal.moves.facts() == []


def rows(state: Path) -> list[tuple[object, ...]]:
    """Return what the journal holds of renames."""
    with contextlib.closing(sqlite3.connect(state / "journal.sqlite")) as db:
        return db.execute("SELECT * FROM moves").fetchall()
