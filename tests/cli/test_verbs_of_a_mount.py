"""status, flush, unmount and refresh as users run them, against a real control socket."""

import json
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from b2mount.cli.status import find_log, plain
from b2mount.cli.status_words import describe
from tests.cli.mounts import SpokenMount, spoken_mount
from tests.cli.running import Shell, wait_until

STATUS: dict[str, Any] = {
    "version": "0.1.0",
    "mountpoint": "/mnt/photos",
    "pid": 4711,
    "source": "photos/2024",
    "scope": {
        "account": "8f5033aa0860",
        "buckets": ["photos"],
        "prefix": "2024/",
        "directory": "2024/summer/",
        "read_only": False,
        "capabilities": ["listFiles", "readFiles", "writeFiles"],
    },
    "key": {"id": "0018f5033aa08600000000001", "expires_ms": 86_400_000, "left_seconds": 3700.5},
    "pending": {
        "files": 22,
        "bytes": 5 << 20,
        "items": [
            {
                "name": "2024/a.jpg",
                "bytes": 4 << 20,
                "sent_bytes": 1 << 20,
                "state": "sending",
                "attempts": 1,
            },
            {
                "name": "2024/b\x1b[2J",
                "bytes": 10,
                "state": "waiting",
                "attempts": 3,
                "error": "no writeFiles",
                "next_try_seconds": 8.2,
            },
        ],
    },
    "cache": {
        "memory_bytes": 1024,
        "disk_bytes": 2 << 30,
        "hits": 3,
        "misses": 1,
        "listings": 7,
        "inodes": 9,
        "listing_hits": 9,
        "listing_misses": 1,
        "scans": {"fetched": 8, "hits": 6, "unread": 2},
    },
    "open_files": 1,
    "failing": [{"operation": "upload", "seconds": 65.0, "retries": 4, "error": "no answer"}],
    "latency": {"b2_list_file_names": {"count": 11, "p50": 0.04, "p90": 0.05, "p99": 0.09, "longest": 1.5}},
    "bytes": {"up": 4096, "down": 1 << 20},
    "today": {
        "A": 9,
        "B": 8,
        "C": 7,
        "up": 8192,
        "down": 2 << 20,
        "cost_dollars": 0.0,
        "budget": {
            "class_c": {"limit": 7, "spent": 7, "stage": "spent", "means": "listings are believed longer"},
            "download_bytes": {"limit": 5 << 19, "spent": 2 << 20, "stage": "near", "means": None},
        },
    },
    "caps": [
        {"kind": "class_c", "call": "b2_list_file_names", "since_ms": 0, "last_ms": 1000, "over_ms": 60_000}
    ],
    "calls": {"A": 5, "B": 2, "C": 11, "by_name": {"b2_upload_file": 5, "b2_list_file_names": 11}},
    "cost_dollars": 0.000052,
    "errors": [{"when_ms": 0, "level": "warning", "text": "2024/b: the key lacks writeFiles"}],
    "uptime_seconds": 90061.5,
    "state_dir": "/var/lib/b2mount/photos-2024-55421c2ae54c01d5",
}


def serve(tmp_path: Path, **answers: Sequence[dict[str, Any]]) -> AbstractContextManager[SpokenMount]:
    return spoken_mount(tmp_path / "mnt", tmp_path / "control", {**answers})


def test_status_is_told_in_words(tmp_path: Path, shell: Shell) -> None:
    with serve(tmp_path, status=[{"done": True, "status": STATUS}]) as mount:
        done = shell.run("status", mount.mountpoint, env={"TZ": "UTC"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "mount:     /mnt/photos",
        "source:    photos/2024",
        "buckets:   photos",
        "root:      2024/summer/",
        "prefix:    2024/",
        "access:    read and write",
        "key may:   listFiles readFiles writeFiles",
        "up:        1d 1h (process 4711)",
        "key:       0018f5033aa08600000000001",
        "key ends:  1970-01-02 00:00:00+00:00, in 1h 1m",
        "pending:   22 files, 5.0 MiB not yet in B2",
        "  2024/a.jpg, 4.0 MiB (25% sent), sending, 1 attempt",
        "  2024/b\\x1b[2J, 10 B, waiting, 3 attempts, no writeFiles, next try in 8s",
        "  and 20 more (--json shows all that the mount tells)",
        "kept in:   /var/lib/b2mount/photos-2024-55421c2ae54c01d5",
        "failing:   upload, for 1m 5s and 4 tries: no answer",
        "cache:     1.0 KiB memory, 2.0 GiB disk, 75% of 4 reads answered",
        "names:     7 listings, 9 inodes, 90% of 10 looks answered, 1 open file",
        "ahead:     8 files fetched ahead of scans, 6 of them read",
        "calls:     5 class A, 2 class B, 11 class C, about $0.0001",
        "        11 b2_list_file_names, half in 40 ms, 99% in 90 ms, all in 1.5 s",
        "         5 b2_upload_file",
        "moved:     4.0 KiB up, 1.0 MiB down",
        "today:     9 class A, 8 class B, 7 class C, about $0.0000 past the free ones; "
        "8.0 KiB up, 2.0 MiB down (UTC)",
        "budget:    7 of 7 class C calls today: spent; until 00:00 UTC listings are believed longer",
        "budget:    2.0 MiB of 2.5 MiB download today: nearly spent",
        "cap:       B2 said that the account's cap is reached (class_c), at b2_list_file_names, "
        "from 1970-01-01 00:00:00+00:00 to 1970-01-01 00:00:01+00:00; lifted 1970-01-01 00:01:00+00:00",
        "warning:   1970-01-01 00:00:00+00:00 2024/b: the key lacks writeFiles",
    ]


def test_status_as_json_is_what_the_mount_said(tmp_path: Path, shell: Shell) -> None:
    with serve(tmp_path, status=[{"done": True, "status": STATUS}]) as mount:
        done = shell.run("status", "--json", mount.mountpoint)
    assert json.loads(done.stdout) == STATUS


@pytest.mark.parametrize("field", sorted(STATUS))
def test_status_does_without_any_field(field: str) -> None:
    list(describe({name: value for name, value in STATUS.items() if name != field}))
    list(describe({**STATUS, field: None if isinstance(STATUS[field], (dict, list)) else STATUS[field]}))


def test_the_log_of_a_process_is_where_its_errors_go(tmp_path: Path) -> None:
    log = tmp_path / "b2mount.log"  # its path is among the words of the process, as b2mount is of a mount's
    with log.open("w") as output, socket.socket(socket.AF_UNIX) as journal:
        assert log_of_a_process(output.fileno(), log)[1] == str(log)
        pid, found = log_of_a_process(journal.fileno(), log)
        assert found == f"journalctl _PID={pid}"
        pid, found = log_of_a_process(subprocess.PIPE, log)
        assert found is None
    assert (find_log(pid), find_log(None)) == (None, None)


def log_of_a_process(stderr: int, word: Path) -> tuple[int, str | None]:
    with subprocess.Popen(["tail", "-f", word], stderr=stderr) as process:
        wait_until(lambda: b"b2mount" in Path(f"/proc/{process.pid}/cmdline").read_bytes())
        found = find_log(process.pid)
        process.kill()
    return process.pid, found


def test_status_of_a_mount_that_tells_nothing() -> None:
    assert [plain(*row) for row in describe({})] == ["pending:   nothing: all that was written is in B2"]


def test_flush_is_quiet_where_nobody_watches(tmp_path: Path, shell: Shell) -> None:
    progress = {"pending_files": 3, "pending_bytes": 1 << 20}
    with serve(tmp_path, flush=[progress, {"done": True, "ok": True, "failed": []}]) as mount:
        done = shell.run("flush", "--timeout", "5m", mount.mountpoint)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert mount.requests == [{"op": "flush", "timeout": 300.0}]


def test_flush_names_each_file_that_cannot_be_sent(tmp_path: Path, shell: Shell) -> None:
    failed = [{"name": "a.txt", "error": "the key lacks writeFiles"}]
    with serve(tmp_path, flush=[{"done": True, "ok": False, "failed": failed}]) as mount:
        done = shell.run("flush", mount.mountpoint)
    assert done.returncode == 4
    assert done.stderr.splitlines() == [
        "b2mount: error: a.txt is not in B2: the key lacks writeFiles",
        "b2mount: error: not everything is in B2: 1 file could not be sent",
        f"b2mount: hint: b2mount status {mount.mountpoint} shows what waits; it is kept and tried again",
    ]


def test_flush_says_when_the_time_is_over(tmp_path: Path, shell: Shell) -> None:
    with serve(tmp_path, flush=[{"done": True, "ok": False, "failed": []}]) as mount:
        done = shell.run("flush", "--timeout", "1", mount.mountpoint)
    assert done.returncode == 4
    assert "b2mount: error: not everything is in B2: the time is over\n" in done.stderr


def test_unmount_asks_the_mount_to_end_and_returns_when_it_is_gone(tmp_path: Path, shell: Shell) -> None:
    answers = {
        "status": [{"done": True, "status": {}}],
        "unmount": [{"done": True, "ok": True, "failed": []}],
    }
    with serve(tmp_path, **answers) as mount:
        done = shell.run("unmount", mount.mountpoint)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert mount.requests == [{"op": "status"}, {"op": "unmount", "timeout": None, "force": False}]


def test_unmount_waits_until_the_process_of_the_mount_has_ended(tmp_path: Path, shell: Shell) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        answers: dict[str, Sequence[dict[str, Any]]] = {
            "status": [{"done": True, "status": {"pid": process.pid}}],
            "unmount": [{"done": True, "ok": True, "failed": []}],
        }
        with serve(tmp_path, **answers) as mount:
            unmounting = subprocess.Popen(
                [sys.executable, "-m", "b2mount.cli.main", "unmount", mount.mountpoint], env=shell.environ()
            )
            wait_until(lambda: len(mount.requests) == 2)
            with pytest.raises(subprocess.TimeoutExpired):
                unmounting.wait(0.3)
            process.stdin.close()
            assert unmounting.wait(240) == 0


def test_a_name_is_told_once(tmp_path: Path, shell: Shell) -> None:
    failed = [{"name": "a.txt", "error": "a.txt: the key lacks writeFiles"}]
    with serve(tmp_path, flush=[{"done": True, "ok": False, "failed": failed}]) as mount:
        done = shell.run("flush", mount.mountpoint)
    assert done.stderr.splitlines()[0] == "b2mount: error: a.txt is not in B2: the key lacks writeFiles"


def test_unmount_by_force_tells_of_what_is_unsent_all_the_same(tmp_path: Path, shell: Shell) -> None:
    failed = [{"name": "a.txt", "error": "the key has expired"}]
    answers: dict[str, Sequence[dict[str, Any]]] = {
        "status": [{"done": True, "status": {"state_dir": "/var/lib/b2mount/photos-1"}}],
        "unmount": [{"done": True, "ok": True, "failed": failed}],
    }
    with serve(tmp_path, **answers) as mount:
        done = shell.run("unmount", "--force", mount.mountpoint)
    assert done.returncode == 4
    assert mount.requests[1:] == [{"op": "unmount", "timeout": None, "force": True}]
    assert done.stderr.splitlines() == [
        "b2mount: error: a.txt is not in B2: the key has expired",
        f"b2mount: error: {mount.mountpoint} is unmounted, but 1 change could not be sent to B2",
        "b2mount: hint: it is kept in /var/lib/b2mount/photos-1: never delete that",
        "b2mount: hint: the next mount of the same source sends it",
    ]


def test_refresh_names_the_path_inside_the_mount(tmp_path: Path, shell: Shell) -> None:
    with serve(tmp_path, refresh=[{"done": True}]) as mount:
        done = shell.run("refresh", mount.mountpoint / "2024" / "summer")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert mount.requests == [{"op": "refresh", "path": "2024/summer"}]


@pytest.mark.parametrize("verb", ["status", "flush", "unmount", "refresh"])
def test_each_verb_says_when_there_is_no_mount(tmp_path: Path, shell: Shell, verb: str) -> None:
    done = shell.run(verb, tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"b2mount: error: {tmp_path} is not {'inside ' if verb == 'refresh' else ''}a b2mount mount",
        "b2mount: hint: findmnt -t fuse.b2mount lists the mounts there are",
    ]


def test_watch_goes_on_below_where_a_terminal_takes_nothing_back(tmp_path: Path, shell: Shell) -> None:
    terminal, other = pty.openpty()
    words = ["status", "--watch", "0.1s", str(tmp_path / "mnt")]
    with serve(tmp_path, status=[{"done": True, "status": STATUS}]):
        watching = subprocess.Popen(
            [sys.executable, "-m", "b2mount.cli.main", *words],
            env=shell.environ({"TERM": "dumb"}),
            stdout=other,
        )
        try:
            said = b""
            while said.count(b"/mnt/photos") < 2:
                said += os.read(terminal, 4096)
        finally:
            watching.kill()
            watching.wait()
            os.close(other)
            os.close(terminal)
    assert b"\x1b" not in said
