"""The token bucket, over random times of asking and random penalties."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.exchange.pacing import WAIT_S_MIN, TokenBucket

CAPACITIES = st.floats(1, 50)
RATES = st.floats(0.01, 2000)
PAUSES = st.lists(st.floats(0, 100), min_size=1, max_size=60)


def taken_at(bucket: TokenBucket, now_s: float) -> float:
    """Return when a caller that asks from ``now_s`` on gets the next token."""
    for _ in range(20):
        wait_s = bucket.take(now_s)
        if wait_s == 0:
            return now_s
        now_s += wait_s
    raise AssertionError("the waits lead nowhere")


@given(CAPACITIES, RATES, PAUSES, st.booleans())
def test_no_window_has_more_takes_than_the_capacity_and_what_time_brings(
    capacity: float, per_s: float, pauses: list[float], waits: bool
) -> None:
    bucket, now_s, times = TokenBucket(capacity, per_s), 1000.0, []
    for pause_s in pauses:
        now_s += pause_s / per_s
        if waits:
            now_s = taken_at(bucket, now_s)
        elif bucket.take(now_s):
            continue
        times.append(now_s)
    for first in range(len(times)):
        for last in range(first, len(times)):
            allowed = capacity + (times[last] - times[first]) * per_s
            assert last - first + 1 <= allowed + 1e-6


@given(CAPACITIES, RATES, st.floats(0, 1e9), st.integers(0, 60))
def test_a_wait_is_as_long_as_returned_and_leads_to_a_token(
    capacity: float, per_s: float, now_s: float, takes: int
) -> None:
    bucket = TokenBucket(capacity, per_s)
    for _ in range(takes):
        bucket.take(now_s)
    wait_s = bucket.take(now_s)
    assert 0 <= wait_s <= max(WAIT_S_MIN, 1 / per_s)
    if wait_s:
        # To what a double can report of so late a time.
        assert taken_at(bucket, now_s) <= now_s + wait_s + 1e-5


def test_it_starts_full_and_a_refused_take_costs_nothing() -> None:
    bucket = TokenBucket(3, 2)
    assert [bucket.take(5.0) for _ in range(5)] == [0, 0, 0, 0.5, 0.5]
    assert bucket.take(5.5) == 0


@given(st.floats(0, 1e6), st.floats(0, 900), st.floats(0, 1))
def test_a_penalty_is_kept_and_ends_in_no_burst(now_s: float, for_s: float, share: float) -> None:
    bucket = TokenBucket(10, 4)
    bucket.take(now_s)
    bucket.penalise(now_s, for_s)
    assert bucket.take(now_s + for_s * share) > 0
    first_s = taken_at(bucket, now_s)
    assert first_s == pytest.approx(now_s + for_s + 0.25, abs=1e-4)
    assert bucket.take(first_s) == pytest.approx(0.25, abs=1e-4)


def test_a_shorter_penalty_does_not_end_a_longer_one() -> None:
    bucket = TokenBucket(1, 1)
    bucket.penalise(0.0, 60.0)
    bucket.penalise(1.0, 2.0)
    bucket.penalise(2.0, -5.0)
    assert bucket.take(2.0) == 59.0


def test_a_clock_that_goes_back_takes_no_tokens_away() -> None:
    bucket = TokenBucket(2, 1.0)
    assert bucket.take(100.0) == 0
    assert bucket.take(50.0) == 0


@pytest.mark.parametrize(
    ("capacity", "per_s"), [(0, 1), (0.5, 1), (math.nan, 1), (math.inf, 1), (1, 0), (1, math.nan)]
)
def test_a_bucket_that_would_never_give_is_not_made(capacity: float, per_s: float) -> None:
    with pytest.raises(ValueError, match=r"is at least 1|is above 0"):
        TokenBucket(capacity, per_s)


def test_what_was_spent_beyond_what_was_there_is_gained_first() -> None:
    bucket = TokenBucket(4, 10.0)
    assert bucket.level(0.0) == 4
    bucket.spend(6)
    assert bucket.level(0.0) == -2
    assert bucket.wait_s(0.0) == pytest.approx(0.3)
    assert bucket.take(0.3) == 0.0
