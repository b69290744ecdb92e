"""SQLite databases on a mount, in each journal mode."""

import random
import sqlite3
from pathlib import Path

import pytest

from tests.support.mount import Mount
from tests.support.programs import run, slow

pytestmark = [pytest.mark.fuse, pytest.mark.tools]


def fill(path: Path, mode: str, seed: int) -> int:
    """Run transactions, some of them rolled back; return how many rows there should be."""
    chance = random.Random(seed)
    db = sqlite3.connect(path, isolation_level=None)
    assert db.execute(f"PRAGMA journal_mode={mode}").fetchone()[0] == mode.lower()
    db.execute("PRAGMA cache_size=10")  # pages, so that transactions spill
    db.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, body BLOB)")
    db.execute("CREATE INDEX IF NOT EXISTS i ON t (body)")
    for turn in range(7):
        db.execute("BEGIN")
        for _ in range(chance.randrange(1, 30)):
            db.execute("INSERT INTO t (body) VALUES (?)", (chance.randbytes(chance.randrange(2000)),))
        if turn % 4 == 2:
            db.execute("DELETE FROM t WHERE id % 3 = 0")
        db.execute("ROLLBACK" if turn % 5 == 3 else "COMMIT")
    count = int(db.execute("SELECT count(*) FROM t").fetchone()[0])
    db.close()
    return count


@pytest.mark.parametrize("mode", ["DELETE", slow("TRUNCATE"), slow("PERSIST"), "WAL"])
def test_transactions_survive_a_remount(tenant: Mount, mode: str) -> None:
    path = tenant.path / "data.db"
    count = 0
    for seed in range(2):
        count = fill(path, mode, seed)
        assert run("sqlite3", path, "PRAGMA integrity_check; SELECT count(*) FROM t;") == f"ok\n{count}\n"
        tenant.remount(empty_cache=True)
        assert run("sqlite3", path, "PRAGMA integrity_check; SELECT count(*) FROM t;") == f"ok\n{count}\n"
    run("sqlite3", path, "VACUUM; DELETE FROM t WHERE id % 2; VACUUM;")
    tenant.remount(empty_cache=True)
    left = run("sqlite3", path, "PRAGMA integrity_check; SELECT count(*) FROM t;").split()
    assert left[0] == "ok"
    assert 0 < int(left[1]) < count


def test_a_committed_transaction_is_in_b2_and_a_copy_from_there_opens(
    tenant: Mount, bucket: str, tmp_path: Path
) -> None:
    count = fill(tenant.path / "data.db", "DELETE", 7)
    copy = tmp_path / "copy.db"
    copy.write_bytes(tenant.emulator.download(bucket, "tenant-a/data.db"))  # no flush: COMMIT synced it
    assert run("sqlite3", copy, "PRAGMA integrity_check; SELECT count(*) FROM t;") == f"ok\n{count}\n"


def test_a_hot_journal_rolls_back_after_the_writer_died(tenant: Mount, tmp_path: Path) -> None:
    path = tenant.path / "data.db"
    count = fill(path, "DELETE", 3)
    script = f"""
import os, sqlite3
db = sqlite3.connect({str(path)!r}, isolation_level=None)
db.execute("PRAGMA cache_size=1")
db.execute("BEGIN IMMEDIATE")
for i in range(500):
    db.execute("INSERT INTO t (body) VALUES (randomblob(3000))")
os._exit(0)
"""
    run("python", "-c", script)
    assert (tenant.path / "data.db-journal").exists()
    tenant.remount(empty_cache=True)
    assert run("sqlite3", path, "PRAGMA integrity_check; SELECT count(*) FROM t;") == f"ok\n{count}\n"


def test_two_writers_keep_out_of_each_others_way(tenant: Mount) -> None:
    path = tenant.path / "data.db"
    fill(path, "DELETE", 1)
    first = sqlite3.connect(path, isolation_level=None, timeout=0)
    second = sqlite3.connect(path, isolation_level=None, timeout=0)
    first.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        second.execute("BEGIN IMMEDIATE")
    first.execute("COMMIT")
    second.execute("BEGIN IMMEDIATE")
    second.execute("COMMIT")
    first.close()
    second.close()
