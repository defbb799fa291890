"""Which orders were open at a moment of the past, in two readings, and in which state each was.

What was known at a position is what the log up to it reported. What was true at a time, as far as
is known by now, goes by the exchange's times, and has what came in later.

Orders that had ended before the moment, or began behind it, are not read: a life is found by its
index value (`projections.rules.validity`); about forty are asked for, whatever the number of
orders.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Column as SqlColumn
from sqlalchemy import (
    Connection,
    TextClause,
    TextualSelect,
    bindparam,
    literal_column,
    select,
    text,
)

from recorder.database.columns import UtcTime
from recorder.database.schema import foreign_orders, order_history, orders
from recorder.projections.rules.order_states import END_UNKNOWN, STATES, UNKNOWN, is_live
from recorder.projections.rules.validity import ONGOING, STEP_MAX, seconds

_OF_ORDER = (
    "order_id",
    "customer_order_id",
    "pair",
    "side",
    "type",
    "time_in_force",
    "created_at",
    "source",
)
_OF_STATEMENT = (
    "state",
    "status",
    "price",
    "original_quantity",
    "remaining_quantity",
    "updated_at",
    "received_at",
    "position",
)
#: The state in a refused cancel or change is not the order's state.
_NO_STATES = "('FAILED_CANCEL_ORDER', 'MODIFY_ORDER_OUTCOME')"
_LIVE = ", ".join(f"'{state}'" for state in STATES if is_live(state))


def orders_known_at(connection: Connection, account: str, position: int) -> list[Mapping[str, Any]]:
    """Return what was known of each order that counted as open at a position, oldest first.

    A row has the order's terms, and ``state``, ``status``, ``price``, ``original_quantity``,
    ``remaining_quantity``, ``updated_at``, ``received_at`` and ``position`` of the last event up to
    there that counted. ``certain`` is true: it is what was known.
    """
    values = {"account": account, "at": position}
    found = connection.execute(_columns(text(ORDERS_KNOWN)), values)
    return [{**row, "certain": True} for row in found.mappings()]


def orders_true_at(
    connection: Connection, account: str, moment: datetime
) -> list[Mapping[str, Any]]:
    """Return each order that was open at a time, as far as is known by now, oldest first.

    A row is as in `orders_known_at`, of the statement with the exchange's latest time up to then;
    where none has one, of the last that had come in. Where there is none at all the order had been
    placed and its state isn't known: `UNKNOWN`, without quantities. ``certain`` is false there, and
    where the final state of the order is unknown: it may have ended before. In a gap the quantities
    are the last that were reported; whether the order was open is known all the same.
    """
    query = text(ORDERS_TRUE).bindparams(bindparam("at", type_=UtcTime))
    values = {"account": account, "at": moment, "second": seconds(moment)}
    named = _columns(
        query,
        literal_column("final_state").label("final_state"),
        SqlColumn("last_reported_at", UtcTime),
    )
    found = connection.execute(named, values)
    return [_judged(dict(row), moment) for row in found.mappings()]


def foreign_among(connection: Connection, account: str, order_ids: Collection[str]) -> set[str]:
    """Return those of an account's orders that no command of ours placed."""
    ours = foreign_orders.c
    asked = select(ours.order_id).where(
        ours.account == account, ours.order_id.in_(sorted(set(order_ids)))
    )
    return set(connection.execute(asked).scalars())


def _judged(row: dict[str, Any], moment: datetime) -> Mapping[str, Any]:
    final, reported_at = row.pop("final_state"), row.pop("last_reported_at")
    is_reported = row["state"] is not None
    may_have_ended = final == END_UNKNOWN and (reported_at is None or reported_at <= moment)
    row["state"] = row["state"] if is_reported else UNKNOWN
    return {**row, "certain": is_reported and not may_have_ended}


def _columns(query: TextClause, *more: Any) -> TextualSelect:
    reported = (order_history.c[name] for name in _OF_STATEMENT)
    return query.columns(*(orders.c[name] for name in _OF_ORDER), *reported, *more)


def _index_values(of: str) -> str:
    """Return the names ``index_values(index_value)`` of every life that contains a number, as a
    WITH clause.
    """
    return (
        "WITH RECURSIVE steps(step) AS ("
        "SELECT CAST(1 AS BIGINT) UNION ALL"
        f" SELECT step * 2 FROM steps WHERE step < {STEP_MAX}),"
        f" around(value) AS (SELECT CAST({ONGOING} AS BIGINT) UNION ALL"
        f" SELECT CAST({of} AS BIGINT) / (step * 2) * (step * 2) + step FROM steps)"
    )


_SELECTED = ", ".join([f"o.{name}" for name in _OF_ORDER] + [f"h.{name}" for name in _OF_STATEMENT])
# CROSS JOIN keeps SQLite at this order of tables.
ORDERS_KNOWN = (
    f"{_index_values(':at')} SELECT {_SELECTED}"
    " FROM around AS n CROSS JOIN orders AS o CROSS JOIN order_history AS h"
    " WHERE o.account = :account AND o.validity_by_position = n.value"
    " AND o.first_position <= :at AND (o.ended_position IS NULL OR o.ended_position > :at)"
    " AND h.account = o.account AND h.order_id = o.order_id"
    " AND h.position = (SELECT max(e.position) FROM order_history AS e"
    " WHERE e.account = o.account AND e.order_id = o.order_id AND e.position <= :at AND e.applied)"
    f" AND h.state IN ({_LIVE})"
    " ORDER BY o.first_position, o.order_id"
)
ORDERS_TRUE = (
    f"{_index_values(':second')} SELECT {_SELECTED}, o.state AS final_state,"
    " o.updated_at AS last_reported_at"
    " FROM around AS n CROSS JOIN orders AS o LEFT JOIN order_history AS h"
    " ON h.account = o.account AND h.order_id = o.order_id"
    " AND h.position = (SELECT e.position FROM order_history AS e"
    " WHERE e.account = o.account AND e.order_id = o.order_id"
    f" AND coalesce(e.updated_at, e.received_at) <= :at AND e.event_type NOT IN {_NO_STATES}"
    f" AND e.state IN ({_LIVE})"
    " ORDER BY CASE WHEN e.updated_at IS NULL THEN 1 ELSE 0 END,"
    " coalesce(e.updated_at, e.received_at) DESC, e.position DESC LIMIT 1)"
    " WHERE o.account = :account AND o.validity_by_time = n.value"
    " AND o.began_at <= :at AND (o.ended_at IS NULL OR o.ended_at > :at)"
    " ORDER BY o.began_at, o.order_id"
)
