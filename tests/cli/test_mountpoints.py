"""What lies at a mount point."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2mount.cli.mountpoints import Mount, check_mountpoint, parse_mountinfo, read_mounts
from b2mount.cli.report import Failure

ROW = "36 35 98:0 / /mnt/my\\040photos\\134x rw,noatime master:1 - fuse.b2mount photos\\0402024 rw,user_id=0"


def refusal(path: Path, *, nonempty: bool = False) -> tuple[str, str]:
    with pytest.raises(Failure) as caught:
        check_mountpoint(path, nonempty=nonempty)
    return str(caught.value), caught.value.hints[0]


def test_a_row_of_mountinfo_is_read_with_its_escapes() -> None:
    assert parse_mountinfo(ROW + "\n") == [Mount("/mnt/my photos\\x", "fuse.b2mount", "photos 2024", 0)]


def test_a_row_without_optional_fields_is_read() -> None:
    assert parse_mountinfo("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n") == [Mount("/", "ext4", "/dev/sda1")]


def test_this_machines_own_table_is_read() -> None:
    assert "/" in [mount.mountpoint for mount in read_mounts()]


@given(st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), min_size=1))
def test_any_path_comes_back_as_the_kernel_escapes_it(path: str) -> None:
    escaped = "".join(f"\\{ord(c):03o}" if c in " \t\n\\" else c for c in path)
    rows = parse_mountinfo(f"1 0 8:1 / /{escaped} rw - fuse.b2mount x rw\n")
    assert [row.mountpoint for row in rows] == [f"/{path}"]


def test_an_empty_directory_is_fine(tmp_path: Path) -> None:
    check_mountpoint(tmp_path, nonempty=False)


def test_a_directory_that_is_not_there_is_refused_with_the_command_that_makes_it(tmp_path: Path) -> None:
    missing = tmp_path / "my photos"
    assert refusal(missing) == (f"{missing} does not exist", f"mkdir -p '{missing}'")


def test_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert refusal(file) == (f"{file} is not a directory", "a mount point is an empty directory")


def test_a_directory_with_something_in_it_is_refused_unless_that_is_meant(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refusal(tmp_path) == (
        f"{tmp_path} is not empty, and a mount would cover what is in it",
        "choose an empty directory, or say -o nonempty",
    )
    check_mountpoint(tmp_path, nonempty=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    temporary = Path(tempfile.gettempdir())
    for directory in (tmp_path, *tmp_path.parents):
        if directory != temporary and directory.is_relative_to(temporary):
            directory.chmod(0o755)
    script = (
        "import os, sys; from pathlib import Path\n"
        "from b2mount.cli.mountpoints import check_mountpoint; from b2mount.cli.report import status_of\n"
        "os.setuid(65534)\n"
        "sys.exit(status_of(lambda: check_mountpoint(Path(sys.argv[1]), nonempty=False)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"b2mount: error: {tmp_path} is not yours to mount on",
        "b2mount: hint: choose a directory that you may write to",
    ]
