"""Cut off while trading goes on, the recorder's books add up again once it has fetched the rest."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Any

import trio

from tests.cli.scene import Answer, ask
from tests.daemon.scene import daemon, exchange, until
from tests.daemon.test_backfill import (
    SOON,
    cut,
    fill_unobserved,
    judged,
    live,
    rest,
    until_back,
    until_healed,
)


def unexplained(answer: Answer) -> dict[str, Any]:
    (row,) = answer.rows
    return {
        each["currency"]: each["residual"] for each in row["currencies"] if each["residual"] != "0"
    }


async def test_books_by_time_add_up_after_a_gap_and_by_position_show_what_was_known(
    database_url: str,
) -> None:
    async with exchange() as simulator, daemon(database_url, simulator, **SOON) as scene:
        await scene.until_connected(1)
        await scene.until_live()
        order_id = rest(simulator)
        await simulator.flush()
        # Nothing is fetched any more, until the gap that follows is closed.
        await until(lambda: len(judged(scene)) == 1)
        await cut(scene)
        live(simulator, 30)
        fill_unobserved(simulator, order_id)
        await until_back(scene)
        live(simulator, 10)
        await until_healed(scene)
        reported = partial(ask, database_url, "books")
        answer = await trio.to_thread.run_sync(reported)
        (row,) = answer.rows
        assert (answer.code, unexplained(answer), row["unmatched_fills"]) == (0, {}, [])
        held = simulator.exchange.account.books.balances
        closing = {each["currency"]: each["closing"]["total"] for each in row["currencies"]}
        assert {name: Decimal(total) for name, total in closing.items()} == {
            name: balance.total for name, balance in held.items()
        }
        assert sum(line["backfilled"] for each in row["currencies"] for line in each["lines"]) > 1

        # Up to the second snapshot: what happened in the gap wasn't fetched yet.
        ((position,),) = scene.books.ask(
            "SELECT max(position) FROM events WHERE type = 'SNAPSHOT_COMPLETE'"
        )
        reported = partial(ask, database_url, "books", "--to-position", str(position))
        answer = await trio.to_thread.run_sync(reported)
        assert answer.code == 1
        assert "BTC" in unexplained(answer)
