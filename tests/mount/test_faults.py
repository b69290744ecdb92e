"""Trouble crossed with work on a real mount: no wrong byte, no lost file, no hang, an honest errno.

Two tables say it all. A *trouble* is what the server is told to do to the mount's calls; a *work* is what a
program does meanwhile. Troubles that pass are not to be seen at all. Troubles that last give one of their
errnos where a call must answer, and everything is right once they are over, without a remount; what was
written meanwhile arrives, once; and the log has one line on it. The default run has each trouble and each
work; the whole product is slow.
"""

import errno
import hashlib
import os
import random
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.emulator import Emulator, pattern
from tests.support.mount import ALL, Mount, mounted
from tests.support.semantics import wait_until

pytestmark = pytest.mark.fuse

BUCKET = "faults"
BIG = 20_000_000
MEGABYTE = 1_000_000
PATIENCE = 120  # seconds that a call may take; for troubles that pass before, however slow the machine is
HASTE = 6  # seconds; for those that last
OPTIONS = ["--settle", "0.1", "--listing-ttl", "0", "--memory-size", "1M", "--io-timeout"]
LONGEST = 240.0  # seconds for one system call; far above the few io-timeouts that one may need


# --- troubles ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trouble:
    """What the server is told to do; *errnos*: how a call may end, none where nothing is to be seen."""

    name: str
    rules: Sequence[dict[str, Any]] = ()
    errnos: frozenset[int] = frozenset()
    begin: Callable[[Emulator], None] = lambda _server: None
    end: Callable[[Emulator], None] = lambda _server: None
    warnings: int = 1  # lines in the log, at most
    is_awaited: bool = False  # until no time is left
    not_during: str = ""  # a work for which there is no remedy


def rule(kind: str, **fields: Any) -> dict[str, Any]:
    return {"call": "*", "kind": kind, "times": 3, **fields}


def for_good(kind: str, **fields: Any) -> dict[str, Any]:
    return rule(kind, **{"times": -1, **fields})


UNREACHABLE = frozenset({errno.ETIMEDOUT})
PASSING = [
    Trouble("a short storm of 503", [rule("status", status=503, code="service_unavailable")]),
    Trouble("connections closed before anything happened", [rule("drop_before")]),
    Trouble("connections closed after all had happened", [rule("drop_after", times=2)]),
    Trouble("bodies cut short", [rule("truncate", after_bytes=10)]),
    # B2 tells no checksum of a range: a wrong bit in one is for TLS to find, which there is none of here.
    Trouble("bodies with a wrong bit", [rule("corrupt", after_bytes=1)], not_during="read a big file"),
    Trouble("429 with Retry-After", [rule("status", status=429, code="too_many_requests", retry_after=1)]),
    Trouble("a short stall", [rule("stall", seconds=1)]),
    Trouble("tokens that expire", begin=lambda server: server.expire_tokens("all")),
    Trouble("upload tokens that expire", begin=lambda server: server.expire_tokens("upload")),
]
LASTING = [
    Trouble(
        "503 for minutes",
        [for_good("status", status=503, code="service_unavailable")],
        UNREACHABLE,
        is_awaited=True,
    ),
    Trouble(
        "429 with Retry-After for minutes",
        [for_good("status", status=429, code="too_many_requests", retry_after=600)],
        frozenset({errno.EBUSY}),
    ),
    Trouble("connections closed at once", [for_good("drop_before")], UNREACHABLE, is_awaited=True),
    Trouble(
        "stalls longer than anybody waits", [for_good("stall", seconds=600)], UNREACHABLE, is_awaited=True
    ),
    Trouble("no network", (), UNREACHABLE, Emulator.stop, Emulator.start, is_awaited=True),  # type: ignore[arg-type]
    Trouble(
        "caps reached",
        (),
        frozenset({errno.EDQUOT}),
        lambda server: server.caps(storage_bytes=0, class_b=0, class_c=0),
        lambda server: server.caps(),
        warnings=2,  # a line for what is kept, and one for the cap
    ),
]
TROUBLES = [*PASSING, *LASTING]


# --- works ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Work:
    """What a program does. `do` may fail, and may be done again; `right` is how it has to be in the end."""

    name: str
    seeds: Sequence[tuple[str, int]]  # files that are there before: name and size
    do: Callable[[Path], None]
    right: Callable[["World"], None]
    once: Sequence[str] = field(default=())  # names of which exactly one version may have been made


@dataclass(slots=True)
class World:
    server: Emulator
    mount: Mount
    place: str  # the directory of this test, in the bucket

    @property
    def path(self) -> Path:
        return self.mount.path / self.place

    def stored(self) -> dict[str, str]:
        """Return what B2 shows under the directory: SHA-1 of the content by name."""
        rows = self.server.list_names(BUCKET, f"{self.place}/")
        names = [row["fileName"] for row in rows if not row["fileName"].endswith("/.bzEmpty")]
        return {
            name.removeprefix(f"{self.place}/"): sha1(self.server.download(BUCKET, name)) for name in names
        }


def sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def seeded(world: World, name: str, size: int) -> bytes:
    return pattern(f"{world.place}/{name}", 0, size)


def read_small(path: Path) -> None:
    check_read(path / "small", 1000)


def read_big(path: Path) -> None:
    check_read(path / "big", BIG)


def check_read(path: Path, size: int) -> None:
    """Read a file whole; it must be right or fail."""
    with path.open("rb", buffering=0) as file:
        whole, at = hashlib.sha1(usedforsecurity=False), 0
        while data := file.read(MEGABYTE):
            whole.update(data)
            at += len(data)
    name = f"{path.parent.name}/{path.name}"
    assert (at, whole.hexdigest()) == (size, sha1(pattern(name, 0, size))), "wrong bytes"


def list_names(path: Path) -> None:
    assert sorted(os.listdir(path)) == ["a", "b", "c"]


def write_and_sync(path: Path) -> None:
    fd = os.open(path / "new", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    try:
        os.write(fd, b"written")
        os.fsync(fd)
    finally:
        os.close(fd)


def append_to_large(path: Path) -> None:
    """Change a large file, which makes copied and uploaded parts; done again it writes the same."""
    fd = os.open(path / "big", os.O_WRONLY)
    try:
        os.pwrite(fd, b"tail" * 250_000, BIG)
        os.fsync(fd)
    finally:
        os.close(fd)


def rename_directory(path: Path) -> None:
    if not (path / "moved").exists():
        os.rename(path / "dir", path / "moved")
    sync_directory(path)


def remove_tree(path: Path) -> None:
    if (path / "dir").exists():
        shutil.rmtree(path / "dir")
    sync_directory(path)


def sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def change_mode(path: Path) -> None:
    os.chmod(path / "small", 0o600)
    sync_directory(path)


def is_as_seeded(*files: tuple[str, int]) -> Callable[[World], None]:
    def check(world: World) -> None:
        assert world.stored() == {name: sha1(seeded(world, name, size)) for name, size in files}

    return check


def new_is_stored(world: World) -> None:
    assert world.stored()["new"] == sha1(b"written")


def tail_is_stored(world: World) -> None:
    assert world.stored()["big"] == sha1(seeded(world, "big", BIG) + b"tail" * 250_000)


def directory_is_moved(world: World) -> None:
    expected = {f"moved/{name}": sha1(seeded(world, f"dir/{name}", size)) for name, size in LEAVES}
    assert world.stored() == expected


def directory_is_gone(world: World) -> None:
    assert world.stored() == {"kept": sha1(seeded(world, "kept", 10))}


def mode_is_stored(world: World) -> None:
    assert world.stored() == {"small": sha1(seeded(world, "small", 1000))}
    (row,) = world.server.list_names(BUCKET, f"{world.place}/small")
    assert "m=600" in row["fileInfo"]["b2mount"]


LEAVES = [(f"{number}", 100 + number) for number in range(5)]
TREE = [(f"dir/{name}", size) for name, size in LEAVES]
WORKS = [
    Work("read a small file", [("small", 1000)], read_small, is_as_seeded(("small", 1000))),
    Work("read a big file", [("big", BIG)], read_big, is_as_seeded(("big", BIG))),
    Work("list", [("a", 1), ("b", 1), ("c", 1)], list_names, is_as_seeded(("a", 1), ("b", 1), ("c", 1))),
    Work("write and fsync", [("old", 1)], write_and_sync, new_is_stored, ["new"]),
    Work("append to a large file", [("big", BIG)], append_to_large, tail_is_stored, ["big"]),
    Work("rename a directory", TREE, rename_directory, directory_is_moved, [f"moved/{n}" for n, _ in LEAVES]),
    Work("remove a tree", [*TREE, ("kept", 10)], remove_tree, directory_is_gone),
    Work("change a mode", [("small", 1000)], change_mode, mode_is_stored, ["small"]),
]


def product() -> list[Any]:
    """Return each pair; those of a diagonal, on which each trouble and each work lies, run by default."""
    pairs = []
    for row, trouble in enumerate(TROUBLES):
        for column, work in enumerate(WORKS):
            if work.name == trouble.not_during:
                continue
            by_default = (row + 2 * (row // len(WORKS))) % len(WORKS) == column
            marks = () if by_default else (pytest.mark.slow,)
            pairs.append(pytest.param(trouble, work, id=f"{work.name} - {trouble.name}", marks=marks))
    return pairs


# --- the tests --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """A server for this file alone: it is stopped, and told to fail."""
    with Emulator(tmp_path_factory.mktemp("faults")) as server:
        server.create_bucket(BUCKET)
        yield server


@pytest.fixture(scope="module")
def patient(server: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """One mount for all troubles that pass: each has to leave it as good as it was."""
    with mounted(
        server, tmp_path_factory.mktemp("patient"), BUCKET, options=[*OPTIONS, f"{PATIENCE}"]
    ) as mount:
        yield mount


@pytest.fixture(scope="module")
def hasty(server: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """One mount for all troubles that last, likewise."""
    with mounted(server, tmp_path_factory.mktemp("hasty"), BUCKET, options=[*OPTIONS, f"{HASTE}"]) as mount:
        yield mount


def seeded_world(server: Emulator, mount: Mount, work: Work) -> World:
    world = World(server, mount, f"t{random.randrange(10**12)}")
    server.seed(BUCKET, [{"name": f"{world.place}/{name}", "size": size} for name, size in work.seeds])
    os.listdir(mount.path)
    return world


@pytest.mark.parametrize(("trouble", "work"), product())
def test_trouble_during_work_loses_nothing(
    trouble: Trouble, work: Work, server: Emulator, request: pytest.FixtureRequest
) -> None:
    living: Mount = request.getfixturevalue("hasty" if trouble.is_awaited else "patient")
    world = seeded_world(server, living, work)
    before = len(living.log())
    trouble.begin(server)
    for one in trouble.rules:
        server.fault(**one)
    tries = 1
    failed = attempt(work, world)
    assert failed is None or failed in trouble.errnos, errno.errorcode[failed]
    trouble.end(server)
    server.clear_faults()
    while failed is not None:
        assert tries < 100, "it does not work again without a remount"
        tries += 1
        failed = attempt(work, world)
    wait_until(lambda: not living.status()["pending"]["files"], "all is sent")
    work.right(world)
    check_that_nothing_is_doubled(work, world, tries)
    said = living.log()[before:]
    told = [line for line in said.splitlines() if ": WARNING:" in line or ": ERROR:" in line]
    assert len(told) <= trouble.warnings, said


def check_that_nothing_is_doubled(work: Work, world: World, tries: int) -> None:
    """Demand no more versions than the program made: uploads whose answer was lost are recognised."""
    rows = world.server.list_versions(BUCKET, f"{world.place}/")
    made = Counter(
        row["fileName"].removeprefix(f"{world.place}/") for row in rows if row["action"] == "upload"
    )
    made.subtract(name for name, _ in work.seeds)
    for name in work.once:
        assert 1 <= made[name] <= tries, made


def attempt(work: Work, world: World) -> int | None:
    """Do the work; return the errno it ended with, None where it went well. Nothing may take for ever."""
    began = time.monotonic()
    try:
        work.do(world.path)
    except OSError as exc:
        return exc.errno
    finally:
        assert time.monotonic() - began < LONGEST, "it hung"
    return None


# --- in the middle of it ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["all", "upload"])
@pytest.mark.parametrize("work", [work for work in WORKS if work.name == "append to a large file"])
def test_tokens_that_expire_while_a_large_file_goes_up_are_not_seen(
    kind: str, work: Work, server: Emulator, patient: Mount
) -> None:
    world = seeded_world(server, patient, work)
    server.network(bandwidth=MEGABYTE)
    failed: list[int | None] = []
    thread = threading.Thread(target=lambda: failed.append(attempt(work, world)))
    thread.start()
    try:
        calls = ("b2_start_large_file", "b2_upload_part", "b2_get_upload_part_url")
        wait_until(lambda: any(one["call"] in calls for one in server.log()[-20:]), "it is under way")
        server.expire_tokens(kind)
        thread.join(LONGEST)
    finally:
        server.network(bandwidth=None)
        thread.join(LONGEST)
    assert failed == [None]
    wait_until(lambda: not patient.status()["pending"]["files"], "all is sent")
    work.right(world)
    check_that_nothing_is_doubled(work, world, 1)


def test_an_outage_while_many_files_wait_is_told_once_and_ends_for_all_of_them(
    server: Emulator, tmp_path: Path
) -> None:
    options = ["--settle", "0.1", "--io-timeout", str(HASTE)]  # with a listing that is believed
    place = f"t{random.randrange(10**12)}"
    with mounted(server, tmp_path, BUCKET, options=options) as mount:
        (mount.path / place).mkdir()
        assert os.listdir(mount.path / place) == []
        mount.flush()
        server.stop()
        try:
            for number in range(60):
                (mount.path / place / f"file{number}").write_bytes(b"x" * number)
            wait_until(lambda: "not in B2 yet" in mount.log(), "an upload is given up for now")
        finally:
            server.start()
        wait_until(lambda: not mount.status()["pending"]["files"], "all is sent")
    rows = server.list_versions(BUCKET, f"{place}/file")
    assert sorted(row["contentLength"] for row in rows) == list(range(60))
    assert mount.log().count(": WARNING:") == 1, mount.log()
    assert mount.log().count("not in B2 yet") == 1, mount.log()


def test_a_forced_unmount_ends_although_the_server_hangs(server: Emulator, tmp_path: Path) -> None:
    options = ["--settle", "0", "--io-timeout", "600"]
    mount = Mount(server, tmp_path, server.create_key(ALL, [BUCKET]), options=options).start()
    server.fault(**for_good("stall", call="b2_upload_file", seconds=600))
    try:
        (mount.path / "forced").write_bytes(b"kept")
        wait_until(lambda: any(one["fired"] for one in server.faults()), "the upload hangs")
        done = mount.ask("unmount", "--force", "--timeout", "1")
        assert done.returncode == 4, done.stderr
        assert mount.wait() == 4
    finally:
        server.clear_faults()
        mount.kill()
    with mount:
        mount.flush()
    assert server.download(BUCKET, "forced") == b"kept"


# A program that finds the address of no host as long as a file is there, as where the name server is gone.
WITHOUT_NAMES = """
import os, socket, sys
gone, look_up = sys.argv[1], socket.getaddrinfo
def getaddrinfo(*words, **more):
    if os.path.exists(gone):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return look_up(*words, **more)
socket.getaddrinfo = getaddrinfo
from b2mount.cli.main import main
sys.argv[:2] = ["b2mount"]
sys.exit(main())
"""


def test_what_is_written_while_no_name_can_be_looked_up_arrives_once_one_can(
    server: Emulator, tmp_path: Path
) -> None:
    options = ["--settle", "0.1", "--io-timeout", str(HASTE)]
    place, gone = f"t{random.randrange(10**12)}", tmp_path / "no-name-server"
    key = server.create_key(ALL, [BUCKET])
    program = [sys.executable, "-c", WITHOUT_NAMES, str(gone)]
    with Mount(server, tmp_path, key, source=BUCKET, options=options, program=program) as mount:
        (mount.path / place).mkdir()
        assert os.listdir(mount.path / place) == []
        mount.flush()
        gone.touch()
        server.stop()  # what connects anew has to look the name up
        server.start()
        for number in range(20):
            (mount.path / place / f"file{number}").write_bytes(b"x" * number)
        with pytest.raises(OSError) as caught, (mount.path / place / "synced").open("xb") as file:
            file.write(b"y")
            file.flush()
            os.fsync(file.fileno())
        assert caught.value.errno == errno.ETIMEDOUT
        wait_until(lambda: "not in B2 yet" in mount.log(), "an upload is given up for now")
        gone.unlink()
        wait_until(lambda: not mount.status()["pending"]["files"], "all is sent")
    assert mount.log().count(": WARNING:") == 1, mount.log()
    assert "name resolution" in mount.log()
    rows = server.list_versions(BUCKET, f"{place}/file")
    assert sorted(row["contentLength"] for row in rows) == list(range(20))
    assert [row["contentLength"] for row in server.list_versions(BUCKET, f"{place}/synced")] == [1]
