"""HTTP/1.1 requests over kept-alive connections: bytes out, bytes in, and a `WireFault` when it breaks.

Knows nothing of B2. Every socket operation has a timeout, so that no worker thread can hang for ever.
`http.client` rather than requests or urllib3: it reads straight from the socket into a buffer that is there
already, and costs a fifth of the processor time of a small call. Retries are not made here.
"""

import contextlib
import http.client
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from urllib.parse import SplitResult, urlsplit

from b2mount.core.replies import Fault
from b2mount.store.proxies import Proxy, proxy_for
from b2mount.store.receive import receive
from b2mount.store.sockets import is_quiet, keep_alive, undelivered
from b2mount.store.tls_process import RelayedConnection, RelayedSocket, TlsProcess, tcp_socket
from b2mount.store.trust import authorities, tls_context

BLOCK = 1 << 20  # bytes handed to a socket at once; measured: 16 KiB costs half of the speed
SMALL = 64 * 1024  # bytes of a body that goes out with the headers
PIECE = 256 * 1024  # bytes read from a socket between two looks at the clock
IDLE_SECONDS = 50.0  # a guess, below the usual idle limits of servers and of address translation
CONNECT_SECONDS = 10.0
HEADERS = 2000  # of an answer; each entry of a file's info is one, and 7000 bytes hold hundreds of them

# The library's own limit of 100, which it offers no other way to change, would make such files unreadable.
http.client._MAXHEADERS = HEADERS  # type: ignore[attr-defined]


class WireFault(Exception):
    """No good answer came; `sent` when the whole request had gone out."""

    def __init__(self, fault: Fault, *, sent: bool, detail: str = "") -> None:
        super().__init__(f"{fault.value}: {detail}" if detail else fault.value)
        self.fault = fault
        self.sent = sent
        self.detail = detail


class BadHeader(ValueError):
    """A header or address holds what HTTP cannot carry; nothing was sent."""


class Readable(Protocol):
    """Bytes to send, as `store.Body`."""

    @property
    def size(self) -> int: ...

    def read_at(self, offset: int, size: int) -> bytes | memoryview: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait: for the next byte either way, and in all (a moment of time.monotonic)."""

    stall_seconds: float
    end: float | None = None  # None: as long as bytes move

    def next_wait(self) -> float:
        """Return the timeout for the next socket operation; never below a tenth of a second."""
        if self.end is None:
            return self.stall_seconds
        return max(min(self.stall_seconds, self.end - time.monotonic()), 0.1)

    def is_over(self) -> bool:
        """Say whether the time for the whole request has passed."""
        return self.end is not None and time.monotonic() >= self.end


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `body` is empty where the caller gave a buffer and the status was 2xx."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    filled: int = 0  # bytes put into the caller's buffer
    sent: bool = True  # False: the server answered without having read all of the request


def _ignore(*_: int) -> None:
    return None


def _take(_status: int, _headers: http.client.HTTPMessage) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `into` gets the body of a 2xx answer, whose headers `vet` saw before: True takes a longer
    one's beginning. Both it and `check`, called between pieces, may raise.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: "bytes | Readable | None" = None
    into: memoryview | None = None
    progress: Callable[[int], None] = _ignore
    check: Callable[[], None] = _ignore
    vet: Callable[[int, http.client.HTTPMessage], bool] = _take


class Place(NamedTuple):
    """What a connection can be used again for."""

    scheme: str
    netloc: str
    is_relayed: bool  # another process does its TLS


class Wire:
    """A pool of connections to any number of hosts; used from many threads at once."""

    def __init__(
        self,
        *,
        user_agent: str,
        environment: Mapping[str, str],
        ca_file: str | None = None,
        connect_seconds: float = CONNECT_SECONDS,
        idle_per_host: int = 128,
    ) -> None:
        self._user_agent = user_agent
        self._environment = environment
        self._ca_file = ca_file
        self.process: TlsProcess | None = None  # for TLS of large bodies; made with the context
        self._connect_seconds = connect_seconds
        self._idle_per_host = idle_per_host
        self._lock = threading.Lock()
        self._idle: dict[Place, list[tuple[float, http.client.HTTPConnection]]] = {}
        self._context: ssl.SSLContext | None = None
        self._closed = False
        self._broken_off = False
        self._busy: set[http.client.HTTPConnection] = set()

    def exchange(self, request: Request, limits: Limits) -> Answer:
        """Send *request* and return the answer, whatever its status. Raises WireFault; blocks the thread."""
        url = urlsplit(request.url)
        proxy = proxy_for(url, self._environment)
        with self._tls_way(url, request) as is_relayed:
            return self._exchange_by(url, proxy, request, limits, is_relayed)

    def _exchange_by(
        self, url: SplitResult, proxy: Proxy | None, request: Request, limits: Limits, is_relayed: bool
    ) -> Answer:
        place = Place(url.scheme, url.netloc, is_relayed)
        connection = self._idle_connection(place) or self._connect(url, proxy, limits, is_relayed)
        place = place._replace(is_relayed=isinstance(connection.sock, RelayedSocket))
        response: http.client.HTTPResponse | None = None
        good = False
        try:
            self._note_busy(connection)
            sent = self._send(connection, url, proxy, request, limits)
            if request.into is not None:
                request.progress(0)  # it has gone out
            response = self._begin(connection.sock, request.method, sent, limits)
            answer = self._receive(connection, response, request, limits, sent)
            good = not response.will_close and sent
        finally:
            with self._lock:
                self._busy.discard(connection)
            if good:
                self._put_back(place, connection)
            else:
                if response is not None:
                    response.close()  # or it would hold the socket open
                connection.close()
        return answer

    def close(self) -> None:
        """Close what is idle now, and each other connection when its request is over."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for _, connection in connections:
                connection.close()
        if self.process is not None:
            self.process.close()

    def break_off(self) -> None:
        """End every request under way at once, as if the network had gone, and refuse new ones."""
        with self._lock:
            self._broken_off = True
            busy = list(self._busy)
        for connection in busy:
            with contextlib.suppress(OSError, AttributeError):  # it ended meanwhile
                # Not SSLSocket's own method: it would pull the TLS state from under the thread that reads.
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    def _note_busy(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if self._broken_off:
                raise WireFault(Fault.RESET, sent=False, detail="the program ends")
            self._busy.add(connection)

    # --- connections ------------------------------------------------------------------------------------

    def _tls_way(self, url: SplitResult, request: Request) -> AbstractContextManager[bool]:
        """Say, as long as that lasts, whether TLS is to be another process's matter: for large bodies."""
        if url.scheme != "https" or self.process is None or request.into is None:
            return contextlib.nullcontext(False)
        return self.process.way(len(request.into))

    def _idle_connection(self, place: Place) -> http.client.HTTPConnection | None:
        """Take the connection that was used last, if it still stands."""
        while True:
            with self._lock:
                waiting = self._idle.get(place)
                if not waiting:
                    return None
                since, connection = waiting.pop()
            if (
                time.monotonic() - since < IDLE_SECONDS
                and connection.sock is not None
                and is_quiet(connection.sock)
            ):
                return connection
            connection.close()

    def _put_back(self, place: Place, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            waiting = self._idle.setdefault(place, [])
            if not self._closed and len(waiting) < self._idle_per_host:
                waiting.append((time.monotonic(), connection))
                return
        connection.close()

    def _connect(
        self, url: SplitResult, proxy: Proxy | None, limits: Limits, is_relayed: bool
    ) -> http.client.HTTPConnection:
        wait = min(self._connect_seconds, limits.next_wait())
        host, port = (proxy.host, proxy.port) if proxy else (url.hostname or "", url.port)
        connection: http.client.HTTPConnection
        if url.scheme == "https":
            context, process = self._tls(), self.process if is_relayed else None
            connection = RelayedConnection(
                host, port, timeout=wait, context=context, name=url.hostname or "", process=process
            )
            if proxy is not None:
                connection.set_tunnel(url.hostname or "", url.port or 443, headers=dict(proxy.headers))
        else:
            connection = http.client.HTTPConnection(host, port, timeout=wait)
        try:
            connection.connect()
            keep_alive(tcp_socket(connection.sock))
        except Exception as exc:
            connection.close()
            raise _connect_fault(exc, f"{host}:{connection.port}") from None
        return connection

    def _tls(self) -> ssl.SSLContext:
        with self._lock:
            if self._context is None:
                try:
                    files = authorities(self._ca_file, self._environment)
                    self._context, self.process = tls_context(files), TlsProcess(files)
                except OSError as exc:
                    raise WireFault(Fault.CERTIFICATE, sent=False, detail=str(exc)) from None
            return self._context

    # --- one exchange -----------------------------------------------------------------------------------

    def _send(
        self,
        connection: http.client.HTTPConnection,
        url: SplitResult,
        proxy: Proxy | None,
        request: Request,
        limits: Limits,
    ) -> bool:
        """Send it all; False where the server stopped reading, and may have said why."""
        body = request.body
        is_small = isinstance(body, bytes) and len(body) <= SMALL
        start = _head(url, proxy, request, self._user_agent)
        connection.sock.settimeout(limits.next_wait())
        try:
            connection.sock.sendall(start + body if isinstance(body, bytes) and is_small else start)
        except (BrokenPipeError, ConnectionResetError):
            return False
        except OSError as exc:
            raise _transfer_fault(exc, sent=False) from None
        if body is None:
            return True
        if is_small:
            request.progress(_size(body))
            return True
        return self._send_body(connection.sock, body, request, limits)

    def _send_body(
        self,
        sock: socket.socket,
        body: bytes | Readable,
        request: Request,
        limits: Limits,
    ) -> bool:
        """Send block by block; what the network takes of one counts at once, however slow it is."""
        offset, size = 0, _size(body)
        while offset < size:
            if isinstance(body, bytes):
                block = memoryview(body)
            else:  # its errors are the caller's
                block = memoryview(body.read_at(offset, min(BLOCK, size - offset)))
            if not block:
                raise EOFError(f"the bytes to send end at {offset}, not at {size}")
            offset += len(block)
            while block:
                request.check()
                if limits.is_over():
                    raise WireFault(Fault.TIMEOUT, sent=False)
                sock.settimeout(limits.next_wait())
                try:
                    count = sock.send(block)
                except (BrokenPipeError, ConnectionResetError):
                    return False
                except OSError as exc:
                    raise _transfer_fault(exc, sent=False) from None
                block = block[count:]
                request.progress(count)
        self._wait_for_delivery(sock, request, limits)
        return True

    def _wait_for_delivery(self, sock: socket.socket, request: Request, limits: Limits) -> None:
        """Wait for the answer to begin, as long as the bytes still leave this machine's buffers."""
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        waiting, since = undelivered(sock), time.monotonic()
        while waiting and not poll.poll(200):
            still = undelivered(sock)
            if still < waiting:
                waiting, since = still, time.monotonic()
                request.progress(0)
            elif time.monotonic() - since > limits.stall_seconds or limits.is_over():
                raise WireFault(Fault.TIMEOUT, sent=True)

    def _begin(
        self, sock: socket.socket, method: str, sent: bool, limits: Limits
    ) -> http.client.HTTPResponse:
        sock.settimeout(limits.next_wait())
        response = http.client.HTTPResponse(sock, method=method)
        try:
            response.begin()
            return response
        except (OSError, http.client.HTTPException) as exc:
            response.close()
            raise _transfer_fault(exc, sent=sent) from None

    def _receive(
        self,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
        request: Request,
        limits: Limits,
        sent: bool,
    ) -> Answer:
        if response.length is None and not response.chunked and not _ends_by_close(response, request):
            raise WireFault(Fault.ODD_REPLY, sent=sent, detail="an answer of no known length")
        try:
            if request.into is None or not 200 <= response.status < 300:
                return Answer(response.status, response.headers, response.read(), sent=sent)
            is_part = request.vet(response.status, response.headers)
            filled = self._fill(connection, response, request.into, request, limits, is_part)
        except (OSError, http.client.HTTPException) as exc:
            raise _transfer_fault(exc, sent=True) from None
        return Answer(response.status, response.headers, b"", filled, sent)

    def _fill(
        self,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
        buffer: memoryview,
        request: Request,
        limits: Limits,
        is_part: bool,
    ) -> int:
        """Read the body straight into *buffer*. A body of another length than announced is a fault."""
        announced = response.length
        if announced is not None and announced != len(buffer):
            response.will_close = True  # what is left unread spoils the connection
            if not is_part:
                return announced
        if announced and not isinstance(connection.sock, ssl.SSLSocket):
            return self._fill_plainly(connection.sock, response, buffer, request, limits)
        filled = 0
        while filled < len(buffer):
            request.check()
            if limits.is_over():
                raise WireFault(Fault.TIMEOUT, sent=True)
            connection.sock.settimeout(limits.next_wait())
            count = response.readinto(buffer[filled : filled + PIECE])
            if count == 0:
                raise WireFault(Fault.TRUNCATED, sent=True, detail=f"{filled} of {len(buffer)} bytes came")
            filled += count
            request.progress(count)
        is_unannounced = not is_part and not response.isclosed()
        if is_unannounced and response.read(1):  # more than there is room for
            return filled + 1
        return filled

    def _fill_plainly(
        self,
        sock: socket.socket,
        response: http.client.HTTPResponse,
        buffer: memoryview,
        request: Request,
        limits: Limits,
    ) -> int:
        """Read a body of the length of *buffer* past the library, but for what came with the headers."""

        def look() -> None:
            request.check()
            if limits.is_over():
                raise WireFault(Fault.TIMEOUT, sent=True)

        look()
        sock.settimeout(limits.next_wait())
        filled = response.readinto(buffer[: len(response.fp.peek())])
        request.progress(filled)
        filled = receive(
            sock, buffer, filled, stall_seconds=limits.stall_seconds, look=look, progress=request.progress
        )
        response.close()  # nothing of it is left in the library's hands
        if filled < len(buffer):
            raise WireFault(Fault.TRUNCATED, sent=True, detail=f"{filled} of {len(buffer)} bytes came")
        return filled


def _head(url: SplitResult, proxy: Proxy | None, request: Request, user_agent: str) -> bytes:
    """Return the request line and headers. Raises BadHeader."""
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    headers = {"Host": url.netloc, "User-Agent": user_agent, "Accept-Encoding": "identity", **request.headers}
    if proxy is not None and url.scheme == "http":
        target = f"http://{url.netloc}{target}"
        headers.update(proxy.headers)
    if request.body is not None:
        headers["Content-Length"] = str(_size(request.body))
    lines = [f"{request.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    for line in lines:
        if not line.isascii() or not line.isprintable():
            raise BadHeader(
                f"HTTP cannot carry {line.partition(':')[0]!r}: it holds other than printable ASCII"
            )
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _ends_by_close(response: http.client.HTTPResponse, request: Request) -> bool:
    """Say whether the end of the connection may be that of the body, as the server announced.

    A download that breaks off there would pass for a shorter one; half of a JSON text is none.
    """
    said = response.headers.get("Connection", "").lower()
    return request.into is None and "close" in said


def _size(body: bytes | Readable) -> int:
    return len(body) if isinstance(body, bytes) else body.size


def _connect_fault(exc: Exception, where: str) -> WireFault:
    if isinstance(exc, WireFault):
        return exc
    if isinstance(exc, socket.gaierror):
        return WireFault(Fault.DNS, sent=False, detail=f"{where}: {exc.strerror}")
    if isinstance(exc, ssl.SSLCertVerificationError):
        return WireFault(Fault.CERTIFICATE, sent=False, detail=f"{where}: {exc.verify_message}")
    if isinstance(exc, TimeoutError):
        return WireFault(Fault.TIMEOUT, sent=False, detail=f"connecting to {where}")
    if isinstance(exc, OSError):
        return WireFault(Fault.CONNECT, sent=False, detail=f"{where}: {exc.strerror or exc}")
    if isinstance(exc, http.client.HTTPException):
        return WireFault(Fault.CONNECT, sent=False, detail=f"{where}: {exc!r}")
    raise exc


def _transfer_fault(exc: Exception, *, sent: bool) -> WireFault:
    if isinstance(exc, TimeoutError):
        return WireFault(Fault.TIMEOUT, sent=sent)
    if isinstance(exc, http.client.IncompleteRead):
        return WireFault(Fault.TRUNCATED, sent=sent, detail=f"{len(exc.partial)} bytes came")
    if isinstance(exc, http.client.RemoteDisconnected):
        return WireFault(Fault.RESET, sent=sent, detail="closed without an answer")
    if isinstance(exc, http.client.InvalidURL):
        raise exc
    if isinstance(exc, OSError):
        return WireFault(Fault.RESET, sent=sent, detail=exc.strerror or type(exc).__name__)
    return WireFault(Fault.ODD_REPLY, sent=sent, detail=type(exc).__name__)
