"""Tokens: of the account, of an upload URL, of a download authorization.

Sources: Backblaze docs, b2_authorize_account (24 hours), b2_get_upload_url (24 hours, one upload at a time,
void after a failed upload), b2_get_download_authorization. Tokens live in the database, so a restart keeps
them.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field

from b2mount.emulator.clock import now_ms
from b2mount.emulator.database import Database
from b2mount.emulator.errors import Refusal, bad_auth_token, expired_auth_token
from b2mount.emulator.keys import Key, KeyStore

ACCOUNT, UPLOAD, PART, DOWNLOAD = "account", "upload", "part", "download"
_TAGS = {ACCOUNT: "acct", UPLOAD: "upld", PART: "uplg", DOWNLOAD: "dnld"}

# How long an expired token is remembered as expired rather than unknown.
_FORGET_AFTER_MS = 7 * 86_400_000


@dataclass(slots=True)
class Token:
    """One token. `target` is the bucket or large file it is bound to, `place` the last part of its upload
    URL.
    """

    text: str
    kind: str
    key_id: str
    expires_ms: int
    target: str = ""
    place: str = ""
    prefix: str = ""
    overrides: dict[str, str] = field(default_factory=dict)
    busy: bool = False


class TokenStore:
    """All tokens by their text."""

    def __init__(self, database: Database, keys: KeyStore) -> None:
        self._database = database
        self._keys = keys
        database.execute("DELETE FROM tokens WHERE expires_ms < ?", (now_ms() - _FORGET_AFTER_MS,))
        self._tokens: dict[str, Token] = {}
        for text, kind, key_id, target, place, prefix, overrides, expires_ms in database.execute(
            "SELECT * FROM tokens"
        ):
            self._tokens[text] = Token(
                text, kind, key_id, expires_ms, target, place, prefix, json.loads(overrides)
            )

    def issue(
        self,
        kind: str,
        key: Key,
        seconds: int,
        *,
        target: str = "",
        prefix: str = "",
        overrides: dict[str, str] | None = None,
    ) -> Token:
        """Make a token that lives *seconds*."""
        text = f"4_{key.key_id}_{secrets.token_hex(9)}_{_TAGS[kind]}_{secrets.token_hex(12)}="
        place = f"c000_v{secrets.randbelow(10**7):07d}_t{secrets.randbelow(10**4):04d}"
        token = Token(
            text, kind, key.key_id, now_ms() + seconds * 1000, target, place, prefix, overrides or {}
        )
        self._tokens[text] = token
        self._database.execute(
            "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                text,
                kind,
                key.key_id,
                target,
                place,
                prefix,
                json.dumps(token.overrides),
                token.expires_ms,
            ),
        )
        return token

    def check(self, text: str | None, *kinds: str) -> tuple[Token, Key]:
        """Find a living token of one of *kinds* and its key.

        A token dies with its key: expired_auth_token when the key expired, bad_auth_token when it was
        deleted.
        """
        token = self._tokens.get(text or "")
        if token is None or token.kind not in kinds:
            raise bad_auth_token()
        key = self._keys.get(token.key_id)
        if key is None:
            raise bad_auth_token()
        if token.expires_ms <= now_ms() or key.expired():
            raise expired_auth_token()
        return token, key

    def take(self, token: Token) -> None:
        """Reserve an upload URL for one upload; refuse a second one at the same time."""
        if token.busy:
            raise Refusal(400, "auth_token_limit", f"more than one upload using auth token {token.text}")
        token.busy = True

    def void(self, token: Token) -> None:
        """Make a token unknown, as an upload endpoint does that refused an upload."""
        self._tokens.pop(token.text, None)
        self._database.execute("DELETE FROM tokens WHERE token = ?", (token.text,))

    def expire(self, kinds: frozenset[str], key_id: str | None) -> int:
        """End the term of all tokens of *kinds* (of one key); give how many."""
        now, count = now_ms(), 0
        with self._database.transaction():
            for token in self._tokens.values():
                if token.kind in kinds and key_id in (None, token.key_id) and token.expires_ms > now:
                    token.expires_ms = now
                    self._database.execute(
                        "UPDATE tokens SET expires_ms = ? WHERE token = ?", (now, token.text)
                    )
                    count += 1
        return count

    def void_text(self, text: str | None) -> None:
        """Make the token with this text unknown, if there is one."""
        token = self._tokens.get(text or "")
        if token is not None:
            self.void(token)
