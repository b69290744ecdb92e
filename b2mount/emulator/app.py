"""The ASGI application: finds the call, applies faults and the network model, runs the handler and answers.

One request's life: route, read, delay, fault, caps, handler, answer, ledger. Handlers know nothing of the
rest.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from typing import Any

from b2mount.emulator.control import Control
from b2mount.emulator.errors import Refusal, expired_auth_token, not_found
from b2mount.emulator.faults import Fault
from b2mount.emulator.ledger import DOWNLOADS
from b2mount.emulator.names import decode_name
from b2mount.emulator.operations import OPERATIONS
from b2mount.emulator.ops_download import OVERRIDES, download_file_by_id, download_file_by_name
from b2mount.emulator.ops_upload import upload_file, upload_part
from b2mount.emulator.params import Params, decode_object
from b2mount.emulator.service import Call, Service
from b2mount.emulator.wire import (
    ClientGone,
    Receive,
    Reply,
    Request,
    Scope,
    Send,
    json_reply,
    refusal_reply,
)

log = logging.getLogger("b2mount.emulator")

_API = re.compile(r"/b2api/v([1-4])/(b2_[a-z_]+)((?:/[^/]+)*)/?")
_UPLOADS = {"b2_upload_file": upload_file, "b2_upload_part": upload_part}
_STORAGE_TEST_CALLS = frozenset({"b2_get_upload_url", "b2_start_large_file", *_UPLOADS})
_NO_FIELDS: frozenset[str] = frozenset()
_BY_ID_FIELDS = frozenset({"fileId", "Authorization", *OVERRIDES})


class App:
    """Serves one account."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._control = Control(service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        if request.path.startswith("/_control/"):
            await self._control.serve(request, scope, receive, send)
            return
        await self._serve(request, send)

    async def _serve(self, request: Request, send: Send) -> None:
        name, version, rest = _route(request)
        entry = self.service.ledger.open(name, request.method)
        call = Call(self.service, name, version, request, entry, Params({}, _NO_FIELDS), rest)
        try:
            reply = await self._handle(call)
            await self._answer(call, reply, send)
        except (ClientGone, _Dropped, FileNotFoundError):  # the last: deleted in the middle of its download
            await _hang_up(request)
        finally:
            entry.bytes_in = request.bytes_in
            self.service.ledger.close(entry, call.rows)

    async def _handle(self, call: Call) -> Reply:
        try:
            return await self._run(call)
        except Refusal as refusal:
            return refusal_reply(refusal, basic=call.name == "b2_authorize_account")
        except (ClientGone, _Dropped):
            raise
        except Exception:
            log.exception("%s: bug in the emulator", call.name)
            return refusal_reply(Refusal(500, "internal_error", "bug in the emulator; see its log"))

    async def _run(self, call: Call) -> Reply:
        name, service = call.name, self.service
        operation = OPERATIONS.get(name)
        _check_method(call, known=operation is not None)
        if operation is not None:
            call.params = await _read_params(call, operation.fields)
        elif name == "b2_download_file_by_id":
            call.params = await _read_params(call, _BY_ID_FIELDS)
        await service.network.wait_first_byte()
        call.fault = service.faults.fire(name, _fault_name(call))
        if call.fault is not None:
            await self._strike(call, call.fault)
        self._test_mode(call)
        service.ledger.check_caps(name)
        if operation is not None:
            answer = operation.handler(call)
            reply = json_reply(await answer if inspect.isawaitable(answer) else answer)
            await service.network.wait_listing(call.rows)
        elif name in _UPLOADS:
            reply = json_reply(await _UPLOADS[name](call))
        elif name == "b2_download_file_by_id":
            reply = download_file_by_id(call)
        else:
            reply = download_file_by_name(call, *call.place)
        if call.fault is not None and call.fault.kind == "drop_after":
            raise _Dropped
        return reply

    async def _strike(self, call: Call, fault: Fault) -> None:
        """Do what a fault does before the handler runs."""
        if fault.kind == "stall":
            await asyncio.sleep(fault.seconds)
        elif fault.kind == "drop_before":
            raise _Dropped
        elif fault.kind == "status":
            if call.name in _UPLOADS and (fault.status == 401 or fault.status >= 500):
                self.service.tokens.void_text(call.request.headers.get("authorization"))
            raise fault.refusal()

    def _test_mode(self, call: Call) -> None:
        """Do what X-Bz-Test-Mode asks (Backblaze docs, "Integration Checklist"): every third call suffers."""
        mode = call.request.headers.get("x-bz-test-mode")
        if mode is None:
            return
        if mode == "force_cap_exceeded":
            if call.name in _STORAGE_TEST_CALLS:
                raise Refusal(403, "cap_exceeded", "Cap exceeded (test mode).")
            if call.name in DOWNLOADS:
                raise Refusal(403, "download_cap_exceeded", "Cap exceeded (test mode).")
            return
        eligible = call.name in _UPLOADS if mode == "fail_some_uploads" else call.name in OPERATIONS
        self.service.test_mode_calls += eligible
        if not eligible or self.service.test_mode_calls % 3:
            return
        if mode == "fail_some_uploads":
            self.service.tokens.void_text(call.request.headers.get("authorization"))
            raise Refusal(503, "service_unavailable", "failed on purpose (test mode)")
        if mode == "expire_some_account_authorization_tokens" and call.name != "b2_authorize_account":
            self.service.tokens.void_text(call.request.headers.get("authorization"))
            raise expired_auth_token()

    async def _answer(self, call: Call, reply: Reply, send: Send) -> None:
        entry, fault, length = call.entry, call.fault, reply.content_length
        entry.status, entry.code = reply.status, reply.code
        reply.headers.append((b"content-length", str(length).encode()))
        if call.request.method != "HEAD":
            call.request.transport.join_next_two()
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        if call.request.method == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        cut = length
        if fault is not None and fault.kind == "truncate" and reply.status < 300:
            cut = min(length, fault.after_bytes)
        flip = fault.after_bytes if fault is not None and fault.kind == "corrupt" else None
        pace = self.service.network.pace()
        for chunk in reply.stream if reply.stream is not None else (reply.body,):
            if call.request.transport.is_closing():
                raise ClientGone
            data = chunk[: cut - entry.bytes_out]
            if reply.stream is not None and flip is not None:
                data = _flipped(data, flip - entry.bytes_out)
            entry.bytes_out += len(data)
            await send({"type": "http.response.body", "body": data, "more_body": entry.bytes_out < length})
            await pace.moved(len(data))
            if reply.stream is not None:
                await asyncio.sleep(0)  # a fast reader never makes send() wait, and others want a turn
            if cut < length and entry.bytes_out == cut:
                raise _Dropped
        if reply.stream is not None and length == 0:
            await send({"type": "http.response.body", "body": b""})


class _Dropped(Exception):
    """A fault ends the connection here."""


def _flipped(data: bytes, at: int) -> bytes:
    if not 0 <= at < len(data):
        return data
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _route(request: Request) -> tuple[str, int, tuple[str, ...]]:
    """Give the call's name, the API version and what else the path says."""
    match = _API.fullmatch(request.path)
    if match is not None:
        return match[2], int(match[1]), tuple(match[3].split("/")[1:])
    if request.path.startswith("/file/"):
        bucket, _, name = request.path.removeprefix("/file/").partition("/")
        return "b2_download_file_by_name", 0, (bucket, name)
    return "", 0, ()


def _check_method(call: Call, *, known: bool) -> None:
    allowed: tuple[str, ...]
    if known:
        allowed = ("GET", "POST")
    elif call.name in _UPLOADS:
        allowed = ("POST",)
    elif call.name == "b2_download_file_by_id":
        allowed = ("GET", "HEAD", "POST")
    elif call.name == "b2_download_file_by_name" and call.version == 0:
        allowed = ("GET", "HEAD")
    else:
        raise not_found(f"no such call: {call.request.path}")
    if call.request.method not in allowed:
        raise Refusal(405, "method_not_allowed", f"{call.name} does not take {call.request.method}")
    if call.place and known:
        raise not_found(f"no such call: {call.request.path}")


async def _read_params(call: Call, known: frozenset[str]) -> Params:
    if call.request.method == "POST":
        return Params(decode_object(await call.request.body()), known)
    return Params(call.request.query(), known, from_query=True)


def _fault_name(call: Call) -> str:
    """Give the file name or prefix that a fault's `name` is compared with."""
    if call.name in _UPLOADS or call.name == "b2_download_file_by_name":
        encoded = (
            call.place[-1] if call.name not in _UPLOADS else call.request.headers.get("x-bz-file-name", "")
        )
        try:
            return decode_name(encoded)
        except Refusal:
            return ""
    if call.name in OPERATIONS:
        fields = OPERATIONS[call.name].fields & {"fileName", "prefix", "namePrefix", "fileNamePrefix"}
        return next((text for field in sorted(fields) if (text := call.params.text(field))), "")
    return ""


async def _hang_up(request: Request) -> None:
    """End the connection: what was written goes out, nothing follows."""
    request.transport.close()
    message: Any = None
    while message is None or message["type"] != "http.disconnect":
        message = await request.receive()
