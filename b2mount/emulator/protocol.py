"""The HTTP protocol: uvicorn's, with the transport in reach of the application, header and body in one write,
and JSON for malformed requests.
"""

from __future__ import annotations

import asyncio
import json
from email.utils import formatdate
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class JoiningTransport:
    """A transport that can send two writes as one.

    uvicorn writes a reply's header and body apart, each its own system call and segment; the first wakes the
    client for nothing. All else goes to the real transport as it is.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._waits = False
        self._kept: bytes | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def join_next_two(self) -> None:
        """Keep the next write until the one after it, which has to come without waiting for the client."""
        self._waits = True

    def write(self, data: bytes) -> None:
        """Send *data*, or keep it as `join_next_two` says."""
        if self._waits:
            self._waits, self._kept = False, data
        elif self._kept is not None:
            kept, self._kept = self._kept, None
            self._transport.writelines([kept, data])
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Send what is kept, then close."""
        if self._kept is not None:
            kept, self._kept = self._kept, None
            self._transport.write(kept)
        self._transport.close()


class EmulatorProtocol(HttpToolsProtocol):
    """Puts the connection's transport into the scope, so that the application joins writes and cuts lines."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Start a connection."""
        super().connection_made(JoiningTransport(transport))  # type: ignore[arg-type]  # all that is used is there

    def on_message_begin(self) -> None:
        """Start a request; its reply is dated now, not when uvicorn last had time to look at the clock."""
        super().on_message_begin()
        self.server_state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]  # a TypedDict without our key
        scope["b2mount.transport"] = self.transport

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, in the form of all refusals."""
        body = json.dumps({"status": 400, "code": "bad_request", "message": msg}).encode()
        head = b"".join(b"%s: %s\r\n" % header for header in self.server_state.default_headers)
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\n"
            + head
            + b"content-type: application/json;charset=UTF-8\r\n"
            + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            + body
        )
        self.transport.close()
