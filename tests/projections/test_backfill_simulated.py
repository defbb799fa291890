"""Hundreds of cut lines, without a network: frames that arrived, and pages, fold into the books.

The simulated exchange goes on between two frames, between two pages, and without a connection. Its
frames are on their way for a while, and are lost where the line is cut. Whatever happens, the
tables are the exchange's own books once every gap was read.
"""

from __future__ import annotations

import json
import random
from collections import Counter, deque
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import define, field

from recorder.exchange.lists import FETCHED_AS, HistoryPage, read_history
from recorder.exchange.paging import HistoryList, first_cursor, following, read_cursor
from recorder.exchange.rest_requests import RestRequest
from recorder.exchange.signing import signed_headers
from recorder.log.rules.event import Draft
from recorder.simulator.activity import act_at_random
from recorder.simulator.config import SimulatorConfig
from recorder.simulator.engine import Exchange
from recorder.simulator.frames import Frame, encode, without_ids
from recorder.simulator.http import Asked
from recorder.simulator.requests import Placing
from recorder.simulator.rest import answer
from recorder.timestamps import to_us
from tests.daemon.exchange_books import true_ledger, true_orders, true_trades, true_transfers
from tests.projections.test_folds import events, fold, named

SEEDS = range(40)
#: A page that has so few rows is one of many; orders change too fast for fewer than this.
ROWS_MAX = (9, 30, 100)
ORDERS_MAX = (25, 100)


@define(eq=False)
class Activity:
    """An exchange, what is on its way to the recorder, and the recorder's log."""

    rng: random.Random
    has_ids: bool
    #: The exchange gives no more rows at once.
    rows_max: int
    exchange: Exchange = field(init=False)
    now: datetime = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    log: list[Draft] = field(factory=list)
    on_the_way: deque[Frame] = field(factory=deque)
    connection: int = 0
    is_connected: bool = False
    is_quiet: bool = False
    #: Since when nothing is certain; None while all is well.
    lost_at: datetime | None = None
    gaps: list[tuple[datetime, datetime]] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        config = SimulatorConfig(key="k", secret="s")
        self.exchange = Exchange(config, lambda: self.now, random.Random(self.rng.random()))
        self.lost_at = self.now

    def live(self, times: int) -> None:
        """Let something happen, at times several things in one millisecond."""
        for _ in range(times):
            if self.rng.random() < 0.6:
                self.now += timedelta(milliseconds=self.rng.choice((1, 30, 900)))
            self._send(self._act())
            self._arrive(self.rng.randint(0, 12))

    def _act(self) -> list[Frame]:
        exchange, rng = self.exchange, self.rng
        what = rng.random()
        own = exchange.open_orders()
        if what < 0.3 and own:
            order = rng.choice(own)
            part = min(order.remaining, Decimal("0.001"))
            # Twice in one millisecond: two fills that nothing but their ids reports different.
            made = exchange.fill(order.order_id, part)
            return made + (
                exchange.fill(order.order_id, part) if order.remaining >= part > 0 else []
            )
        if what < 0.45:
            exchange.trading.place(
                Placing("BTCZAR", "buy", Decimal("0.004"), Decimal(1_000_000), time_in_force="GTC")
            )
            return exchange.account.take()
        if what < 0.5 and own:
            exchange.trading.cancel(rng.choice(own))
            return exchange.account.take()
        return exchange.tick() + act_at_random(exchange)

    def _send(self, frames: Iterable[Frame]) -> None:
        if self.is_connected:
            self.on_the_way.extend(frames if self.has_ids else map(without_ids, frames))

    def _arrive(self, count: int) -> None:
        for _ in range(min(count, len(self.on_the_way))):
            frame = self.on_the_way.popleft()
            parts = (to_us(self.now), 1, f"c{self.connection}", "received", frame["type"])
            self.log.append(Draft("main", *parts, encode(frame)))

    def cut(self) -> None:
        """Lose the line, with all that is on its way."""
        self.is_connected = False
        self.lost_at = self.lost_at or self.now
        self.on_the_way.clear()

    def connect(self) -> None:
        """Listen again; now and then the line breaks in the middle of the snapshot."""
        self.connection += 1
        self.is_connected = True
        self._send(self.exchange.snapshot())
        if self.rng.random() < 0.3:
            self._arrive(self.rng.randint(0, len(self.on_the_way)))
            self.cut()
            self.live(3)
            self.connect()
            return
        self._arrive(len(self.on_the_way))
        # No line comes back within the millisecond in which something was lost.
        self.now += timedelta(milliseconds=1)
        assert self.lost_at is not None
        self.gaps.append((self.lost_at, self.now))
        self.lost_at = None

    def heal(self) -> None:
        """Read every gap, while life goes on; the line may be cut meanwhile."""
        while self.gaps:
            since, until = self.gaps.pop(0)
            for name in HistoryList:
                self._read(first_cursor(name, since, until, self.now).text())
            if not self.is_connected:
                self.connect()

    def read_all(self, name: HistoryList) -> None:
        """Read a list of the whole time."""
        self._read(first_cursor(name, self.now - timedelta(days=1), self.now, self.now).text())

    def _read(self, cursor_text: str) -> None:
        while True:
            # From the text alone, as after a crash.
            cursor = read_cursor(cursor_text)
            request = cursor.request()
            text = self._ask(request)
            kind = FETCHED_AS[request.kind].value
            page = read_history(kind, text)
            assert isinstance(page, HistoryPage) and not page.unread, page
            self.live(self.rng.random() < 0.3)
            if self.rng.random() < 0.1:
                # The recorder died before it had written the answer down.
                continue
            self.log.append(Draft("main", to_us(self.now), None, None, "fetched", kind, text))
            if self.rng.random() < 0.03 and self.is_connected and not self.is_quiet:
                self.cut()
            next_ = following(cursor, page)
            if next_ is None:
                return
            cursor_text = next_.text()

    def _ask(self, request: RestRequest) -> str:
        path = request.path_with_query
        at_ms = to_us(self.now) // 1000
        headers = {k.lower(): v for k, v in signed_headers("k", "s", at_ms, "GET", path)}
        reported = answer(self.exchange, Asked("GET", path, headers), self.now)
        assert reported.status == 200, (path, reported)
        rows = list(reported.content)
        if "history" in path:
            is_of_orders = path.startswith("/v1/orders")
            rows = rows[: ORDERS_MAX[self.rows_max > 30] if is_of_orders else self.rows_max]
        if self.rng.random() < 0.2:
            self.rng.shuffle(rows)
        return json.dumps(json.loads(encode(rows)))


def reported(seed: int) -> tuple[Activity, dict[str, Any]]:
    """Report a history to its end and fold its log."""
    history_of = Activity(random.Random(seed), seed % 3 > 0, ROWS_MAX[seed % len(ROWS_MAX)])
    history_of.live(3)
    history_of.connect()
    for _ in range(6):
        history_of.live(history_of.rng.randint(0, 15))
        if history_of.is_connected and history_of.rng.random() < 0.7:
            history_of.cut()
            history_of.live(history_of.rng.randint(0, 15))
        if not history_of.is_connected:
            history_of.connect()
        if history_of.rng.random() < 0.7:
            history_of.heal()
    history_of.heal()
    # Orders that were filled between an answer and its event are read once more.
    history_of.is_quiet = True
    history_of.read_all(HistoryList.ORDERS)
    history_of._arrive(len(history_of.on_the_way))
    drafts, tables = events(history_of.log), dict[str, Any]()
    for name in ("trades", "ledger", "orders", "transfers"):
        made, failed = fold(named(name), drafts)
        assert failed == []
        tables |= made
    return history_of, tables


def trades_of(tables: dict[str, Any]) -> Counter[tuple[Any, ...]]:
    names = ("trade_id", "order_id", "pair", "side", "price", "quantity", "fee", "fee_currency")
    rows = tables.get("trades", {}).values()
    return Counter((*(row[name] for name in names), row["traded_at"]) for row in rows)


def ledger_of(tables: dict[str, Any]) -> Counter[tuple[Any, ...]]:
    def money(row: Any, what: str) -> tuple[Any, ...] | None:
        currency = row[f"{what}_currency"]
        return None if currency is None else (currency, row[f"{what}_value"])

    return Counter(
        (
            *(row["transaction_id"], row["type"]),
            *(money(row, what) for what in ("debit", "credit", "fee")),
            row["event_at"],
        )
        for row in tables.get("ledger", {}).values()
    )


def orders_of(tables: dict[str, Any]) -> Counter[tuple[Any, ...]]:
    names = ("order_id", "pair", "side", "state", "live", "remaining_quantity", "executed_quantity")
    return Counter(
        (
            *(row[name] for name in names),
            row["average_price"] and round(row["average_price"], 12),
            row["fee"],
        )
        for row in tables.get("orders", {}).values()
    )


def transfers_of(tables: dict[str, Any]) -> Counter[tuple[Any, ...]]:
    names = ("direction", "currency", "amount", "address", "transaction_hash", "confirmations")
    return Counter(
        (*(row[name] for name in names), row["confirmed"])
        for row in tables.get("transfers", {}).values()
    )


def content(rows: Counter[tuple[Any, ...]], places: tuple[int, ...]) -> Counter[tuple[Any, ...]]:
    return Counter(tuple(row[place] for place in places) for row in rows.elements())


@pytest.mark.parametrize("seed", SEEDS)
def test_after_every_gap_was_read_the_tables_are_the_exchanges_books(seed: int) -> None:
    history_of, tables = reported(seed)
    simulator: Any = SimpleNamespace(exchange=history_of.exchange)
    assert orders_of(tables) == true_orders(simulator)
    assert transfers_of(tables) == true_transfers(simulator)
    trades, ledger = trades_of(tables), ledger_of(tables)
    if history_of.has_ids:
        assert trades == true_trades(simulator)
        assert ledger == true_ledger(simulator)
        return
    # What was reported without an id, far from any gap, has none; but it is reported once.
    assert content(trades, (2, 3, 4, 5, 8)) == content(true_trades(simulator), (2, 3, 4, 5, 8))
    assert content(ledger, (1, 2, 3, 4, 5)) == content(true_ledger(simulator), (1, 2, 3, 4, 5))
    ids = [row[0] for row in trades.elements() if row[0] is not None]
    assert len(ids) == len(set(ids))
    named_rows = Counter(row for row in trades.elements() if row[0] is not None)
    assert not named_rows - true_trades(simulator)


def test_the_histories_are_about_something() -> None:
    """What a seed reports has gaps, and the pages report of things that no frame did."""
    fetched = 0
    for seed in range(10):
        _, tables = reported(seed)
        fetched += sum(row["source"] == "backfill" for row in tables["trades"].values())
    assert fetched > 20
