"""Which positions and conditional orders stood at a moment of the past, in two readings.

What was known at a position is the last line of each one's history up to it. What was true at a
time, as far as is known by now, goes by the exchange's time of each statement. VALR gives an end no
time of its own, so an end counts when it came in: one that a gap hid counts late.

Each position and each conditional order costs one seek, or two, in the key of its history; those
that began later cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import frozen
from sqlalchemy import Column, Connection, Table, Text, bindparam, text

from recorder.database.columns import UtcTime
from recorder.database.schema import (
    conditional_order_history,
    conditional_orders,
    position_history,
    positions,
)
from recorder.projections.rules.order_states import OPEN
from recorder.projections.rules.positions import INFERRED, REPORTED


@frozen
class AsOfTables:
    """What has a state and a history of it: its tables, and the column that names one."""

    states: Table
    history: Table
    key: str
    #: Events whose lines state nothing: movements, and refusals.
    is_statement: str = "1 = 1"


POSITIONS = AsOfTables(
    positions, position_history, "position_id", "e.event_type <> 'REDUCE_POSITION'"
)
CONDITIONALS = AsOfTables(conditional_orders, conditional_order_history, "order_id")


def known_at(
    connection: Connection, account: str, position: int, kept: AsOfTables
) -> list[Mapping[str, Any]]:
    """Return what was known of each that counted as open at a position, the oldest first.

    A row is the line of its history, and ``certain``: whether the exchange had reported it, and had
    not failed to name it since.
    """
    query = text(known_query(kept)).columns(*kept.history.c)
    found = connection.execute(query, {"account": account, "at": position})
    return [{**row, "certain": row["basis"] == REPORTED} for row in found.mappings()]


def true_at(
    connection: Connection, account: str, moment: datetime, kept: AsOfTables
) -> list[Mapping[str, Any]]:
    """Return each that was open at a time, as far as is known by now, the oldest first.

    A row is as in `known_at`. It is not ``certain`` either where its end was only inferred later:
    it may have ended before.
    """
    query = text(true_query(kept)).bindparams(bindparam("at", type_=UtcTime))
    named = query.columns(*kept.history.c, Column("next_basis", Text))
    rows = [
        dict(row)
        for row in connection.execute(named, {"account": account, "at": moment}).mappings()
    ]
    return [
        {**row, "certain": row["basis"] == REPORTED and row.pop("next_basis") != INFERRED}
        for row in rows
    ]


def _line_of(kept: AsOfTables) -> str:
    return f"e.account = b.account AND e.{kept.key} = b.{kept.key}"


def _lines(kept: AsOfTables) -> str:
    return ", ".join(f"h.{column.name}" for column in kept.history.c)


def known_query(kept: AsOfTables) -> str:
    """Return the SQL of the first reading; ``:at`` is a position."""
    return (
        f"SELECT {_lines(kept)}"
        f" FROM {kept.states.name} AS b CROSS JOIN {kept.history.name} AS h"
        " WHERE b.account = :account AND b.first_position <= :at"
        f" AND h.account = b.account AND h.{kept.key} = b.{kept.key}"
        f" AND h.position = (SELECT max(e.position) FROM {kept.history.name} AS e"
        f" WHERE {_line_of(kept)} AND e.position <= :at)"
        f" AND h.state = '{OPEN}'"
        f" ORDER BY b.first_position, h.{kept.key}"
    )


def true_query(kept: AsOfTables) -> str:
    """Return the SQL of the second reading; ``:at`` is a time."""
    reported_at = f"CASE WHEN e.state = '{OPEN}' THEN coalesce(e.updated_at, e.received_at)"
    reported_at += " ELSE e.received_at END"
    statement = f"FROM {kept.history.name} AS e WHERE {_line_of(kept)} AND {kept.is_statement}"
    return (
        f"SELECT {_lines(kept)}, (SELECT e.basis {statement} AND e.position > h.position"
        f" AND {reported_at} > :at ORDER BY e.position LIMIT 1) AS next_basis"
        f" FROM {kept.states.name} AS b CROSS JOIN {kept.history.name} AS h"
        " WHERE b.account = :account"
        f" AND h.account = b.account AND h.{kept.key} = b.{kept.key}"
        f" AND h.position = (SELECT e.position {statement} AND {reported_at} <= :at"
        f" ORDER BY {reported_at} DESC, e.position DESC LIMIT 1)"
        f" AND h.state = '{OPEN}'"
        f" ORDER BY b.first_position, h.{kept.key}"
    )
