"""Calls that list files. Source: Backblaze docs, b2_list_file_names, b2_list_file_versions,
b2_list_unfinished_large_files.
"""

from __future__ import annotations

from typing import Any

from b2mount.emulator.errors import Refusal, bad_request, unauthorized
from b2mount.emulator.listing import Folder, Page
from b2mount.emulator.service import Call
from b2mount.emulator.versions import Version, parse_file_id

_MOST = 10_000
_DEFAULT = 100


def list_file_names(call: Call) -> dict[str, Any]:
    """List the newest version of each name that is not hidden."""
    bucket = call.bucket("listFiles")
    prefix, delimiter, count = _common(call)
    start = call.params.text("startFileName") or ""
    page = call.service.lister.names(bucket, prefix=prefix, delimiter=delimiter, start=start, count=count)
    following = None if page.following is None else page.following.name
    return {"files": _rows(call, page, bucket.bucket_id), "nextFileName": following}


def list_file_versions(call: Call) -> dict[str, Any]:
    """List all versions, hide markers and unfinished files, by name and then newest first."""
    bucket = call.bucket("listFiles")
    prefix, delimiter, count = _common(call)
    start = call.params.text("startFileName")
    start_id = None
    text = call.params.text("startFileId")
    if text:
        if start is None:
            raise bad_request("startFileId needs startFileName")
        start_id = parse_file_id(text)
        found = call.service.versions.find(start_id) if start_id else None
        if (
            start_id is None
            or start_id.bucket_id != bucket.bucket_id
            or (found is not None and found.name != start)
        ):
            raise Refusal(400, "invalid_file_id", f"Invalid startFileId: {text}")
    page = call.service.lister.versions(
        bucket, prefix=prefix, delimiter=delimiter, start=start or "", start_id=start_id, count=count
    )
    following = page.following
    next_id = call.service.versions.file_id(following) if isinstance(following, Version) else None
    return {
        "files": _rows(call, page, bucket.bucket_id),
        "nextFileName": None if following is None else following.name,
        "nextFileId": next_id,
    }


def _common(call: Call) -> tuple[str, str, int]:
    prefix = call.params.text("prefix") or ""
    call.entry.prefix = prefix
    if not call.key().covers(prefix):
        raise unauthorized()
    count = call.params.count("maxFileCount", default=_DEFAULT, most=_MOST)
    return prefix, call.params.text("delimiter") or "", count


def _rows(call: Call, page: Page, bucket_id: str) -> list[dict[str, Any]]:
    call.rows = len(page.rows)
    key, versions, account_id = call.key(), call.service.versions, call.service.account_id
    retention, hold = key.may("readFileRetentions"), key.may("readFileLegalHolds")
    rows = [
        _folder_row(row, account_id, bucket_id)
        if isinstance(row, Folder)
        else versions.row_shown(row, retention=retention, hold=hold)
        for row in page.rows
    ]
    if call.version == 1:
        for shown in rows:
            shown["size"] = shown["contentLength"]  # the older name of the field, which rclone reads
    return rows


def _folder_row(folder: Folder, account_id: str, bucket_id: str) -> dict[str, Any]:
    return {
        "accountId": account_id,
        "action": "folder",
        "bucketId": bucket_id,
        "contentLength": 0,
        "contentMd5": None,
        "contentSha1": None,
        "contentType": None,
        "fileId": None,
        "fileInfo": {},
        "fileName": folder.name,
        "uploadTimestamp": 0,
    }


def list_unfinished_large_files(call: Call) -> dict[str, Any]:
    """List large files that were started and neither finished nor cancelled, oldest first."""
    bucket = call.bucket("listFiles")
    prefix = call.params.text("namePrefix") or ""
    call.entry.prefix = prefix
    if not call.key().covers(prefix):
        raise unauthorized()
    count = call.params.count("maxFileCount", default=100, most=100)
    start = call.params.text("startFileId")
    start_id = parse_file_id(start) if start else None
    if start and (start_id is None or start_id.bucket_id != bucket.bucket_id):
        raise Refusal(400, "invalid_file_id", f"Invalid startFileId: {start}")
    files, following = call.service.lister.unfinished(
        bucket, prefix=prefix, start_seq=start_id.seq if start_id else 0, count=count
    )
    call.rows = len(files)
    versions, key = call.service.versions, call.key()
    return {
        "files": [versions.row(file, key) for file in files],
        "nextFileId": None if following is None else versions.file_id(following),
    }
