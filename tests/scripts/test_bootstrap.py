"""scripts/bootstrap.sh on machines that lack something: a PATH of our own stands for each.

The shell, Python and the kernel are real; package managers, pip and `python -m venv` are small scripts that
note what they were asked, since a test must not install anything on the machine that runs it.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
WORDS = """
    sh cat cksum cp dirname env ln ls mkdir printf readlink rm sed touch tr uname
    """
ORDINARY = WORDS.split()
DEMO_RUNS = ["fusermount3"]
TESTS_RUN = [*DEMO_RUNS, "openssl", "curl", "getfattr", "borg", "duplicity", "fio", "git", "logrotate"]
TESTS_RUN += ["man", "restic", "rsync", "sqlite3", "strace", "systemd-analyze", "vim", "fish", "zsh"]
BUILD_TIME = ["cc", "pkg-config"]
MISSING = ["fusermount3", "getfattr", "borg", "sqlite3", "vim"]  # in some tests

APT_INSTALL = "apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install -qq -y --no-install-recommends"

# Stands for `python -m venv` and pip; all else the real interpreter does.
PYTHON = """#!/bin/sh
case "$*" in
"-m venv --clear "*)
    echo "$0 $*" >>"$LOG"
    mkdir -p "$4/bin" && cp "$0" "$4/bin/python" && touch "$4/pyvenv.cfg" ;;
"-m pip --version") ;;
"-m pip install"*) echo "pip $*" >>"$LOG" ;;
*) exec "{real}" "$@" ;;
esac
"""

OLD_PYTHON = """#!/bin/sh
case "$*" in
*"sys.exit(sys.version_info <"*) exit 1 ;;
*) echo 3.10 ;;
esac
"""

# Notes what it is asked and "installs" the commands of the packages named.
MANAGER = """#!/bin/sh
echo "${{0##*/}} $*" >>"$LOG"
for word; do
    case $word in
    fuse3) ln -s true "{bin}/fusermount3" ;;
    attr) ln -s true "{bin}/getfattr" ;;
    man-db) ln -s true "{bin}/man" ;;
    systemd) ln -s true "{bin}/systemd-analyze" ;;
    borgbackup) ln -s true "{bin}/borg" ;;
    sqlite) ln -s true "{bin}/sqlite3" ;;
    vim-enhanced) ln -s true "{bin}/vim" ;;
    -* | install | update | *=*) ;;
    *) [ -e "{bin}/$word" ] || ln -s true "{bin}/$word" ;;
    esac
done
"""


@dataclass
class Machine:
    """A machine whose PATH holds only what the test puts there."""

    folder: Path
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.folder / "log"
        self.log.touch()
        for part in ("bin", "project/scripts"):
            (self.folder / part).mkdir(parents=True)
        for wanted in ("scripts/bootstrap.sh", "pyproject.toml"):
            shutil.copy(PROJECT / wanted, self.folder / "project" / wanted)
        for name in ORDINARY:
            found = shutil.which(name)
            assert found is not None, name
            (self.folder / "bin" / name).symlink_to(found)
        self.script("true", "#!/bin/sh\n")
        self.script("id", "#!/bin/sh\necho 1000\n")
        self.script("sudo", '#!/bin/sh\necho sudo >>"$LOG"\nexec "$@"\n')
        self.script("python3", PYTHON.format(real=sys.executable))

    def script(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def have(self, *names: str) -> None:
        for name in names:
            (self.folder / "bin" / name).symlink_to("true")

    def manager(self, name: str) -> None:
        self.script(name, MANAGER.format(bin=self.folder / "bin"))

    def bootstrap(self, purpose: str, *before: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run the script, behind the words *before*; they are found on the real PATH."""
        if before:
            first = shutil.which(before[0])
            assert first is not None
            before = (first, *before[1:])
        return subprocess.run(
            [
                *before,
                str(self.folder / "bin" / "sh"),
                str(self.folder / "project/scripts/bootstrap.sh"),
                purpose,
            ],
            env={"PATH": str(self.folder / "bin"), "LOG": str(self.log), **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
        )

    def asked(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def ready(machine: Machine) -> Machine:
    """A machine on which everything is installed."""
    machine.have(*BUILD_TIME, *TESTS_RUN)
    done = machine.bootstrap("test")
    assert done.returncode == 0, done.stderr
    machine.log.write_text("")
    return machine


def test_a_complete_machine_gets_a_virtual_environment_and_no_packages(machine: Machine) -> None:
    machine.have(*BUILD_TIME, *TESTS_RUN)
    machine.manager("apt-get")
    done = machine.bootstrap("test")
    assert done.returncode == 0, done.stderr
    assert machine.asked() == [
        f"{machine.folder}/bin/python3 -m venv --clear .venv",
        "pip -m pip install -q --disable-pip-version-check -e .[test]",
    ]


@pytest.mark.parametrize("purpose", ["demo", "test", "lint"])
def test_a_second_run_asks_nothing_and_says_nothing(ready: Machine, purpose: str) -> None:
    done = ready.bootstrap(purpose)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert ready.asked() == []


def test_the_demo_needs_less_than_the_tests_and_is_topped_up_for_them(machine: Machine) -> None:
    machine.have(*BUILD_TIME, "fusermount3")
    machine.manager("apt-get")
    assert machine.bootstrap("demo").returncode == 0
    assert machine.asked()[1:] == ["pip -m pip install -q --disable-pip-version-check -e .[emulator]"]
    machine.log.write_text("")
    assert machine.bootstrap("test").returncode == 0
    assert machine.asked() == [
        "sudo",
        "apt-get update -qq",
        "sudo",
        f"{APT_INSTALL} openssl curl attr borgbackup duplicity fio git logrotate man-db restic rsync sqlite3 "
        "strace systemd vim fish zsh",
        "pip -m pip install -q --disable-pip-version-check -e .[test]",
    ]


def test_the_benchmarks_top_up_what_the_tests_installed_and_both_need_nothing_then(ready: Machine) -> None:
    assert ready.bootstrap("bench").returncode == 0
    assert ready.asked() == ["pip -m pip install -q --disable-pip-version-check -e .[test,bench]"]
    ready.log.write_text("")
    for purpose in ("bench", "test", "demo", "lint"):
        assert ready.bootstrap(purpose).returncode == 0
    assert ready.asked() == []


def test_a_changed_pyproject_is_installed_anew_into_the_same_environment(ready: Machine) -> None:
    with (ready.folder / "project/pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert ready.bootstrap("test").returncode == 0
    assert ready.asked() == ["pip -m pip install -q --disable-pip-version-check -e .[test]"]


def test_a_moved_clone_is_installed_anew(ready: Machine) -> None:
    (ready.folder / "project").rename(ready.folder / "elsewhere")
    (ready.folder / "project").symlink_to("elsewhere")
    assert ready.bootstrap("test").returncode == 0
    assert ready.asked() == ["pip -m pip install -q --disable-pip-version-check -e .[test]"]


def test_a_broken_environment_is_made_anew(ready: Machine) -> None:
    (ready.folder / "project/.venv/bin/python").unlink()
    assert ready.bootstrap("test").returncode == 0
    assert [words.split()[1:4] for words in ready.asked()] == [
        ["-m", "venv", "--clear"],
        ["-m", "pip", "install"],
    ]


def test_a_folder_that_is_no_virtual_environment_is_left_alone(machine: Machine, tmp_path: Path) -> None:
    machine.have(*BUILD_TIME, *TESTS_RUN)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("mine")
    done = machine.bootstrap("test", VENV=str(precious))
    assert done.returncode == 1
    assert f"{precious} is there, but is no virtual environment" in done.stderr
    assert [path.name for path in precious.iterdir()] == ["thesis.txt"]


def test_only_the_missing_packages_are_asked_for(machine: Machine) -> None:
    machine.have(*BUILD_TIME, *(name for name in TESTS_RUN if name not in MISSING))
    machine.manager("apt-get")
    done = machine.bootstrap("test")
    assert done.returncode == 0, done.stderr
    assert f"{APT_INSTALL} fuse3 attr borgbackup sqlite3 vim" in machine.asked()


@pytest.mark.parametrize(
    ("manager", "words"),
    [
        ("dnf", "dnf install -q -y fuse3 attr borgbackup sqlite vim-enhanced"),
        ("pacman", "pacman -S --needed --noconfirm fuse3 attr borg sqlite vim"),
    ],
)
def test_fedora_and_arch_use_their_own_manager(machine: Machine, manager: str, words: str) -> None:
    machine.have(*BUILD_TIME, *(name for name in TESTS_RUN if name not in MISSING))
    machine.manager(manager)
    done = machine.bootstrap("test")
    assert done.returncode == 0, done.stderr
    assert words in machine.asked()


def test_root_needs_no_sudo(machine: Machine) -> None:
    machine.have(*BUILD_TIME, *(name for name in TESTS_RUN if name != "vim"))
    machine.manager("apt-get")
    machine.script("id", "#!/bin/sh\necho 0\n")
    (machine.folder / "bin/sudo").unlink()
    machine.bootstrap("test")
    assert f"{APT_INSTALL} vim" in machine.asked()


def test_without_sudo_it_says_what_to_run_as_root(machine: Machine) -> None:
    machine.have(*BUILD_TIME, *TESTS_RUN[1:])
    machine.manager("dnf")
    (machine.folder / "bin/sudo").unlink()
    done = machine.bootstrap("test")
    assert done.returncode == 1
    assert "this needs root, and there is no sudo: dnf install -q -y fuse3\n" in done.stderr
    assert "run that as root, then make test again" in done.stderr


def test_without_a_package_manager_it_names_the_packages(machine: Machine) -> None:
    done = machine.bootstrap("test")
    assert done.returncode == 1
    assert "missing: compiler pkg-config fuse-headers" in done.stderr
    assert "what Debian and Ubuntu call it: gcc libc6-dev pkg-config libfuse3-dev" in done.stderr
    assert "what Fedora calls it: gcc glibc-devel pkgconf-pkg-config fuse3-devel" in done.stderr
    assert "what Arch calls it: gcc pkgconf fuse3" in done.stderr


def test_a_failed_installation_fails_and_says_what_is_missing(machine: Machine) -> None:
    machine.have(*BUILD_TIME)
    machine.script("apt-get", "#!/bin/sh\nexit 100\n")
    done = machine.bootstrap("demo")
    assert done.returncode == 1
    assert "could not install what is missing: fusermount3" in done.stderr


def test_an_installation_that_did_not_help_fails_too(machine: Machine) -> None:
    machine.have(*BUILD_TIME)
    machine.script("apt-get", "#!/bin/sh\n")
    done = machine.bootstrap("demo")
    assert done.returncode == 1
    assert "still missing after installing: fusermount3" in done.stderr


def test_an_old_python_is_named_with_what_to_do(machine: Machine) -> None:
    machine.script("python3", OLD_PYTHON)
    done = machine.bootstrap("demo")
    assert done.returncode == 1
    assert "b2mount needs Python 3.11 or newer; python3 here is 3.10\n" in done.stderr
    assert "Ubuntu 22.04: apt-get install python3.11 python3.11-dev python3.11-venv" in done.stderr


def test_a_newer_python_beside_an_old_one_is_found(machine: Machine) -> None:
    (machine.folder / "bin/python3").rename(machine.folder / "bin/python3.12")
    machine.script("python3", OLD_PYTHON)
    machine.have(*BUILD_TIME, *TESTS_RUN)
    done = machine.bootstrap("test")
    assert done.returncode == 0, done.stderr
    assert machine.asked()[0] == f"{machine.folder}/bin/python3.12 -m venv --clear .venv"


def test_the_python_named_by_hand_is_the_one_used(machine: Machine) -> None:
    machine.have(*BUILD_TIME, *TESTS_RUN)
    machine.script("mine", PYTHON.format(real=sys.executable))
    done = machine.bootstrap("test", PYTHON="mine")
    assert done.returncode == 0, done.stderr
    assert machine.asked()[0] == f"{machine.folder}/bin/mine -m venv --clear .venv"


def test_a_python_named_by_hand_that_is_too_old_is_refused(machine: Machine) -> None:
    machine.script("older", OLD_PYTHON)
    done = machine.bootstrap("test", PYTHON="older")
    assert done.returncode == 1
    assert "older here is 3.10" in done.stderr


def test_an_unknown_purpose_is_refused(machine: Machine) -> None:
    done = machine.bootstrap("dance")
    assert done.returncode == 1
    assert "usage: scripts/bootstrap.sh demo|test|bench|lint" in done.stderr


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="making a machine without FUSE needs root")


@needs_root
def test_without_dev_fuse_the_tests_are_refused_but_not_the_linters(ready: Machine, tmp_path: Path) -> None:
    dev = tmp_path / "dev"
    dev.mkdir()
    (dev / "null").touch()
    hide = f"mount --bind /dev/null '{dev}/null' && mount --rbind '{dev}' /dev && exec \"$@\""
    before = ("unshare", "--mount", "/bin/sh", "-c", f"PATH=/usr/sbin:/usr/bin:/sbin:/bin; {hide}", "sh")
    done = ready.bootstrap("test", *before)
    assert done.returncode == 1
    assert "there is no /dev/fuse: nothing can be mounted here" in done.stderr
    assert "docker run --device /dev/fuse --cap-add SYS_ADMIN" in done.stderr
    assert ready.bootstrap("lint", *before).returncode == 0


@needs_root
def test_root_without_the_right_to_mount_is_told_so(ready: Machine) -> None:
    ready.script("id", "#!/bin/sh\necho 0\n")
    done = ready.bootstrap("test", "setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin")
    assert done.returncode == 1
    assert "root may not mount here: it lacks CAP_SYS_ADMIN" in done.stderr
