"""Editors, and the file formats of Python's standard library: save by rename, mmap, seek and patch."""

import mmap
import os
import random
import shelve
import stat
import tempfile
import zipfile

import pytest

from tests.support.mount import Mount
from tests.support.programs import run, shell, slow

pytestmark = [pytest.mark.fuse, pytest.mark.tools]


@pytest.mark.parametrize("backup_copy", ["yes", "no", slow("auto")])
def test_vim_saves_a_file_in_place(tenant: Mount, bucket: str, backup_copy: str) -> None:
    file = tenant.path / "notes.txt"
    file.write_text("one\ntwo\nthree\n")
    file.chmod(0o640)
    tenant.flush()
    words = ["vim", "-u", "NONE", "-N", "-Es", "-c", f"set backup backupskip= backupcopy={backup_copy}"]
    run(*words, "-c", "%s/two/zwei/", "-c", "wq", "notes.txt", cwd=tenant.path)
    assert file.read_text() == "one\nzwei\nthree\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    tenant.remount(empty_cache=True)
    assert file.read_text() == "one\nzwei\nthree\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert sorted(os.listdir(tenant.path)) == ["notes.txt", "notes.txt~"]
    assert (tenant.path / "notes.txt~").read_text() == "one\ntwo\nthree\n"
    assert tenant.emulator.download(bucket, "tenant-a/notes.txt") == b"one\nzwei\nthree\n"


def test_vim_keeps_a_swap_file_while_it_edits_and_recovers_from_it(tenant: Mount) -> None:
    (tenant.path / "notes.txt").write_text("one\n")
    words = ["vim", "-u", "NONE", "-N", "-Es", "-c", "set swapfile", "-c", "normal Gosecond"]
    run(*words, "-c", "preserve", "-c", "!kill -9 $PPID", "notes.txt", cwd=tenant.path, ok=(-9, 137, 1))
    assert (tenant.path / ".notes.txt.swp").exists()
    tenant.remount(empty_cache=True)
    run("vim", "-u", "NONE", "-N", "-Es", "-r", "notes.txt", "-c", "wq!", cwd=tenant.path, ok=(0, 1))
    assert (tenant.path / "notes.txt").read_text() == "one\nsecond\n"


def test_sed_and_perl_edit_in_place(tenant: Mount, bucket: str) -> None:
    script = """
        for i in $(seq 20); do echo "value $i old" > f$i; done
        chmod 600 f1
        sed -i s/old/new/ f*
        sed -i.bak s/value/VALUE/ f2
    """
    shell(script, cwd=tenant.path)
    tenant.remount(empty_cache=True)
    assert (tenant.path / "f1").read_text() == "value 1 new\n"
    assert stat.S_IMODE((tenant.path / "f1").stat().st_mode) == 0o600
    assert (tenant.path / "f2").read_text() == "VALUE 2 new\n"
    assert (tenant.path / "f2.bak").read_text() == "value 2 new\n"
    assert len(os.listdir(tenant.path)) == 21
    assert tenant.emulator.download(bucket, "tenant-a/f20") == b"value 20 new\n"


def test_a_shared_mapping_is_read_and_written(tenant: Mount, bucket: str) -> None:
    path, model = tenant.path / "mapped", bytearray(random.Random(3).randbytes(1_000_003))
    path.write_bytes(model)
    tenant.remount(empty_cache=True)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        assert bytes(mapped) == model
        for offset in (0, 4095, 500_000, 1_000_000):
            mapped[offset : offset + 3] = model[offset : offset + 3] = b"new"
        mapped.flush()
        file.seek(4094)
        assert file.read(6) == model[4094:4100]
        mapped[700_000:700_004] = model[700_000:700_004] = b"last"  # left to the kernel to write back
    assert path.read_bytes() == model
    tenant.flush()
    assert tenant.emulator.download(bucket, "tenant-a/mapped") == model


def test_a_mapping_written_after_close_of_its_file_is_kept(tenant: Mount, bucket: str) -> None:
    path = tenant.path / "mapped"
    path.write_bytes(bytes(100_000))
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    mapped[50_000:50_005] = b"after"
    mapped.close()
    tenant.remount(empty_cache=True)
    assert path.read_bytes() == bytes(50_000) + b"after" + bytes(49_995)
    assert len(tenant.emulator.download(bucket, "tenant-a/mapped")) == 100_000


def test_shelve_zipfile_and_tempfile_work(tenant: Mount) -> None:
    base = tenant.path
    with shelve.open(str(base / "shelf")) as shelf:
        shelf["a"] = list(range(1000))
    with shelve.open(str(base / "shelf")) as shelf:
        shelf["b"] = {"x": shelf["a"][10]}
    with zipfile.ZipFile(base / "archive.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("one.txt", "1" * 100_000)
    with zipfile.ZipFile(base / "archive.zip", "a") as archive:
        archive.writestr("two.txt", "2")
    with tempfile.TemporaryFile(dir=base) as file:
        file.write(b"nameless")
        file.seek(0)
        assert file.read() == b"nameless"
        os.fsync(file.fileno())
    with tempfile.NamedTemporaryFile(dir=base, delete=False) as kept:
        kept.write(b"named")
    os.rename(kept.name, base / "renamed")
    with tempfile.TemporaryDirectory(dir=base) as directory:
        for index in range(5):
            (base / directory / str(index)).write_text("x")
    tenant.remount(empty_cache=True)
    with shelve.open(str(base / "shelf")) as shelf:
        assert (shelf["a"], shelf["b"]) == (list(range(1000)), {"x": 10})
    with zipfile.ZipFile(base / "archive.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["one.txt", "two.txt"]
    assert (base / "renamed").read_bytes() == b"named"
    assert {name.split(".")[0] for name in os.listdir(base)} == {"shelf", "archive", "renamed"}
