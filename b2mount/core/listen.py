"""Where to listen, as people write it: `HOST:PORT`, `PORT` on this machine alone, or `unix:PATH`."""

import ipaddress
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Listen:
    """A TCP address, or the path of a socket."""

    host: str = LOOPBACK
    port: int = 0  # 0: any that is free
    path: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.path is not None or ipaddress.ip_address(self.host).is_loopback


def parse_listen(text: str) -> Listen:
    """Read an address; names other than `localhost` are refused, as they may mean several addresses.

    Raises ValueError, with a sentence for people.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/"):
            raise ValueError(f"{text!r} needs the whole path: unix:/run/b2mount/metrics.sock")
        return Listen(path=path)
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r} is no address; write 127.0.0.1:9847, 9847 or unix:/PATH")
    if host in ("", "localhost"):
        return Listen(port=int(port))
    try:
        return Listen(str(ipaddress.ip_address(host)), int(port))
    except ValueError:
        raise ValueError(f"{host!r} is no IP address; write 127.0.0.1:{port}, or 0.0.0.0:{port}") from None
