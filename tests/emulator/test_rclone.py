"""rclone works on the emulator; its backend authorizes on v4 and then speaks /b2api/v1."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.emulator import Emulator, find_program

pytestmark = pytest.mark.tools

Rclone = Callable[..., str]


def rclone_as(emulator: Emulator, tmp_path: Path, key: tuple[str, str]) -> Rclone:
    """Give a function that runs rclone with a key; it raises CalledProcessError where rclone fails."""
    program = find_program("rclone")
    assert program is not None
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "RCLONE_CONFIG": str(tmp_path / "rclone.conf"),
        "RCLONE_CONFIG_X_TYPE": "b2",
        "RCLONE_CONFIG_X_ACCOUNT": key[0],
        "RCLONE_CONFIG_X_KEY": key[1],
        "RCLONE_CONFIG_X_ENDPOINT": emulator.url,
    }

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [program, "--retries", "1", "--low-level-retries", "2", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        if done.returncode:
            error = subprocess.CalledProcessError(done.returncode, arguments, done.stdout, done.stderr)
            error.add_note(done.stderr)
            raise error
        return done.stdout

    return run


@pytest.fixture
def rclone(emulator: Emulator, tmp_path: Path) -> Rclone:
    return rclone_as(emulator, tmp_path, (emulator.master_key_id, emulator.master_key))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a small tree with awkward but legal names."""
    root = tmp_path / "tree"
    for name in ("a.txt", "dir/b.txt", "dir/deep/er/c c.txt", "dir/ünïcode ☃.txt", "plus+%20.txt", "empty"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name == "empty" else name.encode() * 100)
    return root


def test_rclone_copies_a_tree_there_and_back(rclone: Rclone, bucket: str, tree: Path, tmp_path: Path) -> None:
    rclone("copy", str(tree), f"x:{bucket}/there")
    rclone("check", str(tree), f"x:{bucket}/there")
    rclone("copy", f"x:{bucket}/there", str(tmp_path / "back"))
    rclone("check", "--download", str(tmp_path / "back"), f"x:{bucket}/there")
    original = {path.relative_to(tree): path.stat() for path in tree.rglob("*") if path.is_file()}
    for path, stat in original.items():
        copied = tmp_path / "back" / path
        assert copied.read_bytes() == (tree / path).read_bytes()
        assert abs(copied.stat().st_mtime - stat.st_mtime) < 0.002  # B2 keeps milliseconds


def test_rclone_lists_what_is_there(rclone: Rclone, bucket: str, emulator: Emulator) -> None:
    emulator.upload(bucket, "a/b/one", b"1")
    emulator.upload(bucket, "a/two", b"22")
    emulator.upload(bucket, "three", b"333")
    assert set(rclone("lsf", f"x:{bucket}").split()) == {"a/", "three"}
    assert set(rclone("lsf", "-R", f"x:{bucket}/a").split()) == {"b/", "b/one", "two"}
    assert {(row["Path"], row["Size"]) for row in json.loads(rclone("lsjson", f"x:{bucket}/a/b"))} == {
        ("one", 1)
    }
    assert f" {bucket}\n" in rclone("lsd", "x:")


def test_rclone_sync_removes_and_replaces(
    rclone: Rclone, bucket: str, emulator: Emulator, tree: Path
) -> None:
    rclone("sync", str(tree), f"x:{bucket}")
    (tree / "a.txt").write_text("changed, and longer than it was")
    (tree / "dir/b.txt").unlink()
    rclone("sync", str(tree), f"x:{bucket}")
    assert emulator.download(bucket, "a.txt") == b"changed, and longer than it was"
    assert "dir/b.txt" not in {row["fileName"] for row in emulator.list_names(bucket)}
    actions = [row["action"] for row in emulator.list_versions(bucket, "dir/b.txt")]
    assert actions == ["hide", "upload"]  # rclone deletes by hiding unless told otherwise


def test_rclone_uploads_a_large_file_in_parts(
    rclone: Rclone, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    data = os.urandom(17_000_000)
    (tmp_path / "large").write_bytes(data)
    before = emulator.last_seq()
    rclone(
        "copy", "--b2-chunk-size", "5M", "--b2-upload-cutoff", "5M", str(tmp_path / "large"), f"x:{bucket}/in"
    )
    calls = [entry["call"] for entry in emulator.log(before)]
    assert calls.count("b2_upload_part") == 4
    assert calls.count("b2_finish_large_file") == 1
    assert emulator.download(bucket, "in/large") == data
    row = emulator.list_names(bucket)[0]
    assert row["contentSha1"] == "none"
    assert len(row["fileInfo"]["large_file_sha1"]) == 40
    rclone("copy", f"x:{bucket}/in/large", str(tmp_path / "back"))
    assert (tmp_path / "back/large").read_bytes() == data


def test_rclone_copies_and_moves_on_the_server(rclone: Rclone, bucket: str, emulator: Emulator) -> None:
    emulator.upload(bucket, "from", b"the same", {"src_last_modified_millis": "1600000000000"})
    before = emulator.last_seq()
    rclone("copyto", f"x:{bucket}/from", f"x:{bucket}/copy")
    rclone("moveto", f"x:{bucket}/from", f"x:{bucket}/moved")
    calls = [entry["call"] for entry in emulator.log(before)]
    assert calls.count("b2_copy_file") == 2
    assert "b2_upload_file" not in calls
    names = {row["fileName"]: row["fileInfo"] for row in emulator.list_names(bucket)}
    assert names == {name: {"src_last_modified_millis": "1600000000000"} for name in ("copy", "moved")}


def test_rclone_sees_and_restores_old_versions(
    rclone: Rclone, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.upload(bucket, "name.txt", b"old")
    emulator.upload(bucket, "name.txt", b"newer")
    listed = rclone("lsf", "--b2-versions", f"x:{bucket}").split()
    assert len(listed) == 2
    [old] = [name for name in listed if name != "name.txt"]
    rclone("copy", "--b2-versions", f"x:{bucket}/{old}", str(tmp_path))
    assert (tmp_path / old).read_bytes() == b"old"
    rclone("cleanup", f"x:{bucket}")
    assert [row["contentLength"] for row in emulator.list_versions(bucket)] == [5]


def test_rclone_deletes_and_purges(rclone: Rclone, emulator: Emulator, tree: Path) -> None:
    rclone("mkdir", "x:rclone-purges-this")
    rclone("copy", str(tree), "x:rclone-purges-this")
    rclone("deletefile", "--b2-hard-delete", "x:rclone-purges-this/a.txt")
    assert emulator.list_versions("rclone-purges-this", "a.txt") == []
    rclone("purge", "x:rclone-purges-this")
    assert "rclone-purges-this" not in emulator.control("GET", "buckets")


def test_rclone_with_a_key_for_one_bucket_and_prefix(
    emulator: Emulator, bucket: str, tmp_path: Path, tree: Path
) -> None:
    key = emulator.create_key(
        ["listBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles"], [bucket], "mine/"
    )
    restricted = rclone_as(emulator, tmp_path, key)
    restricted("copy", str(tree), f"x:{bucket}/mine")
    restricted("check", str(tree), f"x:{bucket}/mine")
    with pytest.raises(subprocess.CalledProcessError):
        restricted("copy", str(tree), f"x:{bucket}/other")
    assert emulator.list_names(bucket, "other") == []


def test_rclone_with_a_read_only_key_cannot_write(
    emulator: Emulator, bucket: str, tmp_path: Path, tree: Path
) -> None:
    emulator.upload(bucket, "there", b"to read")
    key = emulator.create_key(["listBuckets", "listFiles", "readFiles"], [bucket])
    reader = rclone_as(emulator, tmp_path, key)
    assert reader("cat", f"x:{bucket}/there") == "to read"
    with pytest.raises(subprocess.CalledProcessError):
        reader("copy", str(tree), f"x:{bucket}")
    with pytest.raises(subprocess.CalledProcessError):
        reader("deletefile", f"x:{bucket}/there")
    assert [row["fileName"] for row in emulator.list_versions(bucket)] == ["there"]


def test_rclone_rides_out_uploads_that_fail(rclone: Rclone, bucket: str, tree: Path) -> None:
    # rclone's own switch for B2's test modes: every third upload is answered 503 and voids its URL.
    rclone(
        "--low-level-retries", "10", "--b2-test-mode", "fail_some_uploads", "copy", str(tree), f"x:{bucket}"
    )
    rclone("check", str(tree), f"x:{bucket}")
