"""What uploads, large files and copies share: how the attributes of a new version are settled."""

from __future__ import annotations

import json
import mimetypes

from b2mount.emulator.buckets import Bucket
from b2mount.emulator.encryption import Encryption
from b2mount.emulator.names import check_content_type

_TYPES = mimetypes.MimeTypes()  # Python's own table alone, so that every machine answers the same


def resolve_type(name: str, content_type: str) -> str:
    """Check a content type; b2/x-auto stands for what the name's extension suggests."""
    if content_type == "b2/x-auto":
        return _TYPES.guess_type(name)[0] or "application/octet-stream"
    return check_content_type(content_type)


def dump_info(info: dict[str, str]) -> str:
    """Give file info in the form the database keeps."""
    return json.dumps(info, ensure_ascii=False, separators=(",", ":")) if info else "{}"


def choose_encryption(asked: Encryption, bucket: Bucket) -> Encryption:
    """Give the encryption of a new version: the one asked for, else the bucket's default."""
    if not asked.mode and bucket.settings["defaultServerSideEncryption"]["mode"] == "SSE-B2":
        return Encryption("SSE-B2")
    return asked
