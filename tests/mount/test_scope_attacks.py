"""What a tenant's mount tells and touches of names outside its key's prefix, whoever made them: nothing.

Every way in that a mount has is tried with every name that might lead out: names, links, renames, versions,
moments, restore, refresh; then everything that it shows, says and sends is searched for the others' names.
"""

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.emulator import Emulator
from tests.support.mount import ALL, Mount
from tests.support.semantics import ask, fresh_bucket, refusals_of, requests_of

pytestmark = pytest.mark.fuse

OTHERS = "0thers"  # in every name outside the prefix
SECRET = "what they wrote"  # and its content
ROOT_WORDS = ("", "..", "%b2-dotdot", ".", "%b2-empty", "t", ".b2versions", ".b2versions/@now")
PREFIXES = [
    "t/ab",  # within a name
    "t/\u00fc\u0301 %2F%b2-file",  # unicode, percent signs, what looks like an escape
    "t/../a/",  # made through S3, as the rest
    pytest.param("t//x/", marks=pytest.mark.slow),
    pytest.param("/t/", marks=pytest.mark.slow),
    pytest.param("t/tail \t", marks=pytest.mark.slow),
]


def outside_names(prefix: str) -> list[str]:
    """Names around the prefix, none under it."""
    parent = prefix[: prefix.rstrip("/").rfind("/") + 1]
    names = {f"{OTHERS}", f"t/{OTHERS}", f"t/{OTHERS}/deep", f"{parent}{OTHERS}", f"{prefix[:-1]}{OTHERS}"}
    names |= {f"{prefix.rstrip('/')}{OTHERS}", f"{prefix.upper()}{OTHERS}", f"a/{OTHERS}", f"../{OTHERS}"}
    return sorted(name for name in names if not name.startswith(prefix))


@pytest.fixture(params=PREFIXES)
def prefix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def shared(emulator: Emulator, prefix: str) -> Iterator[str]:
    """A bucket with the tenant's names, and the others' in every corner."""
    with fresh_bucket(emulator) as bucket:
        inside = [prefix + name for name in ("in", "d/file", "d/e/file", "x/../y", "gone")]
        rows: list[dict[str, Any]] = [{"name": name, "content": name} for name in inside]
        rows += [{"name": prefix + "gone", "action": "hide"}]
        rows += [
            {"name": name, "content": SECRET, "info": {"about": SECRET}} for name in outside_names(prefix)
        ]
        emulator.seed(bucket, rows)
        yield bucket


def walk(path: Path, depth: int = 0) -> Iterator[str]:
    """Yield all that can be seen under a directory: names, attributes, content, link targets."""
    for name in sorted(os.listdir(path)):
        yield name
        child = path / name
        status = os.lstat(child)
        for attribute in (*os.listxattr(child, follow_symlinks=False), "user.b2.file_id", "user.b2.sha1"):
            with contextlib.suppress(OSError):
                yield os.getxattr(child, attribute, follow_symlinks=False).decode(errors="replace")
        if stat.S_ISDIR(status.st_mode) and depth < 8:
            yield from walk(child, depth + 1)
        elif stat.S_ISREG(status.st_mode):
            yield child.read_text(errors="replace")


def attempts() -> Iterator[tuple[str, ...]]:
    """Yield paths that might lead out."""
    for start in ROOT_WORDS:
        for end in (OTHERS, f"t/{OTHERS}", f"%b2-dotdot/{OTHERS}", f"%b2-empty/{OTHERS}", f"a/{OTHERS}"):
            yield (start, end)


def some_file(root: Path) -> str:
    return next(os.path.join(place, name) for place, _, names in os.walk(root) for name in names)


def try_all(mount: Mount) -> None:
    root = mount.path
    for words in attempts():
        path = os.path.join(root, *words)  # as a program would, dots and all
        if os.path.normpath(path) != path and not os.path.realpath(path).startswith(f"{root}/"):
            continue  # the kernel's own way out of the mount
        for act in (
            lambda path=path: os.stat(path),
            lambda path=path: os.close(os.open(path, os.O_RDWR)),
            lambda path=path: os.unlink(path),
            lambda path=path: os.rename(path, root / "stolen"),
            lambda path=path: os.rename(some_file(root), path),
        ):
            with contextlib.suppress(OSError):
                act()
    own = os.path.relpath(some_file(root), root)
    for words in attempts():
        path = "/".join(words)
        for request in (
            {"op": "restore", "path": path},
            {"op": "restore", "path": own, "to": path},
            {"op": "restore", "path": path, "at": 0, "delete": True},
            {"op": "refresh", "path": path},
        ):
            with contextlib.suppress(AssertionError):
                ask(mount, **request)


def test_nothing_of_others_is_shown_told_asked_for_or_changed(
    emulator: Emulator, shared: str, prefix: str, tmp_path: Path
) -> None:
    before = {name: emulator.list_versions(shared, name) for name in outside_names(prefix)}
    key = emulator.create_key(ALL, [shared], prefix)
    since = emulator.last_seq()
    with Mount(emulator, tmp_path, key, options=("--versions", "--settle", "0"), log_level="debug") as mount:
        seen = list(walk(mount.path))
        seen += [*walk(mount.path / ".b2versions"), *walk(mount.path / ".b2versions/@now")]
        seen += [json.dumps(mount.status()), mount.log()]
        assert prefix + "d/file" in seen  # its content
        assert OTHERS not in "\n".join(seen)
        try_all(mount)
        mount.ask("flush")
        seen = [*walk(mount.path), *walk(mount.path / ".b2versions"), mount.ask("status").stdout, mount.log()]
        assert SECRET not in "\n".join(seen)
    for entry in requests_of(emulator, key, since):
        asked = entry["name"] or entry["prefix"]
        assert not asked or asked.startswith(prefix), entry
    assert refusals_of(emulator, key, since) == []
    after = {name: emulator.list_versions(shared, name) for name in outside_names(prefix)}
    assert after == before
