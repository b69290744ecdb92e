"""Which name stands so many names further on: right for names that grow evenly, silent about all others."""

import hashlib
import random
import string
from bisect import bisect_left
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b2mount.core.guesses import Guesser

PAGE = 1000
NAMES = 30_000


def _sha(number: int) -> str:
    return hashlib.sha1(str(number).encode(), usedforsecurity=False).hexdigest()


COUNTED: dict[str, Callable[[int], str]] = {
    "digits": lambda number: f"{number:07}.dat",
    "a camera's": lambda number: f"IMG_{number:05}.jpg",
    "directories": lambda number: f"dir{number:05}/",
    "hexadecimal": lambda number: f"{number:08x}",
    "behind a letter of two bytes": lambda number: f"é{number:06}ü",
}
EVEN: dict[str, Callable[[int], str]] = {
    "hashes": _sha,
    "upper case": lambda number: _sha(number).upper(),
    "behind a directory's name": lambda number: f"blob-{_sha(number)}.bin",
    "UUIDs": lambda number: "-".join((_sha(number)[:8], _sha(number)[8:12], _sha(number)[12:20])),
    "letters": lambda number: "".join(random.Random(number).choices(string.ascii_lowercase, k=12)),
    "letters and digits": lambda number: "".join(
        random.Random(number).choices(string.ascii_letters + string.digits, k=12)
    ),
}


def listed(make: Callable[[int], str]) -> list[bytes]:
    return sorted(make(number).encode() for number in range(NAMES))


@pytest.mark.parametrize("kind", COUNTED)
def test_what_is_counted_is_guessed_exactly(kind: str) -> None:
    names = listed(COUNTED[kind])
    for first in (0, 12_345):
        guesser = Guesser(names[first : first + PAGE])
        for distance in (1, 500, 4000, 10_000):
            guess = guesser.key(distance)
            assert guess is not None
            assert bisect_left(names, guess) == first + PAGE - 1 + distance


@pytest.mark.parametrize("kind", EVEN)
def test_what_is_spread_evenly_is_guessed_nearly(kind: str) -> None:
    names = listed(EVEN[kind])
    guessed = 0
    for first in range(0, 20_000, 1000):
        guesser = Guesser(names[first : first + PAGE])
        for distance in (1000, 4000, 9000):
            guess = guesser.key(distance)
            if guess is not None:
                guessed += 1
                found = bisect_left(names, guess) - (first + PAGE - 1)
                assert 0.5 * distance < found < 1.5 * distance
    assert guessed >= 30  # of 60: chance makes some pages look uneven


def test_names_that_grow_unevenly_are_not_guessed() -> None:
    assert not Guesser(listed(lambda number: f"{number**4:020}")[:PAGE]).is_sure
    assert not Guesser(listed(lambda number: f"{number}.dat")[:PAGE]).is_sure


def test_nothing_is_guessed_beyond_the_last_number_nor_from_few_names() -> None:
    names = [f"{number:04}".encode() for number in range(10_000)]
    assert Guesser(names[8000:9000]).key(1000) == b"9999"
    assert Guesser(names[8000:9000]).key(1001) is None
    assert Guesser(names[:99]).key(1) is None
    assert Guesser([b"same"] * 200).key(1) is None


@settings(max_examples=30)
@given(
    st.sets(st.binary(max_size=6) | st.text("01ab/", max_size=6).map(str.encode), min_size=100, max_size=150)
)
def test_whatever_names_there_are_the_guess_is_a_name_or_none(names: set[bytes]) -> None:
    guess = Guesser(sorted(names)).key(100)
    assert guess is None or guess
