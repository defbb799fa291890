"""recorder books, on both databases: what it explains, what it admits, and its exit codes."""

from __future__ import annotations

import random
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from recorder.database.engine import Database
from recorder.log.rules.event import Note
from tests.cli.scene import ask, fold
from tests.log.drafts import write
from tests.outbox.trading import Account, record_of

KEYS = {
    "kind",
    "amount",
    "movements",
    "backfilled",
    "without_amount",
    "reported_later",
    "assumed_fees",
}


def reported(database: Database, account: Account) -> None:
    write(database, *account.log)
    fold(database)


def one(url: str, *argv: str, code: int) -> dict[str, Any]:
    answer = ask(url, "books", *argv)
    assert answer.code == code, answer.err
    (row,) = answer.rows
    return row


def z(moment: datetime) -> str:
    return moment.isoformat()


@pytest.fixture
def account(database: Database) -> Account:
    """Let an account trade for a while, and record all of it."""
    made = Account(random.Random(21), net=True)
    made.live(60)
    reported(database, made)
    return made


def test_books_that_add_up_are_exit_code_0(database_url: str, account: Account) -> None:
    row = one(database_url, code=0)
    assert (row["account"], row["by"], row["adds_up"]) == ("main", "time", True)
    assert (row["unmatched_fills"], row["unchecked_fills"], row["unread"]) == ([], 0, 0)
    held = account.exchange.account.books.balances
    assert [each["currency"] for each in row["currencies"]] == sorted(held)
    for each in row["currencies"]:
        amounts = [Decimal(line["amount"]) for line in each["lines"]]
        assert Decimal(each["opening"]["total"]) + sum(amounts) == Decimal(each["closing"]["total"])
        assert Decimal(each["closing"]["total"]) == held[each["currency"]].total
        assert (each["residual"], each["adds_up"], each["in_flight"]) == ("0", True, False)
        assert all(line.keys() == KEYS for line in each["lines"])
    # No recorder has run since: that is reported, whatever adds up.
    assert Decimal(row["unobserved_s"]) > 0
    assert row["warnings"]


def test_a_person_gets_the_lines_of_each_currency(database_url: str, account: Account) -> None:
    answer = ask(database_url, "books", "--table", "--currency", "ZAR")
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    found = [line.split()[1] for line in lines if line.lstrip().startswith("ZAR")]
    assert found[0] == "opening"
    assert found[-2:] == ["residual", "closing"]
    assert {"fill_in", "fill_out", "fee", "withdrawal"} <= set(found)
    assert "the books add up" in answer.out
    assert " s not observed" in answer.out


def test_what_is_left_is_exit_code_1_and_a_row_of_its_own(database: Database) -> None:
    account = Account(random.Random(21))
    account.live(60)
    numbers = [n for n, each in enumerate(account.log) if each.type == "NEW_ACCOUNT_HISTORY_RECORD"]
    swallowed = record_of(account.log.pop(numbers[len(numbers) // 2]))
    reported(database, account)
    url = _url(database)

    row = one(url, "--from-position", "0", code=1)
    (lost,) = (
        each
        for each in account.exchange.account.books.ledger
        if each.transaction_id == swallowed["id"]
    )
    # Nothing is known of what was before the first event.
    assert {each["residual"] for each in row["currencies"]} == {None}
    row = one(url, code=1)
    assert {each["currency"]: Decimal(each["residual"]) for each in row["currencies"]} == {
        each["currency"]: lost.change_of(each["currency"]) for each in row["currencies"]
    }
    page = ask(url, "books", "--table")
    assert page.code == 1
    assert ", residual: unexplained\n" in page.out
    assert "unexplained" in page.out.splitlines()[-1]


def _url(database: Database) -> str:
    return database.url.render_as_string(hide_password=False)


def test_a_period_reports_how_much_of_it_was_not_observed(database: Database) -> None:
    account = Account(random.Random(9))
    account.live(20)
    begin = account.clock()
    cut = {"reason": "cut", "by": "network", "code": None, "last_frame_at": z(begin)}
    account.note(Note.CONNECTION_CLOSED, **cut)
    account.clock.pass_s(90)
    account.exchange.reward("USDC", Decimal("1.5"))
    account.connect()
    account.live(20)
    reported(database, account)
    url, ends = _url(database), ("--from", z(begin), "--to", z(account.clock()))

    row = one(url, *ends, code=1)
    assert (row["unobserved_s"], row["healed_s"], row["unrecorded_s"]) == ("90", "0", "0")
    residuals = {each["currency"]: each["residual"] for each in row["currencies"]}
    assert {name: each for name, each in residuals.items() if each != "0"} == {"USDC": "1.5"}
    assert "1 min 30 s of the period not observed" in ask(url, "books", "--table", *ends).out


def test_a_period_of_positions(database_url: str, account: Account) -> None:
    head = len(account.log)
    row = one(database_url, "--from-position", "6", "--to-position", str(head), code=0)
    assert (row["by"], row["from_position"], row["to_position"]) == ("position", 6, head)
    assert row["until"] == f"{account.clock().replace(tzinfo=None).isoformat('T', 'microseconds')}Z"


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("--from", "2026-01-02T00:00:00Z", "--to-position", "5"), "leave one pair"),
        (("--currency", "NOPE"), "has no currency 'NOPE'"),
        (("--from-position", "9", "--to-position", "9"), "nothing between"),
        (("--from", "2026-02-01T00:00:00Z", "--to", "2026-01-01T00:00:00Z"), "nothing between"),
        (("--account", "other"), "nothing of account 'other' is folded yet"),
    ],
)
def test_what_cannot_be_answered_is_exit_code_2(
    database_url: str, account: Account, argv: tuple[str, ...], sentence: str
) -> None:
    answer = ask(database_url, "books", *argv)
    assert (answer.code, answer.out) == (2, "")
    assert sentence in answer.err


def test_positions_behind_what_is_folded_are_not_made_up(
    database_url: str, account: Account
) -> None:
    head = len(account.log)
    answer = ask(database_url, "books", "--from-position", str(head), "--to-position", "99999")
    assert (answer.code, answer.out) == (2, "")
    assert f"position behind {head}" in answer.err
