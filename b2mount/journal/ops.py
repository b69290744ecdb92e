"""What is to be done in B2, in which order: puts and hides of names, and what each must wait for.

The order is what keeps the bucket right: changes of one name go out one after the other, a rename hides the
old name only after the new one holds the content, and a draft is sent only after the draft that it builds on.
Names that have nothing to do with each other do not wait. No clock, no threads, no wire.
"""

import enum
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import trio

from b2mount.core.errors import B2MountError
from b2mount.journal.drafts import Draft


class Kind(enum.Enum):
    """What an operation does to its name."""

    PUT = "put"  # make the name hold the draft's content
    HIDE = "hide"  # make the name hold nothing


class State(enum.Enum):
    """Where an operation stands."""

    QUEUED = "queued"
    SENDING = "sending"
    DONE = "done"
    DROPPED = "dropped"  # nothing is left to do for it: superseded, or undone before it was sent


class Op:
    """One change of one name. A put has its draft's id; `order` says which of two came later."""

    __slots__ = (
        "after",
        "attempts",
        "bucket_id",
        "draft",
        "due",
        "error",
        "failed_at",
        "failed_for_good",
        "finished",
        "id",
        "kind",
        "mark",
        "name",
        "order",
        "over",
        "promised_ms",
        "recorded",
        "recovered",
        "refused",
        "sent_before",
        "state",
        "successor",
    )

    def __init__(
        self, op_id: int, kind: Kind, bucket_id: str, name: str, *, draft: Draft | None = None
    ) -> None:
        self.id = op_id
        self.order = op_id
        self.kind = kind
        self.bucket_id = bucket_id
        self.name = name
        self.draft = draft
        self.after: set[int] = set()  # ids that must be done first, besides those of the same name
        self.due = 0.0  # trio's clock, seconds
        self.state = State.QUEUED
        self.over: str | None = None  # id of the version that the name held; "": none; None: not known
        self.attempts = 0
        self.error: B2MountError | None = None  # of the last attempt
        self.failed_for_good = False  # B2 refused: waiting for a person, tried again now and then
        self.recovered = False  # left by an earlier life: B2 may have it already
        self.promised_ms = 0  # when it was promised: milliseconds since the epoch, B2's clock
        self.refused = False  # given up: B2 will not do it, and it was undone here
        self.sent_before = False  # an attempt began in an earlier life: B2 may have it already
        self.recorded = 0  # the statement that wrote it down last
        self.mark = 0  # the statement that says in the journal that an attempt begins; 0: none yet
        self.successor: Op | None = None  # what took its place
        self.finished = trio.Event()  # DONE or DROPPED
        self.failed_at = 0  # the uploader's count of failures when the last attempt failed

    @property
    def key(self) -> tuple[str, str]:
        return (self.bucket_id, self.name)

    @property
    def sent_bytes(self) -> int:
        """How much of a large file B2 has already, in bytes."""
        if self.draft is None or self.draft.large is None:
            return 0
        return self.draft.large.sent_bytes


def parents(name: str) -> Iterator[str]:
    """Yield the directory prefixes above a file name, nearest first, "" last: `a/b/c` -> `a/b/`, `a/`, ``."""
    end = name.rfind("/", 0, len(name) - 1 if name.endswith("/") else len(name))
    while end >= 0:
        yield name[: end + 1]
        end = name.rfind("/", 0, end)
    yield ""


class OpQueue:
    """The operations not yet done, and who waits for whom."""

    def __init__(self) -> None:
        self.ops: dict[int, Op] = {}
        self._chains: dict[tuple[str, str], list[Op]] = {}
        self._blockers: dict[int, set[int]] = {}
        self._blocked: defaultdict[int, set[int]] = defaultdict(set)
        self._below: Counter[tuple[str, str]] = Counter()

    def __len__(self) -> int:
        return len(self.ops)

    def add(self, op: Op) -> None:
        """Append *op* behind what its name, its `after` and its draft's base already wait for."""
        chain = self._chains.setdefault(op.key, [])
        blockers = {blocker for blocker in op.after if blocker in self.ops}
        if chain:
            blockers.add(chain[-1].id)
        if op.draft is not None and (base := self.op_of_base(op.draft)) is not None:
            blockers.add(base.id)
        chain.append(op)
        self.ops[op.id] = op
        self._blockers[op.id] = blockers
        for blocker in blockers:
            self._blocked[blocker].add(op.id)
        self._count(op, 1)

    def restore(self, ops: Sequence[Op]) -> None:
        """Add what an earlier life left, in order; what one says to be done first may come later in it."""
        known = {op.id for op in ops}
        self.ops.update((op.id, op) for op in ops)
        for op in ops:
            op.after &= known
            self.add(op)

    def wait_for(self, op: Op, other: Op) -> bool:
        """Have *op* wait for *other* too; False, and nothing changed, where *other* waits for *op*."""
        if op is other or op in self.waited_for(other):
            return False
        op.after.add(other.id)
        self._blockers[op.id].add(other.id)
        self._blocked[other.id].add(op.id)
        return True

    def take_out(self, op: Op) -> list[Op]:
        """Remove a done or dropped operation; return those that wait for nothing any more.

        What waited for a dropped one that itself still waited inherits its blockers.
        """
        chain = self._chains[op.key]
        chain.remove(op)
        if not chain:
            del self._chains[op.key]
        del self.ops[op.id]
        inherited = self._blockers.pop(op.id)
        freed = []
        for waiting_id in self._blocked.pop(op.id, ()):
            blockers = self._blockers[waiting_id]
            blockers.discard(op.id)
            blockers |= inherited
            for blocker in inherited:
                self._blocked[blocker].add(waiting_id)
            if not blockers:
                freed.append(self.ops[waiting_id])
        for blocker in inherited:
            self._blocked[blocker].discard(op.id)
        self._count(op, -1)
        return freed

    def move(self, op: Op, bucket_id: str, name: str) -> None:
        """Give a queued operation another name, behind what that name waits for already.

        What waited for it goes on waiting. The caller has made sure that nothing there waits for *op*.
        """
        chain = self._chains[op.key]
        chain.remove(op)
        if not chain:
            del self._chains[op.key]
        self._count(op, -1)
        op.bucket_id, op.name = bucket_id, name
        there = self._chains.setdefault(op.key, [])
        if there:
            self._blockers[op.id].add(there[-1].id)
            self._blocked[there[-1].id].add(op.id)
        there.append(op)
        self._count(op, 1)

    def _count(self, op: Op, by: int) -> None:
        for parent in parents(op.name):
            self._below[op.bucket_id, parent] += by
            if not self._below[op.bucket_id, parent]:
                del self._below[op.bucket_id, parent]

    def is_blocked(self, op: Op) -> bool:
        return bool(self._blockers[op.id])

    def tail(self, bucket_id: str, name: str) -> Op | None:
        """Return the last operation queued for a name."""
        chain = self._chains.get((bucket_id, name))
        return chain[-1] if chain else None

    def chain(self, bucket_id: str, name: str) -> tuple[Op, ...]:
        """Return all operations queued for a name, first to last."""
        return tuple(self._chains.get((bucket_id, name), ()))

    def pending_below(self, bucket_id: str, directory: str) -> int:
        """Count the operations on names under a directory prefix."""
        return self._below.get((bucket_id, directory), 0)

    def op_of_base(self, draft: Draft) -> Op | None:
        """Return the operation that will send the draft which *draft* builds on, if that is still to come."""
        base = draft.resolve_base()
        return self.ops.get(base.id) if isinstance(base, Draft) else None

    def waited_for(self, op: Op) -> Iterator[Op]:
        """Yield all that *op* waits for, at any remove."""
        seen: set[int] = set()
        todo = list(self._blockers.get(op.id, ()))
        while todo:
            current = todo.pop()
            if current not in seen:
                seen.add(current)
                yield self.ops[current]
                todo.extend(self._blockers[current])

    def heirs(self, op: Op) -> list[Op]:
        """Return the operations that were told to come after this one."""
        waiting = (self.ops[waiting_id] for waiting_id in self._blocked.get(op.id, ()))
        return [other for other in waiting if op.id in other.after]

    def needed_by(self, op: Op) -> list[Op]:
        """Return the puts whose drafts build on this one's draft."""
        if op.draft is None:
            return []
        waiting = (self.ops[waiting_id] for waiting_id in self._blocked.get(op.id, ()))
        return [other for other in waiting if other.draft is not None and other.draft.base is op.draft]
