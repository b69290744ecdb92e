"""What to look at when B2, or what was named in its place, cannot be reached at all."""

from urllib.parse import urlsplit

from b2mount.core.errors import B2MountError
from b2mount.core.replies import Fault, failure_behind

UNREACHABLE = (Fault.CONNECT, Fault.DNS)


def hints_on_reach(error: B2MountError, endpoint: str | None) -> list[str]:
    """Return what to look at where no connection came about; nothing where B2 answered or broke off.

    *endpoint* is what the user chose; None: Backblaze.
    """
    failure = failure_behind(error)
    if failure is None or failure.answer not in UNREACHABLE:
        return []
    if endpoint is None:
        return ["is this machine online? curl -sI https://api.backblazeb2.com shows it"]
    where = urlsplit(endpoint).netloc
    return [
        f"is the endpoint right (--endpoint, $B2MOUNT_ENDPOINT), and does a server listen at {where}?",
        "without an endpoint b2mount asks Backblaze",
    ]
