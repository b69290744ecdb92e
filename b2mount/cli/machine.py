"""Whether this machine lets this process mount: the device, the rights, fusermount3.

Refuses only what is sure to fail, before B2 is asked anything; what the kernel alone can tell (AppArmor,
SELinux, seccomp) shows when it is asked to mount. Knows nothing of keys and mount points.
"""

import errno
import os
import re
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from b2mount.cli.report import Failure

FUSE_DEVICE = Path("/dev/fuse")
FUSE_CONFIGURATION = Path("/etc/fuse.conf")
CAP_SYS_ADMIN = 21  # the number of its bit
INSTALL_HINT = "install the package fuse3 (apt install fuse3, dnf install fuse3, pacman -S fuse3)"
CONTAINER_HINT = (
    "docker or podman run --device /dev/fuse --cap-add SYS_ADMIN --security-opt apparmor=unconfined ...; "
    "Kubernetes: securityContext privileged: true"
)


@dataclass(frozen=True, slots=True)
class Rights:
    """What the kernel lets a process do, and what it can get by a program that is setuid root."""

    may_mount: bool  # by mount(2), itself
    can_get_it: bool  # CAP_SYS_ADMIN is in the bounding set: a program that is setuid root has it
    no_new_privileges: bool  # setuid is without effect

    @property
    def setuid_helps(self) -> bool:
        """Say whether fusermount3, as distributions install it, may mount."""
        return self.can_get_it and not self.no_new_privileges


def parse_rights(status: str) -> Rights:
    """Read the text of /proc/PID/status. Source: proc(5), capabilities(7)."""
    fields = dict(re.findall(r"^(\w+):\s*([0-9a-f]+)$", status, re.MULTILINE))

    def has(field: str) -> bool:
        return bool(int(fields.get(field, "0"), 16) >> CAP_SYS_ADMIN & 1)

    return Rights(has("CapEff"), has("CapBnd"), fields.get("NoNewPrivs") == "1")


def check_machine(*, allow_other: bool, uid: int) -> None:
    """Refuse what this machine's FUSE would refuse later with less to say. Raises Failure."""
    _check_device()
    rights = _own_rights()
    if rights.may_mount:
        return  # without fusermount3, which asks for what follows
    helper = shutil.which("fusermount3")
    if helper is None:
        raise Failure("fusermount3 is not installed, and only root can mount without it", INSTALL_HINT)
    if not rights.setuid_helps and _is_setuid_root(helper):  # another program may have its own ways
        raise _lacks_rights(rights)
    if uid != 0 and allow_other and not _allows_others(FUSE_CONFIGURATION):
        raise Failure(
            "only root may say allow_other here",
            f"root can add a line user_allow_other to {FUSE_CONFIGURATION}",
        )


def _own_rights() -> Rights:
    return parse_rights(Path("/proc/self/status").read_text(errors="replace"))


def _check_device() -> None:
    """Open the device as libfuse will. Raises Failure."""
    try:
        os.close(os.open(FUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise Failure(
            f"this machine has no {FUSE_DEVICE}", "modprobe fuse; in a container:", CONTAINER_HINT
        ) from None
    except OSError as error:
        raise closed_device(error) from None


def closed_device(error: OSError) -> Failure:
    if error.errno == errno.EPERM:  # the answer of a container's list of devices, never of permission bits
        return Failure(f"this container may not use {FUSE_DEVICE}, though it is there", CONTAINER_HINT)
    if error.errno == errno.EACCES:
        return Failure(
            f"this user may not open {FUSE_DEVICE}",
            f"root can say chmod 666 {FUSE_DEVICE}, as udev does; or mount as root",
            f"root itself may not where {FUSE_DEVICE} lies on a file system mounted nodev",
        )
    return Failure(f"{FUSE_DEVICE} cannot be opened: {error.strerror}", "modprobe fuse")


def _is_setuid_root(program: str) -> bool:
    facts = Path(program).stat()
    return bool(facts.st_mode & stat.S_ISUID) and facts.st_uid == 0


def _lacks_rights(rights: Rights) -> Failure:
    if not rights.can_get_it:
        return Failure("nothing may be mounted here: this container lacks CAP_SYS_ADMIN", CONTAINER_HINT)
    return Failure(
        "nothing may be mounted here: no_new_privileges keeps fusermount3 from its rights",
        "leave out docker's --security-opt no-new-privileges, a unit's NoNewPrivileges=yes; "
        "Kubernetes: allowPrivilegeEscalation: true",
    )


def _allows_others(configuration: Path) -> bool:
    try:
        lines = configuration.read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.strip() == "user_allow_other" for line in lines)
