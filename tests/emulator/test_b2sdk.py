"""b2sdk works on the emulator, unmodified, over HTTP."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Iterator

import pytest
from b2sdk.v3 import (  # type: ignore[import-untyped]
    NO_RETENTION_FILE_SETTING,
    B2Api,
    Bucket,
    CopySource,
    EncryptionAlgorithm,
    EncryptionKey,
    EncryptionMode,
    EncryptionSetting,
    FileRetentionSetting,
    InMemoryAccountInfo,
    LegalHold,
    RetentionMode,
    UploadSourceBytes,
    WriteIntent,
)
from b2sdk.v3.exception import (  # type: ignore[import-untyped]
    AccessDenied,
    FileAlreadyHidden,
    FileNotPresent,
    InvalidAuthToken,
    RestrictedBucket,
    Unauthorized,
)

from tests.support.emulator import Emulator

pytestmark = pytest.mark.tools


def api_as(emulator: Emulator, key: tuple[str, str]) -> B2Api:
    api = B2Api(InMemoryAccountInfo())
    api.authorize_account(application_key_id=key[0], application_key=key[1], realm=emulator.url)
    return api


@pytest.fixture
def api(emulator: Emulator) -> B2Api:
    return api_as(emulator, (emulator.master_key_id, emulator.master_key))


@pytest.fixture
def sdk_bucket(api: B2Api, bucket: str) -> Bucket:
    return api.get_bucket_by_name(bucket)


@pytest.fixture
def locked(api: B2Api, emulator: Emulator) -> Iterator[Bucket]:
    bucket = api.create_bucket("sdk-locked-bucket", "allPrivate", is_file_lock_enabled=True)
    yield bucket
    emulator.wipe("sdk-locked-bucket")


def test_b2sdk_uploads_lists_and_downloads(sdk_bucket: Bucket) -> None:
    version = sdk_bucket.upload_bytes(b"hello", "dir/na\u00efve +%.txt", file_info={"color": "bl\u00fce"})
    assert version.file_name == "dir/na\u00efve +%.txt"
    assert version.content_sha1 == hashlib.sha1(b"hello").hexdigest()
    assert [(v.file_name, f) for v, f in sdk_bucket.ls(recursive=True)] == [("dir/na\u00efve +%.txt", None)]
    assert [f for _, f in sdk_bucket.ls()] == ["dir/"]
    downloaded = sdk_bucket.download_file_by_name("dir/na\u00efve +%.txt")
    assert downloaded.download_version.file_info == {"color": "bl\u00fce"}
    assert downloaded.response.content == b"hello"
    info = sdk_bucket.get_file_info_by_name("dir/na\u00efve +%.txt")
    assert (info.id_, info.size) == (version.id_, 5)


def test_b2sdk_downloads_ranges(sdk_bucket: Bucket) -> None:
    data = os.urandom(100_000)
    version = sdk_bucket.upload_bytes(data, "ranges")
    for first, last in ((0, 0), (1, 99_999), (50_000, 60_000)):
        target = io.BytesIO()
        sdk_bucket.api.download_file_by_id(version.id_, range_=(first, last)).save(target)
        assert target.getvalue() == data[first : last + 1]


def test_b2sdk_uploads_large_files_and_downloads_them_in_parallel(sdk_bucket: Bucket) -> None:
    data = os.urandom(16_000_000)
    stream = sdk_bucket.upload_unbound_stream(
        io.BytesIO(data), "stream", recommended_upload_part_size=5_000_000
    )
    assert stream.content_sha1 == "none"
    target = io.BytesIO()
    sdk_bucket.download_file_by_name("stream").save(target)
    assert target.getvalue() == data


def test_b2sdk_copies_and_patches_on_the_server(sdk_bucket: Bucket, emulator: Emulator) -> None:
    data = os.urandom(12_000_000)
    version = sdk_bucket.upload_bytes(data, "base", file_info={"src_last_modified_millis": "1"})
    copied = sdk_bucket.copy(version.id_, "copied")
    assert copied.content_sha1 == version.content_sha1
    emulator.reset_counters()
    sdk_bucket.create_file(
        [
            WriteIntent(CopySource(version.id_, offset=0, length=len(data)), 0),
            WriteIntent(UploadSourceBytes(b"tail"), len(data)),
        ],
        "appended",
        file_info={},
        content_type="application/octet-stream",
    )
    counters = emulator.counters()
    assert counters["calls"]["b2_copy_part"] >= 1
    assert counters["bytes_in"] < 20_000
    assert emulator.download(sdk_bucket.name, "appended") == data + b"tail"


def test_b2sdk_hides_unhides_and_deletes(sdk_bucket: Bucket) -> None:
    old = sdk_bucket.upload_bytes(b"1", "name")
    sdk_bucket.upload_bytes(b"22", "name")
    sdk_bucket.hide_file("name")
    with pytest.raises(FileAlreadyHidden):
        sdk_bucket.hide_file("name")
    with pytest.raises(FileNotPresent):
        sdk_bucket.get_file_info_by_name("name")
    assert list(sdk_bucket.ls()) == []
    assert [v.action for v, _ in sdk_bucket.ls(latest_only=False)] == ["hide", "upload", "upload"]
    sdk_bucket.unhide_file("name")
    assert [v.size for v, _ in sdk_bucket.ls()] == [2]
    sdk_bucket.delete_file_version(old.id_, "name")
    with pytest.raises(FileNotPresent):
        sdk_bucket.delete_file_version(old.id_, "name")


def test_b2sdk_meets_the_limits_of_a_key(api: B2Api, emulator: Emulator, bucket: str) -> None:
    emulator.upload(bucket, "in/one", b"1")
    emulator.upload(bucket, "out", b"2")
    made = api.create_key(
        ["listFiles", "readFiles"],
        "limited",
        bucket_ids=[emulator.bucket_id(bucket)],
        name_prefix="in/",
        valid_duration_seconds=3600,
    )
    limited = api_as(emulator, (made.id_, made.application_key))
    seen = limited.get_bucket_by_name(bucket)
    assert [v.file_name for v, _ in seen.ls("in/", recursive=True)] == ["in/one"]
    with pytest.raises(Unauthorized):
        list(seen.ls(""))
    with pytest.raises(Unauthorized):
        seen.download_file_by_name("out")
    with pytest.raises(Unauthorized):
        seen.hide_file("in/one")
    with pytest.raises(RestrictedBucket):
        limited.get_bucket_by_name("another-bucket")
    emulator.expire_tokens("account", made.id_)
    assert [v.file_name for v, _ in seen.ls("in/", recursive=True)] == ["in/one"]  # b2sdk took a new token
    emulator.expire_key(made.id_)
    with pytest.raises(InvalidAuthToken):
        list(seen.ls("in/"))


def test_b2sdk_uses_a_key_for_several_buckets(api: B2Api, emulator: Emulator, bucket: str) -> None:
    emulator.create_bucket("sdk-second-bucket")
    try:
        ids = [emulator.bucket_id(bucket), emulator.bucket_id("sdk-second-bucket")]
        made = api.create_key(["listBuckets", "listFiles"], "several", bucket_ids=ids)
        several = api_as(emulator, (made.id_, made.application_key))
        for name in (bucket, "sdk-second-bucket"):
            assert list(several.get_bucket_by_name(name).ls()) == []
        allowed = several.account_info.get_allowed()["buckets"]
        assert [entry["id"] for entry in allowed] == ids
        assert made.id_ in {key.id_ for key in api.list_keys()}
    finally:
        emulator.wipe("sdk-second-bucket")


def test_b2sdk_holds_files_by_retention_and_legal_hold(api: B2Api, locked: Bucket) -> None:
    until = int(time.time() * 1000) + 3_600_000
    version = locked.upload_bytes(
        b"held", "held", file_retention=FileRetentionSetting(RetentionMode.GOVERNANCE, until)
    )
    assert api.get_file_info(version.id_).file_retention.retain_until == until
    with pytest.raises(Unauthorized) as refused:
        api.delete_file_version(version.id_, "held")
    assert refused.value.code == "access_denied"
    with pytest.raises(AccessDenied):
        api.update_file_retention(version.id_, "held", NO_RETENTION_FILE_SETTING)
    api.update_file_retention(version.id_, "held", NO_RETENTION_FILE_SETTING, bypass_governance=True)
    api.update_file_legal_hold(version.id_, "held", LegalHold.ON)
    with pytest.raises(Unauthorized):
        api.delete_file_version(version.id_, "held")
    api.update_file_legal_hold(version.id_, "held", LegalHold.OFF)
    api.delete_file_version(version.id_, "held")


def test_b2sdk_reads_sse_c_only_with_the_key(sdk_bucket: Bucket) -> None:
    def setting(secret: bytes) -> EncryptionSetting:
        return EncryptionSetting(
            EncryptionMode.SSE_C, EncryptionAlgorithm.AES256, EncryptionKey(secret=secret, key_id="k")
        )

    right, wrong = setting(b"a" * 32), setting(b"b" * 32)
    version = sdk_bucket.upload_bytes(b"secret", "sealed", encryption=right)
    opened = sdk_bucket.download_file_by_id(version.id_, encryption=right)
    assert opened.response.content == b"secret"
    with pytest.raises(AccessDenied):
        sdk_bucket.download_file_by_id(version.id_, encryption=wrong)
    with pytest.raises(Exception, match=r"Server Side Encryption|SSE-C"):
        sdk_bucket.download_file_by_id(version.id_)


def test_b2sdk_sees_and_cancels_an_unfinished_large_file(sdk_bucket: Bucket, emulator: Emulator) -> None:
    start = {"bucketId": sdk_bucket.id_, "fileName": "unfinished", "contentType": "text/plain"}
    file_id = emulator.ask("b2_start_large_file", start)["fileId"]
    assert [file.file_id for file in sdk_bucket.list_unfinished_large_files()] == [file_id]
    assert [version.action for version, _ in sdk_bucket.ls(latest_only=False)] == ["start"]
    assert list(sdk_bucket.ls()) == []
    sdk_bucket.api.cancel_large_file(file_id)
    assert list(sdk_bucket.list_unfinished_large_files()) == []


def test_b2sdk_changes_a_bucket(api: B2Api, sdk_bucket: Bucket) -> None:
    rules = [{"fileNamePrefix": "tmp/", "daysFromHidingToDeleting": 1, "daysFromUploadingToHiding": None}]
    changed = sdk_bucket.update(bucket_info={"owner": "me"}, lifecycle_rules=rules)
    assert changed.bucket_info == {"owner": "me"}
    assert changed.lifecycle_rules == rules
    assert changed.revision == sdk_bucket.revision + 1
