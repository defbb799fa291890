"""A period is cut into stretches that cover it once, and never look better than they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.log.rules.coverage import (
    Cause,
    Kind,
    Stretch,
    Unobserved,
    seconds_between,
    share_text,
    timeline,
    totals,
)

START = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
SPAN_US = 40


def at(us: int) -> datetime:
    return START + timedelta(microseconds=us)


TIMES = st.integers(-10, SPAN_US + 10)
UNOBSERVED = st.lists(
    st.builds(
        lambda a, b, cause, healed: Unobserved(at(min(a, b)), at(max(a, b)), cause.value, healed),
        TIMES,
        TIMES,
        st.sampled_from(list(Cause)),
        st.booleans(),
    ),
    max_size=8,
)


def oracle(unobserved_intervals: list[Unobserved], us: int) -> tuple[str, str | None]:
    """Report of what kind one microsecond is, by looking at all there is about it."""
    order = [cause.value for cause in Cause]
    for kind, is_healed in ((Kind.UNOBSERVED, False), (Kind.HEALED, True)):
        causes = [
            each.cause
            for each in unobserved_intervals
            if each.from_at <= at(us) < each.until_at and each.is_healed is is_healed
        ]
        if causes:
            return kind, min(causes, key=order.index)
    return Kind.OBSERVED, None


@given(UNOBSERVED, st.integers(0, SPAN_US), st.integers(0, SPAN_US))
def test_every_microsecond_is_of_the_kind_that_the_oracle_expects(
    unobserved_intervals: list[Unobserved], begin: int, end: int
) -> None:
    begin, end = sorted((begin, end))
    stretches = timeline(unobserved_intervals, at(begin), at(end))

    reported: list[tuple[str, str | None]] = []
    for each in stretches:
        length = (each.until_at - each.from_at) // timedelta(microseconds=1)
        assert length > 0
        reported += [(each.kind, each.cause)] * length
    assert reported == [oracle(unobserved_intervals, us) for us in range(begin, end)]
    for one, other in pairwise(stretches):
        assert one.until_at == other.from_at
        assert (one.kind, one.cause) != (other.kind, other.cause)


@given(UNOBSERVED, st.integers(1, SPAN_US))
def test_observed_unobserved_and_healed_are_the_period_exactly(
    unobserved_intervals: list[Unobserved], end: int
) -> None:
    stretches = timeline(unobserved_intervals, START, at(end))
    sums = totals(stretches)

    assert sums.period_s == Decimal(end).scaleb(-6)
    for kind, reported in (
        (Kind.OBSERVED, sums.observed_s),
        (Kind.UNOBSERVED, sums.unobserved_s),
        (Kind.HEALED, sums.healed_s),
    ):
        assert reported == sum((s.seconds for s in stretches if s.kind == kind), Decimal(0))
    assert sums.unobserved_s == sum((unobserved for _, unobserved, _ in sums.causes), Decimal(0))
    assert sums.healed_s == sum((healed for _, _, healed in sums.causes), Decimal(0))


def test_a_period_of_no_length_has_no_stretch() -> None:
    assert timeline([Unobserved(at(0), at(9), "killed")], at(5), at(5)) == []
    assert totals([]).period_s == 0


def test_a_century_is_as_exact_as_a_microsecond() -> None:
    far = START.replace(year=2126) + timedelta(microseconds=1)
    (stretch,) = timeline([], START, far)
    assert stretch == Stretch(START, far, Kind.OBSERVED, None)
    assert stretch.seconds == seconds_between(START, far) == Decimal("3155673600.000001")


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        ("1", "1", "100.0000 %"),
        ("31535999.999999", "31536000", "99.9999 %"),
        ("0.000001", "31536000", "0.0000 %"),
        ("0", "0", "–"),
    ],
)
def test_only_the_whole_reads_as_a_hundred_percent(part: str, whole: str, text: str) -> None:
    assert share_text(Decimal(part), Decimal(whole)) == text
