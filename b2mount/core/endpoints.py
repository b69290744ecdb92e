"""What may be wrong with the address that a key is asked at.

Source of the shapes: Backblaze docs, "Application Keys" (a key ID begins with the number of its cluster) and
"Call the S3-Compatible API" (s3.REGION.backblazeb2.com, where REGION ends in that number).
"""

import ipaddress
import re
from urllib.parse import urlsplit

from b2mount.core.credentials import Remark, Shape, shape_of

BACKBLAZE = "backblazeb2.com"
_CLUSTER = re.compile(r"(?:[a-z]+-[a-z]+-|^api|^f)(\d{3})\.")
LEAVE_OUT = "leave --endpoint and B2MOUNT_ENDPOINT out: Backblaze has one address for all keys"


def remarks_on_endpoint(endpoint: str | None, key_id: str) -> list[Remark]:
    """Say what is odd about an endpoint that a key was refused at; nothing where none was chosen."""
    host = (urlsplit(endpoint).hostname or "") if endpoint else ""
    if not host:
        return []
    if host.startswith("s3."):
        return [Remark(f"{host} is an address of the S3 API, and b2mount speaks B2's native API", LEAVE_OUT)]
    cluster = _CLUSTER.search(host) if host.endswith(f".{BACKBLAZE}") else None
    if cluster and shape_of(key_id) in (Shape.KEY_ID, Shape.MASTER_KEY_ID) and key_id[:3] != cluster[1]:
        return [
            Remark(f"the key is of cluster {key_id[:3]}, and {host} is of cluster {cluster[1]}", LEAVE_OUT)
        ]
    if host != BACKBLAZE and not host.endswith(f".{BACKBLAZE}"):
        where = f"{host} on this machine" if _is_loopback(host) else host
        return [
            Remark(f"the key was asked for at {where}, not at Backblaze, and is not known there", LEAVE_OUT)
        ]
    return []


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
