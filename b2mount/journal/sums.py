"""The SHA-1 of a whole file, taken while its parts are summed for sending: each byte is read once.

B2 keeps no SHA-1 of a large file. Knows nothing of files: parts are numbers and bytes.
"""

import hashlib

import trio

from b2mount.store.store import Body

BLOCK = 1 << 20  # bytes


class RunningSum:
    """Sums parts, and the whole as long as each part is summed once before the next."""

    def __init__(self) -> None:
        self._digest = hashlib.sha1(usedforsecurity=False)
        self._next = 1
        self._broken = False
        self._moved = trio.Event()

    async def of_part(self, number: int, body: Body) -> str:
        """Return the SHA-1 of one part, once the parts before it are summed; raise what reading raises."""
        while self._next < number and not self._broken:
            await self._moved.wait()
        if self._broken or self._next > number:
            return await trio.to_thread.run_sync(_sum, body, None)
        try:
            sha1 = await trio.to_thread.run_sync(_sum, body, self._digest)
        except BaseException:
            self.give_up()
            raise
        self._next += 1
        self._tell()
        return sha1

    def give_up(self) -> None:
        """Sum parts alone from now on."""
        self._broken = True
        self._tell()

    def _tell(self) -> None:
        self._moved.set()
        self._moved = trio.Event()

    def of_whole(self, parts: int) -> str | None:
        """Return the SHA-1 of all *parts* parts; None where it is not known."""
        return None if self._broken or self._next != parts + 1 else self._digest.hexdigest()


def _sum(body: Body, whole: "hashlib._Hash | None") -> str:
    own = hashlib.sha1(usedforsecurity=False)
    for offset in range(0, body.size, BLOCK):
        block = body.read_at(offset, BLOCK)
        own.update(block)
        if whole is not None:
            whole.update(block)
    return own.hexdigest()
