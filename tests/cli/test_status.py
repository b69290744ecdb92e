"""status on a terminal, again and again, of all mounts, as JSON: against control sockets and real mounts."""

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.mounts import spoken_mount
from tests.cli.running import Shell
from tests.support.emulator import Emulator
from tests.support.mount import Mount, mounted
from tests.support.semantics import wait_until

LEAVES_THE_SCREEN = b"\x1b[?1049l"
SHOWS_THE_CURSOR = b"\x1b[?25h"
FACTS = {
    "mountpoint": "/mnt/b2",
    "pending": {
        "files": 1,
        "bytes": 5,
        "items": [{"name": "a\x1b[2J", "bytes": 5}],
        "kept_files": [{"file": "/state/spool/lost-1", "bytes": 7}],
    },
}


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, shell: Shell, *words: str | Path) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "b2mount.cli.main", *map(str, words)],
            env=shell.environ({"TERM": "xterm", "COLUMNS": "100", "LINES": "40"}),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.shown = b""

    def read_until(self, text: bytes) -> None:
        """Read what is shown until *text* was, or the end."""
        deadline = time.monotonic() + 240
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            if not self._read(1.0):
                return

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self.master], [], [], seconds)
        if not ready:
            return True
        try:
            chunk = os.read(self.master, 65536)
        except OSError:  # the other side is closed
            return False
        self.shown += chunk
        return bool(chunk)

    def finish(self) -> int:
        """Read to the end; return the exit status."""
        deadline = time.monotonic() + 240
        while self._read(1.0):
            assert time.monotonic() < deadline, self.shown
        os.close(self.master)
        return self.process.wait(240)


def told(*facts: dict[str, Any]) -> dict[str, Any]:
    return {"status": [{"done": True, "status": one} for one in facts]}


def test_on_a_terminal_status_is_a_table_and_harmless(tmp_path: Path, shell: Shell) -> None:
    with spoken_mount(tmp_path / "mnt", tmp_path / "control", told(FACTS)) as mount:
        terminal = Terminal(shell, "status", mount.mountpoint)
        assert terminal.finish() == 0
    assert b"/mnt/b2" in terminal.shown
    assert b"a\\x1b[2J" in terminal.shown
    assert b"1 file, 7 B, of no change" in terminal.shown
    assert b"\x1b[2J" not in terminal.shown
    assert LEAVES_THE_SCREEN not in terminal.shown


@pytest.mark.parametrize("words", [["--watch", "0.1s"], ["--watch"], ["--watch=200ms"]])
def test_watch_renews_itself_and_leaves_the_screen_as_it_was(
    tmp_path: Path, shell: Shell, words: list[str]
) -> None:
    with spoken_mount(tmp_path / "mnt", tmp_path / "control", told(FACTS)) as mount:
        terminal = Terminal(shell, "status", *words, mount.mountpoint)
        terminal.read_until(b"not yet in B2")
        wait_until(lambda: len(mount.requests) > 1, "it asks again")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.finish() == 0
    after = terminal.shown.rpartition(LEAVES_THE_SCREEN)
    assert after[1], "the screen is given back"
    assert SHOWS_THE_CURSOR in terminal.shown[terminal.shown.index(b"not yet in B2") :]
    assert b"Traceback" not in terminal.shown
    assert b"not yet" not in after[2]


def test_a_mount_that_ends_under_watch_gives_the_screen_back_and_says_so(
    tmp_path: Path, shell: Shell
) -> None:
    with spoken_mount(tmp_path / "mnt", tmp_path / "control", told(FACTS)) as mount:
        terminal = Terminal(shell, "status", "--watch", "0.1s", mount.mountpoint)
        terminal.read_until(b"not yet in B2")
    assert terminal.finish() == 1
    assert b"b2mount: error: " in terminal.shown.rpartition(LEAVES_THE_SCREEN)[2]


def test_watch_as_json_is_one_line_a_look(tmp_path: Path, shell: Shell) -> None:
    with spoken_mount(tmp_path / "mnt", tmp_path / "control", told(FACTS)) as mount:
        process = subprocess.Popen(
            [sys.executable, "-m", "b2mount.cli.main", "status", "--json", "--watch=0.1", mount.mountpoint],
            env=shell.environ(),
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        with process.stdout:
            lines = [process.stdout.readline(), process.stdout.readline()]
            process.send_signal(signal.SIGINT)
            assert process.wait(240) == 0
    assert [json.loads(line) for line in lines] == [FACTS, FACTS]


@pytest.mark.parametrize("words", [["--watch", "soon", "/mnt"], ["--watch=x", "/mnt"]])
def test_a_time_that_is_none_is_refused(shell: Shell, words: list[str]) -> None:
    done = shell.run("status", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("b2mount: error: --watch: ")


# --- of real mounts ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def two_mounts(emulator: Emulator, bucket: str, tmp_path: Path) -> Iterator[tuple[Mount, Mount]]:
    with (
        mounted(emulator, tmp_path / "one", bucket) as one,
        mounted(emulator, tmp_path / "two", bucket, options=["--read-only"]) as two,
    ):
        yield one, two


def answers(shell: Shell) -> dict[str, dict[str, Any]]:
    done = shell.run("status", "--json")
    assert done.returncode == 0, done.stderr
    return {facts["mountpoint"]: facts for facts in json.loads(done.stdout)}


@pytest.mark.fuse
def test_without_a_mount_point_all_mounts_are_told_also_a_dead_one(
    emulator: Emulator, bucket: str, tmp_path: Path, shell: Shell
) -> None:
    with two_mounts(emulator, bucket, tmp_path) as (one, two):
        told_of = answers(shell)
        assert told_of[str(one.path)]["scope"]["read_only_because"] is None
        assert told_of[str(two.path)]["scope"]["read_only_because"] == "it was mounted so"
        plain = shell.run("status").stdout
        assert f"mount:     {one.path}\n" in plain
        assert f"mount:     {two.path}\n" in plain
    dead = Mount(emulator, tmp_path / "dead", one.key).start()
    assert dead.process is not None
    dead.process.kill()
    dead.process.wait()
    try:
        assert "dead mount" in answers(shell)[str(dead.path)]["error"]
    finally:
        dead.kill()


@pytest.mark.fuse
def test_status_tells_of_the_key_the_calls_and_what_is_tried_again(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    key = emulator.create_key(["listFiles", "readFiles", "writeFiles"], [bucket], seconds=3600)
    with Mount(emulator, tmp_path, key, options=["--io-timeout", "60s", "--settle", "0s"]) as mount:
        emulator.fault(call="b2_upload_file", kind="status", status=503, times=1000)
        (mount.path / "file").write_bytes(bytes(1000))
        wait_until(lambda: bool(mount.status()["failing"]), "the first attempt says that it fails")
        facts = mount.status()
        assert facts["failing"][0]["operation"] == "upload"
        assert facts["failing"][0]["error"]
        (item,) = facts["pending"]["items"]
        assert (item["name"], item["bytes"], item["state"]) == ("file", 1000, "sending")
        assert any("upload fails" in error["text"] for error in facts["errors"])
        emulator.clear_faults()
        mount.flush()
        assert (mount.path / "file").read_bytes() == bytes(1000)
        facts = mount.status()
        assert facts["failing"] == []
        assert facts["key"]["id"] == key[0]
        assert 3000 < facts["key"]["left_seconds"] <= 3600
        assert key[1] not in json.dumps(facts)
        upload = facts["latency"]["b2_upload_file"]
        assert 0 < upload["p50"] <= upload["p90"] <= upload["p99"] <= upload["longest"]
        assert facts["today"]["A"] == facts["calls"]["A"] >= 2
        with (mount.path / "file").open("rb"):
            assert mount.status()["open_files"] == 1


@pytest.mark.fuse
def test_a_cap_shows_with_its_time_and_that_it_is_lifted(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    with mounted(emulator, tmp_path, bucket, options=["--listing-ttl", "0s"]) as mount:
        emulator.upload(bucket, "file", b"x")
        try:
            emulator.caps(class_c=0)
            with pytest.raises(OSError, match="quota"):
                list(mount.path.iterdir())
            (cap,) = mount.status()["caps"]
            assert (cap["kind"], cap["over_ms"]) == ("class_c", None)
        finally:
            emulator.caps()
        list(mount.path.iterdir())
        (cap,) = mount.status()["caps"]
        assert cap["over_ms"] >= cap["since_ms"]
