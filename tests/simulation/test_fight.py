"""Two recorders fight for an account: nothing is sent twice, and no process writes out of turn."""

from __future__ import annotations

import os
import random

import pytest
import trio.testing

from tests.simulation.fight import PROBLEMS, fight

#: So many seeds from the first on: RECORDER_FIGHT_SEEDS=50 RECORDER_FIGHT_FIRST=1.
SEEDS = int(os.environ.get("RECORDER_FIGHT_SEEDS", "1"))
FIRST = int(os.environ.get("RECORDER_FIGHT_FIRST", "1"))
#: Simulated seconds of problem: RECORDER_FIGHT_S=3600 takes some half a minute for each run.
FOR_S = float(os.environ.get("RECORDER_FIGHT_S", "900"))


@pytest.fixture
def in_one_order(monkeypatch: pytest.MonkeyPatch) -> random.Random:
    """Trio's own rng, which decides the order of runnable tasks; others need not seed it."""
    rng = random.Random()
    monkeypatch.setattr("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING", True)
    monkeypatch.setattr("trio._core._run._r", rng)
    return rng


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
async def test_two_daemons_that_fight_send_nothing_twice_and_write_in_turn(
    database_url: str,
    seed: int,
    in_one_order: random.Random,
    autojump_clock: trio.testing.MockClock,
) -> None:
    in_one_order.seed(seed)
    it = await fight(database_url, seed, FOR_S)
    # A run in which nothing happened would prove nothing.
    assert sum(it.happened.values()) > FOR_S / 30
    assert it.happened["lease lost"] and sum(it.simulator.exchange.received.values()) > 10
    assert FOR_S < 3600 or all(it.happened[what] for what in PROBLEMS)
