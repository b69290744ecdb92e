"""The tables of docs/keys.md that come from the code; run as a module, it renews them."""

import errno
from pathlib import Path

from b2mount.core.access import Operation, refusal, table_rows
from b2mount.core.errors import B2MountError, errno_of
from b2mount.core.grant import B2_NAMES, Capability
from b2mount.core.presets import ACCOUNT_ONLY, PRESETS
from tests.support.key_sets import ELSEWHERE, KEY_SETS, grant_of
from tests.support.semantics_page import renewed

PAGE = Path(__file__).parents[2] / "docs" / "keys.md"

# What a capability does beyond, or instead of, allowing operations of the access table.
REMARKS = {
    "listKeys": "lists the account's keys: `b2mount keys list`",
    "writeKeys": "makes keys: `b2mount keys create`. Its holder can make a key for the whole account",
    "deleteKeys": "deletes keys: `b2mount keys delete`",
    "listBuckets": "finds the buckets of a key for all of them, and the ID of the bucket that SOURCE names; "
    "a key for named buckets needs it not",
    "listAllBucketNames": "none: it is for calls of the S3 API",
    "readBuckets": "none: it is for calls of the S3 API",
    "writeBuckets": "with `--manage-buckets`",
    "deleteBuckets": "with `--manage-buckets`",
    "readBucketEncryption": "none: B2 encrypts and decrypts by itself",
    "writeBucketEncryption": "none: a mount changes no settings of a bucket",
    "readBucketRetentions": "tells, with listBuckets, which buckets have Object Lock: "
    "B2 takes less file info there",
    "writeBucketRetentions": "none: a mount changes no settings of a bucket",
    "bypassGovernance": "with `--bypass-governance`",
    "readBucketReplications": "none: replication goes on in B2",
    "writeBucketReplications": "none: a mount changes no settings of a bucket",
    "shareFiles": "none: it makes download links",
    "deleteFiles": "with `--hard-delete`; removing hides otherwise, which takes writeFiles",
    "readBucketNotifications": "none: a mount hears of no events",
    "writeBucketNotifications": "none: a mount changes no settings of a bucket",
    "readBucketLogging": "none: a mount reads no access logs",
    "writeBucketLogging": "none: a mount changes no settings of a bucket",
    "readBucketLifecycleRules": "none: B2 follows the rules by itself",
    "writeBucketLifecycleRules": "none: a mount changes no settings of a bucket",
}


def capability_table() -> str:
    """Return every capability that B2 knows, what it allows, and whether a key for a bucket can hold it."""
    rows = ["| capability | allows on a mount | on a key for named buckets |", "| --- | --- | --- |"]
    for capability in Capability:
        name = B2_NAMES[capability]
        operations = [row.operation for row in table_rows() if name in row.needs]
        if name == "writeFiles":
            operations = ["every change (without it the mount is read-only)"]
        words = "; ".join([*operations, *([REMARKS[name]] if name in REMARKS else [])])
        rows.append(f"| {name} | {words} | {'no' if capability & ACCOUNT_ONLY else 'yes'} |")
    return "\n".join(rows)


def matrix_table() -> str:
    """Return what each kind of key makes of each operation inside its prefix."""
    rows = [f"| | {' | '.join(KEY_SETS)} |", f"| --- |{' --- |' * len(KEY_SETS)}"]
    grants = [grant_of(capabilities) for capabilities in KEY_SETS.values()]
    for operation in Operation:
        if operation in (*ELSEWHERE, Operation.BYPASS_GOVERNANCE):
            continue
        cells = [_cell(refusal(operation, grant)) for grant in grants]
        rows.append(f"| {operation.value} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _cell(error: B2MountError | None) -> str:
    if error is None:
        return "yes"
    return errno.errorcode[errno_of(error)]


def sets_table() -> str:
    """Return what the kinds of keys in the matrix hold."""
    rows = ["| kind | capabilities |", "| --- | --- |"]
    rows += [f"| {kind} | {' '.join(capabilities)} |" for kind, capabilities in KEY_SETS.items()]
    return "\n".join(rows)


def preset_table() -> str:
    """Return what `b2mount keys create --preset` knows."""
    rows = ["| preset | for | capabilities |", "| --- | --- | --- |"]
    for preset in PRESETS.values():
        names = " ".join(B2_NAMES[one] for one in preset.capabilities)
        rows.append(f"| {preset.name} | {preset.purpose} | {names} |")
    return "\n".join(rows)


TABLES = {
    "capabilities": capability_table,
    "matrix": matrix_table,
    "kinds": sets_table,
    "presets": preset_table,
}

if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(), TABLES))
