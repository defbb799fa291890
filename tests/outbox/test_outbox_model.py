"""The outbox against a model of it: callers, daemons, crashes and answers in any order.

The model is the contract's words once more, in a few dictionaries; it shares no rule with the
recorder. After every step the tables must report what it reports.
"""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest
from attrs import define, field
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection

from recorder.database.engine import Database, in_unit
from recorder.errors import LeaseLost, Refused
from recorder.exchange.commands import WireNames, generated_customer_order_id
from recorder.exchange.pacing import KIND
from recorder.lease.sql import take
from recorder.log.rules.event import Draft, Note, noted
from recorder.log.sql.append import read_head
from recorder.log.tasks.inbox import NextPosition, Submission
from recorder.log.tasks.log_writer import append_batch
from recorder.outbox.sql import queue as outbox
from recorder.outbox.sql import sending
from recorder.outbox.sql.dispatch import ClaimedCommand, Dispatched, Terms, dispatch
from recorder.outbox.sql.settle import settle
from recorder.projections.rules.orders import Orders
from recorder.projections.sql.tables import Memory, project
from tests.log.drafts import NOW, run_sql

LIMIT = '{"side":"BUY","pair":"BTCZAR","quantity":"0.001","price":"1000000"}'
TERMINAL = {"accepted", "rejected", "expired", "withdrawn", "refused"}
ENOUGH = dict.fromkeys(KIND.values(), 100)
ATTEMPTS_MAX = 5
#: Examples on each database; more for a long run.
EXAMPLES = int(os.environ.get("RECORDER_MODEL_EXAMPLES", "60"))
SELDOM = st.sampled_from([False, False, False, False, True])
_accounts = count(1)

#: What each answer does to a row in each status, written out by hand from docs/reference/outbox.md.
OPEN = ("sending", "sent", "in_doubt", "not_placed")
BECOMES = {
    "ack": dict.fromkeys(OPEN, "acknowledged"),
    "done": dict.fromkeys((*OPEN, "acknowledged"), "accepted"),
    "failed": dict.fromkeys((*OPEN, "acknowledged"), "rejected"),
    "too fast": {
        "sending": "queued",
        "sent": "queued",
        **dict.fromkeys(("in_doubt", "not_placed", "acknowledged"), "rejected"),
    },
    "lost": dict.fromkeys(("sending", "sent"), "in_doubt"),
}


class CrashError(Exception):
    """The process dies before its COMMIT."""


@define
class Row:
    """A command as the contract has it."""

    outbox_id: int
    name: str
    status: str = "queued"
    expires_at: datetime | None = None
    not_before: datetime | None = None
    attempts: int = 0
    epoch: int = 0
    connection: str = ""
    #: Every id under which it went out.
    sent: list[str] = field(factory=list)


class OutboxModel(RuleBasedStateMachine):
    """One account's outbox; every example has an account of its own."""

    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.account = f"model-{next(_accounts)}"
        self.rows: dict[int, Row] = {}
        self.epoch, self.connections = 0, 0
        self.switch = "on"
        self.now = NOW
        #: What stands in the log and isn't judged yet: (what, row or None, epoch or connection).
        self.untold: list[tuple[str, Row | None, Any]] = []

    @initialize()
    def start(self) -> None:
        in_unit(self.database.writer, outbox.ensure_control, self.account, NOW)
        self.restart()
        for _ in range(3):
            self.a_caller_queues(None)

    # Callers

    @rule(expires=st.none() | st.integers(-2, 5))
    def a_caller_queues(self, expires: int | None) -> None:
        number = len(self.rows)
        expires_at = None if expires is None else NOW + timedelta(minutes=expires)
        outbox_id = self._enqueue(LIMIT, f"{self.account}-{number}", expires_at)
        self.rows[outbox_id] = Row(outbox_id, f"{self.account}-{number}", expires_at=expires_at)

    @rule(broken=st.sampled_from(["side", "pair", "quantity", "price"]))
    def a_caller_mistypes_a_field(self, broken: str) -> None:
        wrong = json.loads(LIMIT) | {broken: "-1.x"}
        with pytest.raises(Refused, match=broken):
            self._enqueue(json.dumps(wrong), None, None)

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def a_caller_repeats_himself(self, data: st.DataObject) -> None:
        row = self._any(data)
        with pytest.raises(Refused, match="exists already"):
            self._enqueue(LIMIT, row.name, None)
        insert = "INSERT INTO outbox (account, command, payload, client_msg_id)"
        values = f"VALUES ('{self.account}', 'PLACE_LIMIT_ORDER', '{LIMIT}', '{row.name}')"
        statement = f"{insert} {values} ON CONFLICT DO NOTHING".replace(":", r"\:")
        run_sql(self.database, statement)

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def a_person_withdraws(self, data: st.DataObject) -> None:
        row = self._any(data)
        run_sql(
            self.database,
            "UPDATE outbox SET status = 'withdrawn' WHERE account = :account"
            " AND outbox_id = :id AND status = 'queued'",
            account=self.account,
            id=row.outbox_id,
        )
        if row.status == "queued":
            row.status = "withdrawn"

    @precondition(lambda self: any(row.status in TERMINAL for row in self.rows.values()))
    @rule(data=st.data(), status=st.sampled_from(["queued", "sending", "accepted", "not_placed"]))
    def no_one_moves_what_is_final(self, data: st.DataObject, status: str) -> None:
        final = [row for row in self.rows.values() if row.status in TERMINAL]
        row = data.draw(st.sampled_from(final))
        if row.status != status:
            with pytest.raises(Refused):
                run_sql(
                    self.database,
                    f"UPDATE outbox SET status = '{status}' WHERE outbox_id = {row.outbox_id}"
                    f" AND account = '{self.account}'",
                )

    @rule(switch=st.sampled_from(["on", "on", "on", "cancel_only", "off"]))
    def a_person_throws_the_switch(self, switch: str) -> None:
        run_sql(
            self.database,
            f"UPDATE controls SET trading = '{switch}' WHERE account = '{self.account}'",
        )
        self.switch = switch

    @rule(minutes=st.integers(-3, 3))
    def the_clock_jumps(self, minutes: int) -> None:
        self.now = NOW + timedelta(minutes=minutes)

    # Daemons

    @rule()
    def restart(self) -> None:
        """Another process takes the account over, and reports so in the log."""
        self.epoch += 1
        ttl, holder = timedelta(hours=1), f"process-{self.epoch}"
        at = NOW + timedelta(hours=2 * self.epoch)
        in_unit(self.database.writer, take, self.account, holder=holder, now=at, ttl=ttl)
        self._log(noted(self.account, 1, Note.RECORDER_STARTED, {"epoch": self.epoch}))
        self.untold.append(("started", None, self.epoch))
        self.connections += 1

    @rule(together=st.integers(1, 3), crashes=SELDOM, is_stale=SELDOM)
    def a_daemon_sends(self, together: int, crashes: bool, is_stale: bool) -> None:
        epoch = self.epoch - is_stale
        taken = self._dispatch(epoch, together, crashes)
        if not taken:
            fit = [row for row in self.rows.values() if self._may_go(row)]
            assert crashes or is_stale or not fit, "what may go, goes"
        assert not (is_stale and taken), "who lost the account takes nothing"
        for each in taken:
            row = self.rows[each.outbox_id]
            assert self._may_go(row)
            row.sent.append(json.loads(each.text)["clientMsgId"])
            row.status, row.epoch, row.connection = "sending", epoch, f"c{self.connections}"

    @precondition(lambda self: any(row.status == "sending" for row in self.rows.values()))
    @rule(data=st.data())
    def the_bytes_are_with_the_kernel(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from([r for r in self.rows.values() if r.status == "sending"]))
        asked = "SELECT sent_position FROM outbox WHERE account = :account AND outbox_id = :id"
        found = run_sql(self.database, asked, account=self.account, id=row.outbox_id)
        position: Any = found[0][0]
        assert in_unit(
            self.database.writer,
            lambda c: sending.mark_sent(c, self.account, row.outbox_id, position, self.now),
        )
        row.status = "sent"

    @rule()
    def the_connection_ends(self) -> None:
        closed = noted(
            self.account, 1, Note.CONNECTION_CLOSED, {}, connection_id=f"c{self.connections}"
        )
        self._log(closed)
        self.untold.append(("closed", None, f"c{self.connections}"))
        self.connections += 1

    # The exchange, on time or late, once or twice

    @precondition(lambda self: any(row.sent for row in self.rows.values()))
    @rule(data=st.data(), what=st.sampled_from(["ack", "done", "failed", "too fast"]))
    def the_exchange_answers(self, data: st.DataObject, what: str) -> None:
        row = data.draw(st.sampled_from([row for row in self.rows.values() if row.sent]))
        wire_id = data.draw(st.sampled_from(row.sent))
        order = {"orderId": f"order-{row.name}"}
        named = order | {
            "customerOrderId": generated_customer_order_id(self.account, row.outbox_id, row.name)
        }
        frames: dict[str, dict[str, Any]] = {
            "ack": {"type": "PLACE_LIMIT_WS_RESPONSE", "clientMsgId": wire_id, "data": order},
            "done": {"type": "ORDER_PROCESSED", "data": named | {"success": True}},
            "failed": {
                "type": "ORDER_PROCESSED",
                "data": named | {"success": False, "failureReason": "no"},
            },
            "too fast": {
                "type": "RATE_LIMIT_EXCEEDED",
                "clientMsgId": wire_id,
                "data": {"requestType": "PLACE_LIMIT_ORDER"},
            },
        }
        frame = frames[what]
        self._log(Draft(self.account, 1, 1, "c", "received", frame["type"], json.dumps(frame)))
        self.untold.append((what, row, wire_id))

    @rule()
    def all_is_judged(self) -> None:
        head = in_unit(self.database.reader, read_head, self.account).position
        fold = (Orders(), Memory(), self.account)
        in_unit(
            self.database.projector,
            lambda c: project(c, *fold, up_to=head, limit=1_000, now=self.now),
        )
        done = 0
        while done < head:
            done = in_unit(
                self.database.projector,
                lambda c: settle(c, self.account, up_to=head, limit=3, now=self.now),
            ).position
        reported, self.untold = self.untold, []
        for what, row, which in reported:
            if row is None:
                self._lose(what, which)
            elif what not in ("ack", "too fast") or which == _wire_id(row):
                self._prove(row, what)

    # What always holds

    @invariant()
    def the_table_equals_the_model(self) -> None:
        if self.untold:
            return
        found = run_sql(
            self.database,
            "SELECT outbox_id, status, attempts FROM outbox WHERE account = :account",
            account=self.account,
        )
        table = {row[0]: tuple(row[1:]) for row in found}
        assert table == {row.outbox_id: (row.status, row.attempts) for row in self.rows.values()}

    @invariant()
    def nothing_goes_out_twice(self) -> None:
        sent = [wire_id for row in self.rows.values() for wire_id in row.sent]
        assert len(sent) == len(set(sent))
        assert all(len(row.sent) <= row.attempts + 1 + bool(self.untold) for row in self._all())

    def teardown(self) -> None:
        """Check the histories at the end: each begins with queued and is one unbroken chain."""
        steps = run_sql(
            self.database,
            "SELECT outbox_id, from_status, to_status FROM outbox_transitions"
            " WHERE account = :account ORDER BY outbox_id, seq",
            account=self.account,
        )
        last: dict[Any, Any] = {}
        for outbox_id, one, other in steps:
            assert last.get(outbox_id) == one
            assert one not in TERMINAL
            last[outbox_id] = other

    # Ways and means

    def _all(self) -> list[Row]:
        return list(self.rows.values())

    def _any(self, data: st.DataObject) -> Row:
        return data.draw(st.sampled_from(self._all()))

    def _enqueue(self, payload: str, name: str | None, expires_at: datetime | None) -> int:
        return in_unit(
            self.database.writer,
            lambda c: outbox.enqueue(
                c,
                self.account,
                "PLACE_LIMIT_ORDER",
                payload,
                client_msg_id=name,
                expires_at=expires_at,
            ),
        )

    def _log(self, draft: Draft) -> None:
        def unit(connection: Connection) -> None:
            heads = {self.account: read_head(connection, self.account)}
            append_batch(connection, heads, [draft], [])

        in_unit(self.database.writer, unit)

    def _dispatch(self, epoch: int, together: int, crashes: bool) -> tuple[ClaimedCommand, ...]:
        done: list[Dispatched] = [Dispatched()]

        def decide(connection: Connection, next_position: NextPosition) -> list[Draft]:
            terms = Terms(
                epoch,
                f"c{self.connections}",
                WireNames({}),
                ENOUGH,
                1,
                together,
                next_position(self.account),
            )
            done[0] = dispatch(connection, self.account, None, terms, self.now)
            return [draft for each in done[0].taken for draft in self._drafts(each)]

        def unit(connection: Connection) -> None:
            heads = {self.account: read_head(connection, self.account)}
            append_batch(connection, heads, [Submission(decide=decide)], [])
            if crashes:
                raise CrashError

        try:
            in_unit(self.database.writer, unit)
        except (CrashError, LeaseLost):
            return ()
        for row in self._all():
            is_over = row.expires_at is not None and row.expires_at <= self.now
            if row.status == "queued" and is_over and epoch == self.epoch:
                row.status = "expired"
        return done[0].taken

    def _drafts(self, each: ClaimedCommand) -> list[Draft]:
        facts = {"outbox_id": each.outbox_id}
        sent = Draft(self.account, 1, 1, "c", "sent", "PLACE_LIMIT_ORDER", each.text)
        return [noted(self.account, 1, Note.COMMAND_CLAIMED, facts), sent]

    def _may_go(self, row: Row) -> bool:
        is_over = row.expires_at is not None and row.expires_at <= self.now
        is_due = row.not_before is None or row.not_before <= self.now
        return row.status == "queued" and self.switch == "on" and is_due and not is_over

    def _lose(self, what: str, which: Any) -> None:
        for row in self._all():
            is_his = row.epoch < which if what == "started" else row.connection == which
            if is_his and row.sent:
                self._prove(row, "lost")

    def _prove(self, row: Row, what: str) -> None:
        target = BECOMES[what].get(row.status)
        if target == "queued" and row.attempts + 1 >= ATTEMPTS_MAX:
            target = "rejected"
        if target == "queued":
            wait = timedelta(seconds=2**row.attempts)
            row.not_before = self.now + wait
            row.attempts, row.epoch, row.connection = row.attempts + 1, 1 << 30, ""
        row.status = target or row.status


def _wire_id(row: Row) -> str:
    """Return the id of its latest sending, by the words of docs/reference/outbox.md."""
    return row.name if not row.attempts else f"{row.name}-again{row.attempts}"


def test_the_outbox_does_what_its_model_does(database: Database) -> None:
    model = type("Model", (OutboxModel,), {"database": database})
    run_state_machine_as_test(
        model,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=60,
            deadline=None,
            derandomize=EXAMPLES <= 60,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
