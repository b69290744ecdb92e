"""Latencies in bins: counts add up, and quantiles lie where the values do."""

from hypothesis import given
from hypothesis import strategies as st

from b2mount.core.latency import BOUNDS, Latency

SECONDS = st.floats(1e-6, 1000, allow_nan=False)


def latency_of(values: list[float]) -> Latency:
    told = Latency()
    for value in values:
        told = told.plus(value)
    return told


@given(st.lists(SECONDS, max_size=50))
def test_nothing_is_lost_and_the_memory_is_bounded(values: list[float]) -> None:
    told = latency_of(values)
    assert told.count == len(values)
    assert len(told.bins) == len(BOUNDS) + 1
    assert told.longest == max(values, default=0.0)


@given(st.lists(SECONDS, min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bin_of_the_true_one(values: list[float], part: float) -> None:
    told = latency_of(values).quantile(part)
    rank = next(rank for rank in range(1, len(values) + 1) if rank >= part * len(values))
    true = sorted(values)[rank - 1]
    edges = [0.0, *BOUNDS, max(values)]
    low = max((edge for edge in edges if edge < true), default=0.0)
    high = min((edge for edge in edges[1:] if edge >= true), default=max(values))
    assert low <= told <= max(high, low)
    assert told <= max(values)


def test_of_nothing_the_quantile_is_nought() -> None:
    assert Latency().quantile(0.99) == 0.0
