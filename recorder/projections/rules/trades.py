"""Fills, from the stream and from the trade history; see `matching`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from recorder.exchange.lists import Fetched, HistoryPage
from recorder.exchange.messages import Message, NewAccountTrade
from recorder.log.rules.event import Event
from recorder.projections.rules.fold import Change, Key, Row, Rows, Table
from recorder.projections.rules.matching import Matching
from recorder.projections.rules.reading import is_fetched, is_received, unfoldable

TRADES = Table("trades", ("natural_id",))
_MATCHING = Matching(
    "trades", "trade_id", "traded_at", ("pair", "side", "price", "quantity", "traded_at")
)


class Trades:
    """The fold of NEW_ACCOUNT_TRADE and of the trade history."""

    name = "trades"
    version = 3
    types = frozenset({"NEW_ACCOUNT_TRADE", Fetched.TRADES.value})
    tables = (TRADES,)

    def keys(self, message: Message) -> Iterable[tuple[str, Key]]:
        """Return what the fill, or the page, may have to be joined with."""
        if isinstance(message, NewAccountTrade):
            return _MATCHING.asked_of_frame(message.trade_id, message.traded_at)
        if isinstance(message, HistoryPage):
            reported = ((fill.trade_id, fill.traded_at) for _, fill in _fills(message))
            return _MATCHING.asked_of_page(reported)
        return ()

    def fold(self, rows: Rows, event: Event, message: Message) -> Sequence[Change]:
        """Return the fill as a row; of a page those that are new."""
        if is_received(event):
            if not isinstance(message, NewAccountTrade):
                raise unfoldable(message)
            return _MATCHING.of_frame(rows, _row(event, 0, message))
        if is_fetched(event) and event.type == Fetched.TRADES:
            if not isinstance(message, HistoryPage):
                raise unfoldable(message)
            reported = [_row(event, place, fill) for place, fill in _fills(message)]
            return _MATCHING.of_page(rows, reported)
        return ()


def _fills(page: HistoryPage) -> Iterable[tuple[int, NewAccountTrade]]:
    """Return the rows that can be joined: a history's rows have ids."""
    for place, row in page.rows:
        if isinstance(row, NewAccountTrade) and row.trade_id is not None:
            yield place, row


def _row(event: Event, item: int, fill: NewAccountTrade) -> Row:
    return {
        "position": event.position,
        "item": item,
        "trade_id": fill.trade_id,
        "order_id": fill.order_id,
        "customer_order_id": fill.customer_order_id,
        "pair": fill.pair,
        "side": fill.side,
        "price": fill.price,
        "quantity": fill.quantity,
        "fee": fill.fee,
        "fee_currency": fill.fee_currency,
        "traded_at": fill.traded_at,
        "received_at": event.received_at,
    }
