"""restic, borg and duplicity on a mount: with the full key, and with one that cannot delete."""

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount, mounted
from tests.support.programs import run, shell
from tests.tools.trees import describe, make_tree

pytestmark = [pytest.mark.fuse, pytest.mark.tools]

NO_DELETE = tuple(capability for capability in ALL if capability != "deleteFiles")


@pytest.fixture(params=[ALL, NO_DELETE], ids=["full key", "key without deleteFiles"])
def target(
    emulator: Emulator, bucket: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Mount]:
    """Mount `backups/` by a key with the capabilities of the parameter."""
    with mounted(emulator, tmp_path / "b2", bucket, prefix="backups/", capabilities=request.param) as mount:
        yield mount


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Make what is backed up, on the local disk."""
    root = tmp_path / "source"
    make_tree(root)
    (root / "large.bin").write_bytes(random.Random(5).randbytes(12_000_000))
    return root


def change(source: Path) -> None:
    """Do what happens between two backups."""
    data = bytearray((source / "large.bin").read_bytes())
    data[5_000_000:5_000_100] = bytes(100)
    (source / "large.bin").write_bytes(data + b"more")
    (source / "new").write_text("new")
    (source / "sub/file 3.bin").unlink()


def environment(tmp_path: Path) -> dict[str, str]:
    """Keep caches, settings and passwords of the backup programs in the test's own directory."""
    return {
        "HOME": str(tmp_path / "home"),
        "RESTIC_PASSWORD": "a test's password",
        "RESTIC_CACHE_DIR": str(tmp_path / "restic-cache"),
        "BORG_BASE_DIR": str(tmp_path / "borg-base"),
        "BORG_PASSPHRASE": "a test's password",
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        "PASSPHRASE": "a test's password",
    }


def test_restic_backs_up_forgets_checks_and_restores(target: Mount, source: Path, tmp_path: Path) -> None:
    env = environment(tmp_path)
    words = ["restic", "-r", str(target.path / "repo"), "--no-cache"]
    run(*words, "init", env=env)
    first = describe(source)
    run(*words, "backup", source, env=env)
    target.remount(empty_cache=True)
    change(source)
    run(*words, "backup", source, env=env)
    run(*words, "check", "--read-data", env=env)
    run(*words, "restore", "latest", "--target", tmp_path / "back", env=env)
    assert describe(tmp_path / "back" / source.relative_to("/")) == describe(source) != first
    run(*words, "forget", "--keep-last", "1", "--prune", "--max-unused", "0", env=env)
    target.remount(empty_cache=True)
    run(*words, "check", "--read-data", env=env)
    assert run(*words, "snapshots", "--json", env=env).count('"tree"') == 1
    assert run(*words, "list", "locks", env=env) == ""
    subprocess.run(["rm", "-r", tmp_path / "back"], check=True)
    run(*words, "restore", "latest", "--target", tmp_path / "back", env=env)
    assert describe(tmp_path / "back" / source.relative_to("/")) == describe(source)


def test_borg_creates_checks_extracts_deletes_and_compacts(
    target: Mount, source: Path, tmp_path: Path
) -> None:
    env = environment(tmp_path) | {"BORG_REPO": str(target.path / "repo")}
    run("borg", "init", "--encryption=repokey", env=env)
    run("borg", "create", "::first", "source", cwd=tmp_path, env=env)
    first = describe(source)
    target.remount(empty_cache=True)
    change(source)
    run("borg", "create", "::second", "source", cwd=tmp_path, env=env)
    run("borg", "check", "--verify-data", env=env)
    target.remount(empty_cache=True)
    for archive, expected in (("first", first), ("second", describe(source))):
        back = tmp_path / archive
        back.mkdir()
        run("borg", "extract", f"::{archive}", cwd=back, env=env)
        assert describe(back / "source") == expected
    run("borg", "delete", "::first", env=env)
    run("borg", "compact", "--threshold", "0", env=env)
    target.remount(empty_cache=True)
    run("borg", "check", "--verify-data", env=env)
    assert run("borg", "list", "--short", env=env) == "second\n"
    assert not list((target.path / "repo").glob("lock*"))


def test_duplicity_makes_increments_and_restores(target: Mount, source: Path, tmp_path: Path) -> None:
    env = environment(tmp_path)
    (tmp_path / "home").mkdir()
    words = ["duplicity", "--archive-dir", str(tmp_path / "archive"), "--no-encryption"]
    url = f"file://{target.path}/dup"
    (target.path / "dup").mkdir()
    run(*words, "full", source, url, env=env)
    change(source)
    run(*words, "incremental", source, url, env=env)
    target.remount(empty_cache=True)
    subprocess.run(["rm", "-r", tmp_path / "archive"], check=True)
    run(*words, "restore", url, tmp_path / "back", env=env)
    expected = describe(source)
    restored = describe(tmp_path / "back")
    seconds = 10**9  # duplicity keeps whole seconds
    assert {n: (*f[:3], f[3] and int(str(f[3])) // seconds, f[4]) for n, f in restored.items()} == {
        n: (*f[:3], f[3] and int(str(f[3])) // seconds, f[4]) for n, f in expected.items()
    }
    run(*words, "verify", "--compare-data", url, source, env=env)


def test_without_deleteFiles_all_can_be_brought_back_after_rm_rf(
    emulator: Emulator, bucket: str, source: Path, tmp_path: Path
) -> None:
    env = environment(tmp_path)
    with mounted(emulator, tmp_path / "b2", bucket, prefix="backups/", capabilities=NO_DELETE) as mount:
        words = ["restic", "-r", str(mount.path / "repo"), "--no-cache"]
        run(*words, "init", env=env)
        run(*words, "backup", source, env=env)
        mount.flush()
        before = {row["fileName"]: row for row in emulator.list_names(bucket)}
        shell("rm -rf repo; mkdir repo; echo overwritten > repo/config; rm -rf repo", cwd=mount.path)
        mount.flush()
        assert os.listdir(mount.path) == []
    assert emulator.list_names(bucket) == []
    versions = emulator.list_versions(bucket)
    kept = {row["fileId"] for row in versions}
    assert {row["fileId"] for row in before.values()} <= kept
    for row in versions:  # un-hide, and take back what was put over it
        wanted = before.get(row["fileName"])
        if wanted is None or (row["fileId"] != wanted["fileId"] and newer(row, wanted)):
            emulator.ask("b2_delete_file_version", {"fileName": row["fileName"], "fileId": row["fileId"]})
    assert {row["fileName"]: row["fileId"] for row in emulator.list_names(bucket)} == {
        name: row["fileId"] for name, row in before.items()
    }
    with mounted(emulator, tmp_path / "b2", bucket, prefix="backups/", capabilities=NO_DELETE) as mount:
        run(*words, "check", "--read-data", env=env)
        run(*words, "restore", "latest", "--target", tmp_path / "back", env=env)
    assert describe(tmp_path / "back" / source.relative_to("/")) == describe(source)


def newer(row: dict[str, object], than: dict[str, object]) -> bool:
    """Say whether a version is newer than another of its name."""
    return int(str(row["uploadTimestamp"])) > int(str(than["uploadTimestamp"]))
