"""The body of an answer, from a plain socket into a buffer, in as few calls as may be.

Each call hands Python's lock on and asks for it again, among all threads that receive. So the kernel is asked
for a whole piece at once (MSG_WAITALL), and waits for it by itself, but never for long: after a turn it gives
what came. Knows nothing of HTTP, nor of TLS, whose bytes do not come from the socket as they are.
"""

import socket
import struct
import time
from collections.abc import Callable

PIECE = 256 << 10  # bytes asked for at once: 10 ms at 25 MB/s,
LARGEST_PIECE = 1 << 20  # up to so many where they come quickly; the kernel reads a file in as many
QUICK_SECONDS = 0.005  # for a piece; the next one may be twice as large
TURN_SECONDS = 0.2  # until the kernel gives what came of a piece, and whoever waits is looked after


def receive(
    sock: socket.socket,
    buffer: memoryview,
    filled: int,
    *,
    stall_seconds: float,
    look: Callable[[], None],
    progress: Callable[[int], None],
) -> int:
    """Fill *buffer* from *filled* on; return the bytes in it, fewer than it has where the other side ended.

    *look* is called before each turn and may raise; *progress* is told how many more bytes came. Raises
    OSError, which is a TimeoutError when nothing came for *stall_seconds*.
    """
    turn = struct.pack("@ll", 0, int(min(TURN_SECONDS, stall_seconds) * 1e6))  # a struct timeval
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, turn)
    sock.settimeout(None)  # or Python would poll by itself, and ask for what is there already
    moved_at = time.monotonic()
    piece = PIECE
    while filled < len(buffer):
        look()
        asked_at = time.monotonic()
        try:
            count = sock.recv_into(buffer[filled : filled + piece], 0, socket.MSG_WAITALL)
        except BlockingIOError:  # nothing in this turn
            if time.monotonic() - moved_at >= stall_seconds:
                raise TimeoutError from None
            continue
        if count == 0:
            break
        moved_at = time.monotonic()
        is_quick = count == piece and moved_at - asked_at < QUICK_SECONDS
        piece = min(2 * piece, LARGEST_PIECE) if is_quick else PIECE
        filled += count
        progress(count)
    return filled
