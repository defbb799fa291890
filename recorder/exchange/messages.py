"""Messages of the account channel, as values: one class for each kind of frame.

Amounts are exact, times are aware, codes of currencies are their short names, sides are lower-case,
status words stay as on the wire. A member that the exchange leaves out, or sends as null, is None.
`recorder.exchange.parsing` makes them from text. Published examples of nearly all of them are in
tests/frames; where sources disagree about a shape, both are read.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from attrs import field, frozen

from recorder.exchange import declared as wire
from recorder.exchange.declared import Declared
from recorder.exchange.fields import Fields


@frozen
class Message(Declared):
    """The content of a frame or fetched list. ``type`` is the frame's own."""

    type: str


@frozen
class Unrecognised(Message):
    """A frame that cannot be read, or is of an unknown type; ``reason`` states which."""

    reason: str


# The connection itself


@frozen
class Authenticated(Message):
    """The exchange has accepted our credentials."""


@frozen
class Control(Message):
    """SUBSCRIBED, UNSUBSCRIBED, PONG, UNSUPPORTED, ERROR and the like, with their text."""

    message: str | None


@frozen
class CancelOnDisconnectUpdate(Message):
    """Whether the exchange cancels all orders when the connection ends."""

    cancel_on_disconnect: bool | None = wire.flag("cancelOnDisconnect")


# State


@frozen
class BalanceUpdate(Message):
    """The whole balance of one currency; absolute, not a change."""

    currency: str = wire.required_currency("currency")
    available: Decimal | None = wire.amount("available")
    reserved: Decimal | None = wire.amount("reserved")
    total: Decimal | None = wire.amount("total")
    lend_reserved: Decimal | None = wire.detail(wire.amount("lendReserved"))
    borrow_reserved: Decimal | None = wire.detail(
        wire.amount("borrowCollateralReserved", "borrowReserved")
    )
    borrowed_amount: Decimal | None = wire.detail(wire.amount("borrowedAmount"))
    total_in_reference: Decimal | None = wire.detail(wire.amount("totalInReference"))
    total_in_reference_weighted: Decimal | None = wire.detail(
        wire.amount("totalInReferenceWeighted")
    )
    reference_currency: str | None = wire.detail(wire.currency("referenceCurrency"))
    updated_at: datetime | None = wire.time("updatedAt")


@frozen
class OpenOrder(Declared):
    """One order of a list. ``remaining_quantity`` is what the wire calls ``quantity``."""

    order_id: str = wire.required_text("orderId")
    customer_order_id: str | None = wire.text("customerOrderId")
    pair: str | None = wire.pair("currencyPair", "pair")
    side: str | None = wire.side("side", "orderSide")
    order_type: str | None = wire.detail(wire.text("type", "orderType"))
    status: str | None = wire.text("status", "orderStatusType")
    price: Decimal | None = wire.amount("price", "originalPrice")
    stop_price: Decimal | None = wire.amount("stopPrice")
    original_quantity: Decimal | None = wire.amount("originalQuantity")
    remaining_quantity: Decimal | None = wire.amount("quantity", "remainingQuantity")
    filled_percentage: Decimal | None = wire.detail(wire.amount("filledPercentage"))
    time_in_force: str | None = wire.detail(wire.text("timeInForce"))
    allow_margin: bool | None = wire.flag("allowMargin")
    created_at: datetime | None = wire.time("createdAt")
    updated_at: datetime | None = wire.time("updatedAt")


@frozen
class OpenOrdersUpdate(Message):
    """All open orders of the account. ``account_id`` comes with the newer of two shapes only."""

    orders: tuple[OpenOrder, ...]
    account_id: str | None


# Orders


@frozen
class OrderProcessed(Message):
    """Whether the engine took an order."""

    order_id: str = wire.required_text("orderId")
    customer_order_id: str | None = wire.text("customerOrderId")
    success: bool = wire.required_flag("success")
    failure_reason: str | None = wire.reason("failureReason", "failedReason")


@frozen
class OrderStatusUpdate(Message):
    """An order's new status. ``executed_…`` are of this event, not of the order so far."""

    order_id: str = wire.required_text("orderId")
    customer_order_id: str | None = wire.text("customerOrderId")
    status: str = wire.required_text("orderStatusType", "orderStatus", "status")
    pair: str | None = wire.pair("currencyPair", "pair")
    side: str | None = wire.side("orderSide", "side")
    order_type: str | None = wire.detail(wire.text("orderType", "type"))
    price: Decimal | None = wire.amount("originalPrice", "price")
    stop_price: Decimal | None = wire.amount("stopPrice")
    original_quantity: Decimal | None = wire.amount("originalQuantity")
    remaining_quantity: Decimal | None = wire.amount("remainingQuantity")
    executed_price: Decimal | None = wire.amount("executedPrice")
    executed_quantity: Decimal | None = wire.amount("executedQuantity")
    executed_fee: Decimal | None = wire.amount("executedFee")
    time_in_force: str | None = wire.detail(wire.text("timeInForce"))
    allow_margin: bool | None = wire.flag("allowMargin")
    failed_reason: str | None = wire.reason("failedReason", "failureReason")
    created_at: datetime | None = wire.time("orderCreatedAt", "createdAt")
    updated_at: datetime | None = wire.time("orderUpdatedAt", "updatedAt")


@frozen
class FailedOrder(Message):
    """An order failed. Only a secondary source documents it."""

    order_id: str | None = wire.text("orderId")
    customer_order_id: str | None = wire.text("customerOrderId")
    message: str | None = wire.reason("message")


@frozen
class FailedCancelOrder(Message):
    """A cancellation failed."""

    order_id: str | None = wire.text("orderId")
    customer_order_id: str | None = wire.text("customerOrderId")
    message: str | None = wire.reason("message")


@frozen
class ModifyOrderOutcome(Message):
    """The outcome of a modification; ``modify_request_id`` ties it to the answer."""

    success: bool = wire.required_flag("success")
    order_id: str | None = wire.text("orderId")
    customer_order_id: str | None = wire.text("customerOrderId")
    modify_request_id: str | None = wire.text("modifyRequestId")
    reason: str | None = wire.reason("failureReason", "failedReason", "message")


@frozen
class InstantOrderCompleted(Message):
    """A simple buy or sell has ended. ``executed_at`` has no zone on the wire: taken as UTC."""

    order_id: str = wire.required_text("orderId")
    success: bool = wire.required_flag("success")
    paid_amount: Decimal | None = wire.amount("paidAmount")
    paid_currency: str | None = wire.currency("paidCurrency")
    received_amount: Decimal | None = wire.amount("receivedAmount")
    received_currency: str | None = wire.currency("receivedCurrency")
    fee_amount: Decimal | None = wire.amount("feeAmount")
    fee_currency: str | None = wire.currency("feeCurrency")
    status: str | None = wire.detail(wire.text("orderStatusType"))
    failed_reason: str | None = wire.reason("failedReason", "failureReason")
    executed_at: datetime | None = wire.time("orderExecutedAt")


# Money


@frozen
class NewAccountTrade(Message):
    """One fill. Older and secondary shapes have no ids and no fee."""

    trade_id: str | None = wire.text("id")
    order_id: str | None = wire.text("orderId")
    customer_order_id: str | None = wire.text("customerOrderId")
    pair: str | None = wire.pair("currencyPair")
    side: str | None = wire.side("side")
    price: Decimal = wire.required_amount("price")
    quantity: Decimal = wire.required_amount("quantity")
    fee: Decimal | None = wire.amount("fee")
    fee_currency: str | None = wire.currency("feeCurrency")
    traded_at: datetime | None = wire.time("tradedAt")


@frozen
class NewAccountHistoryRecord(Message):
    """One row of the transaction history. ``additional`` is its additionalInfo as JSON text."""

    transaction_id: str | None = wire.text("id")
    transaction_type: str = wire.of_type(Fields.required_text, "type")
    description: str | None = wire.detail(wire.of_type(Fields.text, "description"))
    debit_currency: str | None = wire.currency("debitCurrency")
    debit_value: Decimal | None = wire.amount("debitValue")
    credit_currency: str | None = wire.currency("creditCurrency")
    credit_value: Decimal | None = wire.amount("creditValue")
    fee_currency: str | None = wire.currency("feeCurrency")
    fee_value: Decimal | None = wire.amount("feeValue")
    event_at: datetime | None = wire.time("eventAt")
    order_id: str | None = wire.of_additional(Fields.text, "orderId")
    pair: str | None = wire.of_additional(Fields.pair, "currencyPairSymbol")
    cost_per_coin: Decimal | None = wire.of_additional(Fields.amount, "costPerCoin")
    cost_per_coin_symbol: str | None = wire.of_additional(Fields.text, "costPerCoinSymbol")
    additional: str | None = wire.json_text("additionalInfo")


@frozen
class NewPendingReceive(Message):
    """A deposit on its way; sent again at each confirmation."""

    currency: str | None = wire.currency("currency", "currencyCode")
    address: str | None = wire.detail(wire.text("receiveAddress", "address"))
    transaction_hash: str = wire.required_text("transactionHash")
    network: str | None = wire.detail(wire.text("networkType"))
    amount: Decimal | None = wire.amount("amount")
    confirmations: int | None = wire.detail(wire.whole("confirmations"))
    confirmed: bool | None = wire.flag("confirmed")
    index_in_transaction: int | None = wire.whole("indexInTx")
    created_at: datetime | None = wire.time("createdAt")


@frozen
class NewPendingSend(Message):
    """A withdrawal on its way. Only a secondary source documents it."""

    unique_id: str = wire.required_text("uniqueId")
    currency: str | None = wire.currency("currency")
    address: str | None = wire.detail(wire.text("sendAddress"))
    transaction_hash: str | None = wire.detail(wire.text("transactionHash"))
    amount: Decimal | None = wire.amount("amount")
    fee: Decimal | None = wire.amount("feeAmount")
    confirmations: int | None = wire.detail(wire.whole("confirmations"))
    created_at: datetime | None = wire.time("createdAt")


@frozen
class SendStatusUpdate(Message):
    """A withdrawal's new status."""

    unique_id: str = wire.required_text("uniqueId")
    status: str = wire.required_text("status")
    transaction_hash: str | None = wire.detail(wire.text("transactionHash"))
    confirmations: int | None = wire.detail(wire.whole("confirmations"))
    failure_reason: str | None = wire.reason("failureReason")


# Futures and margin


@frozen
class OpenPositionUpdate(Message):
    """The present state of a position."""

    position_id: str | None = wire.text("positionId")
    pair: str = wire.required_pair("pair", "currencyPair", "pairSymbol")
    side: str | None = wire.side("side")
    quantity: Decimal | None = wire.amount("quantity")
    realised_pnl: Decimal | None = wire.amount("realisedPnl")
    unrealised_pnl: Decimal | None = wire.detail(wire.amount("unrealisedPnl"))
    average_entry_price: Decimal | None = wire.amount("averageEntryPrice")
    session_average_entry_price: Decimal | None = wire.detail(
        wire.amount("sessionAverageEntryPrice")
    )
    total_session_entry_quantity: Decimal | None = wire.detail(
        wire.amount("totalSessionEntryQuantity")
    )
    total_session_value: Decimal | None = wire.detail(wire.amount("totalSessionValue"))
    leverage_tier: int | None = wire.detail(wire.whole("leverageTier"))
    created_at: datetime | None = wire.time("createdAt")
    updated_at: datetime | None = wire.time("updatedAt")


@frozen
class ReducePosition(Message):
    """A part of a position was closed; ``quantity`` is that part."""

    position_id: str | None = wire.text("positionId")
    pair: str = wire.required_pair("pair", "currencyPair", "pairSymbol")
    side: str | None = wire.side("orderSide", "side")
    quantity: Decimal | None = wire.amount("quantity")
    average_entry_price: Decimal | None = wire.amount("averageEntryPrice")
    close_price: Decimal | None = wire.amount("closePrice")
    realised_pnl: Decimal | None = wire.amount("realisedPnl")
    close_type: str | None = wire.detail(wire.text("closeType"))
    fees: Decimal | None = wire.amount("fees")
    initial_margin_fraction_at_close: Decimal | None = wire.detail(
        wire.amount("initialMarginFractionAtClose")
    )
    created_at: datetime | None = wire.time("createdAt")


@frozen
class PositionClosed(Message):
    """A position is closed."""

    position_id: str | None = wire.text("positionId")
    pair: str = wire.required_pair("pair", "currencyPair", "pairSymbol")


@frozen
class AddConditionalOrder(Message):
    """A take-profit or stop-loss order was placed."""

    order_id: str = wire.required_text("orderId")
    customer_order_id: str | None = wire.text("customerOrderId")
    pair: str | None = wire.pair("currencyPair", "pair")
    trigger_order_side: str | None = wire.side("triggerOrderSide")
    trigger_order_type: str | None = wire.text("triggerOrderType")
    trigger_type: str | None = wire.text("triggerType")
    conditional_type: str | None = wire.text("conditionalType")
    position_side: str | None = wire.side("positionSide")
    position_id: str | None = wire.text("positionId")
    quantity: Decimal | None = wire.amount("quantity")
    take_profit_trigger_price: Decimal | None = wire.amount("takeProfitTriggerPrice")
    take_profit_place_price: Decimal | None = wire.amount("takeProfitPlacePrice")
    stop_loss_trigger_price: Decimal | None = wire.amount("stopLossTriggerPrice")
    stop_loss_place_price: Decimal | None = wire.amount("stopLossPlacePrice")
    allow_margin: bool | None = wire.flag("allowMargin")
    linked_order_id: str | None = wire.text("linkedOrderId")
    created_at: datetime | None = wire.time("createdAt")
    updated_at: datetime | None = wire.time("updatedAt")


@frozen
class RemoveConditionalOrder(Message):
    """A take-profit or stop-loss order is gone."""

    order_id: str = wire.required_text("orderId")
    customer_order_id: str | None = wire.text("customerOrderId")
    pair: str | None = wire.pair("pair", "currencyPair")
    reason: str | None = wire.reason("reason")


@frozen
class LeverageUpdated(Message):
    """The leverage of a pair was set. Its fractions are JSON numbers on the wire."""

    pair: str = wire.required_pair("pair", "currencyPair", "pairSymbol")
    leverage_multiple: Decimal | None = wire.amount("leverageMultiple")
    initial_margin_fraction: Decimal | None = wire.detail(wire.amount("initialMarginFraction"))
    maintenance_margin_fraction: Decimal | None = wire.detail(
        wire.amount("maintenanceMarginFraction")
    )
    auto_close_margin_fraction: Decimal | None = wire.detail(wire.amount("autoCloseMarginFraction"))
    risk_limit: Decimal | None = wire.detail(wire.amount("riskLimit"))
    risk_limit_currency: str | None = wire.detail(wire.currency("riskLimitCurrency"))
    leverage_tier: int | None = wire.detail(wire.whole("leverageTier"))


@frozen
class MarginInfo(Message):
    """The account's margin figures, all of them, by their names on the wire."""

    figures: tuple[tuple[str, Decimal], ...]
    words: tuple[tuple[str, str], ...]


# Answers to commands


@frozen
class CommandError:
    """Why a command was refused at once. ``validation_errors`` is JSON text."""

    message: str
    validation_errors: str | None = None


@frozen
class BatchOutcome(Declared):
    """The outcome of one request of a batch."""

    accepted: bool = wire.required_flag("accepted")
    order_id: str | None = wire.text("orderId")
    customer_order_id: str | None = wire.text("customerOrderId")
    request_type: str | None = wire.detail(wire.text("requestType"))
    error: CommandError | None = field(default=None, kw_only=True)


@frozen
class CommandResponse(Message):
    """An answer to a command: received, or refused (``error``).

    The WebSocket's answer to a batch is not published; the REST answer's shape is expected.
    """

    client_msg_id: str | None = wire.text("clientMsgId")
    order_id: str | None = wire.within("data", Fields.text, "orderId")
    customer_order_id: str | None = wire.within("data", Fields.text, "customerOrderId")
    modify_request_id: str | None = wire.within("data", Fields.text, "modifyRequestId")
    requested: bool | None = wire.detail(wire.within("data", Fields.flag, "requested"))
    batch_id: str | None = wire.within("data", Fields.text, "batchId")
    error: CommandError | None = field(default=None, kw_only=True)
    outcomes: tuple[BatchOutcome, ...] = field(default=(), kw_only=True)


@frozen
class RateLimitExceeded(Message):
    """A command came too soon after others. Nothing was done."""

    client_msg_id: str | None
    request_type: str | None
