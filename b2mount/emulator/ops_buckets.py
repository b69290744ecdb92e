"""Calls about buckets. Source: Backblaze docs, b2_create_bucket, b2_update_bucket, b2_list_buckets,
b2_delete_bucket.
"""

from __future__ import annotations

from typing import Any

from b2mount.emulator import encryption, locks
from b2mount.emulator.buckets import Bucket
from b2mount.emulator.errors import Refusal, bad_request, unauthorized
from b2mount.emulator.names import check_bucket_name
from b2mount.emulator.ops_account import check_account
from b2mount.emulator.service import Call

_TYPES = ("allPublic", "allPrivate")
_LISTED_BY_DEFAULT = ("allPublic", "allPrivate", "snapshot")

# A capability that a field needs besides writeBuckets.
_FIELD_CAPABILITIES = {
    "defaultServerSideEncryption": "writeBucketEncryption",
    "defaultRetention": "writeBucketRetentions",
    "fileLockEnabled": "writeBucketRetentions",
    "replicationConfiguration": "writeBucketReplications",
}
_LIFECYCLE_FIELDS = {
    "fileNamePrefix",
    "daysFromHidingToDeleting",
    "daysFromUploadingToHiding",
    "daysFromStartingToCancelingUnfinishedLargeFiles",
}


def create_bucket(call: Call) -> dict[str, Any]:
    """Make a bucket."""
    service, key = call.service, call.key()
    key.require("writeBuckets")
    check_account(call)
    name = call.params.need_text("bucketName")
    call.entry.bucket = name
    check_bucket_name(name)
    kind = _bucket_type(call.params.need_text("bucketType"))
    settings = _settings(call)
    bucket = service.buckets.create(
        name, kind, lock_enabled=bool(call.params.flag("fileLockEnabled")), settings=settings
    )
    return bucket.row(service.account_id, key)


def update_bucket(call: Call) -> dict[str, Any]:
    """Change what the call names, if the bucket is still at the revision it names."""
    bucket = call.bucket("writeBuckets")
    check_account(call)
    revision = call.params.integer("ifRevisionIs")
    if revision is not None and revision != bucket.revision:
        raise Refusal(409, "conflict", f"The bucket is at revision {bucket.revision}, not {revision}")
    kind = call.params.text("bucketType")
    settings = _settings(call)
    lock = call.params.flag("fileLockEnabled")
    if lock is False and bucket.lock_enabled:
        raise Refusal(400, "file_lock_conflict", "Object Lock cannot be disabled")
    if kind is not None:
        bucket.type = _bucket_type(kind)
    bucket.lock_enabled = bucket.lock_enabled or bool(lock)
    bucket.settings.update(settings)
    call.service.buckets.changed(bucket)
    return bucket.row(call.service.account_id, call.key())


def _bucket_type(kind: str) -> str:
    if kind not in _TYPES:
        raise bad_request(f"bucketType must be one of {', '.join(_TYPES)}")
    return kind


def _settings(call: Call) -> dict[str, Any]:
    params = call.params
    for name, capability in _FIELD_CAPABILITIES.items():
        given = params.flag(name) if name == "fileLockEnabled" else params.mapping(name)
        if given is not None:
            call.key().require(capability)
    values: dict[str, Any] = {
        "bucketInfo": params.mapping("bucketInfo"),
        "corsRules": params.sequence("corsRules"),
        "lifecycleRules": _lifecycle_rules(params.sequence("lifecycleRules")),
        "replicationConfiguration": params.mapping("replicationConfiguration"),
    }
    info = values["bucketInfo"]
    if info is not None and not all(isinstance(value, str) for value in info.values()):
        raise bad_request("the values of bucketInfo must be strings")
    retention = params.mapping("defaultRetention")
    if retention is not None:
        values["defaultRetention"] = locks.check_default(retention)
    sse = params.mapping("defaultServerSideEncryption")
    if sse is not None:
        mode = encryption.from_json(sse).mode
        if mode == "SSE-C":
            raise bad_request("a bucket's default encryption is SSE-B2 or none")
        values["defaultServerSideEncryption"] = {
            "algorithm": "AES256" if mode else None,
            "mode": mode or "none",
        }
    return {name: value for name, value in values.items() if value is not None}


def _lifecycle_rules(rules: list[Any] | None) -> list[Any] | None:
    for rule in rules or ():
        if not isinstance(rule, dict) or not isinstance(rule.get("fileNamePrefix"), str):
            raise bad_request("a lifecycle rule needs a fileNamePrefix")
        if set(rule) - _LIFECYCLE_FIELDS:
            raise bad_request(
                f"unknown field in a lifecycle rule: {sorted(set(rule) - _LIFECYCLE_FIELDS)[0]}"
            )
        days = [value for name, value in rule.items() if name != "fileNamePrefix" and value is not None]
        if not all(type(value) is int and value > 0 for value in days):
            raise bad_request("the days of a lifecycle rule are positive numbers")
    return rules


def list_buckets(call: Call) -> dict[str, Any]:
    """List buckets; a key for some buckets must ask for one of them."""
    service, key, params = call.service, call.key(), call.params
    key.require("listBuckets")
    check_account(call)
    bucket_id, name = params.text("bucketId"), params.text("bucketName")
    call.entry.bucket = name or bucket_id or ""
    if key.buckets is not None:
        named = service.buckets.named(name) if name is not None else None
        asked = bucket_id if bucket_id is not None else named.bucket_id if named else None
        if asked is None or not key.opens_bucket(asked):
            raise unauthorized()
    types = params.texts("bucketTypes") or list(_LISTED_BY_DEFAULT)
    buckets = [
        bucket
        for bucket in service.buckets.all()
        if bucket_id in (None, bucket.bucket_id)
        and name in (None, bucket.name)
        and ("all" in types or bucket.type in types)
    ]
    call.rows = len(buckets)
    return {"buckets": [bucket.row(service.account_id, key) for bucket in buckets]}


def delete_bucket(call: Call) -> dict[str, Any]:
    """Remove a bucket that holds nothing, not even a hide marker."""
    bucket = call.bucket("deleteBuckets")
    check_account(call)
    if not call.service.versions.bucket_is_empty(bucket):
        raise Refusal(400, "cannot_delete_non_empty_bucket", "Cannot delete non-empty bucket")
    call.service.buckets.delete(bucket)
    return bucket.row(call.service.account_id, call.key())


def get_bucket_notification_rules(call: Call) -> dict[str, Any]:
    """Give the event notification rules, which the emulator keeps but never acts on."""
    return _notification_rules(call.bucket("readBucketNotifications"))


def set_bucket_notification_rules(call: Call) -> dict[str, Any]:
    """Replace the event notification rules."""
    bucket = call.bucket("writeBucketNotifications")
    bucket.settings["eventNotificationRules"] = call.params.sequence("eventNotificationRules") or []
    call.service.buckets.changed(bucket)
    return _notification_rules(bucket)


def _notification_rules(bucket: Bucket) -> dict[str, Any]:
    return {"bucketId": bucket.bucket_id, "eventNotificationRules": bucket.settings["eventNotificationRules"]}
