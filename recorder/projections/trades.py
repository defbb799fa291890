"""Fills. One that is told twice, with the same id, is one fill; one without an id always counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from recorder.exchange.messages import Message, NewAccountTrade
from recorder.log.event import Event
from recorder.projections.fold import Add, Change, Key, Rows, Table
from recorder.projections.reading import is_received, unfoldable

TRADES = Table("trades", ("trade_id",), once=True)


class Trades:
    """The fold of NEW_ACCOUNT_TRADE."""

    name = "trades"
    version = 1
    types = frozenset({"NEW_ACCOUNT_TRADE"})
    tables = (TRADES,)

    def keys(self, message: Message) -> Iterable[tuple[str, Key]]:
        """The fold looks at no row."""
        return ()

    def fold(self, rows: Rows, event: Event, message: Message) -> Sequence[Change]:
        """Return the fill as a row."""
        if not is_received(event):
            return ()
        if not isinstance(message, NewAccountTrade):
            raise unfoldable(message)
        row = {
            "position": event.position,
            "trade_id": message.trade_id,
            "order_id": message.order_id,
            "customer_order_id": message.customer_order_id,
            "pair": message.pair,
            "side": message.side,
            "price": message.price,
            "quantity": message.quantity,
            "fee": message.fee,
            "fee_currency": message.fee_currency,
            "traded_at": message.traded_at,
            "received_at": event.received_at,
        }
        return (Add("trades", (message.trade_id,), row),)
