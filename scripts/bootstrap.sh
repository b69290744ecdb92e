#!/bin/sh
# Make this machine ready to run b2mount (demo), to test it (test), to measure it (bench) or only to read its
# code by machine (lint): the system packages that are missing, then the virtual environment. What is there already is
# left alone; when nothing is missing, nothing is printed and no package manager runs.
#
#   scripts/bootstrap.sh demo|test|bench|lint
#
#   PYTHON  the interpreter to build the virtual environment with (default: the first that is new enough)
#   VENV    the folder of the virtual environment (default: .venv)
#
# It does not know what is in the Makefile, nor which Python packages there are: pyproject.toml says that.
set -eu

say() { printf 'bootstrap: %s\n' "$*" >&2; }

fail() { # MESSAGE [HINT...]
    printf 'bootstrap: error: %s\n' "$1" >&2
    shift
    for hint in "$@"; do printf 'bootstrap: hint: %s\n' "$hint" >&2; done
    exit 1
}

cd "$(dirname "$0")/.."
purpose=${1:-}
case $purpose in
demo) extras='emulator' ;;
test | lint) extras='test' ;; # what the tests need includes what the demo needs
bench) extras='test,bench' ;; # with the tests, so that the next make test has nothing to install
*) fail "usage: scripts/bootstrap.sh demo|test|bench|lint" ;;
esac
venv=${VENV:-.venv}

# --- Python -----------------------------------------------------------------------------------------

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo none; }

choose_python() {
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if is_new_enough "$candidate"; then
            python=$candidate
            return
        fi
    done
    found=${PYTHON:-python3}
    fail "b2mount needs Python 3.11 or newer; $found here is $(version_of "$found")" \
        "Debian 12 and Ubuntu 24.04 have one; Debian 11 (3.9) and Ubuntu 22.04 (3.10) have an older python3." \
        "Ubuntu 22.04: apt-get install python3.11 python3.11-dev python3.11-venv, then: make PYTHON=python3.11 $purpose" \
        "elsewhere: install a newer Python and name it: make PYTHON=/path/to/python3 $purpose"
}

# --- System packages ----------------------------------------------------------------------------------

compiles() { printf '#include <stdlib.h>\nint main(void) { return 0; }\n' | "${CC:-cc}" -x c -o /dev/null -; }

has_python_headers() {
    "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'
}

is_here() { # NEED
    case $1 in
    compiler) compiles ;;
    fuse-headers) pkg-config --exists fuse3 ;;
    python-headers) has_python_headers ;;
    python-venv) "$python" -c 'import ensurepip, venv' ;;
    *) command -v "$1" ;;
    esac >/dev/null 2>&1
}

package() { # MANAGER NEED -> the packages that meet it there
    case $1:$2 in
    apt-get:compiler) echo gcc libc6-dev ;;
    dnf:compiler) echo gcc glibc-devel ;;
    *:compiler) echo gcc ;;
    apt-get:pkg-config) echo pkg-config ;;
    dnf:pkg-config) echo pkgconf-pkg-config ;;
    *:pkg-config) echo pkgconf ;;
    apt-get:fuse-headers) echo libfuse3-dev ;;
    dnf:fuse-headers) echo fuse3-devel ;;
    *:fuse-headers) echo fuse3 ;;
    apt-get:python-headers) echo "python$(version_of "$python")-dev" ;;
    dnf:python-headers) echo "python$(version_of "$python")-devel" ;;
    apt-get:python-venv) echo "python$(version_of "$python")-venv" ;;
    dnf:python-venv) echo python3-libs ;;
    *:python-headers | *:python-venv) echo python ;;
    *:fusermount3) echo fuse3 ;;
    *:getfattr) echo attr ;;
    *:man) echo man-db ;;
    *:systemd-analyze) echo systemd ;;
    apt-get:borg | dnf:borg) echo borgbackup ;;
    dnf:sqlite3 | pacman:sqlite3) echo sqlite ;;
    dnf:vim) echo vim-enhanced ;;
    *) echo "$2" ;; # the package has the name of its command
    esac
}

packages() { # MANAGER NEED...
    manager=$1
    shift
    for need in "$@"; do package "$manager" "$need"; done | tr '\n' ' '
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "this needs root, and there is no sudo: $*" "run that as root, then make $purpose again"
    fi
}

install_packages() { # NEED...
    if command -v apt-get >/dev/null; then
        chosen=$(packages apt-get "$@")
        say "installing with apt-get: $chosen"
        as_root apt-get update -qq || say "apt-get update failed; going on with the package lists that are here"
        # shellcheck disable=SC2086 # one argument a package
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 \
            -o Dpkg::Use-Pty=0 install -qq -y --no-install-recommends $chosen </dev/null >&2
    elif command -v dnf >/dev/null; then
        chosen=$(packages dnf "$@")
        say "installing with dnf: $chosen"
        # shellcheck disable=SC2086
        as_root dnf install -q -y $chosen >&2
    elif command -v pacman >/dev/null; then
        chosen=$(packages pacman "$@")
        say "installing with pacman: $chosen"
        # shellcheck disable=SC2086
        as_root pacman -S --needed --noconfirm $chosen >&2
    else
        fail "missing: $*; and there is no apt-get, dnf or pacman here to install it with" \
            "what Debian and Ubuntu call it: $(packages apt-get "$@")" \
            "what Fedora calls it: $(packages dnf "$@")" \
            "what Arch calls it: $(packages pacman "$@")" \
            "install the like by hand, then make $purpose again"
    fi
}

missing_of() { # NEED...
    for need in "$@"; do is_here "$need" || printf '%s ' "$need"; done
}

ensure() { # NEED...
    missing=$(missing_of "$@")
    [ -n "$missing" ] || return 0
    # shellcheck disable=SC2086
    install_packages $missing || fail "could not install what is missing: $missing"
    missing=$(missing_of "$@")
    [ -z "$missing" ] || fail "still missing after installing: $missing" \
        "if it belongs to Python: ${python:-python3} may not be the system's own; name another with PYTHON="
}

# --- The virtual environment ----------------------------------------------------------------------------

# What an installation was made from. A clone that moves, a changed pyproject.toml, another interpreter:
# each makes it stale.
recipe() { printf '%s %s %s\n' "$(cksum <pyproject.toml)" "$(pwd -P)" "$(readlink -f "$venv/bin/python")"; }

is_ready() {
    [ -x "$venv/bin/python" ] || return 1
    if [ -n "${PYTHON:-}" ] && [ "$(version_of "$PYTHON")" != "$(version_of "$venv/bin/python")" ]; then
        return 1
    fi
    now=$(recipe)
    enough="$extras test,bench"
    [ "$purpose" = bench ] || enough="$enough test"
    for installed in $enough; do
        [ "$(cat "$venv/.ready-$installed" 2>/dev/null)" != "$now" ] || return 0
    done
    return 1
}

is_usable_venv() {
    is_new_enough "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1 || return 1
    [ -z "${PYTHON:-}" ] || [ "$(version_of "$PYTHON")" = "$(version_of "$venv/bin/python")" ]
}

make_venv() {
    if [ -e "$venv" ] && [ ! -e "$venv/pyvenv.cfg" ]; then
        [ -z "$(ls -A "$venv")" ] || fail "$venv is there, but is no virtual environment" "name another folder with VENV="
    fi
    if ! is_usable_venv; then
        say "making the virtual environment $venv with $python ($(version_of "$python"))"
        "$python" -m venv --clear "$venv"
    fi
}

install_project() {
    say "installing b2mount[$extras] into $venv (minutes the first time)"
    rm -f "$venv"/.ready-*
    "$venv/bin/python" -m pip install -q --disable-pip-version-check -e ".[$extras]" >&2 ||
        fail "pip could not install b2mount[$extras]; its own words are above"
    # Where PYTHONDONTWRITEBYTECODE is set, each start would compile all of it anew: twice the time it takes.
    "$venv/bin/python" -m compileall -q b2mount >&2 || :
    recipe >"$venv/.ready-$extras"
}

fetch_promtool() {
    # Asked for once: alert rules can be tested elsewhere, too. Installing the package would start a server.
    [ ! -e "$venv/.asked-for-promtool" ] && ! command -v promtool >/dev/null || return 0
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 0
    touch "$venv/.asked-for-promtool"
    say "taking promtool out of Debian's package prometheus"
    place=$(mktemp -d)
    if (cd "$place" && apt-get -qq download prometheus && dpkg-deb --extract prometheus_*.deb .) >/dev/null 2>&1; then
        mv "$place/usr/bin/promtool" "$venv/bin/promtool"
    else
        say "it cannot be had here; the tests of the alert rules will be skipped"
    fi
    rm -rf "$place"
}

# --- The kernel's side ------------------------------------------------------------------------------------

check_fuse() {
    container="in a container: docker run --device /dev/fuse --cap-add SYS_ADMIN --security-opt apparmor=unconfined ..."
    anyway="what needs no mount can be tested with: $venv/bin/python -m pytest -m 'not fuse'"
    [ -e /dev/fuse ] || fail "there is no /dev/fuse: nothing can be mounted here" \
        "on a machine of your own: modprobe fuse" \
        "$container" \
        "$anyway"
    (: <>/dev/fuse) 2>/dev/null || fail "/dev/fuse cannot be opened: nothing can be mounted here" \
        "as $(id -un): look at its permissions with ls -l /dev/fuse; most systems have 0666" \
        "$container" \
        "$anyway"
    if [ "$(id -u)" = 0 ]; then # others mount through fusermount3, which is setuid root
        capabilities=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)
        [ $((0x$capabilities >> 21 & 1)) = 1 ] || fail "root may not mount here: it lacks CAP_SYS_ADMIN" \
            "$container" \
            "$anyway"
    fi
}

[ "$(uname -s)" = Linux ] || fail "b2mount runs on Linux only; this is $(uname -s)"
case $purpose in
demo) needs='fusermount3' ;;
test) needs='fusermount3 openssl curl getfattr borg duplicity fio git logrotate man restic rsync sqlite3 strace systemd-analyze vim fish zsh' ;;
bench) needs='fusermount3 openssl rsync' ;;
lint) needs='' ;;
esac
if is_ready; then
    # shellcheck disable=SC2086 # one argument a need
    ensure $needs
else
    choose_python
    # shellcheck disable=SC2086
    ensure compiler pkg-config fuse-headers python-headers python-venv $needs
    make_venv
    install_project
fi
[ "$purpose" != test ] || fetch_promtool
[ "$purpose" = lint ] || check_fuse
