"""Which statement about a balance was the true one at a time, as far as is known by now."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, or_, select

from recorder.database.schema import balance_history

#: An inferred statement has no time of the exchange's, and one that it gave none to neither.
UNDATED = or_(balance_history.c.basis == "inferred_zero", balance_history.c.updated_at.is_(None))


def up_to(position: ColumnElement[int], as_of: int) -> ColumnElement[bool]:
    """Return what leaves out what was reported behind a position.

    Written so that no index is used for it: SQLite would read the account's whole key.
    """
    return position + 0 <= as_of


def last_true(
    connection: Connection, account: str, currency: str, moment: datetime, as_of: int
) -> Mapping[str, Any] | None:
    """Return the row of `balance_history` of the latest time up to a moment, with that time as at.

    Of equal times it is the one reported later. A statement has the exchange's time, one that is
    inferred or has none the time we received of it.
    """
    history = balance_history.c
    mine = and_(
        history.account == account, history.currency == currency, up_to(history.position, as_of)
    )
    found = []
    for at, condition in (
        (history.updated_at, history.basis != "inferred_zero"),
        (history.received_at, UNDATED),
    ):
        wanted = (
            select(balance_history, at.label("at"))
            .where(mine, condition, at <= moment)
            .order_by(at.desc(), history.position.desc())
            .limit(1)
        )
        found += list(connection.execute(wanted).mappings())
    latest = sorted(found, key=lambda each: (each["at"], each["position"]))[-1:]
    return dict(latest[0]) if latest else None
