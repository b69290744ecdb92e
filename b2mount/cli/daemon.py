"""Go into the background, and tell the shell only when the mount works or why it does not.

Two forks, as daemons do (setsid in between, so that no terminal can be acquired again). The first process
waits on a pipe for one byte: 0 when the mount is ready, else the exit status. Must run before any thread.
"""

import functools
import logging
import os
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from b2mount.cli.report import Failure, status_of

JOURNAL_SOCKET = Path("/run/systemd/journal/stdout")

Serve = Callable[[Callable[[], None]], int]  # given what to call when ready; returns the exit status


def run_in_background(serve: Serve, *, log_file: Path, journal: Path | None = JOURNAL_SOCKET) -> int:
    """Run *serve* in a daemon; return 0 as soon as it is ready, else its exit status.

    Until it is ready its standard error is this process's, so errors are seen; afterwards it is the systemd
    journal (at *journal*) or, where there is none, *log_file*. In the daemon itself this does not return.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        os.waitpid(child, 0)
        return status_of(lambda: _wait_until_ready(reader))
    os.close(reader)
    os.setsid()
    if os.fork():
        os._exit(0)
    status = 1
    try:
        status = status_of(lambda: _serve(serve, writer, functools.partial(_open_log, log_file, journal)))
        _tell(writer, status or 1)  # unread where the mount has been ready: the pipe is closed then
    except BaseException:  # a bug; the traceback is all there is to say
        traceback.print_exc()
        _tell(writer, status)
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wait_until_ready(reader: int) -> int:
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read(1)
    if not answer:
        raise Failure(
            "the mount's program ended before it was ready", "say --log-level debug without --daemon"
        )
    return answer[0]


def _serve(serve: Serve, writer: int, open_log: Callable[[], int]) -> int:
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)

    def on_ready() -> None:
        _leave_the_terminal(open_log())
        _tell(writer, 0)

    return serve(on_ready)


def _tell(writer: int, status: int) -> None:
    """Send the waiting process its one byte; nobody waits any more when the mount ends later."""
    try:
        os.write(writer, bytes([status]))
        os.close(writer)
    except OSError:
        return


def _leave_the_terminal(log: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def _open_log(log_file: Path, journal: Path | None) -> int:
    """Open the systemd journal, if there is one at *journal*; else a file that only its owner reads."""
    found = None if journal is None else _open_journal(journal)
    if found is not None:
        return found
    log_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    if journal is None:  # named by a person, who may have meant a link
        return os.open(log_file, flags, 0o600)
    log = os.open(log_file, flags | os.O_NOFOLLOW, 0o600)
    if os.fstat(log).st_uid != os.geteuid():
        os.close(log)
        raise Failure(f"{log_file} belongs to somebody else", "remove it, or name another by --log-file")
    return log


def _open_journal(path: Path) -> int | None:
    """Open the systemd journal the way systemd-cat does; None where there is none."""
    try:
        with socket.socket(socket.AF_UNIX) as journal:
            journal.connect(str(path))
            # identifier, unit, priority (6: info), level prefixes, three kinds of forwarding; one a line
            journal.sendall(b"b2mount\n\n6\n1\n0\n0\n0\n")
            return journal.detach()
    except OSError:
        return None
