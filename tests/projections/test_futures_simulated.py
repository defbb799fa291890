"""Positions and conditional orders through disconnections, against the exchange's own books."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from decimal import Decimal
from typing import Any

from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.exchange.lists import FuturesList
from recorder.log.rules.event import Draft, Note
from recorder.simulator import views
from recorder.simulator.engine import Exchange
from recorder.simulator.frames import encode
from recorder.simulator.views import Query
from tests.projections.test_folds import Tables, events, fold, named, note
from tests.simulator.scene import Frame, HandClock, new_exchange

PAIRS = ("BTCUSDTPERP", "USDTZARPERP")


@define
class Line:
    """A line to an exchange that is cut between any two frames; and what a recorder received."""

    rng: random.Random
    exchange: Exchange = field(factory=new_exchange)
    clock: HandClock = field(factory=HandClock)
    connection: int = 0
    is_up: bool = False
    received_facts: list[Draft] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.exchange.account.clock = self.exchange.account.ids.clock = self.clock
        self.exchange.clock = self.clock
        self.exchange.account.books.credit("USDT", Decimal(1_000_000), self.clock())

    def live(self) -> None:
        """Let the account do something, and be received as far as the line holds."""
        futures, rng = self.exchange.futures, self.rng
        # Equal times happen, too.
        self.clock.pass_s(rng.choice([0, 0.001, 1]))
        waiting = futures.waiting()
        with suppress(ValueError):
            if rng.random() < 0.7:
                amount, pair = Decimal(rng.randint(1, 3)) / 10, rng.choice(PAIRS)
                futures.trade(pair, rng.choice(["buy", "sell"]), amount)
            elif waiting and rng.random() < 0.5:
                futures.remove_conditional(rng.choice(waiting).order_id)
            else:
                futures.add_conditional(rng.choice(PAIRS), Decimal(0), Decimal(20))
        self.converse_with(self.exchange.account.take())

    def converse_with(self, frames: list[Frame]) -> None:
        for frame in frames:
            self.is_up = self.is_up and self.rng.random() > 0.05
            if self.is_up:
                text, name = encode(frame), f"c{self.connection}"
                draft = Draft("main", 1, 1, name, "received", frame["type"], text)
                self.received_facts.append(draft)

    def connect(self) -> None:
        """Connect again; the snapshot, or what follows at once, may be cut off again."""
        self.connection += 1
        self.is_up = True
        self.converse_with(self.exchange.snapshot())
        if self.is_up:
            name = f"c{self.connection}"
            facts = {"complete": True, "balances": True, "open_orders": True}
            self.received_facts.append(note(Note.SNAPSHOT_COMPLETE, name, **facts))

    def fetch(self) -> None:
        """Ask for the lists, twice: one alone proves no absence."""
        query = Query({})
        for _ in range(2):
            held = views.open_positions(self.exchange, query, [])
            self.keep(FuturesList.OPEN_POSITIONS, held)
            self.keep(FuturesList.CONDITIONALS, views.conditionals(self.exchange, query, []))
        closed = views.closed_summary(self.exchange, query, [])
        self.keep(FuturesList.CLOSED_SUMMARY, closed)
        for pair in PAIRS:
            past = views.conditional_history(self.exchange, query, [pair])
            self.keep(FuturesList.CONDITIONAL_HISTORY, past)

    def keep(self, kind: FuturesList, rows: list[Frame]) -> None:
        text = json.dumps(rows)
        self.received_facts.append(Draft("main", 1, None, None, "fetched", kind.value, text))

    def tables(self) -> Tables:
        made, failed = fold(named("futures"), events(self.received_facts))
        assert failed == []
        return made


def amounts(row: dict[str, Any]) -> tuple[Any, ...]:
    return (
        row["pair"],
        row["side"],
        row["quantity"],
        row["average_entry_price"],
        row["realised_pnl"],
    )


def assert_positions_are_the_books(line: Line, made: Tables) -> None:
    futures = line.exchange.futures
    rows = made.get("positions", {})
    held = {key: amounts(row) for (key,), row in rows.items() if row["is_open"]}
    assert held == {
        each.position_id: (each.pair, each.side, each.quantity, each.average, each.realised)
        for each in futures.held.values()
    }
    ended = {key for (key,), row in rows.items() if not row["is_open"]}
    assert ended <= {each.position_id for each in futures.closed}
    assert {row["state"] for row in rows.values()} <= {"open", "closed", "end_unknown"}


def after_problems(seed: int) -> Line:
    line = Line(random.Random(seed))
    for _ in range(40):
        if not line.is_up and line.rng.random() < 0.4:
            line.connect()
        line.live()
    while not line.is_up:
        line.connect()
    return line


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_after_any_cuts_and_a_complete_snapshot_the_positions_are_the_exchanges(seed: int) -> None:
    line = after_problems(seed)
    assert_positions_are_the_books(line, line.tables())


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_a_conditional_order_that_stands_wrongly_is_marked_until_a_list_decides(seed: int) -> None:
    line = after_problems(seed)
    waiting = {each.order_id for each in line.exchange.futures.waiting()}
    rows = line.tables().get("conditional_orders", {})
    wrong = [row for (key,), row in rows.items() if row["is_open"] and key not in waiting]
    assert {row["basis"] for row in wrong} <= {"unconfirmed"}
    ended = {key for (key,), row in rows.items() if not row["is_open"]}
    assert not ended & waiting

    line.fetch()
    made = line.tables()
    rows = made.get("conditional_orders", {})
    assert {key for (key,), row in rows.items() if row["is_open"]} == waiting
    assert "end_unknown" not in {row["state"] for row in rows.values()}
    assert "unconfirmed" not in {row["basis"] for row in rows.values()}
    assert_positions_are_the_books(line, made)
    results = {each.position_id: each.realised for each in line.exchange.futures.closed}
    for (key,), row in made.get("positions", {}).items():
        assert row["state"] != "end_unknown"
        assert row["is_open"] or row["realised_pnl"] in (None, results[key])
