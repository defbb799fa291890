"""What REST requests look like on the wire, and what answers prove, by the published examples."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.exchange.declared import read_as
from recorder.exchange.fields import FieldError, Fields
from recorder.exchange.lists import RestOrder
from recorder.exchange.rest import (
    Answered,
    CredentialsRefused,
    Declined,
    ExchangeUnavailable,
    NoSuchOrder,
    OrdersFound,
    Outcome,
    RateLimited,
    RowsFound,
    Unreadable,
    read_answer,
)
from recorder.exchange.rest_requests import (
    Kind,
    OrderName,
    RestRequest,
    conditional_history_request,
    history_request,
    list_request,
    order_detail_request,
    order_status_request,
)
from recorder.exchange.signing import signed_headers

EXAMPLES = Path(__file__).parents[1] / "rest_examples"
with (EXAMPLES / "INDEX.tsv").open(encoding="utf-8", newline="") as index:
    INDEX = list(csv.DictReader(index, delimiter="\t"))
NAMES = sorted(row["file"] for row in INDEX)
SECRET = "4961b74efac86b25cce8fbe4c9811c4c7a787b7a5996660afcc2e287ad864363"
START = datetime(2025, 7, 17, 8, 0, 0, 123_999, tzinfo=UTC)
NOTHING = order_detail_request(OrderName.customer_order_id("nothing"))
INVALID_ORDER = '{"code": -1, "message": "Invalid Order. "}'
#: Which request an example answers, by how its file's name begins. The longest one counts.
KINDS = {
    "GET_v1_orders_currencyPair": Kind.ORDER_STATUS,
    "GET_v1_orders_history": Kind.ORDER_HISTORY,
    "GET_v1_orders_history_detail": Kind.ORDER_DETAIL,
    "GET_v1_orders_history_summary": Kind.ORDER_STATUS,
    "GET_v1_orders_open": Kind.OPEN_ORDERS,
    "GET_v1_account_balances": Kind.BALANCES,
    "GET_v1_account_tradehistory": Kind.TRADES,
    "GET_v1_account_transactionhistory": Kind.TRANSACTIONS,
    "GET_v1_account_api_keys": Kind.BALANCES,
    "GET_v1_orders_conditionals": Kind.CONDITIONALS,
    "GET_v1_orders_conditionals_currencyPair_history": Kind.CONDITIONAL_HISTORY,
    "GET_v1_positions_open": Kind.OPEN_POSITIONS,
    "GET_v1_positions_closed_summary": Kind.CLOSED_POSITIONS_SUMMARY,
}


def example(name: str) -> str:
    return (EXAMPLES / name).read_text(encoding="utf-8")


def request_of(name: str) -> RestRequest:
    """Return a request of the kind that an example answers, for no order in particular."""
    kind = KINDS[max((start for start in KINDS if name.startswith(start)), key=len)]
    return RestRequest("/v1/" + name, kind)


def read_example(name: str) -> Outcome:
    status = int(next(row["status"] for row in INDEX if row["file"] == name))
    return read_answer(request_of(name), status, example(name), {})


def orders_in(text: str) -> list[dict[str, str]]:
    content = json.loads(text)
    return content if isinstance(content, list) else [content]


# What is asked


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (list_request(Kind.OPEN_ORDERS), "/v1/orders/open"),
        (list_request(Kind.OPEN_POSITIONS), "/v1/positions/open?limit=100"),
        (
            list_request(Kind.CLOSED_POSITIONS_SUMMARY),
            "/v1/positions/closed/summary?skip=0&limit=100",
        ),
        (list_request(Kind.CONDITIONALS), "/v1/orders/conditionals"),
        (
            conditional_history_request("BTCUSDTPERP"),
            "/v1/orders/conditionals/BTCUSDTPERP/history",
        ),
        (
            order_status_request("BTCZAR", OrderName.order_id("0198-a")),
            "/v1/orders/BTCZAR/orderid/0198-a",
        ),
        (
            order_status_request("BTCZAR", OrderName.customer_order_id("Sell1")),
            "/v1/orders/BTCZAR/customerorderid/Sell1",
        ),
        (
            order_detail_request(OrderName.order_id("0198-a")),
            "/v1/orders/history/detail/orderid/0198-a",
        ),
        (
            order_detail_request(OrderName.customer_order_id("Sell1")),
            "/v1/orders/history/detail/customerorderid/Sell1",
        ),
        (
            history_request(
                Kind.ORDER_HISTORY,
                start=START,
                end=START + timedelta(hours=1),
                skip=200,
            ),
            "/v1/orders/history?skip=200&limit=100&startTime=2025-07-17T08:00:00.123Z"
            "&endTime=2025-07-17T09:00:00.123Z&showZeroVolumeCancels=TRUE",
        ),
        (list_request(Kind.BALANCES), "/v1/account/balances?excludeZeroBalances=false"),
        (
            history_request(Kind.TRADES, start=START, before_id="t-1", limit=50),
            "/v1/account/tradehistory?skip=0&limit=50&startTime=2025-07-17T08:00:00.123Z"
            "&beforeId=t-1",
        ),
        (
            history_request(
                Kind.TRANSACTIONS,
                start=START,
                end=START,
            ),
            "/v1/account/transactionhistory?skip=0&limit=100"
            "&startTime=2025-07-17T08:00:00.123Z&endTime=2025-07-17T08:00:00.123Z",
        ),
    ],
)
def test_requests_are_spelled_as_in_the_published_examples(
    request_: RestRequest, path: str
) -> None:
    assert (request_.method, request_.path_with_query) == ("GET", path)


def test_a_name_can_t_leave_its_place_in_the_path() -> None:
    request = order_detail_request(OrderName.customer_order_id("../a b?x=1#é"))
    assert request.path_with_query == (
        "/v1/orders/history/detail/customerorderid/..%2Fa%20b%3Fx%3D1%23%C3%A9"
    )


@pytest.mark.parametrize("name", ["", ".", "..", "x" * 201, "\ud800"])
def test_what_can_t_stand_in_a_path_is_not_asked_for(name: str) -> None:
    with pytest.raises(ValueError):
        order_detail_request(OrderName.order_id(name))


def test_a_time_of_another_zone_becomes_utc_and_one_without_is_refused() -> None:
    there = START.astimezone(timezone(timedelta(hours=2)))
    assert history_request(Kind.TRADES, start=there) == history_request(Kind.TRADES, start=START)
    with pytest.raises(ValueError, match="zone"):
        history_request(Kind.TRADES, start=START.replace(tzinfo=None))


@pytest.mark.parametrize(("skip", "limit"), [(-1, 1), (0, 0), (0, 101)])
def test_a_page_that_valr_would_refuse_is_not_asked_for(skip: int, limit: int) -> None:
    with pytest.raises(ValueError):
        history_request(Kind.ORDER_HISTORY, start=START, end=START, skip=skip, limit=limit)


def test_the_published_signature_comes_out() -> None:
    headers = signed_headers("k", SECRET, 1558014486185, "GET", "/v1/account/balances")
    assert dict(headers) == {
        "X-VALR-API-KEY": "k",
        "X-VALR-SIGNATURE": "9d52c181ed69460b49307b7891f04658e938b21181173844b5018b2fe783a6d4"
        "c62b8e67a03de4d099e7437ebfabe12c56233b73c6a0cc0f7ae87e05f6289928",
        "X-VALR-TIMESTAMP": "1558014486185",
    }


def test_a_sub_account_is_named_and_signed() -> None:
    headers = dict(
        signed_headers("k", SECRET, 1558014486185, "GET", "/ws/account", "903671169785507840")
    )
    assert headers["X-VALR-SUB-ACCOUNT-ID"] == "903671169785507840"
    assert headers["X-VALR-SIGNATURE"].startswith("35b1a69d63be11eb266d1df9047c73e8")


# What an answer reports


def test_every_example_is_in_the_index() -> None:
    assert sorted(path.name for path in EXAMPLES.glob("*.json")) == NAMES


@pytest.mark.parametrize("name", [name for name in NAMES if "public_time" not in name])
def test_every_example_is_read_and_kept_whole(name: str) -> None:
    outcome = read_example(name)
    assert not isinstance(outcome, Unreadable | ExchangeUnavailable | Declined)
    assert outcome.text == example(name)
    assert example(name) not in repr(outcome)


@pytest.mark.parametrize(
    "name", [name for name in NAMES if "GET_v1_orders" in name and "conditional" not in name]
)
def test_orders_are_found_with_their_id_status_and_exact_amounts(name: str) -> None:
    outcome = read_example(name)
    if isinstance(outcome, NoSuchOrder):
        return
    assert isinstance(outcome, OrdersFound)
    published = orders_in(example(name))
    assert len(outcome.orders) == len(published)
    for order, wire in zip(outcome.orders, published, strict=True):
        assert order.order_id == wire["orderId"]
        assert order.customer_order_id == wire.get("customerOrderId")
        assert order.status == wire.get("orderStatusType", wire.get("status"))
        assert order.side in ("buy", "sell")
        assert str(order.remaining_quantity) == wire["remainingQuantity"]
        assert str(order.original_quantity) == wire["originalQuantity"]
        assert order.updated_at is not None
        assert order.updated_at.utcoffset() == timedelta(0)
        assert order.failed_reason == (wire.get("failedReason") or None)


def test_a_failed_order_is_found_by_its_customer_order_id_with_the_reason() -> None:
    name = "GET_v1_orders_history_summary_customerorderid_customerOrderId.200.2.json"
    request = order_status_request("XRPZAR", OrderName.customer_order_id("556789"))
    outcome = read_answer(request, 200, example(name), {})
    assert isinstance(outcome, OrdersFound)
    assert outcome.orders == (
        RestOrder(
            order_id="b54f42ab-8228-4783-aad9-8b66f63a52d0",
            customer_order_id="556789",
            pair="XRPZAR",
            side="buy",
            order_type="stop-loss-limit",
            status="Failed",
            price=Decimal(10),
            stop_price=Decimal(12),
            original_quantity=Decimal(10),
            remaining_quantity=Decimal(10),
            average_price=Decimal(0),
            total=Decimal(0),
            total_executed_quantity=Decimal(0),
            total_fee=Decimal(0),
            fee_currency="XRP",
            executed_price=None,
            executed_quantity=None,
            executed_fee=None,
            time_in_force="GTC",
            allow_margin=None,
            failed_reason="Stop order failed as it would have been triggered immediately",
            created_at=datetime(2022, 8, 18, 12, 33, 23, 260_000, tzinfo=UTC),
            updated_at=datetime(2022, 8, 18, 12, 33, 23, 264_000, tzinfo=UTC),
        ),
    )


def test_the_states_of_an_order_come_newest_first() -> None:
    name = "GET_v1_orders_history_detail_orderid_orderId.200.2.json"
    request = order_detail_request(OrderName.order_id("01981c9d-c31d-71de-995d-f221bfaf5112"))
    outcome = read_answer(request, 200, example(name), {})
    assert isinstance(outcome, OrdersFound)
    assert [order.status for order in outcome.orders] == ["Order Modified", "Placed"]


def test_only_an_empty_detail_means_no_order_in_any_state() -> None:
    name = OrderName.customer_order_id("unknown")
    missing = read_answer(order_detail_request(name), 200, "[]", {})
    assert missing == NoSuchOrder(in_any_state=True, text="[]")
    request = order_status_request("BTCZAR", name)
    for status in (400, 404):
        assert read_answer(request, status, INVALID_ORDER, {}) == NoSuchOrder(
            in_any_state=False, text=INVALID_ORDER
        )
    assert read_answer(order_detail_request(name), 400, INVALID_ORDER, {}) == NoSuchOrder(
        in_any_state=False, text=INVALID_ORDER
    )


def test_an_empty_list_of_orders_is_a_list() -> None:
    window = history_request(Kind.ORDER_HISTORY, start=START, end=START)
    for request in (list_request(Kind.OPEN_ORDERS), window):
        assert read_answer(request, 200, "[]", {}) == OrdersFound((), text="[]")


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (404, '{"code": -1, "message": "Not found"}'),
        (400, '{"code": -1, "message": "Something else"}'),
        (400, '{"code": -11, "message": "Invalid Order. "}'),
        (409, INVALID_ORDER),
        (404, "<html>Not Found</html>"),
        (400, "<html>Bad Request</html>"),
        (400, ""),
        (400, "[]"),
        (400, '{"message": "Invalid Order. "}'),
        (200, "<html>Hello</html>"),
        (200, ""),
        (200, "null"),
        (200, "{}"),
        (200, "[]x"),
        (200, '[],"rows":[]'),
        (200, "[null]"),
        (200, '{"code": -1, "message": "Invalid Order. "}'),
        (201, "[]"),
        (204, ""),
        (302, "[]"),
        (500, INVALID_ORDER),
        (503, "[]"),
        (429, INVALID_ORDER),
        (401, INVALID_ORDER),
    ],
)
def test_nothing_but_valrs_own_words_means_no_order(status: int, text: str) -> None:
    outcome = read_answer(NOTHING, status, text, {})
    assert not isinstance(outcome, NoSuchOrder | OrdersFound)
    assert outcome.text == text


@pytest.mark.parametrize(
    "name", [OrderName.order_id("another"), OrderName.customer_order_id("another")]
)
def test_an_order_of_another_name_proves_nothing(name: OrderName) -> None:
    text = example("GET_v1_orders_history_detail_orderid_orderId.200.2.json")
    outcome = read_answer(order_detail_request(name), 200, text, {})
    assert isinstance(outcome, Unreadable)
    assert "another order" in outcome.reason


@pytest.mark.parametrize(
    ("reported", "wait_s"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("99999999999", 900.0),
        ("-1", None),
        ("1.5", None),
        ("٣", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("", None),
    ],
)
def test_a_rate_limit_names_its_wait_or_none(reported: str, wait_s: float | None) -> None:
    outcome = read_answer(NOTHING, 429, "<html>", {"retry-after": reported})
    assert outcome == RateLimited(wait_s, text="<html>")
    assert read_answer(NOTHING, 429, "", {}) == RateLimited(None, text="")


@pytest.mark.parametrize(
    ("status", "text", "code"),
    [
        (401, '{"code": -11272, "message": "The originating IP"}', -11272),
        (400, '{"code": -11252, "message": "Request has an invalid signature"}', -11252),
        (403, '{"message": "Forbidden"}', None),
        (403, "<html>Forbidden</html>", None),
        (401, "", None),
    ],
)
def test_refused_credentials_are_distinguished(status: int, text: str, code: int | None) -> None:
    outcome = read_answer(NOTHING, status, text, {})
    assert isinstance(outcome, CredentialsRefused)
    assert (outcome.status, outcome.code, outcome.text) == (status, code, text)


def test_a_refusal_never_repeats_what_looks_like_a_key() -> None:
    text = json.dumps({"code": -11252, "message": f"no key {'ab' * 32}"})
    assert "abab" not in repr(read_answer(NOTHING, 401, text, {}))


def test_rows_keep_numbers_by_their_digits() -> None:
    outcome = read_example("GET_v1_account_tradehistory.200.json")
    assert isinstance(outcome, RowsFound)
    assert outcome.rows[0].amount("sequenceId") == Decimal("1368928567986638030")
    text = '[{"costPerCoin": 0.1000000000000000000000000001}]'
    outcome = read_answer(history_request(Kind.TRANSACTIONS, start=START), 200, text, {})
    assert isinstance(outcome, RowsFound)
    assert outcome.rows[0].amount("costPerCoin") == Decimal("0.1000000000000000000000000001")


def test_an_amount_sent_as_a_number_is_exact() -> None:
    text = '[{"orderId": "a", "remainingQuantity": 0.10000000000000000001}]'
    outcome = read_answer(list_request(Kind.OPEN_ORDERS), 200, text, {})
    assert isinstance(outcome, OrdersFound)
    assert outcome.orders[0].remaining_quantity == Decimal("0.10000000000000000001")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["orderId", "code", "message", "time", "epochTime"]) | st.text(), inner
        )
    ),
)


@given(
    st.sampled_from([RestRequest("/", kind) for kind in Kind]),
    st.integers(100, 599),
    st.text() | JSON.map(json.dumps),
)
def test_whatever_comes_is_classified_and_kept(
    request_: RestRequest, status: int, text: str
) -> None:
    outcome = read_answer(request_, status, text, {})
    assert isinstance(outcome, Answered)
    assert outcome.text == text


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "9" * 100_000, "[NaN]"])
def test_a_text_made_to_hurt_is_unreadable(text: str) -> None:
    assert isinstance(read_answer(NOTHING, 200, text, {}), Unreadable)


def test_an_order_without_its_id_is_none() -> None:
    with pytest.raises(FieldError, match="orderId"):
        read_as(RestOrder, Fields({"orderStatusType": "Placed"}))


def test_every_outcome_keeps_the_text() -> None:
    kinds = Answered.__subclasses__()
    assert len(kinds) == 8
    assert all("text" in attrs.fields_dict(kind) for kind in kinds)
