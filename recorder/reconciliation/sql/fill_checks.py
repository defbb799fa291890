"""Compares the fills that the ledger knows with those that `trades` knows, order by order.

Movements are taken from the ledger, so that no fill counts twice. Trades report the same fills in
another frame: where the two differ, one of the frames was missed.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from attrs import define, field, frozen
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    case,
    func,
    not_,
    or_,
    select,
)

from recorder.database.schema import balance_movements as movements
from recorder.database.schema import trades
from recorder.exchange.amounts import EXACT
from recorder.queries.books import Period, exact_sum, up_to

#: Both frames are sent for these. Simple orders, takeovers and conversions may have no trades.
CHECKED = ("LIMIT_BUY", "LIMIT_SELL", "MARKET_BUY", "MARKET_SELL")
#: Fills of futures move no balance; what they bring is booked as profit, loss and fee.
FUTURES = "%PERP"
#: Orders in one statement: they are parameters, which databases limit.
ORDERS_AT_ONCE = 500

Conditions = tuple[ColumnElement[bool], ...]


@frozen
class Unmatched:
    """An order whose fills aren't the same in both tables.

    ``traded`` and ``booked`` are quantities of the base currency, null where a table has none.
    """

    order_id: str
    pair: str | None
    side: str | None
    traded: Decimal | None
    booked: Decimal | None
    trades: int
    entries: int


@define
class _Order:
    pair: str | None = None
    side: str | None = None
    traded: Decimal | None = None
    booked: Decimal | None = None
    assumed: Decimal = field(default=Decimal(0))
    trades: int = 0
    entries: int = 0

    def matches(self) -> bool:
        """Return whether both report the same; a fee that may be in the booked quantity may be."""
        if self.traded is None or self.booked is None:
            return False
        readings = self.booked, EXACT.subtract(self.booked, self.assumed)
        return self.traded in readings


def unmatched_fills(connection: Connection, account: str, period: Period) -> list[Unmatched]:
    """Return the orders with a fill in the period that differ, all their fills counted."""
    inside = _read(connection, _traded_in(account, period), _booked_in(account, period))
    # A period may end between the two frames of a fill: of these orders everything is read.
    doubtful = sorted(order_id for order_id, each in inside.items() if not each.matches())
    found: list[Unmatched] = []
    for first in range(0, len(doubtful), ORDERS_AT_ONCE):
        names = doubtful[first : first + ORDERS_AT_ONCE]
        traded, booked = (
            (*_of_account(c, account, period), c.order_id.in_(names))
            for c in (trades.c, movements.c)
        )
        found += _unmatched(_read(connection, traded, (*booked, movements.c.type.in_(CHECKED))))
    return found


def unchecked_fills(connection: Connection, account: str, period: Period) -> int:
    """Return how many fills of the period name no order, so that nothing is compared."""
    credited = movements.c.leg == "credit"
    counted = (
        (trades, _traded_in(account, period, named=False)),
        (movements, (*_booked_in(account, period, named=False), credited)),
    )
    return sum(
        connection.execute(select(func.count()).select_from(source).where(*inside)).scalar_one()
        for source, inside in counted
    )


def _unmatched(orders: dict[str, _Order]) -> Iterable[Unmatched]:
    for order_id, each in sorted(orders.items()):
        if not each.matches():
            parts = (each.pair, each.side, each.traded, each.booked, each.trades, each.entries)
            yield Unmatched(order_id, *parts)


def _read(connection: Connection, traded: Conditions, booked: Conditions) -> dict[str, _Order]:
    """Return what both tables have of the orders that meet the conditions."""
    orders: dict[str, _Order] = {}
    for row in connection.execute(_traded(connection).where(*traded)):
        each = orders.setdefault(row.order_id, _Order())
        each.pair, each.side = row.pair, str(row.side).lower()
        each.traded, each.trades = row.quantity, row.number
    for row in connection.execute(_booked(connection).where(*booked)):
        is_buy = str(row.type).endswith("BUY")
        if row.kind != ("fill_in" if is_buy else "fill_out"):
            continue
        each = orders.setdefault(row.order_id, _Order())
        each.pair, each.side = each.pair or row.pair, each.side or ("buy" if is_buy else "sell")
        quantity = Decimal(0) if row.quantity is None else abs(row.quantity)
        each.booked = EXACT.add(each.booked or Decimal(0), quantity)
        each.assumed = EXACT.add(each.assumed, row.assumed or Decimal(0))
        each.entries += row.number
    return orders


def _traded(connection: Connection) -> Select[Any]:
    t = trades.c
    return select(
        t.order_id,
        func.min(t.pair).label("pair"),
        func.min(t.side).label("side"),
        exact_sum(connection, t.quantity).label("quantity"),
        func.count().label("number"),
    ).group_by(t.order_id)


def _booked(connection: Connection) -> Select[Any]:
    m = movements.c
    is_assumed = and_(m.leg == "fee_part", m.fee_basis == "assumed")
    is_entry = m.leg.in_(("credit", "debit"))
    return select(
        m.order_id,
        m.type,
        m.kind,
        func.min(m.pair).label("pair"),
        exact_sum(connection, m.amount).label("quantity"),
        exact_sum(connection, case((is_assumed, m.amount))).label("assumed"),
        func.sum(case((is_entry, 1), else_=0)).label("number"),
    ).group_by(m.order_id, m.type, m.kind)


def _traded_in(account: str, period: Period, *, named: bool = True) -> Conditions:
    t = trades.c
    at = t.position if period.is_by_position else t.traded_at
    is_spot = or_(t.pair.is_(None), not_(t.pair.like(FUTURES)))
    return (*_inside(t, at, account, period, named=named), is_spot)


def _booked_in(account: str, period: Period, *, named: bool = True) -> Conditions:
    m = movements.c
    at = m.position if period.is_by_position else m.at
    return (*_inside(m, at, account, period, named=named), m.type.in_(CHECKED))


def _inside(c: Any, at: Any, account: str, period: Period, *, named: bool) -> Conditions:
    is_named = c.order_id.is_not(None) if named else c.order_id.is_(None)
    return (*_of_account(c, account, period), at > period.begin, at <= period.end, is_named)


def _of_account(c: Any, account: str, period: Period) -> Conditions:
    return c.account == account, up_to(c.position, period.as_of)
