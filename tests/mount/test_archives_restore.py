"""`b2mount restore`: what was comes back by copies inside B2, through a running mount."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.test_archives import DAY, T0, epoch, hide, put, tree
from tests.support.emulator import Emulator
from tests.support.mount import Mount, mounted
from tests.support.semantics import calls_of

pytestmark = pytest.mark.fuse

FAST = ["--settle", "0s"]


@pytest.fixture
def mount(emulator: Emulator, bucket: str, tmp_path: Path) -> Iterator[Mount]:
    """A mount of a bucket with a past."""
    mtime = {"src_last_modified_millis": "1600000000123", "colour": "red"}
    rows = [
        {**put("report", "first", T0), "info": mtime, "content_type": "text/x-report"},
        put("report", "second", T0 + DAY),
        put("gone", "kept", T0),
        hide("gone", T0 + DAY),
        put("dir/same", "same", T0),
        put("dir/changed", "before", T0),
        put("dir/changed", "after", T0 + 2 * DAY),
        put("dir/removed", "removed", T0),
        hide("dir/removed", T0 + 2 * DAY),
        put("dir/deep/empty/.bzEmpty", "", T0),
        hide("dir/deep/empty/.bzEmpty", T0 + 2 * DAY),
        put("dir/later", "later", T0 + 2 * DAY),
    ]
    emulator.seed(bucket, rows)
    with mounted(emulator, tmp_path, bucket, options=FAST) as made:
        yield made


def restore(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "b2mount.cli.main", "restore", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    progress = "b2mount: restoring: "  # said where it takes longer than a moment, as on a busy machine
    assert [line for line in done.stderr.splitlines() if not line.startswith(progress)] == []
    return done.stdout


def test_a_removed_file_comes_back_with_all_that_it_was(
    mount: Mount, emulator: Emulator, bucket: str
) -> None:
    assert not (mount.path / "gone").exists()
    assert said(restore(mount.path / "gone")) == "1 file restored\n"
    assert (mount.path / "gone").read_text() == "kept"
    assert emulator.download(bucket, "gone") == b"kept"


def test_a_changed_file_has_its_previous_version_again(mount: Mount, emulator: Emulator, bucket: str) -> None:
    assert (mount.path / "report").read_text() == "second"
    since = emulator.last_seq()
    assert said(restore(mount.path / "report")) == "1 file restored\n"
    assert (mount.path / "report").read_text() == "first"
    assert (mount.path / "report").stat().st_mtime_ns == 1_600_000_000_123_000_000
    calls = calls_of(emulator, mount.key, since)
    assert "b2_copy_file" in calls
    assert "b2_upload_file" not in calls
    (row,) = emulator.list_names(bucket, "report")
    assert (row["fileInfo"]["colour"], row["contentType"]) == ("red", "text/x-report")
    assert len(emulator.list_versions(bucket, "report")) == 3


def test_a_file_comes_back_as_it_was_at_a_moment_and_a_second_time_costs_nothing(
    mount: Mount, emulator: Emulator, bucket: str
) -> None:
    for _ in range(2):
        assert said(restore("--at", epoch(T0), mount.path / "report")).endswith("restored\n")
        assert (mount.path / "report").read_text() == "first"
        assert len(emulator.list_versions(bucket, "report")) == 3
    said(restore("--at", epoch(T0 + 2 * DAY), mount.path / "report"))
    assert (mount.path / "report").read_text() == "second"
    nothing = restore("--at", epoch(T0 - 1), mount.path / "never")
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "nothing was there" in nothing.stderr


def test_a_directory_comes_back_as_it_was_and_what_came_later_stays(mount: Mount) -> None:
    assert said(restore("--at", epoch(T0 + DAY), mount.path / "dir")) == "3 files restored\n"
    then: dict[str, str | None] = {
        "same": "same",
        "changed": "before",
        "removed": "removed",
        "deep": None,
        "deep/empty": None,
    }
    assert tree(mount.path / "dir") == then | {"later": "later"}
    done = said(restore("--at", epoch(T0 + DAY), "--delete", mount.path / "dir"))
    assert done == "0 files restored, 1 removed\n"
    assert tree(mount.path / "dir") == then
    mount.remount(empty_cache=True)
    assert tree(mount.path / "dir") == then


def test_a_removed_directory_comes_back_and_what_is_there_is_left_alone(mount: Mount) -> None:
    assert said(restore(mount.path / "dir")) == "2 files restored\n"
    assert (mount.path / "dir/changed").read_text() == "after"
    subprocess.run(["rm", "-r", mount.path / "dir"], check=True)
    mount.flush()
    assert not (mount.path / "dir").exists()
    said(restore(mount.path / "dir"))
    assert sorted(os.listdir(mount.path / "dir")) == ["changed", "deep", "later", "removed", "same"]
    assert (mount.path / "dir/deep/empty").is_dir()
    assert (mount.path / "dir/removed").read_text() == "removed"


def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    mount: Mount, emulator: Emulator, bucket: str
) -> None:
    before = emulator.list_versions(bucket)
    done = said(restore("--at", epoch(T0), "--delete", "--dry-run", mount.path / "dir"))
    assert done.splitlines() == [
        "restore, from 2023-11-14T22:13:20.000Z: dir/changed",
        "restore, from 2023-11-14T22:13:20.000Z: dir/deep/empty/.bzEmpty",
        "remove dir/later",
        "restore, from 2023-11-14T22:13:20.000Z: dir/removed",
        "3 files would be restored, 1 would be removed",
    ]
    assert emulator.list_versions(bucket) == before


def test_it_comes_back_under_another_name(mount: Mount) -> None:
    then = mount.path / "then"
    assert said(restore("--at", epoch(T0), "--to", then, mount.path / "dir")) == "4 files restored\n"
    assert tree(then)["changed"] == "before"
    assert (mount.path / "dir/changed").read_text() == "after"
    again = restore("--at", epoch(T0), "--to", then, mount.path / "dir")
    assert again.returncode == 1
    assert "exists" in again.stderr


def test_changes_that_are_not_sent_are_not_written_over(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    emulator.seed(bucket, [put("dir/file", "first", T0), put("dir/file", "second", T0 + DAY)])
    with mounted(emulator, tmp_path, bucket, options=["--settle", "10m"]) as mount:
        (mount.path / "dir/file").write_text("unsent")
        for path in ("dir/file", "dir"):
            done = restore(mount.path / path)
            assert done.returncode == 1
            assert "not in B2 yet" in done.stderr
            assert "b2mount flush" in done.stderr
        mount.flush()
        said(restore(mount.path / "dir/file"))
        assert (mount.path / "dir/file").read_text() == "second"


@pytest.mark.parametrize(
    ("capabilities", "options", "words"),
    [
        (("listFiles", "readFiles"), [], "writeFiles"),
        (("listFiles", "writeFiles"), [], "readFiles"),
        (("listFiles", "readFiles", "writeFiles"), ["--at", "@1700000000"], "read-only"),
    ],
)
def test_a_key_or_a_mount_that_may_not_is_refused(
    emulator: Emulator,
    bucket: str,
    tmp_path: Path,
    capabilities: tuple[str, ...],
    options: list[str],
    words: str,
) -> None:
    emulator.seed(bucket, [put("gone", "kept", T0), hide("gone", T0 + DAY)])
    with mounted(emulator, tmp_path, bucket, capabilities=capabilities, options=options) as mount:
        done = restore(mount.path / "gone")
    assert done.returncode == 1
    assert words in done.stderr
    assert emulator.list_names(bucket) == []


def test_a_prefix_and_several_buckets_hold(emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    emulator.seed(
        bucket, [put("t/x", "x", T0), hide("t/x", T0 + DAY), put("u/y", "y", T0), hide("u/y", T0 + DAY)]
    )
    with mounted(emulator, tmp_path / "a", bucket, prefix="t/", options=FAST) as mount:
        assert said(restore(mount.path)) == "1 file restored\n"
        assert (mount.path / "x").read_text() == "x"
    other = bucket + "-2"
    emulator.create_bucket(other)
    try:
        key = emulator.create_key(["listFiles", "readFiles", "writeFiles"], [bucket, other])
        with Mount(emulator, tmp_path / "b", key, options=FAST) as mount:
            done = said(restore("--json", mount.path / bucket / "u"))
            assert json.loads(done) == {"restored": 1, "removed": 0, "failed": []}
            assert (mount.path / bucket / "u/y").read_text() == "y"
            assert os.listdir(mount.path / other) == []
    finally:
        emulator.wipe(other)


def test_a_name_that_b2_takes_no_more_is_told_and_does_not_wait_for_ever(
    mount: Mount, emulator: Emulator, bucket: str
) -> None:
    odd = [put("odd/bell\x07", "made by S3 tools", T0), hide("odd/bell\x07", T0 + DAY)]
    emulator.seed(bucket, [*odd, put("odd/plain", "plain", T0), hide("odd/plain", T0 + DAY)])
    done = restore(mount.path / "odd")
    assert done.returncode != 0
    assert "bell" in done.stderr
    assert (mount.path / "odd/plain").read_text() == "plain"
    assert os.listdir(mount.path / "odd") == ["plain"]
    mount.flush()  # nothing waits that can never be sent
