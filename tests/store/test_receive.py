"""Receiving from a plain socket: whole, in time, and never more than asked for."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from b2mount.store import receive as receive_module
from b2mount.store.receive import LARGEST_PIECE, PIECE, QUICK_SECONDS, receive

PATIENT = 60.0


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    with here, there:
        yield here, there


def fill(
    sock: socket.socket,
    buffer: bytearray,
    filled: int = 0,
    *,
    stall_seconds: float = PATIENT,
    look: Callable[[], None] = lambda: None,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    return receive(
        sock, memoryview(buffer), filled, stall_seconds=stall_seconds, look=look, progress=progress
    )


@pytest.mark.parametrize("size", [1, 1000, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 77, 11 * PIECE])
def test_a_body_of_any_size_comes_whole_and_what_is_behind_it_stays(
    pair: tuple[socket.socket, socket.socket], size: int
) -> None:
    """Also a last piece that is short: nothing more comes, and the other side stays."""
    here, there = pair
    body = bytes(at % 251 for at in range(size))
    sender = threading.Thread(target=there.sendall, args=(body + b"next",))
    sender.start()
    buffer, told = bytearray(size), list[int]()
    assert fill(here, buffer, progress=told.append) == size
    sender.join()
    assert buffer == body and sum(told) == size
    here.settimeout(PATIENT)
    assert here.recv(100) == b"next"


def test_bytes_that_are_there_already_are_kept(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    there.sendall(b"def")
    buffer = bytearray(b"abc___")
    assert fill(here, buffer, 3) == 6
    assert buffer == b"abcdef"


def test_a_part_of_a_piece_is_told_of_while_the_rest_is_long_in_coming(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    here, there = pair
    told = list[int]()

    def progress(count: int) -> None:
        told.append(count)
        if len(told) == 1:
            there.sendall(b"rest")

    there.sendall(b"begin")
    assert fill(here, bytearray(9), progress=progress) == 9
    assert told == [5, 4]


def test_an_end_before_the_last_byte_shows_in_the_count(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    there.sendall(b"abc")
    there.shutdown(socket.SHUT_WR)
    assert fill(here, bytearray(10)) == 3


def test_silence_ends_after_the_time_for_it(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    there.sendall(b"abc")
    with pytest.raises(TimeoutError):
        fill(here, bytearray(10), stall_seconds=0.3)


def test_who_looks_may_end_it_while_nothing_comes(pair: tuple[socket.socket, socket.socket]) -> None:
    here, _ = pair
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise InterruptedError("enough")

    with pytest.raises(InterruptedError):
        fill(here, bytearray(10), look=look)
    assert looks == 3


class TimedSocket(socket.socket):
    """A socket that fills all it is given, in as much time of a clock of its own as it takes at a speed."""

    def __init__(self, speed: float) -> None:
        super().__init__(socket.AF_UNIX)
        self.now = 0.0
        self.speed = speed  # bytes a second
        self.asked: list[int] = []

    def monotonic(self) -> float:
        return self.now

    def recv_into(self, buffer: memoryview, nbytes: int = 0, flags: int = 0) -> int:  # type: ignore[override]
        self.asked.append(len(buffer))
        self.now += len(buffer) / self.speed
        return len(buffer)


@pytest.mark.parametrize(
    ("speed", "largest"),
    [(PIECE / QUICK_SECONDS / 2, PIECE), (1.5 * PIECE / QUICK_SECONDS, 2 * PIECE), (1e9, LARGEST_PIECE)],
)
def test_the_quicker_bytes_come_the_more_are_asked_for_at_once(
    monkeypatch: pytest.MonkeyPatch, speed: float, largest: int
) -> None:
    with TimedSocket(speed) as sock:
        monkeypatch.setattr(receive_module, "time", sock)
        assert fill(sock, bytearray(20 * PIECE)) == 20 * PIECE
        assert sock.asked[0] == PIECE and max(sock.asked) == largest and sum(sock.asked) == 20 * PIECE
