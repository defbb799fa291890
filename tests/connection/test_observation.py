"""Unobserved time is measured on the monotonic clock; jumps of the wall clock are detected."""

from __future__ import annotations

import pytest
from attrs import define, field

from recorder.connection.observation import ObservationTracker
from recorder.log.rules.coverage import LOOK_NS_MAX

SECOND_NS = 1_000_000_000


@define
class Clocks:
    """Two clocks that go as they are reported; a look may take its time."""

    wall: int = 1_700_000_000_000_000
    monotonic: int = 5 * SECOND_NS
    look_takes: list[int] = field(factory=list)

    def wall_us(self) -> int:
        return self.wall

    def monotonic_ns(self) -> int:
        self.monotonic += self.look_takes.pop() if self.look_takes else 0
        return self.monotonic

    def go(self, seconds: float, *, wall_s: float | None = None) -> None:
        self.monotonic += int(seconds * SECOND_NS)
        self.wall += int((seconds if wall_s is None else wall_s) * 1e6)


def test_unobserved_time_ends_with_a_snapshot_and_begins_with_the_last_frame() -> None:
    clocks = Clocks()
    observation = ObservationTracker(clocks)
    clocks.go(3)
    assert observation.regain() == 3
    clocks.go(100)
    assert observation.unobserved_s == 0
    observation.lose(clocks.monotonic - 7 * SECOND_NS)
    clocks.go(1)
    observation.lose(clocks.monotonic)  # a second loss changes nothing
    clocks.go(1)
    assert observation.regain() == 9


def test_a_standstill_is_reported_once_and_a_running_process_never() -> None:
    clocks = Clocks()
    observation = ObservationTracker(clocks)
    for seconds, still_s in [(1, 0), (1.9, 0), (2, 2), (0.1, 0), (60, 60), (0, 0)]:
        clocks.go(seconds)
        assert observation.stir(clocks.monotonic) == still_s


def test_a_clock_that_is_set_back_measures_nothing() -> None:
    clocks = Clocks()
    observation = ObservationTracker(clocks)
    clocks.go(5, wall_s=-3_600)
    assert observation.unobserved_s == 5


@pytest.mark.parametrize("jump_s", [-3_600.0, 3_600.0, 2.0])
def test_a_jump_is_reported_once(jump_s: float) -> None:
    clocks = Clocks()
    observation = ObservationTracker(clocks)
    clocks.go(1, wall_s=1 + jump_s)
    assert observation.seems_jumped(clocks.wall, clocks.monotonic)
    assert observation.look() == jump_s
    assert not observation.seems_jumped(clocks.wall, clocks.monotonic)
    assert observation.look() == 0


def test_an_interrupted_check_reports_nothing_and_the_next_one_does() -> None:
    clocks = Clocks()
    observation = ObservationTracker(clocks)
    clocks.go(1, wall_s=60)
    clocks.look_takes = [LOOK_NS_MAX + 1, 0]
    assert observation.look() == 0
    assert observation.look() == pytest.approx(59, abs=0.2)
