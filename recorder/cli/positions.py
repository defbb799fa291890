"""``recorder positions``: the futures positions, open and closed."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import true

from recorder.cli.current_state import History, StateCommand
from recorder.cli.output import Column, quoted
from recorder.database.schema import position_history, positions
from recorder.queries.as_of_rows import POSITIONS, Rows

COLUMNS = (
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
HISTORY = (
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


def _warnings(account: str, rows: Rows) -> Iterator[str]:
    for row in rows:
        if row["basis"] == "unconfirmed":
            yield (
                f"position {quoted(row['position_id'])} may be gone: the exchange did not name it"
                " when it should have; the next complete snapshot will report"
            )


COMMAND = StateCommand(
    projection="futures",
    table=positions,
    order_by=positions.c.first_position,
    columns=COLUMNS,
    all_help="also positions that are no longer held",
    as_of=POSITIONS,
    empty=lambda account, rows: f"no open position of account {account} is known",
    empty_as_of=lambda account, rows: "no open position is known of then",
    is_live=positions.c.is_open == true(),
    history=History(
        table=position_history,
        key="position_id",
        columns=HISTORY,
        help="every value of one position, and each close",
        metavar="POSITION_ID",
        noun="position",
    ),
    warnings=_warnings,
)
configure, run = COMMAND.configure, COMMAND.run
