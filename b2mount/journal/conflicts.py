"""Find the lost updates: files overwritten or removed here that somebody else had changed since we knew them.

B2 has no conditional upload, nor hide; all versions are kept, and nobody is told. So some seconds after an
upload over a file that was there before, or its removal, the versions of its name are listed: right under
ours must lie the version that we knew. One list call (class C) covers what was changed in a directory
meanwhile, up to 1,000 versions, and in further ones where they lie close together (`rm -r` of a tree).
New names are looked at only where what is found is to be kept under a name of its own: they would cost a call
each. What waits to be looked at is in the journal, so that a crash hides nothing. Knows the store.
"""

import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import trio

from b2mount.core.errors import B2MountError
from b2mount.core.grant import Capability
from b2mount.core.names import PLACEHOLDER
from b2mount.core.scope import list_prefix
from b2mount.core.words import show_count
from b2mount.journal.database import Database
from b2mount.journal.lost_updates import Finding, Step, has_same_content, judge
from b2mount.journal.ops import Kind, Op
from b2mount.store.store import FileVersion, Page, Store

log = logging.getLogger("b2mount.conflicts")

REST_SECONDS = 10.0  # for which overwritten names gather before they are looked at together; a guess
AGAIN_SECONDS = 60.0  # after a look that failed
LAST_LOOK_SECONDS = 10.0  # for which an unmount waits for the last look
OWN_KEPT = 20_000  # ids of versions made here
NAMES_KEPT = 20_000  # overwritten names not looked at yet; the oldest are let go, and that is logged
FOUND_KEPT = 50
PAGE = 1000  # rows; one class C transaction

# Takes a bucket and the version that a name shows no more; queues a copy of it beside, and returns its name
# once that survives a crash. Raises B2MountError where it cannot be made.
Keep = Callable[[str, FileVersion], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class _Reach:
    """What one call lists of the versions in a bucket."""

    bucket_id: str
    prefix: str
    delimiter: str

    def covers(self, key: tuple[str, str]) -> bool:
        """Say whether the versions of a name are among what is listed."""
        bucket_id, name = key
        if bucket_id != self.bucket_id or not name.startswith(self.prefix):
            return False
        return not self.delimiter or self.delimiter not in name[self.prefix.rfind("/") + 1 :]


class Conflicts:
    """What was overwritten and not looked at yet, and what was found."""

    def __init__(
        self,
        store: Store,
        limit: str,
        *,
        server_ms: Callable[[], int],
        database: Database | None = None,
        keep: Keep | None = None,
        rest: float = REST_SECONDS,
    ) -> None:
        """Look through *store*; *limit* is the key's prefix, *server_ms* B2's clock.

        What waits is written to *database*, and what an earlier life left there is looked at first. *keep*
        stores what a name shows no more under another.
        """
        self._store = store
        self._limit = limit
        self._server_ms = server_ms
        self._database = database
        self._keep = keep
        self._rest = rest
        self._own: OrderedDict[str, bool] = OrderedDict()  # whether it is interim
        self._steps: OrderedDict[tuple[str, str], list[Step]] = OrderedDict()
        self._let_go = 0  # names, since the last look
        self._wake = trio.Event()
        self.count = 0
        self._found: deque[dict[str, Any]] = deque(maxlen=FOUND_KEPT)
        self._load()

    def _load(self) -> None:
        """Take up what an earlier life made and did not look at."""
        for bucket_id, over, done_ms, version in self._database.load_looks() if self._database else ():
            self._note(version, interim=over is None)
            if over is not None:
                self._wait_for(bucket_id, Step(version, over, done_ms))
            elif self._database is not None:
                self._database.forget_look(version.file_id)  # what it was made for is done or begins anew

    def rows(self) -> list[dict[str, Any]]:
        """Return the last that were found, for `b2mount status`."""
        return list(self._found)

    def made(self, version: FileVersion) -> None:
        """Take note of a version that was made here on the way to another."""
        self._note(version, interim=True)
        if self._database is not None:
            self._database.record_look(version, "", None, self._server_ms())

    def _note(self, version: FileVersion, *, interim: bool) -> None:
        self._own[version.file_id] = interim
        if len(self._own) > OWN_KEPT:
            self._own.popitem(last=False)

    def sent(self, op: Op, version: FileVersion | None) -> None:
        """Take note of what was sent; durable with the next commit of the journal."""
        if op.kind is not Kind.PUT or version is None:
            return
        self._note(version, interim=False)
        if op.over or self._keep is not None:
            self._take(op, version)

    def hid(self, op: Op, marker: FileVersion) -> None:
        """Take note of a removal, which left a hide marker; durable with the next commit of the journal."""
        if op.over:
            self._take(op, marker)

    def is_own(self, file_id: str) -> bool:
        """Say whether a version was made here, as far as is remembered."""
        return file_id in self._own

    def _take(self, op: Op, version: FileVersion) -> None:
        """Have what *op* made looked at, where it is known what was there before."""
        if op.over is None or op.name.endswith((PLACEHOLDER, "/")):
            return
        if not self._store.grant.has(Capability.LIST_FILES):
            return
        step = Step(version, op.over, self._server_ms())
        if self._database is not None:
            self._database.record_look(version, op.bucket_id, op.over, step.done_ms)
        self._wait_for(op.bucket_id, step)

    def _wait_for(self, bucket_id: str, step: Step) -> None:
        """Have a step looked at in the next round."""
        self._steps.setdefault((bucket_id, step.ours.name), []).append(step)
        if len(self._steps) > NAMES_KEPT:
            _, steps = self._steps.popitem(last=False)
            for dropped in steps:
                self._forget(dropped)
            self._let_go += 1
        self._wake.set()

    def _forget(self, step: Step) -> None:
        if self._database is not None:
            self._database.forget_look(step.ours.file_id)

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
                if self._database is not None:
                    await self._database.commit()
            except B2MountError as exc:
                log.info("looking for changes by others: %s", exc)
        if scope.cancelled_caught:
            log.info("what was overwritten last is not looked at for changes by others: B2 is slow")

    async def look(self) -> None:
        """Look at all that waits now. Raises B2MountError; what is not looked at then stays."""
        if self._let_go:
            words = "%s: too many to be looked at for changes by others"
            log.warning(words, show_count(self._let_go, "overwritten or removed file"))
            self._let_go = 0
        waiting, deep = sorted(self._steps), True
        while waiting:
            first = waiting[0]
            known = {key: len(steps) for key, steps in self._steps.items()}  # later ones want a later look
            reach = self._reach(waiting, deep=deep)
            page = await self._store.list_versions(
                first[0], reach.prefix, start=first[1], delimiter=reach.delimiter, limit=PAGE
            )
            rows: dict[str, list[FileVersion]] = {}
            for row in page.rows:
                rows.setdefault(row.name, []).append(row)
            told = [key for key in waiting if key == first or (reach.covers(key) and _is_told(page, key[1]))]
            for key in told:
                await self._judge_all(key, rows.get(key[1], []), known.get(key, 0))
            # what lies far apart is found sooner a directory at a time
            deep = deep and (reach.delimiter != "" or len({_directory(key) for key in told}) > 1)
            waiting = sorted(set(waiting).difference(told))

    def _reach(self, waiting: Sequence[tuple[str, str]], *, deep: bool) -> "_Reach":
        """Choose what one call is to list for the first that waits, and for what else it may tell of.

        *deep*: where what waits lies in several directories, those are listed in one.
        """
        bucket_id, first = waiting[0]
        directory = _directory(waiting[0])
        others = [key for key in waiting[1:PAGE] if key[0] == bucket_id]
        if deep and any(_directory(key) != directory for key in others):
            return _Reach(bucket_id, self._limit, "")
        if not others or not others[0][1].startswith(directory):
            return _Reach(bucket_id, first, "/")
        return _Reach(bucket_id, list_prefix(directory, self._limit), "/")

    async def _judge_all(self, key: tuple[str, str], rows: Sequence[FileVersion], count: int) -> None:
        """Judge the first *count* uploads of a name, and forget them."""
        steps = self._steps.pop(key, [])
        if later := steps[count:]:
            self._steps[key] = later
        for step in steps[:count]:
            finding = judge(rows, step, self._own.__contains__, lambda one: self._own.get(one, False))
            self._forget(step)  # no await from here to the copy's row in the journal: one commit has both
            if finding is not None:
                beside = await self._keep_beside(key[0], step, finding)
                self._report(key[1], step, finding, beside)

    async def _keep_beside(self, bucket_id: str, step: Step, finding: Finding) -> str | None:
        """Have what the name shows no more stored beside it; return under which name, if it is."""
        loser = finding.loser(step)
        if self._keep is None or loser is None or has_same_content(finding.theirs, step.ours):
            return None
        try:
            return await self._keep(bucket_id, loser)
        except B2MountError as exc:
            log.warning("%s: version %s is not stored beside it: %s", loser.name, loser.file_id, exc)
            return None

    def _report(self, name: str, step: Step, finding: Finding, beside: str | None) -> None:
        theirs, when = finding.theirs, _moment(finding.theirs.uploaded_ms)
        under = f", stored as {beside}" if beside is not None else ""
        words = {
            "changed": f"somebody else wrote it at {when} since it was read here; both are kept, ours is the "
            f"newest, theirs is version {theirs.file_id}{under}",
            "made": f"somebody else made it at {when}, and it was made here, too; both are kept, ours is the "
            f"newest, theirs is version {theirs.file_id}{under}",
            "removed": f"somebody else removed it at {when} since it was read here; ours brought it back",
            "hidden": f"somebody else wrote it at {when} since it was seen here, and here it was removed or "
            f"renamed; theirs is kept, hidden, as version {theirs.file_id}{under}",
            "newer": f"somebody else wrote it at {when} while ours was being sent; both are kept, theirs is "
            f"the newest, ours is version {step.ours.file_id}{under}",
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
                "beside": beside,
                "text": text,
            }
        )


def _directory(key: tuple[str, str]) -> str:
    return key[1][: key[1].rfind("/") + 1]


def _is_told(page: Page, name: str) -> bool:
    """Say whether a page has all versions of a name, but for those of a first name that fill it."""
    return page.next_name is None or name < page.next_name


def _moment(when_ms: int) -> str:
    return f"{datetime.fromtimestamp(when_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
