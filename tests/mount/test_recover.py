"""`b2mount recover`: what a killed mount left is shown, sent, saved or thrown away; nothing else happens."""

import json
import os
import pty
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount, MountFailed
from tests.support.semantics import ask, fresh_bucket, refusals_of, wait_until

pytestmark = pytest.mark.fuse

LATER = ["--settle", "600"]  # nothing goes to B2 before the kill
LARGE = bytes(range(256)) * 24_000  # 6 MB: an append sends the new bytes alone
TIME_NS = 1_600_000_000_123_456_789


@pytest.fixture
def killed(emulator: Emulator, tmp_path: Path) -> Iterator[Mount]:
    """A mount that was killed with changes of every kind unsent."""
    with fresh_bucket(emulator) as bucket:
        emulator.upload(bucket, "old", b"old")
        emulator.upload(bucket, "gone", b"gone")
        emulator.upload(bucket, "log", LARGE)
        mount = Mount(emulator, tmp_path, emulator.create_key(ALL, [bucket]), options=LATER).start()
        mount.source = bucket
        (mount.path / "dir").mkdir(mode=0o750)
        (mount.path / "dir/new").write_bytes(b"new" * 1000)
        os.setxattr(mount.path / "dir/new", "user.colour", b"blue")
        os.chmod(mount.path / "dir/new", 0o640)
        os.utime(mount.path / "dir/new", ns=(TIME_NS, TIME_NS))
        os.symlink("/etc", mount.path / "link")
        with (mount.path / "log").open("ab") as file:
            file.write(b"appended")
        os.rename(mount.path / "old", mount.path / "renamed")
        os.unlink(mount.path / "gone")
        with open(mount.path / "sparse", "wb") as file:
            file.truncate(100_000)
        mount.kill()
        try:
            yield mount
        finally:
            mount.kill()


def recover(
    mount: Mount, *words: str, key: tuple[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `b2mount recover` on the mount's state directory, by default without credentials."""
    environ = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    environ |= {"HOME": str(mount.state.parent)}
    if key is not None:
        environ |= {"B2_APPLICATION_KEY_ID": key[0], "B2_APPLICATION_KEY": key[1]}
    command = [sys.executable, "-m", "b2mount.cli.main", "recover", "--state-dir", str(mount.state), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environ)


def names_in(emulator: Emulator, mount: Mount) -> set[str]:
    assert mount.source is not None
    return {row["fileName"] for row in emulator.list_names(mount.source)}


SENT = {"dir/.bzEmpty", "dir/new", "link", "log", "renamed", "sparse"}


def test_listing_names_each_scope_and_each_change_and_changes_nothing(killed: Mount) -> None:
    before = snapshot(killed.state)
    (row,) = json.loads(recover(killed, "--json").stdout)
    assert row["source"] == killed.source
    assert (row["changes"], row["in_use"], row["damage"]) == (8, False, [])
    assert row["bytes"] == 3012
    told = json.loads(recover(killed, row["scope"], "--json").stdout)
    changes = {(item["change"], item["name"]) for item in told["items"]}
    assert changes == {
        ("mkdir", "dir/.bzEmpty"),
        ("write", "dir/new"),
        ("symlink", "link"),
        ("write", "log"),
        ("copy", "renamed"),
        ("remove", "old"),
        ("remove", "gone"),
        ("write", "sparse"),
    }
    new = next(item for item in told["items"] if item["name"] == "dir/new")
    assert (new["size"], new["mode"], new["mtime_ns"], new["xattrs"]) == (
        3000,
        "0640",
        TIME_NS,
        ["user.colour"],
    )
    assert killed.source is not None
    text = recover(killed, killed.source).stdout
    assert re.search(r"write +\S+/log, 5.9 MiB, 8 B of it new, .*since 20", text)
    assert "8 changes, 2.9 KiB" in recover(killed).stdout
    assert snapshot(killed.state) == before


def snapshot(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_uploading_does_what_the_next_mount_would_have_done(killed: Mount, emulator: Emulator) -> None:
    assert killed.source is not None
    done = recover(killed, "--upload", key=killed.key)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) <= 1  # what it waits for, no more
    assert names_in(emulator, killed) == SENT
    assert emulator.download(killed.source, "log") == LARGE + b"appended"
    assert emulator.download(killed.source, "dir/new") == b"new" * 1000
    assert json.loads(recover(killed, "--json").stdout)[0]["changes"] == 0
    assert recover(killed).stdout.startswith("nothing waits")
    since = emulator.last_seq()
    with killed as mount:
        assert os.stat(mount.path / "dir/new").st_mtime_ns == TIME_NS
        assert os.stat(mount.path / "dir").st_mode & 0o777 == 0o750
    sent = [entry["call"] for entry in emulator.log(since) if entry["key_id"] == killed.key[0]]
    assert not {"b2_upload_file", "b2_copy_file", "b2_hide_file"} & set(sent)


def test_what_cannot_be_uploaded_is_named_and_kept(killed: Mount, emulator: Emulator) -> None:
    assert killed.source is not None
    weak = emulator.create_key(ALL, [killed.source], "dir/")
    since = emulator.last_seq()
    done = recover(killed, "--upload", key=weak)
    assert done.returncode == 4
    assert "link is not in B2: the key covers only names that begin 'dir/'" in done.stderr
    assert "gone is not in B2: the key covers only names that begin 'dir/'" in done.stderr
    assert refusals_of(emulator, weak, since) == []
    assert names_in(emulator, killed) == {"dir/.bzEmpty", "dir/new", "log", "old", "gone"}
    with killed as mount:
        mount.flush()
    assert names_in(emulator, killed) == SENT


def test_a_key_of_another_bucket_sends_nothing_and_drops_nothing(killed: Mount, emulator: Emulator) -> None:
    with fresh_bucket(emulator) as other:
        foreign = emulator.create_key(ALL, [other])
        since = emulator.last_seq()
        done = recover(killed, "--upload", key=foreign)
        assert done.returncode == 4
        assert "gone is not in B2: the key does not open the bucket" in done.stderr
        assert refusals_of(emulator, foreign, since) == []
    assert names_in(emulator, killed) == {"log", "old", "gone"}
    (row,) = json.loads(recover(killed, "--json").stdout)
    assert row["changes"] == 8


def test_a_mount_that_lives_is_not_interfered_with(killed: Mount, tmp_path: Path) -> None:
    killed.start()
    row = json.loads(recover(killed, "--json").stdout)[0]
    assert killed.process is not None
    assert (row["in_use"], row["process"]) == (True, killed.process.pid)
    for words in (["--upload"], ["--export", str(tmp_path / "x")], ["--discard", "--yes-discard", "8"]):
        (killed.path / "later").write_bytes(b"so that something waits")
        done = recover(killed, *words, key=killed.key)
        assert done.returncode == 1
        assert "using" in done.stderr
    assert killed.stop() == 0


def test_an_export_with_a_key_is_whole(killed: Mount, tmp_path: Path) -> None:
    assert killed.source is not None
    target = tmp_path / "out"
    done = recover(killed, "--export", str(target), key=killed.key)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) <= 1  # what it waits for, no more
    files = target / "files" / killed.source
    assert sorted(os.listdir(files)) == ["dir", "link", "log", "sparse"]
    assert (files / "log").read_bytes() == LARGE + b"appended"
    assert (files / "dir/new").read_bytes() == b"new" * 1000
    assert (files / "sparse").read_bytes() == bytes(100_000)
    assert os.readlink(files / "link") == "/etc"
    told = os.stat(files / "dir/new")
    assert (stat.S_IMODE(told.st_mode), told.st_mtime_ns) == (0o640, TIME_NS)
    assert os.getxattr(files / "dir/new", "user.colour") == b"blue"
    assert stat.S_IMODE(os.stat(files / "dir").st_mode) == 0o750
    report = (target / "report.txt").read_text()
    assert re.search(r"removed in B2.*\n(  .*\n)*  \S+/gone\n", report)
    assert f"{killed.source}/old, renamed to {killed.source}/renamed" in report
    assert re.search(rf"{killed.source}/renamed, whose content is that of old \(4_z", report)
    assert recover(killed, "--export", str(target), key=killed.key).returncode == 1  # not over what is there
    with killed as mount:
        mount.flush()  # it was only looked at


def test_an_export_without_b2_writes_what_is_whole_and_names_the_rest(killed: Mount, tmp_path: Path) -> None:
    assert killed.source is not None
    target = tmp_path / "out"
    done = recover(killed, "--export", str(target))
    assert done.returncode == 1
    assert re.search(r"not written: \S+/log: bytes 0 to 6144000 of 4_z\S+ lie in B2 alone", done.stderr)
    files = target / "files" / killed.source
    assert sorted(os.listdir(files)) == ["dir", "link", "sparse"]
    done = recover(killed, "--export", str(tmp_path / "more"), "--incomplete")
    assert done.returncode == 1
    content = (tmp_path / "more/files" / killed.source / "log").read_bytes()
    assert content == bytes(len(LARGE)) + b"appended"
    assert "with parts missing" in (tmp_path / "more/report.txt").read_text()


def test_an_export_never_leaves_its_directory(emulator: Emulator, tmp_path: Path) -> None:
    with fresh_bucket(emulator) as bucket:
        mount = Mount(emulator, tmp_path, emulator.create_key(ALL, [bucket]), options=LATER)
        emulator.seed(bucket, [{"name": name, "content": "x"} for name in ("../up", "a", "a/b", "./x")])
        mount.start()
        for path in ("%b2-dotdot/up", "a%b2-file", "a/b", "%b2-dot/x"):
            (mount.path / path).write_bytes(path.encode())
        os.symlink("..", mount.path / "out")
        mount.kill()
        target = tmp_path / "deep/out"
        done = recover(mount, "--export", str(target))
        assert done.returncode == 0, done.stderr
        written = {path.relative_to(target / "files" / bucket).as_posix() for path in walk(target / "files")}
        assert written == {"%b2-dotdot/up", "a%b2-file", "a/b", "%b2-dot/x", "out"}
        assert {path.name for path in (tmp_path / "deep").iterdir()} == {"out"}


def walk(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if path.is_symlink() or path.is_file())


def test_a_corrupt_journal_is_refused_at_start_and_what_can_be_read_is_saved(
    killed: Mount, tmp_path: Path
) -> None:
    assert killed.source is not None
    (scope,) = killed.state.iterdir()
    journal = scope / "journal.sqlite"
    content = bytearray(journal.read_bytes())
    content[: len(content)] = b"\xa5" * len(content)
    journal.write_bytes(content)
    (scope / "journal.sqlite-wal").unlink(missing_ok=True)
    killed.start_refused("journal", "recover --state-dir")
    done = recover(killed)
    assert done.returncode == 0
    assert "damaged: journal.sqlite" in done.stdout
    assert "3 spool files" in done.stdout
    assert recover(killed, "--upload", key=killed.key).returncode == 1
    done = recover(killed, "--export", str(tmp_path / "out"))
    assert done.returncode == 1  # for it cannot be all
    saved = {path.read_bytes() for path in (tmp_path / "out/spool").iterdir()}
    assert b"new" * 1000 in saved
    assert journal.read_bytes() == bytes(content)
    assert recover(killed, "--discard", "--yes-discard", "3").returncode == 0
    with killed:
        pass


def test_a_journal_of_which_one_row_is_damaged_gives_the_others(killed: Mount, tmp_path: Path) -> None:
    import sqlite3

    (scope,) = killed.state.iterdir()
    with sqlite3.connect(scope / "journal.sqlite") as db:
        db.execute("UPDATE ops SET extents='no extents' WHERE name='sparse'")
    db.close()
    killed.start_refused("damaged")
    done = recover(killed, killed.source or "")
    assert "sparse" in done.stdout
    assert "cannot be read" in done.stdout
    done = recover(killed, "--export", str(tmp_path / "out"), key=killed.key)
    assert done.returncode == 1
    assert (tmp_path / "out/files" / (killed.source or "") / "log").read_bytes() == LARGE + b"appended"


def test_a_journal_without_its_log_of_writes_is_refused_and_tells_what_it_lacks(
    killed: Mount, tmp_path: Path
) -> None:
    (scope,) = killed.state.iterdir()
    (scope / "journal.sqlite-wal").unlink()
    before = sorted(path.name for path in (scope / "spool").iterdir())
    killed.start_refused("damaged: it is empty, and 8 changes waited", "recover --state-dir")
    assert sorted(path.name for path in (scope / "spool").iterdir()) == before
    done = recover(killed, scope.name)
    assert "damaged: journal.sqlite: it is empty, and 8 changes waited" in done.stdout
    assert re.search(r"spool file \d+ of dir/new, 2.9 KiB, written 20", done.stdout)
    assert recover(killed, "--upload", key=killed.key).returncode == 1
    recover(killed, scope.name, "--export", str(tmp_path / "out"))
    assert b"new" * 1000 in {path.read_bytes() for path in (tmp_path / "out/spool").iterdir()}
    count = str(json.loads(recover(killed, "--json").stdout)[0]["changes"])
    assert recover(killed, scope.name, "--discard", "--yes-discard", count).returncode == 0
    with killed:
        pass


def test_a_mount_over_a_damaged_state_directory_goes_on_or_says_what_is_wrong(
    killed: Mount, tmp_path: Path
) -> None:
    """What becomes of the changes, tests/journal/test_damage.py has; here is that no bug shows."""
    left, whole = killed.state, tmp_path / "whole"
    shutil.copytree(left, whole, ignore=shutil.ignore_patterns("control.sock"))

    def file_in(directory: Path) -> Path:
        return next(path for path in directory.iterdir() if path.is_file())

    damages: list[Callable[[Path], None]] = [
        lambda scope: os.truncate(scope / "journal.sqlite", 0),
        lambda scope: make_directory(file_in(scope / "spool")),
        lambda scope: make_directory(scope / "journal.sqlite-wal"),
    ]
    for number, damage in enumerate(damages):
        killed.state = tmp_path / f"state{number}"
        shutil.copytree(whole, killed.state)
        (scope,) = killed.state.iterdir()
        damage(scope)
        try:
            killed.start()
        except MountFailed:
            assert killed.process is not None and killed.process.returncode == 1
            assert recover(killed).returncode == 0
        else:
            assert (killed.path / "dir").is_dir()
            killed.kill()
        assert "Traceback" not in killed.log(), number
    killed.state = left


def make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def test_a_rename_that_a_kill_interrupted_goes_on_and_is_told_as_one(
    emulator: Emulator, tmp_path: Path
) -> None:
    with fresh_bucket(emulator) as bucket:
        emulator.seed(bucket, [{"name": f"old/{number}", "content": str(number)} for number in range(40)])
        with_key = emulator.create_key(ALL, [bucket])
        mount = Mount(emulator, tmp_path, with_key, options=LATER).start()
        os.rename(mount.path / "old", mount.path / "new")
        mount.kill()
        emulator.fault(call="b2_copy_file", kind="stall", seconds=3600, times=-1)
        with mount:
            (told,) = ask(mount, op="status")["status"]["pending"]["renames"]
            assert (told["from"], told["to"], told["files"], told["files_done"]) == ("old/", "new/", 40, 0)
            emulator.clear_faults()
            mount.kill()
            mount.start()
            mount.flush()
            assert ask(mount, op="status")["status"]["pending"]["renames"] == []
        names = {row["fileName"] for row in emulator.list_names(bucket)}
        assert names - {"new/.bzEmpty"} == {f"new/{number}" for number in range(40)}


def test_discarding_asks_twice_on_a_terminal(killed: Mount, emulator: Emulator) -> None:
    assert discard_on_a_terminal(killed, "n\n") == 1
    assert discard_on_a_terminal(killed, "y\n7\n") == 1
    assert json.loads(recover(killed, "--json").stdout)[0]["changes"] == 8
    assert discard_on_a_terminal(killed, "y\n8\n") == 0
    assert json.loads(recover(killed, "--json").stdout) == []
    with killed as mount:
        assert sorted(os.listdir(mount.path)) == ["gone", "log", "old"]
    assert names_in(emulator, killed) == {"gone", "log", "old"}


def discard_on_a_terminal(mount: Mount, typed: str) -> int:
    main, other = pty.openpty()
    command = [sys.executable, "-m", "b2mount.cli.main", "recover", "--state-dir", str(mount.state)]
    with subprocess.Popen([*command, "--discard"], stdin=other, stdout=other, stderr=other) as process:
        os.close(other)
        os.write(main, typed.encode())
        drained = b""
        try:
            while block := os.read(main, 65536):
                drained += block
        except OSError:  # the terminal's other end is closed
            pass
        os.close(main)
        return process.wait(60)


def test_discarding_in_a_script_needs_the_number_of_changes(killed: Mount) -> None:
    for words in (["--discard"], ["--discard", "--yes-discard", "7"]):
        done = recover(killed, *words)
        assert done.returncode == 2
        assert "nothing was discarded" in done.stderr or "--yes-discard 8" in done.stderr
    assert json.loads(recover(killed, "--json").stdout)[0]["changes"] == 8
    assert recover(killed, "--discard", "--yes-discard", "8").returncode == 0


def test_a_mount_killed_while_the_network_stalls_loses_nothing(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    mount = Mount(emulator, tmp_path, emulator.create_key(ALL, [bucket]), options=["--settle", "0"])
    emulator.fault(call="b2_upload_file", kind="stall", seconds=3600, times=-1)
    mount.start()
    for number in range(10):
        (mount.path / f"file{number}").write_bytes(b"x" * number)
    wait_until(lambda: any(rule["fired"] for rule in emulator.faults()), "an upload hangs")
    mount.kill()
    emulator.clear_faults()
    shutil.rmtree(mount.cache)
    done = recover(mount, "--upload", key=mount.key)
    assert done.returncode == 0, done.stderr
    rows = emulator.list_versions(bucket)
    assert sorted((row["fileName"], row["contentLength"]) for row in rows) == [
        (f"file{number}", number) for number in range(10)
    ]


def test_an_export_of_a_file_half_sent_names_what_is_missing_until_it_is_finished(
    emulator: Emulator, tmp_path: Path
) -> None:
    """Larger than the spool: its first parts left this machine, into a large file that is not finished."""
    data = os.urandom(1 << 20) * 30
    emulator.settings(min_part_size=100_000)
    try:
        with fresh_bucket(emulator) as bucket:
            key = emulator.create_key(ALL, [bucket])
            options = [*LATER, "--spool-size", "3M"]
            mount = Mount(emulator, tmp_path, key, options=options).start()
            mount.source = bucket
            try:
                (mount.path / "big").write_bytes(data)
            finally:
                mount.kill()
            done = recover(mount, "--export", str(tmp_path / "half"), key=key)
            assert done.returncode == 1
            assert re.search(r"not written: \S+/big: bytes \d+ to \d+ .*large file 4_z", done.stderr)
            assert "--upload" in done.stderr
            assert not list((tmp_path / "half").rglob("big"))
            scope = next(path.parent.name for path in mount.state.rglob("journal.sqlite"))
            sent = recover(mount, scope, "--upload", key=key)
            assert sent.returncode == 0, sent.stderr
            assert emulator.download(bucket, "big") == data
    finally:
        emulator.settings(min_part_size=5_000_000)
