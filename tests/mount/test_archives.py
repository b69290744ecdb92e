"""`b2mount mount --at TIME`, through the kernel: a past made through the API and through a mount."""

import contextlib
import errno
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from b2mount.core.grant import Capability, Grant
from b2mount.core.options import MountOptions
from b2mount.core.scope import ScopeError
from b2mount.mount_checks import check_options
from b2mount.mount_past import shown_options
from b2mount.store.authorization import CLOCK_SLACK_MS
from tests.support.emulator import Emulator
from tests.support.mount import Mount, MountFailed, mounted
from tests.support.semantics import calls_of, fresh_bucket, refusals_of, refused

pytestmark = pytest.mark.fuse

READER = ("listFiles", "readFiles")
DAY = 86_400_000
T0 = 1_700_000_000_000  # 2023-11-14T22:13:20Z


def put(name: str, content: str, at_ms: int) -> dict[str, object]:
    return {"name": name, "content": content, "uploaded_ms": at_ms}


def hide(name: str, at_ms: int) -> dict[str, object]:
    return {"name": name, "action": "hide", "uploaded_ms": at_ms}


@pytest.fixture
def archive(emulator: Emulator) -> Iterator[str]:
    """A bucket with a past of five days."""
    with fresh_bucket(emulator) as bucket:
        rows = [
            put("report", "first", T0),
            put("report", "second", T0 + DAY),
            hide("report", T0 + 2 * DAY),
            put("report", "third", T0 + 4 * DAY),
            put("old/only/file", "kept", T0),
            hide("old/only/file", T0 + DAY),
            put("new/file", "late", T0 + 3 * DAY),
            put("empty/.bzEmpty", "", T0),
            hide("empty/.bzEmpty", T0 + 2 * DAY),
            put("both", "file", T0),
            put("both/under", "directory", T0 + DAY),
        ]
        emulator.seed(bucket, rows)
        yield bucket


@contextlib.contextmanager
def looking_back(
    emulator: Emulator,
    base: Path,
    buckets: Sequence[str],
    at: str,
    *,
    prefix: str | None = None,
    capabilities: Sequence[str] = READER,
    options: Sequence[str] = (),
) -> Iterator[Mount]:
    """Mount a past moment by a key that may list and read, and no more."""
    key = emulator.create_key(list(capabilities), list(buckets), prefix)
    base.mkdir(parents=True, exist_ok=True)
    since = emulator.last_seq()
    with Mount(emulator, base, key, options=["--at", at, *options]) as mount:
        yield mount
    assert refusals_of(emulator, key, since) == []


def tree(top: Path) -> dict[str, str | None]:
    """Return every path under *top*, with what files hold."""
    return {
        str(path.relative_to(top)): path.read_text() if path.is_file() else None for path in top.rglob("*")
    }


def epoch(moment_ms: int) -> str:
    return f"@{moment_ms // 1000}.{moment_ms % 1000:03}"


def test_each_moment_shows_what_was_there(emulator: Emulator, archive: str, tmp_path: Path) -> None:
    first = {"report": "first", "old": None, "old/only": None, "old/only/file": "kept", "both": "file"}
    moments: dict[int, dict[str, str | None]] = {
        T0 - 1: {},
        T0: first | {"empty": None},
        T0 + DAY: {
            "report": "second",
            "empty": None,
            "both": None,
            "both/under": "directory",
            "both%b2-file": "file",
        },
        T0 + 3 * DAY: {
            "new": None,
            "new/file": "late",
            "both": None,
            "both/under": "directory",
            "both%b2-file": "file",
        },
    }
    for moment, shown in moments.items():
        with looking_back(emulator, tmp_path / str(moment), [archive], epoch(moment)) as mount:
            assert tree(mount.path) == shown, moment


def test_a_past_made_through_a_mount_comes_back(emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    moments: list[tuple[int, dict[str, str | None]]] = []
    with mounted(emulator, tmp_path / "now", bucket, options=["--settle", "0s"]) as now:

        def note() -> None:
            """Remember what shows, with everything in B2, and let the clock go on."""
            now.flush()
            time.sleep(0.05)
            moments.append((time.time_ns() // 1_000_000, tree(now.path)))
            time.sleep(0.05)

        note()
        (now.path / "docs").mkdir()
        (now.path / "docs/one").write_text("one")
        (now.path / "docs/deep").mkdir()
        (now.path / "docs/deep/two").write_text("two")
        note()
        (now.path / "docs/one").write_text("one, again")
        (now.path / "docs/deep/two").unlink()
        note()
        (now.path / "docs").rename(now.path / "papers")
        (now.path / "large").write_text("0123456789" * 1_200_000)
        note()
        subprocess.run(["rm", "-r", now.path / "papers", now.path / "large"], check=True)
        note()
    for number, (moment, shown) in enumerate(moments):
        with looking_back(emulator, tmp_path / f"then{number}", [bucket], epoch(moment)) as then:
            assert tree(then.path) == shown, number


def test_everything_about_it_is_read_only(emulator: Emulator, archive: str, tmp_path: Path) -> None:
    full = ("listFiles", "readFiles", "writeFiles", "deleteFiles")
    with looking_back(emulator, tmp_path, [archive], "2023-11-15T12:00Z", capabilities=full) as mount:
        path = mount.path / "report"
        assert path.read_text() == "first"
        assert os.getxattr(path, "user.b2.uploaded") == str(T0).encode()
        assert path.stat().st_mode & 0o222 == 0
        assert os.statvfs(mount.path).f_flag & os.ST_RDONLY
        with refused(errno.EROFS):
            path.write_text("other")
        with refused(errno.EROFS):
            path.unlink()
        with refused(errno.EROFS):
            path.chmod(0o600)
        with refused(errno.EROFS):
            (mount.path / "new").mkdir()
        assert mount.status()["at"] == "2023-11-15T12:00:00.000Z"
        assert f"b2:{archive}/@2023-11-15T12:00:00.000Z" in Path("/proc/self/mountinfo").read_text()


def test_what_is_shown_never_changes(emulator: Emulator, archive: str, tmp_path: Path) -> None:
    at = epoch(T0 + DAY)
    with looking_back(emulator, tmp_path, [archive], at, options=["--listing-ttl", "0s"]) as mount:
        before = sorted(os.listdir(mount.path))
        emulator.upload(archive, "report", b"fourth")
        emulator.upload(archive, "another", b"new")
        row = next(row for row in emulator.list_versions(archive, "both/under"))
        emulator.ask("b2_delete_file_version", {"fileName": row["fileName"], "fileId": row["fileId"]})
        assert sorted(os.listdir(mount.path)) == before
        since = emulator.last_seq()
        assert (mount.path / "report").read_text() == "second"
        assert sorted(os.listdir(mount.path)) == before
        assert "b2_list_file_versions" not in calls_of(emulator, mount.key, since)


def test_a_version_deleted_since_it_was_listed_cannot_be_read(
    emulator: Emulator, archive: str, tmp_path: Path
) -> None:
    with looking_back(emulator, tmp_path, [archive], epoch(T0 + DAY)) as mount:
        file = (mount.path / "report").open("rb", buffering=0)
        rows = emulator.list_versions(archive, "report")
        row = next(row for row in rows if row["uploadTimestamp"] == T0 + DAY)
        emulator.ask("b2_delete_file_version", {"fileName": "report", "fileId": row["fileId"]})
        with file, refused(errno.ESTALE):
            file.read(10)
        assert (mount.path / "report").stat().st_size == len("second")


def test_a_key_with_a_prefix_sees_the_past_of_its_prefix(
    emulator: Emulator, archive: str, tmp_path: Path
) -> None:
    with looking_back(emulator, tmp_path / "a", [archive], epoch(T0), prefix="old/") as mount:
        assert tree(mount.path) == {"only": None, "only/file": "kept"}
    with looking_back(emulator, tmp_path / "b", [archive], epoch(T0 + DAY), prefix="bo") as mount:
        assert tree(mount.path) == {"both": None, "both/under": "directory", "both%b2-file": "file"}


def test_a_key_for_several_buckets_sees_the_past_of_each(
    emulator: Emulator, archive: str, bucket: str, tmp_path: Path
) -> None:
    emulator.seed(bucket, [put("x", "x", T0)])
    with looking_back(emulator, tmp_path, [archive, bucket], epoch(T0)) as mount:
        assert (mount.path / bucket / "x").read_text() == "x"
        assert (mount.path / archive / "report").read_text() == "first"
        assert not (mount.path / archive / "new").exists()


def test_a_mount_of_the_present_goes_on_beside_it(emulator: Emulator, archive: str, tmp_path: Path) -> None:
    key = emulator.create_key(["listFiles", "readFiles", "writeFiles"], [archive])
    with Mount(emulator, tmp_path, key) as now:
        (now.path / "pending").write_text("unsent")
        then = Mount(emulator, tmp_path, key, options=["-o", f"at={epoch(T0)},listing_ttl=1"])
        then.path = tmp_path / "then"
        then.path.mkdir()
        with then:
            assert (then.path / "report").read_text() == "first"
            assert not (then.path / "pending").exists()
        now.flush()
        assert emulator.download(archive, "pending") == b"unsent"
    assert list((tmp_path / "state/past").iterdir()) == []


def test_what_a_crash_of_such_a_mount_left_is_cleared_by_the_next(
    emulator: Emulator, archive: str, tmp_path: Path
) -> None:
    with contextlib.suppress(AssertionError), looking_back(emulator, tmp_path, [archive], epoch(T0)) as mount:
        mount.kill()
        assert len(list((tmp_path / "state/past").iterdir())) == 1
        mount.start()
        assert len(list((tmp_path / "state/past").iterdir())) == 1
        assert mount.stop() == 0
        mount.process = None


@pytest.mark.parametrize(
    ("at", "capabilities", "words"),
    [
        ("2999-01-01", READER, "lies in the future"),
        ("@0", ("readFiles", "writeFiles"), "the key lacks listFiles"),
        ("next week", READER, "is not understood as a moment"),
    ],
)
def test_a_moment_that_cannot_be_shown_is_refused_with_words(
    emulator: Emulator, bucket: str, tmp_path: Path, at: str, capabilities: Sequence[str], words: str
) -> None:
    with (
        pytest.raises(MountFailed, match=words),
        looking_back(emulator, tmp_path, [bucket], at, capabilities=capabilities),
    ):
        pass


def test_now_is_no_moment_of_the_future_although_clocks_differ_a_little() -> None:
    grant = Grant("account", Capability.LIST_FILES, None, "", None)
    for ahead_ms, at_ms in ((0, T0), (1500, T0 + 1500), (60_000, T0 + CLOCK_SLACK_MS)):
        options = MountOptions(Path("/mnt"), at=T0 + ahead_ms)  # "now" by a clock so much ahead of B2's
        check_options(options, grant, now_ms=max(T0, T0 + ahead_ms))
        assert shown_options(options, now_ms=T0).at == at_ms
    with pytest.raises(ScopeError, match="lies in the future"):
        check_options(MountOptions(Path("/mnt"), at=T0 + 60_000), grant, now_ms=T0)
    check_options(MountOptions(Path("/mnt"), at=T0 + 1500), grant, now_ms=T0)


def test_a_walk_of_the_past_costs_flat_listings(emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    emulator.seed(
        bucket, [put(f"d{d:02}/s{s}/f", "x", T0 + n) for d in range(30) for s in range(3) for n in range(4)]
    )
    with looking_back(emulator, tmp_path, [bucket], epoch(T0 + 2)) as mount:
        since = emulator.last_seq()
        found = subprocess.run(["find", mount.path, "-type", "f"], capture_output=True, text=True, check=True)
        assert found.stdout.count("\n") == 90
        calls = calls_of(emulator, mount.key, since)
        assert set(calls) == {"b2_list_file_versions"}
        assert len(calls) < 10
