from hypothesis import given
from hypothesis import strategies as st

from b2mount.core.pace import FULL_SPEED, LEAST, MOST_FAR, MOST_NEAR, TELLING_SIZE, Pace

NEAR, FAR = 0.001, 0.04
SECONDS = st.floats(1e-4, 10)


def pace_of(*requests: tuple[int, float, float]) -> Pace:
    pace = Pace()
    for size, delay, seconds in requests:
        pace.on_request(size, delay, seconds)
    return pace


@given(st.lists(st.tuples(st.integers(0, 1 << 24), SECONDS, SECONDS), max_size=30), st.integers(1, 64))
def test_never_more_requests_are_wanted_than_are_allowed(
    requests: list[tuple[int, float, float]], allowed: int
) -> None:
    wanted = pace_of(*((size, delay, delay + more) for size, delay, more in requests)).requests(allowed)
    assert min(allowed, LEAST) <= wanted <= min(allowed, MOST_FAR)


@given(st.sampled_from([NEAR, FAR]), SECONDS, st.integers(1, 64))
def test_as_many_requests_are_wanted_as_fill_the_network_at_the_speed_of_one(
    delay: float, more: float, allowed: int
) -> None:
    size, most = 4 << 20, min(allowed, MOST_NEAR if delay == NEAR else MOST_FAR)
    speed = size / (delay + more)
    wanted = pace_of((size, delay, delay + more)).requests(allowed)
    assert wanted in (most, min(most, LEAST)) or abs(wanted * speed - FULL_SPEED) <= speed


def test_how_many_requests_a_network_needs_is_not_known_before_the_first_came_back() -> None:
    assert Pace().requests(64) == MOST_NEAR


def test_slow_connections_far_away_get_more_requests_than_slow_ones_near_by() -> None:
    slow = 4 << 20, 0.25
    assert pace_of((slow[0], FAR, slow[1])).requests(64) > MOST_NEAR
    assert pace_of((slow[0], NEAR, slow[1])).requests(64) == MOST_NEAR


def test_a_late_answer_of_a_busy_machine_does_not_make_the_server_far() -> None:
    slow = 4 << 20
    assert pace_of((slow, NEAR, 0.25), *[(slow, FAR, 0.25)] * 200).requests(64) == MOST_NEAR


def test_a_server_that_has_become_far_is_known_as_such_in_the_end() -> None:
    slow = 4 << 20
    assert pace_of((slow, NEAR, 0.25), *[(slow, FAR, 0.25)] * 3000).requests(64) > MOST_NEAR


def test_near_by_requests_that_slowed_each_other_down_call_for_no_more_of_them() -> None:
    quick, slowed = (4 << 20, NEAR, 0.02), (4 << 20, NEAR, 0.2)
    assert pace_of(quick, *[slowed] * 8, quick, *[slowed] * 8).requests(64) == LEAST
    assert pace_of(quick, *[slowed] * 200).requests(64) == MOST_NEAR  # that was long ago


def test_far_away_the_average_tells_how_many_requests_are_needed() -> None:
    quick, slowed = (4 << 20, FAR, 0.02), (4 << 20, FAR, 0.2)
    assert pace_of(quick, *[slowed] * 20).requests(64) > MOST_NEAR


def test_requests_for_little_say_nothing_of_the_speed() -> None:
    assert pace_of((TELLING_SIZE - 1, FAR, 5.0)).speed is None
