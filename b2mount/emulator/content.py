"""File content: blobs on disk, shared by reference count, and the pieces that make up each file.

A version or part owns a list of pieces, each a range of a blob. Finishing a large file and copying move or
share pieces and never bytes. Blob 0 is the pattern: content that seeding makes up, computed from its
offset, stored nowhere.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from b2mount.emulator.database import Database

READ_BYTES = 512 * 1024
PATTERN_BLOB = 0

# A prime, so that no power of two (a block, a part) is a whole number of periods and a misplaced block shows.
PATTERN_PERIOD = 65521
_PATTERN = b"".join(hashlib.sha256(b"b2mount %d" % i).digest() for i in range(2048))[:PATTERN_PERIOD]
_PATTERN_RUN = _PATTERN * (READ_BYTES // PATTERN_PERIOD + 2)


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes [start, start + length) of a file: those of *blob* from *skip* on."""

    start: int
    blob: int
    skip: int
    length: int


class Incoming:
    """Content being received: written to a file of its own and hashed on the way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._file: BinaryIO | None = None

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        if not data:
            return
        if self._file is None:
            self._file = self.path.open("wb")
        self._file.write(data)
        self._sha1.update(data)
        self._md5.update(data)
        self.size += len(data)

    @property
    def sha1(self) -> str:
        """The SHA-1 of what was received so far, in hex."""
        return self._sha1.hexdigest()

    @property
    def md5(self) -> str:
        """The MD5 of what was received so far, in hex."""
        return self._md5.hexdigest()

    def close(self) -> None:
        """Hand the bytes to the kernel."""
        if self._file is not None:
            self._file.close()

    def discard(self) -> None:
        """Forget the content."""
        self.close()
        self.path.unlink(missing_ok=True)


class ContentStore:
    """The blobs of one data directory and the pieces that refer to them."""

    def __init__(self, directory: Path, database: Database) -> None:
        self._database = database
        self._blobs = directory / "content"
        self._incoming = directory / "incoming"
        shutil.rmtree(self._incoming, ignore_errors=True)  # what a kill left half received
        self._incoming.mkdir(parents=True)
        for shard in range(256):
            (self._blobs / f"{shard:02x}").mkdir(parents=True, exist_ok=True)
        self._next_blob = itertools.count(database.greatest("blobs", "id") + 1)
        self._next_incoming = itertools.count(1)

    def receive(self) -> Incoming:
        """Start to receive content; the caller keeps or discards it."""
        return Incoming(self._incoming / str(next(self._next_incoming)))

    def _path(self, blob: int) -> Path:
        return self._blobs / f"{blob & 0xFF:02x}" / f"{blob:x}"

    def keep(self, incoming: Incoming) -> list[Piece]:
        """Turn received content into a blob; call inside the transaction that attaches it."""
        incoming.close()
        if incoming.size == 0:
            return []
        blob = next(self._next_blob)
        incoming.path.rename(self._path(blob))
        self._database.execute("INSERT INTO blobs VALUES (?, 0)", (blob,))
        return [Piece(0, blob, 0, incoming.size)]

    def keep_bytes(self, data: bytes) -> list[Piece]:
        """Store content that is at hand."""
        incoming = self.receive()
        incoming.write(data)
        return self.keep(incoming)

    def attach(self, owner: int, pieces: list[Piece]) -> None:
        """Make *pieces* the content of *owner*, each counting one reference to its blob."""
        for piece in pieces:
            self._database.execute(
                "INSERT INTO pieces VALUES (?, ?, ?, ?, ?)",
                (owner, piece.start, piece.blob, piece.skip, piece.length),
            )
            if piece.blob != PATTERN_BLOB:
                self._database.execute("UPDATE blobs SET refs = refs + 1 WHERE id = ?", (piece.blob,))

    def move(self, owner: int, new_owner: int, start: int) -> None:
        """Hand all pieces of *owner* to *new_owner*, *start* bytes further on."""
        self._database.execute(
            "UPDATE pieces SET owner = ?, start = start + ? WHERE owner = ?", (new_owner, start, owner)
        )

    def detach(self, owner: int) -> list[int]:
        """Drop *owner*'s content; the blobs nobody refers to any more are for `erase`, after the commit."""
        pieces = self.pieces(owner)
        self._database.execute("DELETE FROM pieces WHERE owner = ?", (owner,))
        unused = []
        for piece in pieces:
            if piece.blob == PATTERN_BLOB:
                continue
            self._database.execute("UPDATE blobs SET refs = refs - 1 WHERE id = ?", (piece.blob,))
            cursor = self._database.execute("DELETE FROM blobs WHERE id = ? AND refs = 0", (piece.blob,))
            if cursor.rowcount:
                unused.append(piece.blob)
        return unused

    def erase(self, blobs: list[int]) -> None:
        """Remove the files of blobs that are out of the database."""
        for blob in blobs:
            self._path(blob).unlink(missing_ok=True)

    def pieces(self, owner: int, start: int = 0, end: int | None = None) -> list[Piece]:
        """Give the pieces that make up bytes [start, end) of *owner*, cut to fit and counted from 0."""
        stop = (1 << 62) if end is None else end
        rows = self._database.execute(
            "SELECT start, blob, skip, length FROM pieces WHERE owner = ?1 AND start < ?3 AND start >="
            " coalesce((SELECT max(start) FROM pieces WHERE owner = ?1 AND start <= ?2), 0) ORDER BY start",
            (owner, start, stop),
        )
        cut = []
        for begin, blob, skip, length in rows:
            first, last = max(begin, start), min(begin + length, stop)
            if first < last:
                cut.append(Piece(first - start, blob, skip + first - begin, last - first))
        return cut

    def read(self, pieces: list[Piece], chunk_bytes: int = READ_BYTES) -> Iterator[bytes]:
        """Yield the content of *pieces* in chunks; raise FileNotFoundError when it was deleted meanwhile."""
        for piece in pieces:
            if piece.blob == PATTERN_BLOB:
                yield from _pattern_chunks(piece, chunk_bytes)
                continue
            with self._path(piece.blob).open("rb", buffering=0) as file:
                file.seek(piece.skip)
                left = piece.length
                while left:
                    data = file.read(min(left, chunk_bytes))
                    if not data:
                        raise FileNotFoundError(f"blob {piece.blob} is shorter than its piece")
                    left -= len(data)
                    yield data


def _pattern_chunks(piece: Piece, chunk_bytes: int) -> Iterator[bytes]:
    position, left = piece.skip % PATTERN_PERIOD, piece.length
    while left:
        size = min(left, chunk_bytes, READ_BYTES)
        yield _PATTERN_RUN[position : position + size]
        left -= size
        position = (position + size) % PATTERN_PERIOD
