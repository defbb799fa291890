"""Readers of frames about positions, their conditional orders, leverage and margin."""

from __future__ import annotations

from recorder.exchange.fields import FieldError, Fields, Number
from recorder.exchange.messages import (
    AddConditionalOrder,
    LeverageUpdated,
    MarginInfo,
    Message,
    OpenPositionUpdate,
    PositionClosed,
    ReducePosition,
    RemoveConditionalOrder,
)


def position(type_: str, frame: Fields) -> Message:
    """Read OPEN_POSITION_UPDATE."""
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


def reduce_position(type_: str, frame: Fields) -> Message:
    """Read REDUCE_POSITION."""
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


def position_closed(type_: str, frame: Fields) -> Message:
    """Read POSITION_CLOSED."""
    data = frame.inner("data")
    return PositionClosed(type_, data.text("positionId"), _required_pair(data))


def add_conditional(type_: str, frame: Fields) -> Message:
    """Read ADD_CONDITIONAL_ORDER."""
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
        linked_order_id=data.text("linkedOrderId"),
        created_at=data.time("createdAt"),
        updated_at=data.time("updatedAt"),
    )


def remove_conditional(type_: str, frame: Fields) -> Message:
    """Read REMOVE_CONDITIONAL_ORDER."""
    data = frame.inner("data")
    return RemoveConditionalOrder(
        type_,
        order_id=data.required_text("orderId"),
        customer_order_id=data.text("customerOrderId"),
        pair=data.pair("pair", "currencyPair"),
        reason=data.reason("reason"),
    )


def leverage(type_: str, frame: Fields) -> Message:
    """Read LEVERAGE_UPDATED."""
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


def margin(type_: str, frame: Fields) -> Message:
    """Read MARGIN_INFO: every figure and every word of it, by the names on the wire."""
    data = frame.inner("data")
    words = tuple(
        (name, value)
        for name, value in data.members.items()
        if isinstance(value, str) and name.endswith("Currency")
    )
    figures = [
        (name, data.amount(name))
        for name, value in data.members.items()
        if _is_figure(value) and not name.endswith("Currency")
    ]
    stated = tuple((name, amount) for name, amount in figures if amount is not None)
    return MarginInfo(type_, stated, words)


def _is_figure(value: object) -> bool:
    return isinstance(value, (str, int, Number)) and not isinstance(value, bool)


def _required_pair(fields: Fields) -> str:
    pair = fields.pair("pair", "currencyPair", "pairSymbol")
    if pair is None:
        raise FieldError(f"{fields.path}pair is missing")
    return pair
