"""Own changes win over what B2 told before them, and give way to what it tells after."""

from pathlib import Path

import trio
import trio.testing

from b2mount.cache.listings import Listings
from b2mount.fs.nodes import FileNode
from b2mount.fs.overlay import Mark, Overlay
from b2mount.journal.ops import OpQueue
from b2mount.store.memory import MemoryStore
from b2mount.store.memory_account import MemoryB2
from b2mount.store.store import FileVersion, Page
from tests.fs.worlds import ME, ROOT, little
from tests.journal.lives import memory


class SlowLists(MemoryStore):
    """List calls answer what was true when they came, once their door is open."""

    def __init__(self, account: MemoryB2) -> None:
        super().__init__(account)
        self.door = trio.Event()
        self.door.set()

    async def list_names(
        self,
        bucket_id: str,
        prefix: str,
        *,
        start: str | None = None,
        delimiter: str | None = None,
        limit: int = 1000,
    ) -> Page:
        page = await super().list_names(bucket_id, prefix, start=start, delimiter=delimiter, limit=limit)
        await self.door.wait()
        return page


class SlowHides(MemoryStore):
    """Names go once the door is open."""

    def __init__(self, account: MemoryB2) -> None:
        super().__init__(account)
        self.door = trio.Event()

    async def hide(self, bucket_id: str, name: str) -> FileVersion | None:
        await self.door.wait()
        return await super().hide(bucket_id, name)


async def test_a_change_sent_during_a_listing_shows_and_later_yields_to_others(tmp_path: Path) -> None:
    plain, bucket_id = memory()
    store = SlowLists(plain.account)
    store.account.add(bucket_id, "a", b"theirs, first")
    store.account.add(bucket_id, "d/b", b"something")
    async with little(tmp_path, store) as mount:
        ino = await mount.ino("a")
        directory = await mount.ino("d")
        await mount.fs.refresh("")
        store.door = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mount.fs.lookup, directory, b"b")
            nursery.start_soon(mount.fs.lookup, ROOT, b"a")
            await trio.testing.wait_all_tasks_blocked()
            handle = mount.fs.open(ino, 1)
            node = mount.mounted.world.node(ino)
            assert isinstance(node, FileNode)
            mount.fs.files.resize(node, 0)
            mount.fs.files.write(handle, 0, b"ours")
            await mount.fs.files.release(handle)
            assert await mount.flush() == []
            store.door.set()
        assert await mount.read("a") == b"ours"
        await trio.testing.wait_all_tasks_blocked()
        store.account.add(bucket_id, "a", b"theirs, second")
        await mount.fs.refresh("")
        assert await mount.read("a") == b"theirs, second"


async def test_a_directory_moved_away_and_back_during_listings_is_there(tmp_path: Path) -> None:
    plain, bucket_id = memory()
    store = SlowLists(plain.account)
    listings = Listings(store, 60, "", on_new=lambda _bucket_id, _listing: None)
    overlay = Overlay(
        OpQueue(),
        listings,
        keeps=lambda: False,
        remember_gone=lambda _bucket_id, _prefix, _gone: None,
        is_told=lambda _bucket_id, _name: None,
    )

    def change(to: Mark) -> None:
        overlay.set(bucket_id, "moved/", to)
        overlay.settle(bucket_id, "moved/file")

    async with trio.open_nursery() as nursery:
        store.door = first = trio.Event()
        nursery.start_soon(listings.get, bucket_id, "elsewhere/")
        await trio.testing.wait_all_tasks_blocked()
        change(Mark.DIRECTORY)
        change(Mark.GONE)
        store.door = second = trio.Event()
        nursery.start_soon(listings.get, bucket_id, "")  # which will tell that it is gone
        await trio.testing.wait_all_tasks_blocked()
        store.account.add(bucket_id, "moved/file", b"here again")
        change(Mark.DIRECTORY)
        first.set()
        await trio.testing.wait_all_tasks_blocked()
        overlay.purge()
        assert overlay.get(bucket_id, "moved/") is Mark.DIRECTORY
        second.set()
    overlay.purge()
    assert overlay.get(bucket_id, "moved/") is None
    assert (await listings.get(bucket_id, "")).has("moved/")


async def test_a_file_removed_during_a_listing_stays_away(tmp_path: Path) -> None:
    plain, bucket_id = memory()
    store = SlowLists(plain.account)
    store.account.add(bucket_id, "a", b"old")
    store.account.add(bucket_id, "b", b"other")
    async with little(tmp_path, store) as mount:
        await mount.ino("a")
        store.door = trio.Event()
        async with trio.open_nursery() as nursery:
            mount.mounted.world.listings.forget(bucket_id, "")
            nursery.start_soon(mount.fs.lookup, ROOT, b"b")
            await trio.testing.wait_all_tasks_blocked()
            mount.journal.hide(bucket_id, "a", exists=True)
            mount.mounted.world.overlay.set(bucket_id, "a", Mark.GONE)
            assert await mount.flush() == []
            store.door.set()
        await trio.testing.wait_all_tasks_blocked()
        handle = mount.fs.opendir(ROOT)
        shown = [entry.name for entry in mount.told(handle, 0)[0]]
        mount.fs.releasedir(handle)
        assert b"a" not in shown and b"b" in shown
        stat = (await mount.fs.create(ROOT, b"a", 0o600, 1, ME))[1]
        assert stat.size == 0


async def test_what_an_earlier_life_removed_stays_away_from_who_is_reading(tmp_path: Path) -> None:
    """Its removal is done while the directory is read; and what others make of the name since shows."""
    plain, bucket_id = memory()
    store = SlowHides(plain.account)
    for name in ("a", "b", "c", "d", "e"):
        store.account.add(bucket_id, name, b"old")
    async with little(tmp_path, store) as mount:
        for name in ("b", "d"):
            await mount.fs.unlink(ROOT, name.encode())
        await mount.fs.commit_all()
    async with little(tmp_path, store) as mount:
        await mount.ino("a")
        handle = mount.fs.opendir(ROOT)
        shown, _ = mount.told(handle, 0, 3)
        store.door.set()
        assert await mount.flush() == []
        shown += mount.told(handle, shown[-1].next_offset)[0]
        mount.fs.releasedir(handle)
        assert [entry.name for entry in shown] == [b".", b"..", b"a", b"c", b"e"]
        store.account.add(bucket_id, "b", b"theirs")
        assert await mount.read("b") == b"theirs"
