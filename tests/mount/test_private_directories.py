"""docs/semantics.md, "Where it is kept": private data is for its user alone; a way that is not is told of."""

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from b2mount.core.errors import LocalStorageError
from b2mount.mount_private import make_private
from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give things away")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refusal(directory: Path) -> str:
    with pytest.raises(LocalStorageError) as caught:
        make_private(directory, "state directory")
    return str(caught.value).splitlines()[0]


@pytest.fixture
def warning(caplog: pytest.LogCaptureFixture) -> Callable[[Path], str]:
    """Make a directory; return what the log says of it."""

    def made(directory: Path) -> str:
        caplog.clear()
        make_private(directory, "state directory")
        assert directory.is_dir()
        return caplog.text

    return made


@pytest.mark.fuse
def test_directories_that_others_may_write_to_are_told_of_and_hold_what_is_ours_alone(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    mount = Mount(emulator, tmp_path, emulator.create_key(ALL, [bucket]))
    for directory in (mount.state, mount.cache):
        directory.chmod(0o777)
    with mount:
        (mount.path / "file").write_bytes(b"content")
        mount.flush()
        assert (mount.path / "file").read_bytes() == b"content"
    for directory in (mount.state, mount.cache):
        assert f"{directory} can be written by every user" in mount.log()
    assert [mode(path) for path in mount.state.iterdir()] == [0o700]
    assert {mode(path) for path in (mount.cache / "blocks").iterdir()} == {0o700}


def test_what_is_made_is_ours_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_private(tmp_path / "a/b/c", "state directory")
    finally:
        os.umask(before)
    assert [mode(tmp_path / path) for path in ("a", "a/b", "a/b/c")] == [0o700] * 3
    (tmp_path / "a/b/c").chmod(0o755)
    make_private(tmp_path / "a/b/c", "state directory")
    assert mode(tmp_path / "a/b/c") == 0o700


def test_a_way_that_others_may_write_to_is_told_of_unless_it_is_sticky(
    tmp_path: Path, warning: Callable[[Path], str]
) -> None:
    shared = tmp_path / "shared"
    (shared / "mine").mkdir(parents=True)
    shared.chmod(0o777)
    for directory in (shared / "mine", shared / "mine/new", shared / "new"):
        assert f"not safe from others: {shared} can be written by every user" in warning(directory)
        assert mode(directory) == 0o700
    shared.chmod(0o1777)
    assert warning(shared / "mine/newer") == warning(shared / "newer") == ""


def test_links_are_followed_and_what_is_no_directory_is_refused(
    tmp_path: Path, warning: Callable[[Path], str]
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real/../real")
    assert warning(tmp_path / "link/state") == ""
    assert mode(tmp_path / "real/state") == 0o700
    (tmp_path / "real").chmod(0o777)
    assert f"{tmp_path}/real can be written by every user" in warning(tmp_path / "link/state")
    (tmp_path / "real").chmod(0o700)
    (tmp_path / "loop").symlink_to("loop")
    assert "Too many levels" in refusal(tmp_path / "loop/state")
    (tmp_path / "file").touch()
    assert "Not a directory" in refusal(tmp_path / "file/state")


@needs_root
def test_what_belongs_to_somebody_else_is_told_of_to_root(
    tmp_path: Path, warning: Callable[[Path], str]
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, NOBODY, NOBODY)
    assert f"{theirs} belongs to nobody" in warning(theirs)
    assert f"{theirs} belongs to nobody" in warning(theirs / "new")
    assert ((theirs / "new").stat().st_uid, mode(theirs / "new")) == (0, 0o700)
    own, sticky = tmp_path / "own", tmp_path / "sticky"
    own.mkdir()
    sticky.mkdir()
    sticky.chmod(0o1777)
    (sticky / "planted").symlink_to(own)
    os.lchown(sticky / "planted", NOBODY, NOBODY)
    assert f"{sticky}/planted belongs to nobody" in warning(sticky / "planted/new")


@needs_root
def test_a_way_that_a_group_of_others_may_write_to_is_told_of(
    tmp_path: Path, warning: Callable[[Path], str]
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    os.chown(shared, 0, NOBODY)  # the primary group of nobody
    shared.chmod(0o775)
    assert "can be written by the group" in warning(shared / "new")
    os.chown(shared, 0, 0)
    assert warning(shared / "new") == ""


@needs_root
def test_what_belongs_to_root_is_refused_to_others_and_leads_to_what_is_theirs(tmp_path: Path) -> None:
    temporary = Path(tempfile.gettempdir())
    for directory in (tmp_path, *tmp_path.parents):
        if directory != temporary and directory.is_relative_to(temporary):
            directory.chmod(0o755)
    (tmp_path / "home").mkdir()
    os.chown(tmp_path / "home", NOBODY, NOBODY)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o1777)
    script = (
        "import os, sys; from pathlib import Path\n"
        "from b2mount.core.errors import LocalStorageError; from b2mount.mount_private import make_private\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "for place in sys.argv[1:]:\n"
        "    try:\n"
        "        make_private(Path(place), 'state directory'); print('made')\n"
        "    except LocalStorageError as error:\n"
        "        print(str(error).splitlines()[0].rpartition('cannot be used: ')[2])\n"
    )
    places = [tmp_path / place for place in ("home/state", "open/state", "open", "new")]
    done = subprocess.run(
        [sys.executable, "-c", script, *places], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == ["made", "made", "it belongs to root", "Permission denied"]
