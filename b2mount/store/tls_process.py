"""The owner's side of the process that does TLS (tls_relay.py): starts it, hands it connections, ends it.

Python's ssl gives 16 KiB a call, each with a change of Python's lock, which costs a busy mount more than the
decrypting. A connection handed over is an ordinary socket afterwards. Whatever goes wrong with the process,
there is a way back: a caller that gets None does TLS itself. Knows nothing of HTTP.
"""

import contextlib
import fcntl
import json
import logging
import os
import select
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

from b2mount.store import tls_relay

log = logging.getLogger("b2mount.store")

WORTH_IT = 1 << 20  # bytes of a body from which on it pays
IDLE_SECONDS = 60.0  # without a connection, after which the process ends
START_SECONDS = 20.0  # a guess, for a busy machine: it takes a tenth of a second
TAKE_SECONDS = 8.0  # for the process to say that it has a connection, which it does at once
STUCK_SECONDS = 2.0  # without such a word, after which it is given up, where a request has not even 8 s
PATIENCE_SECONDS = 0.5  # for a process that starts, where the server is near: it takes a tenth of a second
ALONE = 2  # connections that do not wait for it, and begin TLS in this process
NEAR_SECONDS = 0.005  # to connect; farther away, a first answer sooner is worth more than processor time
END_SECONDS = 2.0
LOOK_SECONDS = 0.01  # between two looks whether it is ready
MOST_DEATHS = 3  # in a row; then TLS stays in this process
HEALTHY_SECONDS = 300.0  # a process that lived so long ends a row
PAIR_BYTES = 1 << 20  # asked for between the two processes; the kernel may allow less
# Ends with the mount, not before: what these signals mean to a mount takes time.
BLOCKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
# Where the libraries lie and how they are set; nothing else of the environment, which may hold a key.
PASSED_ON = ("LD_LIBRARY_PATH", "OPENSSL_CONF", "OPENSSL_MODULES")


class RelayedSocket(socket.socket):
    """The plain side of a connection whose TLS another process does; `tcp` is the connection itself."""

    def __init__(self, plain: socket.socket, tcp: socket.socket) -> None:
        super().__init__(fileno=plain.detach())
        self.tcp = tcp

    def _real_close(self) -> None:  # as SSLSocket does it: with the last reader
        with contextlib.suppress(OSError):  # the server was first
            self.tcp.shutdown(socket.SHUT_RDWR)  # at once, whatever the other process is busy with
        self.tcp.close()
        super()._real_close()  # type: ignore[misc]  # typeshed does not know it


class RelayedConnection(HTTPSConnection):
    """As its base, but TLS is done by the other process if that can take it."""

    def __init__(
        self,
        host: str,
        port: int | None,
        *,
        timeout: float,
        context: ssl.SSLContext,
        name: str,
        process: "TlsProcess | None",
    ) -> None:
        """Connect to *host*, a server or its proxy; *name* is the server's."""
        super().__init__(host, port, timeout=timeout, context=context)
        self._tls_context, self._name, self._process = context, name, process

    def connect(self) -> None:
        """Connect, through the proxy's tunnel where there is one, then begin TLS."""
        began = time.monotonic()
        HTTPConnection.connect(self)
        relayed = None
        if self._process is not None:
            is_near = time.monotonic() - began < NEAR_SECONDS
            if self._process.wait_until_ready(PATIENCE_SECONDS if is_near else 0):
                relayed = self._process.wrap(self.sock, self._name)
        self.sock = relayed or self._tls_context.wrap_socket(self.sock, server_hostname=self._name)


def tcp_socket(sock: socket.socket) -> socket.socket:
    """Return the socket that stands in the network."""
    return sock.tcp if isinstance(sock, RelayedSocket) else sock


class TlsProcess:
    """At most one such process at a time; used from many threads."""

    def __init__(
        self,
        authorities: Sequence[str],
        *,
        idle_seconds: float = IDLE_SECONDS,
        command: Sequence[str] = (sys.executable, "-I", "-S", "-B", tls_relay.__file__),
    ) -> None:
        """Trust the authorities in these files; nothing is started before it is wanted."""
        self._first_message = json.dumps(
            {"authorities": [str(Path(file).absolute()) for file in authorities], "idle": idle_seconds}
        ).encode()
        self._command = list(command)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._alone = threading.BoundedSemaphore(ALONE)
        self._control: socket.socket | None = None
        self._is_ready = False
        self._pid = 0
        self._started = 0.0
        self._deaths = 0
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The number of the process, while there is one."""
        return self._pid if self._control is not None else None

    @property
    def has_given_up(self) -> bool:
        """Whether none is started any more, since too many have died."""
        return self._deaths >= MOST_DEATHS

    def is_ready(self) -> bool:
        """Say whether connections can be handed over now; if not, see to it that they can be soon."""
        with self._lock:
            if self._control is None:
                if not self._closed and not self.has_given_up:
                    self._start()
                return False
            self._look()
            return self._is_ready

    @contextlib.contextmanager
    def way(self, size: int) -> Iterator[bool]:
        """Say whether the connection for a body of *size* is to be handed over, as long as that takes.

        All large ones are, but for a few while the process starts, which are not kept waiting; many without
        it would contend for Python's lock with each other.
        """
        if size < WORTH_IT:
            yield False
            return
        if self.is_ready() or not self._alone.acquire(blocking=False):
            yield not self.has_given_up
            return
        try:
            yield False
        finally:
            self._alone.release()

    def wait_until_ready(self, patience: float) -> bool:
        """Say whether connections can be handed over, once a process is ready or has had so long to start."""
        with self._changed:
            while self._control is not None:
                self._look()
                if self._is_ready:
                    self._changed.notify_all()
                    return True
                if time.monotonic() >= self._started + patience:
                    break
                self._changed.wait(LOOK_SECONDS)
            return False

    def wrap(self, tcp: socket.socket, host: str) -> RelayedSocket | None:
        """Have TLS with *host* begun on a fresh connection; None where the process did not take it.

        Raises what `SSLContext.wrap_socket` would: ssl.SSLCertVerificationError, ssl.SSLError, OSError.
        """
        timeout = tcp.gettimeout()
        near, far = socket.socketpair()
        with near, far:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PAIR_BYTES)
            far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PAIR_BYTES)
            if not self._hand_over(tcp, far, host):
                return None
            far.close()
            if not self._is_taken(near, TAKE_SECONDS if timeout is None else min(timeout, TAKE_SECONDS)):
                return None
            near.settimeout(timeout)
            _raise_outcome(_line(near))
            relayed = RelayedSocket(near, tcp)
            relayed.settimeout(timeout)
            return relayed

    def _hand_over(self, tcp: socket.socket, far: socket.socket, host: str) -> bool:
        message = json.dumps({"host": host}).encode()
        with self._lock:
            if self._control is None:
                return False
            try:
                socket.send_fds(self._control, [message], [tcp.fileno(), far.fileno()])
            except OSError:  # it has just ended, or does not read
                self._look()
                return False
            return True

    def _is_taken(self, near: socket.socket, patience: float) -> bool:
        """Say whether the process has the connection. Raises TimeoutError where it may get it yet."""
        near.settimeout(patience)
        try:
            return near.recv(1) == tls_relay.TAKEN
        except ConnectionError:
            return False
        except TimeoutError:
            if patience >= STUCK_SECONDS:
                self._give_up("does not answer")
            raise

    def close(self) -> None:
        """End the process with all its connections, and wait for its end; none is started any more."""
        with self._lock:
            self._closed = True
            if self._control is not None:
                self._end()

    # --- its life, with the lock held ---

    def _start(self) -> None:
        control, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with its:
                control.setblocking(False)
                control.send(self._first_message)
                self._pid = _spawn(self._command, its)
        except OSError as exc:
            control.close()
            self._deaths = MOST_DEATHS
            log.warning("TLS stays in this process, for none can be started for it: %s", exc.strerror)
            return
        self._control, self._is_ready, self._started = control, False, time.monotonic()
        log.debug("process %d does TLS", self._pid)

    def _look(self) -> None:
        """Take note of what the process says: that it is ready, or, by its end, that it has ended."""
        assert self._control is not None
        try:
            said = self._control.recv(1)
        except BlockingIOError:
            if not self._is_ready and time.monotonic() - self._started > START_SECONDS:
                self._count_death("does not begin")
            return
        except OSError:
            said = b""
        if said:
            self._is_ready = True
        else:
            self._count_death("ended")

    def _give_up(self, what: str) -> None:
        with self._lock:
            if self._control is not None:
                self._count_death(what)

    def _count_death(self, what: str) -> None:
        """End what is left of the process; a normal end, for want of work, does not count."""
        lived = time.monotonic() - self._started
        status = self._end(patience=END_SECONDS if what == "ended" else 0)
        if status == tls_relay.IDLE_STATUS:
            self._deaths = 0
            return
        self._deaths = 1 if lived > HEALTHY_SECONDS else self._deaths + 1
        rest = "; TLS stays in this process from now on" if self.has_given_up else ""
        log.warning("the process that does TLS %s (status %s)%s", what, status, rest)

    def _end(self, patience: float = END_SECONDS) -> int | None:
        """Close the control socket, reap the process, and return its status; kill it if it does not go."""
        assert self._control is not None
        self._control.close()
        self._control, self._is_ready = None, False
        try:
            _wait_for_end(self._pid, patience)
            _, status = os.waitpid(self._pid, 0)
        except OSError:  # somebody else has reaped it
            return None
        return os.waitstatus_to_exitcode(status)


def _spawn(command: list[str], control: socket.socket) -> int:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    its = fcntl.fcntl(
        control, fcntl.F_DUPFD_CLOEXEC, tls_relay.CONTROL + 1
    )  # dup2 onto itself would do nothing
    try:
        pairs = ((null, 0), (null, 1), (its, tls_relay.CONTROL))
        actions = [(os.POSIX_SPAWN_DUP2, old, new) for old, new in pairs]
        environment = {name: value for name in PASSED_ON if (value := os.environ.get(name))}
        return os.posix_spawn(command[0], command, environment, file_actions=actions, setsigmask=BLOCKED)
    finally:
        os.close(null)
        os.close(its)


def _wait_for_end(pid: int, patience: float) -> None:
    """Wait for a child's end, so long; then kill it."""
    descriptor = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(patience * 1000):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    finally:
        os.close(descriptor)


def _line(sock: socket.socket) -> bytes:
    """Read a line and not a byte more. Raises ConnectionAbortedError where none comes."""
    line = b""
    while not line.endswith(b"\n"):
        more = sock.recv(1)
        if not more:
            raise ConnectionAbortedError("the process that does TLS has ended")
        line += more
    return line


def _raise_outcome(line: bytes) -> None:
    outcome = json.loads(line)
    if not outcome:
        return
    message = outcome["message"]
    if outcome["kind"] == "certificate":
        error = ssl.SSLCertVerificationError(message)
        error.verify_message = message
        raise error
    raise (ssl.SSLError if outcome["kind"] == "tls" else OSError)(outcome["errno"], message)
