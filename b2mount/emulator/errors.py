"""The refusals B2 answers with: an HTTP status, a code and a message.

Sources: Backblaze docs, "B2 Native API error handling" and the error table of each call. Knows nothing of
HTTP framing; wire.py turns a refusal into bytes.
"""

from __future__ import annotations


class Refusal(Exception):
    """What the server answers instead of doing what was asked."""

    def __init__(self, status: int, code: str, message: str = "", retry_after: int | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after


def bad_request(message: str) -> Refusal:
    """Say that a parameter is missing or breaks a rule."""
    return Refusal(400, "bad_request", message)


def bad_json(message: str) -> Refusal:
    """Say that the body is not the JSON object the call takes."""
    return Refusal(400, "bad_json", message)


def out_of_range(message: str) -> Refusal:
    """Say that a number lies outside what the call accepts."""
    return Refusal(400, "out_of_range", message)


def unauthorized() -> Refusal:
    """Refuse for a missing capability, a foreign bucket or a name outside the prefix.

    B2 gives one answer for the three, with an empty message, so that existence stays hidden.
    """
    return Refusal(401, "unauthorized")


def bad_auth_token() -> Refusal:
    """Refuse a token or key that this server does not know."""
    return Refusal(401, "bad_auth_token")


def expired_auth_token() -> Refusal:
    """Refuse a token that has outlived its term."""
    return Refusal(401, "expired_auth_token", "Authorization token has expired")


def lock_denied() -> Refusal:
    """Refuse to delete what Object Lock holds: 401, unlike a refused change of the lock."""
    return Refusal(401, "access_denied", "Access Denied")


def access_denied() -> Refusal:
    """Refuse a change of a lock, or an SSE-C key that does not fit."""
    return Refusal(403, "access_denied", "Access Denied")


def not_found(message: str) -> Refusal:
    """Say that there is no such file, or no such call."""
    return Refusal(404, "not_found", message)


def bad_bucket_id(bucket_id: str) -> Refusal:
    """Say that the bucket does not exist (to a key that may know)."""
    return Refusal(400, "bad_bucket_id", f"Bucket does not exist: {bucket_id}")


def no_active_upload(file_id: str) -> Refusal:
    """Say that the large file was finished or cancelled already."""
    return Refusal(400, "bad_request", f"No active upload for: {file_id}")
