"""What the account channel says, as values.

One class per kind of frame; amounts are exact, times aware, codes of currencies are their short
names, sides are lower-case, status words stay as they came. A member that the exchange leaves out,
or sends as null, is None: nothing is made up. `recorder.exchange.parsing` makes them from text.

Published examples of nearly all of them are among the tests' frames; where the sources disagree
about a shape, both are read.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from attrs import frozen


@frozen
class Message:
    """What a frame says. ``type`` is the frame's own."""

    type: str


@frozen
class Unrecognised(Message):
    """A frame that can't be read, or of a type that nobody has told of; ``reason`` says which."""

    reason: str


# The connection itself


@frozen
class Authenticated(Message):
    """The exchange has accepted who we are."""


@frozen
class Control(Message):
    """SUBSCRIBED, UNSUBSCRIBED, PONG, UNSUPPORTED, ERROR and the like, with what they explain."""

    message: str | None


@frozen
class CancelOnDisconnectUpdate(Message):
    """Whether the exchange cancels all orders when the connection ends."""

    cancel_on_disconnect: bool | None


# State


@frozen
class BalanceUpdate(Message):
    """The whole balance of one currency; absolute, not a change."""

    currency: str
    available: Decimal | None
    reserved: Decimal | None
    total: Decimal | None
    lend_reserved: Decimal | None
    borrow_reserved: Decimal | None
    borrowed_amount: Decimal | None
    total_in_reference: Decimal | None
    total_in_reference_weighted: Decimal | None
    reference_currency: str | None
    updated_at: datetime | None


@frozen
class OpenOrder:
    """One order of a list. ``remaining_quantity`` is what the wire calls ``quantity``."""

    order_id: str
    customer_order_id: str | None
    pair: str | None
    side: str | None
    order_type: str | None
    status: str | None
    price: Decimal | None
    stop_price: Decimal | None
    original_quantity: Decimal | None
    remaining_quantity: Decimal | None
    filled_percentage: Decimal | None
    time_in_force: str | None
    allow_margin: bool | None
    created_at: datetime | None
    updated_at: datetime | None


@frozen
class OpenOrdersUpdate(Message):
    """All open orders of the account. ``account_id`` comes with the newer of two shapes only."""

    orders: tuple[OpenOrder, ...]
    account_id: str | None


# Orders


@frozen
class OrderProcessed(Message):
    """Whether the engine took an order."""

    order_id: str
    customer_order_id: str | None
    success: bool
    failure_reason: str | None


@frozen
class OrderStatusUpdate(Message):
    """An order's new status. ``executed_…`` are of this event, not of the order so far."""

    order_id: str
    customer_order_id: str | None
    status: str
    pair: str | None
    side: str | None
    order_type: str | None
    price: Decimal | None
    stop_price: Decimal | None
    original_quantity: Decimal | None
    remaining_quantity: Decimal | None
    executed_price: Decimal | None
    executed_quantity: Decimal | None
    executed_fee: Decimal | None
    time_in_force: str | None
    allow_margin: bool | None
    failed_reason: str | None
    created_at: datetime | None
    updated_at: datetime | None


@frozen
class FailedOrder(Message):
    """An order that failed. Only a secondary source knows it."""

    order_id: str | None
    customer_order_id: str | None
    message: str | None


@frozen
class FailedCancelOrder(Message):
    """A cancellation that failed."""

    order_id: str | None
    customer_order_id: str | None
    message: str | None


@frozen
class ModifyOrderOutcome(Message):
    """What became of a modification; ``modify_request_id`` ties it to the answer."""

    success: bool
    order_id: str | None
    customer_order_id: str | None
    modify_request_id: str | None
    reason: str | None


@frozen
class InstantOrderCompleted(Message):
    """A simple buy or sell has ended. ``executed_at`` has no zone on the wire: taken as UTC."""

    order_id: str
    success: bool
    paid_amount: Decimal | None
    paid_currency: str | None
    received_amount: Decimal | None
    received_currency: str | None
    fee_amount: Decimal | None
    fee_currency: str | None
    status: str | None
    failed_reason: str | None
    executed_at: datetime | None


# Money


@frozen
class NewAccountTrade(Message):
    """One fill. Older and secondary shapes have no ids and no fee."""

    trade_id: str | None
    order_id: str | None
    customer_order_id: str | None
    pair: str | None
    side: str | None
    price: Decimal
    quantity: Decimal
    fee: Decimal | None
    fee_currency: str | None
    traded_at: datetime | None


@frozen
class NewAccountHistoryRecord(Message):
    """One row of the transaction history. ``additional`` is its additionalInfo as JSON text."""

    transaction_id: str | None
    transaction_type: str
    description: str | None
    debit_currency: str | None
    debit_value: Decimal | None
    credit_currency: str | None
    credit_value: Decimal | None
    fee_currency: str | None
    fee_value: Decimal | None
    event_at: datetime | None
    order_id: str | None
    pair: str | None
    cost_per_coin: Decimal | None
    cost_per_coin_symbol: str | None
    additional: str | None


@frozen
class NewPendingReceive(Message):
    """A deposit on its way; sent again at each confirmation."""

    currency: str | None
    address: str | None
    transaction_hash: str
    network: str | None
    amount: Decimal | None
    confirmations: int | None
    confirmed: bool | None
    index_in_transaction: int | None
    created_at: datetime | None


@frozen
class NewPendingSend(Message):
    """A withdrawal on its way. Only a secondary source knows it."""

    unique_id: str
    currency: str | None
    address: str | None
    transaction_hash: str | None
    amount: Decimal | None
    fee: Decimal | None
    confirmations: int | None
    created_at: datetime | None


@frozen
class SendStatusUpdate(Message):
    """A withdrawal's new status."""

    unique_id: str
    status: str
    transaction_hash: str | None
    confirmations: int | None
    failure_reason: str | None


# Futures and margin


@frozen
class OpenPositionUpdate(Message):
    """A position as it stands."""

    position_id: str | None
    pair: str
    side: str | None
    quantity: Decimal | None
    realised_pnl: Decimal | None
    unrealised_pnl: Decimal | None
    average_entry_price: Decimal | None
    session_average_entry_price: Decimal | None
    total_session_entry_quantity: Decimal | None
    total_session_value: Decimal | None
    leverage_tier: int | None
    created_at: datetime | None
    updated_at: datetime | None


@frozen
class ReducePosition(Message):
    """A part of a position was closed; ``quantity`` is that part."""

    position_id: str | None
    pair: str
    side: str | None
    quantity: Decimal | None
    average_entry_price: Decimal | None
    close_price: Decimal | None
    realised_pnl: Decimal | None
    close_type: str | None
    fees: Decimal | None
    initial_margin_fraction_at_close: Decimal | None
    created_at: datetime | None


@frozen
class PositionClosed(Message):
    """A position is no more."""

    position_id: str | None
    pair: str


@frozen
class AddConditionalOrder(Message):
    """A take-profit or stop-loss order was placed."""

    order_id: str
    customer_order_id: str | None
    pair: str | None
    trigger_order_side: str | None
    trigger_order_type: str | None
    trigger_type: str | None
    conditional_type: str | None
    position_side: str | None
    position_id: str | None
    quantity: Decimal | None
    take_profit_trigger_price: Decimal | None
    take_profit_place_price: Decimal | None
    stop_loss_trigger_price: Decimal | None
    stop_loss_place_price: Decimal | None
    allow_margin: bool | None
    linked_order_id: str | None
    created_at: datetime | None
    updated_at: datetime | None


@frozen
class RemoveConditionalOrder(Message):
    """A take-profit or stop-loss order is no more."""

    order_id: str
    customer_order_id: str | None
    pair: str | None
    reason: str | None


@frozen
class LeverageUpdated(Message):
    """The leverage of a pair was set. Its fractions are JSON numbers on the wire."""

    pair: str
    leverage_multiple: Decimal | None
    initial_margin_fraction: Decimal | None
    maintenance_margin_fraction: Decimal | None
    auto_close_margin_fraction: Decimal | None
    risk_limit: Decimal | None
    risk_limit_currency: str | None
    leverage_tier: int | None


@frozen
class MarginInfo(Message):
    """The account's margin figures, by their names on the wire; they vary, so they are kept all."""

    figures: tuple[tuple[str, Decimal], ...]
    words: tuple[tuple[str, str], ...]


# Answers to commands


@frozen
class CommandError:
    """Why a command was turned down at once. ``validation_errors`` is JSON text."""

    message: str
    validation_errors: str | None = None


@frozen
class BatchOutcome:
    """What became of one request of a batch, in its place."""

    accepted: bool
    order_id: str | None
    customer_order_id: str | None
    request_type: str | None
    error: CommandError | None


@frozen
class CommandResponse(Message):
    """An answer to a command: received, which is no more than that, or turned down (``error``).

    The WebSocket's answer to a batch is not published; the REST answer's shape is expected.
    """

    client_msg_id: str | None
    order_id: str | None
    customer_order_id: str | None
    modify_request_id: str | None
    requested: bool | None
    error: CommandError | None
    outcomes: tuple[BatchOutcome, ...]
    batch_id: str | None


@frozen
class RateLimitExceeded(Message):
    """A command came too soon after others. Nothing was done."""

    client_msg_id: str | None
    request_type: str | None
