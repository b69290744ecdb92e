"""What another client did through the API shows on a mount whose kernel caches are warm, without a remount.

Three ways lead to a newer listing: its time is over, somebody asks for a refresh, a walk over the tree lists
it flat. Whatever first shows the change, all that is asked afterwards must agree: stat, open, read, ls.
"""

import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import Mount, mounted
from tests.support.semantics import wait_until

pytestmark = pytest.mark.fuse

OLD, NEW = b"old", b"newer and longer"
OLD_MS, NEW_MS = 1_600_000_000_000, 1_700_000_000_000
SIBLINGS = ("c", "e")  # directories beside the one that changes, for walks
WAYS = ("time", "refresh", "walk")


class Seen:
    """A mount of a tree, its kernel caches filled, and a way to the next listing."""

    def __init__(self, mount: Mount, emulator: Emulator, bucket: str, way: str) -> None:
        self.root = mount.path
        self.directory = mount.path / "d"
        self._mount = mount
        self._emulator = emulator
        self._bucket = bucket
        self._way = way

    def put(self, name: str, data: bytes, mtime_ms: int) -> None:
        info = {"src_last_modified_millis": str(mtime_ms)}
        self._emulator.seed(self._bucket, [{"name": name, "content": data.decode(), "info": info}])

    def hide(self, name: str) -> None:
        self._emulator.hide(self._bucket, name)

    def warm(self) -> None:
        """Have the kernel know all there is, and that `d/none` is not."""
        self.walk()
        for path in self.root.rglob("*"):
            if path.is_file():
                path.read_bytes()
        assert not (self.directory / "none").exists()

    def walk(self) -> list[str]:
        """Return what `ls -lR` shows, a line an entry."""
        done = subprocess.run(
            ["ls", "-lR", "--time-style=+%s", str(self.root)], capture_output=True, text=True, check=False
        )
        return done.stdout.splitlines()

    def anew(self, holds: Callable[[], bool]) -> None:
        """Let the mount hear of the change; return when *holds* says so."""
        if self._way == "refresh":
            done = self._mount.ask("refresh")
            assert done.returncode == 0, done.stderr
            assert holds()  # at once
        elif self._way == "walk":
            wait_until(lambda: bool(self.walk()) and holds(), "a walk shows the change")
        else:
            wait_until(holds, "the change shows")


@pytest.fixture(params=WAYS)
def seen(request: pytest.FixtureRequest, emulator: Emulator, bucket: str, tmp_path: Path) -> Iterator[Seen]:
    ttl = "1h" if request.param == "refresh" else "1s"
    with mounted(emulator, tmp_path, bucket, options=["--listing-ttl", ttl]) as mount:
        seen = Seen(mount, emulator, bucket, request.param)
        for directory in ("d", *SIBLINGS):
            for name in ("file", "other"):
                seen.put(f"{directory}/{name}", OLD, OLD_MS)
        yield seen


def demand(path: Path, data: bytes, mtime_ms: int) -> None:
    """Demand that all ways to look at a file show this content."""
    for facts in (
        path.stat(),
        os.lstat(path),
        {e.name: e for e in os.scandir(path.parent)}[path.name].stat(),
    ):
        assert stat.S_ISREG(facts.st_mode)
        assert (facts.st_size, facts.st_mtime_ns) == (len(data), mtime_ms * 1_000_000)
    with path.open("rb") as file:
        assert os.fstat(file.fileno()).st_size == len(data)
        assert file.read() == data
    done = subprocess.run(["ls", "-l", str(path.parent)], capture_output=True, text=True, check=True)
    assert [line.split()[4] for line in done.stdout.splitlines() if line.endswith(f" {path.name}")] == [
        str(len(data))
    ]


def demand_missing(path: Path) -> None:
    """Demand that nothing shows under a name, however one looks."""
    assert path.name not in os.listdir(path.parent)
    for look in (os.stat, os.lstat, os.listdir, lambda name: os.open(name, os.O_RDONLY)):
        with pytest.raises(FileNotFoundError):
            look(path)


def test_a_file_that_another_client_changed_shows_its_new_size_time_and_content(seen: Seen) -> None:
    path = seen.directory / "file"
    seen.warm()
    seen.put("d/file", NEW, NEW_MS)
    seen.anew(lambda: path.stat().st_size == len(NEW))
    demand(path, NEW, NEW_MS)
    demand(seen.directory / "other", OLD, OLD_MS)


def test_a_file_changed_to_another_of_the_same_size_shows_its_content(seen: Seen) -> None:
    """The kernel keeps pages of a file that looks the same."""
    path = seen.directory / "file"
    seen.warm()
    seen.put("d/file", OLD[::-1], OLD_MS)
    seen.anew(lambda: path.read_bytes() == OLD[::-1])
    demand(path, OLD[::-1], OLD_MS)


def test_a_file_that_another_client_removed_is_gone(seen: Seen) -> None:
    path = seen.directory / "file"
    seen.warm()
    seen.hide("d/file")
    seen.anew(lambda: not path.exists())
    demand_missing(path)
    demand(seen.directory / "other", OLD, OLD_MS)


def test_a_name_that_was_missing_shows_when_another_client_made_it(seen: Seen) -> None:
    path = seen.directory / "none"
    seen.warm()
    seen.put("d/none", NEW, NEW_MS)
    seen.anew(path.exists)
    demand(path, NEW, NEW_MS)


def test_a_directory_that_was_missing_shows_when_another_client_made_something_in_it(seen: Seen) -> None:
    path = seen.directory / "none"
    seen.warm()
    seen.put("d/none/in", NEW, NEW_MS)
    seen.anew(path.exists)
    assert path.is_dir() and "none" in os.listdir(seen.directory)
    demand(path / "in", NEW, NEW_MS)


def test_an_open_file_keeps_its_version_and_the_name_shows_the_new_one(seen: Seen) -> None:
    path = seen.directory / "file"
    seen.warm()
    with path.open("rb") as changed, (seen.directory / "other").open("rb") as removed:
        seen.put("d/file", NEW, NEW_MS)
        seen.hide("d/other")
        seen.anew(lambda: path.stat().st_size == len(NEW) and not (seen.directory / "other").exists())
        demand(path, NEW, NEW_MS)
        demand_missing(seen.directory / "other")
        for file in (changed, removed):
            assert os.fstat(file.fileno()).st_size == len(OLD)
            assert file.read() == OLD
        assert os.fstat(changed.fileno()).st_ino != path.stat().st_ino
    demand(path, NEW, NEW_MS)


def test_a_file_becomes_a_directory_and_a_file_again(seen: Seen) -> None:
    path = seen.directory / "file"
    seen.warm()
    with path.open("rb") as held:
        seen.hide("d/file")
        seen.put("d/file/in", NEW, NEW_MS)
        seen.anew(path.is_dir)
        demand(path / "in", NEW, NEW_MS)
        assert os.listdir(path) == ["in"]
        assert stat.S_ISDIR({e.name: e for e in os.scandir(seen.directory)}["file"].stat().st_mode)
        assert held.read() == OLD
    seen.hide("d/file/in")
    seen.put("d/file", OLD, NEW_MS)
    seen.anew(path.is_file)
    demand(path, OLD, NEW_MS)
    with pytest.raises(NotADirectoryError):
        (path / "in").stat()


def test_a_directory_that_another_client_emptied_is_gone_with_all_in_it(seen: Seen) -> None:
    path = seen.root / "c"
    seen.warm()
    for name in ("file", "other"):
        seen.hide(f"c/{name}")
    seen.anew(lambda: not path.exists())
    assert sorted(os.listdir(seen.root)) == ["d", "e"]
    for name in ("file", "other"):
        with pytest.raises(FileNotFoundError):
            (path / name).stat()
