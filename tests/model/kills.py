"""Writers at work on a mount that is killed at random moments, again and again.

    python -m tests.model.kills --crashes 100 --seed 1

Several writers, each in a directory of its own and all of them on one file that they share, write, append,
patch, cut, rename, remove and sync, until the mount is ended by SIGKILL, or ends at some step of its journal
(dying/sitecustomize.py). So do, now and then, the mounts that take up what is left. After each death, what
fsync had returned for is in B2 at once, as the API tells, and what close had returned for is in the next
mount; each file is as it was before the change under way, or after it. In the end the bucket shows those
files and no others, and nothing was sent twice; no unfinished large file, and nothing in the spool, is left.
"""

import argparse
import errno
import hashlib
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.model.generator import PART
from tests.model.operations import content, write_all
from tests.model.torture import Variant, new_driver
from tests.support.emulator import Emulator
from tests.support.mount import Mount, MountFailed

DEATH = 9  # the exit status of dying/sitecustomize.py
DEAD = (errno.ENOTCONN, errno.ECONNABORTED, errno.ENOENT)  # the last once its mount point is cleared away
NAMES = ("a", "b", "c", "s/a", "s/b")
LATENCY_MS = 40  # else whoever waits too little is hardly ever caught
REGION = 5000  # bytes that each writer has of the shared file
SHARED = "shared"
OPTIONS = (
    ("--settle", "0"),
    ("--settle", "0.3"),
    (),
    ("--settle", "0", "--uploads", "1"),
    ("--settle", "0.1", "--hard-delete"),
    ("--settle", "0", "--spool-size", "600K"),
)

File = tuple[bytes, int]  # content and mode
Tree = dict[str, File]


@dataclass(slots=True)
class Writer:
    """One thread's work: what it knows to be safe, and what it was about to do when the mount died."""

    number: int
    root: Path
    chance: random.Random
    partly: bool  # a spool that is small has parts of an unfinished change sent
    tree: Tree = field(default_factory=dict)
    after: Tree | None = None  # as the change under way makes it
    is_right: Callable[[Tree], bool] | None = None  # of a change that may be there in part
    synced: dict[str, list[bytes]] = field(default_factory=dict)  # what B2 may show since an fsync, by name
    ever: Counter[tuple[str, str]] = field(default_factory=Counter)  # how often a name came to hold what
    region: bytes = bytes(REGION)
    region_after: bytes = bytes(REGION)
    regions_synced: list[bytes] = field(default_factory=list)
    done: int = 0
    failed: OSError | None = None  # how the last change ended, if not well

    @property
    def home(self) -> str:
        return f"w{self.number}"

    def path(self, name: str) -> str:
        return os.path.join(self.root, self.home, name)

    def run(self, over: threading.Event) -> None:
        """Work until told that it is over, or until the mount is dead."""
        self.failed = None
        try:
            while not over.is_set():
                self.step()
                self.done += 1
        except OSError as exc:
            self.failed = exc  # the mount is dead; that it did not fail while it lived, `Kills` sees

    def step(self) -> None:
        """Do one change, whose outcomes are known before it begins."""
        chance = self.chance
        word = chance.choices(
            ("write", "append", "patch", "cut", "rename", "move", "unlink", "chmod", "shared"),
            (9, 5, 5, 2, 4, 1, 3, 2, 5),
        )[0]
        if word == "shared":
            self.write_region(chance.random() < 0.3)
            return
        if word == "move":
            self.move_directory()
            return
        name = chance.choice(NAMES)
        data = content(chance.getrandbits(60), chance.choice((10, 3000, 70_000, 3 * PART, 10 * PART)))
        if word == "write":
            self.write(name, data, chance.random() < 0.25)
            return
        if name not in self.tree:
            return
        held, mode = self.tree[name]
        if word in ("append", "patch"):
            at = len(held) if word == "append" else chance.randrange(len(held) + 1)
            self.patch(name, at, data[: 3 * PART], chance.random() < 0.25)
        elif word == "cut":
            size = chance.randrange(len(held) + 100)
            after = {**self.tree, name: (held[:size].ljust(size, b"\0"), mode)}
            self.change(after, lambda: os.truncate(self.path(name), size))
        elif word == "chmod":
            mode = chance.choice((0o600, 0o640, 0o755))
            self.change({**self.tree, name: (held, mode)}, lambda: os.chmod(self.path(name), mode))
        elif word == "unlink":
            self.unsync(name)
            after = {key: file for key, file in self.tree.items() if key != name}
            self.change(after, lambda: os.unlink(self.path(name)))
        else:
            other = chance.choice(NAMES)
            self.unsync(name, other)
            after = {key: file for key, file in self.tree.items() if key != name} | {other: (held, mode)}
            self.change(after, lambda: os.rename(self.path(name), self.path(other)))

    # --- changes -----------------------------------------------------------------------------------------

    def change(
        self, after: Tree, do: Callable[[], object], partly: Callable[[Tree], bool] | None = None
    ) -> None:
        """Make the tree what it is *after*; *partly* tells what else a small spool may leave of it."""
        self.is_right = partly if self.partly else None
        for name, (data, mode) in after.items():
            if self.tree.get(name) != (data, mode):
                self.ever[name, digest(data)] += 1
            if name in self.synced and data not in self.synced[name]:
                self.synced[name].append(data)
        self.after = after
        do()
        self.tree, self.after, self.is_right = after, None, None

    def unsync(self, *names: str) -> None:
        """Ask no more what B2 holds of names that are about to move or go."""
        for name in names:
            self.synced.pop(name, None)

    def write(self, name: str, data: bytes, sync: bool) -> None:
        mode = self.tree[name][1] if name in self.tree else 0o644
        self.put(name, data, mode, 0, data, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, sync)

    def patch(self, name: str, at: int, data: bytes, sync: bool) -> None:
        held, mode = self.tree[name]
        self.put(name, held[:at] + data + held[at + len(data) :], mode, at, data, os.O_WRONLY, sync)

    def put(self, name: str, whole: bytes, mode: int, at: int, data: bytes, flags: int, sync: bool) -> None:
        before = b"" if flags & os.O_TRUNC else self.tree[name][0]

        def do() -> None:
            fd = os.open(self.path(name), flags, 0o644)
            try:
                os.lseek(fd, at, os.SEEK_SET)
                for start in range(0, len(data), 150_000):
                    write_all(fd, data[start : start + 150_000])
                if sync:
                    os.fsync(fd)
                    self.synced[name] = [whole]
            finally:
                os.close(fd)

        def partly(tree: Tree) -> bool:
            others = {key: file for key, file in self.tree.items() if key != name}
            found = tree.get(name, (b"", mode))[0]
            common = length_alike(found[at:], data)
            return (
                {key: file for key, file in tree.items() if key != name} == others
                and found[:at] == before[:at]
                and found[at + common :] == before[at + common :]
            )

        if self.partly:
            self.unsync(name)
        self.change({**self.tree, name: (whole, mode)}, do, partly)

    def move_directory(self) -> None:
        """Rename a directory away and back, in one change: both names may be found in between."""
        self.unsync(*NAMES)
        aside = {name.replace("s/", "t/"): file for name, file in self.tree.items()}
        self.change(aside, lambda: os.rename(self.path("s"), self.path("t")))
        self.move_back()

    def move_back(self) -> None:
        back = {name.replace("t/", "s/"): file for name, file in self.tree.items()}
        self.change(back, lambda: os.rename(self.path("t"), self.path("s")))

    def write_region(self, sync: bool) -> None:
        """Write our part of the file that all share."""
        self.region_after = content(self.chance.getrandbits(60), REGION)
        if self.regions_synced:
            self.regions_synced.append(self.region_after)
        fd = os.open(os.path.join(self.root, SHARED), os.O_WRONLY)
        try:
            os.pwrite(fd, self.region_after, self.number * REGION)
            if sync:
                os.fsync(fd)
                self.regions_synced = [self.region_after]
        finally:
            os.close(fd)
        self.region = self.region_after

    # --- after a death -----------------------------------------------------------------------------------

    def read(self) -> Tree:
        """Return what the mount shows of our directory."""
        found = {}
        for directory, _, names in os.walk(self.path(""), onerror=fail):
            for name in names:
                path = os.path.join(directory, name)
                key = os.path.relpath(path, self.path(""))
                found[key] = (Path(path).read_bytes(), os.stat(path).st_mode & 0o7777)
        return found

    def compare(self) -> None:
        """Demand what was promised, and go on from what is there."""
        found = self.read()
        is_right = found in (self.tree, self.after) or (self.is_right is not None and self.is_right(found))
        assert is_right, f"{self.home}: {tell(found)}\n before {tell(self.tree)}\n after {tell(self.after)}"
        self.tree, self.after, self.is_right = found, None, None
        with open(os.path.join(self.root, SHARED), "rb") as file:
            region = file.read()[self.number * REGION :][:REGION]
        assert region in (self.region, self.region_after), f"region {self.number}"
        self.region = self.region_after = region
        if os.path.exists(self.path("t")):
            self.move_back()


def length_alike(one: bytes, other: bytes) -> int:
    """Return how many bytes two begin with that are the same."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


def tell(tree: Tree | None) -> str:
    if tree is None:
        return "nothing"
    return str({name: (len(data), digest(data)[:8], oct(mode)) for name, (data, mode) in tree.items()})


class Kills:
    """One bucket, its mount, and its deaths."""

    def __init__(self, emulator: Emulator, base: Path, seed: int, *, writers: int = 4) -> None:
        self.chance = random.Random(f"kills {seed}")
        self.variant = Variant("t/", OPTIONS[seed % len(OPTIONS)])
        self.driver = new_driver(emulator, base, self.variant)
        partly = "--spool-size" in self.variant.options
        self.writers = [
            Writer(number, self.driver.mount.path, random.Random(f"{seed} {number}"), partly)
            for number in range(writers)
        ]
        self.mount: Mount = self.driver.mount
        self.crashes = 0

    def run(self, crashes: int) -> None:
        """Let it die so often, then end cleanly and look at the bucket."""
        try:
            self.driver.emulator.network(latency_ms=LATENCY_MS)
            self.mount.start()
            for writer in self.writers:
                os.makedirs(writer.path("s"))
            (self.mount.path / SHARED).write_bytes(bytes(REGION * len(self.writers)))
            while self.crashes < crashes:
                self.work_until_death()
                self.demand_synced()
                while not self.is_revived():
                    self.mount.kill()
                    self.crashes += 1
            while (status := self.mount.stop()) == DEATH:
                self.mount.start()
            assert status == 0, f"exit status {status}"
            self.driver.demand_nothing_left()
            self.demand_bucket()
            assert "Traceback" not in self.mount.log()
        except BaseException as exc:
            exc.add_note(f"{self.variant}, crash {self.crashes}\n{self.mount.log()[-4000:]}")
            raise
        finally:
            self.mount.kill()
            self.driver.emulator.network(latency_ms=0)
            self.driver.emulator.wipe(self.driver.bucket)

    def work_until_death(self) -> None:
        over = threading.Event()
        threads = [threading.Thread(target=writer.run, args=(over,)) for writer in self.writers]
        for thread in threads:
            thread.start()
        time.sleep(self.chance.uniform(0.05, 1.5))
        self.mount.kill()
        over.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), "a call hangs although the mount is dead"
        for writer in self.writers:
            failed = writer.failed
            assert failed is None or failed.errno in DEAD, f"{writer.home}: on a living mount: {failed}"
        self.crashes += 1

    def is_revived(self) -> bool:
        """Mount again and compare; False where the mount dies meanwhile."""
        self.revive()
        try:
            for writer in self.writers:
                writer.compare()
        except OSError:
            assert self.mount.process is not None
            assert self.mount.process.wait(60) == DEATH, "a call failed on a living mount"
            return False
        return True

    def revive(self) -> None:
        """Mount again, after some attempts that die before all is sent; the last may die later by a step."""
        while self.chance.random() < 0.4:
            self.start_dying(self.chance.randrange(1, 30))
            time.sleep(self.chance.uniform(0, 0.5))
            self.mount.kill()
            self.crashes += 1
        if self.chance.random() < 0.5 and self.start_dying(self.chance.randrange(30, 200)):
            return
        self.mount.start()

    def start_dying(self, step: int) -> bool:
        """Start a mount that ends at a step; say whether it was ready before."""
        os.environ |= {"DIE_AT": str(step), "PYTHONPATH": str(Path(__file__).parent / "dying")}
        try:
            self.mount.start()
        except MountFailed:
            assert self.mount.process is not None
            assert self.mount.process.returncode == DEATH
            self.mount.kill()
            return False
        finally:
            del os.environ["DIE_AT"], os.environ["PYTHONPATH"]
        return True

    # --- what B2 has -------------------------------------------------------------------------------------

    def demand_synced(self) -> None:
        """Demand of B2 what fsync had returned for."""
        emulator, bucket, prefix = self.driver.emulator, self.driver.bucket, self.driver.prefix
        for writer in self.writers:
            for name, states in writer.synced.items():
                held = emulator.download(bucket, f"{prefix}{writer.home}/{name}")
                assert held in states, f"{writer.home}/{name} was synced, and is not in B2"
            writer.synced.clear()
            if writer.regions_synced:
                held = emulator.download(bucket, prefix + SHARED)[writer.number * REGION :][:REGION]
                assert held in writer.regions_synced, f"region {writer.number} was synced, and is not in B2"
            writer.regions_synced.clear()

    def demand_bucket(self) -> None:
        """Demand that B2 shows the files, no others, and that nothing was sent twice or half."""
        emulator, bucket, prefix = self.driver.emulator, self.driver.bucket, self.driver.prefix
        wanted = {
            f"{writer.home}/{name}": data
            for writer in self.writers
            for name, (data, _) in writer.tree.items()
        } | {SHARED: b"".join(writer.region for writer in self.writers)}
        names = [row["fileName"].removeprefix(prefix) for row in emulator.list_names(bucket, prefix)]
        assert sorted(name for name in names if not name.endswith("/.bzEmpty")) == sorted(wanted)
        for name, data in wanted.items():
            assert emulator.download(bucket, prefix + name) == data, name
        if self.writers[0].partly:
            return
        ever = Counter[tuple[str, str]]()
        for writer in self.writers:
            ever.update({(f"{writer.home}/{name}", sha1): n for (name, sha1), n in writer.ever.items()})
        made = Counter(
            (row["fileName"].removeprefix(prefix), row["contentSha1"])
            for row in emulator.list_versions(bucket, prefix)
            if row["action"] == "upload" and row["contentSha1"] not in (None, "none")
        )
        for (name, sha1), times in made.items():
            if name != SHARED and not name.endswith("/.bzEmpty"):
                most = ever[name, sha1]
                assert times <= most, f"{name} held {sha1[:8]} {most} times, and was sent {times} times"


def fail(error: OSError) -> None:
    """Have os.walk say what went wrong."""
    raise error


def digest(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def main() -> int:
    """Run as many deaths as asked for, with one seed after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--crashes", type=int, default=100, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--life", type=int, default=12, help="deaths on one bucket before the next seed")
    chosen = parser.parse_args()
    done, seed = 0, chosen.seed
    with tempfile.TemporaryDirectory(prefix="b2mount-kills-") as data, Emulator(Path(data)) as emulator:
        emulator.settings(min_part_size=PART)
        while done < chosen.crashes:
            with tempfile.TemporaryDirectory(prefix="b2mount-kills-") as base:
                kills = Kills(emulator, Path(base), seed)
                kills.run(chosen.life)
            done += kills.crashes
            steps = sum(writer.done for writer in kills.writers)
            print(f"seed {seed} {kills.variant.options}: {steps} changes, {done} deaths so far", flush=True)
            seed += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
