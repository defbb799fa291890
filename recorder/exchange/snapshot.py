"""The state that a new connection has received so far: currencies, positions, open orders.

The `Session` decides when it is complete.

What can't be read may have named anything. Then nothing may be inferred from what was not named:
a currency whose frame is unreadable is not a currency that is no longer held.
"""

from __future__ import annotations

import json

from attrs import define, field

from recorder.exchange.messages import BalanceUpdate, OpenPositionUpdate
from recorder.exchange.parsing import parse_message


@define(eq=False)
class Snapshot:
    """What the frames of one connection have named."""

    #: The whole list of open orders was reported.
    is_listed: bool = False
    #: A list came, though it may be one that can't be read.
    is_list_received: bool = False
    _currencies: set[str] = field(factory=set)
    _positions: set[str] = field(factory=set)
    _is_balance_unread: bool = False
    _is_position_unread: bool = False

    @property
    def has_balances(self) -> bool:
        """True once a currency was named."""
        return bool(self._currencies)

    def take(self, frame_type: str, text: str) -> bool:
        """Take a frame; return whether it named something new."""
        if frame_type == "OPEN_ORDERS_UPDATE":
            self.is_list_received = True
            self.is_listed = self.is_listed or _is_full_list(_frame_content(text))
            return False
        if frame_type == "BALANCE_UPDATE":
            return self._take_balance(text)
        if frame_type == "OPEN_POSITION_UPDATE":
            return self._take_position(text)
        if not frame_type and text.strip():
            # Its content is unknown. An empty frame is known to occur, and has none.
            self._is_balance_unread = self._is_position_unread = True
        return False

    def facts(self, *, ended: bool) -> dict[str, object]:
        """Return what may be inferred; ``ended`` if nothing more was going to be named."""
        is_complete = ended and self.is_listed
        facts: dict[str, object] = {
            "complete": is_complete,
            "balances": is_complete and self.has_balances and not self._is_balance_unread,
            "open_orders": self.is_listed,
            "currencies": len(self._currencies),
        }
        return facts | ({"positions": False} if self._is_position_unread else {})

    def _take_balance(self, text: str) -> bool:
        message = parse_message("BALANCE_UPDATE", text)
        if not isinstance(message, BalanceUpdate):
            self._is_balance_unread = True
            return False
        return _add(message.currency, self._currencies)

    def _take_position(self, text: str) -> bool:
        message = parse_message("OPEN_POSITION_UPDATE", text)
        if not isinstance(message, OpenPositionUpdate):
            self._is_position_unread = True
            return False
        return _add(message.position_id or message.pair, self._positions)


def _add(name: str, named: set[str]) -> bool:
    is_new = name not in named
    named.add(name)
    return is_new


def _frame_content(text: str) -> object:
    """Return the frame's ``data`` with nothing for numbers, or None where it can't be read."""
    try:
        frame = json.loads(text, parse_int=_nothing, parse_float=_nothing)
    except (ValueError, RecursionError):
        return None
    return frame.get("data") if isinstance(frame, dict) else None


def _nothing(number: str) -> None:
    """Read no number: none matters here, and one of 10,000 digits would raise."""


def _is_full_list(content: object) -> bool:
    """Return whether every element names its order: otherwise it is no list to conclude from."""
    orders = content.get("orders") if isinstance(content, dict) else content
    return isinstance(orders, list) and all(
        isinstance(order, dict) and isinstance(order.get("orderId"), str) and order["orderId"]
        for order in orders
    )
