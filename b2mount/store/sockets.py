"""What the kernel does for a socket and knows of it: dead peers, bytes under way, something to read."""

import array
import fcntl
import select
import socket
import termios

# A dead peer is found in about 35 s, also while waiting for an answer that may honestly take minutes.
KEEPALIVE = (
    (socket.TCP_KEEPIDLE, 15),
    (socket.TCP_KEEPINTVL, 5),
    (socket.TCP_KEEPCNT, 4),
)


def keep_alive(sock: socket.socket) -> None:
    """Have the kernel find out when the other side of a TCP connection is gone."""
    for option, value in KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def undelivered(sock: socket.socket) -> int:
    """Return the bytes that the other side has not acknowledged (Linux, SIOCOUTQ)."""
    held = array.array("i", [0])
    fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, held)
    return held[0]


def is_quiet(sock: socket.socket) -> bool:
    """Say whether there is nothing to read: bytes, or its end, make an idle connection useless."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return not poll.poll(0)
