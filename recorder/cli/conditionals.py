"""``recorder conditionals``: the take-profit and stop-loss orders, waiting and ended."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import true

from recorder.cli.current_state import History, StateCommand
from recorder.cli.output import Column, count_of
from recorder.database.schema import conditional_order_history, conditional_orders
from recorder.queries.as_of_rows import CONDITIONALS, Rows

_TERMS = (
    Column("pair"),
    Column("conditional_type", "type"),
    Column("quantity", right=True),
    Column("take_profit_trigger_price", "take profit", right=True),
    Column("stop_loss_trigger_price", "stop loss", right=True),
    Column("trigger_type", "triggered by", spare=True),
)
COLUMNS = (
    Column("order_id"),
    *_TERMS,
    Column("state"),
    Column("basis"),
    Column("reason", spare=True),
    Column("customer_order_id", spare=True),
    Column("updated_at", "updated (UTC)", spare=True),
)
HISTORY = (
    Column("position", right=True),
    Column("received_at", "received (UTC)"),
    Column("event_type", "event"),
    Column("state"),
    Column("basis"),
    *_TERMS,
    Column("reason", spare=True),
)


def _warnings(account: str, rows: Rows) -> Iterator[str]:
    unsure = sum(row["basis"] == "unconfirmed" for row in rows)
    if unsure:
        yield (
            f"{count_of(unsure, 'conditional order', 'conditional orders')} of account {account}"
            " may be gone: VALR doesn't name them on connecting, and nothing has named them since;"
            " look them up at the exchange"
        )


COMMAND = StateCommand(
    projection="futures",
    table=conditional_orders,
    order_by=conditional_orders.c.first_position,
    columns=COLUMNS,
    all_help="also those that no longer wait",
    as_of=CONDITIONALS,
    empty=lambda account, rows: f"no waiting conditional order of account {account} is known",
    empty_as_of=lambda account, rows: "no waiting conditional order is known of then",
    is_live=conditional_orders.c.is_open == true(),
    history=History(
        table=conditional_order_history,
        key="order_id",
        columns=HISTORY,
        help="every change of one order",
        metavar="ORDER_ID",
        noun="conditional order",
    ),
    warnings=_warnings,
    shows_position=False,
)
configure, run = COMMAND.configure, COMMAND.run
