"""The queue of operations beside a model that remembers, for each, all that must come before it."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from b2mount.core.posix import Attributes
from b2mount.core.posix import Kind as FileKind
from b2mount.journal.drafts import Draft, Spool
from b2mount.journal.ops import Kind, Op, OpQueue, parents

NAMES = ["a", "b", "d/a", "d/b", "d/e/a", "d/e/.bzEmpty", "f/"]
DIRECTORIES = ["", "d/", "d/e/", "f/", "g/"]
Step = tuple[str, int, int, int, int]  # verb, name, and three numbers to choose others with
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "hide", "move", "move", "done", "drop", "wait"]),
        st.integers(0, len(NAMES) - 1),
        st.integers(0, 99),
        st.integers(0, 99),
        st.integers(0, 3),
    ),
    max_size=40,
)


class Model:
    """What is alive, in which order by name, and what each must wait for at any remove."""

    def __init__(self) -> None:
        self.queue = OpQueue()
        self.alive: list[Op] = []
        self.chains: dict[str, list[Op]] = {}
        self.must: dict[int, set[int]] = {}
        self.number = 0

    def pick(self, number: int) -> Op | None:
        return self.alive[number % len(self.alive)] if self.alive else None

    def before(self, op: Op | None) -> set[int]:
        return set() if op is None else {op.id} | self.must[op.id]

    def add(self, kind: Kind, name: str, after: Op | None, base: Op | None) -> None:
        self.number += 1
        draft = None
        if kind is Kind.PUT:
            draft = Draft(
                self.number,
                Spool(Path("/nowhere")),
                attributes=Attributes(FileKind.FILE, 0),
                base=base.draft if base is not None else None,
            )
        op = Op(self.number, kind, "bucket", name, draft=draft)
        op.after = {after.id} if after is not None else set()
        chain = self.chains.setdefault(name, [])
        self.must[op.id] = self.before(after) | self.before(chain[-1] if chain else None)
        if draft is not None and draft.base is not None:
            self.must[op.id] |= self.before(base)
        self.queue.add(op)
        self.alive.append(op)
        chain.append(op)

    def remove(self, op: Op) -> None:
        ready_before = {other.id for other in self.alive if not self.waits(other)}
        self.alive.remove(op)
        self.chains[op.name].remove(op)
        freed = self.queue.take_out(op)
        ready = {other.id for other in self.alive if not self.waits(other)}
        assert {other.id for other in freed} == ready - ready_before

    def move(self, op: Op, name: str) -> None:
        there = self.chains.setdefault(name, [])
        if any(op.id in self.before(other) for other in there):
            return
        self.chains[op.name].remove(op)
        if there:
            self.follow(op, there[-1])
        there.append(op)
        self.queue.move(op, "bucket", name)

    def wait(self, op: Op, other: Op) -> None:
        possible = op.id not in self.before(other)
        assert self.queue.wait_for(op, other) is possible
        if possible:
            assert op in self.queue.heirs(other)
            self.follow(op, other)

    def follow(self, op: Op, other: Op) -> None:
        for later in [op.id, *(i for i, must in self.must.items() if op.id in must)]:
            self.must[later] |= self.before(other)

    def waits(self, op: Op) -> set[int]:
        return self.must[op.id] & {other.id for other in self.alive}

    def check(self) -> None:
        assert set(self.queue.ops) == {op.id for op in self.alive}
        for op in self.alive:
            assert {other.id for other in self.queue.waited_for(op)} == self.waits(op)
            assert self.queue.is_blocked(op) is bool(self.waits(op))
            assert op.id not in self.waits(op)
            assert self.queue.needed_by(op) == [] or op.draft is not None
        for name in NAMES:
            chain = self.chains.get(name, [])
            assert self.queue.chain("bucket", name) == tuple(chain)
            assert self.queue.tail("bucket", name) is (chain[-1] if chain else None)
        for directory in DIRECTORIES:
            below = [op for op in self.alive if op.name.startswith(directory) and op.name != directory]
            assert self.queue.pending_below("bucket", directory) == len(below)
            assert self.queue.pending_below("other bucket", directory) == 0


def play(steps: list[Step]) -> Model:
    model = Model()
    for verb, name, first, second, options in steps:
        op, other = model.pick(first), model.pick(second)
        if verb in ("put", "hide"):
            kind = Kind.PUT if verb == "put" else Kind.HIDE
            model.add(kind, NAMES[name], op if options & 1 else None, other if options & 2 else None)
        elif op is None or other is None:
            continue
        elif verb == "move":
            model.move(op, NAMES[name])
        elif verb == "wait":
            model.wait(op, other)
        elif verb == "drop" or not model.waits(op):
            model.remove(op)
        model.check()
    return model


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_an_operation_is_ready_exactly_when_all_that_must_come_first_is_gone(steps: list[Step]) -> None:
    play(steps)


@given(STEPS)
@settings(max_examples=100, deadline=None)
def test_whatever_was_queued_can_be_done_to_the_last(steps: list[Step]) -> None:
    model = play(steps)
    while model.alive:
        ready = [op for op in model.alive if not model.queue.is_blocked(op)]
        assert ready, "all that is left waits for something"
        model.remove(ready[0])
    assert len(model.queue) == 0
    assert all(model.queue.pending_below("bucket", directory) == 0 for directory in DIRECTORIES)


@given(STEPS)
@settings(max_examples=100, deadline=None)
def test_a_restored_queue_keeps_order_by_name_and_what_was_said_to_come_first(steps: list[Step]) -> None:
    model = play([step for step in steps if step[0] != "move"])  # moves change the order that is recorded
    left = list(model.alive)
    again = OpQueue()
    said = {op.id: op.after & {other.id for other in left} for op in left}
    again.restore(left)
    for op in left:
        assert said[op.id] <= {other.id for other in again.waited_for(op)}
    for name in NAMES:
        assert again.chain("bucket", name) == tuple(model.chains.get(name, []))
        for earlier, later in zip(again.chain("bucket", name), again.chain("bucket", name)[1:], strict=False):
            assert earlier in again.waited_for(later)


def test_the_directories_above_a_name_are_named_nearest_first() -> None:
    assert list(parents("a/b/c")) == ["a/b/", "a/", ""]
    assert list(parents("a/b/")) == ["a/", ""]
    assert list(parents("/x")) == ["/", ""]
    assert list(parents("x")) == [""]
