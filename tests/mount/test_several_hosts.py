"""Two mounts and an API client on one bucket: what each sees and when; no lost update goes unsaid."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import Mount, mounted
from tests.support.semantics import calls_of, wait_until

pytestmark = pytest.mark.fuse

LONG = ["--listing-ttl", "1h", "--settle", "0s"]


@pytest.fixture
def hosts(emulator: Emulator, bucket: str, tmp_path: Path) -> Iterator[tuple[Mount, Mount]]:
    with (
        mounted(emulator, tmp_path / "one", bucket, options=LONG) as one,
        mounted(emulator, tmp_path / "two", bucket, options=LONG) as two,
    ):
        yield one, two


def names(mount: Mount, path: str = "") -> set[str]:
    return {entry.name for entry in (mount.path / path).iterdir()}


def refresh(mount: Mount, path: str = "") -> None:
    """Run b2mount refresh on a path of the mount."""
    whole = mount.path
    mount.path = whole / path
    try:
        done = mount.ask("refresh")
    finally:
        mount.path = whole
    assert done.returncode == 0, done.stderr


def test_another_hosts_changes_show_after_a_refresh_of_the_whole_mount(
    emulator: Emulator, bucket: str, hosts: tuple[Mount, Mount]
) -> None:
    one, two = hosts
    emulator.upload(bucket, "d/old", b"old")
    for mount in hosts:
        assert names(mount) == {"d"}
        assert names(mount, "d") == {"old"}
        assert (mount.path / "d/old").read_bytes() == b"old"
        assert not (mount.path / "d/new").exists()  # the kernel remembers that, too
    (one.path / "d/new").write_bytes(b"by one")
    (one.path / "d/old").write_bytes(b"changed")
    (one.path / "top").write_bytes(b"by one")
    one.flush()
    assert names(one, "d") == {"old", "new"}  # its own at once
    assert names(two, "d") == {"old"}  # within the listing's time
    assert (two.path / "d/old").read_bytes() == b"old"
    refresh(two)
    assert names(two) == {"d", "top"}
    assert names(two, "d") == {"old", "new"}
    assert (two.path / "d/old").read_bytes() == b"changed"
    assert (two.path / "d/new").read_bytes() == b"by one"


def test_a_refresh_of_a_directory_leaves_the_others_as_they_were_told(
    emulator: Emulator, bucket: str, hosts: tuple[Mount, Mount]
) -> None:
    _, two = hosts
    for directory in ("d", "e"):
        emulator.upload(bucket, f"{directory}/old", b"old")
    assert names(two, "d") == names(two, "e") == {"old"}
    for directory in ("d", "e"):
        emulator.upload(bucket, f"{directory}/new", b"new")
        emulator.hide(bucket, f"{directory}/old")
    refresh(two, "d")
    assert names(two, "d") == {"new"}
    assert names(two, "e") == {"old"}


def test_an_open_file_is_read_as_it_was_opened_whatever_another_host_does(
    emulator: Emulator, bucket: str, hosts: tuple[Mount, Mount]
) -> None:
    one, two = hosts
    emulator.upload(bucket, "f", b"first" * 100_000)
    with (two.path / "f").open("rb") as file:
        start = file.read(10)
        (one.path / "f").write_bytes(b"second")
        one.flush()
        refresh(two)
        assert start + file.read() == b"first" * 100_000
    assert (two.path / "f").read_bytes() == b"second"


def test_a_lost_update_is_told_in_the_log_and_in_status_and_both_versions_stay(
    emulator: Emulator, bucket: str, hosts: tuple[Mount, Mount]
) -> None:
    one, two = hosts
    emulator.upload(bucket, "d/report", b"as it was\n")
    with (one.path / "d/report").open("ab") as file:
        file.write(b"by one\n")
        file.flush()
        (two.path / "d/report").write_bytes(b"by two\n")
        two.flush()
    one.flush()
    wait_until(lambda: bool(one.status()["conflicts"]), "the conflict is found")
    (conflict,) = one.status()["conflicts"]
    assert (conflict["name"], conflict["kind"]) == ("d/report", "changed")
    assert emulator.download_by_id(conflict["theirs"]) == b"by two\n"
    assert emulator.download_by_id(conflict["ours"]) == b"as it was\nby one\n"
    assert emulator.download(bucket, "d/report") == b"as it was\nby one\n"
    assert one.log().count("conflict: d/report: somebody else wrote it at ") == 1
    assert "conflict:" in one.ask("status").stdout
    assert two.status()["conflicts"] == []


def test_what_an_editor_renames_over_another_hosts_change_is_told_at_unmount(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    emulator.upload(bucket, "report", b"as it was")
    emulator.upload(bucket, "gone", b"as it was")
    with mounted(emulator, tmp_path, bucket, options=LONG) as mount:
        assert names(mount) == {"report", "gone"}
        emulator.upload(bucket, "report", b"theirs")
        emulator.hide(bucket, "gone")
        (mount.path / "report.new").write_bytes(b"ours")
        (mount.path / "report.new").rename(mount.path / "report")
        with (mount.path / "gone").open("ab") as file:
            file.write(b" and more")
    assert "conflict: report: somebody else wrote it at " in mount.log()
    assert "conflict: gone: somebody else removed it at " in mount.log()


@pytest.mark.parametrize("how", ["removed", "renamed", "renamed with its directory"])
def test_a_change_that_a_removal_or_rename_hid_is_told_and_kept(
    emulator: Emulator, bucket: str, hosts: tuple[Mount, Mount], how: str
) -> None:
    one, two = hosts
    emulator.upload(bucket, "d/report", b"as it was\n")
    assert names(one, "d") == {"report"}
    (two.path / "d/report").write_bytes(b"by two\n")
    two.flush()
    if how == "removed":
        (one.path / "d/report").unlink()
    elif how == "renamed":
        (one.path / "d/report").rename(one.path / "d/other")
    else:
        (one.path / "d").rename(one.path / "e")
    one.flush()
    wait_until(lambda: bool(one.status()["conflicts"]), "the conflict is found")
    (conflict,) = one.status()["conflicts"]
    assert (conflict["name"], conflict["kind"]) == ("d/report", "hidden")
    assert emulator.download_by_id(conflict["theirs"]) == b"by two\n"
    assert one.log().count("conflict: d/report: somebody else wrote it at ") == 1
    assert two.status()["conflicts"] == []


def test_hard_deletion_only_hides_what_another_host_wrote_unseen(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    for name in ("seen", "unseen"):
        emulator.upload(bucket, name, b"as it was")
    with mounted(emulator, tmp_path, bucket, options=[*LONG, "--hard-delete"]) as mount:
        assert names(mount) == {"seen", "unseen"}
        theirs = emulator.upload(bucket, "unseen", b"theirs")["fileId"]
        for name in ("seen", "unseen"):
            (mount.path / name).unlink()
        mount.flush()
        assert names(mount) == set()
    assert [(row["fileName"], row["action"]) for row in emulator.list_versions(bucket)] == [
        ("unseen", "hide"),
        ("unseen", "upload"),
        ("unseen", "upload"),
    ]
    assert emulator.download_by_id(theirs) == b"theirs"
    assert "conflict: unseen: somebody else wrote it at " in mount.log()


def test_own_changes_are_no_conflicts_and_cost_one_call_a_directory(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    for number in range(30):
        emulator.upload(bucket, f"d/{number:02d}", b"as it was")
    with mounted(emulator, tmp_path, bucket, options=["--settle", "0s"]) as mount:
        since, began = emulator.last_seq(), time.monotonic()
        for path in sorted((mount.path / "d").iterdir()):
            path.write_bytes(b"one")
        mount.flush()
        for path in sorted((mount.path / "d").iterdir())[:10]:
            path.write_bytes(b"two")
            path.chmod(0o600)
        mount.flush()
        (mount.path / "d/00").rename(mount.path / "d/away")
        (mount.path / "d/away").rename(mount.path / "d/00")
        (mount.path / "d/01").unlink()
        (mount.path / "d/01").write_bytes(b"anew")
        mount.flush()
        (mount.path / "d/02").unlink()
        mount.flush()
        (mount.path / "d/02").write_bytes(b"anew")
        (mount.path / "d/new").write_bytes(b"new")
        (mount.path / "d/new").rename(mount.path / "d/03")
    assert "conflict" not in mount.log()
    looks = calls_of(emulator, mount.key, since).count("b2_list_file_versions")
    assert 1 <= looks <= 4 + (time.monotonic() - began) / 10  # one in ten seconds


def test_new_files_are_sent_with_no_look_at_their_versions(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    with mounted(emulator, tmp_path, bucket, options=["--settle", "0s"]) as mount:
        since = emulator.last_seq()
        for number in range(50):
            (mount.path / f"{number:02d}").write_bytes(b"new")
    calls = calls_of(emulator, mount.key, since)
    assert calls.count("b2_upload_file") == 50
    assert "b2_list_file_versions" not in calls


def test_what_waited_through_a_crash_is_looked_at(emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    emulator.upload(bucket, "report", b"as it was")
    with mounted(emulator, tmp_path, bucket, options=["--settle", "1h"]) as mount:
        with (mount.path / "report").open("ab") as file:
            file.write(b", and ours")
        mount.kill()
        emulator.upload(bucket, "report", b"theirs")
        mount.start()
        mount.flush()
    assert emulator.download(bucket, "report") == b"as it was, and ours"
    assert "conflict: report: somebody else wrote it at " in mount.log()


@pytest.mark.parametrize("by", ["written anew", "renamed over it"])
def test_what_replaced_a_file_and_waited_through_a_crash_is_looked_at(
    emulator: Emulator, bucket: str, tmp_path: Path, by: str
) -> None:
    """Nothing of the old version is in what waits: only the journal knows which one it was."""
    emulator.upload(bucket, "report", b"as it was")
    with mounted(emulator, tmp_path, bucket, options=["--settle", "1h"]) as mount:
        assert (mount.path / "report").read_bytes() == b"as it was"
        if by == "written anew":
            (mount.path / "report").write_bytes(b"ours")
        else:
            (mount.path / "new").write_bytes(b"ours")
            os.rename(mount.path / "new", mount.path / "report")
        mount.kill()
        emulator.upload(bucket, "report", b"theirs")
        mount.start()
        mount.flush()
    assert emulator.download(bucket, "report") == b"ours"
    assert "conflict: report: somebody else wrote it at " in mount.log()
