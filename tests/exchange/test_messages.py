"""What each kind of frame reports, member by member, of frames as they were published."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import attrs
import pytest

from recorder.exchange.amounts import canonical_amount
from recorder.exchange.messages import (
    AddConditionalOrder,
    Authenticated,
    BalanceUpdate,
    CancelOnDisconnectUpdate,
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
    OpenOrdersUpdate,
    OpenPositionUpdate,
    OrderProcessed,
    OrderStatusUpdate,
    PositionClosed,
    RateLimitExceeded,
    ReducePosition,
    RemoveConditionalOrder,
    SendStatusUpdate,
)
from recorder.exchange.parsing import parse_message

D = Decimal
FRAMES = Path(__file__).parents[1] / "frames"


def at(year: int, month: int, day: int, hour: int, minute: int, second: int, ms: int) -> datetime:
    """Return a time as the exchange reports it, to the millisecond."""
    return datetime(year, month, day, hour, minute, second, ms * 1000, tzinfo=UTC)


KINDS: dict[str, type[Message]] = {
    "AUTHENTICATED": Authenticated,
    "PONG": Control,
    "CANCEL_ON_DISCONNECT_UPDATE": CancelOnDisconnectUpdate,
    "BALANCE_UPDATE": BalanceUpdate,
    "OPEN_ORDERS_UPDATE": OpenOrdersUpdate,
    "ORDER_PROCESSED": OrderProcessed,
    "ORDER_STATUS_UPDATE": OrderStatusUpdate,
    "FAILED_ORDER": FailedOrder,
    "FAILED_CANCEL_ORDER": FailedCancelOrder,
    "MODIFY_ORDER_OUTCOME": ModifyOrderOutcome,
    "INSTANT_ORDER_COMPLETED": InstantOrderCompleted,
    "NEW_ACCOUNT_TRADE": NewAccountTrade,
    "NEW_ACCOUNT_HISTORY_RECORD": NewAccountHistoryRecord,
    "NEW_PENDING_RECEIVE": NewPendingReceive,
    "NEW_PENDING_SEND": NewPendingSend,
    "SEND_STATUS_UPDATE": SendStatusUpdate,
    "OPEN_POSITION_UPDATE": OpenPositionUpdate,
    "REDUCE_POSITION": ReducePosition,
    "POSITION_CLOSED": PositionClosed,
    "ADD_CONDITIONAL_ORDER": AddConditionalOrder,
    "REMOVE_CONDITIONAL_ORDER": RemoveConditionalOrder,
    "LEVERAGE_UPDATED": LeverageUpdated,
    "MARGIN_INFO": MarginInfo,
    "PLACE_LIMIT_WS_RESPONSE": CommandResponse,
    "MODIFY_ORDER_WS_RESPONSE": CommandResponse,
    "RATE_LIMIT_EXCEEDED": RateLimitExceeded,
}

#: All that a frame reports: whatever isn't named here is None.
CONTENT: dict[str, dict[str, object]] = {
    "AUTHENTICATED.blake.json": {},
    "PONG.ccxt.json": {},
    "CANCEL_ON_DISCONNECT_UPDATE.docs2025.json": {"cancel_on_disconnect": True},
    "BALANCE_UPDATE.docs2025.json": {
        "currency": "BTC",
        "available": D("0.00002887"),
        "reserved": D("0"),
        "total": D("0.00002887"),
        "lend_reserved": D("0"),
        "borrow_reserved": D("0"),
        "borrowed_amount": D("0"),
        "total_in_reference": D("14.84599332"),
        "total_in_reference_weighted": D("14.103693654"),
        "reference_currency": "ZAR",
        "updated_at": at(2023, 3, 12, 3, 28, 36, 600),
    },
    "BALANCE_UPDATE.rooibos.json": {
        "currency": "BTC",
        "available": D("0.50000000"),
        "reserved": D("0.10000000"),
        "total": D("0.60000000"),
        "lend_reserved": D("0"),
        "borrow_reserved": D("0"),
        "borrowed_amount": D("0"),
        "total_in_reference": D("342000.00"),
        "total_in_reference_weighted": D("342000.00"),
        "reference_currency": "ZAR",
        "updated_at": at(2024, 9, 27, 12, 30, 0, 0),
    },
    "OPEN_ORDERS_UPDATE.docs2025.json": {
        "orders": (
            {
                "order_id": "01972090-c325-7c8d-beed-203ff3630ba6",
                "customer_order_id": "MyLimit123",
                "pair": "BTCUSDTPERP",
                "side": "sell",
                "order_type": "post-only limit",
                "status": "Placed",
                "price": D("2100000"),
                "original_quantity": D("0.0001"),
                "remaining_quantity": D("0.0001"),
                "filled_percentage": D("0.00"),
                "time_in_force": "GTC",
                "allow_margin": False,
                "created_at": at(2025, 5, 30, 9, 40, 47, 525),
                "updated_at": at(2025, 5, 30, 9, 40, 47, 526),
            },
            {
                "order_id": "01972090-dcc2-7f16-9343-fa3749aa4f9d",
                "pair": "BTCUSDTPERP",
                "side": "sell",
                "order_type": "post-only limit",
                "status": "Placed",
                "price": D("2200000"),
                "original_quantity": D("0.0001"),
                "remaining_quantity": D("0.0001"),
                "filled_percentage": D("0.00"),
                "time_in_force": "GTC",
                "allow_margin": False,
                "created_at": at(2025, 5, 30, 9, 40, 54, 82),
                "updated_at": at(2025, 5, 30, 9, 40, 54, 84),
            },
        )
    },
    "OPEN_ORDERS_UPDATE.rooibos.json": {
        "orders": (
            {
                "order_id": "f1e2d3c4-b5a6-7890-1234-567890abcdef",
                "customer_order_id": "my-order-1",
                "pair": "BTCZAR",
                "side": "buy",
                "order_type": "limit",
                "status": "Placed",
                "price": D("950000"),
                "original_quantity": D("0.01000000"),
                "remaining_quantity": D("0.01000000"),
                "filled_percentage": D("0.00"),
                "time_in_force": "GTC",
                "created_at": at(2024, 9, 27, 12, 0, 0, 0),
                "updated_at": at(2024, 9, 27, 12, 0, 0, 0),
            },
        ),
        "account_id": "a1b2c3d4-e5f6-7890-abcd-ef1234567890",
    },
    "ORDER_PROCESSED.docs2025.json": {
        "order_id": "019a2a2c-8c45-7ffa-815a-e7272a8216c9",
        "customer_order_id": "testWS",
        "success": True,
    },
    "ORDER_PROCESSED.rooibos.json": {
        "order_id": "f1e2d3c4-b5a6-7890-1234-567890abcdef",
        "success": True,
    },
    "ORDER_STATUS_UPDATE.docs2025.2.json": {
        "order_id": "019a2a46-5730-7081-bfa2-7c6fc7e2d5db",
        "customer_order_id": "testWS",
        "status": "Partially Filled",
        "pair": "BTCUSDT",
        "side": "sell",
        "order_type": "post-only limit",
        "price": D("114950"),
        "original_quantity": D("0.0003"),
        "remaining_quantity": D("0.0002"),
        "executed_price": D("114950"),
        "executed_quantity": D("0.0001"),
        "executed_fee": D("0.009196"),
        "time_in_force": "GTC",
        "created_at": at(2025, 10, 28, 10, 4, 4, 272),
        "updated_at": at(2025, 10, 28, 10, 4, 40, 566),
    },
    "ORDER_STATUS_UPDATE.rooibos.json": {
        "order_id": "f1e2d3c4-b5a6-7890-1234-567890abcdef",
        "customer_order_id": "my-order-1",
        "status": "Filled",
        "pair": "BTCZAR",
        "side": "buy",
        "order_type": "limit",
        "price": D("950000"),
        "original_quantity": D("0.01000000"),
        "remaining_quantity": D("0"),
        "created_at": at(2024, 9, 27, 12, 0, 0, 0),
        "updated_at": at(2024, 9, 27, 12, 1, 0, 0),
    },
    "FAILED_ORDER.rooibos.json": {
        "order_id": "f1e2d3c4-b5a6-7890-1234-567890abcdef",
        "message": "Insufficient balance",
    },
    "FAILED_CANCEL_ORDER.docs2025.json": {
        "order_id": "247dc157-bb5b-49af-b476-2f613b780697",
        "message": "An error occurred while cancelling your order.",
    },
    "MODIFY_ORDER_OUTCOME.docs2025.json": {
        "success": True,
        "order_id": "019a29d0-4362-7dc9-a51d-3533a4bdcf2d",
        "customer_order_id": "testWS",
        "modify_request_id": "019a2a0f-1216-737b-9065-8138dae1e874",
    },
    "INSTANT_ORDER_COMPLETED.docs2025.json": {
        "order_id": "247dc157-bb5b-49af-b476-2f613b780697",
        "success": True,
        "paid_amount": D("10"),
        "paid_currency": "R",
        "received_amount": D("0.00104473"),
        "received_currency": "BTC",
        "fee_amount": D("0.00000789"),
        "fee_currency": "BTC",
        "executed_at": at(2019, 4, 25, 20, 36, 53, 445),
    },
    "NEW_ACCOUNT_TRADE.docs2025.json": {
        "trade_id": "019a29aa-0ce3-75db-bfc2-dd543aa745db",
        "order_id": "019a29aa-0cd9-75d6-813c-994bab34c642",
        "customer_order_id": "marketWS",
        "pair": "BTCUSDT",
        "side": "buy",
        "price": D("114953"),
        "quantity": D("0.0001"),
        "fee": D("1E-7"),
        "fee_currency": "BTC",
        "traded_at": at(2025, 10, 28, 7, 13, 21, 635),
    },
    "NEW_ACCOUNT_TRADE.rooibos.json": {
        "pair": "BTCZAR",
        "side": "buy",
        "price": D("950000"),
        "quantity": D("0.01000000"),
        "traded_at": at(2024, 9, 27, 12, 1, 0, 0),
    },
    "NEW_ACCOUNT_HISTORY_RECORD.docs2025.json": {
        "transaction_id": "a3c85807-34ed-4515-84a2-6f9b863947ed",
        "transaction_type": "MARKET_BUY",
        "description": "Market Buy",
        "debit_currency": "ZAR",
        "debit_value": D("3725371.384"),
        "credit_currency": "BTC",
        "credit_value": D("4.65205751577"),
        "fee_currency": "BTC",
        "fee_value": D("0.00465671423"),
        "event_at": at(2022, 11, 14, 20, 0, 58, 263),
        "order_id": "3904a62e-756c-4b02-aa15-ec9c3d19bd7d",
        "pair": "BTCZAR",
        "cost_per_coin": D("800000"),
        "cost_per_coin_symbol": "R",
        "additional": (
            '{"costPerCoin":800000,"costPerCoinSymbol":"R","currencyPairSymbol":"BTCZAR",'
            '"orderId":"3904a62e-756c-4b02-aa15-ec9c3d19bd7d"}'
        ),
    },
    "NEW_ACCOUNT_HISTORY_RECORD.rooibos.json": {
        "transaction_type": "LIMIT_BUY",
        "description": "Limit Buy",
        "debit_currency": "ZAR",
        "debit_value": D("9500.00"),
        "credit_currency": "BTC",
        "credit_value": D("0.01000000"),
        "fee_currency": "BTC",
        "fee_value": D("0.00001000"),
        "event_at": at(2024, 9, 27, 12, 1, 0, 0),
    },
    "NEW_PENDING_RECEIVE.docs2025.json": {
        "currency": "ETH",
        "address": "0xcfb6fdfc030ec1b51eb1a03689f19735fdebe3b0",
        "transaction_hash": "0xd97ca2ce13707cce6ce2b211499e14d04ce104250dbeb0b59359563c05a0577d",
        "network": "Ethereum",
        "amount": D("0.0005"),
        "confirmations": 1,
        "confirmed": False,
        "index_in_transaction": 51,
        "created_at": at(2025, 6, 5, 8, 40, 48, 0),
    },
    "NEW_PENDING_SEND.rooibos.json": {
        "unique_id": "c3d4e5f6-a1b2-1234-5678-90abcdef1234",
        "currency": "BTC",
        "address": "bc1qxy2kgdygjrsqtzq2n0yrf2493p83kkfjhx0wlh",
        "transaction_hash": "d4e5f6a1b2c3d4e5f6a1b2c3d4e5f6a1b2c3d4e5f6a1b2c3d4e5f6a1b2c3d4e5",
        "amount": D("0.10000000"),
        "fee": D("0.00005000"),
        "confirmations": 0,
        "created_at": at(2024, 9, 27, 12, 5, 0, 0),
    },
    "SEND_STATUS_UPDATE.docs2020.json": {
        "unique_id": "beb8a612-1a1a-4d68-9bd3-96d5ea341119",
        "status": "SEND_BROADCASTED",
        "confirmations": 0,
    },
    "SEND_STATUS_UPDATE.rooibos.json": {
        "unique_id": "c3d4e5f6-a1b2-1234-5678-90abcdef1234",
        "status": "CONFIRMED",
        "transaction_hash": "d4e5f6a1b2c3d4e5f6a1b2c3d4e5f6a1b2c3d4e5f6a1b2c3d4e5f6a1b2c3d4e5",
        "confirmations": 6,
    },
    "OPEN_POSITION_UPDATE.docs2025.fixed.json": {
        "position_id": "08dea401-ba23-ded0-28a9-03d6d59c32a4",
        "pair": "BTCUSDTPERP",
        "side": "buy",
        "quantity": D("0.0003"),
        "realised_pnl": D("0.08067945"),
        "unrealised_pnl": D("-0.0567"),
        "average_entry_price": D("36137"),
        "session_average_entry_price": D("36424"),
        "total_session_entry_quantity": D("0.0003"),
        "total_session_value": D("10.9272"),
        "leverage_tier": 27,
        "created_at": at(2023, 11, 15, 11, 34, 38, 186),
        "updated_at": at(2023, 11, 16, 18, 57, 38, 13),
    },
    "REDUCE_POSITION.docs2025.json": {
        "position_id": "27b1f2f1-a500-8dea-28a9-03190309a944",
        "pair": "USDTZARPERP",
        "side": "buy",
        "quantity": D("140.576"),
        "average_entry_price": D("18.0002"),
        "close_price": D("18"),
        "realised_pnl": D("-3.5706498"),
        "close_type": "Trade",
        "fees": D("3.5425346"),
        "initial_margin_fraction_at_close": D("0.1"),
        "created_at": at(2025, 5, 30, 11, 13, 8, 898),
    },
    "POSITION_CLOSED.docs2025.json": {
        "position_id": "08dea401-ba23-ded0-28a9-03d6d59c32a4",
        "pair": "BTCUSDTPERP",
    },
    "ADD_CONDITIONAL_ORDER.docs2025.json": {
        "order_id": "019a29f4-489e-7f1e-87dc-c5ef7439a755",
        "customer_order_id": "testWS",
        "pair": "BTCUSDTPERP",
        "trigger_order_side": "sell",
        "trigger_order_type": "limit-reduce-only",
        "trigger_type": "LAST_TRADED",
        "conditional_type": "TAKE_PROFIT",
        "position_side": "buy",
        "position_id": "008dea13-85f4-69d5-28a9-03714f849984",
        "quantity": D("0.0003"),
        "take_profit_trigger_price": D("117000"),
        "take_profit_place_price": D("113000"),
        "allow_margin": False,
        "created_at": at(2025, 10, 28, 8, 34, 26, 590),
        "updated_at": at(2025, 10, 28, 8, 34, 26, 590),
    },
    "REMOVE_CONDITIONAL_ORDER.docs2025.json": {
        "order_id": "019a29f4-489e-7f1e-87dc-c5ef7439a755",
        "customer_order_id": "testWS",
        "pair": "BTCUSDTPERP",
        "reason": "CANCELLED_BY_USER",
    },
    "LEVERAGE_UPDATED.docs2025.json": {
        "pair": "BTCUSDTPERP",
        "leverage_multiple": D("25"),
        "initial_margin_fraction": D("0.04"),
        "maintenance_margin_fraction": D("0.0125"),
        "auto_close_margin_fraction": D("0.0083"),
        "risk_limit": D("250000"),
        "risk_limit_currency": "USDT",
    },
    "MARGIN_INFO.docs2025.json": {
        "figures": (
            ("marginFraction", D("1.90363696")),
            ("collateralizedMarginFraction", D("0.09883855")),
            ("initialMarginFraction", D("0.098837526")),
            ("totalLeveragedExposureInReference", D("478.041761878")),
            ("collateralizedBalancesInReference", D("151.809292840675")),
            ("initialRequiredInReference", D("151.808803678845")),
            ("availableInReference", D("862.76900859039")),
            ("maintenanceMarginFraction", D("0.047995245")),
            ("autoCloseMarginFraction", D("0.017056799")),
            ("leverageMultiple", D("0.53")),
            ("totalPositionsAtEntryInReference", D("373.48142334")),
            ("totalUnrealisedFuturesPnlInReference", D("-26.45828977")),
            ("totalBorrowedInReference", D("78.102048768")),
            ("tradeReservedInReference", D("0")),
        ),
        "words": (("referenceCurrency", "USDC"),),
    },
    "PLACE_LIMIT_WS_RESPONSE.docs2025.json": {
        "client_msg_id": "123456789abcd",
        "order_id": "22e5aa28-f52b-46ba-811e-5052fd2c7289",
        "customer_order_id": "WS-JSON-2933586967831375",
        "outcomes": (),
    },
    "MODIFY_ORDER_WS_RESPONSE.docs2025.fixed.json": {
        "client_msg_id": "123456789abcd",
        "order_id": "881c43a7-234e-4ce9-80bd-9e6085efa48c",
        "customer_order_id": "test-123",
        "modify_request_id": "d561fc3a-0bb1-11ef-9dcd-5fe8909be0f6",
        "requested": True,
        "outcomes": (),
    },
    "RATE_LIMIT_EXCEEDED.docs2025.json": {
        "client_msg_id": "123456789abcd",
        "request_type": "PLACE_LIMIT_ORDER",
    },
}


def read(name: str) -> Message:
    """Return the message that a published frame is."""
    return parse_message(name.partition(".")[0], (FRAMES / name).read_text(encoding="utf-8"))


def reported(message: Message) -> dict[str, object]:
    """Return what a message reports, without its type and what is None."""
    members = attrs.asdict(message, filter=lambda each, _: each.name != "unreadable")
    del members["type"]
    return present(members)


def present(members: Mapping[str, object]) -> dict[str, object]:
    """Return the members that aren't None, in each of several objects as well."""
    return {name: cleared(value) for name, value in members.items() if value is not None}


def cleared(value: object) -> object:
    """Return a value without the members that are None."""
    if isinstance(value, tuple):
        return tuple(map(cleared, value))
    return present(value) if isinstance(value, dict) else value


@pytest.mark.parametrize("name", CONTENT)
def test_a_published_frame_has_this_content_and_no_more(name: str) -> None:
    message = read(name)
    assert type(message) is KINDS[message.type]
    assert reported(message) == CONTENT[name]


@pytest.mark.parametrize("name", CONTENT)
def test_amounts_keep_the_digits_of_the_wire(name: str) -> None:
    # Equal amounts may differ in their zeros: these are the same to the last one.
    assert repr(reported(read(name))) == repr(CONTENT[name])


def test_an_amount_of_eight_places_stays_exact() -> None:
    text = '{"data":{"currency":"BTC","available":"0.00000786","reserved":0.00000786}}'
    message = parse_message("BALANCE_UPDATE", text)
    assert isinstance(message, BalanceUpdate)
    assert message.available == message.reserved == D("0.00000786")
    assert canonical_amount(D("0.00000786")) == "0.00000786"


def test_thousands_commas_are_dropped() -> None:
    trade = read("NEW_ACCOUNT_TRADE.docs2025.json")
    assert isinstance(trade, NewAccountTrade)
    assert trade.price == D(114953)


@pytest.mark.parametrize(
    ("currency", "code"),
    [
        ('"BTC"', "BTC"),
        ('{"id":1,"symbol":"R","decimalPlaces":2,"shortName":"ZAR"}', "ZAR"),
        ('{"symbol":"BTC"}', "BTC"),
        ('{"code":"BTC","shortName":null}', "BTC"),
    ],
)
def test_a_currency_is_its_code_in_each_shape(currency: str, code: str) -> None:
    message = parse_message("BALANCE_UPDATE", f'{{"data":{{"currency":{currency}}}}}')
    assert reported(message) == {"currency": code}


def test_nulls_are_as_good_as_absent() -> None:
    order = '{"orderId":"a","price":null,"side":null,"createdAt":null,"allowMargin":null}'
    message = parse_message("OPEN_ORDERS_UPDATE", f'{{"data":[{order}]}}')
    assert reported(message) == {"orders": ({"order_id": "a"},)}


def test_no_open_orders_is_an_empty_list_in_both_shapes() -> None:
    bare = parse_message("OPEN_ORDERS_UPDATE", '{"data":[]}')
    held = parse_message("OPEN_ORDERS_UPDATE", '{"data":{"orders":[]}}')
    assert bare == held == OpenOrdersUpdate("OPEN_ORDERS_UPDATE", (), None)


def test_a_refused_command_has_a_reason() -> None:
    text = '{"clientMsgId":"1","error":{"message":"no","validationErrors":{"a":[1.0,-0]}}}'
    message = parse_message("PLACE_LIMIT_WS_RESPONSE", text)
    error = {"message": "no", "validation_errors": '{"a":[1.0,-0]}'}
    assert reported(message) == {"client_msg_id": "1", "error": error, "outcomes": ()}


def test_an_invalid_answer_is_turned_down_whatever_its_shape() -> None:
    for text in ('{"message":"no"}', '{"data":{"reason":"no"}}', '{"error":"no"}'):
        message = parse_message("INVALID_PLACE_LIMIT_REQUEST", text)
        assert reported(message) == {"error": {"message": "no"}, "outcomes": ()}


def test_each_request_of_a_batch_has_its_outcome() -> None:
    outcomes = '[{"accepted":true,"orderId":"a"},{"accepted":false,"error":{"code":-7}}]'
    message = parse_message("BATCH_ORDERS_WS_RESPONSE", f'{{"data":{{"outcomes":{outcomes}}}}}')
    assert reported(message) == {
        "outcomes": (
            {"accepted": True, "order_id": "a"},
            {"accepted": False, "error": {"message": "-7"}},
        )
    }


def test_of_margin_info_only_figures_and_currencies_are_kept() -> None:
    data = '{"a":1,"b":"2.50","c":true,"d":null,"e":{},"f":"","referenceCurrency":"ZAR"}'
    assert reported(parse_message("MARGIN_INFO", f'{{"data":{data}}}')) == {
        "figures": (("a", D("1")), ("b", D("2.50"))),
        "words": (("referenceCurrency", "ZAR"),),
    }


def test_what_remains_of_an_open_order_is_its_quantity() -> None:
    order = '{"orderId":"a","remainingQuantity":"2","quantity":"1"}'
    message = parse_message("OPEN_ORDERS_UPDATE", f'{{"data":[{order}]}}')
    assert reported(message) == {"orders": ({"order_id": "a", "remaining_quantity": D(1)},)}


@pytest.mark.parametrize(
    ("type_", "data", "readable", "detail"),
    [
        ("BALANCE_UPDATE", '"currency":"BTC","total":"1"', "total", '"updatedAt":"soon"'),
        ("BALANCE_UPDATE", '"currency":"BTC","total":"1"', "total", '"totalInReference":"x"'),
        ("NEW_ACCOUNT_TRADE", '"price":"1","quantity":"2"', "quantity", '"tradedAt":{}'),
        ("SEND_STATUS_UPDATE", '"uniqueId":"a","status":"b"', "status", '"confirmations":1.5'),
        ("NEW_PENDING_SEND", '"uniqueId":"a","amount":"1"', "amount", '"sendAddress":[]'),
        ("FAILED_ORDER", '"orderId":"a"', "order_id", '"message":{}'),
        ("CANCEL_LIMIT_ORDER_WS_RESPONSE", '"orderId":"a"', "order_id", '"requested":"x"'),
        ("NEW_ACCOUNT_HISTORY_RECORD", '"transactionType":{"type":"a"}', "transaction_type",
         '"additionalInfo":{"costPerCoin":"x"}'),
    ],
)  # fmt: skip
def test_an_unreadable_detail_costs_itself_alone_and_is_named(
    type_: str, data: str, readable: str, detail: str
) -> None:
    whole = parse_message(type_, f'{{"data":{{{data}}}}}')
    message = parse_message(type_, f'{{"data":{{{data},{detail}}}}}')
    assert getattr(message, readable) == getattr(whole, readable) is not None
    (error,) = message.unreadable
    assert any(name in error for name in detail.split('"')[1::2])


def test_a_list_names_the_unreadable_details_of_its_rows() -> None:
    orders = '[{"orderId":"a","updatedAt":"soon"},{"orderId":"b"}]'
    message = parse_message("OPEN_ORDERS_UPDATE", f'{{"data":{orders}}}')
    assert isinstance(message, OpenOrdersUpdate)
    assert [each.order_id for each in message.orders] == ["a", "b"]
    assert message.unreadable == ("data[0].updatedAt is not an ISO-8601 time but 'soon'",)


@pytest.mark.parametrize("zone", ["z", "Z", "+00:00", ""])
@pytest.mark.parametrize("fraction", ["", ".1", ".123", ".123456789"])
def test_a_time_is_read_in_each_spelling_of_rfc_3339(zone: str, fraction: str) -> None:
    text = f"2026-11-26T10:00:00{fraction}{zone}"
    data = f'{{"data":{{"currency":"BTC","updatedAt":"{text}"}}}}'
    message = parse_message("BALANCE_UPDATE", data)
    assert isinstance(message, BalanceUpdate)
    assert message.unreadable == ()
    assert message.updated_at is not None
    assert message.updated_at.replace(microsecond=0) == datetime(2026, 11, 26, 10, tzinfo=UTC)
