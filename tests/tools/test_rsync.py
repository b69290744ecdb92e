"""rsync onto a mount: exact copies, and a second run that transfers nothing and costs no call a file."""

import os
import random
import subprocess
from pathlib import Path

import pytest

from tests.support.mount import Mount
from tests.support.programs import need, run, slow
from tests.tools.trees import describe, make_tree

pytestmark = [pytest.mark.fuse, pytest.mark.tools]

SHA1_OF_HELLO = "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"


def calls(mount: Mount) -> int:
    """Count the calls that the server was asked since the counters were reset."""
    return sum(int(number) for number in mount.emulator.counters()["calls"].values())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Make a tree of 200 files in 21 directories on the local disk, with extended attributes.

    All is older than a second: rsync takes two times within one second for the same.
    """
    root = tmp_path / "source"
    for index in range(20):
        (root / f"d{index}").mkdir(parents=True)
        for number in range(10):
            (root / f"d{index}/f{number}").write_bytes(random.Random(number).randbytes(500 * number))
    make_tree(root / "odd")
    os.setxattr(root / "d0/f0", "user.colour", b"green")
    os.setxattr(root / "d1", "user.colour", b"blue \x00\xff")
    for number, path in enumerate((*root.rglob("*"), root)):
        os.utime(path, ns=(10**18, 10**18 + 1001 * number), follow_symlinks=False)
    return root


def test_a_second_run_transfers_nothing_and_costs_no_call_a_file(tenant: Mount, source: Path) -> None:
    copy = tenant.path / "copy"
    run("rsync", "-aX", f"{source}/", copy)
    assert describe(copy) == describe(source)
    tenant.flush()
    files = sum(1 for path in source.rglob("*") if path.is_file())
    for empty_cache in (False, True):
        if empty_cache:
            tenant.remount(empty_cache=True)
        tenant.emulator.reset_counters()
        assert run("rsync", "-aX", "--itemize-changes", f"{source}/", copy) == ""
        tenant.flush()
        made = calls(tenant)
        assert made < files / 4, tenant.emulator.counters()["calls"]
    assert os.getxattr(copy / "d0/f0", "user.colour") == b"green"
    assert os.getxattr(copy / "d1", "user.colour") == b"blue \x00\xff"
    assert describe(copy) == describe(source)


def test_checksums_deletion_and_copying_back_agree(tenant: Mount, source: Path, tmp_path: Path) -> None:
    copy, back = tenant.path / "copy", tmp_path / "back"
    run("rsync", "-a", f"{source}/", copy)
    (source / "d3/f3").write_bytes(b"changed")
    (source / "d4/f4").unlink()
    (source / "d5/new").write_bytes(b"new")
    subprocess.run(["rm", "-r", source / "d6"], check=True)
    os.rename(source / "d7", source / "renamed")
    run("rsync", "-a", "--delete", f"{source}/", copy)
    tenant.remount(empty_cache=True)
    assert describe(copy) == describe(source)
    assert run("rsync", "-ac", "--itemize-changes", f"{source}/", copy) == ""
    run("rsync", "-a", f"{copy}/", back)
    assert describe(back) == describe(source)


@pytest.mark.parametrize(
    "way", ["--inplace --no-whole-file", "--append-verify", slow("--append"), slow("--delay-updates")]
)
def test_a_growing_file_is_brought_up_to_date(tenant: Mount, tmp_path: Path, way: str) -> None:
    source, target = tmp_path / "grows", tenant.path / "grows"
    chance = random.Random(1)
    data = chance.randbytes(3_000_000)
    source.write_bytes(data)
    run("rsync", "-a", *way.split(), source, target)
    run("cmp", source, target)
    tenant.remount(empty_cache=True)
    data += chance.randbytes(700_000)
    if "inplace" in way:
        data = data[:1_000_000] + b"patched" + data[1_000_007:]
    source.write_bytes(data)
    run("rsync", "-a", *way.split(), source, target)
    run("cmp", source, target)
    tenant.remount(empty_cache=True)
    run("cmp", source, target)
    assert target.stat().st_mtime_ns == source.stat().st_mtime_ns


def test_an_interrupted_run_goes_on_where_it_was(tenant: Mount, tmp_path: Path) -> None:
    source, target = tmp_path / "big", tenant.path / "big"
    source.write_bytes(random.Random(2).randbytes(20_000_000))
    process = subprocess.Popen(
        [need("rsync"), "-a", "--partial", "--bwlimit=10m", source, target], stderr=subprocess.DEVNULL
    )
    while not any(path.stat().st_size > 1_000_000 for path in tenant.path.iterdir()):
        assert process.poll() is None
    process.terminate()
    process.wait()
    run("rsync", "-a", "--partial", source, target)
    tenant.remount(empty_cache=True)
    run("cmp", source, target)
    assert os.listdir(tenant.path) == ["big"]


def test_what_b2_tells_in_attributes_is_shown_on_request_and_not_copied(
    tenant: Mount, tmp_path: Path
) -> None:
    file = tenant.path / "file"
    file.write_bytes(b"hello")
    os.setxattr(file, "user.note", b"mine")
    tenant.remount(empty_cache=True)
    assert run("getfattr", "--only-values", "-n", "user.b2.sha1", "--absolute-names", file) == SHA1_OF_HELLO
    listed = run("getfattr", "-d", "--absolute-names", file).splitlines()
    assert [line for line in listed if line.startswith("user.")] == ['user.note="mine"']
    run("cp", "-a", file, tenant.path / "twin")
    run("cp", "-a", file, tmp_path / "local")
    for copy in (tenant.path / "twin", tmp_path / "local"):
        assert os.listxattr(copy) == ["user.note"]
        assert os.getxattr(copy, "user.note") == b"mine"
