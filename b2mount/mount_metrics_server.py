"""Serve the metrics of a mount over HTTP: one answer a connection, and an end to every wait.

A scraper that says nothing, reads nothing or never ends costs a task for some seconds and nothing more. The
facts are gathered in the event loop, where they are whole, and written out in a thread.
"""

import logging
import socket
from collections.abc import Callable
from pathlib import Path

import trio

from b2mount.core.errors import B2MountError
from b2mount.core.listen import Listen

log = logging.getLogger("b2mount.metrics")

PATIENCE_SECONDS = 10.0  # Prometheus' own limit for a scrape, by default
LONGEST_REQUEST = 16384  # bytes
AT_ONCE = 16  # connections; more wait to be accepted
NAMES = ("/metrics", "/")

Gather = Callable[[], Callable[[], bytes]]  # gathers now; what it returns writes, in a thread


class MetricsServer:
    """Answers GET /metrics."""

    def __init__(self, listen: Listen, gather: Gather, content_type: str) -> None:
        self._listen = listen
        self._gather = gather
        self._content_type = content_type
        self._slots = trio.Semaphore(AT_ONCE)
        self._writing = trio.CapacityLimiter(1)

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled. Raises B2MountError where that cannot be done."""
        try:
            bound = _bind(self._listen)
        except OSError as exc:
            raise B2MountError(f"metrics cannot be served on {self._listen}: {exc.strerror}") from None
        server = trio.socket.from_stdlib_socket(bound)
        try:
            server.listen(AT_ONCE)
            self._tell(server)
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    await self._slots.acquire()
                    try:
                        connection, _ = await server.accept()
                    except OSError as exc:  # out of descriptors, or a connection that was gone at once
                        self._slots.release()
                        log.info("a request for metrics was not accepted: %s", exc.strerror)
                        await trio.sleep(0.1)
                        continue
                    nursery.start_soon(self._talk, trio.SocketStream(connection))
        finally:
            server.close()
            self._remove()

    def _remove(self) -> None:
        if self._listen.path is not None:
            Path(self._listen.path).unlink(missing_ok=True)

    def _tell(self, server: trio.socket.SocketType) -> None:
        if self._listen.path is not None:
            log.info("metrics are served on %s", self._listen)
            return
        shown = Listen(self._listen.host, server.getsockname()[1])
        log.info("metrics are served on http://%s/metrics", shown)
        if not self._listen.is_local:
            log.warning("metrics on %s can be read by whoever reaches this machine", shown)

    async def _talk(self, stream: trio.SocketStream) -> None:
        try:
            with trio.move_on_after(PATIENCE_SECONDS):
                async with stream:
                    request = await _read_head(stream)
                    if request is not None:
                        await stream.send_all(await self._answer(request))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # whoever asked has gone
        except Exception:
            log.exception("a request for metrics failed")
        finally:
            self._slots.release()

    async def _answer(self, request: bytes) -> bytes:
        words = request.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _reply("400 Bad Request", b"not an HTTP request\n")
        method, target = words[0], words[1].partition("?")[0]
        if method not in ("GET", "HEAD"):
            return _reply("405 Method Not Allowed", b"GET and HEAD are all\n", extra="Allow: GET, HEAD\r\n")
        if target not in NAMES:
            return _reply("404 Not Found", b"/metrics is all there is\n")
        body = await trio.to_thread.run_sync(self._gather(), limiter=self._writing)
        return _reply("200 OK", body, kind=self._content_type, head_only=method == "HEAD")


def _bind(listen: Listen) -> socket.socket:
    """Return a bound socket. Raises OSError."""
    if listen.path is not None:
        _clear(Path(listen.path))
        return _bound(socket.AF_UNIX, listen.path)
    return _bound(socket.AF_INET6 if ":" in listen.host else socket.AF_INET, (listen.host, listen.port))


def _bound(family: socket.AddressFamily, address: str | tuple[str, int]) -> socket.socket:
    server = socket.socket(family, socket.SOCK_STREAM)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(address)
        if isinstance(address, str):
            Path(address).chmod(0o660)
    except BaseException:
        server.close()
        raise
    return server


def _clear(path: Path) -> None:
    """Remove a socket that a killed mount left; one that somebody serves stays, and is in the way."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()


async def _read_head(stream: trio.SocketStream) -> bytes | None:
    """Return a request up to its empty line; None where none comes."""
    head = b""
    while b"\r\n\r\n" not in head:
        chunk = await stream.receive_some(LONGEST_REQUEST)
        if not chunk or len(head) + len(chunk) > LONGEST_REQUEST:
            return None
        head += chunk
    return head


def _reply(
    status: str,
    body: bytes,
    *,
    kind: str = "text/plain; charset=utf-8",
    extra: str = "",
    head_only: bool = False,
) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        f"{extra}Connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (b"" if head_only else body)
