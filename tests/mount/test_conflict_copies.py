"""--conflicts=keep-both: what a name shows no more after two hosts wrote it is a file beside it."""

import contextlib
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.mount.test_recover import recover
from tests.support.emulator import Emulator
from tests.support.mount import Mount, mounted
from tests.support.semantics import wait_until

pytestmark = pytest.mark.fuse

KEEP = ["--conflicts", "keep-both", "--listing-ttl", "1h", "--settle", "0s"]
MIB = 1 << 20
BESIDE = re.compile(r"\.conflict-\d{8}-\d{6}-[0-9a-f]{4}")


def beside(emulator: Emulator, bucket: str) -> dict[str, bytes]:
    """Return what is stored beside other files: the name without its mark, and the content."""
    rows = [row["fileName"] for row in emulator.list_names(bucket, "")]
    return {BESIDE.sub("", name): emulator.download(bucket, name) for name in rows if BESIDE.search(name)}


def names(mount: Mount, path: str = "") -> Sequence[str]:
    return sorted(entry.name for entry in (mount.path / path).iterdir())


def test_theirs_shows_beside_ours_on_both_hosts_and_whoever_asks_is_told(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    emulator.upload(bucket, "d/report.txt", b"as it was\n")
    with (
        mounted(emulator, tmp_path / "one", bucket, options=KEEP) as one,
        mounted(emulator, tmp_path / "two", bucket, options=KEEP) as two,
    ):
        assert names(one, "d") == names(two, "d") == ["report.txt"]
        with (one.path / "d/report.txt").open("ab") as file:
            file.write(b"by one\n")
            file.flush()
            (two.path / "d/report.txt").write_bytes(b"by two\n")
            two.flush()
        one.flush()
        wait_until(lambda: len(names(one, "d")) == 2, "theirs shows beside ours, without a refresh")
        (conflict,) = one.status()["conflicts"]
        stored, kept = names(one, "d")
        assert (stored, kept) == (conflict["beside"].removeprefix("d/"), "report.txt")
        assert re.fullmatch(rf"report{BESIDE.pattern}\.txt", stored)
        assert (one.path / "d" / stored).read_bytes() == b"by two\n"
        assert (one.path / "d/report.txt").read_bytes() == b"as it was\nby one\n"
        assert f"stored as d/{stored}" in one.log()
        assert f"stored as d/{stored}" in one.ask("status").stdout
        one.flush()
        assert two.ask("refresh").returncode == 0
        assert names(two, "d") == [stored, "report.txt"]
        assert (two.path / "d" / stored).read_bytes() == b"by two\n"
        assert (two.path / "d/report.txt").read_bytes() == b"as it was\nby one\n"
    assert "conflict: " not in two.log()  # the copy is none of its own


def test_what_a_removal_hid_unseen_shows_beside_the_removed_name(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    for name in ("changed.txt", "alike.txt"):
        emulator.upload(bucket, name, b"as it was")
    with mounted(emulator, tmp_path, bucket, options=KEEP) as mount:
        assert names(mount) == ["alike.txt", "changed.txt"]
        emulator.upload(bucket, "changed.txt", b"theirs")
        for name in ("changed.txt", "alike.txt"):
            (mount.path / name).unlink()
        mount.flush()
        wait_until(lambda: bool(names(mount)), "theirs shows")
        (stored,) = names(mount)
        assert BESIDE.sub("", stored) == "changed.txt"
        assert (mount.path / stored).read_bytes() == b"theirs"
    assert beside(emulator, bucket) == {"changed.txt": b"theirs"}


def test_a_name_that_two_hosts_made_new_is_found_and_both_are_kept(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    emulator.upload(bucket, "old", b"as it was")
    with mounted(emulator, tmp_path, bucket, options=KEEP) as mount:
        assert names(mount) == ["old"]
        for name in ("closed", "renamed", "alike"):
            emulator.upload(bucket, name, b"theirs of " + name.encode())
        (mount.path / "closed").write_bytes(b"ours")
        (mount.path / "alike").write_bytes(b"theirs of alike")
        (mount.path / "work").write_bytes(b"ours")
        (mount.path / "work").rename(mount.path / "renamed")
        (mount.path / "mine").write_bytes(b"ours")
        (mount.path / "mine").unlink()
        (mount.path / "mine").write_bytes(b"ours again")
    assert beside(emulator, bucket) == {"closed": b"theirs of closed", "renamed": b"theirs of renamed"}
    assert emulator.download(bucket, "closed") == emulator.download(bucket, "renamed") == b"ours"
    assert "conflict: closed: somebody else made it at " in mount.log()
    assert "conflict: mine" not in mount.log()


def test_a_file_sent_while_it_is_written_keeps_what_came_between(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    emulator.upload(bucket, "old.img", b"as it was")
    piece = bytes(range(256)) * 4096
    with mounted(emulator, tmp_path, bucket, options=[*KEEP, "--spool-size", "64M"]) as mount:
        assert names(mount) == ["old.img"]
        with (mount.path / "old.img").open("wb") as old, (mount.path / "new.img").open("wb") as new:
            for _ in range(24):
                old.write(piece)
                new.write(piece)
            emulator.upload(bucket, "old.img", b"theirs of old")
            emulator.upload(bucket, "new.img", b"theirs of new")
            for _ in range(24):
                old.write(piece)
                new.write(piece)
    assert beside(emulator, bucket) == {"old.img": b"theirs of old", "new.img": b"theirs of new"}
    whole = hashlib.sha1(piece * 48).hexdigest()
    for name in ("old.img", "new.img"):
        assert hashlib.sha1(emulator.download(bucket, name)).hexdigest() == whole


@contextlib.contextmanager
def left_unsent(emulator: Emulator, base: Path, bucket: str) -> Iterator[Mount]:
    """Give a mount that was killed with a change of `report` unsent, which somebody else wrote since."""
    emulator.upload(bucket, "report", b"as it was")
    with mounted(emulator, base, bucket, options=[*KEEP, "--settle", "1h"]) as mount:
        with (mount.path / "report").open("ab") as file:
            file.write(b", and ours")
        mount.kill()
        emulator.upload(bucket, "report", b"theirs")
        yield mount


def demand_both(emulator: Emulator, bucket: str) -> None:
    assert emulator.download(bucket, "report") == b"as it was, and ours"
    assert beside(emulator, bucket) == {"report": b"theirs"}


def test_what_lay_unsent_through_a_crash_is_kept_beside_what_came_meanwhile(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    with left_unsent(emulator, tmp_path, bucket) as mount:
        mount.start()
    demand_both(emulator, bucket)


def test_what_recover_sends_is_looked_at_by_the_next_mount(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    with left_unsent(emulator, tmp_path, bucket) as mount:
        done = recover(mount, "--upload", key=mount.key)
        assert done.returncode == 0, done.stderr
        assert beside(emulator, bucket) == {}
        mount.start()
    demand_both(emulator, bucket)


def test_a_crash_between_an_upload_and_the_look_at_it_hides_no_lost_update(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    emulator.upload(bucket, "report", b"as it was")
    with mounted(emulator, tmp_path, bucket, options=KEEP) as mount:
        assert names(mount) == ["report"]
        emulator.upload(bucket, "report", b"theirs")
        (mount.path / "report").write_bytes(b"ours")
        (mount.path / "sent").write_bytes(b"the journal says that report is sent")
        mount.flush()
        mount.kill()
        mount.start()
    assert emulator.download(bucket, "report") == b"ours"
    assert beside(emulator, bucket) == {"report": b"theirs"}
    assert mount.log().count("conflict: report: ") == 1


def test_a_key_that_cannot_copy_is_refused_unless_it_cannot_write(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    key = emulator.create_key(["listFiles", "writeFiles"], [bucket])
    Mount(emulator, tmp_path / "one", key, options=KEEP).start_refused("--conflicts=keep-both", "readFiles")
    with mounted(emulator, tmp_path / "two", bucket, capabilities=["listFiles"], options=KEEP):
        pass
