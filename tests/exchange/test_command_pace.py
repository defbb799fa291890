"""The pace of commands: each kind by itself."""

from __future__ import annotations

import pytest

from recorder.exchange.commands import CANCEL_ORDER, COMMANDS, PLACE_LIMIT_ORDER, PLACE_MARKET_ORDER
from recorder.exchange.pacing import KIND, CommandPace


def test_every_command_is_of_a_kind() -> None:
    assert set(KIND) == set(COMMANDS)


def test_orders_of_both_sorts_share_a_bucket_and_leave_cancels_alone() -> None:
    pace = CommandPace.of(4, 10.0)
    pace.spend([PLACE_LIMIT_ORDER, PLACE_MARKET_ORDER, PLACE_LIMIT_ORDER, PLACE_LIMIT_ORDER])
    assert pace.allowance(0.0) == {"batch": 4, "cancel": 4, "modify": 4, "place": 4}
    pace.spend([PLACE_LIMIT_ORDER] * 4)
    assert pace.allowance(0.0) == {"batch": 4, "cancel": 4, "modify": 4, "place": 0}
    assert pace.wait_s(0.0, ["place"]) == pytest.approx(0.1)
    pace.spend([CANCEL_ORDER] * 4)
    assert pace.allowance(0.1) == {"batch": 4, "cancel": 1, "modify": 4, "place": 1}


def test_a_caller_that_waits_for_several_kinds_waits_for_the_first() -> None:
    pace = CommandPace.of(1, 1.0)
    assert pace.allowance(0.0)["cancel"] == 1
    pace.spend([PLACE_LIMIT_ORDER, CANCEL_ORDER, CANCEL_ORDER])
    assert pace.wait_s(0.0, ["place", "cancel"]) == pytest.approx(1.0)
    assert pace.wait_s(0.0, ["cancel"]) == pytest.approx(2.0)


def test_a_penalty_stops_every_kind() -> None:
    pace = CommandPace.of(4, 10.0)
    pace.penalise(0.0, 1.0)
    assert set(pace.allowance(0.9).values()) == {0}
    assert set(pace.allowance(1.25).values()) == {2}
