"""How one component of a B2 file name is shown as a directory entry, and what B2 accepts as a new name.

A B2 file name is one string; `/` splits it into components. Nearly every component is shown as it is. The
few that a directory cannot hold, or not beside another entry, are shown under an escape that starts with
`%b2-` and that is undone without loss:

    component                               shown as
    empty                                   %b2-empty
    .                                       %b2-dot
    ..                                      %b2-dotdot
    a file `a` beside a directory `a`       a%b2-file       (the directory keeps the plain name)
    NUL inside                              %b2-nul         (in its place)
    a lone surrogate, U+D800 to U+DFFF      %b2-uD800       (in its place, four upper-case digits)
    `%b2-` itself inside                    %b2-pctb2-      (in its place)

Knows neither directories nor listings: whether a file has a directory beside it is told by the caller.
"""

import re
from typing import Final, NamedTuple

from b2mount.core.errors import IllegalName, NameNotUnicode, NameTooLong

MAX_NAME_BYTES: Final = 1024  # Backblaze docs, "Files": length of a file name in UTF-8
MAX_COMPONENT_BYTES: Final = 250  # earlier edition of the same page; b2sdk refuses longer ones to this day
MAX_ENTRY_BYTES: Final = 1024  # FUSE_NAME_MAX of Linux: a longer entry fails the whole directory read
PLACEHOLDER: Final = ".bzEmpty"  # the zero-byte file by which Backblaze's web page keeps a new folder

_MARK: Final = "%b2-"
_TWIN: Final = "%b2-file"
_WHOLE: Final = {"": "%b2-empty", ".": "%b2-dot", "..": "%b2-dotdot"}
_WHOLE_BACK: Final = {text: component for component, text in _WHOLE.items()}
_ODD: Final = re.compile("%b2-|[\0\ud800-\udfff]")
_ESCAPED: Final = re.compile("%b2-(?:pct|nul|u(D[89AB][0-9A-F]{2}|D[C-F][0-9A-F]{2}))")
_BUCKET: Final = re.compile(r"(?!b2-)[A-Za-z0-9-]{6,63}")  # Backblaze docs, "Buckets"
_REFUSED_BY_B2: Final = re.compile(r"[\x00-\x1f\x7f\\]")


class Entry(NamedTuple):
    """What a directory entry stands for: the component, and whether it is a file beside a directory."""

    component: str
    twin: bool


def split(name: str) -> list[str]:
    """Split a B2 file name into its components; a name ending in `/` has an empty last one."""
    return name.split("/")


def shown(component: str, *, twin: bool = False) -> str:
    """Return the directory entry for a component; *twin* marks a file beside a directory of that name.

    The entry may be longer than `MAX_ENTRY_BYTES`. Raises ValueError for a `/`.
    """
    if "/" in component:
        raise ValueError(f"not one component: {component!r}")
    text = _WHOLE.get(component)
    if text is None:
        text = _ODD.sub(_escape, component)
    return text + _TWIN if twin else text


def parse_shown(entry: str) -> Entry:
    """Return what `shown` was given to produce *entry*; raise IllegalName where it never produces it."""
    if _ODD.search(entry) is None and entry not in _WHOLE and "/" not in entry:
        return Entry(entry, False)
    twin = entry.endswith(_TWIN)
    text = entry.removesuffix(_TWIN)
    component = _WHOLE_BACK.get(text)
    if component is None:
        component = _ESCAPED.sub(_unescape, text)
    if "/" in entry or shown(component, twin=twin) != entry:
        raise IllegalName(f"{entry!r} is no escape of b2mount: '%b2-' starts one, and is itself '%b2-pctb2-'")
    return Entry(component, twin)


def decode_entry(raw: bytes) -> str:
    """Read a directory entry as the kernel passes it. Raises NameNotUnicode."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise NameNotUnicode(f"{raw!r} is not UTF-8, and B2 stores nothing else") from exc


def encode_entry(entry: str) -> bytes:
    """Write a directory entry as the kernel takes it. Raises NameNotUnicode for lone surrogates."""
    return _utf8(entry)


def is_placeholder(component: str, size: int) -> bool:
    """Say whether a file only marks its directory: an empty `.bzEmpty`, or the empty object `dir/`.

    *component* is the last one of the file's name, *size* its bytes. Source: the web page's "New Folder"
    makes the first, S3 tools make the second.
    """
    return size == 0 and component in (PLACEHOLDER, "")


def too_long(name: str) -> bool:
    """Say whether a file name is longer than any that B2 holds."""
    return len(name) > MAX_NAME_BYTES or len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES


def is_utf8(name: str) -> bool:
    """Say whether UTF-8 can express a name, as what is written down here has to be."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def check_uploadable(name: str) -> None:
    """Raise what B2's native API would refuse a new file name for; placeholders may pass.

    Raises NameNotUnicode, NameTooLong or IllegalName. Source: Backblaze docs, "Files": UTF-8, 1 to 1024
    bytes, no code below 32, no DEL, no backslash, no leading, trailing or double slash.
    """
    size_bytes = len(_utf8(name))
    if size_bytes > MAX_NAME_BYTES:
        raise NameTooLong(f"the name has {size_bytes} bytes, B2 takes {MAX_NAME_BYTES} at most")
    for component in split(name):
        _check_component(component)


def check_new_component(component: str) -> None:
    """Raise where a person may not make a file or directory of this name, wherever it lies.

    Raises NameNotUnicode, NameTooLong or IllegalName. The name as a whole is `check_uploadable`'s matter.
    """
    _check_component(component)
    if component == PLACEHOLDER:
        raise IllegalName(f"{PLACEHOLDER!r} is how B2 marks an empty directory; it cannot be made by hand")


def check_length(component: str) -> None:
    """Raise NameTooLong where B2 takes no new file with such a part in its name."""
    size_bytes = len(_utf8(component))
    if size_bytes > MAX_COMPONENT_BYTES:
        raise NameTooLong(
            f"a part of the name has {size_bytes} bytes, B2 takes {MAX_COMPONENT_BYTES} at most"
        )


def _check_component(component: str) -> None:
    if not component:
        raise IllegalName("B2 takes no empty name, and no slash at the start or end or beside another")
    check_length(component)
    refused = _REFUSED_BY_B2.search(component)
    if refused is not None:
        raise IllegalName(
            f"B2 takes no {refused.group()!r} in a name (nor any control character or backslash)"
        )
    if "/" in component:
        raise IllegalName("a directory entry holds no slash")


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise NameNotUnicode(f"{text!r} holds a lone surrogate, which UTF-8 cannot express") from exc


def _escape(found: re.Match[str]) -> str:
    text = found.group()
    if text == _MARK:
        return "%b2-pctb2-"
    return "%b2-nul" if text == "\0" else f"%b2-u{ord(text):04X}"


def _unescape(found: re.Match[str]) -> str:
    if found.group(1) is not None:
        return chr(int(found.group(1), 16))
    return "%" if found.group().endswith("pct") else "\0"


def check_new_bucket(name: str) -> None:
    """Raise IllegalName for what B2 takes as no new bucket's name."""
    if not _BUCKET.fullmatch(name):
        raise IllegalName(
            f"{name}: a bucket's name has 6 to 63 letters, digits and hyphens, and does not begin with b2-"
        )
