"""Runs the emulator: the socket, uvicorn, the line that says it is ready, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import json
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from b2mount.emulator.app import App
from b2mount.emulator.protocol import EmulatorProtocol
from b2mount.emulator.service import Service


class NotLoopback(Exception):
    """The address would be reachable from other machines."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to run one emulator; port 0 picks a free one."""

    data: Path
    host: str = "127.0.0.1"
    port: int = 0
    tls_cert: Path | None = None
    tls_key: Path | None = None
    json: bool = False
    log_level: str = "warning"
    allow_remote: bool = False


def open_socket(host: str, port: int, *, allow_remote: bool) -> socket.socket:
    """Bind the listening socket; raise NotLoopback where others could reach it unasked, OSError if it is
    taken.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    if not ipaddress.ip_address(address[0]).is_loopback and not allow_remote:
        raise NotLoopback(f"{host} is not a loopback address")
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


class _Server(uvicorn.Server):
    """uvicorn, but it says when it is ready and stops at once, with exit status 0."""

    def __init__(self, config: uvicorn.Config, ready: str) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        await self.on_tick(0)  # sets the Date header of the very first reply
        print(self._ready, flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield


def run(options: Options) -> None:
    """Serve until SIGTERM or SIGINT; raise NotLoopback, DataInUse or OSError when it cannot start."""
    # A listing makes tens of thousands of short-lived objects without cycles; a fifth of its time would go to
    # collections that find nothing (measured at 10,000 rows).
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("b2mount.emulator").setLevel(options.log_level.upper())
    listener = open_socket(options.host, options.port, allow_remote=options.allow_remote)
    service = Service(options.data)
    try:
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        url = f"{'https' if options.tls_cert else 'http'}://{shown}:{port}"
        config = uvicorn.Config(
            App(service),
            http=EmulatorProtocol,
            loop="uvloop",
            ws="none",
            lifespan="off",
            access_log=False,
            server_header=False,
            log_config=None,
            log_level=options.log_level,
            timeout_keep_alive=300,
            backlog=1024,
            ssl_certfile=options.tls_cert,
            ssl_keyfile=options.tls_key,
        )
        _Server(config, _ready_line(options, url, service)).run(sockets=[listener])
    finally:
        service.close()
        listener.close()


def _ready_line(options: Options, url: str, service: Service) -> str:
    master = service.keys.master_file
    if options.json:
        return json.dumps({"url": url, "data": str(options.data), "masterKeyFile": str(master)})
    return f"B2 emulator on {url}, data in {options.data}, master key in {master}"
