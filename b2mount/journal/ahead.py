"""The body of one part, put together while B2 is asked to begin the large file that it goes into.

A small change goes up with megabytes of the old file that follow it, which have to be fetched; neither that
nor the beginning needs the other. Knows nothing of where the bytes come from.
"""

import trio

from b2mount.core.errors import B2MountError
from b2mount.journal.large import BodyOf
from b2mount.store.store import Body


class Ahead:
    """Gives bodies as another does, and one of them sooner."""

    def __init__(self, body_of: BodyOf, start: int, end: int) -> None:
        """Have the body of bytes [start, end) put together by `run`; *body_of* makes the others."""
        self._body_of = body_of
        self._range = (start, end)
        self._body: Body | None = None
        self._over = trio.Event()

    async def run(self) -> None:
        """Put it together; where that fails, who asks for it tries again and is told."""
        try:
            self._body = await self._body_of(*self._range)
        except B2MountError:
            self._body = None
        finally:
            self._over.set()

    async def body_of(self, start: int, end: int) -> Body:
        """Return the body of bytes [start, end)."""
        if (start, end) == self._range:
            await self._over.wait()
            body, self._body = self._body, None  # the memory goes once it is sent
            if body is not None:
                return body
        return await self._body_of(start, end)
