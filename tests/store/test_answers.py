"""Answers and IDs of shapes that the emulator does not make, from a server that says what it is told."""

import json
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from b2mount.core.credentials import make_credentials
from b2mount.store.b2 import B2Store

ODD_ID = "4_z12_f1+2/3=4&5%41#6?7 8"
DATA = b"the content"


def row(name: str) -> dict[str, Any]:
    return {
        "action": "upload",
        "fileName": name,
        "fileId": ODD_ID,
        "contentLength": len(DATA),
        "contentSha1": None,
        "contentType": None,
        "fileInfo": None,
        "uploadTimestamp": 1,
    }


class AnyAccount(BaseHTTPRequestHandler):
    """B2 as far as these tests go: authorizes anybody, lists two odd rows, and knows one file ID."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.endswith("b2_authorize_account"):
            url = f"http://{self.headers['Host']}"
            allowed = {"buckets": None, "capabilities": ["listFiles", "readFiles"], "namePrefix": None}
            storage = {"apiUrl": url, "downloadUrl": url, "s3ApiUrl": url, "allowed": allowed}
            sizes = {"absoluteMinimumPartSize": 5_000_000, "recommendedPartSize": 100_000_000}
            info = {"storageApi": storage | sizes}
            self.say(json.dumps({"accountId": "a", "authorizationToken": "t", "apiInfo": info}).encode())
        else:
            files = [row("lone \ud800 surrogate"), row("plain")]
            self.say(json.dumps({"files": files, "nextFileName": None}).encode())

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query, strict_parsing=True)
        self.say(DATA if asked == {"fileId": [ODD_ID]} else b"not asked for")

    def say(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing on standard error."""


@pytest.fixture
async def store() -> AsyncIterator[B2Store]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), AnyAccount)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever)
    thread.start()
    credentials = make_credentials("0" * 25, "K" * 31, "a test")
    made = B2Store(credentials, endpoint=f"http://127.0.0.1:{server.server_port}", environment={})
    yield made
    await made.aclose()
    server.shutdown()
    server.server_close()
    thread.join()


async def test_a_listing_with_a_lone_surrogate_in_a_name_is_read(store: B2Store) -> None:
    page = await store.list_names("bucket", "")
    assert [found.name for found in page.rows] == ["lone \ud800 surrogate", "plain"]


async def test_a_file_id_of_any_characters_is_asked_for_as_it_is(store: B2Store) -> None:
    assert bytes(await store.read_range(ODD_ID, 0, len(DATA))) == DATA
