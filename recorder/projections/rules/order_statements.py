"""What the exchange's words state of an order: from messages to statements and states. Pure.

Its words for a status come in several spellings ("Partially Filled", "PartiallyFilled", "placed"),
so case, spaces and underscores don't count. An unknown word leaves the state unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from attrs import field, frozen

from recorder.exchange.lists import RestOrder
from recorder.exchange.messages import (
    CommandResponse,
    FailedOrder,
    InstantOrderCompleted,
    Message,
    OpenOrder,
    OrderProcessed,
    OrderStatusUpdate,
)
from recorder.projections.rules.open_orders import order_terms


@frozen
class Execution:
    """What one statement reports was executed in it."""

    price: Decimal | None
    quantity: Decimal | None
    fee: Decimal | None


@frozen
class Totals:
    """What all executions of an order came to so far. ``value`` is price times quantity."""

    quantity: Decimal
    value: Decimal
    fee: Decimal | None


@frozen
class Statement:
    """The report of one frame on one order. ``terms`` are columns; None among them is "not
    reported".
    """

    order_id: str
    state: str
    terms: Mapping[str, Any]
    execution: Execution | None = None
    reason: str | None = None
    listed: bool | None = None
    totals: Totals | None = None

    @property
    def updated_at(self) -> datetime | None:
        """When it became so, if the exchange reports."""
        moment: datetime | None = self.terms.get("updated_at")
        return moment

    answer: Mapping[str, Any] = field(init=False)

    @answer.default
    def _described(self) -> Mapping[str, Any]:
        return {name: value for name, value in self.terms.items() if value is not None}


def statement_of(message: Message) -> Statement | None:
    """Return what the message states of one order; None if it states nothing."""
    match message:
        case OrderStatusUpdate():
            return _status_statement(message)
        case OrderProcessed():
            state = OPEN if message.success else FAILED
            name = {"customer_order_id": message.customer_order_id}
            return Statement(message.order_id, state, name, reason=message.failure_reason)
        case CommandResponse(order_id=str(order_id), error=None):
            return Statement(order_id, RECEIVED, {"customer_order_id": message.customer_order_id})
        case FailedOrder(order_id=str(order_id)):
            name = {"customer_order_id": message.customer_order_id}
            return Statement(order_id, FAILED, name, reason=message.message)
        case InstantOrderCompleted():
            return _instant_statement(message)
    return None


def _status_statement(message: OrderStatusUpdate) -> Statement:
    terms = {
        "customer_order_id": message.customer_order_id,
        "pair": message.pair,
        "side": message.side,
        "type": message.order_type,
        "time_in_force": message.time_in_force,
        "allow_margin": message.allow_margin,
        "price": message.price,
        "stop_price": message.stop_price,
        "original_quantity": message.original_quantity,
        "remaining_quantity": message.remaining_quantity,
        "status": message.status,
        "created_at": message.created_at,
        "updated_at": message.updated_at,
    }
    execution = None
    if message.executed_quantity:
        execution = Execution(
            message.executed_price, message.executed_quantity, message.executed_fee
        )
    state = state_of(message.status)
    return Statement(message.order_id, state, terms, execution, message.failed_reason)


def _instant_statement(message: InstantOrderCompleted) -> Statement:
    terms = {
        "type": "simple",
        "status": message.status or ("Instant Order Completed" if message.success else None),
        "updated_at": message.executed_at,
        "fee": message.fee_amount,
        "fee_currency": message.fee_currency,
    }
    state = FILLED if message.success else FAILED
    return Statement(message.order_id, state, terms, reason=message.failed_reason)


def listed_statement(order: OpenOrder) -> Statement:
    """Return what a full list states of an order in it."""
    state = state_of(order.status) if order.status else OPEN
    return Statement(order.order_id, state, order_terms(order), listed=True)


def rest_statement(order: RestOrder) -> Statement:
    """Return what the order history states: the latest state, and what all executions came to."""
    terms = {
        "customer_order_id": order.customer_order_id,
        "pair": order.pair,
        "side": order.side,
        "type": order.order_type,
        "time_in_force": order.time_in_force,
        "allow_margin": order.allow_margin,
        "price": order.price,
        "stop_price": order.stop_price,
        "original_quantity": order.original_quantity,
        "remaining_quantity": order.remaining_quantity,
        "status": order.status,
        "created_at": order.created_at,
        "updated_at": order.updated_at,
        "fee_currency": order.fee_currency,
    }
    state = state_of(order.status) if order.status else UNKNOWN
    totals = None
    if order.total_executed_quantity and order.total is not None:
        totals = Totals(order.total_executed_quantity, order.total, order.total_fee)
    return Statement(order.order_id, state, terms, reason=order.failed_reason, totals=totals)


RECEIVED = "received"  # the exchange has the request, no more is known
UNKNOWN = "unknown"  # it exists, in an unknown state
OPEN = "open"
PARTIALLY_FILLED = "partially_filled"
FILLED = "filled"
CANCELLED = "cancelled"
FAILED = "failed"
EXPIRED = "expired"
END_UNKNOWN = "end_unknown"  # no longer open; the final state is unknown

#: How far on a state lies; at the same time of the exchange, further on wins.
RANKS = {
    RECEIVED: 0,
    UNKNOWN: 0,
    OPEN: 1,
    PARTIALLY_FILLED: 2,
    END_UNKNOWN: 3,
    FILLED: 4,
    CANCELLED: 4,
    FAILED: 4,
    EXPIRED: 4,
}
STATES = tuple(RANKS)
_LIVE = frozenset({RECEIVED, UNKNOWN, OPEN, PARTIALLY_FILLED})

_WORDS = {
    "placed": OPEN,
    "active": OPEN,
    "ordermodified": OPEN,
    "orderpricehasbeenmodifiedduetoslippagelimits": OPEN,
    "repricedduetoslippage": OPEN,
    "instantorderbalancereserved": OPEN,
    "partiallyfilled": PARTIALLY_FILLED,
    "filled": FILLED,
    "instantordercompleted": FILLED,
    "liquidationorderfilled": FILLED,
    "cancelled": CANCELLED,
    "canceled": CANCELLED,
    "partiallyfilledandcancelledduetoslippage": CANCELLED,
    "partiallyfilledduetoslippage": CANCELLED,
    "instantorderreversed": CANCELLED,
    "failed": FAILED,
    "instantorderbalancereservefailed": FAILED,
    "expired": EXPIRED,
}


def state_of(status: str) -> str:
    """Return the state that the exchange's word means; `UNKNOWN` for an unknown word."""
    return _WORDS.get("".join(status.replace("_", " ").split()).lower(), UNKNOWN)


def is_live(state: str) -> bool:
    """Return whether an order in this state may still be executed."""
    return state in _LIVE
