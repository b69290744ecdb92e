"""What an export makes of a draft whose bytes are partly in B2, in a large file that is not finished."""

import sqlite3
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from b2mount.core.errors import LocalStorageError
from b2mount.journal.export import export
from b2mount.journal.leftover import look, split_away
from tests.journal.lives import living, memory

RANGES = st.lists(st.integers(0, 60), max_size=8, unique=True).map(sorted)


@given(RANGES, st.integers(0, 60), st.integers(0, 60))
def test_a_range_is_cut_where_bytes_are_away(bounds: list[int], start: int, end: int) -> None:
    away = list(zip(bounds[::2], bounds[1::2], strict=False))
    cut = list(split_away(away, start, end))
    told = {at: is_away for low, high, is_away in cut for at in range(low, high)}
    assert told == {at: any(low <= at < high for low, high in away) for at in range(start, end)}
    assert [piece[0] for piece in cut[1:]] == [piece[1] for piece in cut[:-1]]


async def test_bytes_that_left_the_spool_are_never_taken_for_zeros(tmp_path: Path) -> None:
    store, bucket_id = memory()
    state = tmp_path / "state"
    async with living(state, store, bucket_id, running=False) as life:
        op = life.put("file", b"0123456789")
        await life.journal.commit()
    with sqlite3.connect(state / "journal.sqlite") as db:
        db.execute("INSERT INTO large VALUES (90, ?, 'b', 'file', '', '{}', NULL, 1, 'id', NULL)", (op.id,))
        db.execute("INSERT INTO parts VALUES (90, 1, 0, 4, 0, 'x', 1)")
        db.execute("INSERT INTO parts VALUES (90, 2, 4, 10, 0, NULL, 0)")
    db.close()
    left = look(state)
    assert left.unfinished == ["file"]
    done = export(left, tmp_path / "strict", None, incomplete=False, progress=lambda _files, _size: None)
    assert (done.written, len(done.missing)) == ([], 1)
    assert "bytes 0 to 4" in done.missing[0]
    done = export(left, tmp_path / "lenient", None, incomplete=True, progress=lambda _files, _size: None)
    assert (tmp_path / "lenient/files" / bucket_id / "file").read_bytes() == bytes(4) + b"456789"
    assert "bytes 0 to 4" in done.incomplete[0]


async def test_an_export_does_not_mix_with_what_is_there(tmp_path: Path) -> None:
    store, bucket_id = memory()
    async with living(tmp_path / "state", store, bucket_id, running=False) as life:
        life.put("file", b"content")
        await life.journal.commit()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/files").symlink_to(tmp_path)
    try:
        export(
            look(tmp_path / "state"), tmp_path / "out", None, incomplete=True, progress=lambda _f, _s: None
        )
    except LocalStorageError as error:
        assert "not empty" in str(error)
    else:
        raise AssertionError("it wrote through a link")
