"""Upload URLs at rest, each good for one upload at a time (Backblaze docs, b2_get_upload_url).

Used from the event loop alone, so that nothing here needs a lock.
"""

import time
from dataclasses import dataclass, field

from b2mount.core.replies import Failure, Reply, Verdict

LIFE_SECONDS = 23 * 3600.0  # B2 honours them for 24 hours
KEPT = 64  # of each bucket or large file


@dataclass(frozen=True, slots=True)
class UploadUrl:
    """Where to send one upload, and the token for it."""

    url: str = field(repr=False)
    token: str = field(repr=False)
    got: float = field(default_factory=time.monotonic)


class UploadUrls:
    """A pile for each bucket or large file: the one used last is used next, since its connection is warm."""

    def __init__(self) -> None:
        self._piles: dict[str, list[UploadUrl]] = {}

    def take(self, owner: str) -> UploadUrl | None:
        """Take one for the bucket or large file *owner* out of the pile, if there is one."""
        pile = self._piles.get(owner, [])
        while pile:
            url = pile.pop()
            if time.monotonic() - url.got < LIFE_SECONDS:
                return url
        self._piles.pop(owner, None)
        return None

    def put_back(self, owner: str, url: UploadUrl) -> None:
        """Give one back after an upload that leaves it good."""
        pile = self._piles.setdefault(owner, [])
        if len(pile) < KEPT:
            pile.append(url)

    def forget(self, owner: str) -> None:
        """Drop all of *owner*, whose large file is done."""
        self._piles.pop(owner, None)

    def forget_all(self) -> None:
        """Drop all: they were another key's."""
        self._piles.clear()


def leaves_url_good(failure: Failure) -> bool:
    """Say whether an upload URL may be used again after *failure*.

    Backblaze docs, "Integration Checklist": get a new one after 401, 408, 5xx and anything that broke on the
    way; a refusal of the request itself, or of its rate, leaves it good.
    """
    if isinstance(failure.answer, Reply) and failure.answer.status == 401:
        return False
    return failure.verdict is not Verdict.RETRY_NEW_URL
