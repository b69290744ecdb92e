"""A state directory as a crash leaves it, damaged in the ways of disks and people: nothing goes in silence.

Each damage is done to a copy of the files of a journal that was at work. Then either all that was promised
comes to B2, or the start is refused, or what is missing is named; and never does B2 get bytes that nobody
wrote under that name.
"""

import contextlib
import logging
import os
import random
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from b2mount.core.errors import LocalStorageError
from b2mount.journal.body_rows import LARGEST
from b2mount.journal.export import export
from b2mount.journal.leftover import look
from b2mount.journal.prints import WHOLE
from b2mount.mount_recover import discard_left
from b2mount.store.memory import MemoryStore
from tests.journal.lives import Life, living, memory, shown, until

JOURNAL = ("journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm", "journal.count", "reserve", "lock")
SPOOL = ("small", "large", "patch", "huge")  # names in the bucket whose spool files are damaged


@dataclass
class Left:
    """A bucket, and what a crash left of changes to it."""

    state: Path
    older: Path  # the state directory as it was some writes before
    store: MemoryStore
    bucket_id: str
    promised: dict[str, bytes | None] = field(default_factory=dict)  # None: to be gone
    ever: defaultdict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    spools: dict[str, str] = field(default_factory=dict)  # of each name, the spool file

    def path(self, name: str) -> Path:
        """Return a file of the state directory, by its own name or that in the bucket."""
        return self.state / (self.spools.get(name) or name)

    def promise(self, name: str, data: bytes | None) -> None:
        self.promised[name] = data
        if data is not None:
            self.ever[name].add(data)


def put(left: Left, life: Life, chance: random.Random, name: str, size: int) -> None:
    data = chance.randbytes(size)
    op = life.put(name, data)
    left.promise(name, data)
    left.spools[name] = f"spool/{op.id}"


def checkpoint(state: Path) -> None:
    """Have the database hold all so far, and its log of writes begin anew."""
    with contextlib.closing(sqlite3.connect(state / "journal.sqlite")) as db:
        db.execute("PRAGMA wal_checkpoint(RESTART)")


async def leave(base: Path, seed: int = 0) -> Left:
    """Write much, send some, crash."""
    chance = random.Random(seed)
    store, bucket_id = memory()
    live = base / "live"
    left = Left(base / "state", base / "older", store, bucket_id)
    stored = chance.randbytes(200_000)
    version = store.account.add(bucket_id, "patch", stored, info={})
    left.promise("patch", stored)
    store.account.add(bucket_id, "gone", b"to be removed", info={})
    left.promise("gone", b"to be removed")
    async with living(live, store, bucket_id) as life:
        put(left, life, chance, "sent", 3000)
        put(left, life, chance, "replaced", LARGEST + 5)
        await life.journal.commit()
        assert await life.flush() == []
        for name in ("small", "replaced", *(f"few{number}" for number in range(20))):
            put(left, life, chance, name, 700)
        await life.journal.commit()
    shutil.copytree(live, left.older)
    async with living(live, store, bucket_id, running=False) as life:
        put(left, life, chance, "large", LARGEST + 1000)
        patch = chance.randbytes(LARGEST * 2)
        op = life.journal.put(bucket_id, "patch", life.draft(patch, version, at=1000))
        left.spools["patch"] = f"spool/{op.id}"
        left.promise("patch", stored[:1000] + patch + stored[1000 + len(patch) :])
        life.hide("gone")
        left.promise("gone", None)
        await life.journal.commit()
        put(left, life, chance, "huge", 2 * WHOLE)
        put(left, life, chance, "replaced", 50)
        for number in range(20):
            put(left, life, chance, f"many{number}", chance.randrange(1, 2000))
            await life.journal.commit()
            if number == 14:
                checkpoint(live)
        shutil.copytree(live, left.state)
    return left


async def demand_nothing_lost_in_silence(left: Left) -> str:
    """Start again, and demand that all is there or is told; return how it ended."""
    before = spooled(left)
    try:
        async with living(left.state, left.store, left.bucket_id) as life:
            errors = await life.flush()
            told = {op.name for op in life.journal.queue.ops.values()}
            assert bool(errors) == bool(told)
    except LocalStorageError as exc:
        assert str(left.state) in str(exc)
        assert spooled(left) == before, "files went, although the start was refused"
        found = look(left.state)  # shows it without falling over
        assert found.damage or "damaged" not in str(exc)
        told, outcome = set(left.promised), "refused"
    else:
        outcome = "told" if told else "whole"
    there = shown(left.store.account, left.bucket_id)
    for name, data in left.promised.items():
        assert name in told or there.get(name) == data, f"{name} is lost and nobody is told"
    for stored in left.store.account.files.values():
        name, data = stored.row.name, stored.data
        assert not data or data in left.ever[name], f"{name} got bytes that nobody wrote"
    return outcome


def spooled(left: Left) -> set[str]:
    return (
        {path.name for path in (left.state / "spool").iterdir()} if (left.state / "spool").is_dir() else set()
    )


def delete(path: Path, _left: Left) -> None:
    path.unlink()


def empty(path: Path, _left: Left) -> None:
    os.truncate(path, 0)


def halve(path: Path, _left: Left) -> None:
    os.truncate(path, path.stat().st_size // 2)


def zero(path: Path, _left: Left) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flip(path: Path, _left: Left) -> None:
    """Flip a bit in each of some places; of a file that is read whole, one is enough."""
    data = bytearray(path.read_bytes())
    chance = random.Random(len(data))
    for _ in range(1 if len(data) <= WHOLE else 2000):
        if data:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def rubbish(path: Path, _left: Left) -> None:
    path.write_bytes(random.Random(1).randbytes(path.stat().st_size))


def older(path: Path, left: Left) -> None:
    """Put back an older copy; of a file that was not there then, that of another."""
    there = left.older / path.relative_to(left.state)
    if not there.exists():
        there = next(one for one in (left.older / "spool").iterdir())
    path.unlink()
    shutil.copyfile(there, path)


def directory(path: Path, _left: Left) -> None:
    path.unlink()
    path.mkdir()


def dangling(path: Path, _left: Left) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def link_to_another(path: Path, left: Left) -> None:
    other = left.state.with_name("other")
    other.write_bytes(random.Random(2).randbytes(path.stat().st_size))
    path.unlink()
    path.symlink_to(other)


Damage = Callable[[Path, Left], None]
DAMAGES: tuple[Damage, ...] = (
    delete, empty, halve, zero, flip, rubbish, older, directory, dangling, link_to_another,
)  # fmt: skip
# What must be seen, as changes are gone with it.
LOSES = {
    ("journal.sqlite", damage) for damage in (delete, empty, zero, rubbish, older, directory, dangling)
} | {("journal.sqlite-wal", damage) for damage in (delete, empty, zero, rubbish, older, flip)}


def cases() -> Iterator[object]:
    for name in (*JOURNAL, *SPOOL):
        for damage in DAMAGES:
            yield pytest.param(name, damage, id=f"{damage.__name__}-{name}")


@pytest.mark.parametrize(("name", "damage"), list(cases()))
async def test_no_damage_loses_in_silence_what_was_promised(
    tmp_path: Path, name: str, damage: Damage
) -> None:
    left = await leave(tmp_path)
    damage(left.path(name), left)
    outcome = await demand_nothing_lost_in_silence(left)
    if (name, damage) in LOSES:
        assert outcome == "refused"
    elif name in ("small", "reserve", "journal.sqlite-shm") and damage not in (
        directory,
        dangling,
        link_to_another,
    ):
        assert outcome == "whole"


async def test_a_journal_that_is_older_than_its_spool_is_refused(tmp_path: Path) -> None:
    """Restored from a backup with all that belongs to it, but for the spool."""
    left = await leave(tmp_path)
    left.path("journal.sqlite-wal").unlink()
    for name in ("journal.sqlite", "journal.count"):
        older(left.path(name), left)
    with pytest.raises(LocalStorageError, match=r"damaged: it is older than \d+ files of its spool \("):
        async with living(left.state, left.store, left.bucket_id):
            pass
    found = look(left.state)
    assert any("older than" in words for words in found.damage)
    assert {"large", "huge", "many3"} <= {stray.name for stray in found.strays}
    done = export(found, tmp_path / "out", None, incomplete=False, progress=lambda _files, _size: None)
    saved = {path.read_bytes() for path in (tmp_path / "out/spool").iterdir()}
    assert {left.promised[name] for name in ("large", "huge", "many3")} <= saved
    assert ", of huge" in done.report.read_text()


async def test_what_was_never_promised_goes_and_alarms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, bucket_id = memory()
    state = tmp_path / "state"
    async with living(tmp_path / "live", store, bucket_id, running=False) as life:
        life.draft(bytes(LARGEST + 1))
        life.draft(b"short")
        shutil.copytree(tmp_path / "live", state)
    assert len(list((state / "spool").iterdir())) == 2
    async with living(state, store, bucket_id) as life:
        assert (life.left, life.journal.kept, list((state / "spool").iterdir())) == ([], [], [])
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_what_cannot_be_told_is_kept_and_named(tmp_path: Path) -> None:
    """No count, and no attributes of files: as on a file system without, or after an older version."""
    store, bucket_id = memory()
    state = tmp_path / "state"
    async with living(tmp_path / "live", store, bucket_id, running=False) as life:
        life.draft(b"perhaps closed")
        shutil.copytree(tmp_path / "live", state)
    (state / "journal.count").unlink()
    os.removexattr(state / "spool", "user.b2mount")
    for _ in range(2):
        async with living(state, store, bucket_id) as life:
            (kept,) = life.journal.kept
            assert (kept.path.name, kept.size) == ("lost-1", 14)
            life.put("new", b"another")
            assert await life.flush() == []
    found = look(state)
    assert ([stray.path.name for stray in found.strays], found.damage) == (["lost-1"], [])
    export(found, tmp_path / "out", None, incomplete=False, progress=lambda _files, _size: None)
    assert (tmp_path / "out/spool/lost-1").read_bytes() == b"perhaps closed"
    discard_left(state, found.count)
    assert sorted(path.name for path in state.iterdir()) == ["lock", "reserve"]
    async with living(state, store, bucket_id) as life:
        assert life.journal.kept == []


async def test_an_emptied_state_directory_in_which_nothing_waited_is_begun_anew(tmp_path: Path) -> None:
    store, bucket_id = memory()
    async with living(tmp_path, store, bucket_id) as life:
        life.put("a", b"content")
        assert await life.flush() == []
        await life.journal.commit()
        await until(lambda: not list((tmp_path / "spool").iterdir()))
    (tmp_path / "journal.sqlite").unlink()
    async with living(tmp_path, store, bucket_id) as life:
        life.put("b", b"content")
        await life.journal.commit()
    async with living(tmp_path, store, bucket_id) as life:
        assert await life.flush() == []
    assert shown(store.account, bucket_id) == dict.fromkeys("ab", b"content")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(300))
async def test_no_few_damages_at_once_lose_in_silence_what_was_promised(tmp_path: Path, seed: int) -> None:
    left = await leave(tmp_path, seed)
    chance = random.Random(f"damages {seed}")
    for _ in range(chance.choice((2, 2, 3))):
        path = left.path(chance.choice((*JOURNAL[:2], "journal.count", *JOURNAL, *SPOOL)))
        if path.is_file() and not path.is_symlink():
            chance.choice(DAMAGES)(path, left)
    await demand_nothing_lost_in_silence(left)
