"""docs/semantics.md, "What a key shows": every shape of key and SOURCE, and nothing outside of it."""

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount, MountFailed
from tests.support.semantics import LOOKS, calls_of, fresh_bucket, refusals_of, refused, requests_of

pytestmark = pytest.mark.fuse


@contextlib.contextmanager
def scoped(
    emulator: Emulator,
    base: Path,
    buckets: Sequence[str] | None,
    *,
    prefix: str | None = None,
    source: str | None = None,
    capabilities: Sequence[str] = ALL,
    options: Sequence[str] = (),
) -> Iterator[Mount]:
    """Mount by a fresh key; at the end, demand that it asked for nothing outside and was refused nothing."""
    key = emulator.create_key(capabilities, buckets, prefix)
    since = emulator.last_seq()
    with Mount(emulator, base, key, source=source, options=options) as mount:
        yield mount
    for entry in requests_of(emulator, key, since):
        asked = entry["name"] or entry["prefix"]
        assert not asked or asked.startswith(prefix or ""), entry
        if buckets is not None:
            assert entry["bucket"] in (None, "", *buckets), entry
    assert refusals_of(emulator, key, since) == []


@pytest.fixture
def tenants(emulator: Emulator) -> Iterator[str]:
    """A bucket where several tenants live."""
    with fresh_bucket(emulator) as bucket:
        for name in ("a/b/file", "a/b/deep/er/file", "a/bc", "a/other", "a/c/file", "z", "b"):
            emulator.upload(bucket, name, name.encode())
        yield bucket


def tree(path: Path) -> set[str]:
    """Return every file and directory as find sees them."""
    done = subprocess.run(
        ["find", path, "-mindepth", "1", "-printf", "%P\n"], check=True, stdout=subprocess.PIPE, text=True
    )
    return set(done.stdout.splitlines())


def test_a_key_for_one_bucket_shows_the_buckets_root(
    emulator: Emulator, tenants: str, tmp_path: Path
) -> None:
    with scoped(emulator, tmp_path, [tenants]) as mount:
        assert sorted(os.listdir(mount.path)) == ["a", "b", "z"]
        assert (mount.path / "a/b/file").read_bytes() == b"a/b/file"


def test_a_prefix_that_ends_in_a_slash_is_the_root(emulator: Emulator, tenants: str, tmp_path: Path) -> None:
    with scoped(emulator, tmp_path, [tenants], prefix="a/b/") as mount:
        assert tree(mount.path) == {"file", "deep", "deep/er", "deep/er/file"}
        (mount.path / "new").write_bytes(b"n")
        (mount.path / "dir").mkdir()
        os.rename(mount.path / "deep", mount.path / "dir/deep")
        mount.flush()
    names = {row["fileName"] for row in emulator.list_names(tenants)}
    assert names == {
        *("a/b/file", "a/b/new", "a/b/dir/.bzEmpty", "a/b/dir/deep/er/file"),
        *("a/bc", "a/other", "a/c/file", "z", "b"),
    }


def test_a_prefix_within_a_name_shows_only_names_that_begin_so(
    emulator: Emulator, tenants: str, tmp_path: Path
) -> None:
    with scoped(emulator, tmp_path, [tenants], prefix="a/b") as mount:
        assert tree(mount.path) == {"b", "b/file", "b/deep", "b/deep/er", "b/deep/er/file", "bc"}
        for name in ("other", "c", "a", "new"):
            with refused(errno.ENOENT):
                os.stat(mount.path / name)
        for name in ("other", "new"):
            with refused(errno.EACCES):
                os.open(mount.path / name, os.O_CREAT | os.O_WRONLY)
            with refused(errno.EACCES):
                os.mkdir(mount.path / name)
            with refused(errno.EACCES):
                os.rename(mount.path / "bc", mount.path / name)
        (mount.path / "bnew").write_bytes(b"n")
        (mount.path / "bdir").mkdir()
        os.rename(mount.path / "bc", mount.path / "bdir/moved")
        mount.flush()
        assert sorted(os.listdir(mount.path)) == ["b", "bdir", "bnew"]
        with refused(errno.EPERM):
            os.chmod(mount.path, 0o700)
    names = {row["fileName"] for row in emulator.list_names(tenants, "a/b")}
    assert names == {"a/b/file", "a/b/deep/er/file", "a/bnew", "a/bdir/.bzEmpty", "a/bdir/moved"}


@pytest.mark.parametrize("prefix", ["Ünï cödé/ピ with space/", "100%/%41/plus+and&/%b2-dot/"])
def test_prefixes_may_hold_any_character(
    emulator: Emulator, tenants: str, tmp_path: Path, prefix: str
) -> None:
    emulator.upload(tenants, prefix + "sub/ü%20 file", b"inside")
    with scoped(emulator, tmp_path, [tenants], prefix=prefix) as mount:
        assert tree(mount.path) == {"sub", "sub/ü%20 file"}
        os.rename(mount.path / "sub/ü%20 file", mount.path / "+%")
        mount.flush()
    assert emulator.download(tenants, prefix + "+%") == b"inside"


def test_a_source_below_the_keys_prefix_is_the_root(emulator: Emulator, tenants: str, tmp_path: Path) -> None:
    with scoped(emulator, tmp_path, [tenants], prefix="a/", source=f"{tenants}/a/b/deep") as mount:
        assert tree(mount.path) == {"er", "er/file"}


def test_a_source_above_the_keys_prefix_shows_the_way_down_without_a_call(
    emulator: Emulator, tenants: str, tmp_path: Path
) -> None:
    with scoped(emulator, tmp_path, [tenants], prefix="a/b/", source=tenants) as mount:
        since = emulator.last_seq()
        assert os.listdir(mount.path) == ["a"]
        assert os.listdir(mount.path / "a") == ["b"]
        assert (mount.path / "a").is_dir()
        for name in ("z", "a/c", "a/bc", "b"):
            with refused(errno.ENOENT):
                os.stat(mount.path / name)
        for name in ("new", "a/new"):
            with refused(errno.EACCES):
                os.open(mount.path / name, os.O_CREAT | os.O_WRONLY)
        for name in ("a", "a/b"):
            with refused(errno.EACCES):
                os.rename(mount.path / name, mount.path / "new")
        with refused(errno.EPERM):
            os.rmdir(mount.path / "a")
        with refused(errno.EPERM):
            os.chmod(mount.path / "a", 0o700)
        assert set(calls_of(emulator, mount.key, since)) <= LOOKS
        assert (mount.path / "a/b/file").read_bytes() == b"a/b/file"
        (mount.path / "a/b/new").write_bytes(b"n")


def test_a_source_that_the_key_does_not_cover_is_refused_at_start(
    emulator: Emulator, tenants: str, tmp_path: Path
) -> None:
    for number, source in enumerate((f"{tenants}/a/c", "another-bucket")):
        with (
            pytest.raises(MountFailed, match=r"does not cover .*(\n|.)*it covers"),
            scoped(emulator, tmp_path / str(number), [tenants], prefix="a/b/", source=source),
        ):
            pass


@pytest.fixture
def three(emulator: Emulator) -> Iterator[list[str]]:
    """Three buckets with a file each, also under x/."""
    with fresh_bucket(emulator) as one, fresh_bucket(emulator) as two, fresh_bucket(emulator) as other:
        for bucket in (one, two, other):
            emulator.upload(bucket, "file", bucket.encode())
            emulator.upload(bucket, "x/inside", b"x")
        yield [one, two, other]


def test_a_key_for_several_buckets_shows_a_directory_for_each(
    emulator: Emulator, three: list[str], tmp_path: Path
) -> None:
    one, two, _ = three
    with scoped(emulator, tmp_path, [one, two]) as mount:
        assert sorted(os.listdir(mount.path)) == sorted([one, two])
        assert (mount.path / one / "file").read_text() == one
        with refused(errno.ENOENT):
            os.stat(mount.path / three[2])
        os.rename(mount.path / one / "file", mount.path / two / "moved")
        (mount.path / two / "new").write_bytes(b"n")
        mount.flush()
        for name in ("new-bucket", "file"):
            with refused(errno.EPERM):
                os.mkdir(mount.path / name)
            with refused(errno.EPERM):
                os.open(mount.path / name, os.O_CREAT | os.O_WRONLY)
        with refused(errno.EPERM):
            os.rmdir(mount.path / one)
        with refused(errno.EPERM):
            os.rename(mount.path / one, mount.path / "renamed")
    assert emulator.download(two, "moved") == one.encode()
    assert {row["fileName"] for row in emulator.list_names(one)} == {"x/inside"}


def test_several_buckets_with_one_prefix_show_the_way_down_in_each(
    emulator: Emulator, three: list[str], tmp_path: Path
) -> None:
    one, two, _ = three
    with scoped(emulator, tmp_path, [one, two], prefix="x/") as mount:
        assert tree(mount.path) == {
            *(one, f"{one}/x", f"{one}/x/inside"),
            *(two, f"{two}/x", f"{two}/x/inside"),
        }


def test_a_bucket_that_was_deleted_leaves_the_others_working(
    emulator: Emulator, three: list[str], tmp_path: Path
) -> None:
    one = three[0]
    gone = "gone-" + one
    emulator.create_bucket(gone)
    key = emulator.create_key(ALL, [one, gone])
    emulator.wipe(gone)
    with Mount(emulator, tmp_path, key) as mount:
        assert os.listdir(mount.path) == [one]
        assert (mount.path / one / "file").read_text() == one


def test_a_key_for_all_buckets_shows_them_all_or_the_one_that_source_names(
    emulator: Emulator, three: list[str], tmp_path: Path
) -> None:
    with scoped(emulator, tmp_path / "all", None) as mount:
        assert set(three) <= set(os.listdir(mount.path))
        assert (mount.path / three[2] / "file").read_text() == three[2]
    with scoped(emulator, tmp_path / "one", None, source=three[1]) as mount:
        assert sorted(os.listdir(mount.path)) == ["file", "x"]


def test_a_key_without_listbuckets_never_asks_for_them(
    emulator: Emulator, tenants: str, tmp_path: Path
) -> None:
    capabilities = [one for one in ALL if one != "listBuckets"]
    since = emulator.last_seq()
    with scoped(emulator, tmp_path, [tenants], prefix="a/", capabilities=capabilities) as mount:
        assert sorted(os.listdir(mount.path)) == ["b", "bc", "c", "other"]
        assert "b2_list_buckets" not in calls_of(emulator, mount.key, since)


def test_a_key_for_all_buckets_that_may_not_list_them_is_told_to_name_one(
    emulator: Emulator, tmp_path: Path
) -> None:
    capabilities = [one for one in ALL if one != "listBuckets"]
    with (
        pytest.raises(MountFailed, match="lacks listBuckets"),
        scoped(emulator, tmp_path, None, capabilities=capabilities),
    ):
        pass


def test_one_that_only_reads_needs_no_more_than_the_name_of_a_bucket(
    emulator: Emulator, tenants: str, tmp_path: Path
) -> None:
    source = f"{tenants}/a"
    with scoped(emulator, tmp_path, None, capabilities=["readFiles"], source=source) as mount:
        assert (mount.path / "bc").read_bytes() == b"a/bc"
        assert (mount.path / "b/deep/er/file").read_bytes() == b"a/b/deep/er/file"
        with refused(errno.EACCES):
            os.listdir(mount.path)


@pytest.mark.parametrize(
    "capabilities",
    [
        ("listFiles", "readFiles", "writeFiles"),
        ("readFiles", "writeFiles"),
        ("listFiles", "readFiles", "listAllBucketNames"),
        ("writeFiles",),
    ],
)
def test_one_that_lists_or_writes_is_told_the_buckets_id(
    emulator: Emulator, tenants: str, tmp_path: Path, capabilities: Sequence[str]
) -> None:
    own = ["--bucket-id", emulator.bucket_id(tenants)]
    with scoped(emulator, tmp_path, None, capabilities=capabilities, source=tenants, options=own) as mount:
        if "readFiles" in capabilities:
            assert (mount.path / "z").read_bytes() == b"z"
        if "listFiles" in capabilities:
            assert sorted(os.listdir(mount.path)) == ["a", "b", "z"]
        if "writeFiles" in capabilities:
            (mount.path / "new").write_bytes(b"new")
            mount.flush()
            assert emulator.download(tenants, "new") == b"new"


def test_a_buckets_id_that_is_not_right_is_refused(
    emulator: Emulator, three: list[str], tmp_path: Path
) -> None:
    one, other = three[:2]
    no_bucket, not_one = "4a48fe8875c6214145260818", emulator.bucket_id(other)
    cases = [
        (ALL, [one], not_one, "has the ID"),
        (ALL, None, not_one, "has the ID"),
        (["writeFiles"], None, no_bucket, "has no bucket of the ID"),
        (["listFiles"], None, no_bucket, "has no bucket of the ID"),
    ]
    for number, (capabilities, buckets, bucket_id, words) in enumerate(cases):
        key = emulator.create_key(capabilities, buckets)
        options = ["--bucket-id", bucket_id]
        mount = Mount(emulator, tmp_path / str(number), key, source=one, options=options)
        assert words in mount.start_refused()
    key = emulator.create_key(["readFiles", "writeFiles"])
    with Mount(emulator, tmp_path / "two", key, source=one, options=["--bucket-id", not_one]) as mount:
        with refused(errno.EACCES):
            os.stat(mount.path / "file")
        assert "has another ID" in mount.log()
