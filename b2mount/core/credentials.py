"""A key ID and its secret: cleaned of what a paste brings along, and judged by their shapes.

Knows what B2's identifiers look like; knows neither where they were found (cli/credentials.py) nor whether
B2 accepts them. Shapes are advice, because B2 documents the identifiers as opaque: nothing is refused for its
shape before the server has answered. Source of the shapes: Backblaze docs, "Application Keys" and
b2_create_key, and the examples given there and in the b2 tool's issue tracker (#351, #535).
"""

import enum
import re
import unicodedata
from dataclasses import dataclass, field

KEY_ID_LENGTH = 25  # 3 digits of cluster, 12 of account, 10 of counter
KEY_LENGTH = 31  # "K", 3 digits of cluster, 27 characters

KEY_ID = "key ID"
KEY = "application key"


class CredentialsError(ValueError):
    """No B2 credentials can look like this; `hint` says what to do. Never holds a secret."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Remark:
    """Something odd about credentials, and what to do about it; a suspicion may explain a refusal."""

    message: str
    hint: str
    is_suspicion: bool = True


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """One application key, clean, and where it was found. Shows its secret in no text of its own."""

    key_id: str
    key: str
    source: str
    remarks: tuple[Remark, ...] = field(default=(), compare=False)

    @property
    def shown_id(self) -> str:
        """Return the key ID for people to read, unless it may be a secret put in its place."""
        return self.key_id if shape_of(self.key_id) in _SAFE_TO_SHOW else "(not shown: it is no key ID)"

    def __repr__(self) -> str:
        return f"Credentials(key_id={self.shown_id!r}, source={self.source!r})"


def make_credentials(key_id: str, key: str, source: str) -> Credentials:
    """Clean both halves, judge them and keep what is to be said about them.

    Raises CredentialsError where a half is empty or holds what no key can hold.
    """
    remarks = tuple(diagnose(key_id, key))
    return Credentials(
        key_id=_clean_half(KEY_ID, key_id), key=_clean_half(KEY, key), source=source, remarks=remarks
    )


# --- cleaning ---------------------------------------------------------------------------------------------


class Removed(enum.Enum):
    """The kinds of characters that a paste brings along and no key holds."""

    WHITE_SPACE = "white space"
    BYTE_ORDER_MARK = "a byte order mark"
    ZERO_WIDTH = "zero-width characters"
    NON_BREAKING = "non-breaking spaces"


_NON_BREAKING = "\u00a0\u2007\u202f"
_BYTE_ORDER_MARK = "\ufeff"


def clean(text: str) -> tuple[str, tuple[Removed, ...]]:
    """Take out what cannot be in a key; return the rest and the kinds that were there, in a fixed order."""
    kinds = {character: _kind_to_remove(character) for character in set(text)}
    cleaned = "".join(character for character in text if kinds[character] is None)
    return cleaned, tuple(kind for kind in Removed if kind in kinds.values())


def _kind_to_remove(character: str) -> Removed | None:
    if character == _BYTE_ORDER_MARK:
        return Removed.BYTE_ORDER_MARK
    if character in _NON_BREAKING:
        return Removed.NON_BREAKING
    if character.isspace():
        return Removed.WHITE_SPACE
    if unicodedata.category(character) == "Cf":  # zero-width, joiners, direction marks, soft hyphen
        return Removed.ZERO_WIDTH
    return None


def _clean_half(half: str, text: str) -> str:
    cleaned, _ = clean(text)
    if not cleaned:
        raise CredentialsError(f"the {half} is empty", f"put the {half} that B2 showed when the key was made")
    for character in cleaned:
        if not "!" <= character <= "~":
            raise CredentialsError(
                f"the {half} holds the character {_character_name(character)}, which no B2 key holds",
                f"copy the {half} again, as plain text",
            )
    return cleaned


def _character_name(character: str) -> str:
    name = unicodedata.name(character, "a control character")
    return f"U+{ord(character):04X} ({name})"


# --- judging ----------------------------------------------------------------------------------------------


class Shape(enum.Enum):
    """What a text looks like among B2's identifiers."""

    KEY_ID = "a key ID"
    MASTER_KEY_ID = "a master key ID"
    ACCOUNT_ID = "an account ID"
    BUCKET_ID = "a bucket ID"
    KEY = "an application key"
    MASTER_KEY = "a master application key"
    CUT_KEY = "an application key of a wrong length"
    HEX = "a hexadecimal number"
    OTHER = "none of B2's identifiers"


_SHAPES = (
    (Shape.MASTER_KEY_ID, re.compile(r"[0-9a-fA-F]{15}0{10}")),
    (Shape.KEY_ID, re.compile(r"[0-9a-fA-F]{25}")),
    (Shape.ACCOUNT_ID, re.compile(r"[0-9a-fA-F]{12}")),
    (Shape.BUCKET_ID, re.compile(r"[0-9a-fA-F]{24}")),
    (Shape.MASTER_KEY, re.compile(r"[0-9a-fA-F]{42}")),
    (Shape.KEY, re.compile(r"K[0-9]{3}\S{27}")),
    (Shape.CUT_KEY, re.compile(r"K[0-9]{3}\S*")),
    (Shape.HEX, re.compile(r"[0-9a-fA-F]+")),
)
_SECRETS = (Shape.KEY, Shape.MASTER_KEY, Shape.CUT_KEY)
_IDS = (Shape.KEY_ID, Shape.MASTER_KEY_ID, Shape.ACCOUNT_ID)
_SAFE_TO_SHOW = (*_IDS, Shape.BUCKET_ID)


def shape_of(text: str) -> Shape:
    """Say which of B2's identifiers a clean text looks like."""
    return next((shape for shape, pattern in _SHAPES if pattern.fullmatch(text)), Shape.OTHER)


def diagnose(key_id: str, key: str) -> list[Remark]:
    """Say what is odd about a pair as it was found, by shape alone; an empty list says nothing is."""
    clean_id, removed_from_id = clean(key_id)
    clean_key, removed_from_key = clean(key)
    remarks = [*_remark_removed(KEY_ID, removed_from_id), *_remark_removed(KEY, removed_from_key)]
    if not clean_id or not clean_key:
        return remarks
    return [*remarks, *_remarks_on_shapes(clean_id, clean_key)]


def _remark_removed(half: str, removed: tuple[Removed, ...]) -> list[Remark]:
    if not removed:
        return []
    what = " and ".join(kind.value for kind in removed)
    return [
        Remark(
            f"{what} in the {half} went unused",
            f"take it out where the {half} is kept: other programs may stumble over it",
            is_suspicion=False,
        )
    ]


def _remarks_on_shapes(key_id: str, key: str) -> list[Remark]:
    id_shape, key_shape = shape_of(key_id), shape_of(key)
    if id_shape in _SECRETS and key_shape in _IDS:
        return [
            Remark(
                "the key ID and the application key are swapped",
                "the key ID is the hexadecimal number, the application key is the secret",
            )
        ]
    if id_shape is Shape.ACCOUNT_ID and key_shape in (Shape.KEY, Shape.CUT_KEY):
        return [
            Remark(
                "an account ID is used as the key ID of an application key",
                "use the keyID (25 characters) shown with the application key; "
                "the account ID goes with the master key only",
            ),
            *_remarks_on_key(key, key_shape),
        ]
    if id_shape is Shape.KEY_ID and key_shape is Shape.MASTER_KEY:
        return [
            Remark(
                "the key ID of an application key is used with the master application key",
                "use the application key's own secret, or the account ID with the master key",
            )
        ]
    if id_shape is Shape.KEY_ID and key_shape is Shape.KEY and key_id[:3] != key[1:4]:
        return [
            Remark(
                "the key ID and the application key come from different keys",
                f'the key ID begins with {key_id[:3]}, so its secret begins with "K{key_id[:3]}"',
            )
        ]
    return [*_remarks_on_id(key_id, id_shape), *_remarks_on_key(key, key_shape)]


def _remarks_on_id(key_id: str, shape: Shape) -> list[Remark]:
    hint = "copy the keyID (25 characters) shown with the application key"
    if shape in _IDS:
        return []
    if shape is Shape.HEX:
        return [Remark(_wrong_length(KEY_ID, len(key_id), KEY_ID_LENGTH), hint)]
    if shape is Shape.OTHER:
        return [Remark("the key ID holds more than the digits 0-9 and a-f", f"{hint}, not the key's name")]
    return [Remark(f"the key ID has the shape of {shape.value}", hint)]


def _remarks_on_key(key: str, shape: Shape) -> list[Remark]:
    if shape in (Shape.KEY, Shape.MASTER_KEY):
        return []
    hint = "B2 shows an application key once, when it is made; if it is lost, create another"
    if shape is Shape.CUT_KEY:
        return [Remark(_wrong_length(KEY, len(key), KEY_LENGTH), hint)]
    if shape in (Shape.OTHER, Shape.HEX):
        return [Remark("the application key does not look like one of B2's", hint)]
    return [Remark(f"the application key has the shape of {shape.value}", hint)]


def _wrong_length(half: str, length: int, expected: int) -> str:
    cause = "its end is missing" if length < expected else "something was added to it"
    return f"the {half} has {length} characters where B2's have {expected}: {cause}"
