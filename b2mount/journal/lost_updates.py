"""Judge from the versions of a name whether what we sent or removed met somebody else's. Keeps nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from b2mount.core.posix import without_mark
from b2mount.store.store import Action, FileVersion

SLACK_MS = 2000  # some of B2's upload times are cut to seconds


@dataclass(frozen=True, slots=True)
class Step:
    """One upload of ours over what we knew, or one removal of it."""

    ours: FileVersion  # the hide marker, of a removal
    over: str  # the id of the version that the name held as far as we knew; "": it held none
    done_ms: int  # by B2's clock


@dataclass(frozen=True, slots=True)
class Finding:
    """What somebody else did to a name that we wrote or removed."""

    # "changed", "made": theirs lies under ours; "removed": they had; "newer": theirs lies above;
    # "hidden": theirs lies under our removal
    kind: str
    theirs: FileVersion

    def loser(self, step: Step) -> FileVersion | None:
        """Return the version with content that the name shows no more, if there is one."""
        if self.kind == "newer":
            return step.ours
        return self.theirs if self.theirs.action is Action.UPLOAD else None


def judge(
    rows: Sequence[FileVersion],
    step: Step,
    own: Callable[[str], bool],
    interim: Callable[[str], bool] = lambda _file_id: False,
) -> Finding | None:
    """Say whether an upload met somebody else's. *rows* are all versions of the name, the newest first.

    *own* says of a version's id whether it was made here, *interim* whether only on the way to another.
    """
    rows = [row for row in rows if row.action in (Action.UPLOAD, Action.HIDE)]
    at = next((at for at, row in enumerate(rows) if row.file_id == step.ours.file_id), None)
    if at is None:
        return None
    if step.ours.action is Action.HIDE:
        return _judge_removal(rows[at + 1 :], step, own, interim)
    for row in rows[:at]:
        # A large file is dated when it is begun: what others finished meanwhile lies above it.
        if not own(row.file_id) and row.uploaded_ms < step.done_ms - SLACK_MS:
            return Finding("newer", row)
    before = next((row for row in rows[at + 1 :] if not interim(row.file_id)), None)
    if before is None or before.file_id == step.over or own(before.file_id) or is_same(before, step.ours):
        return None
    if not step.over:
        return Finding("made", before) if before.action is Action.UPLOAD else None
    return Finding("changed" if before.action is Action.UPLOAD else "removed", before)


def _judge_removal(
    under: Sequence[FileVersion], step: Step, own: Callable[[str], bool], interim: Callable[[str], bool]
) -> Finding | None:
    """Say whether what was removed is another version than the one we knew; *under* lies under the marker."""
    before = next((row for row in under if not interim(row.file_id)), None)
    if before is None or before.action is Action.HIDE or before.file_id == step.over or own(before.file_id):
        return None
    return Finding("hidden", before)


def is_same(one: FileVersion, other: FileVersion) -> bool:
    """Say whether two versions have the same content and file info: an upload that was sent twice has."""
    return has_same_content(one, other) and without_mark(one.info) == without_mark(other.info)


def has_same_content(one: FileVersion, other: FileVersion) -> bool:
    """Say whether two versions are known to hold the same bytes."""
    if one.action is not Action.UPLOAD or other.action is not Action.UPLOAD or one.size != other.size:
        return False
    return one.size == 0 or (one.sha1 is not None and one.sha1 == other.sha1)
