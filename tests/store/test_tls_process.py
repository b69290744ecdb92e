"""The process that does TLS: what comes through it, what it says of servers, and how it begins and ends."""

import contextlib
import http.client
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from b2mount.store import tls_process, tls_relay
from b2mount.store.tls_process import RelayedConnection, RelayedSocket, TlsProcess, tcp_socket
from b2mount.store.wire import Limits, Request, Wire
from tests.support.children import children_of, is_running, wait_until
from tests.support.emulator import Emulator

MIB = 1 << 20
PATIENT = Limits(stall_seconds=60.0)


@pytest.fixture
def process(certificate: tuple[Path, Path]) -> Iterator[TlsProcess]:
    made = ready(TlsProcess([str(certificate[0])]))
    yield made
    made.close()


def ready(process: TlsProcess) -> TlsProcess:
    wait_until(process.is_ready, "the process takes connections")
    return process


def pid_of(process: TlsProcess) -> int:
    assert process.pid is not None
    return process.pid


def connected(emulator: Emulator, host: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection((host, int(emulator.url.rsplit(":", 1)[1])), timeout=60)


def relayed(process: TlsProcess, emulator: Emulator) -> RelayedSocket:
    sock = process.wrap(connected(emulator), "127.0.0.1")
    assert sock is not None
    return sock


class OneClient:
    """A TLS server that hands its one connection to the test."""

    def __init__(self, certificate: tuple[Path, Path]) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        accepted, _ = self._listener.accept()
        accepted.settimeout(60)
        self._socket = self._context.wrap_socket(accepted, server_side=True)

    def connect(self, process: TlsProcess) -> tuple[ssl.SSLSocket, RelayedSocket]:
        """Return the server's and the client's end."""
        tcp = socket.create_connection(self._listener.getsockname(), timeout=60)
        ours = process.wrap(tcp, "localhost")
        assert ours is not None
        self._thread.join(60)
        self._listener.close()
        return self._socket, ours


# --- what comes through ---


def test_bytes_go_both_ways_in_any_amount(process: TlsProcess, certificate: tuple[Path, Path]) -> None:
    server, client = OneClient(certificate).connect(process)
    data = os.urandom(7 * MIB + 13)
    with server, client, ThreadPoolExecutor(1) as other:
        for sender, receiver in ((server, client), (client, server), (server, client)):
            sending = other.submit(sender.sendall, data)
            received = bytearray()
            while len(received) < len(data):
                received += receiver.recv(MIB)
            assert received == data
            sending.result()


def test_the_end_of_either_side_is_the_end_of_the_other(
    process: TlsProcess, certificate: tuple[Path, Path]
) -> None:
    server, client = OneClient(certificate).connect(process)
    server.sendall(b"last")
    server.close()
    assert client.recv(100) == b"last"
    assert client.recv(100) == b""
    client.close()
    server, client = OneClient(certificate).connect(process)
    client.close()
    with server, contextlib.suppress(OSError):  # a break, for nothing was said before
        assert server.recv(100) == b""


def test_closing_one_that_is_not_read_stops_the_server_at_once(
    process: TlsProcess, certificate: tuple[Path, Path]
) -> None:
    server, client = OneClient(certificate).connect(process)
    with ThreadPoolExecutor(1) as other, server:
        sending = other.submit(server.sendall, bytes(64 * MIB))  # more than all buffers hold
        assert client.recv(100)
        client.close()
        assert isinstance(sending.exception(60), OSError)


def test_requests_for_large_ranges_go_through_it_and_small_ones_do_not(
    tls_emulator: Emulator, certificate: tuple[Path, Path]
) -> None:
    bucket, data = f"b-{os.urandom(8).hex()}", os.urandom(24 * MIB)
    tls_emulator.create_bucket(bucket)
    tls_emulator.upload(bucket, "f", data)
    wire = Wire(user_agent="x", environment={}, ca_file=str(certificate[0]))
    url, headers = f"{tls_emulator.url}/file/{bucket}/f", {"Authorization": tls_emulator.master_token()}

    def fetch(start: int, size: int) -> bytes:
        buffer = memoryview(bytearray(size))
        ranged = {**headers, "Range": f"bytes={start}-{start + size - 1}"}
        answer = wire.exchange(Request("GET", url, ranged, into=buffer), PATIENT)
        assert (answer.status, answer.filled) == (206, size)
        return bytes(buffer)

    try:
        assert fetch(5, 1000) == data[5:1005]
        assert wire.process is not None
        assert wire.process.pid is None
        assert fetch(0, 2 * MIB) == data[: 2 * MIB]  # in this process, while the other one starts
        child = pid_of(ready(wire.process))
        with ThreadPoolExecutor(12) as threads:
            parts = threads.map(lambda number: fetch(number * MIB, MIB), range(24))
            assert b"".join(parts) == data
        assert wire.process.pid == child
        os.kill(child, signal.SIGKILL)
        wait_until(lambda: not is_running(child), "it has died")
        assert fetch(MIB, 3 * MIB) == data[MIB : 4 * MIB]
    finally:
        wire.close()
        tls_emulator.wipe(bucket)


# --- what it says of servers ---


def in_process(files: Path | None, tcp: socket.socket, host: str) -> ssl.SSLError:
    context = ssl.create_default_context(cafile=files)
    with pytest.raises(ssl.SSLError) as caught, tcp:
        context.wrap_socket(tcp, server_hostname=host)
    return caught.value


def refusal(process: TlsProcess, tcp: socket.socket, host: str) -> ssl.SSLError:
    """Return what the process finds wrong with a server."""
    with tcp, pytest.raises(ssl.SSLError) as caught:
        process.wrap(tcp, host)
    return caught.value


def demand_same_certificate_error(expected: ssl.SSLError, found: ssl.SSLError) -> None:
    """Demand that both say the same of a certificate."""
    assert isinstance(expected, ssl.SSLCertVerificationError)
    assert isinstance(found, ssl.SSLCertVerificationError)
    assert found.verify_message == expected.verify_message


def test_a_certificate_of_nobody_known_is_refused_in_the_same_words(tls_emulator: Emulator) -> None:
    import certifi

    expected = in_process(Path(certifi.where()), connected(tls_emulator), "127.0.0.1")
    process = ready(TlsProcess([certifi.where()]))
    with contextlib.closing(process):
        demand_same_certificate_error(expected, refusal(process, connected(tls_emulator), "127.0.0.1"))


def test_a_certificate_for_another_host_is_refused_in_the_same_words(
    process: TlsProcess, tls_emulator: Emulator, certificate: tuple[Path, Path]
) -> None:
    expected = in_process(certificate[0], connected(tls_emulator), "example.org")
    demand_same_certificate_error(expected, refusal(process, connected(tls_emulator), "example.org"))


def test_a_server_that_does_not_speak_tls_is_told_in_the_same_words(
    process: TlsProcess, emulator: Emulator, certificate: tuple[Path, Path]
) -> None:
    expected = in_process(certificate[0], connected(emulator), "127.0.0.1")
    assert refusal(process, connected(emulator), "127.0.0.1").strerror == expected.strerror


def test_a_server_that_says_nothing_is_given_up_in_time(process: TlsProcess) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        socket.create_connection(silent.getsockname(), timeout=0.2) as tcp,
        pytest.raises(TimeoutError),
    ):
        process.wrap(tcp, "127.0.0.1")
    assert process.is_ready()


# --- how it begins and ends ---


def test_it_holds_its_connections_alone_and_is_told_no_secret(
    process: TlsProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("B2_APPLICATION_KEY", "K001verysecret")
    process.close()
    with Path("/dev/null").open() as inherited:
        os.set_inheritable(inherited.fileno(), True)
        mine = ready(TlsProcess([os.environ.get("SSL_CERT_FILE") or _certifi()]))
        with contextlib.closing(mine):
            home = Path(f"/proc/{pid_of(mine)}")
            assert b"verysecret" not in (home / "environ").read_bytes() + (home / "cmdline").read_bytes()
            open_ones = {int(file.name): os.readlink(file) for file in (home / "fd").iterdir()}
            assert open_ones[0] == open_ones[1] == "/dev/null"
            rest = sorted(name.partition(":")[0] for number, name in open_ones.items() if number > 2)
            assert rest == ["anon_inode", "socket"]  # epoll, and the control socket


def _certifi() -> str:
    import certifi

    return certifi.where()


def test_signals_to_the_group_leave_it_alone_and_closing_reaps_it(
    process: TlsProcess, tls_emulator: Emulator
) -> None:
    child = pid_of(process)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(child, number)
    relayed(process, tls_emulator).close()
    assert process.pid == child
    process.close()
    assert child not in children_of(os.getpid())
    assert process.pid is None
    assert not process.is_ready()


def test_its_end_breaks_its_connections_and_another_is_started(
    process: TlsProcess, tls_emulator: Emulator
) -> None:
    child, sock = pid_of(process), relayed(process, tls_emulator)
    os.kill(child, signal.SIGKILL)
    with sock:
        assert sock.recv(100) == b""
    wait_until(lambda: not process.is_ready() and process.pid != child, "the end is noticed")
    ready(process)
    relayed(process, tls_emulator).close()
    assert child not in children_of(os.getpid())


def test_one_that_does_not_answer_is_ended_and_another_is_started(
    process: TlsProcess, tls_emulator: Emulator
) -> None:
    child = pid_of(process)
    os.kill(child, signal.SIGSTOP)
    with connected(tls_emulator) as tcp, pytest.raises(TimeoutError):
        tcp.settimeout(2)
        process.wrap(tcp, "127.0.0.1")
    assert not is_running(child)
    ready(process)
    relayed(process, tls_emulator).close()


def test_one_that_has_died_takes_nothing_and_leaves_the_connection_as_it_was(
    process: TlsProcess, tls_emulator: Emulator, certificate: tuple[Path, Path]
) -> None:
    os.kill(pid_of(process), signal.SIGKILL)
    wait_until(lambda: not is_running(pid_of(process)), "it has died")
    tcp = connected(tls_emulator)
    assert process.wrap(tcp, "127.0.0.1") is None
    context = ssl.create_default_context(cafile=certificate[0])
    with context.wrap_socket(tcp, server_hostname="127.0.0.1") as tls:
        assert tls.version() is not None
        assert tcp_socket(tls) is tls


def test_without_work_it_ends_and_comes_again_any_number_of_times(
    certificate: tuple[Path, Path], tls_emulator: Emulator
) -> None:
    process = TlsProcess([str(certificate[0])], idle_seconds=0.3)
    with contextlib.closing(process):
        for _ in range(4):
            child = pid_of(ready(process))
            sock = process.wrap(connected(tls_emulator), "127.0.0.1")
            if sock is None:  # a slow machine: it had nothing to do for so long
                continue
            connection = http.client.HTTPConnection("x")
            connection.sock = sock
            connection.request("GET", "/")
            assert connection.getresponse().read()
            wait_until(lambda gone=child: not is_running(gone), "it ends")  # type: ignore[misc]  # bound at once
            connection.close()
            wait_until(lambda: not process.is_ready(), "the end is noticed")


def test_three_deaths_in_a_row_are_enough(certificate: tuple[Path, Path]) -> None:
    process = TlsProcess([str(certificate[0])], command=[sys.executable, "-c", "raise SystemExit(3)"])
    with contextlib.closing(process):

        def has_none() -> bool:
            assert not process.is_ready()
            return process.pid is None and process.has_given_up

        wait_until(has_none, "it is not started any more")
        assert not process.is_ready()
        assert process.pid is None


def test_what_cannot_be_started_is_not_missed(
    tls_emulator: Emulator, certificate: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    process = TlsProcess([str(certificate[0])], command=["/nonexistent/python"])
    assert not process.is_ready()
    assert process.has_given_up
    assert "TLS stays in this process" in caplog.text
    with connected(tls_emulator) as tcp:
        assert process.wrap(tcp, "127.0.0.1") is None


# --- while it starts ---


@pytest.fixture
def held_back(certificate: tuple[Path, Path], tmp_path: Path) -> Iterator[tuple[TlsProcess, Path]]:
    """A process that starts once somebody writes to a pipe."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    script = f'read go < "{gate}"; exec "$@"'
    command = ["/bin/sh", "-c", script, "sh", sys.executable, "-I", "-S", "-B", tls_relay.__file__]
    process = TlsProcess([str(certificate[0])], command=command)
    assert not process.is_ready()
    yield process, gate
    process.close()


def connecting(process: TlsProcess, emulator: Emulator, certificate: tuple[Path, Path]) -> RelayedConnection:
    context = ssl.create_default_context(cafile=certificate[0])
    port = int(emulator.url.rsplit(":", 1)[1])
    return RelayedConnection(
        "127.0.0.1", port, timeout=60, context=context, name="127.0.0.1", process=process
    )


def test_while_it_starts_a_few_go_without_it_and_the_others_by_way_of_it(
    held_back: tuple[TlsProcess, Path],
) -> None:
    process, gate = held_back
    with process.way(MIB) as first, process.way(MIB) as second, process.way(MIB) as third:
        assert (first, second, third) == (False, False, True)
        with process.way(MIB - 1) as small:
            assert not small
    with process.way(MIB) as again:
        assert not again
        gate.write_text("go\n")
        ready(process)
        with process.way(MIB) as late:
            assert late


def test_a_connection_to_a_near_server_waits_for_it(
    held_back: tuple[TlsProcess, Path],
    tls_emulator: Emulator,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tls_process, "NEAR_SECONDS", 60.0)
    monkeypatch.setattr(tls_process, "PATIENCE_SECONDS", 60.0)
    process, gate = held_back
    connections = [connecting(process, tls_emulator, certificate) for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(connection.connect) for connection in connections]
        gate.write_text("go\n")
        for one in waiting:
            one.result(60)
    for connection in connections:
        assert isinstance(connection.sock, RelayedSocket)
        connection.request("GET", "/")
        assert connection.getresponse().read()
        connection.close()


@pytest.mark.parametrize(("near", "patience"), [(0.0, 60.0), (60.0, 0.0)])
def test_a_connection_to_a_far_server_does_not_wait_nor_one_that_has_waited(
    held_back: tuple[TlsProcess, Path],
    tls_emulator: Emulator,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    near: float,
    patience: float,
) -> None:
    monkeypatch.setattr(tls_process, "NEAR_SECONDS", near)
    monkeypatch.setattr(tls_process, "PATIENCE_SECONDS", patience)
    process, _ = held_back
    connection = connecting(process, tls_emulator, certificate)
    connection.connect()
    assert isinstance(connection.sock, ssl.SSLSocket)
    connection.request("GET", "/")
    assert connection.getresponse().read()
    connection.close()
