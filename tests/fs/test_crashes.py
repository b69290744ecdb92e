"""Whatever was done here and wherever it was killed, B2 ends with what the file system showed.

Random work on a few files is played beside a plain dict, with calls that hang, fail or lose their reply; at
any moment the state directory and the account are copied, as a kill leaves them, and taken up by a new life.
"""

import copy
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from b2mount.core.errors import AccessDenied, B2MountError, B2Unavailable, KeyForbids
from b2mount.core.grant import Capability
from b2mount.fs.filesystem import Wanted
from b2mount.journal import uploader
from b2mount.store.memory import MemoryStore
from b2mount.store.memory_account import MemoryB2
from b2mount.store.store import Body, FileVersion, LockSettings, Progress
from tests.fs.worlds import ME, ROOT, Little, little
from tests.journal.lives import memory, shown

NAMES = ["a", "b", "c", "d/x", "d/y", "e/x"]
VERBS = ["write", "write", "patch", "cut", "move", "move", "rm", "chmod", "mvdir", "sync", "pace", "crash"]
STEPS = st.lists(
    st.tuples(st.sampled_from(VERBS), st.integers(0, 5), st.integers(0, 5), st.integers(0, 40)),
    min_size=3,
    max_size=25,
)
EXAMPLES = int(os.environ.get("B2MOUNT_TEST_EXAMPLES", "15"))
CHANGES = ("b2_upload_file", "b2_copy_file", "b2_hide_file", "b2_delete_file_version")


class MoodyStore(MemoryStore):
    """A store whose changing calls hang, fail, or lose their reply as long as its mood lasts."""

    def __init__(self, account: MemoryB2) -> None:
        super().__init__(account)
        self.mood = "good"
        self._changed = trio.Event()

    def feel(self, mood: str) -> None:
        self.mood = mood
        self._changed.set()
        self._changed = trio.Event()

    async def _enter(
        self,
        call: str,
        needed: Capability | None,
        *,
        bucket_id: str | None = None,
        name: str | None = None,
        refusal: type[KeyForbids] = AccessDenied,
    ) -> None:
        while call in CHANGES and self.mood == "hang":
            await self._changed.wait()
        if call in CHANGES and self.mood == "fail":
            raise B2Unavailable("not now")
        await super()._enter(call, needed, bucket_id=bucket_id, name=name, refusal=refusal)

    async def upload(
        self,
        bucket_id: str,
        name: str,
        body: Body,
        *,
        content_type: str,
        info: Mapping[str, str],
        sha1: str | None = None,
        lock: LockSettings | None = None,
        progress: Progress | None = None,
    ) -> FileVersion:
        row = await super().upload(bucket_id, name, body, content_type=content_type, info=info)
        if self.mood == "lose":
            raise B2Unavailable("sent, but no reply")
        return row

    async def hide(self, bucket_id: str, name: str) -> FileVersion | None:
        row = await super().hide(bucket_id, name)
        if self.mood == "lose":
            raise B2Unavailable("sent, but no reply")
        return row


class Player:
    """Does each step on the mount and on a dict."""

    def __init__(self, mount: Little, store: MoodyStore, bucket_id: str, directory: Path, hard: bool) -> None:
        self.mount = mount
        self.store = store
        self.bucket_id = bucket_id
        self.directory = directory
        self.hard = hard
        self.model: dict[str, bytes] = {}
        self.crashes = 0

    async def parent(self, name: str) -> int:
        return await self.mount.ino(name.split("/")[0]) if "/" in name else ROOT

    async def start(self) -> None:
        for directory in (b"d", b"e"):
            await self.mount.fs.mkdir(ROOT, directory, 0o755, ME)

    async def step(self, verb: str, first: int, second: int, number: int) -> None:
        fs, name, other = self.mount.fs, NAMES[first], NAMES[second]
        last = name.split("/")[-1].encode()
        if verb == "pace":
            self.store.feel(["good", "hang", "fail", "lose"][number % 4])
            for op in list(self.mount.journal.queue.ops.values()):
                self.mount.journal.uploader.hurry(op)
            await trio.testing.wait_all_tasks_blocked(0.001)
            return
        if verb == "crash":
            await self.crash()
            return
        if verb == "mvdir":
            await self.move_directory()
            return
        parent = await self.parent(name)
        if verb == "write":
            if name in self.model:
                await fs.unlink(parent, last)
            handle, _ = await fs.create(parent, last, 0o644, os.O_RDWR | os.O_CREAT, ME)
            self.model[name] = b"%d" % number * (number + 1)
            fs.files.write(handle, 0, self.model[name])
            await fs.files.release(handle)
            return
        if name not in self.model:
            return
        ino = (await fs.lookup(parent, last)).ino
        if verb == "patch":
            handle = fs.open(ino, os.O_RDWR)
            fs.files.write(handle, number, b"patched")
            await fs.files.release(handle)
            old = self.model[name].ljust(number, b"\0")
            self.model[name] = old[:number] + b"patched" + old[number + 7 :]
        elif verb == "cut":
            await fs.setattr(ino, Wanted(size=number), None)
            self.model[name] = self.model[name][:number].ljust(number, b"\0")
        elif verb == "move" and name != other:
            await fs.rename(parent, last, await self.parent(other), other.split("/")[-1].encode(), 0)
            self.model[other] = self.model.pop(name)
        elif verb == "rm":
            await fs.unlink(parent, last)
            del self.model[name]
        elif verb == "chmod":
            await fs.setattr(ino, Wanted(mode=0o600 + number % 8), None)
        elif verb == "sync" and self.store.mood == "good":
            handle = fs.open(ino, os.O_RDWR)
            with trio.fail_after(60):
                await fs.files.fsync(handle)
            await fs.files.release(handle)

    async def move_directory(self) -> None:
        if any(name.startswith("e/") for name in self.model):
            return
        await self.mount.rename("d", "e")
        await self.mount.fs.mkdir(ROOT, b"d", 0o755, ME)
        for name in [name for name in self.model if name.startswith("d/")]:
            self.model["e" + name[1:]] = self.model.pop(name)

    async def crash(self) -> None:
        """Take up a copy of what a kill would leave now, and compare what it makes of the bucket."""
        self.crashes += 1
        directory = self.directory / f"copy-{self.crashes}"
        shutil.copytree(self.directory / "state", directory / "state")
        account = copy.deepcopy(self.store.account)
        async with little(directory, MemoryStore(account), hard_delete=self.hard) as mount:
            assert await mount.flush() == []
            files = await self.tree_of(mount)
        assert files == self.model, "the new life shows something else"
        self.compare(account, "after a kill")

    async def tree_of(self, mount: Little) -> dict[str, bytes]:
        found = {}
        for name in {*NAMES, "e/y"}:
            try:
                found[name] = await read(mount, name)
            except B2MountError:
                continue
        return found

    def compare(self, account: MemoryB2, when: str) -> None:
        held = shown(account, self.bucket_id)
        held = {name: data for name, data in held.items() if not name.endswith(".bzEmpty")}
        assert held == self.model, when


async def read(mount: Little, name: str) -> bytes:
    parent = await mount.ino(name.split("/")[0]) if "/" in name else ROOT
    ino = (await mount.fs.lookup(parent, name.split("/")[-1].encode())).ino
    handle = mount.fs.open(ino, os.O_RDONLY)
    try:
        now = mount.fs.files.read_now(handle, 0, 1000)
        return bytes(now) if now is not None else bytes(await mount.fs.files.read(handle, 0, 1000))
    finally:
        await mount.fs.files.release(handle)


async def play(steps: list[tuple[str, int, int, int]], directory: Path, hard: bool) -> None:
    plain, bucket_id = memory()
    store = MoodyStore(plain.account)
    async with little(directory, store, hard_delete=hard) as mount:
        player = Player(mount, store, bucket_id, directory, hard)
        await player.start()
        for step in steps:
            await player.step(*step)
            assert await player.tree_of(mount) == player.model, step
        await player.crash()
        store.feel("good")
        assert await mount.flush() == []
        assert await player.tree_of(mount) == player.model
        player.compare(store.account, "after the flush")


@pytest.mark.parametrize("hard", [False, True], ids=["hiding", "deleting"])
def test_a_kill_at_any_moment_loses_nothing_and_brings_nothing_back(
    hard: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploader, "RETRY_FIRST", 0.01)
    monkeypatch.setattr(uploader, "RETRY_LAST", 0.02)

    @given(STEPS)
    @settings(max_examples=EXAMPLES, deadline=None)
    def check(steps: list[tuple[str, int, int, int]]) -> None:
        with tempfile.TemporaryDirectory() as directory:
            trio.run(play, steps, Path(directory), hard)

    check()
