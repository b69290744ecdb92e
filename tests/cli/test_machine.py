"""What is said where a machine, or a container, does not let b2mount mount.

The containers are imitated: fewer rights by setpriv(1), another /dev by a mount namespace.
"""

import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2mount.cli.machine import CAP_SYS_ADMIN, CONTAINER_HINT, Rights, closed_device, parse_rights
from tests.cli.running import Shell
from tests.support.programs import need

pytestmark = pytest.mark.fuse

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take rights and devices away")
NO_ADMIN = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
CONTAINER = f"b2mount: hint: {CONTAINER_HINT}"


def mount_under(shell: Shell, before: Sequence[str]) -> tuple[int, list[str]]:
    """Run `b2mount mount` by way of another program; there are no credentials, and none are asked for."""
    mountpoint = shell.home / "mnt"
    mountpoint.mkdir()
    command = [need(before[0]), *before[1:], sys.executable, "-m", "b2mount.cli.main", "mount", mountpoint]
    done = subprocess.run(
        list(map(str, command)), env=shell.environ(), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def with_device(made_by: str) -> list[str]:
    """Return what runs the words after it where `/dev` has, of FUSE, what *made_by* makes there."""
    script = (
        "d=$(mktemp -d); mount -t tmpfs none $d; mknod $d/null c 1 3; mknod $d/urandom c 1 9\n"
        f"{made_by}\nmount --move $d /dev; rmdir $d\n"
        'exec "$@"'
    )
    return ["unshare", "--mount", "--propagation", "private", "sh", "-euc", script, "sh"]


@AS_ROOT
def test_a_container_without_the_right_to_mount_is_told_how_to_get_it(shell: Shell) -> None:
    assert mount_under(shell, NO_ADMIN) == (
        1,
        ["b2mount: error: nothing may be mounted here: this container lacks CAP_SYS_ADMIN", CONTAINER],
    )


@AS_ROOT
def test_a_container_without_the_device_is_told_how_to_get_it(shell: Shell) -> None:
    assert mount_under(shell, with_device("")) == (
        1,
        [
            "b2mount: error: this machine has no /dev/fuse",
            "b2mount: hint: modprobe fuse; in a container:",
            CONTAINER,
        ],
    )


@AS_ROOT
def test_a_device_that_the_file_system_keeps_shut_is_no_surprise_later(shell: Shell) -> None:
    status, said = mount_under(
        shell,
        with_device("mount -o remount,nodev $d; mknod $d/fuse c 10 229"),
    )
    assert status == 1
    assert said[0] == "b2mount: error: this user may not open /dev/fuse"
    assert said[-1].endswith("lies on a file system mounted nodev")


@AS_ROOT
def test_a_device_without_a_driver_says_what_loads_it(shell: Shell) -> None:
    status, said = mount_under(shell, with_device("mknod $d/fuse c 10 254"))
    assert status == 1
    assert said[0].startswith("b2mount: error: /dev/fuse cannot be opened: No such device")
    assert said[1:] == ["b2mount: hint: modprobe fuse"]


def test_no_new_privileges_is_named_where_it_keeps_a_user_from_mounting(shell: Shell) -> None:
    # root mounts by its own right, unless it gave that up; others by fusermount3's, which is setuid root
    given_up = ["--bounding-set=-sys_admin"] if os.geteuid() == 0 else []
    status, said = mount_under(shell, ["setpriv", "--no-new-privs", *given_up])
    assert status == 1
    lacks = "this container lacks CAP_SYS_ADMIN" if given_up else "no_new_privileges keeps fusermount3"
    assert said[0].startswith(f"b2mount: error: nothing may be mounted here: {lacks}")


def test_a_device_that_a_containers_rules_keep_shut_is_told_from_one_with_wrong_permissions() -> None:
    ruled_out = closed_device(OSError(errno.EPERM, "Operation not permitted"))
    assert str(ruled_out) == "this container may not use /dev/fuse, though it is there"
    assert ruled_out.hints == (CONTAINER_HINT,)
    assert (
        str(closed_device(OSError(errno.EACCES, "Permission denied"))) == "this user may not open /dev/fuse"
    )


def status_file(effective: int, bounding: int, no_new_privileges: bool) -> str:
    return (
        f"Name:\tpython3\nUid:\t0\t0\t0\t0\nCapInh:\t{0:016x}\nCapPrm:\t{effective:016x}\n"
        f"CapEff:\t{effective:016x}\nCapBnd:\t{bounding:016x}\nCapAmb:\t{0:016x}\n"
        f"NoNewPrivs:\t{int(no_new_privileges)}\nSeccomp:\t0\n"
    )


@given(st.integers(0, 2**41 - 1), st.integers(0, 2**41 - 1), st.booleans())
def test_one_bit_decides_whatever_the_others_are(effective: int, bounding: int, no_new: bool) -> None:
    bit = 1 << CAP_SYS_ADMIN
    rights = parse_rights(status_file(effective, bounding, no_new))
    assert rights == Rights(bool(effective & bit), bool(bounding & bit), no_new)
    assert rights.setuid_helps == (bool(bounding & bit) and not no_new)


def test_this_process_has_rights_that_can_be_read() -> None:
    rights = parse_rights(Path("/proc/self/status").read_text())
    assert rights.may_mount == (os.geteuid() == 0)
