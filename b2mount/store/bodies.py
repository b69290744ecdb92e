"""What is about to be sent: read into memory where it is small, and its SHA-1."""

import hashlib
from collections.abc import Callable

from b2mount.store.store import Body
from b2mount.store.wire import BLOCK

SMALL_BODY = BLOCK  # bytes; sent from memory in one piece


def prepared(body: Body, sha1: str | None, check: Callable[[], None]) -> tuple[bytes | Body, str]:
    """Return what to send and its SHA-1 in hex; a small body is read into memory once."""
    if body.size <= SMALL_BODY:
        data = bytes(body.read_at(0, body.size)) if body.size else b""
        if len(data) != body.size:
            raise EOFError(f"the bytes to send end at {len(data)}, not at {body.size}")
        return data, sha1 or hashlib.sha1(data, usedforsecurity=False).hexdigest()
    return body, sha1 or sha1_of(body, check)


def sha1_of(body: Body, check: Callable[[], None]) -> str:
    """Return the SHA-1 of a body in hex. Blocks; *check* is called between blocks and may raise."""
    digest = hashlib.sha1(usedforsecurity=False)
    offset = 0
    while offset < body.size:
        check()
        block = body.read_at(offset, min(BLOCK, body.size - offset))
        if not block:
            raise EOFError(f"the bytes to send end at {offset}, not at {body.size}")
        digest.update(block)
        offset += len(block)
    return digest.hexdigest()
