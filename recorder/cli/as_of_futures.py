"""``--at`` of the commands about futures: what stood at a moment of the past."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from recorder.cli.as_of import TRUE, Past, Rows, print_as_of, print_warnings, run_past
from recorder.cli.call import Call
from recorder.cli.output import Column
from recorder.errors import ConfigurationError
from recorder.queries.as_of_futures import AsOfTables, known_at, true_at

PROJECTION = "futures"
CERTAIN = Column("certain", show=lambda value: "yes" if value else "no")


def run_at(call: Call, kept: AsOfTables, columns: Sequence[Column], empty: str) -> int:
    """Print what stood at the moment asked for; one of which nothing is known is exit code 2."""
    if call.arguments.all or call.arguments.history is not None:
        raise ConfigurationError("--at shows what was open then: leave --all and --history out")

    def read(connection: Connection, past: Past) -> Rows:
        if past.reading == TRUE:
            return true_at(connection, past.account, kept, past.point.at)
        return known_at(connection, past.account, kept, past.point.position)

    def show(call: Call, past: Past, rows: Rows) -> None:
        _print(call, past, rows, [*columns, CERTAIN], empty)

    return run_past(call, PROJECTION, read, show)


def _print(call: Call, past: Past, rows: Rows, columns: Sequence[Column], empty: str) -> None:
    print_as_of(call, past)
    call.output.rows(columns, [{**row, **past.columns} for row in rows], empty=empty)
    if any(not row["certain"] for row in rows):
        call.output.warn(
            "rows that are not certain have an unknown state at that time: or when they ended"
        )
    print_warnings(call, past, is_backfilled=False)
