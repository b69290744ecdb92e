"""The wire: connections kept and dropped, TLS, proxies, and servers that misbehave on a raw socket."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from b2mount.core.replies import Fault
from b2mount.store.proxies import proxy_for
from b2mount.store.wire import Answer, Limits, Request, Wire, WireFault
from tests.contract.worlds import Bytes
from tests.store.conftest import Shop
from tests.support.emulator import Emulator

PATIENT = Limits(stall_seconds=60.0)


class Script:
    """A server that answers each connection with what it is told, byte for byte."""

    def __init__(self, *answers: Callable[[socket.socket], None]) -> None:
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.first_closed = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        for answer in self._answers:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection, contextlib.suppress(OSError):
                answer(connection)
            self.first_closed.set()

    def __enter__(self) -> "Script":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/x"


def head_of(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            break
        data += more
    return data


def says(*texts: bytes, stays: bool = False) -> Callable[[socket.socket], None]:
    """Answer each request on the connection with the next text, then close, or first let the other side."""

    def answer(connection: socket.socket) -> None:
        for text in texts:
            if not head_of(connection):
                return
            connection.sendall(text)
        if stays:
            connection.settimeout(120)
            while connection.recv(65536):
                pass

    return answer


def ok(body: bytes, *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire(user_agent="b2mount/test", environment={})
    yield wire
    wire.close()


def get(wire: Wire, url: str, into: memoryview | None = None, limits: Limits = PATIENT) -> Answer:
    return wire.exchange(Request("GET", url, {}, into=into), limits)


def fault_of(wire: Wire, url: str, into: memoryview | None = None, limits: Limits = PATIENT) -> Fault:
    with pytest.raises(WireFault) as caught:
        get(wire, url, into, limits)
    return caught.value.fault


# --- connections ------------------------------------------------------------------------------------------


def test_one_connection_carries_many_requests(wire: Wire) -> None:
    with Script(says(ok(b"1"), ok(b"2"), ok(b"3"))) as server:
        assert [get(wire, server.url).body for _ in range(3)] == [b"1", b"2", b"3"]
        assert server.connections == 1


def test_an_answer_may_have_hundreds_of_headers(wire: Wire) -> None:
    """As that of a file with much file info: each entry is a header."""
    with Script(says(ok(b"1", *(b"X-Bz-Info-%d: v" % number for number in range(470))))) as server:
        assert get(wire, server.url).headers["x-bz-info-469"] == "v"


def test_a_connection_that_the_server_closed_meanwhile_is_not_used(wire: Wire) -> None:
    with Script(says(ok(b"1")), says(ok(b"2"))) as server:
        assert get(wire, server.url).body == b"1"
        assert server.first_closed.wait(60)
        assert get(wire, server.url).body == b"2"


def test_a_connection_that_the_server_is_to_close_is_not_kept(wire: Wire) -> None:
    with Script(says(ok(b"1", b"Connection: close"), stays=True), says(ok(b"2"))) as server:
        assert get(wire, server.url).body == b"1"
        assert get(wire, server.url).body == b"2"


def test_a_buffer_is_filled_and_the_connection_serves_on(wire: Wire) -> None:
    data = os.urandom(3_000_000)
    with Script(says(ok(data), ok(b"next"))) as server:
        buffer = bytearray(len(data))
        assert get(wire, server.url, memoryview(buffer)).filled == len(data)
        assert buffer == data
        assert get(wire, server.url).body == b"next"


def test_an_error_does_not_go_into_the_buffer(wire: Wire) -> None:
    with Script(says(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone")) as server:
        answer = get(wire, server.url, memoryview(bytearray(10)))
        assert (answer.status, answer.body, answer.filled) == (404, b"gone", 0)


@pytest.mark.parametrize("size", [3, 5])
def test_a_body_of_another_length_is_told_and_not_read(wire: Wire, size: int) -> None:
    with Script(says(ok(b"x" * size)), says(ok(b"next"))) as server:
        assert get(wire, server.url, memoryview(bytearray(4))).filled == size
        assert get(wire, server.url).body == b"next"


# --- servers that misbehave -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (says(b""), Fault.RESET),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345"), Fault.TRUNCATED),
        (says(b"HTTP/1.1 200 OK\r\nConte"), Fault.ODD_REPLY),
        (says(b"HTTP/1.1 200 OK\r\n\r\n{}"), Fault.ODD_REPLY),
        (says(b"SSH-2.0-OpenSSH_9.2\r\n"), Fault.ODD_REPLY),
        (says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n123"), Fault.TRUNCATED),
    ],
)
def test_what_is_no_whole_answer_is_a_fault(
    wire: Wire, answer: Callable[[socket.socket], None], fault: Fault
) -> None:
    with Script(answer) as server:
        assert fault_of(wire, server.url) is fault


def test_a_body_may_end_with_its_connection_where_that_is_announced(wire: Wire) -> None:
    with Script(says(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}"), says(ok(b"next"))) as server:
        assert get(wire, server.url).body == b"{}"
        assert get(wire, server.url).body == b"next"


def test_a_download_may_not_end_with_its_connection(wire: Wire) -> None:
    with Script(says(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcd")) as server:
        assert fault_of(wire, server.url, memoryview(bytearray(4))) is Fault.ODD_REPLY


def test_a_download_cut_short_is_a_fault(wire: Wire) -> None:
    with Script(says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")) as server:
        assert fault_of(wire, server.url, memoryview(bytearray(10))) is Fault.TRUNCATED


def test_silence_is_a_fault_after_the_time_for_it(wire: Wire) -> None:
    with Script(says(b"", stays=True)) as server:
        assert fault_of(wire, server.url, limits=Limits(0.2)) is Fault.TIMEOUT


def test_silence_in_the_middle_of_a_body_is_a_fault(wire: Wire) -> None:
    with Script(says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345", stays=True)) as server:
        assert fault_of(wire, server.url, memoryview(bytearray(10)), Limits(0.2)) is Fault.TIMEOUT


def test_a_body_that_trickles_ends_with_the_time_for_all_of_it(wire: Wire) -> None:
    def trickle(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            connection.sendall(b"x" * 300_000)
            time.sleep(0.02)

    with Script(trickle) as server:
        limits = Limits(60.0, time.monotonic() + 0.3)
        assert fault_of(wire, server.url, memoryview(bytearray(100_000_000)), limits) is Fault.TIMEOUT


def test_nobody_at_the_port_is_a_fault_of_the_connection(wire: Wire) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # so that no other test listens there meanwhile
        assert fault_of(wire, f"http://127.0.0.1:{deaf.getsockname()[1]}/") is Fault.CONNECT


def test_a_host_that_nobody_knows_is_a_fault_of_names(wire: Wire) -> None:
    assert fault_of(wire, "http://no-such-host.invalid/") is Fault.DNS


def test_a_server_that_answers_before_it_has_read_all_is_heard(wire: Wire) -> None:
    def refuse(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 20):
            time.sleep(0.001)

    with Script(refuse) as server:
        request = Request("POST", server.url, {}, Bytes(b"x" * 8_000_000))
        assert wire.exchange(request, PATIENT).status == 503


def test_a_request_that_did_not_go_out_whole_is_told_as_such(wire: Wire) -> None:
    def slam(connection: socket.socket) -> None:
        head_of(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    with Script(slam) as server:
        request = Request("POST", server.url, {}, Bytes(b"x" * 50_000_000))
        with pytest.raises(WireFault) as caught:
            wire.exchange(request, PATIENT)
        assert (caught.value.fault, caught.value.sent) == (Fault.RESET, False)


def test_a_check_that_raises_ends_the_request(wire: Wire) -> None:
    class Enough(Exception):
        pass

    def check() -> None:
        raise Enough

    with Script(says(ok(b"x" * 1000))) as server:
        into = memoryview(bytearray(1000))
        with pytest.raises(Enough):
            wire.exchange(Request("GET", server.url, {}, into=into, check=check), PATIENT)


# --- TLS --------------------------------------------------------------------------------------------------


async def test_a_server_with_a_certificate_of_its_own_is_trusted_by_its_ca_file(
    tls_emulator: Emulator, certificate: tuple[Path, Path]
) -> None:
    shop = Shop(tls_emulator)
    store = shop.plain(ca_file=str(certificate[0]), environment={})
    bucket = await store.create_bucket("bucket-behind-tls")
    data = os.urandom(3_000_000)
    row = await store.upload(bucket.bucket_id, "f", Bytes(data), content_type="text/plain", info={})
    assert await store.read_range(row.file_id, 0, len(data)) == data
    await shop.aclose()


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
async def test_the_environment_names_the_authorities_too(
    tls_emulator: Emulator, certificate: tuple[Path, Path], variable: str
) -> None:
    shop = Shop(tls_emulator)
    await shop.plain(environment={variable: str(certificate[0])}).authorize()
    await shop.aclose()


def test_a_certificate_of_nobody_known_is_refused(tls_emulator: Emulator, wire: Wire) -> None:
    assert fault_of(wire, tls_emulator.url) is Fault.CERTIFICATE


def test_a_certificate_for_another_host_is_refused(
    tls_emulator: Emulator, certificate: tuple[Path, Path]
) -> None:
    wire = Wire(user_agent="x", environment={}, ca_file=str(certificate[0]))
    assert fault_of(wire, tls_emulator.url.replace("127.0.0.1", "127.0.0.2")) in (
        Fault.CERTIFICATE,
        Fault.CONNECT,
    )


def test_a_ca_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    wire = Wire(user_agent="x", environment={}, ca_file=str(tmp_path / "none.pem"))
    assert fault_of(wire, "https://127.0.0.1:1/") is Fault.CERTIFICATE


def test_plain_http_on_a_tls_port_is_a_fault(tls_emulator: Emulator, wire: Wire) -> None:
    with pytest.raises(WireFault):
        get(wire, tls_emulator.url.replace("https://", "http://"))


# --- proxies ----------------------------------------------------------------------------------------------


def proxied(url: str, environment: dict[str, str]) -> str | None:
    proxy = proxy_for(urlsplit(url), environment)
    return None if proxy is None else f"{proxy.host}:{proxy.port}"


@pytest.mark.parametrize(
    ("url", "environment", "wanted"),
    [
        ("https://api.example/", {}, None),
        ("https://api.example/", {"https_proxy": "http://p:3128"}, "p:3128"),
        ("https://api.example/", {"HTTPS_PROXY": "p:3128"}, "p:3128"),
        ("https://api.example/", {"http_proxy": "http://p:3128"}, None),
        ("http://api.example/", {"http_proxy": "http://p"}, "p:8080"),
        ("https://api.example/", {"all_proxy": "http://p:1"}, "p:1"),
        ("https://api.example/", {"https_proxy": "http://p:1", "no_proxy": "example"}, None),
        ("https://api.example/", {"https_proxy": "http://p:1", "no_proxy": ".example, other"}, None),
        ("https://api.example/", {"https_proxy": "http://p:1", "no_proxy": "ample"}, "p:1"),
        ("https://api.example/", {"https_proxy": "http://p:1", "NO_PROXY": "*"}, None),
        ("http://127.0.0.1:80/", {"http_proxy": "http://p:1"}, None),
        ("http://localhost/", {"http_proxy": "http://p:1"}, None),
    ],
)
def test_the_environment_says_which_proxy(url: str, environment: dict[str, str], wanted: str | None) -> None:
    assert proxied(url, environment) == wanted


def test_a_plain_request_goes_through_the_proxy_with_its_whole_address() -> None:
    heads: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        heads.append(head_of(connection))
        connection.sendall(ok(b"through"))

    with Script(answer) as server:
        environment = {"http_proxy": f"http://us%65r:pass@127.0.0.1:{server.port}"}
        wire = Wire(user_agent="b2mount/test", environment=environment)
        assert get(wire, "http://b2.example:8080/path?q=1").body == b"through"
        wire.close()
    (head,) = heads
    assert head.startswith(b"GET http://b2.example:8080/path?q=1 HTTP/1.1\r\nHost: b2.example:8080\r\n")
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNz\r\n" in head
    assert b"User-Agent: b2mount/test\r\n" in head


def test_tls_goes_through_the_proxy_in_a_tunnel(
    tls_emulator: Emulator, certificate: tuple[Path, Path]
) -> None:
    heads: list[bytes] = []
    port = int(tls_emulator.url.rsplit(":", 1)[1])

    def tunnel(connection: socket.socket) -> None:
        heads.append(head_of(connection))
        with socket.create_connection(("127.0.0.1", port)) as target:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(target, connection))
            back.start()
            pump(connection, target)
            back.join()

    with Script(tunnel) as server:
        environment = {"https_proxy": f"http://127.0.0.1:{server.port}"}
        wire = Wire(user_agent="x", environment=environment, ca_file=str(certificate[0]))
        fault_or_status = status_or_fault(wire, f"https://proxied.invalid:{port}/_control/health")
        wire.close()
    assert heads[0].startswith(b"CONNECT proxied.invalid:%d HTTP/1." % port)
    assert fault_or_status is Fault.CERTIFICATE, "it is checked for the host behind the proxy"


def status_or_fault(wire: Wire, url: str) -> int | Fault:
    try:
        return get(wire, url).status
    except WireFault as fault:
        return fault.fault


def pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def test_breaking_off_ends_a_request_that_hangs_and_refuses_the_next(tmp_path: Path) -> None:
    wire = Wire(user_agent="test", environment={})
    arrived, over = threading.Event(), threading.Event()

    def hang(connection: socket.socket) -> None:
        head_of(connection)
        arrived.set()
        over.wait(60)

    def ask() -> WireFault:
        with pytest.raises(WireFault) as caught:
            wire.exchange(Request("GET", server.url, {}), Limits(stall_seconds=600.0))
        return caught.value

    with Script(hang) as server:
        failed: list[WireFault] = []
        thread = threading.Thread(target=lambda: failed.append(ask()))
        thread.start()
        assert arrived.wait(60)
        wire.break_off()
        thread.join(60)
        over.set()
        assert [fault.fault for fault in failed] == [Fault.RESET]
        assert ask().sent is False
    wire.close()
