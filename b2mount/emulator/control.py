"""The control interface under /_control/: for tests and demonstrations, from loopback only, never counted
as a call.

Unlike the rest it needs no token: who can reach it is on this machine.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router

from b2mount.emulator.errors import Refusal, bad_request
from b2mount.emulator.ledger import Caps
from b2mount.emulator.params import decode_object
from b2mount.emulator.seed import seed, wipe
from b2mount.emulator.service import Service
from b2mount.emulator.tokens import ACCOUNT, DOWNLOAD, PART, UPLOAD
from b2mount.emulator.wire import Receive, Request, Scope, Send

_TOKEN_KINDS = {
    "account": frozenset({ACCOUNT}),
    "upload": frozenset({UPLOAD, PART}),
    "all": frozenset({ACCOUNT, UPLOAD, PART, DOWNLOAD}),
}
_CAPS = ("storage_bytes", "download_bytes", "class_b", "class_c")

Endpoint = Callable[[StarletteRequest, dict[str, Any]], Awaitable[Any]]


class Control:
    """Routes and answers control requests."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._router = Router(
            [
                self._route("health", self._health, "GET"),
                self._route("network", self._network, "GET", "POST"),
                self._route("faults", self._faults, "GET", "POST", "DELETE"),
                self._route("settings", self._settings, "GET", "POST"),
                self._route("tokens/expire", self._expire_tokens, "POST"),
                self._route("keys/expire", self._expire_key, "POST"),
                self._route("keys/delete", self._delete_key, "POST"),
                self._route("caps", self._caps, "GET", "POST"),
                self._route("counters", self._counters, "GET", "DELETE"),
                self._route("log", self._log, "GET"),
                self._route("busy", self._busy, "GET"),
                self._route("seed", self._seed, "POST"),
                self._route("wipe", self._wipe, "POST"),
                self._route("buckets", self._buckets, "GET"),
            ]
        )

    def _route(self, path: str, endpoint: Endpoint, *methods: str) -> Route:
        async def answer(request: StarletteRequest) -> Response:
            try:
                values = decode_object(await request.body()) if request.method == "POST" else {}
                return JSONResponse(await endpoint(request, values))
            except Refusal as refusal:
                return _refused(refusal)
            except (AttributeError, KeyError, TypeError, ValueError) as problem:
                return _refused(bad_request(f"{type(problem).__name__}: {problem}"))

        return Route(f"/_control/{path}", answer, methods=list(methods))

    async def serve(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one control request, if it comes from this machine."""
        if not ipaddress.ip_address(request.client_host).is_loopback:
            await _refused(Refusal(403, "access_denied", "only from loopback"))(scope, receive, send)
            return
        await self._router(scope, receive, send)

    async def _health(self, request: StarletteRequest, values: dict[str, Any]) -> Any:
        return {"ok": True}

    async def _network(self, request: StarletteRequest, values: dict[str, Any]) -> Any:
        self._service.network.change(values)
        return self._service.network.as_dict()

    async def _faults(self, request: StarletteRequest, values: dict[str, Any]) -> Any:
        if request.method == "DELETE":
            self._service.faults.clear()
        elif request.method == "POST":
            self._service.faults.add(values)
        return {"faults": self._service.faults.rows()}

    async def _settings(self, request: StarletteRequest, values: dict[str, Any]) -> Any:
        if values:
            self._service.settings.change(values)
            self._service.settings.save(self._service.database)
        return self._service.settings.as_dict()

    async def _expire_tokens(self, request: StarletteRequest, values: dict[str, Any]) -> Any:
        kinds = _TOKEN_KINDS.get(values.get("kind", "all"))
        if kinds is None:
            raise bad_request(f"kind is one of {sorted(_TOKEN_KINDS)}")
        return {"expired": self._service.tokens.expire(kinds, values.get("key_id"))}

    async def _expire_key(self, request: StarletteRequest, values: dict[str, Any]) -> Any:
        if not self._service.keys.expire(str(values.get("key_id"))):
            raise bad_request("no such key")
        return {"ok": True}

    async def _delete_key(self, request: StarletteRequest, values: dict[str, Any]) -> Any:
        if self._service.keys.delete(str(values.get("key_id"))) is None:
            raise bad_request("no such key")
        return {"ok": True}

    async def _caps(self, request: StarletteRequest, values: dict[str, Any]) -> Any:
        if request.method == "POST":
            if not set(values) <= set(_CAPS) or not all(
                value is None or type(value) is int for value in values.values()
            ):
                raise bad_request(f"caps are numbers or null for {_CAPS}")
            self._service.ledger.set_caps(Caps(**values))
        return asdict(self._service.ledger.caps)

    async def _counters(self, request: StarletteRequest, values: dict[str, Any]) -> Any:
        if request.method == "DELETE":
            self._service.ledger.reset()
            self._service.database.steps = 0
        return {**self._service.ledger.counters(), "database_steps": self._service.database.steps}

    async def _log(self, request: StarletteRequest, values: dict[str, Any]) -> Any:
        since = request.query_params.get("since", "0")
        if not since.isdecimal():
            raise bad_request("since is a number")
        return self._service.ledger.log(int(since))

    async def _busy(self, request: StarletteRequest, values: dict[str, Any]) -> Any:
        return self._service.ledger.busy()

    async def _seed(self, request: StarletteRequest, values: dict[str, Any]) -> Any:
        return await seed(self._service, values)

    async def _wipe(self, request: StarletteRequest, values: dict[str, Any]) -> Any:
        wipe(self._service, values)
        return {"ok": True}

    async def _buckets(self, request: StarletteRequest, values: dict[str, Any]) -> Any:
        return {bucket.name: bucket.bucket_id for bucket in self._service.buckets.all()}


def _refused(refusal: Refusal) -> Response:
    return JSONResponse(
        {"status": refusal.status, "code": refusal.code, "message": refusal.message},
        status_code=refusal.status,
    )
