"""A small tree with one of everything, and the description of a tree by all that a copy should keep."""

import hashlib
import os
import random
import stat
from pathlib import Path


def make_tree(root: Path) -> None:
    """Make the tree: files of several sizes and modes, links, a FIFO, an empty directory, odd times."""
    chance = random.Random(1)
    (root / "sub/empty").mkdir(parents=True)
    for index in range(20):
        file = root / "sub" / f"file {index}.bin"
        file.write_bytes(chance.randbytes(chance.choice([0, 1, 4095, 4096, 70_000, 300_000])))
        file.chmod(chance.choice([0o600, 0o644, 0o755, 0o440]))
        os.utime(file, ns=(chance.randrange(1, 2**60), chance.randrange(1, 2**60)))
    (root / "link").symlink_to("sub/file 0.bin")
    (root / "dangling").symlink_to("/nowhere/at all")
    os.mkfifo(root / "fifo", 0o620)
    if os.geteuid() == 0:
        os.chown(root / "sub/file 1.bin", 1234, 4321)
    (root / "ünï ☃").write_text("awkward")
    for directory in (root / "sub/empty", root / "sub"):
        directory.chmod(0o751)
        os.utime(directory, ns=(10**18 + 7, 10**18 + 7))


def describe(root: Path) -> dict[str, tuple[object, ...]]:
    """Tell type, mode, owner, mtime (not of links) and content of all that lies under *root*."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        content: object = None
        if stat.S_ISLNK(info.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(info.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        mtime = None if stat.S_ISLNK(info.st_mode) else info.st_mtime_ns
        found[str(path.relative_to(root))] = (info.st_mode, info.st_uid, info.st_gid, mtime, content)
    return found
