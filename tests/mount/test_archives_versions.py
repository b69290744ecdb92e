"""`b2mount mount --versions`, through the kernel: every version, and several moments, in one mount."""

import contextlib
import errno
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.mount.test_archives import DAY, READER, T0, epoch, hide, put, tree
from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount, MountFailed, mounted
from tests.support.semantics import calls_of, fresh_bucket, refusals_of, refused, wait_until

pytestmark = pytest.mark.fuse

DAY_0 = "2023-11-14T22:13:20.000Z"
DAY_1 = "2023-11-15T22:13:20.000Z"
DAY_2 = "2023-11-16T22:13:20.000Z"
DAY_3 = "2023-11-17T22:13:20.000Z"


@pytest.fixture(scope="module")
def told(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """A mount with --versions, by a key that lists and reads alone, of a bucket with a past."""
    with fresh_bucket(emulator) as bucket:
        rows = [
            put("report", "first", T0),
            put("report", "second", T0 + DAY),
            hide("report", T0 + 2 * DAY),
            put("report", "third", T0 + 3 * DAY),
            put("old/only/file", "kept", T0),
            hide("old/only/file", T0 + DAY),
            put("tie", "one", T0),
            put("tie", "two", T0),
            hide("tie", T0),
            put("empty/.bzEmpty", "", T0),
            hide("empty/.bzEmpty", T0 + DAY),
            put("both", "a file", T0),
            put("both/under", "a directory", T0 + DAY),
            put("both.txt", "between", T0),
            put("@home", "no moment", T0),
            put("@2023-11-15", "reads as one", T0),
            put("odd//name/..", "odd", T0),
        ]
        emulator.seed(bucket, rows)
        since = emulator.last_seq()
        with mounted(
            emulator,
            tmp_path_factory.mktemp("told"),
            bucket,
            capabilities=READER,
            options=["-o", "versions"],
        ) as mount:
            yield mount
            assert refusals_of(emulator, mount.key, since) == []


def versions(mount: Mount, *parts: str) -> Path:
    return mount.path.joinpath(".b2versions", *parts)


def test_every_version_of_a_name_is_a_file_named_by_its_moment(told: Mount) -> None:
    assert tree(versions(told, "report")) == {
        DAY_0: "first",
        DAY_1: "second",
        f"{DAY_2}.hidden": "",
        DAY_3: "third",
    }
    second = versions(told, "report", DAY_1)
    assert second.stat().st_mtime_ns == (T0 + DAY) * 1_000_000
    row = next(
        row for row in told.emulator.list_versions(bucket_of(told), "report") if row["contentLength"] == 6
    )
    assert os.getxattr(second, "user.b2.file_id") == row["fileId"].encode()
    assert os.getxattr(second, "user.b2.uploaded") == str(T0 + DAY).encode()


def bucket_of(mount: Mount) -> str:
    (bucket,) = mount.status()["scope"]["buckets"]
    return str(bucket)


def test_versions_of_one_moment_have_names_of_their_own(told: Mount) -> None:
    assert sorted(tree(versions(told, "tie")).items()) == [
        (DAY_0, "one"),
        (f"{DAY_0}_001", "two"),
        (f"{DAY_0}_002.hidden", ""),
    ]


def test_names_and_directories_that_were_removed_are_listed(told: Mount) -> None:
    assert sorted(os.listdir(versions(told))) == [
        "%b2-at2023-11-15",
        "@home",
        "both",
        "both%b2-file",
        "both.txt",
        "empty",
        "odd",
        "old",
        "report",
        "tie",
    ]
    assert tree(versions(told, "old")) == {
        "only": None,
        "only/file": None,
        f"only/file/{DAY_0}": "kept",
        f"only/file/{DAY_1}.hidden": "",
    }
    assert os.listdir(versions(told, "empty")) == []


def test_a_file_beside_a_directory_keeps_its_versions_apart(told: Mount) -> None:
    assert tree(versions(told, "both")) == {"under": None, f"under/{DAY_1}": "a directory"}
    assert tree(versions(told, "both%b2-file")) == {DAY_0: "a file"}
    assert tree(versions(told, "odd")) == {
        "%b2-empty": None,
        "%b2-empty/name": None,
        "%b2-empty/name/%b2-dotdot": None,
        f"%b2-empty/name/%b2-dotdot/{DAY_0}": "odd",
    }


def test_any_moment_is_a_directory(told: Mount) -> None:
    assert tree(versions(told, f"@{DAY_0}", "old")) == {"only": None, "only/file": "kept"}
    assert (versions(told, "@2023-11-16T12:00Z") / "report").read_text() == "second"
    assert (versions(told, f"@{(T0 + DAY) // 1000}") / "report").read_text() == "second"
    assert (versions(told, "@an hour ago") / "report").read_text() == "third"
    assert not (versions(told, epoch(T0 + 2 * DAY)) / "report").exists()
    assert sorted(os.listdir(versions(told, epoch(T0 - 1)))) == []
    assert versions(told, "@home", DAY_0).read_text() == "no moment"
    assert versions(told, "%b2-at2023-11-15", DAY_0).read_text() == "reads as one"
    for no_moment in ("@2999-01-01", "@nonsense", "@"):
        assert not versions(told, no_moment).exists()


def test_it_is_found_by_name_and_not_listed(told: Mount) -> None:
    assert ".b2versions" not in os.listdir(told.path)
    assert versions(told).is_dir()
    assert not (told.path / "both/.b2versions").exists()
    found = subprocess.run(["find", told.path], capture_output=True, text=True, check=True).stdout
    assert "b2versions" not in found


@contextlib.contextmanager
def unchanged() -> Iterator[None]:
    """Demand EROFS; before it asks the mount, the kernel may refuse an ordinary user for want of the bit."""
    with pytest.raises(OSError) as caught:
        yield
    assert caught.value.errno in ({errno.EROFS} if os.geteuid() == 0 else {errno.EROFS, errno.EACCES})


def test_nothing_in_it_can_be_changed_while_the_rest_can(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    emulator.seed(bucket, [put("report", "first", T0), put("other", "x", T0)])
    with mounted(emulator, tmp_path, bucket, options=["--versions"]) as mount:
        entry = versions(mount, "report", DAY_0)
        past = versions(mount, f"@{DAY_0}")
        assert entry.stat().st_mode & 0o222 == past.stat().st_mode & 0o222 == 0
        for target in (entry, past / "report"):
            with unchanged():
                target.open("r+")
            with unchanged():
                target.unlink()
            with unchanged():
                target.chmod(0o644)
            with unchanged():
                os.setxattr(target, "user.x", b"x")
            with unchanged():
                target.rename(mount.path / "taken")
            with unchanged():
                (mount.path / "other").rename(target)
            assert not os.access(target, os.W_OK)
        with unchanged():
            (versions(mount) / "new").write_text("new")
        with unchanged():
            (past / "new").mkdir()
        with refused(errno.EPERM):
            versions(mount).rmdir()
        with refused(errno.EPERM):
            versions(mount).rename(mount.path / "moved")
        with refused(errno.EEXIST):
            versions(mount).mkdir()
        (mount.path / "report").write_text("second")
        (mount.path / "other").rename(mount.path / "report2")
        mount.flush()
    assert emulator.download(bucket, "report") == b"second"
    assert {row["fileName"] for row in emulator.list_names(bucket)} == {"report", "report2"}


def test_what_is_written_here_is_a_version_once_it_is_sent(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    with mounted(emulator, tmp_path, bucket, options=["--versions", "--settle", "0s"]) as mount:
        contents = ["one", "two", "three"]
        for number, content in enumerate(contents, 1):
            (mount.path / "file").write_text(content)
            mount.flush()
            wait_until(
                lambda number=number: len(os.listdir(versions(mount, "file"))) == number,  # type: ignore[misc]
                f"version {number} shows",
            )
        shown = sorted(versions(mount, "file").iterdir())
        assert [path.read_text() for path in shown] == contents
        (mount.path / "file").unlink()
        mount.flush()
        assert sorted(versions(mount, "file").iterdir())[-1].name.endswith("Z.hidden")
        before = time.time_ns() // 1_000_000
        (mount.path / "file").write_text("again")
        mount.flush()
        assert not (versions(mount, epoch(before)) / "file").exists()


def test_names_of_the_users_own_that_are_alike_stay_in_reach(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    emulator.upload(bucket, ".b2versions", b"a file")
    emulator.upload(bucket, ".b2versions/inside", b"in a directory")
    emulator.upload(bucket, "dir/.b2versions", b"elsewhere")
    with mounted(emulator, tmp_path, bucket, options=["--versions"]) as mount:
        assert sorted(os.listdir(mount.path)) == ["%b2-versions", ".b2versions%b2-file", "dir"]
        assert (mount.path / ".b2versions%b2-file").read_text() == "a file"
        assert (mount.path / "%b2-versions/inside").read_text() == "in a directory"
        assert (mount.path / "dir/.b2versions").read_text() == "elsewhere"
        (mount.path / ".b2versions%b2-file").unlink()
        (mount.path / "%b2-versions/inside").write_text("changed")
        mount.flush()
    assert emulator.download(bucket, ".b2versions/inside") == b"changed"
    assert {row["fileName"] for row in emulator.list_names(bucket)} == {
        ".b2versions/inside",
        "dir/.b2versions",
    }


def test_without_the_option_the_name_is_one_like_others(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    with mounted(emulator, tmp_path, bucket) as mount:
        assert not versions(mount).exists()
        versions(mount).write_text("mine")
        mount.flush()
    assert emulator.download(bucket, ".b2versions") == b"mine"


@pytest.mark.parametrize(
    ("prefix", "shown"),
    [
        ("a/b/", {"file": None, f"file/{DAY_0}": "one", f"file/{DAY_1}.hidden": ""}),
        ("a/b", {"b": None, "b/file": None, f"b/file/{DAY_0}": "one", f"b/file/{DAY_1}.hidden": ""}),
    ],
)
def test_a_key_with_a_prefix_sees_the_versions_of_its_prefix(
    emulator: Emulator, bucket: str, tmp_path: Path, prefix: str, shown: dict[str, str | None]
) -> None:
    rows = [
        put("a/b/file", "one", T0),
        hide("a/b/file", T0 + DAY),
        put("a/c", "not yours", T0),
        put("d", "", T0),
    ]
    emulator.seed(bucket, rows)
    since = emulator.last_seq()
    with mounted(
        emulator, tmp_path, bucket, prefix=prefix, capabilities=READER, options=["--versions"]
    ) as mount:
        assert tree(versions(mount)) == shown
        assert versions(mount, "@2023-11-15").exists()
        assert not versions(mount, "c").exists()
        assert refusals_of(emulator, mount.key, since) == []


def test_a_source_above_the_keys_prefix_shows_the_way_down(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    emulator.seed(bucket, [put("a/b/file", "one", T0), put("a/c", "not yours", T0)])
    key = emulator.create_key([*READER], [bucket], "a/b/")
    with Mount(emulator, tmp_path, key, source=bucket, options=["--versions"]) as mount:
        assert tree(versions(mount)) == {"a": None, "a/b": None, "a/b/file": None, f"a/b/file/{DAY_0}": "one"}
        assert tree(versions(mount, f"@{DAY_0}")) == {"a": None, "a/b": None, "a/b/file": "one"}


def test_a_key_for_several_buckets_sees_the_versions_of_each(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    with fresh_bucket(emulator) as other:
        emulator.seed(bucket, [put("x", "one", T0), hide("x", T0 + DAY)])
        emulator.seed(other, [put("y", "two", T0)])
        key = emulator.create_key([*READER], [bucket, other])
        with Mount(emulator, tmp_path, key, options=["--versions"]) as mount:
            assert sorted(os.listdir(mount.path)) == sorted([bucket, other])
            assert sorted(os.listdir(versions(mount))) == sorted([bucket, other])
            assert tree(versions(mount, bucket)) == {"x": None, f"x/{DAY_0}": "one", f"x/{DAY_1}.hidden": ""}
            assert tree(versions(mount, f"@{DAY_0}")) == {
                bucket: None,
                f"{bucket}/x": "one",
                other: None,
                f"{other}/y": "two",
            }


def test_a_walk_over_all_versions_costs_flat_listings(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    names = [f"d{d:02}/f{f}" for d in range(20) for f in range(5)]
    emulator.seed(bucket, [put(name, str(n), T0 + n) for name in names for n in range(3)])
    with mounted(emulator, tmp_path, bucket, capabilities=READER, options=["--versions"]) as mount:
        since = emulator.last_seq()
        command = ["find", str(versions(mount)), "-type", "f"]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        assert found.stdout.count("\n") == 300
        assert len(calls_of(emulator, mount.key, since)) < 12


@pytest.mark.parametrize(
    ("capabilities", "options", "words"),
    [
        (("readFiles", "writeFiles"), ["--versions"], "the key lacks listFiles"),
        (ALL, ["--versions", "--at", "yesterday"], "do not go together"),
    ],
)
def test_versions_that_cannot_be_shown_are_refused_with_words(
    emulator: Emulator,
    bucket: str,
    tmp_path: Path,
    capabilities: Sequence[str],
    options: list[str],
    words: str,
) -> None:
    with pytest.raises(MountFailed, match=words):
        Mount(emulator, tmp_path, emulator.create_key(list(capabilities), [bucket]), options=options).start()
