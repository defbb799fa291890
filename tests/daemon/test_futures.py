"""A whole daemon through disconnections: its positions are the exchange's own books."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest

from tests.daemon.scene import Scene, recording, until

PAIR = "USDTZARPERP"


def held_by_exchange(scene: Scene) -> dict[str, tuple[Any, ...]]:
    return {
        each.position_id: (each.pair, each.side, each.quantity, each.average, each.realised)
        for each in scene.simulator.exchange.futures.held.values()
    }


def held_by_tables(scene: Scene) -> dict[str, tuple[Any, ...]]:
    query = (
        "SELECT position_id, pair, side, quantity, average_entry_price, realised_pnl"
        " FROM positions WHERE state = 'open' AND basis = 'reported'"
    )
    return {
        key: (pair, side, *(Decimal(str(each)) for each in amounts))
        for key, pair, side, *amounts in scene.books.ask(query)
    }


async def do_something(scene: Scene, rng: random.Random) -> None:
    simulator = scene.simulator
    waiting = simulator.exchange.futures.waiting()
    if waiting and rng.random() < 0.3:
        await simulator.remove_conditional(waiting[0].order_id)
    elif rng.random() < 0.3:
        await simulator.add_conditional(PAIR, Decimal(0), Decimal(25), Decimal(15))
    else:
        side, quantity = rng.choice(["buy", "sell"]), Decimal(rng.randint(1, 3))
        await simulator.trade_future(PAIR, side, quantity)


@pytest.mark.parametrize("seed", [1, 2])
async def test_after_disconnections_the_positions_are_the_exchanges_own_books(
    database_url: str, seed: int
) -> None:
    rng = random.Random(seed)
    async with recording(database_url, {"seed": seed}) as scene:
        for sessions in range(2, 5):
            for _ in range(5):
                await do_something(scene, rng)
            await scene.simulator.drop(rng.choice(["cut", "reset", "close"]))
            # These are not reported.
            for _ in range(3):
                await do_something(scene, rng)
            await until(lambda wanted=sessions: scene.simulator.connections >= wanted)
            await scene.until_live()
            await scene.until_folded()
            assert held_by_tables(scene) == held_by_exchange(scene)

        known = {each.position_id for each in scene.simulator.exchange.futures.closed}
        gone = scene.books.ask("SELECT position_id, state FROM positions WHERE state <> 'open'")
        assert {key for key, _ in gone} <= known
        waiting = {each.order_id for each in scene.simulator.exchange.futures.waiting()}
        current = dict(
            scene.books.ask("SELECT order_id, basis FROM conditional_orders WHERE state = 'open'")
        )
        assert all(current[each] == "unconfirmed" for each in current.keys() - waiting)
        assert scene.books.count("fold_failures") == 0
