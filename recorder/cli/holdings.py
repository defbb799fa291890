"""``recorder balances``, ``positions`` and ``conditionals``: what the account holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import true

from recorder.cli.current_state import History, StateCommand
from recorder.cli.output import Column, quoted
from recorder.database.schema import (
    balances,
    conditional_order_history,
    conditional_orders,
    position_history,
    positions,
)
from recorder.display import counted
from recorder.queries import as_of
from recorder.queries.as_of import Rows

_BALANCE_COLUMNS = (
    Column("currency"),
    Column("available", right=True),
    Column("reserved", right=True),
    Column("total", right=True),
    Column("basis", spare=True),
    Column("updated_at", "updated by exchange (UTC)", spare=True),
    Column("position", right=True, spare=True),
)
_BALANCE_PARTS = (
    "available",
    "reserved",
    "total",
    "lend_reserved",
    "borrow_reserved",
    "borrowed_amount",
)


def _is_not_zero(row: Mapping[str, Any]) -> bool:
    # A total that was never reported is unknown, which isn't zero.
    return row["total"] is None or any(row[part] for part in _BALANCE_PARTS)


def _no_balances(account: str, rows: Rows) -> str:
    why = "all it held is zero now (--all shows it)" if rows else "none was ever reported"
    return f"no balances of account {account}: {why}"


def _no_balances_then(account: str, rows: Rows) -> str:
    why = "all it held was zero (--all shows it)" if rows else "none had been reported yet"
    return f"no balances of account {account} then: {why}"


BALANCES = StateCommand(
    projection="balances",
    table=balances,
    order_by=balances.c.currency,
    columns=_BALANCE_COLUMNS,
    all_help="also currencies of which all is zero",
    as_of=as_of.BALANCES,
    empty=_no_balances,
    empty_as_of=_no_balances_then,
    is_shown=_is_not_zero,
    hidden=lambda count: (
        f"{counted(count, 'currency', 'currencies')} with nothing left out; --all shows them"
    ),
)


_POSITION_COLUMNS = (
    Column("position_id"),
    Column("pair"),
    Column("side"),
    Column("quantity", right=True),
    Column("average_entry_price", "entry price", right=True, spare=True),
    Column("unrealised_pnl", "unrealised", right=True, spare=True),
    Column("realised_pnl", "realised", right=True, spare=True),
    Column("state"),
    Column("basis", spare=True),
    Column("updated_at", "updated by exchange (UTC)", spare=True),
)
_POSITION_HISTORY = (
    Column("position", right=True),
    Column("received_at", "received (UTC)"),
    Column("event_type", "event"),
    Column("state"),
    Column("quantity", right=True),
    Column("average_entry_price", "entry price", right=True, spare=True),
    Column("closed_quantity", "closed", right=True, spare=True),
    Column("close_price", "at price", right=True, spare=True),
    Column("closed_pnl", "result", right=True, spare=True),
    Column("closed_fees", "fees", right=True, spare=True),
    Column("basis", spare=True),
)


def _position_warnings(account: str, rows: Rows) -> Iterator[str]:
    for row in rows:
        if row["basis"] == "unconfirmed":
            yield (
                f"position {quoted(row['position_id'])} may be gone: the exchange did not name it"
                " when it should have; the next complete snapshot will show"
            )


POSITIONS = StateCommand(
    projection="futures",
    table=positions,
    order_by=positions.c.first_position,
    columns=_POSITION_COLUMNS,
    all_help="also positions that are no longer held",
    as_of=as_of.POSITIONS,
    empty=lambda account, rows: f"no open position of account {account} is known",
    empty_as_of=lambda account, rows: "no open position is known of then",
    is_live=positions.c.is_open == true(),
    history=History(
        table=position_history,
        key="position_id",
        columns=_POSITION_HISTORY,
        help="every value of one position, and each close",
        noun="position",
    ),
    warnings=_position_warnings,
)


_CONDITIONAL_TERMS = (
    Column("pair"),
    Column("conditional_type", "type"),
    Column("quantity", right=True),
    Column("take_profit_trigger_price", "take profit", right=True),
    Column("stop_loss_trigger_price", "stop loss", right=True),
    Column("trigger_type", "triggered by", spare=True),
)
_CONDITIONAL_COLUMNS = (
    Column("order_id"),
    *_CONDITIONAL_TERMS,
    Column("state"),
    Column("basis"),
    Column("reason", spare=True),
    Column("customer_order_id", spare=True),
    Column("updated_at", "updated (UTC)", spare=True),
)
_CONDITIONAL_HISTORY = (
    Column("position", right=True),
    Column("received_at", "received (UTC)"),
    Column("event_type", "event"),
    Column("state"),
    Column("basis"),
    *_CONDITIONAL_TERMS,
    Column("reason", spare=True),
)


def _conditional_warnings(account: str, rows: Rows) -> Iterator[str]:
    unsure = sum(row["basis"] == "unconfirmed" for row in rows)
    if unsure:
        yield (
            f"{counted(unsure, 'conditional order', 'conditional orders')} of account {account}"
            " may be gone: VALR doesn't name them on connecting, and nothing has named them since;"
            " look them up at the exchange"
        )


CONDITIONALS = StateCommand(
    projection="futures",
    table=conditional_orders,
    order_by=conditional_orders.c.first_position,
    columns=_CONDITIONAL_COLUMNS,
    all_help="also those that no longer wait",
    as_of=as_of.CONDITIONALS,
    empty=lambda account, rows: f"no waiting conditional order of account {account} is known",
    empty_as_of=lambda account, rows: "no waiting conditional order is known of then",
    is_live=conditional_orders.c.is_open == true(),
    history=History(
        table=conditional_order_history,
        key="order_id",
        columns=_CONDITIONAL_HISTORY,
        help="every change of one order",
        noun="conditional order",
    ),
    warnings=_conditional_warnings,
    shows_position=False,
)

balances_command = BALANCES.command()
positions_command = POSITIONS.command()
conditionals_command = CONDITIONALS.command()
