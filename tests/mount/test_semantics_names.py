"""docs/semantics.md, "Names": what can be made, and how names that others made are shown."""

import errno
import os
import subprocess
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.semantics import Here, own_directory, refused, shared_mount

pytestmark = pytest.mark.fuse


@pytest.fixture(scope="module")
def shared(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    with shared_mount(emulator, tmp_path_factory.mktemp("names")) as here:
        yield here


@pytest.fixture
def here(shared: Here, request: pytest.FixtureRequest) -> Here:
    return own_directory(shared, request)


def touch(path: Path | bytes) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL))


# --- what can be made -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        " spaces  in it ",
        "100%",
        "a+b&c=d?e#f",
        "-rf",
        "~",
        "日本語",
        "🐈‍⬛",
        "quote'\"`$",
        "a:b*c|d<e>f",
    ],
)
def test_names_are_stored_as_they_are(here: Here, name: str) -> None:
    (here.path / name).write_bytes(name.encode())
    assert here.stored(name) == name.encode()
    here.refresh()
    assert os.listdir(here.path) == [name]
    assert (here.path / name).read_bytes() == name.encode()


def test_names_of_up_to_250_bytes_can_be_made_and_longer_ones_not(here: Here) -> None:
    longest = ["x" * 250, "ü" * 125]
    for name in longest:
        touch(here.path / name)
    for name in ("y" * 251, "y" * 255, "y" * 256, "ü" * 126):
        with refused(errno.ENAMETOOLONG):
            touch(here.path / name)
        with refused(errno.ENAMETOOLONG):
            os.mkdir(here.path / name)
        with refused(errno.ENAMETOOLONG):
            os.rename(here.path / longest[0], here.path / name)
        for call in (os.stat, os.unlink, os.rmdir, os.readlink, os.listdir, Path.read_bytes):
            with refused(errno.ENAMETOOLONG):
                call(here.path / name)
    assert sorted(os.listdir(here.path)) == sorted(longest)
    assert os.statvfs(here.path).f_namemax == 250
    assert here.names() == {".bzEmpty", *longest}


def test_paths_longer_than_1024_bytes_are_refused_with_enametoolong(here: Here) -> None:
    directory = here.path
    while len(os.fsencode(directory.relative_to(here.mount.path))) + 201 < 900:
        directory = directory / ("d" * 200)
        directory.mkdir()
    used = len(os.fsencode(directory.relative_to(here.mount.path)))
    touch(directory / ("f" * (1023 - used)))
    with refused(errno.ENAMETOOLONG):
        touch(directory / ("f" * (1024 - used)))
    with refused(errno.ENAMETOOLONG):
        os.mkdir(directory / ("d" * (1023 - used)))  # its placeholder would not fit
    with refused(errno.ENAMETOOLONG):
        os.symlink("x", directory / ("l" * (1024 - used)))
    assert len(os.listdir(directory)) == 1
    here.flush()


def test_names_that_are_not_utf_8_are_refused_with_eilseq(here: Here) -> None:
    raw = os.fsencode(here.path) + b"/latin-\xe9"
    with refused(errno.EILSEQ):
        touch(raw)
    with refused(errno.EILSEQ):
        os.mkdir(raw)
    with refused(errno.EILSEQ):
        os.symlink(b"x", raw)
    touch(here.path / "plain")
    with refused(errno.EILSEQ):
        os.rename(os.fsencode(here.path / "plain"), raw)


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "\x01", "a\x7fb", "back\\slash"])
def test_names_with_control_characters_or_backslashes_are_refused_with_einval(here: Here, name: str) -> None:
    with refused(errno.EINVAL):
        touch(here.path / name)
    with refused(errno.EINVAL):
        os.mkdir(here.path / name)
    touch(here.path / "plain")
    with refused(errno.EINVAL):
        os.rename(here.path / "plain", here.path / name)
    assert os.listdir(here.path) == ["plain"]


def test_the_placeholders_name_cannot_be_made_and_does_not_show(here: Here) -> None:
    with refused(errno.EINVAL):
        touch(here.path / ".bzEmpty")
    with refused(errno.EINVAL):
        os.mkdir(here.path / ".bzEmpty")
    assert ".bzEmpty" in here.names()
    assert os.listdir(here.path) == []
    with refused(errno.ENOENT):
        os.stat(here.path / ".bzEmpty")


# --- what others made -------------------------------------------------------------------------------------

AWKWARD = {  # B2 name below the test's directory -> path as the mount shows it
    "double//slash": "double/%b2-empty/slash",
    "/leading": "%b2-empty/leading",
    "trailing/": "trailing/%b2-empty",  # with content; without, it is a placeholder
    "./dot": "%b2-dot/dot",
    "../climb": "%b2-dotdot/climb",
    "up/../../../../etc/passwd": "up/%b2-dotdot/%b2-dotdot/%b2-dotdot/%b2-dotdot/etc/passwd",
    "ends/..": "ends/%b2-dotdot",
    "ends/.": "ends/%b2-dot",
    "c" * 256: "c" * 256,
    "d" * 900: "d" * 900,
    "bell\x07": "bell\x07",
    "new\nline": "new\nline",
    "back\\slash": "back\\slash",
    "100%25": "100%25",
    "%b2-dot": "%b2-pctb2-dot",
    "x%b2-file": "x%b2-pctb2-file",
    "twin": "twin%b2-file",
    "twin/inside": "twin/inside",
    "twins/a": "twins/a%b2-file",
    "twins/a/b": "twins/a/b%b2-file",
    "twins/a/b/c": "twins/a/b/c",
    unicodedata.normalize("NFC", "é"): unicodedata.normalize("NFC", "é"),
    unicodedata.normalize("NFD", "é"): unicodedata.normalize("NFD", "é"),
    "Case": "Case",
    "case": "case",
    "🙂/🙃": "🙂/🙃",
    "kept/.bzEmpty": "kept/.bzEmpty",  # with content, so that it is no placeholder
}


@pytest.fixture
def awkward(here: Here) -> Here:
    """A directory full of names that other programs, S3 tools above all, can make."""
    here.seed(
        *({"name": name, "content": f"content of {name!r}"} for name in AWKWARD),
        {"name": "web/.bzEmpty", "size": 0},
        {"name": "s3/", "size": 0},
        {"name": "both/", "size": 0},
        {"name": "both/.bzEmpty", "size": 0},
    )
    return here


def files_under(path: Path) -> set[str]:
    """Return the relative paths of all regular files, as find sees them."""
    command: list[str | Path] = ["find", path, "-type", "f", "-printf", "%P\\0"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return {os.fsdecode(name) for name in done.stdout.split(b"\0") if name}


def test_every_name_in_b2_is_shown_once_and_can_be_read(awkward: Here) -> None:
    assert files_under(awkward.path) == set(AWKWARD.values())
    for name, shown in AWKWARD.items():
        assert (awkward.path / shown).read_text() == f"content of {name!r}", shown


def test_no_name_climbs_out_of_the_mount(awkward: Here) -> None:
    inside = awkward.path.resolve()
    for root, directories, files in os.walk(awkward.path):
        assert not {".", ".."} & {*directories, *files}
        for name in (*directories, *files):
            assert "/" not in name
            assert Path(root, name).resolve().is_relative_to(inside)


def test_placeholders_of_both_kinds_make_empty_directories(awkward: Here) -> None:
    for name in ("web", "s3", "both"):
        assert (awkward.path / name).is_dir()
        assert os.listdir(awkward.path / name) == []
        os.rmdir(awkward.path / name)
    left = awkward.names()
    assert not left & {"web/.bzEmpty", "s3/", "both/", "both/.bzEmpty"}
    assert not {"web", "s3", "both"} & set(os.listdir(awkward.path))


def test_ls_find_du_and_cp_work_on_awkward_names(awkward: Here, tmp_path: Path) -> None:
    subprocess.run(["ls", "-lR", awkward.path], check=True, capture_output=True)
    subprocess.run(["du", "-a", awkward.path], check=True, capture_output=True)
    long = [shown for shown in AWKWARD.values() if max(map(len, shown.split("/"))) > 255]
    for shown in long:
        os.unlink(awkward.path / shown)  # a local file system has no room for them
    subprocess.run(["cp", "-r", awkward.path, tmp_path / "copy"], check=True)
    assert files_under(tmp_path / "copy") == set(AWKWARD.values()) - set(long)


def test_awkward_names_can_be_removed(awkward: Here) -> None:
    for name, shown in AWKWARD.items():
        os.unlink(awkward.path / shown)
        too_long = max(len(part.encode()) for part in name.split("/")) > 250  # nobody can make it again
        with refused(errno.ENAMETOOLONG if too_long else errno.ENOENT):
            os.stat(awkward.path / shown)
    assert files_under(awkward.path) == set()
    left = awkward.names() - {"kept/.bzEmpty"}  # a placeholder by now
    assert not left & set(AWKWARD), left & set(AWKWARD)


def test_a_file_whose_b2_name_ends_in_a_slash_can_be_read_and_removed_but_not_changed(here: Here) -> None:
    here.seed({"name": "dir/", "content": "content"}, {"name": "dir/file", "content": "file"})
    odd = here.path / "dir/%b2-empty"
    assert odd.read_text() == "content"
    with refused(errno.EPERM):
        odd.write_bytes(b"new")
    with refused(errno.EPERM):
        odd.chmod(0o600)
    with refused(errno.EPERM):
        os.rename(odd, here.path / "dir/other")
    os.unlink(odd)
    assert os.listdir(here.path) == ["dir"]
    assert os.listdir(here.path / "dir") == ["file"]
    assert here.names() == {".bzEmpty", "dir/file"}


@pytest.mark.parametrize("name", ["bell\x07", "back\\slash", "c" * 256, "double//slash", "new\n/inside"])
def test_a_file_of_a_name_that_b2_takes_no_more_can_be_read_moved_and_removed_but_not_changed(
    here: Here, name: str
) -> None:
    here.seed({"name": name, "content": "content"})
    odd = here.path / AWKWARD.get(name, name)
    for open_for_writing in (lambda: odd.open("ab"), lambda: odd.open("wb"), lambda: odd.open("r+b")):
        with refused(errno.EPERM):
            open_for_writing()
    with refused(errno.EPERM):
        os.truncate(odd, 3)
    with refused(errno.EPERM):
        odd.chmod(0o600)
    with refused(errno.EPERM):
        os.utime(odd, (1, 1))
    with refused(errno.EPERM):
        os.setxattr(odd, "user.mark", b"1")
    os.rename(odd, here.path / "plain")
    with (here.path / "plain").open("ab") as file:
        file.write(b" and more")
    assert here.stored("plain") == b"content and more"  # so what waits can be sent
    assert name not in here.names()


def test_a_directory_of_the_placeholders_name_can_be_emptied_and_removed(here: Here) -> None:
    here.seed({"name": "dir/.bzEmpty/file", "content": "content"}, {"name": "dir/.bzEmpty", "size": 0})
    odd = here.path / "dir/.bzEmpty"
    assert (odd / "file").read_text() == "content"
    os.unlink(odd / "file")
    assert os.listdir(here.path / "dir") == [".bzEmpty"]
    os.rmdir(odd)
    assert os.listdir(here.path / "dir") == []
    os.rmdir(here.path / "dir")
    here.flush()
    assert not [left for left in here.names() if left.startswith("dir/")]


def test_a_placeholders_name_with_content_is_a_file(here: Here) -> None:
    here.seed({"name": "dir/.bzEmpty", "content": "content"})
    odd = here.path / "dir/.bzEmpty"
    assert os.listdir(here.path / "dir") == [".bzEmpty"]
    with refused(errno.EPERM):
        os.chmod(here.path / "dir", 0o700)  # that would have to go into the placeholder
    with refused(errno.ENOTEMPTY):
        os.rmdir(here.path / "dir")
    with odd.open("ab") as file:
        file.write(b" and more")
    assert here.stored("dir/.bzEmpty") == b"content and more"
    assert os.stat(here.path / "dir").st_mode & 0o170000 == 0o040000
    os.unlink(odd)
    os.chmod(here.path / "dir", 0o700)
    here.flush()
    assert os.listdir(here.path / "dir") == []
    assert here.row("dir/.bzEmpty")["contentLength"] == 0


def test_rm_removes_a_tree_of_awkward_names(awkward: Here) -> None:
    for name in os.listdir(awkward.path):
        subprocess.run(["rm", "-r", awkward.path / name], check=True)
    assert os.listdir(awkward.path) == []
    assert awkward.names() == {".bzEmpty"}


def test_a_file_beside_a_directory_can_be_read_written_replaced_and_renamed(here: Here) -> None:
    here.seed({"name": "a", "content": "file"}, {"name": "a/b", "content": "inside"})
    assert sorted(os.listdir(here.path)) == ["a", "a%b2-file"]
    twin = here.path / "a%b2-file"
    with twin.open("ab") as file:
        file.write(b" and more")
    assert here.stored("a") == b"file and more"
    (here.path / "new").write_bytes(b"replaced")
    os.rename(here.path / "new", twin)
    assert twin.read_bytes() == b"replaced"
    assert here.stored("a") == b"replaced"
    os.rename(twin, here.path / "single")
    assert sorted(os.listdir(here.path)) == ["a", "single"]
    assert here.names() == {".bzEmpty", "a/b", "single"}


def test_a_file_can_be_made_beside_a_directory_under_its_escape(here: Here) -> None:
    (here.path / "a").mkdir()
    (here.path / "a/b").write_bytes(b"inside")
    (here.path / "a%b2-file").write_bytes(b"beside")
    assert sorted(os.listdir(here.path)) == ["a", "a%b2-file"]
    assert here.stored("a") == b"beside"
    assert (here.path / "a/b").read_bytes() == b"inside"


@pytest.mark.parametrize("name", ["alone%b2-file", "%b2-other", "x%b2-", "%b2-pct"])
def test_names_that_look_like_escapes_and_are_none_are_refused_with_einval(here: Here, name: str) -> None:
    with refused(errno.EINVAL):
        touch(here.path / name)
    with refused(errno.EINVAL):
        os.mkdir(here.path / name)
    with refused(errno.ENOENT):
        os.stat(here.path / name)


def test_escaped_names_can_be_written_where_b2_takes_the_name(here: Here) -> None:
    (here.path / "%b2-pctb2-dot").write_bytes(b"x")
    assert here.names() == {".bzEmpty", "%b2-dot"}
    (here.path / "%b2-dot").write_bytes(b"y")
    assert here.stored(".") == b"y"
    with refused(errno.EINVAL):
        touch(here.path / "%b2-empty")
