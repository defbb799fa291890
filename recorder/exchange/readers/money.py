"""Readers of frames about balances, fills, the history, and what comes in and goes out."""

from __future__ import annotations

from recorder.exchange.fields import FieldError, Fields, encode_value
from recorder.exchange.messages import (
    BalanceUpdate,
    Message,
    NewAccountHistoryRecord,
    NewAccountTrade,
    NewPendingReceive,
    NewPendingSend,
    SendStatusUpdate,
)


def balance(type_: str, frame: Fields) -> Message:
    """Read BALANCE_UPDATE: useless without its currency."""
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


def trade(type_: str, frame: Fields) -> Message:
    """Read NEW_ACCOUNT_TRADE; one shape names its pair outside ``data``."""
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


def history(type_: str, frame: Fields) -> Message:
    """Read NEW_ACCOUNT_HISTORY_RECORD; its additionalInfo varies, so it is kept whole as well."""
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


def receive(type_: str, frame: Fields) -> Message:
    """Read NEW_PENDING_RECEIVE."""
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


def send(type_: str, frame: Fields) -> Message:
    """Read NEW_PENDING_SEND."""
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


def send_status(type_: str, frame: Fields) -> Message:
    """Read SEND_STATUS_UPDATE."""
    data = frame.inner("data")
    return SendStatusUpdate(
        type_,
        unique_id=data.required_text("uniqueId"),
        status=data.required_text("status"),
        transaction_hash=data.text("transactionHash"),
        confirmations=data.whole("confirmations"),
        failure_reason=data.reason("failureReason"),
    )
