"""File attributes as POSIX has them, and the B2 file info that carries them.

The modification time goes into `src_last_modified_millis`, which the b2 tool, rclone and b2sdk read and write
(Backblaze docs, "Add File Information with the Native API"). All that it cannot say (nanoseconds, kind, mode,
owner, symlink target, device number, extended attributes) goes into one entry of our own, `b2mount`, and only
where it differs from what a plain file has anyway; most files of strangers need none.

The entry reads `1;KEY=VALUE;...`: version 1, then fields in any order, each written in characters that HTTP
headers carry without percent-encoding. Readers skip fields they do not know, and writers hand them on:

    n  exact mtime in nanoseconds, believed only beside the milliseconds it was written with, so that a tool
       which changes those and keeps this entry wins
    c  ctime in nanoseconds: when content or attributes last changed; left out where it is the exact mtime
    k  kind: l symlink, p FIFO, c and b devices, s socket; none for files (directories are known otherwise)
    m  permission bits in octal          u, g  owner and group          r  device number
    t  symlink target                    xNAME, yNAME  extended attribute, as text or in base64
    b  mark by which a mount knows a large file that it began; says nothing of the file, and no copy gets it

Knows nothing of B2 calls, of names in directories, or of which attributes the mount lets anybody change.
"""

import base64
import enum
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from b2mount.core.errors import AttributesTooLarge

MTIME_NAME = "src_last_modified_millis"
OWN_NAME = "b2mount"
S3_MTIME_NAME = "mtime"  # float seconds, as rclone writes it through the S3 API

# Backblaze docs, "b2_upload_file": file name and file info together, as encoded header lines; the lower limit
# where the file is encrypted by the server or the bucket is lock-enabled.
INFO_LIMIT = 7000
INFO_LIMIT_LOCKED = 2048
NO_LIMIT = 1 << 30  # for what is not sent

DEFAULT_FILE_MODE = 0o666  # before the mount's umask
DEFAULT_DIRECTORY_MODE = 0o777

_NS_PER_MS = 10**6
_NS_PER_S = 10**9
_LAST_MS = 253_402_300_799_999  # the end of year 9999: many programs cannot name a later moment
_MAX_TARGET = 4095  # bytes of a symlink's target: PATH_MAX less its NUL; the kernel takes no longer one
_MAX_ID = 2**32 - 2  # uid_t and gid_t; the highest value means "leave it" to chown(2)


class Kind(enum.Enum):
    """What a directory entry is; the value is its type bits in st_mode."""

    FILE = stat.S_IFREG
    DIRECTORY = stat.S_IFDIR
    SYMLINK = stat.S_IFLNK
    FIFO = stat.S_IFIFO
    CHARACTER = stat.S_IFCHR
    BLOCK = stat.S_IFBLK
    SOCKET = stat.S_IFSOCK


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a file or directory is, beyond its name and content. None means: as the mount has it by default.

    Raises ValueError for values that no Linux file can have. Text that is not UTF-8 is held as `os.fsdecode`
    gives it (surrogate escapes).
    """

    kind: Kind
    mtime_ns: int  # nanoseconds since the epoch, negative before it
    mode: int | None = None  # permission bits alone, 0 .. 0o7777
    uid: int | None = None
    gid: int | None = None
    target: str | None = None  # of a symlink, and of nothing else
    rdev: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=dict, hash=False)
    # When content or attributes last changed, as far as it was recorded; no attribute that anybody sets.
    ctime_ns: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not -(2**63) <= self.mtime_ns // _NS_PER_S < 2**63:
            raise ValueError(f"mtime out of range: {self.mtime_ns}")
        if self.mode is not None and not 0 <= self.mode <= 0o7777:
            raise ValueError(f"not permission bits: {self.mode:#o}")
        for number, highest in ((self.uid, _MAX_ID), (self.gid, _MAX_ID), (self.rdev, 2**64 - 1)):
            if number is not None and not 0 <= number <= highest:
                raise ValueError(f"out of range: {number}")
        if (self.target is not None) != (self.kind is Kind.SYMLINK):
            raise ValueError("a symlink has a target, and nothing else has one")
        if not all(map(_is_path_text, self.xattrs)) or not (
            self.target is None or _is_path_text(self.target)
        ):
            raise ValueError(
                "a target or an attribute's name is empty, holds NUL or is no text of the kernel's"
            )


def st_mode(attributes: Attributes, *, umask: int, mask: int) -> int:
    """Return type and permission bits for stat(2).

    *umask* is taken from the defaults only, since a stored mode was meant as it is. *mask* holds the
    permission bits that the key leaves to anybody. Symlinks show 0o777 as everywhere on Linux.
    """
    type_bits: int = attributes.kind.value
    if attributes.kind is Kind.SYMLINK:
        return type_bits | 0o777
    if attributes.mode is not None:
        mode = attributes.mode
    elif attributes.kind is Kind.DIRECTORY:
        mode = DEFAULT_DIRECTORY_MODE & ~umask
    else:
        mode = DEFAULT_FILE_MODE & ~umask
    return type_bits | (mode & (mask | 0o7000))


# --- reading ----------------------------------------------------------------------------------------------


def from_info(info: Mapping[str, str], *, fallback_ms: int, is_directory: bool = False) -> Attributes:
    """Read the attributes of a file version from its file info. Never raises, whatever strangers wrote.

    *fallback_ms* is the modification time where none can be read: the upload's. *is_directory* is told by the
    caller, from the version's name; a version whose name is a file's is never read as a directory.
    """
    own = info.get(OWN_NAME)
    if own is None:  # nearly every file that others wrote
        mtime_ns = _mtime_ns(info, {}, fallback_ms)
        return Attributes(Kind.DIRECTORY if is_directory else Kind.FILE, mtime_ns)
    fields = _parse_own(own)
    exact = _exact_mtime_ns(info, fields)
    kind, target = (Kind.DIRECTORY, None) if is_directory else _kind_and_target(fields)
    return Attributes(
        kind=kind,
        mtime_ns=_mtime_ns(info, fields, fallback_ms),
        mode=_read(fields.get("m"), _permission_bits),
        uid=_read(fields.get("u"), _owner),
        gid=_read(fields.get("g"), _owner),
        target=target,
        rdev=_read(fields.get("r"), _device) or 0,
        xattrs=_xattrs(fields),
        ctime_ns=_read(fields["c"], _nanoseconds) if "c" in fields else exact,
    )


def _parse_own(text: str) -> dict[str, str]:
    """Split our entry into its fields, still encoded; none where another version wrote it."""
    version, *words = text.split(";")
    if version != "1":
        return {}
    pairs = (word.partition("=") for word in words)
    return {key: value for key, equals, value in pairs if key and equals}


_T = TypeVar("_T")


def _read(text: str | None, parse: Callable[[str], _T]) -> _T | None:
    """Return a field's value; None where it is missing or makes no sense."""
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError:
        return None


def _mtime_ns(info: Mapping[str, str], fields: Mapping[str, str], fallback_ms: int) -> int:
    """Find the modification time: ours if it still belongs to the milliseconds beside it, b2's, then S3's."""
    exact = _exact_mtime_ns(info, fields)
    if exact is not None:
        return exact
    millis = _read(info.get(MTIME_NAME), _milliseconds)
    if millis is not None:
        return millis * _NS_PER_MS
    seconds = _read(info.get(S3_MTIME_NAME), _float_seconds)
    return fallback_ms * _NS_PER_MS if seconds is None else seconds


def _exact_mtime_ns(info: Mapping[str, str], fields: Mapping[str, str]) -> int | None:
    """Return our own nanoseconds, where the milliseconds beside them are still those they came with."""
    exact = _read(fields.get("n"), _nanoseconds)
    if exact is None or MTIME_NAME not in info:
        return exact
    return exact if _read(info[MTIME_NAME], _milliseconds) == _stored_ms(exact) else None


def _kind_and_target(fields: Mapping[str, str]) -> tuple[Kind, str | None]:
    kind = _KINDS.get(fields.get("k", ""), Kind.FILE)
    if kind is not Kind.SYMLINK:
        return kind, None
    target = _read(fields.get("t"), _target)
    return (Kind.FILE, None) if target is None else (kind, target)


def _xattrs(fields: Mapping[str, str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for key, text in fields.items():
        decode = _XATTR_DECODERS.get(key[0])
        name = _read(key[1:], _path_text) if decode else None
        value = _read(text, decode) if decode else None
        if name is not None and value is not None:
            found[name] = value
    return found


# --- writing ----------------------------------------------------------------------------------------------


def to_info(
    attributes: Attributes,
    keep: Mapping[str, str] | None = None,
    *,
    limit: int = INFO_LIMIT,
    file_name: str = "",
) -> dict[str, str]:
    """Return the file info for *attributes*, with every entry of *keep* that is not ours to say.

    *keep* is the info that the file had; entries about its content (`large_file_sha1`) are the caller's to
    drop where the content changes. Unknown fields of our own entry are kept too, and an S3 `mtime` is brought
    up to date. Where *limit* would be passed, the times are cut to mtime's milliseconds first. Raises
    AttributesTooLarge where that is not enough, unless there is nothing but the time to tell: a name that is
    too long by itself is B2's to refuse.
    """
    kept = dict(keep or {})
    unknown = {k: v for k, v in _parse_own(kept.pop(OWN_NAME, "")).items() if not _is_known(k)}
    if _read(kept.get(S3_MTIME_NAME), _float_seconds) is not None:
        kept[S3_MTIME_NAME] = _as_float_seconds(attributes.mtime_ns)
    kept[MTIME_NAME] = str(_stored_ms(attributes.mtime_ns))
    fields = {**_own_fields(attributes), **unknown}
    info = kept | _own_entry(fields)
    if limit >= NO_LIMIT or header_bytes(info, file_name) <= limit:
        return info
    fields.pop("n", None)
    fields.pop("c", None)
    info = kept | _own_entry(fields)
    size = header_bytes(info, file_name)
    if size > limit and len(info) > 1:
        raise AttributesTooLarge(f"name and attributes need {size} bytes of file info, B2 allows {limit}")
    return info


def with_mark(
    info: Mapping[str, str], mark: str, *, limit: int = INFO_LIMIT, file_name: str = ""
) -> dict[str, str]:
    """Return the info of a large file to be begun, told from all others by *mark*; as it is if that is full.

    *mark* is made of letters and digits.
    """
    entry = info.get(OWN_NAME, "1")
    if entry != "1" and not entry.startswith("1;"):
        return dict(info)
    marked = {**info, OWN_NAME: f"{entry};{_MARK}={mark}"}
    return marked if header_bytes(marked, file_name) <= limit else dict(info)


def mark_of(info: Mapping[str, str]) -> str | None:
    """Return the mark that `with_mark` set."""
    return _parse_own(info.get(OWN_NAME, "")).get(_MARK)


def without_mark(info: Mapping[str, str]) -> dict[str, str]:
    """Return the info as it was before `with_mark`."""
    mark = mark_of(info)
    if mark is None:
        return dict(info)
    entry = info[OWN_NAME].replace(f";{_MARK}={mark}", "")
    return {key: text for key, text in info.items() if key != OWN_NAME} | (
        {OWN_NAME: entry} if entry != "1" else {}
    )


def header_bytes(info: Mapping[str, str], file_name: str = "") -> int:
    """Count what a name and its info take of B2's limit, as the header lines that carry them to B2.

    Backblaze docs, "b2_upload_file": the limit applies to the fully encoded header line with its line end.
    """
    lines = [("X-Bz-File-Name", "", file_name)] if file_name else []
    lines += [("X-Bz-Info-", name, value) for name, value in info.items()]
    return sum(len(lead) + len(": \r\n") + _encoded_bytes(name + value) for lead, name, value in lines)


def _encoded_bytes(text: str) -> int:
    """Count *text* with every byte percent-encoded that B2 does not promise to take as it is."""
    raw = text.encode("utf-8", "surrogatepass")
    return len(raw) + 2 * len(raw.translate(None, _UNENCODED))


def _own_entry(fields: Mapping[str, str]) -> dict[str, str]:
    if not fields:
        return {}
    return {OWN_NAME: ";".join(["1", *(f"{key}={value}" for key, value in fields.items())])}


def _own_fields(attributes: Attributes) -> dict[str, str]:
    """Return what our entry must say, encoded: only what differs from a plain file with its milliseconds."""
    a = attributes
    fields: dict[str, str] = {}
    if _stored_ms(a.mtime_ns) * _NS_PER_MS != a.mtime_ns:
        fields["n"] = str(a.mtime_ns)
    if a.ctime_ns is not None and (a.ctime_ns != a.mtime_ns or "n" not in fields):
        fields["c"] = str(a.ctime_ns)
    if a.kind in _LETTERS:
        fields["k"] = _LETTERS[a.kind]
    if a.mode is not None:
        fields["m"] = f"{a.mode:o}"
    for key, number in (("u", a.uid), ("g", a.gid), ("r", a.rdev or None)):
        if number is not None:
            fields[key] = str(number)
    if a.target is not None:
        fields["t"] = _escape(_to_bytes(a.target))
    for name in sorted(a.xattrs):
        text, packed = _escape(a.xattrs[name]), _to_base64(a.xattrs[name])
        letter, value = ("x", text) if len(text) <= len(packed) else ("y", packed)
        fields[letter + _escape(_to_bytes(name))] = value
    return fields


def _is_known(key: str) -> bool:
    return key in _PLAIN_KEYS or key[0] in _XATTR_DECODERS


def _stored_ms(mtime_ns: int) -> int:
    """Return the milliseconds we write for b2 and rclone: floored, and held to what every reader can take."""
    return min(max(mtime_ns // _NS_PER_MS, 0), _LAST_MS)


# --- the fields' encodings --------------------------------------------------------------------------------

_LETTERS = {Kind.SYMLINK: "l", Kind.FIFO: "p", Kind.CHARACTER: "c", Kind.BLOCK: "b", Kind.SOCKET: "s"}
_KINDS = {letter: kind for kind, letter in _LETTERS.items()}
_MARK = "b"
_PLAIN_KEYS = frozenset("nckmugrt" + _MARK)

# What B2 leaves as it is in headers and URLs (Backblaze docs, "Native API String Encoding").
_UNENCODED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/~!$'()*;=:@"
_LITERAL = frozenset(_UNENCODED) - frozenset(b"~;=")  # less the three that mean something in our entry


def _escape(raw: bytes) -> str:
    """Write bytes in characters that need no percent-encoding: `~` and two hex digits for all others."""
    return "".join(chr(byte) if byte in _LITERAL else f"~{byte:02X}" for byte in raw)


def _unescape(text: str) -> bytes:
    first, *rest = text.encode("ascii").split(b"~")
    return first + b"".join(bytes([_from_hex(word[:2])]) + word[2:] for word in rest)


def _from_hex(digits: bytes) -> int:
    if not re.fullmatch(rb"[0-9A-F]{2}", digits):
        raise ValueError(f"not an escape: {digits!r}")
    return int(digits, 16)


def _to_base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _from_base64(text: str) -> bytes:
    raw = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    if _to_base64(raw) != text:  # the decoder skips what it does not know
        raise ValueError(f"not base64: {text!r}")
    return raw


_XATTR_DECODERS = {"x": _unescape, "y": _from_base64}


def _to_bytes(text: str) -> bytes:
    """Do as `os.fsencode` in a UTF-8 locale, whatever the locale is."""
    return text.encode("utf-8", "surrogateescape")


def _path_text(text: str) -> str:
    found = _unescape(text).decode("utf-8", "surrogateescape")
    if not _is_path_text(found):
        raise ValueError(f"empty, or holds NUL: {found!r}")
    return found


def _target(text: str) -> str:
    found = _path_text(text)
    if len(_to_bytes(found)) > _MAX_TARGET:
        raise ValueError(f"a target of more than {_MAX_TARGET} bytes")
    return found


def _is_path_text(text: str) -> bool:
    """Whether the kernel can have handed us this text."""
    if text.isascii():
        return text != "" and "\0" not in text
    try:
        return "\0" not in text and _to_bytes(text).decode("utf-8", "surrogateescape") == text
    except UnicodeEncodeError:
        return False


def _integer(text: str, lowest: int, highest: int, base: int = 10) -> int:
    """Read a plain number; int() alone would also take spaces, underscores and other scripts' digits."""
    if not re.fullmatch(r"-?[0-9]{1,30}", text):
        raise ValueError(f"not a number: {text!r}")
    number = int(text, base)
    if not lowest <= number <= highest:
        raise ValueError(f"out of range: {number}")
    return number


def _permission_bits(text: str) -> int:
    return _integer(text, 0, 0o7777, base=8)


def _owner(text: str) -> int:
    return _integer(text, 0, _MAX_ID)


def _device(text: str) -> int:
    return _integer(text, 0, 2**64 - 1)


def _milliseconds(text: str) -> int:
    return _integer(text, -_LAST_MS, _LAST_MS)


def _nanoseconds(text: str) -> int:
    return _integer(text, -(2**63) * _NS_PER_S, 2**63 * _NS_PER_S - 1)


def _float_seconds(text: str) -> int:
    """Read decimal seconds as nanoseconds, exactly: a float would lose the last digits."""
    found = re.fullmatch(r"(-?)([0-9]{1,12})(?:\.([0-9]{0,30}))?", text)
    if found is None:
        raise ValueError(f"not seconds: {text!r}")
    sign, whole, fraction = found.groups()
    nanoseconds = int(whole) * _NS_PER_S + int((fraction or "").ljust(9, "0")[:9])
    if nanoseconds > _LAST_MS * _NS_PER_MS:
        raise ValueError(f"out of range: {text!r}")
    return -nanoseconds if sign else nanoseconds


def _as_float_seconds(mtime_ns: int) -> str:
    seconds, rest = divmod(abs(mtime_ns), _NS_PER_S)
    return f"{'-' if mtime_ns < 0 else ''}{seconds}.{rest:09}"
