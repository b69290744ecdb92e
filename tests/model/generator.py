"""Random sequences of steps: names collide often, handles stay open across everything, sizes span parts."""

import random

from tests.model.operations import MODES, Step

NAMES = ("a", "b", "c d", "é")
SLOTS = 5
PART = 100_000  # bytes; what the server is told to take as its smallest part
XATTR_KEYS = ("one", "two")

# How often each kind of step comes, of those that only the two directories see.
WEIGHTS = {
    "write": 14,
    "patch": 6,
    "append": 5,
    "truncate": 4,
    "read": 6,
    "unlink": 7,
    "rename": 14,
    "mkdir": 7,
    "rmdir": 4,
    "symlink": 2,
    "list": 4,
    "stat": 5,
    "chmod": 4,
    "utime": 4,
    "setxattr": 2,
    "removexattr": 1,
    "open": 10,
    "hwrite": 12,
    "hread": 6,
    "htruncate": 2,
    "hstat": 3,
    "hchmod": 1,
    "fsync": 2,
    "close": 7,
}

EVENT_SHARE = 0.07  # of all steps

# Of those that the driver carries out around them.
EVENTS = {
    "check": 8,
    "flush": 3,
    "wait": 3,
    "remount": 1.5,
    "remount_empty": 1.5,
    "kill": 3,
    "upload": 3,
    "hide": 2,
    "fault": 0,
}


class Generator:
    """An endless source of steps, the same for the same seed."""

    def __init__(self, seed: int, *, events: dict[str, float] = EVENTS) -> None:
        self._random = random.Random(seed)
        self._serial = seed * 1_000_000
        self._events = events

    def step(self, existing: list[str]) -> Step:
        """Return the next step; *existing* are the names that are there now, most of the time used again."""
        chance = self._random
        if chance.random() < EVENT_SHARE:
            word = chance.choices(list(self._events), list(self._events.values()))[0]
            return self._event(word, existing)
        word = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        return (word, *self._arguments(word, existing))

    def _event(self, word: str, existing: list[str]) -> Step:
        chance = self._random
        if word == "upload":
            return (word, self._name(existing), self._seed(), self._size())
        if word == "hide":
            return (word, self._name(existing))
        if word == "wait":
            return (word, round(chance.choice((0.0, 0.01, 0.1, 1.2)), 2))
        if word == "fault":
            return (word, chance.randrange(1 << 30))
        return (word,)

    def _arguments(self, word: str, existing: list[str]) -> tuple[object, ...]:
        chance = self._random
        match word:
            case "write" | "append":
                return (self._name(existing), self._seed(), self._size())
            case "patch":
                return (self._name(existing), self._offset(), self._seed(), self._size())
            case "truncate":
                return (self._name(existing), self._size())
            case "rename":
                return (self._name(existing), self._name(existing))
            case "symlink":
                return (chance.choice(("a", "b/a", "nowhere/é")), self._name(existing))
            case "chmod":
                return (self._name(existing), chance.choice((0o644, 0o600, 0o755, 0o640)))
            case "utime":
                return (self._name(existing), chance.randrange(10**18, 15 * 10**17))
            case "setxattr":
                return (self._name(existing), chance.choice(XATTR_KEYS), f"value {chance.randrange(100)}")
            case "removexattr":
                return (self._name(existing), chance.choice(XATTR_KEYS))
            case "list":
                return (chance.choice(("", self._name(existing))),)
            case "open":
                return (chance.randrange(SLOTS), self._name(existing), chance.choice(list(MODES)))
            case "hwrite":
                return (chance.randrange(SLOTS), self._offset(), self._seed(), self._size())
            case "hread":
                return (chance.randrange(SLOTS), self._offset(), self._size())
            case "htruncate":
                return (chance.randrange(SLOTS), self._size())
            case "hchmod":
                return (chance.randrange(SLOTS), chance.choice((0o644, 0o600)))
            case "hstat" | "fsync" | "close":
                return (chance.randrange(SLOTS),)
            case _:
                return (self._name(existing),)

    def _name(self, existing: list[str]) -> str:
        chance = self._random
        if existing and chance.random() < 0.6:
            name = chance.choice(existing)
            return f"{name}/{chance.choice(NAMES)}" if chance.random() < 0.25 else name
        return "/".join(chance.choice(NAMES) for _ in range(chance.choices((1, 2, 3), (5, 3, 1))[0]))

    def _seed(self) -> int:
        self._serial += 1
        return self._serial

    def _size(self) -> int:
        chance = self._random
        scale = chance.choices((1, 50, 5_000, 2 * PART, 8 * PART, 30 * PART), (2, 6, 6, 4, 3, 1))[0]
        return chance.randrange(scale)

    def _offset(self) -> int:
        chance = self._random
        scale = chance.choices((1, 50, 5_000, 2 * PART, 8 * PART), (4, 4, 4, 3, 2))[0]
        return chance.randrange(scale)
