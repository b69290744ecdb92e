"""The table of calls: name, handler and the parameters each takes. A field that is not here is refused as
bad_json.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from b2mount.emulator import ops_account, ops_buckets, ops_files, ops_large, ops_listing
from b2mount.emulator.service import Call

Answer = dict[str, Any]
Handler = Callable[[Call], Answer] | Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One JSON call."""

    handler: Handler
    fields: frozenset[str]


def _operation(handler: Handler, fields: str) -> Operation:
    return Operation(handler, frozenset(fields.split()))


_BUCKET = (
    " bucketType bucketInfo corsRules lifecycleRules defaultServerSideEncryption defaultRetention"
    " replicationConfiguration fileLockEnabled"
)
_LIST = "bucketId startFileName maxFileCount prefix delimiter"
_LOCKS = " fileRetention legalHold"
_COPY_SSE = " sourceServerSideEncryption destinationServerSideEncryption"

OPERATIONS: dict[str, Operation] = {
    "b2_authorize_account": _operation(ops_account.authorize_account, ""),
    "b2_create_key": _operation(
        ops_account.create_key,
        "accountId capabilities keyName validDurationInSeconds bucketId bucketIds namePrefix",
    ),
    "b2_list_keys": _operation(ops_account.list_keys, "accountId maxKeyCount startApplicationKeyId"),
    "b2_delete_key": _operation(ops_account.delete_key, "applicationKeyId"),
    "b2_create_bucket": _operation(ops_buckets.create_bucket, "accountId bucketName" + _BUCKET),
    "b2_update_bucket": _operation(ops_buckets.update_bucket, "accountId bucketId ifRevisionIs" + _BUCKET),
    "b2_list_buckets": _operation(ops_buckets.list_buckets, "accountId bucketId bucketName bucketTypes"),
    "b2_delete_bucket": _operation(ops_buckets.delete_bucket, "accountId bucketId"),
    "b2_get_bucket_notification_rules": _operation(ops_buckets.get_bucket_notification_rules, "bucketId"),
    "b2_set_bucket_notification_rules": _operation(
        ops_buckets.set_bucket_notification_rules, "bucketId eventNotificationRules"
    ),
    "b2_list_file_names": _operation(ops_listing.list_file_names, _LIST),
    "b2_list_file_versions": _operation(ops_listing.list_file_versions, _LIST + " startFileId"),
    "b2_list_unfinished_large_files": _operation(
        ops_listing.list_unfinished_large_files, "bucketId namePrefix startFileId maxFileCount"
    ),
    "b2_get_file_info": _operation(ops_files.get_file_info, "fileId"),
    "b2_hide_file": _operation(ops_files.hide_file, "bucketId fileName"),
    "b2_delete_file_version": _operation(ops_files.delete_file_version, "fileName fileId bypassGovernance"),
    "b2_update_file_retention": _operation(
        ops_files.update_file_retention, "fileName fileId fileRetention bypassGovernance"
    ),
    "b2_update_file_legal_hold": _operation(ops_files.update_file_legal_hold, "fileName fileId legalHold"),
    "b2_get_download_authorization": _operation(
        ops_files.get_download_authorization,
        "bucketId fileNamePrefix validDurationInSeconds b2ContentDisposition b2ContentLanguage b2Expires"
        " b2CacheControl b2ContentEncoding b2ContentType",
    ),
    "b2_copy_file": _operation(
        ops_files.copy_file,
        "sourceFileId destinationBucketId fileName range metadataDirective contentType fileInfo"
        + _LOCKS
        + _COPY_SSE,
    ),
    "b2_get_upload_url": _operation(ops_large.get_upload_url, "bucketId"),
    "b2_get_upload_part_url": _operation(ops_large.get_upload_part_url, "fileId"),
    "b2_start_large_file": _operation(
        ops_large.start_large_file,
        "bucketId fileName contentType fileInfo serverSideEncryption customUploadTimestamp" + _LOCKS,
    ),
    "b2_copy_part": _operation(ops_large.copy_part, "sourceFileId largeFileId partNumber range" + _COPY_SSE),
    "b2_list_parts": _operation(ops_large.list_parts, "fileId startPartNumber maxPartCount"),
    "b2_finish_large_file": _operation(ops_large.finish_large_file, "fileId partSha1Array"),
    "b2_cancel_large_file": _operation(ops_large.cancel_large_file, "fileId"),
}
