"""What an export makes of a draft whose bytes are partly in B2, in a large file that is not finished."""

import os
import sqlite3
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from b2mount.core.errors import LocalStorageError, NoSuchFile
from b2mount.journal.export import export
from b2mount.journal.leftover import Away, look, needs_b2, split_away
from tests.journal.lives import living, memory

BLOCK = 1 << 16  # bytes; what any file system takes back whole
RANGES = st.lists(st.integers(0, 60), max_size=8, unique=True).map(sorted)


@given(RANGES, st.integers(0, 60), st.integers(0, 60))
def test_a_range_is_cut_where_bytes_are_away(bounds: list[int], start: int, end: int) -> None:
    away = list(zip(bounds[::2], bounds[1::2], strict=False))
    cut = list(split_away([Away(low, high, None) for low, high in away], start, end))
    told = {at: one is not None for low, high, one in cut for at in range(low, high)}
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


async def left_half_sent(state: Path) -> int:
    """Leave a draft of ten bytes whose first four left the spool."""
    store, bucket_id = memory()
    async with living(state, store, bucket_id, running=False) as life:
        op = life.put("file", b"0123456789")
        await life.journal.commit()
        assert op.draft is not None
    with sqlite3.connect(state / "journal.sqlite") as db:
        db.execute("INSERT INTO large VALUES (90, ?, 'b', 'file', '', '{}', NULL, 1, 'id', NULL)", (op.id,))
        db.execute("INSERT INTO parts VALUES (90, 1, 0, 4, 0, 'x', 1)")
        db.execute("INSERT INTO parts VALUES (90, 2, 4, 10, 0, NULL, 0)")
    db.close()
    (state / "spool" / str(op.id)).write_bytes(bytes(4) + b"456789")
    return op.id


async def test_bytes_that_left_the_spool_are_fetched_where_their_large_file_is_finished(
    tmp_path: Path,
) -> None:
    await left_half_sent(tmp_path / "state")
    left = look(tmp_path / "state")
    assert all(needs_b2(left, op.draft) for op in left.ops if op.draft)
    asked = []

    def fetch(file_id: str, start: int, end: int) -> bytes:
        asked.append((file_id, start, end))
        return b"0123456789"[start:end]

    done = export(left, tmp_path / "out", fetch, incomplete=False, progress=lambda _files, _size: None)
    assert done.is_whole and len(done.written) == 1
    assert next((tmp_path / "out/files").rglob("file")).read_bytes() == b"0123456789"
    assert asked == [("id", 0, 4)]


async def test_what_b2_does_not_give_of_an_unfinished_large_file_is_named(tmp_path: Path) -> None:
    await left_half_sent(tmp_path / "state")

    def fetch(_file_id: str, _start: int, _end: int) -> bytes:
        raise NoSuchFile("no such file version")

    left = look(tmp_path / "state")
    done = export(left, tmp_path / "out", fetch, incomplete=False, progress=lambda _files, _size: None)
    (missing,) = done.missing
    assert done.written == [] and not list((tmp_path / "out/files").rglob("file"))
    assert "bytes 0 to 4" in missing and "large file id" in missing and "--upload" in missing


async def test_where_the_journal_cannot_tell_what_left_the_spool_holes_are_not_taken_for_content(
    tmp_path: Path,
) -> None:
    store, bucket_id = memory()
    state = tmp_path / "state"
    data = os.urandom(3 * BLOCK)
    async with living(state, store, bucket_id, running=False) as life:
        torn, whole = life.put("torn", data), life.put("whole", data)
        await life.journal.commit()
        assert torn.draft is not None and whole.draft is not None
        torn.draft.spool.punch(BLOCK, 2 * BLOCK)
    with sqlite3.connect(state / "journal.sqlite") as db:
        db.execute("ALTER TABLE parts RENAME COLUMN away TO elsewhere")
    db.close()
    left = look(state)
    assert left.damage and "which bytes left the spool is not known" in left.damage[0]
    done = export(left, tmp_path / "out", None, incomplete=False, progress=lambda _files, _size: None)
    assert [name.rpartition("/")[2] for name in done.written] == ["whole"]
    assert len(done.missing) == 1 and "not in the spool" in done.missing[0]


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
