"""Renames and changes of attributes while a file is being written, down to what B2 holds in the end."""

import contextlib
import os
import threading
from pathlib import Path

import pytest
import trio
import trio.testing

from b2mount.core.errors import LocalStorageError, NoSuchFile
from b2mount.fs.filesystem import Wanted
from b2mount.journal.database import Database
from b2mount.journal.drafts import Spool
from tests.fs.worlds import ME, ROOT, little
from tests.journal.lives import memory, shown


@pytest.mark.parametrize("hard_delete", [False, True])
async def test_a_writer_goes_on_over_a_rename_and_keeps_what_was_there(
    tmp_path: Path, hard_delete: bool
) -> None:
    """As when a log is rotated: what is appended after mv joins what B2 held under the old name."""
    store, bucket_id = memory()
    store.account.add(bucket_id, "log", b"before ")
    async with little(tmp_path, store, hard_delete=hard_delete) as mount:
        handle = mount.fs.open(await mount.ino("log"), os.O_WRONLY | os.O_APPEND)
        mount.fs.files.write(handle, 7, b"and ")
        await mount.rename("log", "log.1")
        assert await mount.journal.uploader.wait_all() == []
        mount.fs.files.write(handle, 11, b"after")
        await mount.fs.files.release(handle)
        assert await mount.read("log.1") == b"before and after"
        assert await mount.flush() == []
        assert await mount.read("log.1") == b"before and after"
    assert shown(store.account, bucket_id) == {"log.1": b"before and after"}


@pytest.mark.parametrize("hard_delete", [False, True])
async def test_a_writer_goes_on_over_a_rename_of_its_directory(tmp_path: Path, hard_delete: bool) -> None:
    store, bucket_id = memory()
    store.account.add(bucket_id, "d/log", b"before ")
    async with little(tmp_path, store, hard_delete=hard_delete) as mount:
        stat = await mount.fs.lookup(await mount.ino("d"), b"log")
        handle = mount.fs.open(stat.ino, os.O_WRONLY)
        mount.fs.files.write(handle, 7, b"and ")
        await mount.rename("d", "e")
        assert await mount.journal.uploader.wait_all() == []
        mount.fs.files.write(handle, 11, b"after")
        await mount.fs.files.release(handle)
        assert await mount.flush() == []
    assert shown(store.account, bucket_id) == {"e/log": b"before and after"}


async def test_a_mode_set_while_a_commit_is_at_work_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _bucket_id = memory()
    go_on = threading.Event()
    copy = Spool.copy_range_from

    def slowly(self: Spool, other: Spool, start: int, end: int) -> None:
        assert go_on.wait(60)
        copy(self, other, start, end)

    async with little(tmp_path, store) as mount:
        ino = await mount.create("a", b"first version")
        handle = mount.fs.open(ino, os.O_WRONLY)
        mount.fs.files.write(handle, 0, b"FIRST")
        monkeypatch.setattr(Spool, "copy_range_from", slowly)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mount.fs.files.release, handle)
            await trio.testing.wait_all_tasks_blocked(0.05)
            nursery.start_soon(mount.fs.setattr, ino, Wanted(mode=0o600), None)
            await trio.testing.wait_all_tasks_blocked(0.05)
            go_on.set()
        assert (await mount.fs.getattr(ino)).mode & 0o777 == 0o600
        assert await mount.flush() == []
        assert (await mount.fs.getattr(ino)).mode & 0o777 == 0o600
        assert await mount.read("a") == b"FIRST version"
    async with little(tmp_path, store) as mount:
        assert (await mount.fs.lookup(ROOT, b"a")).mode & 0o777 == 0o600


@pytest.mark.parametrize("how", ["flush", "fsync"])
async def test_who_syncs_or_closes_while_another_commits_the_same_file_waits_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    store, bucket_id = memory()
    go_on = threading.Event()
    copy = Spool.copy_range_from
    done: list[dict[str, bytes]] = []

    def slowly(self: Spool, other: Spool, start: int, end: int) -> None:
        assert go_on.wait(60)
        copy(self, other, start, end)

    async with little(tmp_path, store) as mount:
        ino = await mount.create("a", b"first version")
        one, two = (mount.fs.open(ino, os.O_WRONLY) for _ in range(2))
        mount.fs.files.write(one, 0, b"FIRST")
        mount.fs.files.write(two, 6, b"VERSION")
        monkeypatch.setattr(Spool, "copy_range_from", slowly)

        async def finish() -> None:
            await (mount.fs.files.fsync(two) if how == "fsync" else mount.fs.files.flush(two))
            assert mount.journal.database.is_durable(next(iter(mount.journal.queue.ops.values()), op))
            done.append(shown(store.account, bucket_id))

        (op,) = mount.journal.queue.ops.values()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mount.fs.files.flush, one)
            await trio.testing.wait_all_tasks_blocked(0.05)
            nursery.start_soon(finish)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert done == []
            go_on.set()
        assert done == [{"a": b"FIRST VERSION"} if how == "fsync" else {}]
        for handle in (one, two):
            await mount.fs.files.release(handle)


async def test_a_close_after_one_that_could_not_be_written_down_tries_again_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _bucket_id = memory()
    async with little(tmp_path, store) as mount:
        handle, _ = await mount.fs.create(ROOT, b"a", 0o644, os.O_RDWR | os.O_CREAT, ME)
        mount.fs.files.write(handle, 0, b"written")

        def refuse(_self: Database, _batch: object, _syncs: object) -> None:
            raise LocalStorageError("the disk is broken")

        with monkeypatch.context() as broken:
            broken.setattr(Database, "_write", refuse)
            for _ in range(2):
                with pytest.raises(LocalStorageError):
                    await mount.fs.files.flush(handle)
        await mount.fs.files.release(handle)
    async with little(tmp_path, store) as mount:
        assert await mount.read("a") == b"written"


@pytest.mark.parametrize("how", ["replaced", "hidden"])
async def test_a_writer_keeps_its_name_when_somebody_else_changes_it(tmp_path: Path, how: str) -> None:
    """As a daemon that holds its log open for days: what it writes and syncs is in B2, not in a lost node."""
    store, bucket_id = memory()
    store.account.add(bucket_id, "log", b"as it was")
    async with little(tmp_path, store) as mount:
        ino = await mount.ino("log")
        handle = mount.fs.open(ino, os.O_WRONLY)
        mount.fs.files.write(handle, 9, b", ours")
        await mount.fs.files.fsync(handle)
        if how == "replaced":
            store.account.add(bucket_id, "log", b"theirs")
        else:
            await store.hide(bucket_id, "log")
        await mount.fs.refresh("")
        with contextlib.suppress(NoSuchFile):
            await mount.ino("log")
        mount.fs.files.write(handle, 15, b", and more")
        await mount.fs.files.fsync(handle)
        assert shown(store.account, bucket_id) == {"log": b"as it was, ours, and more"}
        await mount.fs.setattr(ino, Wanted(mode=0o600), None)
        await mount.fs.files.release(handle)
        assert await mount.flush() == []
        assert (await mount.fs.lookup(ROOT, b"log")).mode & 0o777 == 0o600
        store.account.add(bucket_id, "log", b"theirs again")
        await mount.fs.refresh("")
        assert await mount.read("log") == b"theirs again"


async def test_a_new_file_takes_a_name_from_a_writer_who_lost_it_elsewhere(tmp_path: Path) -> None:
    store, bucket_id = memory()
    store.account.add(bucket_id, "log", b"as it was")
    async with little(tmp_path, store) as mount:
        handle = mount.fs.open(await mount.ino("log"), os.O_WRONLY)
        await store.hide(bucket_id, "log")
        await mount.fs.refresh("")
        await mount.create("log", b"made anew")
        mount.fs.files.write(handle, 0, b"to nobody")
        await mount.fs.files.release(handle)
        assert await mount.flush() == []
    assert shown(store.account, bucket_id) == {"log": b"made anew"}


PLAIN = {"src_last_modified_millis": "1600000000123"}
FULL = PLAIN | {f"entry-{number}": "x" for number in range(9)}


@pytest.mark.parametrize("hard_delete", [False, True])
@pytest.mark.parametrize("ours", [False, True])
async def test_a_file_renamed_away_and_back_is_there_whenever_the_kill_came(
    tmp_path: Path, ours: bool, hard_delete: bool
) -> None:
    """Also where its way back was marked as begun and never left: what the first rename hid is not it."""
    store, bucket_id = memory()
    if not ours:
        store.account.add(bucket_id, "file", b"precious", info=PLAIN)
    async with little(tmp_path, store, hard_delete=hard_delete) as mount:
        if ours:
            await mount.create("file", b"precious")
        assert await mount.flush() == []
        await mount.rename("file", "other")
        assert await mount.flush() == []
        await mount.rename("other", "file")
        back = mount.journal.queue.tail(bucket_id, "file")
        assert back is not None
        mount.journal.database.mark_begun(back)
        await mount.journal.commit()
    async with little(tmp_path, store, hard_delete=hard_delete) as mount:
        assert await mount.flush() == []
    assert shown(store.account, bucket_id) == {"file": b"precious"}


@pytest.mark.parametrize("info", [{}, PLAIN, FULL])
async def test_a_rename_keeps_the_file_info_of_others_and_adds_no_more_entries_than_b2_takes(
    tmp_path: Path, info: dict[str, str]
) -> None:
    store, bucket_id = memory()
    store.account.add(bucket_id, "d/file", b"precious", info=info, content_type="text/x-odd")
    async with little(tmp_path, store) as mount:
        await mount.rename("d", "e")
        assert await mount.flush() == []
    version = store.account.bucket(bucket_id).visible("e/file")
    assert version is not None
    assert info.items() <= version.info.items()
    assert len(version.info) <= 10
    assert version.content_type == "text/x-odd"
