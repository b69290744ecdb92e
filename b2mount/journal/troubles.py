"""What keeps changes from being sent, told once for all that it keeps, and once when it is over."""

import logging

from b2mount.core.errors import B2MountError, B2Unavailable, Throttled
from b2mount.core.words import show_count

log = logging.getLogger("b2mount.journal")

TOLD_BELOW = (B2Unavailable, Throttled)  # the store has warned of these already


class Troubles:
    """The changes that wait for a better moment, by the kind of error that each met last."""

    def __init__(self) -> None:
        self._kept: dict[type[B2MountError], set[int]] = {}
        self._kind: dict[int, type[B2MountError]] = {}

    def failed(self, op_id: int, name: str, error: B2MountError) -> None:
        """Note that a change could not be sent for a reason that time may mend."""
        kind = type(error)
        if self._kind.get(op_id) is kind:
            return
        self._leave(op_id)
        self._kind[op_id] = kind
        kept = self._kept.setdefault(kind, set())
        if not kept:
            level = logging.INFO if issubclass(kind, TOLD_BELOW) else logging.WARNING
            log.log(level, "%s: not in B2 yet: %s; it stays queued, as what meets the same", name, error)
        kept.add(op_id)

    def over(self, op_id: int) -> set[int]:
        """Note that a change waits no more; return those that met the same, and may be tried at once."""
        kind = self._leave(op_id)
        if kind is None:
            return set()
        kept = self._kept.pop(kind, set())
        if kept:
            log.info("changes are sent again; %s waited for the same", show_count(len(kept), "other"))
        for other in kept:
            del self._kind[other]
        return kept

    def drop(self, op_id: int) -> None:
        """Forget a change that is not to be sent any more."""
        self._leave(op_id)

    def _leave(self, op_id: int) -> type[B2MountError] | None:
        kind = self._kind.pop(op_id, None)
        if kind is not None and kind in self._kept:
            self._kept[kind].discard(op_id)
        return kind
