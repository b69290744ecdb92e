"""Which proxy a URL goes through, by the environment's http_proxy, https_proxy, all_proxy and no_proxy.

Read by hand, since the libraries that would do it also read ~/.netrc, whose entries would replace the
Authorization header that B2 needs.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy; `headers` carry its own authorization, if any."""

    host: str
    port: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def proxy_for(url: SplitResult, environment: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for *url*; None to go straight. Loopback always goes straight."""
    host = (url.hostname or "").lower()
    if _is_exempt(host, environment):
        return None
    text = _value(environment, f"{url.scheme}_proxy") or _value(environment, "all_proxy")
    if not text:
        return None
    parts = urlsplit(text if "://" in text else f"http://{text}")
    if parts.hostname is None:
        return None
    return Proxy(parts.hostname, parts.port or 8080, _authorization(parts))


def _value(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name) or environment.get(name.upper()) or ""


def _is_exempt(host: str, environment: Mapping[str, str]) -> bool:
    if host in ("localhost", "::1") or host.startswith("127."):
        return True
    for entry in _value(environment, "no_proxy").lower().split(","):
        name = entry.strip().split(":")[0].lstrip(".")
        if name == "*" or (name and (host == name or host.endswith(f".{name}"))):
            return True
    return False


def _authorization(parts: SplitResult) -> dict[str, str]:
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode('ascii')}"}
