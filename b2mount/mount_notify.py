"""Tell the service manager how the mount is: ready, busy, ending. Nothing happens where there is none.

Source of the protocol: sd_notify(3): lines of NAME=VALUE in one datagram to the socket $NOTIFY_SOCKET.
"""

import logging
import os
import socket

import trio

log = logging.getLogger("b2mount.mount")

READY = "READY=1"
STOPPING = "STOPPING=1"


def notify(*lines: str) -> bool:
    """Send *lines* to the service manager; say whether there is one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]  # a name in the abstract space, unix(7)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        try:
            connection.sendto("\n".join(lines).encode(), socket.MSG_DONTWAIT, address)
        except OSError as exc:
            log.warning("the service manager cannot be told %s: %s", lines[0], exc)
            return False
    return True


def notify_status(text: str) -> bool:
    """Show *text* in `systemctl status`."""
    return notify(f"STATUS={text}")


async def keep_watchdog_quiet() -> None:
    """Tell the watchdog, where one is set, that the event loop turns, until cancelled."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return
    while True:
        notify("WATCHDOG=1")  # a word that is lost is no reason to say no more of them
        await trio.sleep(int(microseconds) / 2_000_000)
