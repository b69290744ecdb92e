"""Typed access to the parameters of a call, from a JSON body or a query string.

Nulls count as absent (b2sdk sends them for options it was not given). Unknown fields are refused.
Knows nothing of what a parameter means.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from b2mount.emulator.errors import Refusal, bad_json, bad_request, out_of_range


def decode_object(body: bytes) -> dict[str, Any]:
    """Parse a JSON object; refuse with bad_json anything else."""
    try:
        value = json.loads(body) if body else {}
    except (ValueError, RecursionError) as problem:
        raise bad_json(f"invalid JSON: {problem}") from None
    if not isinstance(value, dict):
        raise bad_json("the body is not a JSON object")
    return value


class Params:
    """The parameters of one call; every getter refuses a value of the wrong type."""

    def __init__(self, values: Mapping[str, Any], known: frozenset[str], *, from_query: bool = False) -> None:
        unknown = next((name for name in values if name not in known), None)
        if unknown is not None:
            raise bad_json(f"unknown field: {unknown}")
        self._values = values
        self._from_query = from_query

    def has(self, name: str) -> bool:
        """Tell whether a parameter was given, and not as null."""
        return self._values.get(name) is not None

    def text(self, name: str) -> str | None:
        """Give a string, or None where it is absent."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise bad_request(f"{name} must be a string")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise bad_request(f"{name} is not valid Unicode") from None
        return value

    def need_text(self, name: str) -> str:
        """Give a string that must be there."""
        value = self.text(name)
        if value is None:
            raise bad_request(f"required field {name} is missing")
        return value

    def integer(self, name: str) -> int | None:
        """Give a whole number, or None where it is absent."""
        value = self._values.get(name)
        if value is None:
            return None
        if self._from_query and isinstance(value, str):
            if not value.lstrip("-").isdecimal():
                raise bad_request(f"{name} must be a number")
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise bad_request(f"{name} must be a number")
        return value

    def count(self, name: str, *, default: int, most: int) -> int:
        """Give how many rows a listing may return: 0 and absent mean the default."""
        value = self.integer(name)
        if value is None or value == 0:
            return default
        if not 0 < value <= most:
            raise out_of_range(f"{name} out of range: {value}")
        return value

    def flag(self, name: str) -> bool | None:
        """Give a boolean, or None where it is absent."""
        value: bool | str | None = self._values.get(name)
        if self._from_query and value in ("true", "false"):
            return value == "true"
        if value is not None and not isinstance(value, bool):
            raise bad_request(f"{name} must be true or false")
        return value

    def mapping(self, name: str) -> dict[str, Any] | None:
        """Give a JSON object, or None where it is absent."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, dict):
            raise bad_request(f"{name} must be an object")
        return value

    def sequence(self, name: str) -> list[Any] | None:
        """Give a JSON array, or None where it is absent."""
        value = self._values.get(name)
        if self._from_query and isinstance(value, str):
            return value.split(",")
        if value is not None and not isinstance(value, list):
            raise bad_request(f"{name} must be an array")
        return value

    def texts(self, name: str) -> list[str] | None:
        """Give an array of strings, or None where it is absent."""
        value = self.sequence(name)
        if value is not None and not all(isinstance(item, str) for item in value):
            raise bad_request(f"{name} must hold strings")
        return value

    def file_id(self, name: str) -> str:
        """Give a file ID that must be there; its shape is checked by whoever looks it up."""
        value = self.need_text(name)
        if not value or len(value) > 200:
            raise Refusal(400, "bad_request", f"Bad {name}: {value}")
        return value
