"""The pacing of new connections, over random histories of sessions."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from recorder.exchange.pacing import (
    BACKOFF_CAP_S,
    REFUSED_BASE_S,
    REFUSED_CAP_S,
    STABLE_S,
    Bucket,
    ConnectPacing,
    backoff,
)

FRACTIONS = st.floats(0, 1, exclude_max=True)


@frozen
class Lived:
    """One session: how long from connecting to its end, and how it ended."""

    seconds: float
    authenticated_s: float | None
    refused: bool
    retry_after_s: float | None
    fraction: float


CONNECTIONS = st.builds(
    Lived,
    seconds=st.one_of(st.just(0.0), st.floats(0, 120)),
    authenticated_s=st.one_of(st.none(), st.floats(0, 120)),
    refused=st.booleans(),
    retry_after_s=st.one_of(st.none(), st.floats(0, 600)),
    fraction=FRACTIONS,
)


def connects(
    connections: Sequence[Lived], began_s: float = 1000.0, pacing: ConnectPacing | None = None
) -> list[float]:
    """Return the times of the connects of a recorder whose sessions go like this."""
    now_s, pacing, times = began_s, pacing or ConnectPacing(), list[float]()
    for life in connections:
        wait_s, pacing = pacing.next_attempt(now_s, life.fraction)
        assert wait_s >= 0
        now_s += wait_s
        times.append(now_s)
        now_s += life.seconds
        pacing = pacing.ended(
            now_s,
            authenticated_s=life.authenticated_s,
            refused=life.refused,
            retry_after_s=life.retry_after_s,
        )
    return times


def ended(pacing: ConnectPacing, now_s: float, **how: object) -> ConnectPacing:
    """Return the pacing after a session that failed unless ``how`` reports otherwise."""
    return pacing.ended(now_s, **{"authenticated_s": None, **how})  # type: ignore[arg-type]


@given(st.lists(CONNECTIONS, max_size=120))
def test_no_history_connects_more_than_sixty_times_in_a_minute(connections: list[Lived]) -> None:
    times = connects(connections)
    assert all(later - first > 60 for first, later in zip(times, times[60:], strict=False))


@given(st.lists(CONNECTIONS, max_size=120))
def test_connects_average_one_per_five_seconds_after_a_burst_of_ten(
    connections: list[Lived],
) -> None:
    times = connects(connections)
    for first in range(len(times)):
        for last in range(first, len(times)):
            allowed = 10 + (times[last] - times[first]) / 5
            assert last - first + 1 <= allowed + 1e-6


def test_a_line_that_always_breaks_at_once_comes_to_one_connect_per_five_seconds() -> None:
    times = connects([Lived(0.0, None, False, None, 0.0)] * 100)
    assert times[9] == times[0]
    assert abs((times[99] - times[9]) - 90 * 5) < 1e-6


@pytest.mark.parametrize("accounts", [1, 2, 3, 7, 30])
def test_the_accounts_of_a_process_together_stay_below_sixty_connects_a_minute(
    accounts: int,
) -> None:
    rests = Lived(600.0, 600.0, False, None, 0.0)
    breaks = [rests, *[Lived(0.0, None, False, None, 0.0)] * 60]
    times = sorted(
        moment
        for _ in range(accounts)
        for moment in connects(breaks, pacing=ConnectPacing.among(accounts))
    )
    assert all(later - first > 60 for first, later in zip(times, times[54:], strict=False))


def test_of_two_accounts_each_connects_as_one_alone() -> None:
    assert ConnectPacing.among(2) == ConnectPacing.among(1) == ConnectPacing()


def test_a_long_wait_does_not_widen_the_burst_after_it() -> None:
    refused = Lived(0.0, None, True, None, 0.0)
    times = connects([refused] + [Lived(0.0, None, False, None, 0.0)] * 20)
    assert times.count(times[1]) == 10


@given(FRACTIONS)
def test_the_first_connect_does_not_wait(fraction: float) -> None:
    assert ConnectPacing().next_attempt(5.0, fraction)[0] == 0


@given(FRACTIONS, st.integers(0, 5))
def test_after_a_stable_session_it_reconnects_within_a_second(
    fraction: float, failures: int
) -> None:
    pacing = ConnectPacing()
    for attempt in range(failures):
        pacing = ended(pacing, float(attempt))
    pacing = ended(pacing, 100.0, authenticated_s=STABLE_S)
    assert pacing.next_attempt(100.0, fraction)[0] < 1


def test_a_session_cut_right_after_authenticating_counts_as_a_failure() -> None:
    pacing = ended(ConnectPacing(), 0.0, authenticated_s=0.5)
    pacing = ended(pacing, 0.0, authenticated_s=0.5)
    assert pacing.next_attempt(0.0, 0.99)[0] > 1


@given(st.integers(0, 10_000), FRACTIONS)
def test_backoff_stays_under_its_cap_and_has_full_jitter(attempt: int, fraction: float) -> None:
    assert 0 <= backoff(attempt, fraction, base_s=0.5, cap_s=BACKOFF_CAP_S) <= BACKOFF_CAP_S
    assert backoff(attempt, 0.0, base_s=0.5, cap_s=BACKOFF_CAP_S) == 0


@given(FRACTIONS)
def test_failures_back_off_exponentially(fraction: float) -> None:
    pacing, waits = ConnectPacing(), []
    for round_ in range(9):
        pacing = ended(pacing, round_ * 1000.0)
        wait_s, pacing = pacing.next_attempt(round_ * 1000.0, fraction)
        waits.append(wait_s)
    caps = [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0]
    assert waits == pytest.approx([fraction * cap for cap in caps])


@given(st.lists(FRACTIONS, min_size=1, max_size=12))
def test_refused_credentials_wait_a_minute_then_twice_as_long_up_to_a_quarter_hour(
    fractions: list[float],
) -> None:
    now_s, pacing = 0.0, ConnectPacing()
    for attempt, fraction in enumerate(fractions):
        pacing = ended(pacing, now_s, refused=True)
        wait_s, pacing = pacing.next_attempt(now_s, fraction)
        least_s = min(REFUSED_CAP_S, REFUSED_BASE_S * 2**attempt)
        assert least_s - 1e-6 <= wait_s <= least_s * 1.2 + 1e-6
        now_s += wait_s


def test_a_broken_line_between_two_refusals_does_not_forgive_them() -> None:
    pacing = ended(ConnectPacing(), 0.0, refused=True)
    pacing = ended(pacing, 100.0)
    pacing = ended(pacing, 200.0, refused=True)
    assert pacing.next_attempt(200.0, 0.0)[0] == 120


def test_authenticating_forgives_earlier_refusals() -> None:
    pacing = ended(ConnectPacing(), 0.0, refused=True)
    pacing = ended(pacing, 100.0, authenticated_s=0.0)
    pacing = ended(pacing, 200.0, refused=True)
    assert pacing.next_attempt(200.0, 0.0)[0] == 60


def test_a_refusal_after_a_long_session_is_still_a_refusal() -> None:
    pacing = ended(ConnectPacing(), 500.0, authenticated_s=400.0, refused=True)
    assert pacing.next_attempt(500.0, 0.0)[0] == 60


@given(FRACTIONS, st.floats(0, 2000))
def test_the_wait_that_the_exchange_asks_for_is_kept(fraction: float, asked_s: float) -> None:
    pacing = ended(ConnectPacing(), 0.0, retry_after_s=asked_s)
    assert pacing.next_attempt(0.0, fraction)[0] >= asked_s - 1e-6


def test_time_spent_elsewhere_counts_as_waiting() -> None:
    pacing = ended(ConnectPacing(), 0.0, refused=True)
    assert pacing.next_attempt(1000.0, 0.5)[0] == 0


@given(
    st.integers(1, 20),
    st.floats(0.01, 10),
    st.lists(st.floats(0, 100), min_size=1, max_size=60),
)
def test_a_bucket_never_gives_more_than_its_burst_and_its_rate(
    capacity: int, per_s: float, pauses: list[float]
) -> None:
    bucket, now_s, times = Bucket.full(capacity, per_s), 0.0, []
    for pause_s in pauses:
        now_s += pause_s
        wait_s, bucket = bucket.take(now_s)
        now_s += wait_s
        times.append(now_s)
    for first in range(len(times)):
        for last in range(first, len(times)):
            allowed = capacity + (times[last] - times[first]) * per_s
            assert last - first + 1 <= allowed + 1e-6


def test_a_clock_that_goes_back_takes_no_tokens_away() -> None:
    _, bucket = Bucket.full(2, 1.0).take(100.0)
    wait_s, bucket = bucket.take(50.0)
    assert wait_s == 0
    assert bucket.take(100.0)[0] == 1
