"""Server-side encryption, as far as it shows: SSE-B2 is accepted and echoed, an SSE-C key is asked for and
checked.

Nothing is really encrypted on disk. Source: Backblaze docs, "Server-Side Encryption", b2_upload_file,
b2_copy_file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from b2mount.emulator.errors import Refusal, access_denied, bad_request

_HEADER = "x-bz-server-side-encryption"
_CUSTOMER = _HEADER + "-customer-"
_KEY_NEEDED = (
    "The object was stored using a form of Server Side Encryption."
    " The correct parameters must be provided to retrieve the object."
)


@dataclass(frozen=True, slots=True)
class Encryption:
    """How one file is (said to be) encrypted: mode "", "SSE-B2" or "SSE-C" with the MD5 of the customer's
    key.
    """

    mode: str = ""
    key_md5: str = ""

    def stored(self) -> str:
        """Give the form the database keeps."""
        return self.mode + self.key_md5

    def row(self) -> dict[str, Any]:
        """Give the `serverSideEncryption` field of a file row."""
        return {"algorithm": "AES256" if self.mode else None, "mode": self.mode or None}

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Give the headers of a download."""
        if self.mode == "SSE-B2":
            return [(_HEADER.encode(), b"AES256")]
        if self.mode == "SSE-C":
            return [
                (_CUSTOMER.encode() + b"algorithm", b"AES256"),
                (_CUSTOMER.encode() + b"key-md5", self.key_md5.encode()),
            ]
        return []

    def check_reader(self, offered: Encryption) -> None:
        """Refuse a reader of SSE-C content that brings no key, or the wrong one."""
        if self.mode != "SSE-C":
            if offered.mode == "SSE-C":
                raise bad_request("The file is not encrypted with a customer key")
            return
        if offered.mode != "SSE-C":
            raise bad_request(_KEY_NEEDED)
        if offered.key_md5 != self.key_md5:
            raise access_denied()


NONE = Encryption()


def from_stored(text: str) -> Encryption:
    """Read the form the database keeps."""
    if not text:
        return NONE
    return Encryption(text[:5], text[5:]) if text.startswith("SSE-C") else Encryption(text)


def from_headers(headers: Mapping[str, str]) -> Encryption:
    """Read what an upload or download asks for; refuse what is inconsistent."""
    plain = headers.get(_HEADER)
    customer = {part: headers.get(_CUSTOMER + part) for part in ("algorithm", "key", "key-md5")}
    if any(value is not None for value in customer.values()):
        if plain is not None:
            raise bad_request("SSE-B2 and SSE-C exclude each other")
        return _customer(customer["algorithm"], customer["key"], customer["key-md5"])
    if plain is None:
        return NONE
    _check_algorithm(plain)
    return Encryption("SSE-B2")


def from_json(value: Mapping[str, Any] | None) -> Encryption:
    """Read the JSON form: {mode, algorithm, customerKey, customerKeyMd5}."""
    mode = None if value is None else value.get("mode")
    if value is None or mode in (None, "none"):
        return NONE
    if mode == "SSE-B2":
        _check_algorithm(value.get("algorithm"))
        return Encryption("SSE-B2")
    if mode == "SSE-C":
        return _customer(value.get("algorithm"), value.get("customerKey"), value.get("customerKeyMd5"))
    raise bad_request(f"unknown encryption mode: {mode}")


def _customer(algorithm: object, key: object, key_md5: object) -> Encryption:
    _check_algorithm(algorithm)
    if not isinstance(key, str) or not isinstance(key_md5, str):
        raise bad_request("SSE-C needs the key and its MD5")
    try:
        raw = base64.b64decode(key, validate=True)
    except binascii.Error:
        raise bad_request("The SSE-C key is not base64") from None
    digest = base64.b64encode(hashlib.md5(raw, usedforsecurity=False).digest()).decode()
    if len(raw) != 32 or digest != key_md5:
        raise bad_request("The SSE-C key is not 32 bytes long, or its MD5 does not match")
    return Encryption("SSE-C", key_md5)


def _check_algorithm(algorithm: object) -> None:
    if algorithm != "AES256":
        raise Refusal(400, "bad_request", f"unknown encryption algorithm: {algorithm}")
