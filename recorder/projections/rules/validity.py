"""From when until when something lived, and the one number by which its life is found again. Pure.

What was open at a moment of the past is a question about intervals, which no ordinary index
answers: of millions of lives that began before the moment nearly all ended before it, too. So each
ended life gets a node: of the whole numbers within it, the one that the highest power of two
divides. A life that contains a moment has its node among that moment's `nodes`, of which there are
as many as numbers have bits; and lives with the same node all contain it, so there are only as many
as were open at once. (Kriegel, Pötke, Seidl: the relational interval tree, VLDB 2000.)

A life that goes on has the node `ONGOING`, which is none of a moment's own and is asked besides.

Lives are counted in positions, for what was known, and in seconds since 1970, for what was true.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

ONGOING = 0
#: Powers of two above this divide no node: positions and seconds stay below its double.
STEP_MAX = 1 << 40

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def node(first: int, last: int) -> int:
    """Return the number from ``first`` (1 at least) to ``last`` that most powers of two divide."""
    zeros = ((first - 1) ^ last).bit_length() - 1
    return last >> zeros << zeros


def seconds(moment: datetime) -> int:
    """Return the whole seconds since 1970; 1 for anything before."""
    return max(1, (moment - _EPOCH) // timedelta(seconds=1))


def validity_by_position(first: int, ended: int) -> int | None:
    """Return the node of a life from position ``first`` to before ``ended``; None of an empty."""
    return node(first, ended - 1) if first < ended else None


def validity_by_time(began_at: datetime, ended_at: datetime) -> int | None:
    """Return the node of a life from one time to before another; None of an empty one."""
    return node(seconds(began_at), seconds(ended_at)) if began_at < ended_at else None


def order_life(
    row: Mapping[str, Any], told_at: datetime | None, position: int, received_at: datetime
) -> dict[str, Any]:
    """Return the columns of an order's life after a statement that counted, from its new row.

    ``told_at`` is the statement's time, ``position`` and ``received_at`` are its event's. By the
    exchange's time an order lives from its ``created_at``, or else from the earliest statement;
    it ends with the statement of the end. What has no time counts when it came in.
    """
    at = told_at or received_at
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
