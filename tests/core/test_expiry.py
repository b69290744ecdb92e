"""When a person is told that a key ends."""

from hypothesis import given
from hypothesis import strategies as st

from b2mount.core.expiry import DAY_MS, HOUR_MS, WEEK_MS, Notice, next_notice, notice_at

moments = st.integers(0, 2_000_000_000_000)


def test_a_key_without_end_needs_no_notice() -> None:
    assert notice_at(None, 5) is None
    assert next_notice(None, 5) is None


def test_each_notice_holds_from_its_moment_on() -> None:
    end = 100 * WEEK_MS
    assert notice_at(end, end - WEEK_MS - 1) is None
    assert notice_at(end, end - WEEK_MS) is Notice.WEEK
    assert notice_at(end, end - DAY_MS) is Notice.DAY
    assert notice_at(end, end - HOUR_MS) is Notice.HOUR
    assert notice_at(end, end) is Notice.OVER


@given(moments, moments)
def test_the_notice_changes_exactly_at_the_moments_foretold(end: int, now: int) -> None:
    following = next_notice(end, now)
    if following is None:
        assert notice_at(end, now) is Notice.OVER
        return
    assert following > now
    assert notice_at(end, following - 1) is notice_at(end, now)
    assert notice_at(end, following) is not notice_at(end, now)
