"""Unfinished large files of ours: gone on with after a kill, or cancelled, and never forgotten."""

from pathlib import Path

import pytest
import trio

from b2mount.core.posix import without_mark
from b2mount.journal.leftover import look
from b2mount.store.memory import MemoryStore
from b2mount.store.memory_account import MemoryB2
from tests.journal.lives import Life, living, made_older, memory, shown, unfinished
from tests.journal.test_sender import PART, Stuck, edited, small_calls, stored

# Operations as they were kept before the version that a change began with was kept, too.
OPS_BEFORE = """
ALTER TABLE ops RENAME TO later;
CREATE TABLE ops (
    id INTEGER PRIMARY KEY, ordering INTEGER NOT NULL, kind TEXT NOT NULL, bucket_id TEXT NOT NULL,
    name TEXT NOT NULL, after TEXT NOT NULL, sending INTEGER NOT NULL, error TEXT, extents TEXT,
    spooled INTEGER, base TEXT, base_op INTEGER, info TEXT, is_directory INTEGER, content_type TEXT,
    promised_ms INTEGER           -- when the operation was promised, by the local clock
);
INSERT INTO ops SELECT id, ordering, kind, bucket_id, name, after, sending, error, extents, spooled,
    base, base_op, info, is_directory, content_type, promised_ms FROM later;
DROP TABLE later;
"""


class Deaf(MemoryStore):
    """Begins large files, and never hears the reply."""

    def __init__(self, account: MemoryB2) -> None:
        super().__init__(account)
        self.reached = trio.Event()

    async def start_large(self, *args: object, **named: object) -> str:
        await super().start_large(*args, **named)  # type: ignore[arg-type]  # passed on as they come
        self.reached.set()
        await trio.sleep_forever()
        raise AssertionError


async def killed_in_the_middle(life: Life, store: Stuck | Deaf, text: bytes = b"new") -> bytes:
    version = stored(store, life.bucket_id)
    expected = await edited(life, version, text)
    life.journal.uploader.hurry(next(iter(life.journal.queue.ops.values())))
    with trio.fail_after(60):
        await store.reached.wait()
    return expected


async def test_a_large_file_of_a_change_dropped_before_a_kill_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_calls(monkeypatch)
    store, bucket_id = memory(minimum_part=PART)
    stuck = Stuck(store.account, "_part", 3)
    async with living(tmp_path, stuck, bucket_id) as life:
        await killed_in_the_middle(life, stuck)
    assert unfinished(store.account) == ["new"]
    async with living(tmp_path, store, bucket_id, settle=600, running=False) as life:
        (op,) = life.left
        op.sent_before = False
        life.put("new", b"small")  # takes its place; killed before anything is cancelled
        await life.journal.commit()
    assert unfinished(store.account) == ["new"]
    async with living(tmp_path, store, bucket_id) as life:
        assert [op.draft.size for op in life.left if op.draft] == [5]
        assert await life.flush() == []
        assert unfinished(store.account) == []
    assert shown(store.account, bucket_id)["new"] == b"small"
    async with living(tmp_path, store, bucket_id) as life:
        assert life.journal.database.load_large() == []


async def test_a_large_file_whose_id_never_came_is_found_again_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_calls(monkeypatch)
    store, bucket_id = memory(minimum_part=PART)
    deaf = Deaf(store.account)
    async with living(tmp_path, deaf, bucket_id) as life:
        expected = await killed_in_the_middle(life, deaf)
    calls: list[str] = []
    store.account.on_call = calls.append
    async with living(tmp_path, store, bucket_id) as life:
        assert await life.flush() == []
    assert shown(store.account, bucket_id)["new"] == expected
    assert unfinished(store.account) == []
    assert "b2_start_large_file" not in calls


class Never(Deaf):
    """Is asked to begin a large file, and does not get as far."""

    async def start_large(self, *args: object, **named: object) -> str:
        self.reached.set()
        await trio.sleep_forever()
        raise AssertionError


@pytest.mark.parametrize("kind", [Deaf, Never], ids=["begun", "not begun"])
async def test_a_large_file_of_another_host_is_left_alone_however_alike_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Deaf]
) -> None:
    """As when two hosts copy one tree: name, size, times and mode are the same, the content need not be."""
    small_calls(monkeypatch)
    store, bucket_id = memory(minimum_part=PART)
    one = kind(store.account)
    async with living(tmp_path / "one", one, bucket_id) as life:
        expected = await killed_in_the_middle(life, one)
    begun = len(unfinished(store.account))
    two = Stuck(store.account, "_part", 3)
    async with living(tmp_path / "two", two, bucket_id) as life:
        theirs = await killed_in_the_middle(life, two, b"NEW")
    rows = await store.list_unfinished(bucket_id, "new")
    assert len(rows) == begun + 1
    assert len({str(without_mark(row.info)) for row in rows}) == 1, "not alike"
    async with living(tmp_path / "one", store, bucket_id) as life:
        assert await life.flush() == []
    assert shown(store.account, bucket_id)["new"] == expected
    assert unfinished(store.account) == ["new"], "theirs is still there, and nothing of ours"
    calls: list[str] = []
    store.account.on_call = calls.append
    async with living(tmp_path / "two", store, bucket_id) as life:
        assert await life.flush() == []
    made = [stored.data for stored in store.account.files.values() if stored.row.name == "new"]
    assert sorted(made) == sorted([expected, theirs])  # the one begun last shows
    assert unfinished(store.account) == []
    assert "b2_start_large_file" not in calls, "what it had begun was taken from it"


async def test_a_large_file_that_a_stranger_began_with_our_very_info_is_no_file_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_calls(monkeypatch)
    store, bucket_id = memory(minimum_part=PART)
    never = Never(store.account)
    async with living(tmp_path, never, bucket_id) as life:
        expected = await killed_in_the_middle(life, never)
        (large,) = life.journal.database.load_large()
    plain = without_mark(large.info)
    strange = await store.start_large(bucket_id, "new", content_type="text/plain", info=plain)
    async with living(tmp_path, store, bucket_id) as life:
        assert await life.flush() == []
    assert shown(store.account, bucket_id)["new"] == expected
    assert [row.file_id for row in await store.list_unfinished(bucket_id, "new")] == [strange]


async def test_parts_are_gone_on_with_as_they_were_planned_whatever_would_be_planned_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of the right number and size may hold other bytes: those of another plan."""
    store, bucket_id = memory(minimum_part=PART)
    stuck = Stuck(store.account, "_part", 6)
    with pytest.MonkeyPatch.context() as small:
        small_calls(small)
        async with living(tmp_path, stuck, bucket_id) as life:
            expected = await killed_in_the_middle(life, stuck)
    async with living(tmp_path, store, bucket_id) as life:
        (op,) = life.left
        assert op.draft is not None and op.draft.large is not None
        assert len(op.draft.large.parts) > 3
        assert await life.flush() == []
    assert shown(store.account, bucket_id)["new"] == expected
    assert unfinished(store.account) == []


async def test_a_journal_of_the_first_format_is_read_and_its_large_files_begun_anew(tmp_path: Path) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id, running=False) as life:
        life.put("a", b"content")
        await life.journal.commit()
        large_id = await store.start_large(bucket_id, "a", content_type="text/plain", info={})
    with made_older(tmp_path, 1) as database:
        database.executescript(
            "DROP TABLE large; DROP TABLE parts; ALTER TABLE ops ADD COLUMN large_id TEXT;"
        )
        database.execute("UPDATE ops SET large_id = ?", (large_id,))
    async with living(tmp_path, store, bucket_id) as life:
        assert [op.name for op in life.left] == ["a"]
        assert await life.flush() == []
    assert shown(store.account, bucket_id) == {"a": b"content"}
    assert unfinished(store.account) == []


async def test_a_journal_of_before_it_knew_what_was_overwritten_is_read_and_sent(tmp_path: Path) -> None:
    store, bucket_id = memory()
    account = store.account
    base = account.add(bucket_id, "changed", b"as it was", info={})
    async with living(tmp_path, store, bucket_id, running=False) as life:
        life.put("new", b"content")
        life.journal.put(bucket_id, "changed", life.draft(b"more", base, at=9), over=base.file_id)
        await life.journal.commit()
    with made_older(tmp_path, 3) as database:
        assert database.execute("SELECT over_id FROM ops ORDER BY id").fetchall() == [
            (None,),
            (base.file_id,),
        ]
        database.executescript(OPS_BEFORE)
    left = look(tmp_path)
    assert ([op.name for op in left.ops], left.damage) == (["new", "changed"], [])
    async with living(tmp_path, store, bucket_id) as life:
        assert [(op.name, op.over) for op in life.left] == [("new", None), ("changed", base.file_id)]
        assert await life.flush() == []
    assert shown(account, bucket_id) == {"new": b"content", "changed": b"as it wasmore"}


async def test_what_a_change_began_with_is_known_after_a_kill(tmp_path: Path) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id, settle=600, running=False) as life:
        life.journal.shows = lambda _bucket_id, name: {"replaced": "theirs", "new": ""}.get(name)
        for name in ("replaced", "new", "not known"):
            life.put(name, b"ours")
        await life.journal.commit()
    async with living(tmp_path, store, bucket_id) as life:
        assert [(op.name, op.over) for op in life.left] == [
            ("replaced", "theirs"),
            ("new", ""),
            ("not known", None),
        ]
