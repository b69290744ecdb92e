"""The `b2` command-line tool works on the emulator."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.emulator import Emulator, find_program

pytestmark = pytest.mark.tools

B2 = Callable[..., str]


def b2_as(emulator: Emulator, tmp_path: Path, key: tuple[str, str]) -> B2:
    """Give a function that runs b2 with a key; it raises CalledProcessError where b2 fails."""
    program = find_program("b2")
    assert program is not None
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "B2_ACCOUNT_INFO": str(tmp_path / "account-info"),
        "B2_APPLICATION_KEY_ID": key[0],
        "B2_APPLICATION_KEY": key[1],
        "B2_ENVIRONMENT": emulator.url,
    }

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [program, *arguments], env=environment, capture_output=True, text=True, timeout=240
        )
        if done.returncode:
            error = subprocess.CalledProcessError(done.returncode, arguments, done.stdout, done.stderr)
            error.add_note(done.stderr)
            raise error
        return done.stdout

    return run


@pytest.fixture
def b2(emulator: Emulator, tmp_path: Path) -> B2:
    return b2_as(emulator, tmp_path, (emulator.master_key_id, emulator.master_key))


def test_b2_uploads_lists_downloads_hides_and_deletes(
    b2: B2, emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    (tmp_path / "in").write_bytes(b"some content")
    b2("file", "upload", "--quiet", "--info", "color=blue", bucket, str(tmp_path / "in"), "dir/naïve.txt")
    [row] = emulator.list_names(bucket)
    assert row["fileName"] == "dir/naïve.txt"
    assert b2("ls", f"b2://{bucket}").split() == ["dir/"]
    assert b2("ls", "--recursive", f"b2://{bucket}").split() == ["dir/naïve.txt"]
    b2("file", "download", "--quiet", f"b2://{bucket}/dir/naïve.txt", str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == b"some content"
    info = json.loads(b2("file", "info", f"b2id://{row['fileId']}"))
    assert info["fileInfo"]["color"] == "blue"
    b2("file", "hide", f"b2://{bucket}/dir/naïve.txt")
    assert b2("ls", "--recursive", f"b2://{bucket}") == ""
    b2("rm", "--quiet", "--recursive", "--versions", f"b2://{bucket}")
    assert emulator.list_versions(bucket) == []


def test_b2_sync_goes_both_ways(b2: B2, bucket: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("one", "dir/two", "dir/deep/three"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name * 50)
    b2("sync", "--quiet", "--no-progress", str(source), f"b2://{bucket}/tree")
    (tmp_path / "back").mkdir()
    b2("sync", "--quiet", "--no-progress", f"b2://{bucket}/tree", str(tmp_path / "back"))
    assert (tmp_path / "back/dir/deep/three").read_text() == "dir/deep/three" * 50
    (source / "one").unlink()
    b2("sync", "--quiet", "--no-progress", "--delete", str(source), f"b2://{bucket}/tree")
    assert b2("ls", "--recursive", f"b2://{bucket}").split() == ["tree/dir/deep/three", "tree/dir/two"]


def test_b2_uploads_a_large_file_and_copies_it(
    b2: B2, emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    data = os.urandom(11_000_000)
    (tmp_path / "large").write_bytes(data)
    b2("file", "upload", "--quiet", "--min-part-size", "5000000", bucket, str(tmp_path / "large"), "large")
    emulator.reset_counters()
    b2("file", "server-side-copy", f"b2://{bucket}/large", f"b2://{bucket}/copy")
    assert emulator.counters()["bytes_in"] < 10_000
    assert emulator.download(bucket, "copy") == data


def test_b2_makes_and_uses_a_restricted_key(b2: B2, emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    emulator.upload(bucket, "mine/one", b"1")
    emulator.upload(bucket, "yours/two", b"2")
    made = b2(
        "key",
        "create",
        "--bucket",
        bucket,
        "--name-prefix",
        "mine/",
        "restricted",
        "listBuckets,listFiles,readFiles",
    )
    key_id, key = made.split()
    assert key_id in b2("key", "list")
    (tmp_path / "other").mkdir()
    restricted = b2_as(emulator, tmp_path / "other", (key_id, key))
    assert restricted("ls", "--recursive", f"b2://{bucket}/mine/").split() == ["mine/one"]
    for refused in ("", "/yours"):
        with pytest.raises(subprocess.CalledProcessError):
            restricted("ls", "--recursive", f"b2://{bucket}{refused}")
    with pytest.raises(subprocess.CalledProcessError):
        restricted("file", "hide", f"b2://{bucket}/mine/one")
    b2("key", "delete", key_id)
    with pytest.raises(subprocess.CalledProcessError):
        restricted("ls", "--recursive", f"b2://{bucket}/mine/")


def test_b2_makes_a_locked_bucket_and_a_lock_holds(b2: B2, emulator: Emulator, tmp_path: Path) -> None:
    bucket = "b2tool-locked"
    b2("bucket", "create", "--file-lock-enabled", bucket, "allPrivate")
    b2(
        *("bucket", "update", "--default-retention-mode", "governance"),
        *("--default-retention-period", "1 days", bucket),
    )
    (tmp_path / "in").write_bytes(b"held")
    b2("file", "upload", "--quiet", bucket, str(tmp_path / "in"), "held")
    [row] = emulator.list_versions(bucket)
    assert row["fileRetention"]["value"]["mode"] == "governance"
    with pytest.raises(subprocess.CalledProcessError, match="exit status"):
        b2("rm", "--quiet", "--versions", f"b2://{bucket}/held")
    b2("rm", "--quiet", "--versions", "--bypass-governance", f"b2://{bucket}/held")
    assert emulator.list_versions(bucket) == []
    b2("bucket", "delete", bucket)
    assert bucket not in b2("bucket", "list")
