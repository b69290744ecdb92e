"""`b2mount demo`: everything in one go, without an account.

An emulator in the background, a bucket with the files of two tenants, a key for the first tenant, and a mount
with that key. Run again it finds what runs and only explains.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from b2mount.cli import units
from b2mount.cli.demo_bucket import OTHER_TENANT, TENANT, stock_bucket
from b2mount.cli.demo_server import Server, find_server, start_server, stop_server
from b2mount.cli.machine import check_machine
from b2mount.cli.mount_words import parse_path
from b2mount.cli.mountpoints import check_mountpoint, detach_dead, find_our_mount, is_dead
from b2mount.cli.report import Exit, Failure
from b2mount.core.places import choose_places

DEFAULT_MOUNTPOINT = "b2mount-demo"  # in the home directory


@click.command(short_help="Try it: emulator, sample files, key and mount.")
@click.argument("mountpoint", required=False, callback=units.reading(parse_path))
@click.option("--stop", is_flag=True, help="Unmount and end the emulator; the files stay for the next time.")
@click.option("--purge", is_flag=True, help="With --stop: remove the emulator's files as well.")
def demo(mountpoint: Path | None, stop: bool, purge: bool) -> int:
    """\b
    b2mount demo                    starts it on ~/b2mount-demo
    b2mount demo --stop --purge     ends it and leaves nothing

    Start a local B2 server with sample files, make a key that sees a part of them, and mount what it sees.

    No account is needed and nothing leaves this machine. Run again, it says once more what to try.
    """
    directory = (
        choose_places(state_dir=None, cache_dir=None, environ=os.environ, home=Path.home()).state / "demo"
    )
    if stop:
        return _stop(directory, purge=purge)
    if purge:
        raise Failure("--purge goes with --stop", "b2mount demo --stop --purge", status=Exit.USAGE)
    return _start(directory, mountpoint)


# --- start ------------------------------------------------------------------------------------------------


def _start(directory: Path, wanted: Path | None) -> int:
    noted, served_by = _read_mount_note(directory)
    mountpoint = wanted or noted or Path.home() / DEFAULT_MOUNTPOINT
    if noted is not None and noted != mountpoint and find_our_mount(noted) is not None:
        raise Failure(f"the demo is mounted on {noted} already", f"{_program('b2mount')} demo --stop ends it")
    is_mounted = find_our_mount(mountpoint) is not None
    if not is_mounted:
        check_machine(allow_other=False, uid=os.geteuid())
        mountpoint.mkdir(parents=True, exist_ok=True)
        check_mountpoint(
            mountpoint, nonempty=False, way_out="name another: b2mount demo DIR (make demo MOUNTPOINT=DIR)"
        )
    running = find_server(directory)
    server = running or start_server(directory)
    if is_mounted and not _is_served(mountpoint, by_server=served_by == server.url):
        is_mounted = False
    if not is_mounted:
        _stock_and_mount(directory, server, mountpoint, was_running=running is not None)
    for line in explain(directory, server, mountpoint):
        click.echo(line)
    return Exit.FINE


def _is_served(mountpoint: Path, *, by_server: bool) -> bool:
    """Say whether a mount goes on working; one that cannot is taken away."""
    if is_dead(mountpoint):
        detach_dead(mountpoint)
    elif by_server:
        return True
    else:  # the port that its server had was taken meanwhile
        _run_b2mount("unmount", "--force", "--timeout", "1", str(mountpoint))
    return False


def _stock_and_mount(directory: Path, server: Server, mountpoint: Path, *, was_running: bool) -> None:
    """Fill the server if it is new, and mount; where that fails, leave nothing running that was not."""
    try:
        _stock_once(directory, server)
        _mount(directory, server, mountpoint)
    except BaseException:
        if not was_running:
            stop_server(directory)
        raise


def _stock_once(directory: Path, server: Server) -> None:
    """Fill the server at the first start; the key is written last, so a start that broke off is repeated."""
    if _key_file(directory).exists():
        return
    stocked = stock_bucket(server.url, Path(server.master_key_file))
    (directory / "bucket").write_text(stocked.bucket)
    draft = directory / "key.new"
    draft.touch(mode=0o600)
    draft.write_text(f"{stocked.key_id}\n{stocked.key}\n")
    draft.replace(_key_file(directory))


def _mount(directory: Path, server: Server, mountpoint: Path) -> None:
    note = {"mountpoint": str(mountpoint), "url": server.url}
    (directory / "mount.json").write_text(json.dumps(note))
    done = _run_b2mount(
        *("mount", "--daemon", "--credentials", str(_key_file(directory)), "--endpoint", server.url),
        *("--cache-dir", str(directory / "cache"), str(mountpoint)),
    )
    if done != 0:
        raise Failure("the demo could not be mounted", f"its files are in {directory}")


def explain(directory: Path, server: Server, mountpoint: Path) -> Iterator[str]:
    """Say what runs and what to try, in lines a shell understands."""
    bucket, key_file = (directory / "bucket").read_text(), shlex.quote(str(_key_file(directory)))
    where, b2mount, b2 = shlex.quote(str(mountpoint)), _program("b2mount"), _program("b2")
    yield f"# {mountpoint} shows what a key may see that is limited to {TENANT} in bucket {bucket},"
    yield f"# on a local B2 server at {server.url}. The bucket has {OTHER_TENANT} too: not for this key."
    yield "# Try:"
    yield f"ls -lR {where}"
    yield f"cat {where}/hello.txt"
    yield f"echo 'written through the mount' > {where}/notes/mine.txt"
    yield f"cp /etc/os-release {where}/"
    yield f"{b2mount} flush {where} && {b2mount} status {where}"
    yield f"# The same files as the b2 tool sees them{'' if _is_installed('b2') else ' (pip install b2)'}:"
    info = shlex.quote(str(directory / "b2-account-info"))
    yield f"set -- $(cat {key_file}); B2_ENVIRONMENT={server.url} B2_ACCOUNT_INFO={info} \\"
    yield f"B2_APPLICATION_KEY_ID=$1 B2_APPLICATION_KEY=$2 {b2} ls -r --long b2://{bucket}/{TENANT}"
    yield "# Stop (with --purge: and remove everything):"
    yield f"{b2mount} demo --stop"


# --- stop -------------------------------------------------------------------------------------------------


def _stop(directory: Path, *, purge: bool) -> int:
    mountpoint, _ = _read_mount_note(directory)
    if mountpoint is not None and find_our_mount(mountpoint) is not None:
        _unmount(mountpoint)
    was_running = stop_server(directory)
    if purge and directory.exists():
        shutil.rmtree(directory)
        _remove_if_empty(directory.parent)
        _remove_if_empty(Path.home() / DEFAULT_MOUNTPOINT)
    click.echo("the demo has ended" if was_running else "no demo was running", err=True)
    return Exit.FINE


def _unmount(mountpoint: Path) -> None:
    """End the mount; what cannot be sent in time is kept for the next start, and named."""
    if is_dead(mountpoint):
        detach_dead(mountpoint)
        return
    _run_b2mount("unmount", "--force", "--timeout", "30s", str(mountpoint))
    if find_our_mount(mountpoint) is not None:
        raise Failure(
            f"the demo's mount on {mountpoint} did not end",
            f"fuser -vm {shlex.quote(str(mountpoint))} shows what uses it",
        )


def _remove_if_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:
        return  # not there, or somebody put something in it, which is not ours to remove


# --- where things are -------------------------------------------------------------------------------------


def _key_file(directory: Path) -> Path:
    return directory / "key"


def _read_mount_note(directory: Path) -> tuple[Path | None, str]:
    """Return where the demo was mounted last, and the server of that mount."""
    try:
        note = json.loads((directory / "mount.json").read_text())
        return Path(note["mountpoint"]), str(note["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, ""


def _run_b2mount(*words: str) -> int:
    """Run this very program; its messages are for the user."""
    return subprocess.run([sys.executable, "-m", "b2mount.cli.main", *words], check=False).returncode


def _program(name: str) -> str:
    """Return how the user calls a program: by its name if that is found, else by its path."""
    return name if shutil.which(name) or not _beside(name).exists() else shlex.quote(str(_beside(name)))


def _is_installed(name: str) -> bool:
    return shutil.which(name) is not None or _beside(name).exists()


def _beside(name: str) -> Path:
    return Path(sys.executable).with_name(name)
