"""Listings of names and versions, each a walk along an index.

With a delimiter the walk seeks past a folder as soon as it has seen one name in it, so that the cost is by
the rows returned, whatever lies in the folder. Source: Backblaze docs, b2_list_file_names,
b2_list_file_versions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from b2mount.emulator.buckets import Bucket
from b2mount.emulator.database import Database
from b2mount.emulator.names import after_prefix
from b2mount.emulator.versions import COLUMNS, FileId, Version, version_from_row

_NAMES = (
    f"SELECT {COLUMNS} FROM versions INDEXED BY visible"
    " WHERE bucket = ? AND current = 1 AND name >= ? AND name < ? ORDER BY name"
)
_VERSIONS = (
    f"SELECT {COLUMNS} FROM versions INDEXED BY history"
    " WHERE bucket = ? AND name >= ? AND name < ? ORDER BY name, stamp DESC, seq DESC"
)
_REST_OF_NAME = (
    f"SELECT {COLUMNS} FROM versions INDEXED BY history"
    " WHERE bucket = ? AND name = ? AND (stamp, seq) <= (?, ?) ORDER BY stamp DESC, seq DESC"
)


@dataclass(frozen=True, slots=True)
class Folder:
    """Names that share all up to the delimiter, shown as one row."""

    name: str


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, and the row that the next page starts with."""

    rows: list[Version | Folder]
    following: Version | Folder | None


class Lister:
    """Reads pages of names and versions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def names(self, bucket: Bucket, *, prefix: str, delimiter: str, start: str, count: int) -> Page:
        """List the visible version of each name from *start* on."""
        walk = self._walk(_NAMES, bucket.num, prefix.encode(), delimiter.encode(), start.encode())
        return _take(walk, count)

    def versions(
        self,
        bucket: Bucket,
        *,
        prefix: str,
        delimiter: str,
        start: str,
        start_id: FileId | None,
        count: int,
    ) -> Page:
        """List all versions, newest first within a name, from *start* (and there from *start_id*) on."""
        prefix_, delimiter_, start_ = prefix.encode(), delimiter.encode(), start.encode()
        if start_id is None:
            return _take(self._walk(_VERSIONS, bucket.num, prefix_, delimiter_, start_), count)
        return _take(self._walk_from(bucket.num, prefix_, delimiter_, start_, start_id), count)

    def _walk_from(
        self, bucket: int, prefix: bytes, delimiter: bytes, start: bytes, start_id: FileId
    ) -> Iterator[Version | Folder]:
        inside = start.startswith(prefix)
        collapsed = _folder(start, prefix, delimiter) if inside else None
        if inside and collapsed is None:
            rows = self._database.execute(_REST_OF_NAME, (bucket, start, start_id.stamp, start_id.seq))
            yield from map(version_from_row, rows)
            start += b"\0"  # the least name after it
        yield from self._walk(_VERSIONS, bucket, prefix, delimiter, start)

    def _walk(
        self, query: str, bucket: int, prefix: bytes, delimiter: bytes, start: bytes
    ) -> Iterator[Version | Folder]:
        low, high = max(prefix, start), after_prefix(prefix)
        while True:
            folder = None
            for row in self._database.execute(query, (bucket, low, high)):
                folder = _folder(row[2], prefix, delimiter)
                if folder is not None:
                    break
                yield version_from_row(row)
            if folder is None:
                return
            yield Folder(folder.decode())
            low = after_prefix(folder)

    def unfinished(
        self, bucket: Bucket, *, prefix: str, start_seq: int, count: int
    ) -> tuple[list[Version], Version | None]:
        """List large files not finished yet, oldest first, and the one the next page starts with."""
        raw = prefix.encode()
        rows: list[Any] = self._database.execute(
            f"SELECT {COLUMNS} FROM versions INDEXED BY unfinished WHERE bucket = ? AND action = 'start'"
            " AND seq >= ? AND name >= ? AND name < ? ORDER BY seq LIMIT ?",
            (bucket.num, start_seq, raw, after_prefix(raw), count + 1),
        ).fetchall()
        found = [version_from_row(row) for row in rows]
        return found[:count], found[count] if len(found) > count else None


def _folder(name: bytes, prefix: bytes, delimiter: bytes) -> bytes | None:
    """Give the folder that *name* collapses into, or None where it stands for itself."""
    if not delimiter:
        return None
    at = name.find(delimiter, len(prefix))
    return None if at < 0 else name[: at + len(delimiter)]


def _take(walk: Iterator[Version | Folder], count: int) -> Page:
    rows: list[Version | Folder] = []
    for row in walk:
        if len(rows) == count:
            return Page(rows, row)
        rows.append(row)
    return Page(rows, None)
