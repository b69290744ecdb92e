"""Calls about the account and its keys: authorize, create, list and delete keys.

Source: Backblaze docs, b2_authorize_account, b2_create_key, b2_list_keys, "Native API Versions" (the four
reply shapes; keys for several buckets exist for v4 alone).
"""

from __future__ import annotations

import re
from typing import Any

from b2mount.emulator.errors import Refusal, bad_json, bad_request, unauthorized
from b2mount.emulator.keys import ACCOUNT_ONLY, CAPABILITIES, Key
from b2mount.emulator.service import Call
from b2mount.emulator.tokens import ACCOUNT

_MAX_KEY_SECONDS = 1000 * 86_400
_KEY_NAME = re.compile(r"[A-Za-z0-9-]{1,100}")


def authorize_account(call: Call) -> dict[str, Any]:
    """Give a token for a key, and say what the key may do."""
    service, settings = call.service, call.service.settings
    key = service.keys.check_basic(call.request.headers.get("authorization"))
    call.use_key(key)
    if call.version < 4 and key.buckets is not None and len(key.buckets) > 1:
        raise Refusal(401, "unsupported", "Keys for several buckets need version 4 of this call")
    token = service.tokens.issue(ACCOUNT, key, settings.token_seconds)
    sizes = {
        "absoluteMinimumPartSize": settings.min_part_size,
        "recommendedPartSize": settings.recommended_part_size,
    }
    base = call.request.base_url
    urls = {"apiUrl": base, "downloadUrl": base, "s3ApiUrl": base}
    account = {"accountId": service.account_id, "authorizationToken": token.text}
    if call.version >= 3:
        account["applicationKeyExpirationTimestamp"] = key.expires_ms  # type: ignore[assignment]
        allowed = _allowed_v4(call, key) if call.version == 4 else _allowed_one_bucket(call, key)
        storage = {**sizes, **urls, "infoType": "storageApi"}
        storage |= {"allowed": allowed} if call.version == 4 else allowed
        return {**account, "apiInfo": {"storageApi": storage}}
    old = {"minimumPartSize": settings.recommended_part_size} if call.version == 1 else {}
    return {**account, **sizes, **old, **urls, "allowed": _allowed_one_bucket(call, key)}


def _allowed_v4(call: Call, key: Key) -> dict[str, Any]:
    buckets = None
    if key.buckets is not None:
        found = [(bucket_id, call.service.buckets.find(bucket_id)) for bucket_id in key.buckets]
        buckets = [{"id": bucket_id, "name": bucket.name if bucket else None} for bucket_id, bucket in found]
    return {"buckets": buckets, "capabilities": key.listed_capabilities(), "namePrefix": key.prefix}


def _allowed_one_bucket(call: Call, key: Key) -> dict[str, Any]:
    bucket_id = key.buckets[0] if key.buckets else None
    bucket = call.service.buckets.find(bucket_id) if bucket_id else None
    return {
        "bucketId": bucket_id,
        "bucketName": bucket.name if bucket else None,
        "capabilities": key.listed_capabilities(),
        "namePrefix": key.prefix,
    }


def check_account(call: Call) -> None:
    """Refuse a call that names another account."""
    account_id = call.params.text("accountId")
    if account_id is not None and account_id != call.service.account_id:
        raise unauthorized()


def create_key(call: Call) -> dict[str, Any]:
    """Make an application key."""
    call.key().require("writeKeys")
    check_account(call)
    params = call.params
    name = params.need_text("keyName")
    if not _KEY_NAME.fullmatch(name):
        raise bad_request("A key name is 1 to 100 letters, digits and '-'")
    capabilities = params.texts("capabilities")
    if not capabilities:
        raise bad_request("capabilities must not be empty")
    unknown = sorted(set(capabilities) - set(CAPABILITIES))
    if unknown:
        raise bad_request(f"unknown capability: {unknown[0]}")
    seconds = params.integer("validDurationInSeconds")
    if seconds is not None and not 0 < seconds < _MAX_KEY_SECONDS:
        raise bad_request("validDurationInSeconds must be positive and less than 1000 days")
    buckets = _key_buckets(call)
    if buckets is not None and ACCOUNT_ONLY & set(capabilities):
        raise bad_request(f"not on a key limited to buckets: {sorted(ACCOUNT_ONLY & set(capabilities))[0]}")
    new = call.service.keys.create(
        name,
        frozenset(capabilities),
        buckets=buckets,
        prefix=params.text("namePrefix"),
        seconds=seconds,
    )
    return {**_key_row(call, new.key), "applicationKey": new.secret}


def _key_buckets(call: Call) -> tuple[str, ...] | None:
    foreign = "bucketId" if call.version >= 4 else "bucketIds"
    if call.params.has(foreign):
        raise bad_json(f"unknown field: {foreign}")  # never a key that opens more than was meant
    if call.version >= 4:
        ids = call.params.texts("bucketIds")
    else:
        one = call.params.text("bucketId")
        ids = None if one is None else [one]
    if ids is None:
        return None
    if not ids:
        raise bad_request("bucketIds must not be empty")
    for bucket_id in ids:
        call.service.buckets.get(bucket_id)
    return tuple(dict.fromkeys(ids))


def _key_row(call: Call, key: Key) -> dict[str, Any]:
    limit: dict[str, Any] = (
        {"bucketIds": None if key.buckets is None else list(key.buckets)}
        if call.version >= 4
        else {"bucketId": key.buckets[0] if key.buckets else None}
    )
    return {
        "accountId": call.service.account_id,
        "applicationKeyId": key.key_id,
        "keyName": key.name,
        "capabilities": key.listed_capabilities(),
        "expirationTimestamp": key.expires_ms,
        "namePrefix": key.prefix,
        "options": ["s3"],
        **limit,
    }


def list_keys(call: Call) -> dict[str, Any]:
    """List the keys that have not expired; versions before 4 leave out keys for several buckets."""
    call.key().require("listKeys")
    check_account(call)
    count = call.params.count("maxKeyCount", default=100, most=10_000)
    start = call.params.text("startApplicationKeyId") or ""
    keys = [
        key
        for key in call.service.keys.living()
        if key.key_id >= start and (call.version >= 4 or key.buckets is None or len(key.buckets) == 1)
    ]
    call.rows = len(keys[:count])
    following = keys[count].key_id if len(keys) > count else None
    return {"keys": [_key_row(call, key) for key in keys[:count]], "nextApplicationKeyId": following}


def delete_key(call: Call) -> dict[str, Any]:
    """Delete a key; its tokens die with it."""
    call.key().require("deleteKeys")
    key_id = call.params.need_text("applicationKeyId")
    key = call.service.keys.delete(key_id)
    if key is None:
        raise bad_request(f"application key does not exist: {key_id}")
    return _key_row(call, key)
