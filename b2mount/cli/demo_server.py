"""The demo's emulator: a process of its own that outlives the command which started it.

Known by the directory of its data; `server.json` beside it tells the process and the URL. Before anything is
sent to the process it is recognised by its command line, since process IDs are used again.
"""

import json
import os
import select
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

from b2mount.cli.report import Failure

START_SECONDS = 60  # a guess, for slow disks: it takes about one
STOP_SECONDS = 20
INSTALL_HINT = (
    "if a module is missing: pip install 'b2mount[emulator]', or in a clone: pip install '.[emulator]' "
    "(pipx install --force '.[emulator]')"
)


@dataclass(frozen=True, slots=True)
class Server:
    """A running emulator."""

    pid: int
    url: str
    master_key_file: str


def find_server(directory: Path) -> Server | None:
    """Return the emulator that serves *directory*, if it runs and answers."""
    try:
        server = Server(**json.loads(_note(directory).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return server if _is_it(server.pid, directory) and _answers(server.url) else None


def start_server(directory: Path) -> Server:
    """Start an emulator on *directory* and wait until it is ready. Raises Failure.

    It gets the port it had before if that is free, so that a mount which outlived it goes on.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    ready = None
    for port in dict.fromkeys((_noted_port(directory), 0)):
        ready = ready or _launch(directory, port)
    if ready is None:
        reason = _last_line(directory / "server.log")
        raise Failure(f"the emulator did not start: {reason}", INSTALL_HINT)
    _note(directory).write_text(json.dumps(asdict(ready)))
    return ready


def _launch(directory: Path, port: int) -> Server | None:
    command = [sys.executable, "-m", "b2mount.emulator", "--json", "--data", str(_data(directory))]
    with (directory / "server.log").open("ab") as output:
        process = subprocess.Popen(
            [*command, "--listen", f"127.0.0.1:{port}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
            cwd="/",
        )
    assert process.stdout is not None
    with process.stdout as ready_line:
        is_readable, _, _ = select.select([ready_line], [], [], START_SECONDS)
        line = ready_line.readline() if is_readable else b""
    if not line:
        process.kill()
        process.wait()
        return None
    ready = json.loads(line)
    return Server(process.pid, ready["url"], ready["masterKeyFile"])


def _noted_port(directory: Path) -> int:
    try:
        return urllib.parse.urlsplit(json.loads(_note(directory).read_text())["url"]).port or 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def stop_server(directory: Path) -> bool:
    """Stop the emulator that serves *directory*; say whether there was one. Raises Failure."""
    try:
        pid = int(json.loads(_note(directory).read_text())["pid"])
        handle = os.pidfd_open(pid)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    try:
        if not _is_it(pid, directory):
            return False
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        ended, _, _ = select.select([handle], [], [], STOP_SECONDS)
        if not ended:
            raise Failure(f"the emulator (process {pid}) does not end", f"kill -9 {pid}")
    finally:
        os.close(handle)
    _note(directory).unlink(missing_ok=True)
    return True


def _note(directory: Path) -> Path:
    return directory / "server.json"


def _data(directory: Path) -> Path:
    return directory / "data"


def _is_it(pid: int, directory: Path) -> bool:
    """Say whether process *pid* is an emulator on our data, and not a later process of the same number."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"b2mount.emulator" in words and os.fsencode(_data(directory)) in words


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/_control/health", timeout=10) as reply:
            return bool(json.load(reply).get("ok"))
    except (OSError, ValueError):
        return False


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
