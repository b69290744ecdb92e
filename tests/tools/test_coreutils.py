"""The everyday tools: cp, mv, rm, find, tar, dd, tail, the shell's redirections."""

import hashlib
import os
import random
import subprocess
from pathlib import Path

import pytest

from tests.support.mount import Mount
from tests.support.programs import run, shell
from tests.tools.trees import describe, make_tree

pytestmark = [pytest.mark.fuse, pytest.mark.tools]


@pytest.mark.parametrize(
    "command", ["cp -a $SRC $DST", "tar -C $SRC --format=posix -cf - . | (mkdir $DST; tar -C $DST -xpf -)"]
)
def test_a_tree_survives_a_round_trip_exactly(tenant: Mount, tmp_path: Path, command: str) -> None:
    source, target, back = tmp_path / "source", tenant.path / "target", tmp_path / "back"
    make_tree(source)
    shell(command, env={"SRC": str(source), "DST": str(target)})
    assert describe(target) == describe(source)
    assert "posix_acl" not in tenant.log()  # one line a file would bury what matters
    tenant.remount(empty_cache=True)
    assert describe(target) == describe(source)
    shell(command, env={"SRC": str(target), "DST": str(back)})
    assert describe(back) == describe(source)


def test_mkdir_mv_ls_find_and_rm_do_as_on_a_disk(tenant: Mount, bucket: str) -> None:
    base = tenant.path
    shell(
        """
        mkdir -p a/b/c d
        for i in $(seq 50); do echo $i > a/b/file$i; done
        mv a/b/file1 d/moved
        mv a/b d/
        cp d/b/file2 d/b/copy
        mv -f d/b/copy d/b/file3
        rmdir a
        """,
        cwd=base,
    )
    assert shell("cat d/moved d/b/file2 d/b/file3", cwd=base) == "1\n2\n2\n"
    assert len(shell("find . -type f", cwd=base).splitlines()) == 50
    assert len(shell("ls -l d/b | grep -c ^-", cwd=base).split()) == 1
    tenant.remount(empty_cache=True)
    assert len(shell("find . -type f", cwd=base).splitlines()) == 50
    assert shell("find . -type d | sort", cwd=base).split() == [".", "./d", "./d/b", "./d/b/c"]
    shell("rm -r d", cwd=base)
    tenant.flush()
    assert os.listdir(base) == []
    assert tenant.emulator.list_names(bucket, "tenant-a/") == []


def test_find_delete_empties_a_tree(tenant: Mount, bucket: str) -> None:
    shell(
        "mkdir -p t/{1..8}/{a,b}; for d in t/*/*; do for i in 1 2 3; do echo x > $d/$i; done; done",
        cwd=tenant.path,
    )
    tenant.remount(empty_cache=True)
    shell("find t -type f -name 2 -delete", cwd=tenant.path)
    assert len(shell("find t -type f", cwd=tenant.path).splitlines()) == 32
    shell("find t -delete", cwd=tenant.path)
    tenant.flush()
    assert tenant.emulator.list_names(bucket, "tenant-a/") == []


def test_sha256sum_of_300_mib_is_what_the_server_holds(tenant: Mount, bucket: str, tmp_path: Path) -> None:
    source = tmp_path / "large"
    run("dd", "if=/dev/urandom", f"of={source}", "bs=1M", "count=300", "status=none")
    run("cp", source, tenant.path / "large")
    expected = run("sha256sum", source).split()[0]
    assert run("sha256sum", tenant.path / "large").split()[0] == expected
    tenant.remount(empty_cache=True)
    assert run("sha256sum", tenant.path / "large").split()[0] == expected
    row = tenant.emulator.list_names(bucket, "tenant-a/large")[0]
    held = hashlib.sha256()
    for start in range(0, row["contentLength"], 50 << 20):
        url = f"/b2api/v4/b2_download_file_by_id?fileId={row['fileId']}"
        status, _, data = tenant.emulator.get(url, range_=f"bytes={start}-{start + (50 << 20) - 1}")
        assert status == 206
        held.update(data)
    assert held.hexdigest() == expected


def test_dd_with_odd_block_sizes(tenant: Mount, tmp_path: Path) -> None:
    pairs = []
    for block in (1, 7, 513, 4097, 131_073, 1_048_577):
        source, target = tmp_path / f"source{block}", tenant.path / f"target{block}"
        source.write_bytes(random.Random(block).randbytes(min(block * 2000, 3_000_001)))
        pairs.append((source, target))
        run("dd", f"if={source}", f"of={target}", f"bs={block}", "status=none")
        run("cmp", source, target)
    tenant.flush()
    for source, target in pairs:
        size = source.name.removeprefix("source")
        patch = f"bs={size}", "count=3", "conv=notrunc", "seek=5", "status=none"
        for file in (source, target):
            run("dd", "if=/dev/zero", f"of={file}", *patch)
        run("cmp", source, target)
    tenant.remount(empty_cache=True)
    for source, target in pairs:
        run("cmp", source, target)


def test_the_shell_appends_and_reads_back(tenant: Mount) -> None:
    shell("for i in $(seq 300); do echo line $i >> log; done", cwd=tenant.path)
    assert shell("wc -l < log", cwd=tenant.path).strip() == "300"
    tenant.remount(empty_cache=True)
    shell("echo line 301 >> log; : >> empty; echo a > clobber; echo b > clobber", cwd=tenant.path)
    assert shell("tail -n 1 log; cat empty clobber", cwd=tenant.path) == "line 301\nb\n"
    assert shell("cat log", cwd=tenant.path) == "".join(f"line {i}\n" for i in range(1, 302))


def test_tail_follows_a_log_that_is_appended_to(tenant: Mount) -> None:
    log = tenant.path / "log"
    log.write_text("line 0\n")
    follower = subprocess.Popen(
        ["tail", "-n", "+1", "-s", "0.05", "-f", log], stdout=subprocess.PIPE, text=True
    )
    try:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "line 0\n"
        with log.open("a") as file:
            for index in range(1, 20):
                file.write(f"line {index}\n")
                file.flush()
                assert follower.stdout.readline() == f"line {index}\n"
                if index % 5 == 0:
                    tenant.flush()
    finally:
        follower.kill()
        follower.wait()
        if follower.stdout is not None:
            follower.stdout.close()


def test_rotating_logs_keeps_every_line(tenant: Mount) -> None:
    base = tenant.path
    script = """
        for i in $(seq 12); do
            echo "run $i" >> log
            [ -e log.2 ] && mv log.2 log.3
            [ -e log.1 ] && mv log.1 log.2
            cp -p log log.1
            : > log
        done
    """
    shell(script, cwd=base)
    tenant.remount(empty_cache=True)
    assert shell("cat log.3 log.2 log.1 log", cwd=base) == "run 10\nrun 11\nrun 12\n"


def test_logrotate_rotates_by_rename_and_by_copying(tenant: Mount, tmp_path: Path) -> None:
    base = tenant.path
    config, state = tmp_path / "logrotate.conf", tmp_path / "state"
    su = "su root root" if os.geteuid() == 0 else ""
    config.write_text(
        f"{base}/renamed.log {{\n  {su}\n  rotate 3\n  create 0640\n  nocompress\n}}\n"
        f"{base}/copied.log {{\n  {su}\n  rotate 3\n  copytruncate\n  compress\n}}\n"
    )
    config.chmod(0o644)
    for turn in range(4):
        for name in ("renamed.log", "copied.log"):
            with (base / name).open("a") as file:
                file.write(f"turn {turn}\n")
        run("logrotate", "-f", "-s", state, config)
        if turn == 1:
            tenant.remount(empty_cache=True)
    tenant.remount(empty_cache=True)
    assert sorted(os.listdir(base)) == sorted(
        ["renamed.log", "copied.log"]
        + [f"renamed.log.{i}" for i in (1, 2, 3)]
        + [f"copied.log.{i}.gz" for i in (1, 2, 3)]
    )
    assert shell("cat renamed.log.{3,2,1} renamed.log", cwd=base) == "turn 1\nturn 2\nturn 3\n"
    assert shell("zcat copied.log.{3,2,1}.gz; cat copied.log", cwd=base) == "turn 1\nturn 2\nturn 3\n"


def test_eight_copies_at_once_arrive_whole(tenant: Mount, tmp_path: Path) -> None:
    sources = []
    for index in range(8):
        source = tmp_path / f"source{index}"
        source.write_bytes(random.Random(index).randbytes(4_000_000 + index))
        sources.append(source)
    copies = [subprocess.Popen(["cp", source, tenant.path / source.name]) for source in sources]
    assert [copy.wait(120) for copy in copies] == [0] * 8
    tenant.remount(empty_cache=True)
    compares = [subprocess.Popen(["cmp", source, tenant.path / source.name]) for source in sources]
    assert [compare.wait(120) for compare in compares] == [0] * 8
