"""Bring back what a name, or all under a directory, held at a moment: copies inside B2, sent by the journal.

A copy is a draft over the old version, as a rename makes one: it shows at once, survives a crash, is retried,
and B2 assembles what is larger than it copies in one call. What already holds the same is left alone, so a
restore that was broken off is taken up by saying it again.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

from b2mount.core.access import Operation
from b2mount.core.errors import (
    AlreadyExists,
    B2MountError,
    Conflict,
    InvalidArgument,
    NoSuchFile,
)
from b2mount.core.names import PLACEHOLDER, check_uploadable, is_placeholder, parse_shown
from b2mount.core.posix import MTIME_NAME, OWN_NAME
from b2mount.core.scope import admits
from b2mount.core.views import VERSIONS_ROOT
from b2mount.fs.copies import queue_copy, show_anew
from b2mount.fs.nodes import DirectoryNode, FileNode
from b2mount.fs.overlay import Mark
from b2mount.fs.renames import attributes_of
from b2mount.fs.tree import Tree
from b2mount.fs.world import World
from b2mount.journal.ops import Op
from b2mount.journal.uploader import Failure
from b2mount.store.store import Action, FileVersion

AT_ONCE = 1000  # names brought back before the next ones are looked at: bounds memory, whatever the tree
ROWS = 10_000  # of versions asked for in one call


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be brought back: a path inside the mount, as it was at a moment."""

    path: str
    at_ms: int | None  # None: as it was before its last change
    to: str | None = None  # another path to bring it to
    delete: bool = False  # remove what was not there then


@dataclass(frozen=True, slots=True)
class Step:
    """One name and the version that it is to have; None: it is to be removed."""

    name: str
    version: FileVersion | None


@dataclass(frozen=True, slots=True)
class _Target:
    """A path as B2 names it."""

    bucket_id: str
    name: str  # without a slash at its end; "" for all that the mount shows of a bucket
    is_file: bool  # the file beside a directory, and nothing under that


def _nothing(wish: Wish) -> str:
    if wish.at_ms is not None:
        return "nothing was there then"
    return "there is no earlier version to bring back\na mount with --versions shows all versions there are"


class Restore:
    """`b2mount restore`."""

    def __init__(self, world: World, tree: Tree) -> None:
        self._world = world
        self._tree = tree

    async def run(
        self, wish: Wish, *, dry: bool, tell: Callable[[Sequence[Step]], None] = lambda _steps: None
    ) -> tuple[int, int, list[Failure]]:
        """Bring back; return how many names came back, how many were removed, and what failed.

        *tell* is told the steps, before they are taken; *dry*: they are not. Raises what the access table
        refuses, NoSuchFile where there was nothing, Conflict where changes are still to be sent.
        """
        if wish.delete and self._world.options.hard_delete:
            raise InvalidArgument("--delete on a mount with --hard-delete would delete the past for good")
        target = await self._target(wish.path)
        goal = target if wish.to is None else await self._free_target(wish.to)
        for name in (target.name, goal.name):
            self._world.demand(
                Operation.RESTORE, name if admits(name, self._world.scope.limit) else name + "/"
            )
        self._demand_sent(target)
        counts, failures, batch = [0, 0], list[Failure](), list[Step]()
        found = False
        async for step in self._steps(target, goal, wish):
            found = True
            if step is not None:
                counts[step.version is None] += 1
                batch.append(step)
            if len(batch) >= AT_ONCE:
                failures += await self._take(goal.bucket_id, batch, dry, tell)
                batch = []
        if not found:
            raise NoSuchFile(f"{wish.path}: {_nothing(wish)}")
        failures += await self._take(goal.bucket_id, batch, dry, tell)
        return counts[0], counts[1], failures

    # --- names -------------------------------------------------------------------------------------------

    async def _target(self, path: str) -> _Target:
        """Say which B2 name a path means, whether there is anything or not. Raises NoSuchFile."""
        entries = [entry for entry in path.split("/") if entry]
        node = self._tree.root
        if VERSIONS_ROOT in entries[:1] and self._tree.views.begins_in(node):
            raise InvalidArgument(f"{path}: say the name itself, and the moment by --at")
        bucket_id, prefix = node.bucket_id, node.prefix if not node.shows_buckets else ""
        if node.shows_buckets:
            if not entries:
                raise InvalidArgument("say which bucket: all at once are not brought back")
            bucket, _ = await self._tree.lookup(node, entries[0])
            assert isinstance(bucket, DirectoryNode)
            bucket_id, entries = bucket.bucket_id, entries[1:]
        parsed = [parse_shown(entry) for entry in entries]
        if any(entry.twin for entry in parsed[:-1]):
            raise NoSuchFile(f"{path}: a file has nothing under it")
        name = prefix + "/".join(entry.component for entry in parsed)
        return _Target(bucket_id, name.removesuffix("/"), bool(parsed) and parsed[-1].twin)

    async def _free_target(self, path: str) -> _Target:
        """Return a target where nothing is. Raises AlreadyExists."""
        target = await self._target(path)
        check_uploadable(target.name)
        try:
            await self._tree.walk(path)
        except NoSuchFile:
            return target
        raise AlreadyExists(f"{path}: exists; what is brought back goes to a new name")

    def _demand_sent(self, target: _Target) -> None:
        """Raise Conflict where changes made here are not in B2 yet."""
        queue, directory = self._world.journal.queue, target.name + "/" if target.name else ""
        waits = queue.tail(target.bucket_id, target.name) is not None
        waits = waits or (not target.is_file and queue.pending_below(target.bucket_id, directory) > 0)
        for node in self._world.nodes:
            if waits:
                break
            if isinstance(node, FileNode) and node.working is not None and not node.gone:
                inside = node.name == target.name or node.name.startswith(directory)
                waits = node.bucket_id == target.bucket_id and inside
        if waits:
            raise Conflict(f"{target.name}: changes made here are not in B2 yet\nb2mount flush sends them")

    # --- what to do --------------------------------------------------------------------------------------

    async def _steps(self, target: _Target, goal: _Target, wish: Wish) -> AsyncIterator[Step | None]:
        """Yield a step for each name that was there, None where it is so already."""
        scopes = [(target.name, True)] if target.name else []
        if not target.is_file:
            scopes.append((target.name + "/" if target.name else "", False))
        for prefix, alone in scopes:
            async for group in self._groups(target.bucket_id, prefix, alone=alone):
                name = group[0].name
                current, then = _now_and_then(group, wish.at_ms, is_asked_for=alone)
                new_name = goal.name + name[len(target.name) :]
                if name.endswith("/") and then is not None and then.size == 0:
                    new_name += PLACEHOLDER  # B2 takes no new file of such a name
                if wish.to is not None:
                    if then is not None:
                        yield Step(new_name, then)
                elif then is None:
                    if wish.delete and current is not None and wish.at_ms is not None:
                        yield Step(name, None)
                elif current is not None and _is_same(current, then):
                    yield None
                else:
                    yield Step(new_name, then)

    async def _groups(self, bucket_id: str, prefix: str, *, alone: bool) -> AsyncIterator[list[FileVersion]]:
        """Yield the finished versions of each name under a prefix, newest first; *alone*: of this name."""
        limit = self._world.scope.limit
        if not admits(prefix, limit):
            if alone or not limit.startswith(prefix):
                return
            prefix = limit
        start: str | None = prefix or None
        start_id: str | None = None
        group: list[FileVersion] = []
        while True:
            rows = 1000 if alone else ROWS
            page = await self._world.store.list_versions(
                bucket_id, prefix, start=start, start_id=start_id, limit=rows
            )
            for row in page.rows:
                if group and row.name != group[0].name:
                    yield group
                    group = []
                if alone and row.name != prefix:
                    return
                if row.action is not Action.START:
                    group.append(row)
            start, start_id = page.next_name, page.next_id
            if start is None or (alone and start != prefix):
                break
        if group:
            yield group

    # --- doing it ----------------------------------------------------------------------------------------

    async def _take(
        self, bucket_id: str, steps: list[Step], dry: bool, tell: Callable[[Sequence[Step]], None]
    ) -> list[Failure]:
        """Take steps, and wait until B2 has carried them out."""
        tell(steps)
        if dry or not steps:
            return []
        failures = [failure for failure in map(_impossible, steps) if failure is not None]
        refused = {failure.name for failure in failures}
        steps = [step for step in steps if step.name not in refused]
        ops = [op for op in (self._start(bucket_id, step) for step in steps) if op is not None]
        for name in {step.name for step in steps}:
            show_anew(self._world, self._tree, bucket_id, name)
        await self._world.journal.commit()
        return failures + await self._world.journal.uploader.wait_all(ops)

    def _start(self, bucket_id: str, step: Step) -> Op | None:
        """Queue one step and show what it will make."""
        world, version = self._world, step.version
        if version is None:
            op = world.journal.hide(bucket_id, step.name, exists=True)
            world.overlay.set(bucket_id, step.name, Mark.GONE)
            return op
        return queue_copy(world, bucket_id, step.name, version)


def _impossible(step: Step) -> Failure | None:
    """Say why B2 would never take a step: a name that S3 tools made, and that the native API refuses."""
    if step.version is None:
        return None
    try:
        check_uploadable(step.name)
    except B2MountError as exc:
        return Failure(step.name, exc)
    return None


def _now_and_then(
    group: Sequence[FileVersion], at_ms: int | None, *, is_asked_for: bool
) -> tuple[FileVersion | None, FileVersion | None]:
    """Return what a name shows now, and what it is to show.

    Without a moment: what was removed comes back; the file that was asked for by its own name has its
    previous version again, while others in a directory are left as they are.
    """
    newest = group[0]
    current = newest if newest.action is Action.UPLOAD else None
    if at_ms is not None:
        then = next((row for row in group if row.uploaded_ms <= at_ms), None)
        return current, then if then is not None and then.action is Action.UPLOAD else None
    if current is not None and not is_asked_for:
        return current, current
    return current, next((row for row in group[1:] if row.action is Action.UPLOAD), None)


def _is_same(one: FileVersion, other: FileVersion) -> bool:
    """Say whether two versions are one, or hold the same with the same attributes and file info.

    A copy made here carries the modification time that its original had by its upload alone.
    """
    if one.file_id == other.file_id:
        return True
    return one.sha1 is not None and one.sha1 == other.sha1 and _facts(one) == _facts(other)


def _facts(version: FileVersion) -> tuple[object, ...]:
    info = {name: text for name, text in version.info.items() if name not in (OWN_NAME, MTIME_NAME)}
    is_directory = is_placeholder(version.name[version.name.rfind("/") + 1 :], version.size)
    attributes = replace(attributes_of(version, is_directory=is_directory), ctime_ns=None)
    return version.size, version.content_type, info, attributes
