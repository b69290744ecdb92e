"""The HTTP protocol: uvicorn's, with the transport in reach of the application and JSON for malformed
requests.
"""

from __future__ import annotations

import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class EmulatorProtocol(HttpToolsProtocol):
    """Puts the connection's transport into the scope, so that a fault can cut it."""

    def on_message_begin(self) -> None:
        """Start a request."""
        super().on_message_begin()
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
