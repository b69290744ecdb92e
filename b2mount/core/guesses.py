"""Guess which name stands so many names further on, from those of one page of a listing.

B2 gives the names of a directory one page after the other, and tells only with a page where the next begins;
but a page may be asked for from any name on. Counters, dates, hashes and UUIDs grow evenly enough to say
where the page after the next will begin. A guess is tried on the page itself first: names that grow unevenly
get none. A wrong guess costs a page that nobody needs, never a wrong listing: that is the caller's matter.
"""

from bisect import bisect_left
from typing import NamedTuple, Protocol

DIGITS = b"0123456789"
LOWER = b"abcdefghijklmnopqrstuvwxyz"
UPPER = LOWER.upper()
# The alphabets that names count in, in B2's order, the smallest first; what else stands in a name is fixed.
ALPHABETS = (
    DIGITS,
    DIGITS + b"abcdef",
    DIGITS + b"ABCDEF",
    LOWER,
    UPPER,
    UPPER + LOWER,
    DIGITS + LOWER,
    DIGITS + UPPER,
    DIGITS + UPPER + LOWER,
)
LEAST_NAMES = 100  # of which a page must have, to be judged
SAMPLES = 64  # of them are looked at
MOST_PLACES = 16  # that count; what stands behind is too fine to matter
WORST_ERROR = 0.15  # of the distance; within a page of 1,000 hashes, chance alone makes 0.03 to 0.12 of it


class Keys(Protocol):
    """Names in B2's order."""

    def __len__(self) -> int: ...

    def __getitem__(self, at: int, /) -> bytes: ...


class _Counter(NamedTuple):
    """How the names of a page count: by the symbols of an alphabet at some places; the others are fixed."""

    like: bytes  # a name, for what is fixed
    places: tuple[int, ...]
    alphabet: bytes

    def value(self, name: bytes) -> int | None:
        """Return the number that a name stands for; None where it is not made like the others."""
        total = 0
        for place in self.places:
            symbol = self.alphabet.find(name[place : place + 1]) if place < len(name) else -1
            if symbol < 0:
                return None
            total = total * len(self.alphabet) + symbol
        return total

    def name(self, value: int) -> bytes | None:
        """Return the first name that stands for a number; None beyond the last."""
        name = bytearray(self.like[: self.places[-1] + 1])
        for place in reversed(self.places):
            value, symbol = divmod(value, len(self.alphabet))
            name[place] = self.alphabet[symbol]
        return None if value else bytes(name)


class Guesser:
    """Knows one page, and guesses beyond it."""

    def __init__(self, keys: Keys) -> None:
        """Learn from the keys of a page, in B2's order."""
        self._keys = keys
        self._counter = _counter(keys)
        self.error = self._tried()  # of a guess, as a share of its distance; 0.0: each was right

    @property
    def is_sure(self) -> bool:
        """Whether its guesses are worth asking for."""
        return self.error <= WORST_ERROR

    def key(self, distance: int) -> bytes | None:
        """Return the key that stands *distance* behind the page's last; None where that cannot be said.

        Rather too early than too late, by half of its likely error.
        """
        if not self.is_sure:
            return None
        return self._ahead(0, len(self._keys) - 1, distance - int(distance * self.error / 2))

    def _ahead(self, first: int, last: int, distance: int) -> bytes | None:
        if self._counter is None:
            return None
        low, high = self._counter.value(self._keys[first]), self._counter.value(self._keys[last])
        if low is None or high is None or high <= low:
            return None
        return self._counter.name(high + (high - low) * distance // (last - first))

    def _tried(self) -> float:
        """Guess within the page, twice, and return by how much the worse guess was wrong."""
        worst, count = 0.0, len(self._keys)
        for last in (count // 4, count // 2):
            distance = (count - 1 - last) * 9 // 10
            guess = self._ahead(0, last, distance) if self._counter is not None else None
            if guess is None:
                return 1.0
            worst = max(worst, abs(bisect_left(self._keys, guess) - (last + distance)) / distance)
        return worst


def _counter(keys: Keys) -> _Counter | None:
    """Find out how names count; None where they are too few, or not made alike."""
    if len(keys) < LEAST_NAMES:
        return None
    names = [keys[at * (len(keys) - 1) // (SAMPLES - 1)] for at in range(SAMPLES)]
    columns = [set(column) for column in zip(*names, strict=False)]
    varied = [place for place, symbols in enumerate(columns) if len(symbols) > 1]
    if not varied:
        return None
    alphabet = _alphabet([columns[place] for place in varied])
    if alphabet is None:
        return None
    symbols = set(alphabet)
    first = varied[0]
    while first > 0 and columns[first - 1] <= symbols:  # what has not counted yet, as there was no need to
        first -= 1
    places: list[int] = []
    for place in range(first, min(len(columns), varied[-1] + 1)):
        if columns[place] <= symbols:
            places.append(place)
        elif len(columns[place]) > 1:
            break  # names are not made alike from here on
        if len(places) == MOST_PLACES + varied[0] - first:
            break
    return _Counter(names[0], tuple(places), alphabet)


def _alphabet(columns: list[set[int]]) -> bytes | None:
    """Return the smallest alphabet that as many places as count, from the first on, are made of.

    All of them together tell: hashes that begin alike may have digits alone at the places that vary first.
    """
    for length in range(min(len(columns), MOST_PLACES), 0, -1):
        symbols = set[int]().union(*columns[:length])
        for alphabet in ALPHABETS:
            if symbols <= set(alphabet):
                return alphabet
    return None
