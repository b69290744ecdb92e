"""Each kind of call under each kind of fault: the right result or the right error, and no doubled version."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import trio

from b2mount.core.errors import B2MountError, B2Unavailable, CapReached, Throttled
from b2mount.core.grant import B2_NAMES, Capability
from b2mount.store.deadline import copying
from b2mount.store.retry import RetryingStore
from b2mount.store.store import Action
from tests.contract.test_contents import noise
from tests.contract.worlds import Bytes, every_version
from tests.store.conftest import Shop
from tests.support.emulator import Emulator

PART = 5_000_000


@dataclass
class Scene:
    """A bucket with a file, an unfinished file with two parts, and the store that is tried."""

    store: RetryingStore
    bucket: str
    bucket_id: str
    file_id: str
    large_id: str
    sums: list[str]


@pytest.fixture
async def scene(shop: Shop, emulator: Emulator, bucket: str) -> Scene:
    store = shop.retrying()
    await store.authorize()
    bucket_id = emulator.bucket_id(bucket)
    row = await store.upload(bucket_id, "old", Bytes(b"old data"), content_type="text/plain", info={"a": "b"})
    large = await store.start_large(bucket_id, "large", content_type="text/plain", info={})
    parts = [
        await store.upload_part(large, number, Bytes(data))
        for number, data in ((1, noise(PART)), (2, b"end"))
    ]
    store = shop.retrying()  # one that holds no upload URL yet
    await store.authorize()
    return Scene(store, bucket, bucket_id, row.file_id, large, [part.sha1 for part in parts])


Act = Callable[[Scene], Awaitable[Any]]


async def upload(scene: Scene) -> Any:
    row = await scene.store.upload(
        scene.bucket_id, "new", Bytes(noise(3_000_000)), content_type="text/plain", info={"Key": "v +ü"}
    )
    return row.name, row.size


async def copy(scene: Scene) -> Any:
    return (await scene.store.copy_file(scene.file_id, scene.bucket_id, "copy")).size


async def copy_and_replace(scene: Scene) -> Any:
    row = await scene.store.copy_file(
        scene.file_id, scene.bucket_id, "old", content_type="text/x", info={"c": "d"}, start=1, end=5
    )
    return row.size, row.info


async def start(scene: Scene) -> Any:
    return bool(await scene.store.start_large(scene.bucket_id, "l2", content_type="text/plain", info={}))


async def finish(scene: Scene) -> Any:
    row = await scene.store.finish_large(scene.large_id, scene.sums)
    return row.file_id == scene.large_id, row.size, row.action


async def hide(scene: Scene) -> Any:
    await scene.store.hide(scene.bucket_id, "old")
    page = await scene.store.list_names(scene.bucket_id, "old")
    return [row.name for row in page.rows]


async def delete(scene: Scene) -> Any:
    await scene.store.delete_version("old", scene.file_id)
    page = await scene.store.list_versions(scene.bucket_id, "old")
    return [row.name for row in page.rows]


async def part(scene: Scene) -> Any:
    return (await scene.store.upload_part(scene.large_id, 2, Bytes(b"again"))).size


async def copy_part(scene: Scene) -> Any:
    return (await scene.store.copy_part(scene.file_id, 0, 3, scene.large_id, 2)).size


async def names(scene: Scene) -> Any:
    return [row.name for row in (await scene.store.list_names(scene.bucket_id, "")).rows]


async def versions(scene: Scene) -> Any:
    return [row.action for row in (await scene.store.list_versions(scene.bucket_id, "")).rows]


async def unfinished(scene: Scene) -> Any:
    return [row.name for row in await scene.store.list_unfinished(scene.bucket_id, "")]


async def parts(scene: Scene) -> Any:
    return [row.number for row in await scene.store.list_parts(scene.large_id)]


async def info(scene: Scene) -> Any:
    return (await scene.store.get_info(scene.file_id)).info


async def head(scene: Scene) -> Any:
    return (await scene.store.head(scene.bucket, "old")).size


async def read(scene: Scene) -> Any:
    return await scene.store.read_range(scene.file_id, 1, 7)


async def cancel(scene: Scene) -> Any:
    await scene.store.cancel_large(scene.large_id)
    return await unfinished(scene)


async def buckets(scene: Scene) -> Any:
    return [row.name for row in await scene.store.list_buckets(name=scene.bucket)] == [scene.bucket]


ACTS: dict[str, tuple[str, Act, Any]] = {
    "upload": ("b2_upload_file", upload, ("new", 3_000_000)),
    "upload url": ("b2_get_upload_url", upload, ("new", 3_000_000)),
    "copy": ("b2_copy_file", copy, 8),
    "copy and replace": ("b2_copy_file", copy_and_replace, (4, {"c": "d"})),
    "start": ("b2_start_large_file", start, True),
    "finish": ("b2_finish_large_file", finish, (True, PART + 3, Action.UPLOAD)),
    "hide": ("b2_hide_file", hide, []),
    "delete": ("b2_delete_file_version", delete, []),
    "part": ("b2_upload_part", part, 5),
    "part url": ("b2_get_upload_part_url", part, 5),
    "copy part": ("b2_copy_part", copy_part, 3),
    "names": ("b2_list_file_names", names, ["old"]),
    "versions": ("b2_list_file_versions", versions, [Action.START, Action.UPLOAD]),
    "unfinished": ("b2_list_unfinished_large_files", unfinished, ["large"]),
    "parts": ("b2_list_parts", parts, [1, 2]),
    "info": ("b2_get_file_info", info, {"a": "b"}),
    "head": ("b2_download_file_by_name", head, 8),
    "read": ("b2_download_file_by_id", read, b"ld dat"),
    "cancel": ("b2_cancel_large_file", cancel, []),
    "buckets": ("b2_list_buckets", buckets, True),
}
FAULTS: dict[str, dict[str, Any]] = {
    "a storm of 503": {"kind": "status", "status": 503, "times": 5},
    "500": {"kind": "status", "status": 500, "code": "internal_error", "times": 2},
    "408": {"kind": "status", "status": 408, "code": "request_timeout"},
    "429": {"kind": "status", "status": 429, "code": "too_many_requests", "times": 2},
    "dropped before": {"kind": "drop_before", "times": 2},
    "dropped after": {"kind": "drop_after", "times": 1},
    "dropped after, thrice": {"kind": "drop_after", "times": 3},
}


def uploads_by_name(rows: list[Any]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for row in rows:
        if row.action is not Action.START:
            counted[row.name] = counted.get(row.name, 0) + 1
    return counted


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("act", ACTS)
async def test_a_fault_that_passes_changes_no_result(
    scene: Scene, emulator: Emulator, act: str, fault: str
) -> None:
    call, act_on, wanted = ACTS[act]
    kept = 1 if act in ("copy and replace", "hide") else 0  # the version that is there already
    emulator.fault(call=call, **FAULTS[fault])
    with trio.fail_after(240):
        assert await act_on(scene) == wanted
    assert any(rule["fired"] for rule in emulator.faults())
    emulator.clear_faults()
    rows = await every_version(scene.store, scene.bucket_id, "")
    begun = [row.name for row in rows if row.action is Action.START]
    assert len(begun) == len(set(begun)), "no unfinished large file is begun twice"
    doubled = {name: count for name, count in uploads_by_name(rows).items() if count > 1 + kept}
    assert doubled == {}


@pytest.mark.parametrize("act", ACTS)
async def test_a_fault_that_stays_ends_in_an_error_within_the_time(
    scene: Scene, emulator: Emulator, act: str
) -> None:
    call, act_on, _ = ACTS[act]
    emulator.fault(call=call, kind="status", status=503, times=-1)
    scene.store = scene.store.with_timeout(0.5)
    with trio.fail_after(120), pytest.raises(B2Unavailable):
        await act_on(scene)


@pytest.mark.parametrize("act", ACTS)
async def test_a_server_that_keeps_silent_is_given_up(scene: Scene, emulator: Emulator, act: str) -> None:
    call, act_on, _ = ACTS[act]
    emulator.fault(call=call, kind="stall", seconds=3600, times=-1)
    scene.store = scene.store.with_timeout(0.4)
    with trio.fail_after(120), pytest.raises(B2Unavailable), copying(8):
        await act_on(scene)


@pytest.mark.parametrize("act", ["names", "upload", "hide", "read"])
async def test_a_longer_wait_than_there_is_time_for_is_told_at_once(
    scene: Scene, emulator: Emulator, act: str
) -> None:
    call, act_on, _ = ACTS[act]
    emulator.fault(call=call, kind="status", status=429, code="too_many_requests", retry_after=3600)
    with trio.fail_after(120), pytest.raises(Throttled):
        await act_on(scene)


@pytest.mark.parametrize("act", ["names", "upload", "read"])
async def test_a_cap_is_told_at_once(scene: Scene, emulator: Emulator, act: str) -> None:
    call, act_on, _ = ACTS[act]
    emulator.fault(call=call, kind="status", status=403, code="transaction_cap_exceeded", times=-1)
    with pytest.raises(CapReached):
        await act_on(scene)
    assert sum(rule["fired"] for rule in emulator.faults()) == 1


@pytest.mark.parametrize("act", ["names", "upload", "hide", "read"])
async def test_b2_is_left_alone_for_as_long_as_it_asks(scene: Scene, emulator: Emulator, act: str) -> None:
    call, act_on, wanted = ACTS[act]
    emulator.fault(call=call, kind="status", status=429, code="too_many_requests", retry_after=1)
    started = trio.current_time()
    assert await act_on(scene) == wanted
    assert trio.current_time() - started >= 1


async def test_a_read_that_is_cut_short_is_made_again(scene: Scene, emulator: Emulator) -> None:
    emulator.fault(call="b2_download_file_by_id", kind="truncate", after_bytes=3, times=2)
    assert await read(scene) == b"ld dat"


async def test_an_upload_that_is_damaged_on_the_way_is_made_again(scene: Scene, emulator: Emulator) -> None:
    emulator.fault(call="b2_upload_file", kind="corrupt", after_bytes=1000, times=2)
    assert await upload(scene) == ("new", 3_000_000)
    assert emulator.download(scene.bucket, "new") == noise(3_000_000)


async def test_an_upload_that_is_always_damaged_is_given_up(scene: Scene, emulator: Emulator) -> None:
    emulator.fault(call="b2_upload_file", kind="corrupt", after_bytes=1000, times=-1)
    with pytest.raises(B2MountError, match="damaged"):
        await upload(scene)
    assert sum(rule["fired"] for rule in emulator.faults()) == 4


async def test_an_upload_cut_in_the_middle_leaves_one_version(scene: Scene, emulator: Emulator) -> None:
    emulator.fault(call="b2_upload_file", kind="drop_before", times=3)
    await upload(scene)
    assert len(emulator.list_versions(scene.bucket, "new")) == 1


@pytest.mark.parametrize("rights", [("LIST_FILES",), ("READ_FILES",)])
async def test_whoever_may_list_or_read_doubles_no_upload(
    shop: Shop, emulator: Emulator, bucket: str, rights: tuple[str, ...]
) -> None:
    held = [B2_NAMES[Capability[right]] for right in ("WRITE_FILES", *rights)]
    store = shop.retrying(emulator.create_key(held, [bucket]))
    await store.authorize()
    emulator.fault(call="b2_upload_file", kind="drop_after", times=2)
    bucket_id = emulator.bucket_id(bucket)
    row = await store.upload(bucket_id, "f", Bytes(b"data"), content_type="text/plain", info={"a": "b"})
    (only,) = emulator.list_versions(bucket)
    assert row.file_id == only["fileId"]


async def test_whoever_sees_nothing_still_gets_the_file_there(
    shop: Shop, emulator: Emulator, bucket: str
) -> None:
    store = shop.retrying(emulator.create_key(["writeFiles"], [bucket]))
    await store.authorize()
    emulator.fault(call="b2_upload_file", kind="drop_after", times=1)
    await store.upload(emulator.bucket_id(bucket), "f", Bytes(b"data"), content_type="text/plain", info={})
    assert emulator.download(bucket, "f") == b"data"


async def test_another_content_of_the_same_name_is_not_taken_for_ours(
    scene: Scene, emulator: Emulator
) -> None:
    emulator.upload(scene.bucket, "new", b"somebody else's", content_type="text/plain")
    emulator.fault(call="b2_upload_file", kind="drop_before", times=1)
    await upload(scene)
    rows = emulator.list_versions(scene.bucket, "new")
    assert [row["contentLength"] for row in rows] == [3_000_000, 15]


async def test_the_same_content_with_another_info_is_not_taken_for_ours(
    scene: Scene, emulator: Emulator
) -> None:
    emulator.upload(scene.bucket, "new", noise(3_000_000), info={"other": "1"}, content_type="text/plain")
    emulator.fault(call="b2_upload_file", kind="status", status=500, code="internal_error", times=1)
    await upload(scene)
    (newest,) = emulator.list_names(scene.bucket, "new")
    assert newest["fileInfo"] == {"key": "v +ü"}


async def test_an_upload_given_up_without_an_answer_is_found_when_asked_for_again(
    scene: Scene, emulator: Emulator
) -> None:
    emulator.fault(call="b2_upload_file", kind="drop_after", times=1)
    emulator.fault(call="b2_list_file_names", kind="status", status=503, times=-1)
    patient, scene.store = scene.store, scene.store.with_timeout(0.5)
    with pytest.raises(B2Unavailable):
        await upload(scene)
    emulator.clear_faults()
    scene.store = patient
    assert await upload(scene) == ("new", 3_000_000)
    assert len(emulator.list_versions(scene.bucket, "new")) == 1


async def test_a_bucket_made_without_an_answer_is_ours(shop: Shop, emulator: Emulator) -> None:
    store = shop.retrying()
    await store.authorize()
    emulator.fault(call="b2_create_bucket", kind="drop_after", times=1)
    made = await store.create_bucket("bucket-made-once")
    assert made.bucket_id == emulator.bucket_id("bucket-made-once")
    emulator.fault(call="b2_delete_bucket", kind="drop_after", times=1)
    await store.delete_bucket(made.bucket_id)
