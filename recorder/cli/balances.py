"""``recorder balances``: what the account holds, as far as the log shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recorder.cli.current_state import StateCommand
from recorder.cli.output import Column, count_of
from recorder.database.schema import balances
from recorder.queries.as_of_rows import BALANCES, Rows

COLUMNS = (
    Column("currency"),
    Column("available", right=True),
    Column("reserved", right=True),
    Column("total", right=True),
    Column("basis", spare=True),
    Column("updated_at", "updated by exchange (UTC)", spare=True),
    Column("position", right=True, spare=True),
)
_PARTS = ("available", "reserved", "total", "lend_reserved", "borrow_reserved", "borrowed_amount")


def _is_not_zero(row: Mapping[str, Any]) -> bool:
    # A total that was never reported is unknown, which isn't zero.
    return row["total"] is None or any(row[part] for part in _PARTS)


def _empty(account: str, rows: Rows) -> str:
    why = "all it held is zero now (--all shows it)" if rows else "none was ever reported"
    return f"no balances of account {account}: {why}"


def _empty_as_of(account: str, rows: Rows) -> str:
    why = "all it held was zero (--all shows it)" if rows else "none had been reported yet"
    return f"no balances of account {account} then: {why}"


def _hidden(count: int) -> str:
    currencies = count_of(count, "currency", "currencies")
    return f"{currencies} with nothing left out; --all shows them"


COMMAND = StateCommand(
    projection="balances",
    table=balances,
    order_by=balances.c.currency,
    columns=COLUMNS,
    all_help="also currencies of which all is zero",
    as_of=BALANCES,
    empty=_empty,
    empty_as_of=_empty_as_of,
    is_shown=_is_not_zero,
    hidden=_hidden,
)
configure, run = COMMAND.configure, COMMAND.run
