"""What a fee proves of itself, and how the books of a period are put together."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.exchange.lists import HistoryPage, read_history
from recorder.exchange.messages import NewAccountHistoryRecord
from recorder.exchange.parsing import parse_message
from recorder.projections.rules.books import (
    Basis,
    Explained,
    Line,
    Reported,
    Step,
    drifts,
    is_in_flight,
    merge,
    passing,
)
from recorder.projections.rules.ledger import FeeBasis, fee_basis

TESTS = Path(__file__).parents[1]
D = Decimal


def record(**answer: Any) -> NewAccountHistoryRecord:
    names = ("debit_currency", "debit_value", "credit_currency", "credit_value")
    blank: dict[str, Any] = dict.fromkeys((*names, "fee_currency", "fee_value"))
    others = ("transaction_id", "description", "event_at", "order_id", "pair", "cost_per_coin")
    blank |= dict.fromkeys((*others, "cost_per_coin_symbol", "additional"))
    blank["transaction_type"] = "LIMIT_BUY"
    return NewAccountHistoryRecord("NEW_ACCOUNT_HISTORY_RECORD", **{**blank, **answer})


def bought(credit: str, debit: str, fee: str, price: str, **answer: Any) -> NewAccountHistoryRecord:
    money = {"credit_currency": "BTC", "credit_value": D(credit)}
    money |= {"debit_currency": "ZAR", "debit_value": D(debit)}
    fees = {"fee_currency": "BTC", "fee_value": D(fee), "cost_per_coin": D(price)}
    return record(**{**money, **fees, "pair": "BTCZAR", **answer})


@pytest.mark.parametrize("path", sorted((TESTS / "rest_examples").glob("*transactionhistory*")))
def test_every_published_buy_has_its_fee_taken_off(path: Path) -> None:
    page = read_history("REST_TRANSACTIONS", path.read_text(encoding="utf-8"))
    assert isinstance(page, HistoryPage)
    for _, row in page.rows:
        assert isinstance(row, NewAccountHistoryRecord)
        is_buy = row.transaction_type.endswith("_BUY")
        assert fee_basis(row) is (FeeBasis.NET if is_buy else None), row


@pytest.mark.parametrize(
    ("name", "basis"),
    [("docs2020", FeeBasis.NET), ("docs2025", FeeBasis.NET), ("rooibos", None)],
)
def test_published_frames_prove_what_they_can(name: str, basis: FeeBasis | None) -> None:
    path = TESTS / "frames" / f"NEW_ACCOUNT_HISTORY_RECORD.{name}.json"
    message = parse_message("NEW_ACCOUNT_HISTORY_RECORD", json.dumps(json.loads(path.read_text())))
    assert isinstance(message, NewAccountHistoryRecord)
    assert fee_basis(message) is basis


@pytest.mark.parametrize(
    ("reported", "basis"),
    [
        (bought("1", "100", "0.01", "100"), FeeBasis.GROSS),
        (bought("0.99", "100", "0.01", "100"), FeeBasis.NET),
        # Rounded, and still clear; then not.
        (bought("0.99", "100.1", "0.01", "100"), FeeBasis.NET),
        (bought("0.995", "100", "0.01", "100"), None),
        # The fee in what was paid.
        (bought("1", "101", "1", "100", fee_currency="ZAR"), FeeBasis.NET),
        (bought("1", "100", "1", "100", fee_currency="ZAR"), FeeBasis.GROSS),
        # In neither: it can't be in there.
        (bought("1", "100", "1", "100", fee_currency="XRP"), FeeBasis.GROSS),
        (bought("1", "100", "1", "100", fee_currency="XRP", pair=None), FeeBasis.GROSS),
        # Nothing to prove, or nothing to prove it with.
        (bought("1", "100", "0", "100"), None),
        (bought("1", "100", "0.01", "0"), None),
        (bought("1", "100", "0.01", "100", cost_per_coin=None), None),
        (bought("1", "100", "0.01", "100", debit_value=None), None),
        (bought("1", "100", "0.01", "100", fee_value=None), None),
        # The pair goes before the type's word, which does where there is none.
        (bought("1", "100", "0.01", "100", transaction_type="WHO_KNOWS"), FeeBasis.GROSS),
        (bought("1", "100", "0.01", "100", pair=None), FeeBasis.GROSS),
        (bought("1", "100", "0.01", "100", pair=None, transaction_type="WHO_KNOWS"), None),
        (bought("1", "100", "0.01", "100", debit_currency="BTC"), None),
    ],
)
def test_only_the_reading_that_fits_the_price_is_proved(
    reported: NewAccountHistoryRecord, basis: FeeBasis | None
) -> None:
    assert fee_basis(reported) is basis


AMOUNTS = st.decimals(min_value="0.00001", max_value=10**9, places=12)


@given(AMOUNTS, AMOUNTS, st.integers(1, 300), st.booleans(), st.booleans())
def test_any_exact_fill_proves_its_fee(
    quantity: Decimal, price: Decimal, rate: int, is_buy: bool, net: bool
) -> None:
    quote = quantity * price
    base_money, quote_money = ("BTC", quantity), ("ZAR", quote)
    debit, credit = (quote_money, base_money) if is_buy else (base_money, quote_money)
    fee = credit[1] * rate / 10_000
    reported = record(
        transaction_type="LIMIT_BUY" if is_buy else "LIMIT_SELL",
        pair="BTCZAR",
        cost_per_coin=price,
        debit_currency=debit[0],
        debit_value=debit[1],
        credit_currency=credit[0],
        credit_value=credit[1] - fee if net else credit[1],
        fee_currency=credit[0],
        fee_value=fee,
    )
    assert fee_basis(reported) is (FeeBasis.NET if net else FeeBasis.GROSS)


NOWHERE = Reported(None, Basis.UNKNOWN)
ENDS = Reported(D("0.1"), Basis.REPORTED), Reported(D("0.4"), Basis.REPORTED)


def test_a_residual_is_what_the_lines_leave() -> None:
    lines = (Line("reward", D("0.2"), 1), Line("deposit", D("0.05"), 1))
    reported = Explained("X", *ENDS, lines)
    assert (reported.residual, reported.adds_up) == (D("0.05"), False)
    assert Explained("X", *ENDS, (Line("reward", D("0.3"), 1),)).adds_up
    assert Explained("X", NOWHERE, ENDS[1], ()).residual is None
    assert not Explained("X", NOWHERE, NOWHERE, ()).adds_up
    assert not Explained("X", *ENDS, (Line("reward", D("0.3"), 2, without_amount=1),)).adds_up


def test_lines_of_one_kind_become_one_in_the_order_of_the_page() -> None:
    parts = [Line("other", D(1), 1), Line("fee", D(-1), 1, 1), Line("fee", D("-0.5"), 2, 0, 1, 1)]
    fee, other = merge(parts)
    assert fee == Line("fee", D("-1.5"), 3, 1, 1, 1)
    assert other == Line("other", D(1), 1)


def moved(at: int, amount: int) -> Step:
    return Step((at,), moved=D(amount))


def reported(at: int, total: int) -> Step:
    return Step((at,), total=D(total))


def test_a_difference_that_closes_is_in_flight_and_one_that_stays_is_lost() -> None:
    fill = [moved(1, 5), reported(2, 15)]
    # Cut between the two: nothing before, the balance behind.
    before, behind = drifts(D(10), fill[:1]), drifts(D(10), fill[1:])
    assert before == [0, -5]
    assert is_in_flight(D(-5), {D(0)}, passing(before, behind))
    assert is_in_flight(D(5), passing(before, behind), {D(0)})
    # The movement never came.
    assert not is_in_flight(D(5), {D(0)}, passing(drifts(D(10), fill[1:]), [D(0)]))
    # Another one is in flight there meanwhile: not this.
    assert not is_in_flight(D(7), {D(0)}, passing(before, behind))


def test_a_drift_begins_where_a_balance_is_first_reported() -> None:
    assert drifts(None, [moved(1, 5), reported(2, 15), moved(3, 1), reported(4, 16)]) == [0, -1, 0]
    assert drifts(None, []) == [0]
