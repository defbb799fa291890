"""From a frame's text to a message: one reader per type, in one table.

Nothing raises: what can't be read becomes `Unrecognised`, with the member that was in the way, and
stays in the log whatever it was. Members that nobody has told of are passed by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from recorder.exchange.fields import FieldError, Fields, Number, decode_object, encode_value
from recorder.exchange.messages import (
    AddConditionalOrder,
    Authenticated,
    BalanceUpdate,
    BatchOutcome,
    CancelOnDisconnectUpdate,
    CommandError,
    CommandResponse,
    Control,
    FailedCancelOrder,
    FailedOrder,
    InstantOrderCompleted,
    LeverageUpdated,
    MarginInfo,
    Message,
    ModifyOrderOutcome,
    NewAccountHistoryRecord,
    NewAccountTrade,
    NewPendingReceive,
    NewPendingSend,
    OpenOrder,
    OpenOrdersUpdate,
    OpenPositionUpdate,
    OrderProcessed,
    OrderStatusUpdate,
    PositionClosed,
    RateLimitExceeded,
    ReducePosition,
    RemoveConditionalOrder,
    SendStatusUpdate,
    Unrecognised,
)

RESPONSE_SUFFIX = "_WS_RESPONSE"
INVALID_PREFIX = "INVALID_"

Reader = Callable[[str, Fields], Message]


def parse_message(type_: str, text: str) -> Message:
    """Return what the frame says; ``type_`` is what `frame_type` found in it. Never raises."""
    reader = _READERS.get(type_)
    if reader is None and type_.endswith(RESPONSE_SUFFIX):
        reader = _response
    elif reader is None and type_.startswith(INVALID_PREFIX):
        reader = _invalid
    if reader is None:
        return Unrecognised(type_, "no JSON object with a type" if not type_ else "unknown type")
    try:
        return reader(type_, Fields(decode_object(text)))
    except FieldError as error:
        return Unrecognised(type_, str(error))


# Control


def _authenticated(type_: str, _frame: Fields) -> Message:
    return Authenticated(type_)


def _control(type_: str, frame: Fields) -> Message:
    message = frame.find("message")
    return Control(type_, message if isinstance(message, str) else None)


def _cancel_on_disconnect(type_: str, frame: Fields) -> Message:
    return CancelOnDisconnectUpdate(type_, frame.inner("data").flag("cancelOnDisconnect"))


# State


def _balance(type_: str, frame: Fields) -> Message:
    data = frame.inner("data")
    currency = data.currency("currency")
    if currency is None:
        raise FieldError("data.currency names no currency")
    return BalanceUpdate(
        type_,
        currency,
        available=data.amount("available"),
        reserved=data.amount("reserved"),
        total=data.amount("total"),
        lend_reserved=data.amount("lendReserved"),
        borrow_reserved=data.amount("borrowCollateralReserved", "borrowReserved"),
        borrowed_amount=data.amount("borrowedAmount"),
        total_in_reference=data.amount("totalInReference"),
        total_in_reference_weighted=data.amount("totalInReferenceWeighted"),
        reference_currency=data.currency("referenceCurrency"),
        updated_at=data.time("updatedAt"),
    )


def _open_orders(type_: str, frame: Fields) -> Message:
    data, account_id = frame.find("data"), None
    if isinstance(data, dict):
        holder = Fields(data, "data.")
        data, account_id = holder.find("orders"), holder.text("accountId")
    if not isinstance(data, list):
        raise FieldError("data holds no list of orders")
    orders = tuple(_open_order(element, place) for place, element in enumerate(data))
    return OpenOrdersUpdate(type_, orders, account_id)


def _open_order(element: object, place: int) -> OpenOrder:
    if not isinstance(element, dict):
        raise FieldError(f"data[{place}] is no JSON object")
    order = Fields(element, f"data[{place}].")
    return OpenOrder(
        order_id=order.required_text("orderId"),
        customer_order_id=order.text("customerOrderId"),
        pair=order.pair("currencyPair", "pair"),
        side=order.side("side", "orderSide"),
        order_type=order.text("type", "orderType"),
        status=order.text("status", "orderStatusType"),
        price=order.amount("price", "originalPrice"),
        stop_price=order.amount("stopPrice"),
        original_quantity=order.amount("originalQuantity"),
        remaining_quantity=order.amount("quantity", "remainingQuantity"),
        filled_percentage=order.amount("filledPercentage"),
        time_in_force=order.text("timeInForce"),
        allow_margin=order.flag("allowMargin"),
        created_at=order.time("createdAt"),
        updated_at=order.time("updatedAt"),
    )


# Orders


def _processed(type_: str, frame: Fields) -> Message:
    data = frame.inner("data")
    return OrderProcessed(
        type_,
        order_id=data.required_text("orderId"),
        customer_order_id=data.text("customerOrderId"),
        success=_required_flag(data, "success"),
        failure_reason=data.reason("failureReason", "failedReason"),
    )


def _status(type_: str, frame: Fields) -> Message:
    data = frame.inner("data")
    return OrderStatusUpdate(
        type_,
        order_id=data.required_text("orderId"),
        customer_order_id=data.text("customerOrderId"),
        status=data.required_text("orderStatusType", "orderStatus", "status"),
        pair=data.pair("currencyPair", "pair"),
        side=data.side("orderSide", "side"),
        order_type=data.text("orderType", "type"),
        price=data.amount("originalPrice", "price"),
        stop_price=data.amount("stopPrice"),
        original_quantity=data.amount("originalQuantity"),
        remaining_quantity=data.amount("remainingQuantity"),
        executed_price=data.amount("executedPrice"),
        executed_quantity=data.amount("executedQuantity"),
        executed_fee=data.amount("executedFee"),
        time_in_force=data.text("timeInForce"),
        allow_margin=data.flag("allowMargin"),
        failed_reason=data.reason("failedReason", "failureReason"),
        created_at=data.time("orderCreatedAt", "createdAt"),
        updated_at=data.time("orderUpdatedAt", "updatedAt"),
    )


def _failed_order(type_: str, frame: Fields) -> Message:
    data = frame.inner("data")
    ids = data.text("orderId"), data.text("customerOrderId")
    return FailedOrder(type_, *ids, data.reason("message"))


def _failed_cancel(type_: str, frame: Fields) -> Message:
    data = frame.inner("data")
    ids = data.text("orderId"), data.text("customerOrderId")
    return FailedCancelOrder(type_, *ids, data.reason("message"))


def _modify_outcome(type_: str, frame: Fields) -> Message:
    data = frame.inner("data")
    return ModifyOrderOutcome(
        type_,
        success=_required_flag(data, "success"),
        order_id=data.text("orderId"),
        customer_order_id=data.text("customerOrderId"),
        modify_request_id=data.text("modifyRequestId"),
        # No failure has been published: these are the names that other frames use.
        reason=data.reason("failureReason", "failedReason", "message"),
    )


def _instant_order(type_: str, frame: Fields) -> Message:
    data = frame.inner("data")
    return InstantOrderCompleted(
        type_,
        order_id=data.required_text("orderId"),
        success=_required_flag(data, "success"),
        paid_amount=data.amount("paidAmount"),
        paid_currency=data.currency("paidCurrency"),
        received_amount=data.amount("receivedAmount"),
        received_currency=data.currency("receivedCurrency"),
        fee_amount=data.amount("feeAmount"),
        fee_currency=data.currency("feeCurrency"),
        status=data.text("orderStatusType"),
        failed_reason=data.reason("failedReason", "failureReason"),
        executed_at=data.time("orderExecutedAt"),
    )


# Money


def _trade(type_: str, frame: Fields) -> Message:
    data = frame.inner("data")
    return NewAccountTrade(
        type_,
        trade_id=data.text("id"),
        order_id=data.text("orderId"),
        customer_order_id=data.text("customerOrderId"),
        pair=data.pair("currencyPair") or frame.text("currencyPairSymbol"),
        side=data.side("side"),
        price=data.required_amount("price"),
        quantity=data.required_amount("quantity"),
        fee=data.amount("fee"),
        fee_currency=data.currency("feeCurrency"),
        traded_at=data.time("tradedAt"),
    )


def _history(type_: str, frame: Fields) -> Message:
    data = frame.inner("data")
    kind = data.inner("transactionType")
    additional = data.find("additionalInfo")
    more = Fields(additional if isinstance(additional, dict) else {}, "data.additionalInfo.")
    return NewAccountHistoryRecord(
        type_,
        transaction_id=data.text("id"),
        transaction_type=kind.required_text("type"),
        description=kind.text("description"),
        debit_currency=data.currency("debitCurrency"),
        debit_value=data.amount("debitValue"),
        credit_currency=data.currency("creditCurrency"),
        credit_value=data.amount("creditValue"),
        fee_currency=data.currency("feeCurrency"),
        fee_value=data.amount("feeValue"),
        event_at=data.time("eventAt"),
        order_id=more.text("orderId"),
        pair=more.pair("currencyPairSymbol"),
        cost_per_coin=more.amount("costPerCoin"),
        cost_per_coin_symbol=more.text("costPerCoinSymbol"),
        additional=None if additional is None else encode_value(additional),
    )


def _receive(type_: str, frame: Fields) -> Message:
    data = frame.inner("data")
    return NewPendingReceive(
        type_,
        currency=data.currency("currency"),
        address=data.text("receiveAddress"),
        transaction_hash=data.required_text("transactionHash"),
        network=data.text("networkType"),
        amount=data.amount("amount"),
        confirmations=data.whole("confirmations"),
        confirmed=data.flag("confirmed"),
        index_in_transaction=data.whole("indexInTx"),
        created_at=data.time("createdAt"),
    )


def _send(type_: str, frame: Fields) -> Message:
    data = frame.inner("data")
    return NewPendingSend(
        type_,
        unique_id=data.required_text("uniqueId"),
        currency=data.currency("currency"),
        address=data.text("sendAddress"),
        transaction_hash=data.text("transactionHash"),
        amount=data.amount("amount"),
        fee=data.amount("feeAmount"),
        confirmations=data.whole("confirmations"),
        created_at=data.time("createdAt"),
    )


def _send_status(type_: str, frame: Fields) -> Message:
    data = frame.inner("data")
    return SendStatusUpdate(
        type_,
        unique_id=data.required_text("uniqueId"),
        status=data.required_text("status"),
        transaction_hash=data.text("transactionHash"),
        confirmations=data.whole("confirmations"),
        failure_reason=data.reason("failureReason"),
    )


# Futures and margin


def _position(type_: str, frame: Fields) -> Message:
    data = frame.inner("data")
    return OpenPositionUpdate(
        type_,
        position_id=data.text("positionId"),
        pair=_required_pair(data),
        side=data.side("side"),
        quantity=data.amount("quantity"),
        realised_pnl=data.amount("realisedPnl"),
        unrealised_pnl=data.amount("unrealisedPnl"),
        average_entry_price=data.amount("averageEntryPrice"),
        session_average_entry_price=data.amount("sessionAverageEntryPrice"),
        total_session_entry_quantity=data.amount("totalSessionEntryQuantity"),
        total_session_value=data.amount("totalSessionValue"),
        leverage_tier=data.whole("leverageTier"),
        created_at=data.time("createdAt"),
        updated_at=data.time("updatedAt"),
    )


def _reduce_position(type_: str, frame: Fields) -> Message:
    data = frame.inner("data")
    return ReducePosition(
        type_,
        position_id=data.text("positionId"),
        pair=_required_pair(data),
        side=data.side("orderSide", "side"),
        quantity=data.amount("quantity"),
        average_entry_price=data.amount("averageEntryPrice"),
        close_price=data.amount("closePrice"),
        realised_pnl=data.amount("realisedPnl"),
        close_type=data.text("closeType"),
        fees=data.amount("fees"),
        initial_margin_fraction_at_close=data.amount("initialMarginFractionAtClose"),
        created_at=data.time("createdAt"),
    )


def _position_closed(type_: str, frame: Fields) -> Message:
    data = frame.inner("data")
    return PositionClosed(type_, data.text("positionId"), _required_pair(data))


def _add_conditional(type_: str, frame: Fields) -> Message:
    data = frame.inner("data")
    return AddConditionalOrder(
        type_,
        order_id=data.required_text("orderId"),
        customer_order_id=data.text("customerOrderId"),
        pair=data.pair("currencyPair", "pair"),
        trigger_order_side=data.side("triggerOrderSide"),
        trigger_order_type=data.text("triggerOrderType"),
        trigger_type=data.text("triggerType"),
        conditional_type=data.text("conditionalType"),
        position_side=data.side("positionSide"),
        position_id=data.text("positionId"),
        quantity=data.amount("quantity"),
        take_profit_trigger_price=data.amount("takeProfitTriggerPrice"),
        take_profit_place_price=data.amount("takeProfitPlacePrice"),
        stop_loss_trigger_price=data.amount("stopLossTriggerPrice"),
        stop_loss_place_price=data.amount("stopLossPlacePrice"),
        allow_margin=data.flag("allowMargin"),
        created_at=data.time("createdAt"),
        updated_at=data.time("updatedAt"),
    )


def _remove_conditional(type_: str, frame: Fields) -> Message:
    data = frame.inner("data")
    return RemoveConditionalOrder(
        type_,
        order_id=data.required_text("orderId"),
        customer_order_id=data.text("customerOrderId"),
        pair=data.pair("pair", "currencyPair"),
        reason=data.reason("reason"),
    )


def _leverage(type_: str, frame: Fields) -> Message:
    data = frame.inner("data")
    return LeverageUpdated(
        type_,
        pair=_required_pair(data),
        leverage_multiple=data.amount("leverageMultiple"),
        initial_margin_fraction=data.amount("initialMarginFraction"),
        maintenance_margin_fraction=data.amount("maintenanceMarginFraction"),
        auto_close_margin_fraction=data.amount("autoCloseMarginFraction"),
        risk_limit=data.amount("riskLimit"),
        risk_limit_currency=data.currency("riskLimitCurrency"),
        leverage_tier=data.whole("leverageTier"),
    )


def _margin(type_: str, frame: Fields) -> Message:
    data = frame.inner("data")
    words = tuple(
        (name, value)
        for name, value in data.members.items()
        if isinstance(value, str) and name.endswith("Currency")
    )
    figures = [
        (name, data.amount(name))
        for name, value in data.members.items()
        if isinstance(value, (str, Number)) and not name.endswith("Currency")
    ]
    stated = tuple((name, amount) for name, amount in figures if amount is not None)
    return MarginInfo(type_, stated, words)


# Answers to commands


def _response(type_: str, frame: Fields) -> Message:
    data = frame.find("data")
    inner = Fields(data, "data.") if isinstance(data, dict) else Fields({}, "data.")
    return CommandResponse(
        type_,
        client_msg_id=frame.text("clientMsgId"),
        order_id=inner.text("orderId"),
        customer_order_id=inner.text("customerOrderId"),
        modify_request_id=inner.text("modifyRequestId"),
        requested=inner.flag("requested"),
        error=_error(frame),
        outcomes=_outcomes(inner),
        batch_id=inner.text("batchId"),
    )


def _invalid(type_: str, frame: Fields) -> Message:
    """Read an INVALID_… answer: turned down at validation, whatever it says of the reason."""
    data = frame.find("data")
    inner = Fields(data, "data.") if isinstance(data, dict) else frame
    ids = frame.text("clientMsgId") or inner.text("clientMsgId")
    error = _error(frame) or _error(inner) or CommandError(_plain(inner) or type_)
    return CommandResponse(type_, ids, None, None, None, None, error, (), None)


def _error(frame: Fields) -> CommandError | None:
    error = frame.find("error")
    if error is None:
        return None
    if not isinstance(error, dict):
        return CommandError(error if isinstance(error, str) else encode_value(error))
    inner = Fields(error, "error.")
    details = inner.find("validationErrors")
    return CommandError(
        inner.text("message") or inner.text("code") or "the exchange gave no reason",
        None if details is None else encode_value(details),
    )


def _plain(inner: Fields) -> str | None:
    message = inner.find("message", "reason")
    return message if isinstance(message, str) else None


def _outcomes(inner: Fields) -> tuple[BatchOutcome, ...]:
    listed = inner.find("outcomes")
    if listed is None:
        return ()
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise FieldError("data.outcomes is no list of objects")
    outcomes = [Fields(each, f"data.outcomes[{place}].") for place, each in enumerate(listed)]
    return tuple(
        BatchOutcome(
            accepted=_required_flag(outcome, "accepted"),
            order_id=outcome.text("orderId"),
            customer_order_id=outcome.text("customerOrderId"),
            request_type=outcome.text("requestType"),
            error=_error(outcome),
        )
        for outcome in outcomes
    )


def _rate_limit(type_: str, frame: Fields) -> Message:
    data = frame.find("data")
    inner = Fields(data if isinstance(data, dict) else {}, "data.")
    return RateLimitExceeded(type_, frame.text("clientMsgId"), inner.text("requestType"))


def _required_flag(fields: Fields, name: str) -> bool:
    value = fields.flag(name)
    if value is None:
        raise FieldError(f"{fields.path}{name} is missing")
    return value


def _required_pair(fields: Fields) -> str:
    pair = fields.pair("pair", "currencyPair", "pairSymbol")
    if pair is None:
        raise FieldError(f"{fields.path}pair is missing")
    return pair


_READERS: Mapping[str, Reader] = {
    "AUTHENTICATED": _authenticated,
    "SUBSCRIBED": _control,
    "UNSUBSCRIBED": _control,
    "PONG": _control,
    "NO_SUBSCRIPTIONS": _control,
    "UNSUPPORTED": _control,
    "ERROR": _control,
    "CANCEL_ON_DISCONNECT_UPDATE": _cancel_on_disconnect,
    "BALANCE_UPDATE": _balance,
    "OPEN_ORDERS_UPDATE": _open_orders,
    "ORDER_PROCESSED": _processed,
    "ORDER_STATUS_UPDATE": _status,
    "FAILED_ORDER": _failed_order,
    "FAILED_CANCEL_ORDER": _failed_cancel,
    "MODIFY_ORDER_OUTCOME": _modify_outcome,
    "INSTANT_ORDER_COMPLETED": _instant_order,
    "NEW_ACCOUNT_TRADE": _trade,
    "NEW_ACCOUNT_HISTORY_RECORD": _history,
    "NEW_PENDING_RECEIVE": _receive,
    "NEW_PENDING_SEND": _send,
    "SEND_STATUS_UPDATE": _send_status,
    "OPEN_POSITION_UPDATE": _position,
    "REDUCE_POSITION": _reduce_position,
    "POSITION_CLOSED": _position_closed,
    "ADD_CONDITIONAL_ORDER": _add_conditional,
    "REMOVE_CONDITIONAL_ORDER": _remove_conditional,
    "LEVERAGE_UPDATED": _leverage,
    "MARGIN_INFO": _margin,
    "RATE_LIMIT_EXCEEDED": _rate_limit,
}
