"""Rows of a listing, packed: a page of 10,000 in a handful of objects instead of 60,000.

A `FileVersion` with its strings takes some 800 bytes; a directory may have a million. Here names, file IDs
and file infos lie one after the other in one string of bytes each, numbers in arrays, and a `FileVersion` is
made when somebody asks for one row. What cannot be packed is kept beside, as it is. Knows no wire format.
"""

import copy
import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import overload

import orjson

from b2mount.store.store import Action, FileVersion, Retention

MTIME_NAME = "src_last_modified_millis"  # the one entry that most files have; kept as its bare digits
NO_SHA1 = bytes(20)
ACTIONS = (Action.UPLOAD, Action.HIDE, Action.START, Action.FOLDER)
ACTION_BITS = 3
HOLDS: tuple[bool | None, ...] = (None, False, True)
HOLD_SHIFT = 2  # the bits of `flags` above the action
FOLDER = ACTIONS.index(Action.FOLDER)
BRACE = ord("{")  # begins an info that is JSON
_LARGEST = (1 << 63) - 1


class Strings:
    """Many short strings of bytes in one."""

    __slots__ = ("ends", "whole")

    def __init__(self, parts: Sequence[bytes]) -> None:
        self.whole = b"".join(parts)
        self.ends = array("I", accumulate(map(len, parts), initial=0))

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, index: int) -> bytes:
        return self.whole[self.ends[index] : self.ends[index + 1]]

    def tail(self, first: int) -> "Strings":
        """Return those from *first* on."""
        rest, cut = Strings(()), self.ends[first]
        rest.whole = self.whole[cut:]
        rest.ends = array("I", [end - cut for end in self.ends[first:]])
        return rest


class Rows(Sequence[FileVersion]):
    """The rows of one page. Nothing in it changes."""

    __slots__ = (
        "_id_start",
        "_ids",
        "_infos",
        "_odd",
        "_sha1s",
        "_type_names",
        "_types",
        "flags",
        "has_folders",
        "in_order",
        "is_plain",
        "names",
        "retentions",
        "sizes",
        "uploaded_ms",
    )

    def __init__(
        self,
        *,
        names: Sequence[bytes],
        ids: Sequence[str],
        infos: Sequence[bytes],
        sizes: "array[int]",
        uploaded_ms: "array[int]",
        sha1s: Sequence[bytes],
        flags: bytes,
        types: "array[int]",
        type_names: Sequence[str],
        retentions: Mapping[int, Retention],
        odd: Mapping[int, FileVersion],
    ) -> None:
        """Take the columns, which are of one length; *infos* are packed by `pack_info`."""
        self.names = Strings(names)
        given = [text for text in ids if text]
        start = _common_start(min(given, default=""), max(given, default=""))[
            :-1
        ]  # what is left is not empty
        self._id_start = start
        cut = len(start)
        self._ids = Strings([text[cut:].encode("utf-8", "surrogatepass") for text in ids])
        self._infos = Strings(infos)
        self.sizes = sizes
        self.uploaded_ms = uploaded_ms
        self._sha1s = b"".join(sha1s)
        self.flags = flags
        self.has_folders = any(flag & ACTION_BITS == FOLDER for flag in set(flags))
        self._types = types
        self._type_names = type_names
        self.retentions = retentions
        self._odd = odd
        self.in_order = _is_in_order(names)
        whole = self.names.whole
        # No name needs an escape by what is in it: no "%b2-", no NUL, no surrogate (UTF-8's ED A0 to ED BF).
        self.is_plain = b"%b2-" not in whole and b"\0" not in whole and b"\xed" not in whole

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> FileVersion: ...

    @overload
    def __getitem__(self, index: slice) -> list[FileVersion]: ...

    def __getitem__(self, index: int | slice) -> FileVersion | list[FileVersion]:
        if isinstance(index, slice):
            return [self.version(at) for at in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.version(index % len(self))

    def version(self, at: int) -> FileVersion:
        """Return one row as it was told."""
        odd = self._odd.get(at)
        if odd is not None:
            return odd
        flags = self.flags[at]
        sha1 = self._sha1s[20 * at : 20 * at + 20]
        return FileVersion(
            name=self.names[at].decode("utf-8", "surrogatepass"),
            file_id=self.file_id(at),
            size=self.sizes[at],
            uploaded_ms=self.uploaded_ms[at],
            action=ACTIONS[flags & ACTION_BITS],
            sha1=None if sha1 == NO_SHA1 else sha1.hex(),
            content_type=self._type_names[self._types[at]],
            info=_unpack_info(self._infos[at]),
            retention=self.retentions.get(at),
            legal_hold=HOLDS[flags >> HOLD_SHIFT],
        )

    def tail(self, first: int) -> "Rows":
        """Return the rows from *first* on."""
        if first == 0:
            return self
        rest = copy.copy(self)
        rest.names, rest._ids, rest._infos = (
            each.tail(first) for each in (self.names, self._ids, self._infos)
        )
        rest.sizes, rest.uploaded_ms = self.sizes[first:], self.uploaded_ms[first:]
        rest._sha1s = self._sha1s[20 * first :]
        rest.flags, rest._types = self.flags[first:], self._types[first:]
        rest.has_folders = any(flag & ACTION_BITS == FOLDER for flag in set(rest.flags))
        rest.retentions = {at - first: found for at, found in self.retentions.items() if at >= first}
        rest._odd = {at - first: found for at, found in self._odd.items() if at >= first}
        return rest

    def pick(self, picks: Sequence[int]) -> "Rows":
        """Return the rows at *picks*, which are in order."""
        if len(picks) == len(self):
            return self
        kept = copy.copy(self)
        kept.names, kept._ids, kept._infos = (
            Strings([each[at] for at in picks]) for each in (self.names, self._ids, self._infos)
        )
        kept.sizes = array("q", [self.sizes[at] for at in picks])
        kept.uploaded_ms = array("q", [self.uploaded_ms[at] for at in picks])
        kept._sha1s = b"".join([self._sha1s[20 * at : 20 * at + 20] for at in picks])
        kept.flags = bytes([self.flags[at] for at in picks])
        kept._types = array("I", [self._types[at] for at in picks])
        kept.has_folders = any(flag & ACTION_BITS == FOLDER for flag in set(kept.flags))
        kept.in_order = _is_in_order([kept.names[at] for at in range(len(picks))])
        kept.retentions = {new: self.retentions[at] for new, at in enumerate(picks) if at in self.retentions}
        kept._odd = {new: self._odd[at] for new, at in enumerate(picks) if at in self._odd}
        return kept

    def file_id(self, at: int) -> str:
        """Return a row's file ID."""
        rest = self._ids[at]
        return self._id_start + rest.decode("utf-8", "surrogatepass") if rest else ""

    def is_folder(self, at: int) -> bool:
        """Say whether a row stands for names collapsed at the delimiter."""
        return self.flags[at] & ACTION_BITS == FOLDER

    def plain_mtime_ms(self, at: int) -> int | None:
        """Return the modification time of a file whose info tells nothing else; None for all others.

        Where the info is empty, that is the upload's.
        """
        text = self._infos[at]
        if not text:
            return self.uploaded_ms[at]
        return None if text[0] == BRACE or at in self._odd else int(text)

    def size_bytes(self) -> int:
        """Return the memory that the columns take."""
        strings = (self.names, self._ids, self._infos)
        arrays = sum(len(each.whole) + each.ends.itemsize * len(each.ends) for each in strings)
        return arrays + (8 + 8 + 1 + 20 + self._types.itemsize) * len(self)


def _is_in_order(names: Sequence[bytes]) -> bool:
    return all(map(bytes.__lt__, names, names[1:]))


def _common_start(first: str, last: str) -> str:
    """Return what two strings, and so all that sort between them, begin with."""
    pairs = enumerate(zip(first, last, strict=False))
    return first[: next((at for at, (one, other) in pairs if one != other), min(len(first), len(last)))]


def pack_info(info: Mapping[str, str]) -> bytes:
    """Pack file info: nothing, the digits of a modification time alone, or JSON."""
    if not info:
        return b""
    if len(info) == 1:
        text = info.get(MTIME_NAME, "")
        if text.isascii() and text.isdigit() and len(text) <= 13:  # up to the year 2286
            return text.encode()
    try:
        return orjson.dumps(info)
    except TypeError:  # a lone surrogate
        return json.dumps(dict(info)).encode()


def _unpack_info(packed: bytes) -> Mapping[str, str]:
    if not packed:
        return {}
    if packed[0] != BRACE:
        return {MTIME_NAME: packed.decode()}
    info: dict[str, str] = json.loads(packed) if b"\\ud" in packed else orjson.loads(packed)
    return info


def pack(versions: Iterable[FileVersion]) -> Rows:
    """Pack rows that are there already; rows that are packed are returned as they are."""
    if isinstance(versions, Rows):
        return versions
    rows = list(versions)
    types: dict[str, int] = {}
    sha1s = [_pack_sha1(row.sha1) for row in rows]
    return Rows(
        names=[row.name.encode("utf-8", "surrogatepass") for row in rows],
        ids=[row.file_id for row in rows],
        infos=[pack_info(row.info) for row in rows],
        sizes=array("q", [_clamp(row.size) for row in rows]),
        uploaded_ms=array("q", [_clamp(row.uploaded_ms) for row in rows]),
        sha1s=[sha1 or NO_SHA1 for sha1 in sha1s],
        flags=bytes(ACTIONS.index(row.action) | HOLDS.index(row.legal_hold) << HOLD_SHIFT for row in rows),
        types=array("I", [types.setdefault(row.content_type, len(types)) for row in rows]),
        type_names=tuple(types),
        retentions={at: row.retention for at, row in enumerate(rows) if row.retention is not None},
        odd={
            at: row
            for at, row in enumerate(rows)
            if sha1s[at] is None or abs(row.size) > _LARGEST or abs(row.uploaded_ms) > _LARGEST
        },
    )


def _pack_sha1(sha1: str | None) -> bytes | None:
    """Return the 20 bytes of a hash; None where they would not give it back."""
    if sha1 is None:
        return NO_SHA1
    try:
        packed = bytes.fromhex(sha1)
    except ValueError:
        return None
    return packed if len(packed) == 20 and packed != NO_SHA1 and packed.hex() == sha1 else None


def _clamp(number: int) -> int:
    return max(min(number, _LARGEST), -_LARGEST)
