"""How far renames of directories are: files and bytes done, and no word of what is over."""

from pathlib import Path

from b2mount.journal.moves import SWEEP_AT_LEAST, Move, Moves
from b2mount.journal.ops import Kind, Op
from tests.journal.lives import living, memory


def done(op: Op) -> Op:
    op.finished.set()
    return op


def ops(number: int) -> tuple[Op, Op]:
    return Op(2 * number, Kind.PUT, "b", f"new/{number}"), Op(2 * number + 1, Kind.HIDE, "b", f"old/{number}")


def test_a_file_is_done_once_its_old_name_is_gone_too() -> None:
    first, second, third = ops(1), ops(2), ops(3)
    moves = Moves()
    moves.begin(Move("old/", "new/", [(first, 100), (second, 20), (third, 3), ((), 0)]))
    done(first[0]), done(first[1]), done(second[0])
    told = {"from": "old/", "to": "new/", "files": 4, "files_done": 2, "bytes": 123, "bytes_done": 100}
    assert moves.facts() == [told]
    for op in (*second, *third):
        done(op)
    assert moves.facts() == []


def test_what_is_over_is_forgotten_though_nobody_asks() -> None:
    moves = Moves()
    for number in range(10 * SWEEP_AT_LEAST):
        moves.begin(Move("old/", "new/", [((done(ops(number)[0]),), 1)]))
    assert len(moves._moves) < 2 * SWEEP_AT_LEAST


async def test_a_journal_with_nothing_to_send_holds_none(tmp_path: Path) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id) as life:
        op = life.put("new/a", b"content")
        life.journal.moves.begin(Move("old/", "new/", [((op,), 7)]))
        assert [row["files_done"] for row in life.journal.moves.facts()] == [0]
        assert await life.flush() == []
        assert life.journal.moves._moves == []
