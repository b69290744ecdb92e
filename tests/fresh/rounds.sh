#!/bin/sh
# What a newcomer does, several times over, on the machine that tests/fresh/run made: the demo, a look at
# it, its end, and the tests. Each round must leave no process and no mount behind; from the second round on
# there must be nothing left to install.
#
#   rounds.sh N
set -eu
cd "$(dirname "$0")/../.."

mountpoint=$HOME/b2mount-demo

say() { printf '\n=== fresh: %s\n' "$*"; }
fail() { printf 'fresh: error: %s\n' "$*" >&2; exit 1; }

processes() {
    for entry in /proc/[0-9]*; do
        # kernel threads and what has ended meanwhile have no words
        words=$(tr '\0' ' ' <"$entry/cmdline" 2>/dev/null) || continue
        [ -z "$words" ] || printf '%s %s\n' "${entry#/proc/}" "$words"
    done
}

fuse_mounts() { grep ' fuse' /proc/self/mounts || true; }

nothing_is_left() { # AFTER
    [ -z "$(fuse_mounts)" ] || fail "after $1 there is still mounted: $(fuse_mounts)"
    for pid in $(processes | cut -d ' ' -f 1); do
        case " $before " in
        *" $pid "*) ;;
        *) [ ! -e "/proc/$pid" ] || fail "after $1 there still runs: $(processes | grep "^$pid ")" ;;
        esac
    done
}

nothing_to_install() { # PURPOSE
    told=$(PATH=$PATH:/usr/sbin:/sbin scripts/bootstrap.sh "$1" 2>&1) # the PATH that make gives it
    [ -z "$told" ] || fail "there was still something to do before $1: $told"
}

look_at_the_demo() {
    ls -lR "$mountpoint"
    [ -n "$(find "$mountpoint" -type f -size +0)" ] || fail "the demo shows no file"
    find "$mountpoint" -type f -exec cat {} + | wc -c
    echo 'written by a newcomer' >"$mountpoint/newcomer.txt"
    [ "$(cat "$mountpoint/newcomer.txt")" = 'written by a newcomer' ] || fail "what was written is not there"
    .venv/bin/b2mount status "$mountpoint"
    .venv/bin/b2mount flush "$mountpoint"
}

before=$(processes | cut -d ' ' -f 1 | tr '\n' ' ')
round=1
while [ "$round" -le "$1" ]; do
    started=$(date +%s)
    if [ "$round" -gt 1 ]; then
        nothing_to_install demo
        nothing_to_install test
    fi
    say "round $round: make demo"
    make demo
    look_at_the_demo
    make demo # again, while it runs
    make demo-stop
    nothing_is_left "the demo"
    say "round $round: make test"
    CI=true make test # in CI a program that is missing fails its tests
    nothing_is_left "the tests"
    say "round $round took $(($(date +%s) - started)) seconds"
    round=$((round + 1))
done
