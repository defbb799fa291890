"""Validity intervals, and the index value by which an interval is found. Pure.

"What was open at a past time" is a question about intervals, which no ordinary index answers: of
millions of intervals that began before the time nearly all ended before it, too. So each ended
interval gets an index value: of the whole numbers within it, the one that the highest power of two
divides. An interval that contains a time has its index value among the few (one for each bit) that
belong to the time, and intervals with the same value all contain it: there are only as many as were
open at once. (Kriegel, Pötke, Seidl: the relational interval tree, VLDB 2000.)

An interval that goes on has the value `ONGOING`, which belongs to every time. Intervals are counted
in positions, for what was known, and in seconds since 1970, for what was true.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

ONGOING = 0
#: No index value needs a higher power of two: positions and seconds stay below its double.
STEP_MAX = 1 << 40

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def index_value(first: int, last: int) -> int:
    """Return the number from ``first`` (1 at least) to ``last`` that most powers of two divide."""
    zeros = ((first - 1) ^ last).bit_length() - 1
    return last >> zeros << zeros


def seconds(moment: datetime) -> int:
    """Return the whole seconds since 1970; 1 for anything before."""
    return max(1, (moment - _EPOCH) // timedelta(seconds=1))


def validity_by_position(first: int, ended: int) -> int | None:
    """Return the index value of positions ``first`` to before ``ended``; None of none."""
    return index_value(first, ended - 1) if first < ended else None


def validity_by_time(began_at: datetime, ended_at: datetime) -> int | None:
    """Return the index value of an interval of time; None of an empty one."""
    return index_value(seconds(began_at), seconds(ended_at)) if began_at < ended_at else None


def order_validity(
    row: Mapping[str, Any], reported_at: datetime | None, position: int, received_at: datetime
) -> dict[str, Any]:
    """Return the columns of an order's validity interval after a report, from its new row.

    ``reported_at`` is the report's time, ``position`` and ``received_at`` are its event's. By the
    exchange's time an order begins with its ``created_at``, or else with its earliest report, and
    ends with the report of its end. A report without a time counts at its receipt.
    """
    at = reported_at or received_at
    began_at = row["created_at"] or min(row["began_at"] or at, at)
    if row["live"]:
        return {
            "began_at": began_at,
            "ended_at": None,
            "ended_position": None,
            "validity_by_position": ONGOING,
            "validity_by_time": ONGOING,
        }
    ended = row["ended_position"] or position
    return {
        "began_at": began_at,
        "ended_at": at,
        "ended_position": ended,
        "validity_by_position": validity_by_position(row["first_position"], ended),
        "validity_by_time": validity_by_time(began_at, at),
    }
