"""What a mount loads when it starts: its imports are most of its start-up."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from b2mount.journal.database import LOG_SIZE
from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount
from tests.support.semantics import wait_until

pytestmark = pytest.mark.fuse

# Each is for a verb, an option or a mishap, and took 2 to 200 ms.
NOT_AT_START = {
    "asyncio",
    "b2sdk._internal.api",
    "b2sdk._internal.b2_http",
    "b2sdk.v3",
    "b2mount.emulator",
    "b2mount.fs.restore",
    "b2mount.mount_metrics",
    "b2mount.store.keys",
    "difflib",
    "prometheus_client",
    "requests",
    "rich",
    "tomllib",
    "urllib3",
}
AT_START = {"b2sdk._internal.raw_api", "pyfuse3", "sqlite3"}  # proves that imports are seen


def test_a_plain_mount_imports_nothing_that_only_verbs_and_options_need(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    key = emulator.create_key(ALL, [bucket])
    program = (sys.executable, "-X", "importtime", "-m", "b2mount.cli.main")
    with Mount(emulator, tmp_path, key, source=bucket, program=program) as mount:
        (mount.path / "file").write_text("as usual")
        assert (mount.path / "file").read_text() == "as usual"
        lines = mount.log().splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert imported >= AT_START
    assert imported & NOT_AT_START == set()


# Where pyfuse3 is to be imported, waits for an authorize call to reach the server; gives up after a minute.
# Not as a finder of modules: those hold the lock that imports in other threads need.
WAITS_FOR_THE_CALL = """
import builtins, http.client, json, os, sys, time
imported = builtins.__import__
def calls():
    connection = http.client.HTTPConnection(os.environ["TEST_SERVER"], timeout=60)
    connection.request("GET", "/_control/counters")
    return json.loads(connection.getresponse().read())["calls"].get("b2_authorize_account", 0)
def waiting(name, *rest, **more):
    deadline = time.monotonic() + 60
    while name == "pyfuse3" and calls() <= BEFORE:
        assert time.monotonic() < deadline, "nothing was asked before pyfuse3 was imported"
        time.sleep(0.02)
    return imported(name, *rest, **more)
builtins.__import__ = waiting
from b2mount.cli.main import main
sys.exit(main())
"""


def test_the_key_is_asked_about_while_the_rest_is_imported(
    emulator: Emulator, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = emulator.create_key(ALL, [bucket])
    before = emulator.counters()["calls"].get("b2_authorize_account", 0)
    monkeypatch.setenv("TEST_SERVER", emulator.url.removeprefix("http://"))
    program = (sys.executable, "-c", WAITS_FOR_THE_CALL.replace("BEFORE", str(before)))
    with Mount(emulator, tmp_path, key, source=bucket, program=program) as mount:
        (mount.path / "file").write_text("as usual")
        mount.flush()
    assert emulator.counters()["calls"]["b2_authorize_account"] == before + 1


def test_what_a_start_asks_besides_is_asked_side_by_side(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    key = emulator.create_key([*ALL, "readBucketRetentions"], [bucket])
    mount = Mount(emulator, tmp_path, key, source=f"{bucket}/nothing/here")

    def asked() -> set[str]:
        return {entry["call"] for entry in emulator.control("GET", "busy")["entries"]}

    try:
        with ThreadPoolExecutor(1) as pool:
            try:
                emulator.network(latency_ms=2000)
                started = pool.submit(mount.start)
                wait_until(lambda: asked() >= {"b2_list_buckets", "b2_list_file_names"}, "both are under way")
            finally:
                emulator.network(latency_ms=0)
            started.result()
        assert "there is nothing yet under 'nothing/here/'" in mount.log()
        assert mount.stop() == 0
    finally:
        mount.kill()


def test_the_journal_is_ready_for_the_first_change_before_there_is_one(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    def log_bytes() -> int:
        return sum(path.stat().st_size for path in (tmp_path / "state").rglob("*-wal"))

    with Mount(emulator, tmp_path, emulator.create_key(ALL, [bucket]), source=bucket) as mount:
        wait_until(lambda: log_bytes() >= LOG_SIZE, "the write-ahead log has its size")
        assert mount.stop() == 0
        mount.options = ["--read-only"]
        mount.start()
        assert mount.status()["pending"]["files"] == 0
        assert log_bytes() < LOG_SIZE, "where nothing can be written, nothing is prepared"
