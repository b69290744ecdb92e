"""mount(8) itself: `mount -t b2mount`, and the lines of an fstab.

mount(8) looks for its helper in /sbin alone. So that the machine is left as it is, all happens in a mount
namespace of its own, in which /sbin is a directory of links with ours among them.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.emulator import Emulator
from tests.support.programs import need

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace of its own needs root"),
]

# Ends what it mounted however it ends; `b2mount unmount` returns when the mount's program has ended.
PREPARE = """
b2mount() { "$PYTHON" -m b2mount.cli.main "$@"; }
clean() { for place in "$MNT" "$OTHER"; do b2mount unmount --force "$place" 2>/dev/null || :; done; }
sbin=$(readlink -f /sbin)
mkdir "$BASE/real" "$BASE/sbin"
mount --bind "$sbin" "$BASE/real"
for program in "$BASE/real"/*; do ln -s "$program" "$BASE/sbin/"; done
# mount(8) does not pass HOME on, and root's own is not for tests
printf '#!/bin/sh\\nHOME="%s" exec "%s" -m b2mount.cli.mount_helper "$@"\\n' "$HOME" "$PYTHON" \\
    >"$BASE/sbin/mount.b2mount"
chmod 755 "$BASE/sbin/mount.b2mount"
mount --bind "$BASE/sbin" "$sbin"
trap clean EXIT
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that has the helper, and two mount points."""

    base: Path
    bucket: str
    words: str

    @property
    def mountpoint(self) -> Path:
        return self.base / "mnt"

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        environ = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.base / "home"),
            "PYTHON": sys.executable,
            "BASE": str(self.base),
            "MNT": str(self.mountpoint),
            "OTHER": str(self.base / "other"),
            "BUCKET": self.bucket,
            "WORDS": self.words,
            "FSTAB": str(self.base / "fstab"),
        }
        return subprocess.run(
            [need("unshare"), "--mount", "--propagation", "private", "sh", "-euc", PREPARE + script],
            env=environ,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def fstab(self, *lines: str) -> None:
        (self.base / "fstab").write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def machine(emulator: Emulator, bucket: str, tmp_path: Path) -> Machine:
    for name in ("home", "mnt", "other"):
        (tmp_path / name).mkdir()
    emulator.upload(bucket, "photos/a.txt", b"a")
    key_id, key = emulator.create_key(["listFiles", "readFiles", "writeFiles"], [bucket])
    file = tmp_path / "key"
    file.write_text(f"{key_id}\n{key}\n")
    file.chmod(0o600)
    return Machine(tmp_path, bucket, f"credentials={file},endpoint={emulator.url}")


def test_mount_t_returns_when_it_is_mounted_with_what_was_said(machine: Machine, emulator: Emulator) -> None:
    done = machine.run(
        'SAID="noexec,noatime,uid=1234,gid=5678,umask=027,allow_other,$WORDS"\n'
        'mount -v -t b2mount -o "$SAID" "$BUCKET" "$MNT"\n'
        'findmnt -no FSTYPE,OPTIONS "$MNT"\n'
        'stat -c "%u %g %a" "$MNT/photos/a.txt"\n'
        'echo new >"$MNT/new.txt"\n'
        'b2mount unmount "$MNT"\n'
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    said, kernel, owner = done.stdout.splitlines()
    assert said == f"mount.b2mount: {machine.bucket} mounted on {machine.mountpoint}"
    kind, options = kernel.split()
    assert kind == "fuse.b2mount"
    assert {"noexec", "noatime", "nosuid", "nodev", "allow_other", "default_permissions"} <= set(
        options.split(",")
    )
    assert owner == "1234 5678 640"
    assert emulator.download(machine.bucket, "new.txt") == b"new\n"


def test_mount_a_mounts_the_lines_of_an_fstab(machine: Machine) -> None:
    common = "_netdev,nofail,user,users,exec,dev,suid,relatime,x-systemd.automount,comment=ours"
    machine.fstab(
        "# a comment",
        f"{machine.bucket}/photos {machine.mountpoint} b2mount ro,{common},{machine.words} 0 0",
        f"none {machine.base}/other b2mount noauto,{common},{machine.words} 0 0",
    )
    done = machine.run(
        'mount -a -T "$FSTAB"\n'
        'cat "$MNT/a.txt"; ls "$OTHER"\n'
        'mount -T "$FSTAB" "$OTHER" && cat "$OTHER/photos/a.txt"\n'
        'umount "$MNT"; ! mountpoint -q "$MNT"\n'
        'b2mount unmount "$OTHER"\n'
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "aa", "")


def test_a_profile_is_a_source_for_fstab(machine: Machine) -> None:
    profiles = machine.base / "home" / ".config" / "b2mount"
    profiles.mkdir(parents=True)
    lines = [
        f'{name} = "{value}"\n' for name, value in (word.split("=") for word in machine.words.split(","))
    ]
    (profiles / "photos.toml").write_text(f'source = "{machine.bucket}/photos"\n' + "".join(lines))
    machine.fstab(f"profile:photos {machine.mountpoint} b2mount ro,_netdev 0 0")
    done = machine.run('mount -T "$FSTAB" "$MNT"; cat "$MNT/a.txt"; b2mount unmount "$MNT"')
    assert (done.returncode, done.stdout, done.stderr) == (0, "a", ""), done.stderr


@pytest.mark.parametrize(
    ("words", "status", "error"),
    [
        ("zork=1,$WORDS", 1, "unknown option 'zork'"),
        ("$WORDS,uid=nobody-has-this-name", 1, "option uid: there is no user 'nobody-has-this-name'"),
        ("credentials=/no/file", 32, "/no/file cannot be read: No such file or directory"),
    ],
)
def test_mount_ends_with_its_own_status_where_nothing_was_mounted(
    machine: Machine, words: str, status: int, error: str
) -> None:
    done = machine.run(f'mount -t b2mount -o "{words}" "$BUCKET" "$MNT" || echo $?; ! mountpoint -q "$MNT"')
    assert (done.returncode, done.stdout) == (0, f"{status}\n"), done.stderr
    assert done.stderr.splitlines()[0] == f"b2mount: error: {error}"


def test_fake_and_sloppy_reach_the_helper(machine: Machine) -> None:
    done = machine.run(
        'mount -f -t b2mount -o "$WORDS" "$BUCKET" "$MNT"; ! mountpoint -q "$MNT"\n'
        'mount -s -t b2mount -o "ro,zork=1,$WORDS" "$BUCKET" "$MNT"; cat "$MNT/photos/a.txt"\n'
        'b2mount unmount "$MNT"\n'
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "a", ""), done.stderr
