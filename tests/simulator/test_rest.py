"""The REST paths: who may ask, which members an answer has, and what is on which page."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from recorder.simulator.http import Answer, Asked
from recorder.simulator.rest import answer
from tests.simulator.scene import LIMIT, HandClock, command, new_exchange, scene, signature

#: Path → the members that VALR's published examples have.
MEMBERS = {
    "/v1/account/balances": "currency available reserved total updatedAt lendReserved"
    " borrowReserved borrowedAmount totalInReference totalInReferenceWeighted referenceCurrency",
    "/v1/orders/open": "orderId side remainingQuantity price currencyPair createdAt"
    " originalQuantity filledPercentage updatedAt status type timeInForce allowMargin"
    " customerOrderId",
    "/v1/orders/history": "orderId orderStatusType currencyPair averagePrice originalPrice"
    " remainingQuantity originalQuantity total totalExecutedQuantity totalFee feeCurrency orderSide"
    " orderType failedReason orderUpdatedAt orderCreatedAt customerOrderId timeInForce",
    "/v1/orders/history/detail/customerorderid/open": "orderId orderStatusType currencyPair"
    " originalPrice remainingQuantity originalQuantity orderSide orderType failedReason"
    " orderUpdatedAt orderCreatedAt customerOrderId executedFee executedPrice executedQuantity"
    " timeInForce",
    "/v1/account/tradehistory": "price quantity currencyPair tradedAt side sequenceId id orderId"
    " fee feeCurrency customerOrderId",
    "/v1/account/transactionhistory?transactionTypes=LIMIT_BUY": "transactionType debitCurrency"
    " debitValue creditCurrency creditValue feeCurrency feeValue eventAt additionalInfo id",
    "/v1/wallet/crypto/deposit/history": "currencyCode receiveAddress transactionHash amount"
    " createdAt confirmations confirmed confirmedAt",
    "/v1/wallet/crypto/withdraw/history": "currency address amount feeAmount transactionHash"
    " confirmations lastConfirmationAt uniqueId createdAt verified status",
}


class Asking:
    """An exchange after some trading, and a client with a key."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.exchange = new_exchange()
        self.exchange.clock = self.exchange.account.clock = self.exchange.account.ids.clock = (
            self.clock
        )

    def place(self, name: str, **changed: str) -> str:
        self.clock.pass_s(1)
        content = {**LIMIT, "customerOrderId": name, **changed}
        frames = self.exchange.command(command("PLACE_LIMIT_ORDER", **content))
        order_id: str = frames[0]["data"]["orderId"]
        return order_id

    def cancel(self, name: str) -> None:
        self.clock.pass_s(1)
        self.exchange.command(command("CANCEL_LIMIT_ORDER", pair="BTCZAR", customerOrderId=name))

    def fill(self, order_id: str, quantity: str) -> None:
        self.clock.pass_s(1)
        self.exchange.fill(order_id, Decimal(quantity))

    def ask(self, path: str, verb: str = "GET") -> Answer:
        signed = f"{self.clock.ms}{verb}{path}"
        config = self.exchange.config
        headers = {
            "x-valr-api-key": config.key,
            "x-valr-signature": signature(config.secret, signed),
            "x-valr-timestamp": str(self.clock.ms),
        }
        return answer(self.exchange, Asked(verb, path, headers), self.clock())

    def get(self, path: str) -> Any:
        reported = self.ask(path)
        assert reported.status == 200, reported.content
        return reported.content


@pytest.fixture
def asking() -> Asking:
    """An exchange with one open, one filled, one cancelled and one failed order."""
    asking = Asking()
    asking.fill(asking.place("filled"), "0.001")
    asking.place("cancelled")
    asking.cancel("cancelled")
    asking.place("failed", quantity="500")
    asking.fill(asking.place("open"), "0.0004")
    asking.exchange.deposit("ETH", Decimal("0.5"), 0)
    asking.exchange.withdraw("ETH", Decimal("0.25"))
    asking.exchange.transfers.confirm()
    asking.exchange.transfers.confirm()
    return asking


@pytest.mark.parametrize("path", MEMBERS)
def test_an_answer_has_the_members_of_the_published_ones(asking: Asking, path: str) -> None:
    assert set(asking.get(path)[0]) == set(MEMBERS[path].split())


@pytest.mark.parametrize("path", [*MEMBERS, "/v1/account/api-keys/current", "/v1/anything"])
def test_nothing_private_is_answered_without_a_right_signature(asking: Asking, path: str) -> None:
    assert answer(asking.exchange, Asked("GET", path, {}), asking.clock()).status == 403
    late = asking.clock()
    asking.clock.pass_s(60)
    signed = signature(asking.exchange.config.secret, f"{int(late.timestamp() * 1000)}GET{path}")
    headers = {
        "x-valr-api-key": asking.exchange.config.key,
        "x-valr-signature": signed,
        "x-valr-timestamp": str(int(late.timestamp() * 1000)),
    }
    stale = answer(asking.exchange, Asked("GET", path, headers), asking.clock())
    assert (stale.status, stale.content["code"]) == (401, -11252)


def test_the_query_is_part_of_what_is_signed(asking: Asking) -> None:
    headers = {
        "x-valr-api-key": asking.exchange.config.key,
        "x-valr-signature": signature(
            asking.exchange.config.secret, f"{asking.clock.ms}GET/v1/orders/history"
        ),
        "x-valr-timestamp": str(asking.clock.ms),
    }
    for query, status in (("", 200), ("?limit=1", 401)):
        asked = Asked("GET", f"/v1/orders/history{query}", headers)
        assert answer(asking.exchange, asked, asking.clock()).status == status


@pytest.mark.parametrize("path", ["/v1/public/time", "/v1/public/status", "/v1/public/pairs"])
def test_what_is_public_needs_no_key(asking: Asking, path: str) -> None:
    assert answer(asking.exchange, Asked("GET", path, {}), asking.clock()).status == 200


def names(rows: list[dict[str, Any]]) -> list[str]:
    return [row["customerOrderId"] for row in rows]


def test_order_history_is_newest_first_and_hides_cancels_without_a_fill(asking: Asking) -> None:
    path = "/v1/orders/history"
    assert names(asking.get(path)) == ["open", "failed", "filled"]
    everything = asking.get(f"{path}?showZeroVolumeCancels=TRUE")
    assert names(everything) == ["open", "failed", "cancelled", "filled"]
    assert names(asking.get(f"{path}?excludeFailures=true")) == ["open", "filled"]
    assert names(asking.get(f"{path}?statuses=FILLED,FAILED")) == ["failed", "filled"]
    assert asking.get(f"{path}?currencyPair=ETHZAR") == []


def test_pages_don_t_overlap_and_windows_include_both_ends(asking: Asking) -> None:
    path = "/v1/orders/history?showZeroVolumeCancels=true"
    everything = asking.get(path)
    assert [asking.get(f"{path}&skip={n}&limit=1") for n in range(5)] == [
        *([row] for row in everything),
        [],
    ]
    times = [row["orderUpdatedAt"] for row in everything]
    inside = asking.get(f"{path}&startTime={times[2]}&endTime={times[1]}")
    assert inside == everything[1:3]


@pytest.mark.parametrize("path", ["/v1/account/tradehistory", "/v1/account/transactionhistory"])
def test_a_cursor_goes_back_to_the_beginning_exclusive_of_itself(asking: Asking, path: str) -> None:
    for _ in range(5):
        asking.place("t", price="2000000")
    everything = asking.get(path)
    assert len(everything) >= 7
    seen: list[dict[str, Any]] = []
    page = asking.get(f"{path}?limit=2")
    while page and len(seen) <= len(everything):
        seen += page
        page = asking.get(f"{path}?limit=2&beforeId={page[-1]['id']}")
    assert seen == everything


@pytest.mark.parametrize(
    "query",
    ["limit=101", "limit=x", "skip=-1", "skip=٣", "startTime=yesterday", "beforeId=none"],
)
def test_a_query_that_cant_be_answered_is_refused(asking: Asking, query: str) -> None:
    reported = asking.ask(f"/v1/account/tradehistory?{query}")
    assert (reported.status, reported.content["code"]) == (400, -11)
    assert reported.content["message"].startswith(query.split("=")[0])


def test_an_orders_states_are_all_listed_newest_first_and_the_first_is_placed(
    asking: Asking,
) -> None:
    states = asking.get("/v1/orders/history/detail/customerorderid/filled")
    assert [each["orderStatusType"] for each in states] == ["Filled", "Placed"]
    by_id = f"/v1/orders/history/detail/orderid/{states[0]['orderId']}"
    assert asking.get(by_id) == states
    assert asking.get("/v1/orders/history/detail/customerorderid/unknown") == []


def test_a_summary_exists_of_ended_orders_only(asking: Asking) -> None:
    summary = asking.get("/v1/orders/history/summary/customerorderid/filled")
    assert (summary["averagePrice"], summary["total"]) == ("1000000", "1000")
    assert asking.ask("/v1/orders/history/summary/customerorderid/open").status == 400


def test_an_orders_status_is_found_by_either_id_and_unknown_ones_are_invalid(
    asking: Asking,
) -> None:
    reported = asking.get("/v1/orders/BTCZAR/customerorderid/open")
    assert reported["orderStatusType"] == "Partially Filled"
    assert "executedPrice" not in reported
    assert asking.get(f"/v1/orders/BTCZAR/orderid/{reported['orderId']}") == reported
    for path in ("BTCZAR/orderid/none", "ETHZAR/customerorderid/open", "%ff/orderid/%00"):
        refused = asking.ask(f"/v1/orders/{path}")
        assert (refused.status, refused.content["code"]) == (400, -1)


def test_of_orders_with_one_name_the_open_one_is_meant_or_else_the_newest(asking: Asking) -> None:
    asking.cancel("open")
    asking.place("open")
    path = "/v1/orders/BTCZAR/customerorderid/open"
    assert asking.get(path)["orderStatusType"] == "Placed"
    asking.cancel("open")
    assert asking.get(path)["orderStatusType"] == "Cancelled"
    assert asking.get(path)["remainingQuantity"] == "0.001"


def test_balances_of_zero_are_listed_unless_excluded(asking: Asking) -> None:
    asking.exchange.withdraw("BTC", asking.exchange.account.books.available("BTC"))
    codes = [row["currency"] for row in asking.get("/v1/account/balances")]
    assert "BTC" in codes
    held = asking.get("/v1/account/balances?excludeZeroBalances=true")
    assert [row["currency"] for row in held] == [code for code in codes if code != "BTC"]


def test_transactions_have_codes_for_currencies_and_can_be_filtered(asking: Asking) -> None:
    (row,) = asking.get("/v1/account/transactionhistory?transactionTypes=BLOCKCHAIN_RECEIVE")
    assert (row["creditCurrency"], row["creditValue"]) == ("ETH", "0.5")
    kinds = {
        row["transactionType"]["type"]
        for row in asking.get("/v1/account/transactionhistory?currency=ETH")
    }
    assert kinds == {"BLOCKCHAIN_RECEIVE", "BLOCKCHAIN_SEND"}


@pytest.mark.parametrize("verb", ["POST", "PUT", "DELETE"])
def test_nothing_but_reading_is_served(asking: Asking, verb: str) -> None:
    assert asking.ask("/v1/orders/open", verb).status == 404


async def test_paths_are_served_over_one_connection_with_their_length() -> None:
    async with scene() as here:
        reported = await here.get("/v1/account/balances")
        assert reported.status_code == 200
        assert int(reported.headers["content-length"]) == len(reported.content)
        assert (await here.get("/v1/account/balances", key="other")).status_code == 401
        assert (await here.control("faults", no_pong=True)).status_code == 200
        assert here.simulator.faults.no_pong
