"""When two clocks report that the machine slept, or that one of them was set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recorder.log.rules.coverage import JUMP_US_MIN, Reading, jump_us

HOUR_US = 3_600_000_000


def after(passed_s: float, ahead_us: int = 0) -> int:
    """Return the jump that is found where so much passed, and the wall clock went further."""
    passed_us = int(passed_s * 1e6)
    return jump_us(Reading(5, 7), Reading(5 + passed_us + ahead_us, 7 + passed_us * 1_000))


def test_clocks_that_agree_have_not_jumped_however_long_it_takes() -> None:
    assert after(0) == after(1) == after(86_400) == 0


def test_an_hour_asleep_and_an_hour_set_back_are_measured_exactly() -> None:
    assert after(1, HOUR_US) == HOUR_US
    assert after(1, -HOUR_US) == -HOUR_US


def test_what_ntp_does_in_a_second_is_no_jump() -> None:
    assert after(1, 500) == after(1, -500) == 0


@given(st.floats(0, 1e6), st.integers(-(10**15), 10**15))
def test_a_jump_is_reported_as_it_was_or_not_at_all(passed_s: float, ahead_us: int) -> None:
    assert after(passed_s, ahead_us) == (ahead_us if abs(ahead_us) >= JUMP_US_MIN else 0)
