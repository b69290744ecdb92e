"""An emulator in a process of its own, and what tests ask of it, over plain http.client.

Knows B2's wire format alone: neither the emulator's code nor the client's is imported.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

START_SECONDS = 120
STOP_SECONDS = 120
IDLE_SECONDS = 60

_PATTERN_PERIOD = 65521


def pattern(name: str, offset: int, length: int) -> bytes:
    """Give bytes [offset, offset + length) of a file that was seeded by size alone (see docs/emulator.md)."""

    base = b"".join(hashlib.sha256(b"b2mount %d" % i).digest() for i in range(2048))[:_PATTERN_PERIOD]
    start = (zlib.crc32(name.encode()) + offset) % _PATTERN_PERIOD
    return (base * ((start + length) // _PATTERN_PERIOD + 1))[start : start + length]


class CallFailed(AssertionError):
    """A helper met an answer other than 200."""

    def __init__(self, call: str, status: int, body: Any) -> None:
        super().__init__(f"{call}: {status} {body}")
        self.status = status
        self.body = body
        self.code: str = body.get("code", "") if isinstance(body, dict) else ""


class Emulator:
    """One emulator on a data directory; its port stays the same over restarts."""

    def __init__(self, data: Path, *, arguments: Iterable[str] = (), cafile: Path | None = None) -> None:
        self.data = data
        self._arguments = list(arguments)
        self._cafile = cafile
        self._port = 0
        self._process: subprocess.Popen[str] | None = None
        self._local = threading.local()
        self._token: str | None = None
        self.url = ""
        self.account_id = ""
        self.master_key_id = ""
        self.master_key = ""

    # --- life ---------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The server's process ID."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Start the server and wait until it is ready."""
        assert self._process is None
        command = [sys.executable, "-m", "b2mount.emulator", "--json", "--data", str(self.data)]
        command += ["--listen", f"127.0.0.1:{self._port}", *self._arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        timer = threading.Timer(START_SECONDS, self._process.kill)
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if not line:
            status = self._process.wait()
            self._process.stdout.close()
            self._process = None
            raise RuntimeError(f"the emulator did not start (exit status {status})")
        ready = json.loads(line)
        self.url = ready["url"]
        self._port = urllib.parse.urlsplit(self.url).port or 0
        master = json.loads(Path(ready["masterKeyFile"]).read_text())
        self.account_id = master["accountId"]
        self.master_key_id = master["applicationKeyId"]
        self.master_key = master["applicationKey"]
        self._local = threading.local()
        return self

    def _end(self, number: int) -> int:
        assert self._process is not None and self._process.stdout is not None
        stdout = self._process.stdout
        self._process.send_signal(number)
        try:
            status = self._process.wait(STOP_SECONDS)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            stdout.close()
            self._process = None
        return status

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop the server as a service manager would; give its exit status."""
        return self._end(number)

    def kill(self) -> None:
        """Kill the server (SIGKILL)."""
        self._end(signal.SIGKILL)

    def restart(self) -> Self:
        """Stop and start, on the same port."""
        self.stop()
        return self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.stop()

    # --- the wire -----------------------------------------------------------------------

    def connect(self) -> http.client.HTTPConnection:
        """Open a connection of one's own."""
        parts = urllib.parse.urlsplit(self.url)
        assert parts.hostname is not None
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=None if self._cafile is None else str(self._cafile))
            return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=120, context=context)
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=120)

    def connect_raw(self) -> socket.socket:
        """Open a socket of one's own, to say what no library would."""
        parts = urllib.parse.urlsplit(self.url)
        return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=60)

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request on this thread's connection; give status, headers (lower-case) and body."""
        path = url.removeprefix(self.url)
        connection = self._connection()
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            data = response.read()
        except (http.client.HTTPException, OSError):
            connection.close()
            self._local.connection = None
            raise
        self._local.used = time.monotonic()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, data

    def forget_connections(self) -> None:
        """Begin connections of one's own, in a process that was forked from another user of this object."""
        self._local = threading.local()

    def _connection(self) -> http.client.HTTPConnection:
        # The server closes a connection that idles for minutes; repeating a request could do a thing twice.
        kept: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if kept is not None and time.monotonic() - self._local.used < IDLE_SECONDS:
            return kept
        if kept is not None:
            kept.close()
        self._local.connection, self._local.used = self.connect(), time.monotonic()
        return cast(http.client.HTTPConnection, self._local.connection)

    def control(self, method: str, path: str, values: Mapping[str, Any] | None = None) -> Any:
        """Use the control interface."""
        body = None if values is None else json.dumps(values).encode()
        status, _, data = self.request(method, f"/_control/{path}", body=body)
        answer = json.loads(data)
        if status != 200:
            raise CallFailed(f"control {path}", status, answer)
        return answer

    def authorize(self, key_id: str, key: str, version: int = 4) -> tuple[int, Any]:
        """Call b2_authorize_account; give status and body."""
        basic = base64.b64encode(f"{key_id}:{key}".encode()).decode()
        url = f"/b2api/v{version}/b2_authorize_account"
        status, _, data = self.request("GET", url, headers={"Authorization": f"Basic {basic}"})
        return status, json.loads(data)

    def token_of(self, key_id: str, key: str) -> str:
        """Give a fresh account token for a key."""
        status, body = self.authorize(key_id, key)
        if status != 200:
            raise CallFailed("b2_authorize_account", status, body)
        return str(body["authorizationToken"])

    def master_token(self) -> str:
        """Give an account token of the master key, one for the life of this object."""
        if self._token is None:
            self._token = self.token_of(self.master_key_id, self.master_key)
        return self._token

    def call(
        self, name: str, body: Mapping[str, Any] | None = None, token: str | None = None, version: int = 4
    ) -> tuple[int, Any]:
        """Call the API, as the master key unless *token* says otherwise; give status and body."""
        sent = json.dumps(body or {}).encode()
        for attempt in (1, 2):
            headers = {"Authorization": token or self.master_token()}
            status, _, data = self.request("POST", f"/b2api/v{version}/{name}", headers=headers, body=sent)
            answer: Any = json.loads(data)
            stale = status == 401 and answer["code"] in ("bad_auth_token", "expired_auth_token")
            if token is not None or not stale or attempt == 2:
                break
            self._token = None  # a test expired all tokens
        return status, answer

    def ask(self, name: str, body: Mapping[str, Any] | None = None, token: str | None = None) -> Any:
        """Call the API and expect success; raise CallFailed otherwise."""
        status, answer = self.call(name, body, token)
        if status != 200:
            raise CallFailed(name, status, answer)
        return answer

    # --- buckets, keys, files -----------------------------------------------------------

    def create_bucket(self, name: str, **fields: Any) -> str:
        """Make a bucket (private unless bucketType says otherwise); give its ID."""
        body = {"accountId": self.account_id, "bucketName": name, "bucketType": "allPrivate", **fields}
        return str(self.ask("b2_create_bucket", body)["bucketId"])

    def bucket_id(self, name: str) -> str:
        """Give a bucket's ID, without a call that the counters would show."""
        return str(self.control("GET", "buckets")[name])

    def create_key(
        self,
        capabilities: Iterable[str],
        buckets: Iterable[str] | None = None,
        prefix: str | None = None,
        seconds: int | None = None,
    ) -> tuple[str, str]:
        """Make a key for buckets given by name (None: all); give its ID and secret."""
        body = {
            "accountId": self.account_id,
            "keyName": "test",
            "capabilities": list(capabilities),
            "bucketIds": None if buckets is None else [self.bucket_id(name) for name in buckets],
            "namePrefix": prefix,
            "validDurationInSeconds": seconds,
        }
        made = self.ask("b2_create_key", body)
        return str(made["applicationKeyId"]), str(made["applicationKey"])

    def try_upload(
        self,
        bucket: str,
        name: str,
        data: bytes,
        *,
        info: Mapping[str, str] | None = None,
        content_type: str | None = None,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Upload with a fresh URL; give status and body of the first call that fails, or of the upload."""
        status, target = self.call("b2_get_upload_url", {"bucketId": self.bucket_id(bucket)}, token)
        if status != 200:
            return status, target
        sent = {
            "Authorization": target["authorizationToken"],
            "X-Bz-File-Name": urllib.parse.quote(name, safe="/"),
            "Content-Type": content_type or "application/octet-stream",
            "X-Bz-Content-Sha1": hashlib.sha1(data, usedforsecurity=False).hexdigest(),
        }
        for key, value in (info or {}).items():
            sent[f"X-Bz-Info-{key}"] = urllib.parse.quote(value, safe="")
        sent.update(headers or {})
        status, _, answer = self.request("POST", target["uploadUrl"], headers=sent, body=data)
        return status, json.loads(answer)

    def upload(
        self,
        bucket: str,
        name: str,
        data: bytes,
        info: Mapping[str, str] | None = None,
        content_type: str | None = None,
    ) -> dict[str, Any]:
        """Upload a small file; give its row."""
        status, row = self.try_upload(bucket, name, data, info=info, content_type=content_type)
        if status != 200:
            raise CallFailed("b2_upload_file", status, row)
        return dict(row)

    def upload_large(self, bucket: str, name: str, parts: Iterable[bytes], **fields: Any) -> dict[str, Any]:
        """Upload a large file of the given parts; give its row."""
        start = {"bucketId": self.bucket_id(bucket), "fileName": name, "contentType": "b2/x-auto", **fields}
        file_id = self.ask("b2_start_large_file", start)["fileId"]
        target = self.ask("b2_get_upload_part_url", {"fileId": file_id})
        sums = []
        for number, part in enumerate(parts, 1):
            sums.append(hashlib.sha1(part, usedforsecurity=False).hexdigest())
            headers = {
                "Authorization": target["authorizationToken"],
                "X-Bz-Part-Number": str(number),
                "X-Bz-Content-Sha1": sums[-1],
            }
            status, _, answer = self.request("POST", target["uploadUrl"], headers=headers, body=part)
            if status != 200:
                raise CallFailed("b2_upload_part", status, json.loads(answer))
        return dict(self.ask("b2_finish_large_file", {"fileId": file_id, "partSha1Array": sums}))

    def get(
        self, url: str, *, range_: str | None = None, token: str | None = None, method: str = "GET"
    ) -> tuple[int, dict[str, str], bytes]:
        """Download from a path or URL; give status, headers and body."""
        while True:
            used = self._token
            headers = {"Authorization": token or self.master_token()}
            if range_ is not None:
                headers["Range"] = range_
            reply = self.request(method, url, headers=headers)
            if token is not None or reply[0] != 401 or used is None:
                return reply
            self._token = None  # a test expired all tokens: once more, with a fresh one

    def download(self, bucket: str, name: str) -> bytes:
        """Download the visible version of a name."""
        status, _, data = self.get(f"/file/{bucket}/{urllib.parse.quote(name, safe='/')}")
        if status != 200:
            raise CallFailed("b2_download_file_by_name", status, json.loads(data))
        return data

    def download_by_id(self, file_id: str) -> bytes:
        """Download one version."""
        status, _, data = self.get(f"/b2api/v4/b2_download_file_by_id?fileId={file_id}")
        if status != 200:
            raise CallFailed("b2_download_file_by_id", status, json.loads(data))
        return data

    def list_names(self, bucket: str, prefix: str = "", delimiter: str | None = None) -> list[dict[str, Any]]:
        """List all visible names, over all pages."""
        body = {"bucketId": self.bucket_id(bucket), "prefix": prefix, "delimiter": delimiter}
        return self._all_pages("b2_list_file_names", body)

    def list_versions(
        self, bucket: str, prefix: str = "", delimiter: str | None = None
    ) -> list[dict[str, Any]]:
        """List all versions, over all pages."""
        body = {"bucketId": self.bucket_id(bucket), "prefix": prefix, "delimiter": delimiter}
        return self._all_pages("b2_list_file_versions", body)

    def _all_pages(self, name: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        start: dict[str, Any] | None = {}
        while start is not None:
            page = self.ask(name, {**body, **start, "maxFileCount": 10_000})
            rows += page["files"]
            start = None
            if page["nextFileName"] is not None:
                start = {"startFileName": page["nextFileName"]}
                if page.get("nextFileId") is not None:
                    start["startFileId"] = page["nextFileId"]
        return rows

    def hide(self, bucket: str, name: str) -> dict[str, Any]:
        """Hide a name."""
        return dict(self.ask("b2_hide_file", {"bucketId": self.bucket_id(bucket), "fileName": name}))

    # --- control ------------------------------------------------------------------------

    def counters(self) -> dict[str, Any]:
        """Give all counters since the last reset."""
        return dict(self.control("GET", "counters"))

    def reset_counters(self) -> None:
        """Set all counters to nought."""
        self.control("DELETE", "counters")

    def log(self, since: int = 0) -> list[dict[str, Any]]:
        """Give the requests after number *since*."""
        return list(self.control("GET", f"log?since={since}")["entries"])

    def last_seq(self) -> int:
        """Give the number of the latest request."""
        return int(self.control("GET", f"log?since={1 << 60}")["last"])

    def network(self, **values: Any) -> dict[str, Any]:
        """Set latency_ms, bandwidth, list_ms_per_1000."""
        return dict(self.control("POST", "network", values))

    def fault(self, **values: Any) -> None:
        """Add one fault rule."""
        self.control("POST", "faults", values)

    def faults(self) -> list[dict[str, Any]]:
        """Give all fault rules with how often each fired."""
        return list(self.control("GET", "faults")["faults"])

    def clear_faults(self) -> None:
        """Drop all fault rules."""
        self.control("DELETE", "faults")

    def settings(self, **values: Any) -> dict[str, Any]:
        """Change settings; give all of them."""
        return dict(self.control("POST", "settings", values))

    def caps(self, **values: int | None) -> None:
        """Set caps, counted from now; what is not named is lifted."""
        self.control("POST", "caps", values)

    def expire_tokens(self, kind: str = "all", key_id: str | None = None) -> None:
        """Expire tokens: "account", "upload" or "all"."""
        self.control("POST", "tokens/expire", {"kind": kind, "key_id": key_id})

    def expire_key(self, key_id: str) -> None:
        """End a key's term now."""
        self.control("POST", "keys/expire", {"key_id": key_id})

    def delete_key(self, key_id: str) -> None:
        """Delete a key."""
        self.control("POST", "keys/delete", {"key_id": key_id})

    def seed(self, bucket: str, files: Iterable[Mapping[str, Any]] = (), **values: Any) -> int:
        """Make versions at once, from rows or from pattern=, count=, size=; give how many."""
        body = {"bucket": bucket, **values}
        if "pattern" not in values:
            body["files"] = list(files)
        return int(self.control("POST", "seed", body)["made"])

    def wipe(self, bucket: str) -> None:
        """Remove a bucket with all that is in it, whatever holds it."""
        self.control("POST", "wipe", {"bucket": bucket})

    def peak_memory_bytes(self) -> int:
        """Give the server's greatest resident set so far."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmHWM")


def find_program(name: str) -> str | None:
    """Find a program beside this Python, else on the PATH."""
    beside = Path(sys.executable).with_name(name)
    if beside.exists():
        return str(beside)
    return shutil.which(name, path=os.environ.get("PATH"))
