"""Find the lost updates: files overwritten here that somebody else had changed since we knew them.

B2 has no conditional upload; both versions are kept, and nobody is told. So some seconds after an upload over
a file that was there before, the versions of its name are listed: right under ours must lie the version that
we knew. One list call (class C) covers what was overwritten in a directory meanwhile, up to 1,000 versions.
New names are not looked at: they would cost a call each. Knows the store; changes nothing.
"""

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import trio

from b2mount.core.errors import B2MountError
from b2mount.core.grant import Capability
from b2mount.core.names import PLACEHOLDER
from b2mount.core.scope import list_prefix
from b2mount.journal.ops import Kind, Op
from b2mount.store.store import Action, FileVersion, Store

log = logging.getLogger("b2mount.conflicts")

REST_SECONDS = 10.0  # for which overwritten names gather before they are looked at together; a guess
AGAIN_SECONDS = 60.0  # after a look that failed
LAST_LOOK_SECONDS = 10.0  # for which an unmount waits for the last look
OWN_KEPT = 20_000  # ids of versions made here
NAMES_KEPT = 20_000  # overwritten names not looked at yet; the oldest are let go, and that is logged
FOUND_KEPT = 50
SLACK_MS = 2000  # some of B2's upload times are cut to seconds
PAGE = 1000  # rows; one class C transaction


@dataclass(frozen=True, slots=True)
class Step:
    """One upload of ours over what we knew."""

    ours: FileVersion
    over: str  # the id of the version that the name held as far as we knew
    done_ms: int  # by B2's clock


@dataclass(frozen=True, slots=True)
class Finding:
    """What somebody else did to a name that we wrote."""

    kind: str  # "changed": theirs lies under ours; "removed": they had; "newer": theirs lies above
    theirs: FileVersion


def judge(rows: Sequence[FileVersion], step: Step, own: Callable[[str], bool]) -> Finding | None:
    """Say whether an upload met somebody else's. *rows* are all versions of the name, the newest first."""
    rows = [row for row in rows if row.action in (Action.UPLOAD, Action.HIDE)]
    at = next((at for at, row in enumerate(rows) if row.file_id == step.ours.file_id), None)
    if at is None:
        return None
    for row in rows[:at]:
        # A large file is dated when it is begun: what others finished meanwhile lies above it.
        if not own(row.file_id) and row.uploaded_ms < step.done_ms - SLACK_MS:
            return Finding("newer", row)
    if at + 1 == len(rows) or rows[at + 1].file_id == step.over or own(rows[at + 1].file_id):
        return None
    before = rows[at + 1]
    return Finding("changed" if before.action is Action.UPLOAD else "removed", before)


class Conflicts:
    """What was overwritten and not looked at yet, and what was found."""

    def __init__(
        self, store: Store, limit: str, *, server_ms: Callable[[], int], rest: float = REST_SECONDS
    ) -> None:
        """Look through *store*; *limit* is the key's prefix, *server_ms* B2's clock."""
        self._store = store
        self._limit = limit
        self._server_ms = server_ms
        self._rest = rest
        self._own: OrderedDict[str, None] = OrderedDict()
        self._steps: OrderedDict[tuple[str, str], list[Step]] = OrderedDict()
        self._wake = trio.Event()
        self.count = 0
        self._found: deque[dict[str, Any]] = deque(maxlen=FOUND_KEPT)

    def rows(self) -> list[dict[str, Any]]:
        """Return the last that were found, for `b2mount status`."""
        return list(self._found)

    def made(self, version: FileVersion) -> None:
        """Take note of a version that was made here."""
        self._own[version.file_id] = None
        if len(self._own) > OWN_KEPT:
            self._own.popitem(last=False)

    def sent(self, op: Op, version: FileVersion | None) -> None:
        """Take note of what was sent."""
        if op.kind is not Kind.PUT or version is None:
            return
        self.made(version)
        if not op.over or op.name.endswith(PLACEHOLDER) or not self._store.grant.has(Capability.LIST_FILES):
            return
        self._steps.setdefault(op.key, []).append(Step(version, op.over, self._server_ms()))
        if len(self._steps) > NAMES_KEPT:
            (_, name), _ = self._steps.popitem(last=False)
            log.warning("%s: not looked at for changes by others: too many files were overwritten", name)
        self._wake.set()

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            if not self._steps:
                self._wake = trio.Event()
                await self._wake.wait()
            await trio.sleep(self._rest)
            try:
                await self.look()
            except B2MountError as exc:
                log.info("looking for changes by others: %s", exc)
                await trio.sleep(AGAIN_SECONDS)

    async def look_last(self) -> None:
        """Look once more before the mount ends, for a short time."""
        with trio.move_on_after(LAST_LOOK_SECONDS) as scope:
            try:
                await self.look()
            except B2MountError as exc:
                log.info("looking for changes by others: %s", exc)
        if scope.cancelled_caught:
            log.info("what was overwritten last is not looked at for changes by others: B2 is slow")

    async def look(self) -> None:
        """Look at all that waits now. Raises B2MountError; what is not looked at then stays."""
        waiting = sorted(self._steps)
        while waiting:
            bucket_id, first = waiting[0]
            directory = first[: first.rfind("/") + 1]
            alone = len(waiting) == 1 or waiting[1][0] != bucket_id or not waiting[1][1].startswith(directory)
            prefix = first if alone else list_prefix(directory, self._limit)
            known = {key: len(steps) for key, steps in self._steps.items()}  # later ones want a later look
            page = await self._store.list_versions(bucket_id, prefix, start=first, delimiter="/", limit=PAGE)
            rows: dict[str, list[FileVersion]] = {}
            for row in page.rows:
                rows.setdefault(row.name, []).append(row)
            left = []
            for key in waiting:
                name = key[1]
                told = page.next_name is None or name < page.next_name
                inside = key[0] == bucket_id and name.startswith(prefix) and "/" not in name[len(directory) :]
                if key == waiting[0] or (inside and told):
                    self._judge_all(key, rows.get(name, []), known.get(key, 0))
                else:
                    left.append(key)
            waiting = left

    def _judge_all(self, key: tuple[str, str], rows: Sequence[FileVersion], count: int) -> None:
        """Judge the first *count* uploads of a name, and forget them."""
        steps = self._steps.pop(key, [])
        if later := steps[count:]:
            self._steps[key] = later
        for step in steps[:count]:
            finding = judge(rows, step, self._own.__contains__)
            if finding is not None:
                self._report(key[1], step, finding)

    def _report(self, name: str, step: Step, finding: Finding) -> None:
        theirs, when = finding.theirs, _moment(finding.theirs.uploaded_ms)
        words = {
            "changed": f"somebody else wrote it at {when} since it was read here; both are kept, ours is the "
            f"newest, theirs is version {theirs.file_id}",
            "removed": f"somebody else removed it at {when} since it was read here; ours brought it back",
            "newer": f"somebody else wrote it at {when} while ours was being sent; both are kept, theirs is "
            f"the newest, ours is version {step.ours.file_id}",
        }
        text = f"{name}: {words[finding.kind]}"
        log.warning("conflict: %s", text)
        self.count += 1
        self._found.append(
            {
                "when_ms": step.done_ms,
                "name": name,
                "kind": finding.kind,
                "ours": step.ours.file_id,
                "ours_ms": step.ours.uploaded_ms,
                "theirs": theirs.file_id,
                "theirs_ms": theirs.uploaded_ms,
                "text": text,
            }
        )


def _moment(when_ms: int) -> str:
    return f"{datetime.fromtimestamp(when_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
