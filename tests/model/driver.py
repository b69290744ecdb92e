"""A mount beside a plain local directory: every step is done to both, and both must answer alike.

Between steps the driver looks from outside as well: it compares whole trees, compares the bucket with the
model through the API, mounts again with and without what is kept locally, kills the mount as a crash would,
and changes the bucket as a stranger. What a crash may lose is exactly what was written and neither closed nor
synced: for such files the model knows each state since the last commit, and the mount must show one of them.
"""

import fcntl
import hashlib
import json
import os
import random
import shutil
import socket
import stat
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.model.operations import Outcome, Side, Step, content, facts, snapshot, user_xattrs
from tests.support.emulator import Emulator
from tests.support.mount import Mount

HANG_SECONDS = 100.0
State = tuple[Any, ...] | None  # a name's kind and content; None: there is none

FAULTS: tuple[dict[str, Any], ...] = (
    {"call": "*", "kind": "status", "status": 503, "code": "service_unavailable", "times": 2},
    {"call": "b2_upload_file", "kind": "status", "status": 503, "code": "service_unavailable", "times": 3},
    {"call": "b2_upload_file", "kind": "drop_before", "times": 1},
    {"call": "b2_upload_file", "kind": "drop_after", "times": 1},
    {"call": "b2_upload_part", "kind": "drop_after", "times": 2},
    {"call": "b2_copy_file", "kind": "drop_after", "times": 1},
    {"call": "b2_copy_part", "kind": "drop_after", "times": 1},
    {"call": "b2_hide_file", "kind": "drop_after", "times": 1},
    {"call": "b2_finish_large_file", "kind": "drop_after", "times": 1},
    {"call": "b2_start_large_file", "kind": "drop_after", "times": 1},
    {"call": "b2_list_file_names", "kind": "drop_before", "times": 2},
    {"call": "b2_upload_file", "kind": "stall", "seconds": 0.7, "times": 2},
    {"call": "b2_copy_file", "kind": "stall", "seconds": 0.7, "times": 2},
    {"call": "b2_upload_file", "kind": "corrupt", "after_bytes": 3, "times": 1},
    {"call": "b2_download_file_by_id", "kind": "truncate", "after_bytes": 1000, "times": 1},
    {"call": "b2_download_file_by_id", "kind": "status", "status": 503, "times": 1},
)


class Mismatch(AssertionError):
    """The mount and its model disagree."""


class Driver:
    """One mount, one model, and the steps done so far."""

    def __init__(
        self,
        emulator: Emulator,
        base: Path,
        bucket: str,
        *,
        prefix: str = "",
        options: Sequence[str] = (),
    ) -> None:
        """Prepare in *base*; the key is limited to *prefix*."""
        self.emulator = emulator
        self.bucket = bucket
        self.prefix = prefix
        key = emulator.create_key(
            ["listBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles"], [bucket], prefix or None
        )
        self.mount = Mount(emulator, base, key, options=options)
        self.model = Side(base / "model")
        self.real = Side(self.mount.path)
        self.model.root.mkdir()
        self.uncertain: dict[int, list[State]] = {}  # by the model's inode: what a crash may leave of it
        self.steps: list[Step] = []
        self.has_faults = False
        self._step_began: float | None = None
        self._watching = True

    def __enter__(self) -> "Driver":
        self.mount.start()
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._watching = False
        self.real.close_all()
        self.model.close_all()
        self.emulator.clear_faults()
        if kind is None:
            assert self.mount.stop() == 0, self.mount.log()
        else:
            self.mount.kill()

    def _watch(self) -> None:
        """Kill a mount that does not answer, so that the step ends with an error instead of never."""
        while self._watching:
            time.sleep(1)
            began = self._step_began
            if (
                began is not None
                and time.monotonic() - began > HANG_SECONDS
                and self.mount.process is not None
            ):
                self.mount.process.kill()

    def existing(self) -> list[str]:
        """Return the names that are there now, down to some depth."""
        found = []
        for directory, directories, files in os.walk(self.model.root):
            inside = os.path.relpath(directory, self.model.root)
            for name in sorted(directories) + sorted(files):
                path = os.path.normpath(os.path.join(inside, name))
                if path.count("/") < 3:
                    found.append(path)
        return sorted(found)

    def run(self, step: Step) -> None:
        """Do one step to both sides. Raises Mismatch."""
        self.steps.append(step)
        self._step_began = time.monotonic()
        try:
            event = getattr(self, f"event_{step[0]}", None)
            if event is not None:
                event(*step[1:])
            else:
                self._run_on_both(step)
        finally:
            self._step_began = None
        said = self.mount.log()
        if "Traceback" in said or "a bug" in said:
            raise Mismatch(f"after {step}: the mount says\n{said[-4000:]}")

    def _run_on_both(self, step: Step) -> None:
        before = self._before(step)
        real = self.real.run(step)
        if self.has_faults and isinstance(real, str) and step[0] in ("fsync", "hwrite", "htruncate"):
            self._clear_faults()
            real = self.real.run(step)
        expected = self.model.run(step)
        if real != expected:
            raise Mismatch(f"{step}: the mount answers {_short(real)}, the model {_short(expected)}")
        self._after(step, before, expected)

    # --- what a crash may leave --------------------------------------------------------------------------

    def _before(self, step: Step) -> tuple[int, State] | None:
        """Return the inode and state of a file that the step will change without making it safe."""
        match step[0]:
            case "hwrite" | "htruncate" if step[1] in self.model.handles:
                fd = self.model.handles[step[1]]
                return os.fstat(fd).st_ino, _state_of_handle(fd)
            case "open" | "rename":
                name = step[2]
                return self._inode(name), self._state(name)
        return None

    def _after(self, step: Step, before: tuple[int, State] | None, outcome: Outcome) -> None:
        word = step[0]
        if word in ("hwrite", "htruncate") and before is not None and isinstance(outcome, int | None):
            fd = self.model.handles[step[1]]
            if before[1] == ("other",):
                return  # nothing was written, to a directory
            self._note(before[0], before[1], _state_of_handle(fd))
            if os.get_inheritable(fd):  # how the model remembers O_SYNC, see open below
                self._safe(before[0])
        elif word == "open" and outcome == "open":
            assert before is not None
            fd = self.model.handles[step[1]]
            os.set_inheritable(fd, step[3] == "sync")
            if before[1] is None or step[3] == "trunc":
                self._note(os.fstat(fd).st_ino, before[1], _state_of_handle(fd))
        elif word == "rename" and outcome is None and before is not None:
            moved = self._inode(step[2])
            if moved in self.uncertain:
                self.uncertain[moved] += [before[1], *self.uncertain.get(before[0], [])]
        elif word == "fsync" and outcome is None:
            fd = self.model.handles[step[1]]
            self._safe(os.fstat(fd).st_ino)
            self._demand_in_bucket(fd)
        elif word == "close" and outcome is None:
            self._forget_unnamed_or_safe()
        elif word in ("write", "patch", "append", "truncate") and isinstance(outcome, int | None):
            self._safe(self._inode(step[1]))

    def _note(self, inode: int, *states: State) -> None:
        known = self.uncertain.setdefault(inode, [])
        known += [state for state in states if state not in known]

    def _safe(self, inode: int) -> None:
        self.uncertain.pop(inode, None)

    def _forget_unnamed_or_safe(self) -> None:
        """Keep as uncertain only what is still open somewhere: each close commits its file."""
        closing = {os.fstat(fd).st_ino for fd in self.model.handles.values()}
        for inode in list(self.uncertain):
            if inode not in closing:
                del self.uncertain[inode]

    def _inode(self, name: str) -> int:
        try:
            return os.stat(self.model.path(name)).st_ino
        except OSError:
            return 0

    def _state(self, name: str) -> State:
        path = self.model.path(name)
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            return None
        if stat.S_ISREG(mode):
            return ("file", Path(path).read_bytes())
        return ("link", os.readlink(path)) if stat.S_ISLNK(mode) else ("other",)

    # --- looking from outside ----------------------------------------------------------------------------

    def event_check(self) -> None:
        """Compare both trees."""
        self._compare(snapshot(self.real.root), snapshot(self.model.root))

    def _compare(self, real: dict[str, Any], model: dict[str, Any]) -> None:
        wrong = []
        for name in sorted(real.keys() | model.keys()):
            if real.get(name) != model.get(name):
                wrong.append(f"{name}: {_short(real.get(name))}, the model {_short(model.get(name))}")
        if wrong:
            raise Mismatch("the trees differ:\n" + "\n".join(wrong))

    def event_flush(self) -> None:
        """Send everything, and compare the bucket with the model through the API."""
        self.event_flush_only()
        self.check_bucket()

    def event_flush_only(self) -> None:
        """Send everything."""
        answer = self._ask({"op": "flush"})
        if not answer.get("ok") and self.has_faults:
            self._clear_faults()
            answer = self._ask({"op": "flush"})
        if not answer.get("ok"):
            raise Mismatch(f"flush: {answer}")
        self.uncertain.clear()
        self._clear_faults()

    def check_bucket(self) -> None:
        """Demand that the bucket shows the model's files, and nothing else but directories' placeholders."""
        rows = {
            row["fileName"].removeprefix(self.prefix): row
            for row in self.emulator.list_names(self.bucket, self.prefix)
        }
        wrong = []
        for name, (numbers, body, _) in snapshot(self.model.root).items():
            if stat.S_ISDIR(int(numbers[0], 8)):
                rows.pop(f"{name}/.bzEmpty", None)
                continue
            row = rows.pop(name, None)
            data = body.encode() if isinstance(body, str) else body or b""
            if row is None:
                wrong.append(f"{name} is missing")
            elif row["contentSha1"] != hashlib.sha1(data, usedforsecurity=False).hexdigest():
                held = self.emulator.download(self.bucket, self.prefix + name)
                if held != data:
                    wrong.append(f"{name} holds {_short(held)} instead of {_short(data)}")
        wrong += [f"{name} should not be there" for name in rows]
        if wrong:
            raise Mismatch("the bucket differs:\n" + "\n".join(wrong))

    def _demand_in_bucket(self, fd: int) -> None:
        """Demand that a file just synced is in the bucket exactly as it is."""
        path = os.readlink(f"/proc/self/fd/{fd}")
        if path.endswith(" (deleted)") or os.path.isdir(path):
            return
        self._clear_faults()
        name = os.path.relpath(path, self.model.root)
        held = self.emulator.download(self.bucket, self.prefix + name)
        expected = _state_of_handle(fd)
        if ("file", held) != expected:
            raise Mismatch(f"fsync returned, but B2 holds {_short(held)} as {name}, not {_short(expected)}")

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        control = Path(os.getxattr(self.mount.path, "system.b2mount.control").decode())
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as lines:
            directory = os.open(control.parent, os.O_PATH)  # an address has room for 107 bytes
            connection.connect(f"/proc/self/fd/{directory}/{control.name}")
            os.close(directory)
            connection.sendall(json.dumps(request).encode() + b"\n")
            for line in lines:
                answer: dict[str, Any] = json.loads(line)
                if answer.get("done"):
                    return answer
        raise Mismatch(f"the mount hung up on {request}\n{self.mount.log()[-2000:]}")

    # --- lives -------------------------------------------------------------------------------------------

    def event_wait(self, seconds: float) -> None:
        """Let the background work go on."""
        time.sleep(seconds)

    def event_remount(self, *, empty: bool = False) -> None:
        """Unmount cleanly, look at what is left behind, mount again, compare."""
        self.real.close_all()
        self.model.close_all()
        self.uncertain.clear()
        self._clear_faults()
        status = self.mount.stop()
        if status != 0:
            raise Mismatch(f"unmount: exit status {status}\n{self.mount.log()[-3000:]}")
        self.demand_nothing_left()
        self.check_bucket()
        if empty:
            for directory in (self.mount.state, self.mount.cache):
                shutil.rmtree(directory)
                directory.mkdir()
        self.mount.start()
        self.event_check()

    def event_remount_empty(self) -> None:
        """Mount again with nothing local kept."""
        self.event_remount(empty=True)

    def demand_nothing_left(self) -> None:
        """Demand that a clean end leaves neither spool files nor unfinished large files."""
        spooled = [str(path) for path in self.mount.state.rglob("spool/*")]
        if spooled:
            raise Mismatch(f"left in the spool: {spooled}")
        body = {"bucketId": self.emulator.bucket_id(self.bucket)}
        unfinished = self.emulator.ask("b2_list_unfinished_large_files", body)["files"]
        if unfinished:
            raise Mismatch(f"left unfinished: {[row['fileName'] for row in unfinished]}")

    def event_kill(self) -> None:
        """End the mount as a crash would, mount again, and see that what was promised is there."""
        self._clear_faults()
        self.mount.kill()
        self.real.close_all()
        self.model.close_all()
        self.mount.start()
        self._accept_losses()
        self.event_check()

    def _accept_losses(self) -> None:
        """Make the model as the crash left the files that were open and not safe, where that is allowed."""
        by_inode: dict[int, str] = {}
        for name in snapshot(self.model.root):
            by_inode[os.lstat(self.model.path(name)).st_ino] = name
        for inode, allowed in self.uncertain.items():
            if inode not in by_inode:
                continue
            name = by_inode[inode]
            model, real = self.model.path(name), self.real.path(name)
            state = _state_at(real)
            if state not in allowed:
                raise Mismatch(f"after a crash {name} holds {_short(state)}, none of {_short(allowed)}")
            os.unlink(model)
            if state is not None:
                _copy(real, model, state)
        self.uncertain.clear()

    # --- strangers ---------------------------------------------------------------------------------------

    def event_upload(self, name: str, seed: int, size: int) -> None:
        """Have a stranger upload a file, in a directory of its own or one that exists."""
        path = Path(self.model.path(name))
        if path.is_dir() and not path.is_symlink():
            return
        inside = [parent for parent in path.parents if parent.is_relative_to(self.model.root)]
        if any(parent.is_symlink() or (parent.exists() and not parent.is_dir()) for parent in inside):
            return
        if self._is_open_for_writing(name):
            return
        self.event_flush()
        self.emulator.upload(self.bucket, self.prefix + name, content(seed, size))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content(seed, size))
        self._refresh()

    def event_hide(self, name: str) -> None:
        """Have a stranger hide a file; a directory that nothing keeps goes with it."""
        path = Path(self.model.path(name))
        if not (path.is_symlink() or path.is_file()) or self._is_open_for_writing(name):
            return
        self.event_flush()
        self.emulator.hide(self.bucket, self.prefix + name)
        path.unlink()
        for parent in path.parents:
            inside = os.path.relpath(parent, self.model.root)
            if inside == "." or self.emulator.list_names(self.bucket, f"{self.prefix}{inside}/"):
                break
            parent.rmdir()
        self._refresh()

    def _is_open_for_writing(self, name: str) -> bool:
        """Say whether a writer here and a stranger would compete: the last one wins then, whichever it is."""
        inode = self._inode(name)
        return any(
            os.fstat(fd).st_ino == inode and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
            for fd in self.model.handles.values()
        )

    def _refresh(self) -> None:
        answer = self._ask({"op": "refresh", "path": ""})
        if answer.get("error"):
            raise Mismatch(f"refresh: {answer}")

    # --- faults ------------------------------------------------------------------------------------------

    def event_fault(self, seed: int) -> None:
        """Let the next calls go wrong in some way."""
        chance = random.Random(seed)
        self.has_faults = True
        if chance.random() < 0.15:
            self.emulator.expire_tokens(chance.choice(("account", "upload", "all")))
        else:
            self.emulator.fault(**chance.choice(FAULTS))

    def _clear_faults(self) -> None:
        if self.has_faults:
            self.emulator.clear_faults()
            self.has_faults = False


def _state_of_handle(fd: int) -> State:
    """Return what an open file of the model holds, however it was opened and even without a name."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return ("other",)
    with open(f"/proc/self/fd/{fd}", "rb") as file:
        return ("file", file.read())


def _state_at(path: str) -> State:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISREG(mode):
        return ("file", Path(path).read_bytes())
    return ("link", os.readlink(path)) if stat.S_ISLNK(mode) else ("other",)


def _copy(source: str, target: str, state: tuple[Any, ...]) -> None:
    """Make *target* as *source* is."""
    info = os.lstat(source)
    if state[0] == "link":
        os.symlink(state[1], target)
    else:
        Path(target).write_bytes(state[1])
        for key, value in user_xattrs(source).items():
            os.setxattr(target, key, value)
    if state[0] != "link":
        os.chmod(target, stat.S_IMODE(info.st_mode))
    if facts(info)[2] != "now":
        os.utime(target, ns=(info.st_mtime_ns, info.st_mtime_ns), follow_symlinks=False)


def _short(value: Any) -> str:
    """Write a value down, with long bytes as a length and a digest."""
    if isinstance(value, bytes) and len(value) > 40:
        digest = hashlib.sha1(value, usedforsecurity=False).hexdigest()[:8]
        return f"{len(value)} bytes {value[:8].hex()}.. ({digest})"
    if isinstance(value, tuple | list):
        return "(" + ", ".join(_short(part) for part in value) + ")"
    return repr(value)
