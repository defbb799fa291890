"""The books of any period, on both databases, against those of the simulated exchange."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event, text

from recorder.database.engine import Database, in_unit
from recorder.exchange.amounts import EXACT, add_up, canonical_amount
from recorder.log.rules.event import Draft, Note, noted
from recorder.projections.rules.books import KINDS, Basis, Explained
from recorder.projections.rules.ledger import Ledger
from recorder.projections.sql.tables import Memory, project
from recorder.queries.books import Period, explain, first_snapshot, folded_up_to, unread
from recorder.reconciliation.sql.fill_checks import Unmatched, unchecked_fills, unmatched_fills
from recorder.timestamps import from_us, to_us
from tests.cli.scene import fold
from tests.log.drafts import NOW, NOW_US, run_sql, write
from tests.outbox.trading import Account, record_of

FAR = datetime(2030, 1, 1, tzinfo=UTC)


def report(database: Database, drafts: Sequence[Draft]) -> int:
    """Write and fold drafts; return the head."""
    events = write(database, *drafts)
    fold(database)
    return events[-1].position


def books(database: Database, begin: Any, end: Any) -> dict[str | None, Explained]:
    """Return the books of a period, by currency."""

    def unit(connection: Connection) -> list[Explained]:
        period = Period(begin, end, folded_up_to(connection, "main"))
        return explain(connection, "main", period)

    return {each.currency: each for each in in_unit(database.reader, unit)}


def begun(database: Database) -> tuple[int, datetime]:
    """Return where the first snapshot was complete."""
    snapshot = in_unit(database.reader, first_snapshot, "main")
    assert snapshot is not None
    return snapshot.position, snapshot.at


def sums(reported: Explained) -> dict[str, Decimal]:
    return {line.kind: line.amount for line in reported.lines}


@pytest.mark.parametrize("net", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_whole_history_is_explained_to_the_last_digit(
    database: Database, seed: int, net: bool
) -> None:
    account = Account(random.Random(seed), net)
    account.live(150)
    head = report(database, account.log)
    position, at = begun(database)

    held, first = account.exchange.account.books.balances, account.exchange.config.balances
    for found in (books(database, position, head), books(database, at, account.clock())):
        assert found.keys() == held.keys()
        for currency, reported in found.items():
            assert currency is not None
            assert reported.opening.total == first.get(currency, Decimal(0))
            assert reported.closing.total == held[currency].total
            assert reported.residual == 0
            assert reported.adds_up
            true = {kind: account.moved(kind, currency, at, account.clock()) for kind in KINDS[:-1]}
            assert sums(reported) == {kind: amount for kind, amount in true.items() if amount}
            assert sum(line.assumed_fees for line in reported.lines) == 0
    assert sum(len(reported.lines) for reported in found.values()) > 8


def test_any_cut_makes_two_periods_that_add_up_to_the_whole(database: Database) -> None:
    account = Account(random.Random(7))
    account.live(80)
    head = report(database, account.log)
    _, at = begun(database)
    length_us = to_us(account.clock()) - to_us(at)

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.booleans())
    def any_cut(shares: list[float], by_position: bool) -> None:
        if by_position:
            cuts: list[Any] = sorted(int(head * share) for share in shares)
        else:
            cuts = sorted(at + timedelta(microseconds=int(length_us * share)) for share in shares)
        first, second, whole = (
            books(database, *ends) for ends in (cuts[:2], cuts[1:], (cuts[0], cuts[2]))
        )
        for currency, reported in whole.items():
            parts = [part[currency] for part in (first, second) if currency in part]
            assert first[currency].closing.total == second[currency].opening.total
            assert reported.moved == add_up(part.moved for part in parts)
            for kind in KINDS:
                amounts = [sums(part).get(kind, Decimal(0)) for part in parts]
                assert sums(reported).get(kind, Decimal(0)) == add_up(amounts)
            if reported.opening.total is not None:
                residuals = [part.residual for part in parts]
                assert reported.residual == add_up(each for each in residuals if each is not None)

    any_cut()


def ledger_frames(account: Account) -> list[int]:
    return [n for n, each in enumerate(account.log) if each.type == "NEW_ACCOUNT_HISTORY_RECORD"]


@pytest.mark.parametrize("seed", range(4))
def test_a_swallowed_record_is_a_residual_of_exactly_its_amount(
    database: Database, seed: int
) -> None:
    account = Account(random.Random(seed))
    account.live(60)
    number = account.rng.choice(ledger_frames(account))
    swallowed = record_of(account.log.pop(number))
    head = report(database, account.log)

    (row,) = (
        each
        for each in account.exchange.account.books.ledger
        if each.transaction_id == swallowed["id"]
    )
    position, at = begun(database)
    for found in (books(database, position, head), books(database, at, account.clock())):
        residuals = {str(name): reported.residual for name, reported in found.items()}
        assert residuals == {name: row.change_of(name) for name in residuals}
        assert not all(reported.adds_up for reported in found.values())
        assert not any(reported.in_flight for reported in found.values())


def fetched(record: Mapping[str, Any], at_us: int) -> Draft:
    """Return the page of a history that holds a record."""
    names = {f"{leg}Currency" for leg in ("debit", "credit", "fee")}
    plain = {name: value["shortName"] if name in names else value for name, value in record.items()}
    return Draft("main", at_us, None, None, "fetched", "REST_TRANSACTIONS", json.dumps([plain]))


def test_a_record_fetched_later_closes_the_time_but_not_the_positions_before_it(
    database: Database,
) -> None:
    account = Account(random.Random(3))
    account.live(60)
    number = account.rng.choice(ledger_frames(account))
    swallowed = record_of(account.log.pop(number))
    head = report(database, account.log)
    position, at = begun(database)
    end = account.clock()
    later = write(database, fetched(swallowed, to_us(end) + 60_000_000))
    fold(database)

    by_time = books(database, at, end)
    assert all(reported.adds_up for reported in by_time.values())
    lines = [line for reported in by_time.values() for line in reported.lines]
    assert sum(line.reported_later for line in lines) == sum(line.backfilled for line in lines) > 0
    before, after = (
        books(database, position, head),
        books(database, head, later[-1].position),
    )
    missing = {name: reported.residual for name, reported in before.items()}
    assert any(missing.values())
    assert {name: reported.residual for name, reported in after.items()} == {
        name: None if residual is None else -residual for name, residual in missing.items()
    }
    assert all(
        reported.adds_up for reported in books(database, position, later[-1].position).values()
    )


def test_a_cut_between_the_frames_of_one_fill_is_in_flight(database: Database) -> None:
    account = Account(random.Random(5))
    account.live(40)
    report(database, account.log)
    position, _ = begun(database)
    number = ledger_frames(account)[10]
    # Positions count from 1: behind the record, before the balance that it moved.
    found = books(database, position, number + 1)
    moved = [reported for reported in found.values() if reported.residual]
    assert moved and all(reported.in_flight and not reported.adds_up for reported in moved)
    found = books(database, number + 1, len(account.log))
    moved = [reported for reported in found.values() if reported.residual]
    assert moved and all(reported.in_flight for reported in moved)


# What is reported frame by frame


def balance(currency: str, total: str | None, at_s: float, *, dated: bool = True) -> Draft:
    answer: dict[str, Any] = {
        "currency": {"shortName": currency},
        "available": "0",
        "reserved": "0",
    }
    if total is not None:
        answer["total"] = total
    if dated:
        answer["updatedAt"] = iso(at_s)
    return received("BALANCE_UPDATE", answer, at_s)


def record(type_: str, at_s: float, **answer: Any) -> Draft:
    """Return a ledger frame; money is given as ``credit=("ZAR", "1")``."""
    reported: dict[str, Any] = {"transactionType": {"type": type_}, "eventAt": iso(at_s)}
    reported["id"] = f"{type_}-{at_s}"
    for leg in ("debit", "credit", "fee"):
        if leg in answer:
            currency, value = answer.pop(leg)
            reported |= {f"{leg}Currency": currency} if currency else {}
            reported |= {f"{leg}Value": value} if value else {}
    return received("NEW_ACCOUNT_HISTORY_RECORD", {**reported, **answer}, at_s)


def received(kind: str, answer: Mapping[str, Any], at_s: float) -> Draft:
    payload = json.dumps({"type": kind, "data": answer})
    return Draft("main", NOW_US + int(at_s * 1e6), 5, "c-1", "received", kind, payload)


def snapshot(at_s: float, connection_id: str = "c-1") -> Draft:
    facts = {"complete": True, "balances": True, "open_orders": True, "currencies": 1}
    at_us = NOW_US + int(at_s * 1e6)
    return noted("main", at_us, Note.SNAPSHOT_COMPLETE, facts, connection_id=connection_id)


def started(at_s: float) -> Draft:
    facts = {"epoch": 1, "last_event_at": None}
    return noted("main", NOW_US + int(at_s * 1e6), Note.RECORDER_STARTED, facts)


def iso(at_s: float) -> str:
    return from_us(NOW_US + int(at_s * 1e6)).isoformat()


def at(at_s: float) -> datetime:
    return NOW + timedelta(seconds=at_s)


LONG = "1" + "0" * 199 + "." + "0" * 199 + "1"


@pytest.mark.parametrize(
    "amounts",
    [
        ("0.1", "0.2"),
        ("1000000000000000000", "0.000000000000000001"),
        ("999999999999999999.999999999999999999", "0.000000000000000001"),
        ("-0.5", "0.25", "0.000000000000000001"),
        (LONG, "0." + "0" * 199 + "9"),
        tuple(f"0.{n:018d}" for n in range(1, 10**18, 10**16 + 7)),
    ],
)
def test_sums_are_exact_however_long_the_amounts_are(
    database: Database, amounts: Sequence[str]
) -> None:
    total = add_up(map(Decimal, amounts))
    credits = [
        record("PROMOTIONAL_REBATE", 2 + n / 1000, credit=("X", each))
        for n, each in enumerate(amounts)
    ]
    drafts = [started(0), balance("X", "0", 0), snapshot(1), *credits]
    head = report(database, [*drafts, balance("X", format(total, "f"), 9)])
    for found in (books(database, 3, head), books(database, at(1), at(9))):
        assert sums(found["X"]) == {"reward": total}
        assert found["X"].closing.total == total
        assert found["X"].adds_up


def test_a_stranger_adds_up_the_parts_exactly(sqlite: Database) -> None:
    """With nothing but the standard library's sqlite3: as the page on books reports."""
    rng = random.Random(1)
    amounts = [
        Decimal(rng.randrange(-(10**36), 10**36)).scaleb(-rng.randrange(18, 19)) for _ in range(3)
    ]
    amounts += [Decimal(rng.randrange(-(10**24), 10**24)).scaleb(-18) for _ in range(2_000)]
    credits = [
        record("FUND", 2 + n / 1000, **{"credit": ("X", canonical_amount(abs(each)))})
        if each >= 0
        else record("FUND", 2 + n / 1000, debit=("X", canonical_amount(-each)))
        for n, each in enumerate(amounts)
    ]
    report(sqlite, [started(0), *credits])
    with sqlite3.connect(sqlite.url.database or "") as connection:
        ((whole, nano, atto, missing),) = connection.execute(
            "SELECT sum(whole), sum(nano), sum(atto), sum(whole IS NULL) FROM balance_movements"
        )
    parts = (Decimal(whole), Decimal(nano).scaleb(-9), Decimal(atto).scaleb(-18))
    assert add_up(parts) == add_up(amounts)
    assert missing == 0


@pytest.mark.parametrize("amount", ["0." + "0" * 18 + "1", "9223372036854775808", "-" + LONG])
def test_what_the_parts_cannot_hold_is_in_none_of_them(database: Database, amount: str) -> None:
    report(database, [started(0), record("FUND", 1, credit=("X", amount))])
    asked = "SELECT amount, whole, nano, atto FROM balance_movements"
    ((reported, *parts),) = run_sql(database, asked)
    assert (Decimal(str(reported)), parts) == (Decimal(amount), [None] * 3)


def test_both_databases_give_the_same_movements_to_the_digit(
    sqlite: Database, postgres: Database
) -> None:
    account = Account(random.Random(11), net=True)
    account.live(100)
    extra = [
        record("FIAT_WITHDRAWAL", 1, debit=("ZAR", "1500"), fee=("ZAR", "8.5")),
        record("SIMPLE_BUY", 2, credit=("XRP", "1.5"), debit=("ZAR", "3"), fee=("XRP", "-0.1")),
        record("WHO_KNOWS", 3, credit=("XRP", None), debit=(None, "3")),
        record("FUND", 4, credit=("X", LONG)),
    ]
    asked = "SELECT {} FROM {} ORDER BY account, currency, position, item, {}"
    views = (
        ("balance_movements", "leg", "currency, position, item, leg, kind, type, fee_basis"),
        ("balance_statements", "basis", "currency, position, basis"),
    )
    for view, last, columns in views:
        amount = "amount" if view == "balance_movements" else "total"
        item = "item" if view == "balance_movements" else "position"
        reported = []
        for database in (sqlite, postgres):
            if view == "balance_movements":
                report(database, [*account.log, *extra])
            names = f"{columns}, CAST({amount} AS text), whole, nano, atto, CAST(at AS text)"
            statement = asked.format(names, view, last).replace("item,", f"{item},", 9)
            rows = run_sql(database, statement.replace("position, position", "position"))
            reported.append([normal(row) for row in rows])
        assert sorted(reported[0], key=repr) == sorted(reported[1], key=repr)
        assert len(reported[0]) > 100


def normal(row: Sequence[object]) -> tuple[object, ...]:
    """Return a row with its amount and its time as either database would write them."""
    *others, amount, whole, nano, atto, when = row
    value = None if amount is None else canonical_amount(Decimal(str(amount)))
    moment = None
    if when is not None:
        moment = datetime.fromisoformat(str(when).replace("+00", "")).replace(tzinfo=None)
    return (*others, value, whole, nano, atto, moment)


def test_an_opening_that_was_never_reported_is_not_zero(database: Database) -> None:
    drafts = [started(0), record("FUND", 1, credit=("X", "5")), balance("X", "5", 1)]
    head = report(database, drafts)
    reported = books(database, 0, head)["X"]
    assert (reported.opening.basis, reported.opening.total) == (Basis.UNKNOWN, None)
    assert reported.closing.total == 5
    assert reported.residual is None
    assert not reported.adds_up


def test_what_a_complete_snapshot_did_not_name_was_not_held(database: Database) -> None:
    drafts = [started(0), balance("ZAR", "1", 0), snapshot(1)]
    report(database, [*drafts, record("FUND", 2, credit=("X", "5")), balance("X", "5", 2)])
    for found in (books(database, 3, 5), books(database, at(1), at(9))):
        reported = found["X"]
        assert reported.opening.basis == Basis.NOT_NAMED
        assert reported.opening.total == 0
        assert reported.adds_up


def test_what_a_later_snapshot_left_out_became_zero_when_the_snapshot_arrived(
    database: Database,
) -> None:
    again = balance("ZAR", "1", 8)
    on_new_line = Draft(*(*_parts(again)[:3], "c-2", *_parts(again)[4:]))
    drafts = [started(0), balance("ZAR", "1", 0), balance("X", "5", 0), snapshot(1)]
    report(database, [*drafts, on_new_line, snapshot(9, "c-2")])
    assert books(database, at(1), at(8.5))["X"].adds_up
    reported = books(database, at(1), at(9.5))["X"]
    assert reported.closing.basis == Basis.INFERRED_ZERO
    assert reported.closing.total == 0
    assert reported.residual == -5


def _parts(draft: Draft) -> tuple[Any, ...]:
    names = ("account", "received_us", "elapsed_ns", "connection_id", "origin", "type", "payload")
    return tuple(getattr(draft, name) for name in names)


def test_a_movement_without_an_amount_or_a_currency_is_reported(database: Database) -> None:
    drafts = [
        *(started(0), balance("X", "5", 0), snapshot(1)),
        record("FUND", 2, credit=("X", None)),
        record("FUND", 3, credit=(None, "7")),
    ]
    head = report(database, drafts)
    found = books(database, 3, head)
    assert found["X"].residual == 0
    assert found["X"].without_amount == 1
    assert not found["X"].adds_up
    assert found[None].moved == 7
    assert not found[None].adds_up


def test_a_movement_without_a_time_counts_when_it_was_received(database: Database) -> None:
    undated = record("FUND", 2, credit=("X", "7"), eventAt=None)
    drafts = [started(0), balance("X", "5", 0), snapshot(1), undated, balance("X", "12", 2)]
    report(database, drafts)
    assert books(database, at(1), at(9))["X"].adds_up
    assert not books(database, at(2), at(9))["X"].lines


def test_a_balance_without_a_time_or_a_total_is_taken_as_it_is(database: Database) -> None:
    drafts = [started(0), balance("X", "5", 0), snapshot(1), balance("X", "7", 2, dated=False)]
    report(database, drafts)
    assert books(database, at(1), at(2))["X"].residual == 2
    assert books(database, at(1), at(1.9))["X"].residual == 0
    report(database, [balance("X", None, 4)])
    reported = books(database, at(1), at(5))["X"]
    assert (reported.closing.basis, reported.closing.total, reported.residual) == (
        Basis.REPORTED,
        None,
        None,
    )


def test_what_only_one_of_the_tables_has_by_now_waits_for_the_other(database: Database) -> None:
    reported = [started(0), balance("X", "5", 0), snapshot(1)]
    head = report(database, reported)
    write(database, record("FUND", 2, credit=("X", "7")), balance("X", "12", 2))
    in_unit(
        database.projector,
        project,
        Ledger(),
        Memory(),
        "main",
        up_to=head + 2,
        limit=100,
        now=at(3),
    )
    assert in_unit(database.reader, folded_up_to, "main") == head
    for found in (books(database, at(1), at(9)), books(database, 3, head + 2)):
        assert found["X"].adds_up
        assert not found["X"].lines
    fold(database)
    assert books(database, at(1), at(9))["X"].moved == 7
    assert in_unit(database.reader, folded_up_to, "other") == 0


def test_an_unproved_fee_is_marked(database: Database) -> None:
    drafts = [
        *(started(0), balance("ZAR", "2000", 0), snapshot(1)),
        record("FIAT_WITHDRAWAL", 2, debit=("ZAR", "1500"), fee=("ZAR", "8.5")),
        balance("ZAR", "500", 2),
    ]
    head = report(database, drafts)
    reported = books(database, 3, head)["ZAR"]
    assert sums(reported) == {"withdrawal": -1500, "fee": Decimal("-8.5")}
    assert [line.assumed_fees for line in reported.lines] == [Decimal("-8.5"), 0]
    # It was in there: the residual reports so.
    assert reported.residual == Decimal("8.5")


def test_a_frame_that_no_table_could_take_is_counted(database: Database) -> None:
    bad = received("NEW_ACCOUNT_HISTORY_RECORD", {"id": 5}, 2)
    head = report(database, [started(0), balance("X", "5", 0), snapshot(1), bad])
    for period in (Period(3, head, head), Period(at(1), at(9), head)):
        assert in_unit(database.reader, unread, "main", period) == 1
    assert in_unit(database.reader, unread, "main", Period(at(3), at(9), head)) == 0


# Trades and ledger


def differing(database: Database, begin: Any, end: Any) -> list[Unmatched]:
    def unit(connection: Connection) -> list[Unmatched]:
        period = Period(begin, end, folded_up_to(connection, "main"))
        return unmatched_fills(connection, "main", period)

    return in_unit(database.reader, unit)


@pytest.mark.parametrize("net", [False, True])
def test_fills_are_the_same_in_trades_and_ledger_in_any_period(
    database: Database, net: bool
) -> None:
    account = Account(random.Random(2), net)
    account.live(100)
    head = report(database, account.log)
    for end in range(5, head, 20):
        assert differing(database, 3, end) == []
    assert differing(database, at(-(10**8)), FAR) == []


@pytest.mark.parametrize("kind", ["NEW_ACCOUNT_TRADE", "NEW_ACCOUNT_HISTORY_RECORD"])
def test_a_swallowed_fill_is_named_with_its_order(database: Database, kind: str) -> None:
    account = Account(random.Random(4))
    account.live(60)
    trades = {trade.trade_id: trade for trade in account.exchange.trading.trades}
    trade = account.rng.choice(list(trades.values()))
    numbers = [
        number
        for number, each in enumerate(account.log)
        if each.type == kind and trade.order_id in each.payload
    ]
    del account.log[numbers[-1]]
    head = report(database, account.log)
    (found,) = differing(database, 0, head)
    assert (found.order_id, found.pair, found.side) == (trade.order_id, trade.pair, trade.side)
    same = [each for each in trades.values() if each.order_id == trade.order_id]
    whole, less = sum(each.quantity for each in same), sum(each.quantity for each in same[:-1])
    reported = found.traded or 0, found.booked or 0
    assert reported == ((less, whole) if kind == "NEW_ACCOUNT_TRADE" else (whole, less))
    assert abs(found.trades - found.entries) == 1


def test_fills_that_name_no_order_are_counted(database: Database) -> None:
    bought = {"credit": ("BTC", "1"), "debit": ("ZAR", "9")}
    head = report(database, [started(0), record("LIMIT_BUY", 1, **bought)])
    period = Period(0, head, head)
    assert in_unit(database.reader, unchecked_fills, "main", period) == 1


# What it costs


def test_the_books_of_a_short_period_read_no_table_from_end_to_end(database: Database) -> None:
    fill(database, 100_000)
    day = datetime(2026, 1, 1, tzinfo=UTC)
    times = day + timedelta(seconds=500), day + timedelta(seconds=600)
    for period in (Period(500, 600, 100_000), Period(*times, 100_000)):
        for plan in plans(database, period):
            whole = [
                line
                for line in plan
                if any(way in line for way in ("SCAN ", "Seq Scan", "(account=? AND position<?)"))
                and any(name in line for name in ("ledger", "history", "trades"))
            ]
            assert whole == [], "\n".join(plan)


def fill(database: Database, rows: int) -> None:
    """Put so many rows into the tables that a scan would not be chosen for want of them."""
    numbers = (
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
        if database.dialect == "sqlite"
        else f"WITH n AS (SELECT i FROM generate_series(1, {rows}) AS i)"
    )
    moment = (
        "strftime('%Y-%m-%d %H\\:%M\\:%f', '2026-01-01', i || ' seconds') || '000'"
        if database.dialect == "sqlite"
        else "timestamptz '2026-01-01Z' + i * interval '1 second'"
    )
    one = "'1'" if database.dialect == "sqlite" else "1"
    run_sql(
        database,
        "INSERT INTO ledger (account, position, natural_id, type, credit_currency, credit_value,"
        f" order_id, event_at, received_at) {numbers} SELECT 'main', i, 'n' || i, 'LIMIT_BUY',"
        f" 'X', {one}, 'o' || i, {moment}, {moment} FROM n",
        "INSERT INTO trades (account, position, natural_id, pair, side, quantity, order_id,"
        f" traded_at, received_at) {numbers} SELECT 'main', i, 'n' || i, 'XZAR', 'buy', {one},"
        # Some orders differ, so that they are looked at closely.
        f" CASE WHEN i % 7 = 0 THEN 'p' ELSE 'o' END || i, {moment}, {moment} FROM n",
        "INSERT INTO balance_history (account, currency, position, total, basis, updated_at,"
        f" received_at) {numbers} SELECT 'main', 'X', i, {one}, 'reported', {moment}, {moment}"
        " FROM n",
        "INSERT INTO balances (account, currency, position, total, basis) VALUES"
        f" ('main', 'X', {rows}, {one}, 'reported')",
    )
    with database.writer.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")


def plans(database: Database, period: Period) -> list[list[str]]:
    """Return the plan of every query that the books of a period are read with."""
    prefix = "EXPLAIN QUERY PLAN " if database.dialect == "sqlite" else "EXPLAIN "
    seen: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        seen.append((statement, parameters))

    event.listen(database.reader, "before_cursor_execute", note)

    def unit(connection: Connection) -> None:
        explain(connection, "main", period)
        unmatched_fills(connection, "main", period)
        unchecked_fills(connection, "main", period)

    in_unit(database.reader, unit)
    event.remove(database.reader, "before_cursor_execute", note)

    def explained(connection: Connection) -> list[list[str]]:
        return [
            [str(row[-1]) for row in connection.exec_driver_sql(prefix + statement, parameters)]
            for statement, parameters in seen
        ]

    found = in_unit(database.reader, explained)
    assert len(found) > 5
    return found


def test_an_exact_sum_leaves_nulls_out_and_is_null_of_none(sqlite: Database) -> None:
    def unit(connection: Connection) -> list[Any]:
        rows = "(SELECT '0.1' AS v UNION ALL SELECT NULL UNION ALL SELECT '0.2')"
        asked = f"SELECT exact_sum(v) FROM {rows} UNION ALL SELECT exact_sum(v) FROM {rows} WHERE 0"
        return list(connection.execute(text(asked)).scalars())

    assert in_unit(sqlite.reader, unit) == ["0.3", None]
    assert EXACT.prec > 800
