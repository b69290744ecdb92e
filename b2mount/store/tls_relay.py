"""The process that does TLS for another one, and nothing else; a script that knows the standard library only.

Its owner (tls_process.py) makes TCP connections and hands them over, each with one end of a pair of Unix
sockets. Here the handshake is done; then what the server sends comes out of the pair decrypted, and what is
put into the pair goes to the server encrypted. One thread: nobody contends for Python's lock, which each
16 KiB of TLS change.

The control socket is descriptor 3, a message at a time: the owner's first one is {"authorities": [files],
"idle": seconds}, answered READY; each other one is {"host": name} with the two descriptors. On the pair:
TAKEN at once, a line of JSON when the handshake is over ({}, or what went wrong), then the bytes. It ends
with the control socket, whatever happens to its owner, and with IDLE_STATUS some time after the last byte.
"""

import contextlib
import json
import os
import select
import socket
import ssl
import sys
import time
from typing import Any

CONTROL = 3
READY, TAKEN = b"!", b"+"
IDLE_STATUS = 0
RECORD = 16 * 1024  # the most that TLS has in one record
SCRATCH = 256 * 1024  # bytes decrypted before they are passed on; with 64 KiB as fast, with 1 MiB slower
LOOK_SECONDS = 5.0  # between two looks for what is idle, or a quarter of the time allowed if that is less
MESSAGE = 64 * 1024
IN, OUT, GONE = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP | select.EPOLLERR

_scratch = memoryview(bytearray(SCRATCH))


class Relay:
    """One connection: the server's side, the owner's side, and what one could not yet take of the other."""

    def __init__(self, tls: ssl.SSLSocket, plain: socket.socket) -> None:
        self.tls = tls
        self.plain = plain
        self.is_open = False  # the handshake is over
        self.is_over = False  # the server sends no more
        self.is_deaf = False  # the server takes no more
        self.wants_out = False  # TLS itself has something to send before it goes on
        self.down = memoryview(b"")  # decrypted, not yet taken by the owner
        self.up = memoryview(b"")  # not yet taken by the server
        self.asks = True  # the owner was the last one to send, so an answer is due
        self.moved = time.monotonic()
        self.masks: dict[int, int] = {}  # what epoll looks for, by descriptor

    def step(self) -> bool:
        """Move what can be moved; False when the connection is to end."""
        self.wants_out = False
        try:
            if not self.is_open and not self._greet():
                return True
            self._send_down()
            if not self.down and not self.is_over:
                self._receive()
            if self.is_over and not self.down:
                return False
            return self.is_deaf or self._pump_up()
        except OSError:  # the owner's side: nobody is left to tell
            return False

    def _greet(self) -> bool:
        """Go on with the handshake; True when it is over, well or not, and the owner was told."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLWantWriteError:
            self.wants_out = True
            return False
        except OSError as exc:
            self._tell(_words(exc))
            self.is_over = self.is_deaf = True
            return True
        self._tell({})
        self.is_open = True
        return True

    def _tell(self, outcome: dict[str, Any]) -> None:
        self.down = memoryview(json.dumps(outcome).encode() + b"\n")

    def _receive(self) -> None:
        """Decrypt what is there, as much as the scratch holds, and pass it on."""
        filled, recv_into = 0, self.tls.recv_into
        try:
            while filled <= SCRATCH - RECORD:
                count = recv_into(_scratch[filled:])
                if not count:
                    self.is_over = True
                    break
                filled += count
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLWantWriteError:
            self.wants_out = True
        except OSError:
            self.is_over = True
        if filled:
            self.asks, self.moved = False, time.monotonic()
            self.down = _scratch[:filled]
            self._send_down()
            self.down = memoryview(bytes(self.down))  # the scratch is wanted for the next one

    def _send_down(self) -> None:
        try:
            while self.down:
                self.down = self.down[self.plain.send(self.down) :]
        except BlockingIOError:
            pass

    def _pump_up(self) -> bool:
        """Encrypt what the owner sends; False when it has closed its end."""
        if not self.up:
            try:
                count = self.plain.recv_into(_scratch)
            except BlockingIOError:
                return True
            if not count:
                return False
            self.asks, self.moved = True, time.monotonic()
            self.up = _scratch[:count]
        self._send_up()
        self.up = memoryview(bytes(self.up))  # the scratch is wanted for the next one
        return True

    def _send_up(self) -> None:
        try:
            while self.up:
                self.up = self.up[self.tls.send(self.up) :]
        except ssl.SSLWantWriteError:
            self.wants_out = True
        except ssl.SSLWantReadError:
            pass
        except OSError:  # the server may have said why before it hung up: that still goes to the owner
            self.is_deaf, self.up = True, memoryview(b"")
            self.plain.shutdown(socket.SHUT_RD)

    def wanted(self) -> dict[int, int]:
        """Say what to wait for on either side; a side without anything to wait for is left out."""
        tls = (IN if not self.down and not self.is_over else 0) | (OUT if self.wants_out or self.up else 0)
        plain = (IN if self.is_open and not self.up and not self.is_deaf else 0) | (OUT if self.down else 0)
        return {self.plain.fileno(): plain, **({self.tls.fileno(): tls} if tls else {})}

    def is_idle(self, seconds: float) -> bool:
        """Say whether nothing is under way, and nothing has moved for so long."""
        return not self.asks and not self.down and not self.up and time.monotonic() - self.moved > seconds

    def close(self) -> None:
        """End both sides at once, although the owner still has a descriptor of the TCP connection."""
        for side in (self.tls, self.plain):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(side, socket.SHUT_RDWR)
            side.close()


def _words(exc: OSError) -> dict[str, Any]:
    """Say what went wrong in a handshake, so that the owner can raise the same."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return {"kind": "certificate", "message": exc.verify_message}
    kind = "tls" if isinstance(exc, ssl.SSLError) else "system"
    return {"kind": kind, "errno": exc.errno, "message": exc.strerror or str(exc)}


class Relays:
    """All connections of this process, and the loop that moves them."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        settings = json.loads(control.recv(MESSAGE))
        first, *more = settings["authorities"]
        self._context = ssl.create_default_context(cafile=first)
        for file in more:
            self._context.load_verify_locations(cafile=file)
        self._idle_seconds: float = settings["idle"]
        self._look_seconds = min(LOOK_SECONDS, self._idle_seconds / 4)
        self._epoll = select.epoll()
        self._relays: dict[int, Relay] = {}  # by either descriptor
        self._used = self._looked = time.monotonic()

    def run(self) -> None:
        """Serve until the control socket ends, or for want of work."""
        self._epoll.register(self._control, IN)
        self._control.send(READY)
        while True:
            found = self._epoll.poll(self._look_seconds)
            for descriptor, events in found:
                if (relay := self._relays.get(descriptor)) is not None:  # else: ended a moment ago
                    self._serve(relay, descriptor, events)
            # After the others: what comes in may get the number of a descriptor that has just been closed.
            if any(descriptor == CONTROL for descriptor, _ in found) and not self._take():
                return
            if time.monotonic() - self._looked > self._look_seconds and not self._look_around():
                return

    def _take(self) -> bool:
        """Take over a connection; False when the owner has gone."""
        message, descriptors, _, _ = socket.recv_fds(self._control, MESSAGE, 2)
        if not message:
            return False
        if len(descriptors) != 2:  # too many are open
            for one in descriptors:
                os.close(one)
            return True
        tcp, plain = (socket.socket(fileno=one) for one in descriptors)
        tcp.setblocking(False)
        plain.setblocking(False)
        host = json.loads(message)["host"]
        try:
            plain.send(TAKEN)
            tls = self._context.wrap_socket(tcp, server_hostname=host, do_handshake_on_connect=False)
        except (OSError, ValueError):  # gone already; a name that TLS cannot carry
            tcp.close()
            plain.close()
            return True
        relay = Relay(tls, plain)
        self._relays[tls.fileno()] = self._relays[plain.fileno()] = relay
        self._serve(relay, tls.fileno(), IN)
        return True

    def _serve(self, relay: Relay, descriptor: int, events: int) -> None:
        has_left = descriptor == relay.plain.fileno() and events & GONE
        if has_left or not relay.step():
            self._end(relay)
            return
        wanted = relay.wanted()
        if wanted == relay.masks:
            return
        for one in relay.masks.keys() | wanted.keys():
            if one not in wanted:
                self._epoll.unregister(one)
            elif one not in relay.masks:
                self._epoll.register(one, wanted[one])
            elif wanted[one] != relay.masks[one]:
                self._epoll.modify(one, wanted[one])
        relay.masks = wanted

    def _end(self, relay: Relay) -> None:
        for descriptor in relay.masks:
            self._epoll.unregister(descriptor)
        del self._relays[relay.tls.fileno()], self._relays[relay.plain.fileno()]
        relay.close()
        self._used = max(self._used, relay.moved)

    def _look_around(self) -> bool:
        """End what is idle; False when nothing has been left for so long, too."""
        self._looked = time.monotonic()
        for relay in set(self._relays.values()):
            if relay.is_idle(self._idle_seconds):
                self._end(relay)
        return bool(self._relays) or self._looked - self._used < self._idle_seconds


def main() -> int:
    """Serve the owner at the other end of the control socket."""
    # Whatever else was inherited is none of its business.
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 (pathlib takes a third of the time to start)
        if int(name) > CONTROL:
            with contextlib.suppress(OSError):  # that of the listing itself
                os.close(int(name))
    Relays(socket.socket(fileno=CONTROL)).run()
    return IDLE_STATUS


if __name__ == "__main__":
    sys.exit(main())
