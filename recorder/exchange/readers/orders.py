"""Readers of frames about orders, from the list of open ones to what became of each."""

from __future__ import annotations

from recorder.exchange.fields import FieldError, Fields
from recorder.exchange.messages import (
    FailedCancelOrder,
    FailedOrder,
    InstantOrderCompleted,
    Message,
    ModifyOrderOutcome,
    OpenOrder,
    OpenOrdersUpdate,
    OrderProcessed,
    OrderStatusUpdate,
)


def open_orders(type_: str, frame: Fields) -> Message:
    """Read OPEN_ORDERS_UPDATE: a bare list, or an object with the list and an account's id."""
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


def processed(type_: str, frame: Fields) -> Message:
    """Read ORDER_PROCESSED."""
    data = frame.inner("data")
    return OrderProcessed(
        type_,
        order_id=data.required_text("orderId"),
        customer_order_id=data.text("customerOrderId"),
        success=data.required_flag("success"),
        failure_reason=data.reason("failureReason", "failedReason"),
    )


def status(type_: str, frame: Fields) -> Message:
    """Read ORDER_STATUS_UPDATE."""
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


def failed_order(type_: str, frame: Fields) -> Message:
    """Read FAILED_ORDER."""
    data = frame.inner("data")
    ids = data.text("orderId"), data.text("customerOrderId")
    return FailedOrder(type_, *ids, data.reason("message"))


def failed_cancel(type_: str, frame: Fields) -> Message:
    """Read FAILED_CANCEL_ORDER."""
    data = frame.inner("data")
    ids = data.text("orderId"), data.text("customerOrderId")
    return FailedCancelOrder(type_, *ids, data.reason("message"))


def modify_outcome(type_: str, frame: Fields) -> Message:
    """Read MODIFY_ORDER_OUTCOME."""
    data = frame.inner("data")
    return ModifyOrderOutcome(
        type_,
        success=data.required_flag("success"),
        order_id=data.text("orderId"),
        customer_order_id=data.text("customerOrderId"),
        modify_request_id=data.text("modifyRequestId"),
        # No failure has been published: these are the names that other frames use.
        reason=data.reason("failureReason", "failedReason", "message"),
    )


def instant_order(type_: str, frame: Fields) -> Message:
    """Read INSTANT_ORDER_COMPLETED."""
    data = frame.inner("data")
    return InstantOrderCompleted(
        type_,
        order_id=data.required_text("orderId"),
        success=data.required_flag("success"),
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
