"""What verbs make of paths inside a mount, in directories of any name, while it lives and when it is dead."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import mounted

pytestmark = pytest.mark.fuse


def run(*words: str | Path, cwd: Path | None = None) -> tuple[int, str, str]:
    """Run b2mount as a user in *cwd* does; return its exit status and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "b2mount.cli.main", *map(str, words)],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_status_and_flush_take_any_path_in_the_mount(emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    with mounted(emulator, tmp_path / "my tree ü", bucket) as mount:
        (mount.path / "dir").mkdir()
        (mount.path / "dir/file").write_text("content")
        assert run("flush", ".", cwd=mount.path / "dir") == (0, "", "")
        assert emulator.list_names(bucket, "dir/file")
        status, said, _ = run("status", mount.path / "dir/file")
        assert (status, said.splitlines()[0]) == (0, f"mount:     {mount.path}")


def test_unmount_inside_a_mount_says_what_to_say(emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    with mounted(emulator, tmp_path / "my tree ü", bucket) as mount:
        (mount.path / "dir").mkdir()
        assert run("unmount", "--force", mount.path / "dir") == (
            1,
            "",
            f"b2mount: error: {mount.path}/dir is not a mount point, but lies in one\n"
            f"b2mount: hint: say '{mount.path}'\n",
        )
        assert mount.is_mounted()


def test_a_refresh_shows_a_name_that_others_made_and_says_that_there_is_none(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    emulator.upload(bucket, "dir/old", b"")
    with mounted(emulator, tmp_path, bucket, options=["--listing-ttl", "1h"]) as mount:
        assert os.listdir(mount.path / "dir") == ["old"]
        assert not (mount.path / "dir/new").exists()
        emulator.upload(bucket, "dir/new/file", b"new")
        assert run("refresh", mount.path / "dir/new/file") == (0, "", "")
        assert (mount.path / "dir/new/file").read_bytes() == b"new"
        assert run("refresh", mount.path / "dir/none") == (
            1,
            "",
            "b2mount: error: dir/none: no such file\n",
        )


def test_a_path_in_a_dead_mount_names_the_mount(emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    with mounted(emulator, tmp_path / "my tree ü", bucket) as mount:
        assert mount.process is not None
        mount.process.kill()
        mount.process.wait()
        for verb in ("status", "flush", "refresh", "restore", "unmount"):
            assert run(verb, mount.path / "a/b") == (
                1,
                "",
                f"b2mount: error: {mount.path}/a/b is in a dead mount: the program that served it has ended\n"
                "b2mount: hint: mount it again: that clears it and sends what was not yet sent; "
                f"only to clear it: b2mount unmount --force '{mount.path}'\n",
            ), verb
        assert run("unmount", "--force", mount.path) == (0, "", "")


def test_restore_says_that_there_is_no_earlier_version(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    emulator.upload(bucket, "file", b"the only version")
    with mounted(emulator, tmp_path, bucket) as mount:
        for name in ("file", "none"):
            assert run("restore", mount.path / name) == (
                1,
                "",
                f"b2mount: error: {name}: there is no earlier version to bring back\n"
                "b2mount: hint: a mount with --versions shows all versions there are\n",
            )
