"""Every statement of the README and of the page of questions runs, and finds what is there."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from attrs import define, field
from sqlalchemy import Connection, text

from recorder.database.engine import Database, in_unit
from recorder.lease.sql import take
from recorder.log.rules.event import EMPTY_HEAD, Draft, Head, Note, noted
from recorder.log.sql.append import append
from recorder.outbox.rules.states import Status
from recorder.outbox.sql import queue as outbox
from recorder.outbox.sql import sending
from recorder.outbox.sql.settle import change_status, settle
from recorder.projections import PROJECTIONS
from recorder.projections.sql.tables import Memory, project

ROOT = Path(__file__).parents[2]
README, QUESTIONS = ROOT / "README.md", ROOT / "docs" / "sql-questions.md"
LINES_MAX = 150
STATEMENTS = [
    statement
    for page in (README, QUESTIONS)
    for statement in re.findall(r"```sql\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)
]
DIALECTS = {"-- SQLite": "sqlite", "-- PostgreSQL": "postgresql"}

NOW = datetime(2026, 2, 1, 12, 0, 0, tzinfo=UTC)
NOW_US = 1_769_947_200_000_000
LIMIT = '{"side":"BUY","pair":"BTCZAR","quantity":"2","price":"100"}'

ORDER = {
    "orderId": "o-1",
    "side": "buy",
    "quantity": "0.5",
    "price": "100",
    "currencyPair": "BTCZAR",
    "originalQuantity": "1",
    "status": "Placed",
    "type": "limit",
    "updatedAt": "2026-02-01T12:00:00.000Z",
}
TRADE = {
    "orderId": "o-2",
    "currencyPair": "BTCZAR",
    "side": "buy",
    "fee": "0.002",
    "feeCurrency": "BTC",
}
FRAMES = [
    ("BALANCE_UPDATE", {"currency": "BTC", "available": "1.5", "reserved": "0", "total": "1.5"}),
    # No balance at all: it stays in the log, and no table can take it.
    ("BALANCE_UPDATE", "nothing"),
    ("OPEN_ORDERS_UPDATE", [ORDER]),
    (
        "NEW_ACCOUNT_TRADE",
        TRADE
        | {"id": "t-1", "price": "100", "quantity": "1", "tradedAt": "2026-02-01T12:00:01.000Z"},
    ),
    (
        "NEW_ACCOUNT_TRADE",
        TRADE
        | {"id": "t-2", "price": "101", "quantity": "3", "tradedAt": "2026-02-01T12:00:02.000Z"},
    ),
    (
        "NEW_ACCOUNT_HISTORY_RECORD",
        {
            "transactionType": {"type": "LIMIT_BUY", "description": "Limit Buy"},
            "debitCurrency": "ZAR",
            "debitValue": "403",
            "creditCurrency": "BTC",
            "creditValue": "4",
            "id": "l-1",
        },
    ),
    (
        "NEW_PENDING_RECEIVE",
        {
            "currency": {"symbol": "BTC"},
            "receiveAddress": "somewhere",
            "transactionHash": "abc",
            "amount": "0.1",
            "createdAt": "2026-02-01T12:00:03.000Z",
            "confirmations": 0,
            "confirmed": False,
        },
    ),
    # The first order is gone from the list, and no status has reported how it ended.
    ("OPEN_ORDERS_UPDATE", []),
]


@define
class CommandOf:
    """An account with a row for every question."""

    database: Database
    heads: dict[str, Head] = field(factory=lambda: {"main": EMPTY_HEAD})

    def write(self, connection: Connection, *drafts: Draft) -> int:
        self.heads.update(append(connection, self.heads, drafts).heads)
        return self.heads["main"].position

    def append(self, *drafts: Draft) -> None:
        in_unit(self.database.writer, self.write, *drafts)

    def send(self, name: str) -> None:
        """Queue, claim and send a command."""

        def unit(connection: Connection) -> None:
            number = outbox.enqueue(
                connection, "main", "PLACE_LIMIT_ORDER", LIMIT, client_msg_id=name
            )
            assert outbox.claim(
                connection,
                "main",
                number,
                epoch=1,
                connection_id="c1",
                customer_order_id=f"cid-{name}",
                order_id=None,
                now=NOW,
            )
            position = self.write(connection, frame("PLACE_LIMIT_ORDER", {}, 1, origin="sent"))
            sending.place(connection, "main", number, position)
            assert sending.mark_sent(connection, "main", number, position, NOW)

        in_unit(self.database.writer, unit)

    def fold(self) -> None:
        up_to, projector = self.heads["main"].position, self.database.projector
        for fold in PROJECTIONS:
            in_unit(projector, project, fold, Memory(), "main", up_to=up_to, limit=100, now=NOW)
        in_unit(projector, settle, "main", up_to=up_to, limit=100, now=NOW)


def frame(
    kind: str, content: object, after_ms: int, *, origin: str = "received", **more: object
) -> Draft:
    """Return a frame, so many milliseconds after the connection opened."""
    answer = json.dumps({"type": kind, "data": content, **more})
    return Draft("main", NOW_US, after_ms * 1_000_000, "c1", origin, kind, answer)


@pytest.fixture
def recorded(database: Database) -> Database:
    """A database in which each query of the pages has something to find."""
    history_of = CommandOf(database)
    in_unit(database.writer, take, "main", holder="x", now=NOW, ttl=timedelta(hours=1))
    in_unit(database.writer, outbox.ensure_control, "main", NOW)
    history_of.append(
        noted("main", NOW_US, Note.RECORDER_STARTED, {"epoch": 1, "last_event_at": None}),
        *(frame(kind, content, 0) for kind, content in FRAMES),
    )
    history_of.send("answered")
    answer = frame("PLACE_LIMIT_WS_RESPONSE", {"orderId": "o-9"}, 42, clientMsgId="answered")
    history_of.append(answer)
    history_of.send("unanswered")
    history_of.fold()
    refused = in_unit(database.writer, outbox.enqueue, "main", "PLACE_LIMIT_ORDER", LIMIT)
    in_unit(
        database.writer,
        change_status,
        "main",
        refused,
        Status.QUEUED,
        Status.REFUSED,
        now=NOW,
        reason="postOnly: must be true or false",
    )
    return database


def numbers(kind: str) -> list[int]:
    """Return the places of the statements that begin with this word."""
    bare = [re.sub(r"^--.*\n", "", statement) for statement in STATEMENTS]
    return [place for place, statement in enumerate(bare) if statement.startswith(kind)]


def ask(database: Database, statement: str) -> list[dict[str, object]]:
    """Return what a SELECT of the pages finds; colons in it are no parameters."""

    def unit(connection: Connection) -> list[dict[str, object]]:
        found = connection.execute(text(statement.replace(":", r"\:"))).mappings()
        return [dict(row) for row in found]

    return in_unit(database.reader, unit)


def containing(words: str) -> str:
    """Return the one statement that holds these words."""
    (statement,) = (each for each in STATEMENTS if words in each)
    return str(statement)


def test_the_readme_can_be_read_in_one_go() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= LINES_MAX


def test_the_pages_answer_at_least_ten_questions() -> None:
    assert len(numbers("SELECT")) >= 10
    assert len(numbers("SELECT")) + len(numbers("INSERT")) + len(numbers("UPDATE")) == len(
        STATEMENTS
    )


def test_every_statement_can_be_pasted_into_a_shell_as_it_stands() -> None:
    pages = [README, *(ROOT / "docs").rglob("*.md")]
    found = [
        statement
        for page in pages
        for statement in re.findall(r"```sql\n(.*?)\n```", page.read_text("utf-8"), re.DOTALL)
    ]
    assert len(found) > len(STATEMENTS)
    # Without its end a shell would wait for more.
    assert [statement for statement in found if not statement.endswith(";")] == []


@pytest.mark.parametrize("number", numbers("SELECT"))
def test_a_query_of_the_pages_finds_what_is_there(recorded: Database, number: int) -> None:
    wanted = DIALECTS.get(STATEMENTS[number].split("\n", 1)[0])
    if wanted not in (None, recorded.dialect):
        pytest.skip(f"is written for {wanted}")
    assert ask(recorded, STATEMENTS[number])


@pytest.mark.parametrize("number", numbers("INSERT") + numbers("UPDATE"))
def test_a_change_of_the_pages_changes_one_row(recorded: Database, number: int) -> None:
    def change(connection: Connection) -> int:
        return connection.execute(text(STATEMENTS[number].replace(":", r"\:"))).rowcount

    assert in_unit(recorded.writer, change) == 1


def test_the_average_price_weighs_each_fill_by_its_quantity(recorded: Database) -> None:
    fills = ask(recorded, containing("AS average_price"))
    assert [float(str(row["average_price"])) for row in fills] == [100.75, 100.75]


def test_the_balance_at_a_moment_is_the_one_before_it(recorded: Database) -> None:
    query = containing("CROSS JOIN balance_history AS h")
    (held,) = ask(recorded, query)
    assert (held["currency"], float(str(held["total"]))) == ("BTC", 1.5)
    assert not ask(recorded, query.replace("2026-02-28", "2026-01-31"))
    if recorded.dialect == "sqlite":
        steps = [str(step) for step in ask(recorded, f"EXPLAIN QUERY PLAN {query}")]
        # One seek for each currency, not the whole history for each of its rows.
        (read,) = [step for step in steps if "SEARCH h " in step or "SCAN h" in step]
        assert "currency=? AND position=?" in read


def test_the_wait_for_an_answer_is_that_of_one_clock(recorded: Database) -> None:
    (answered,) = ask(recorded, containing("AS waited_ms"))
    assert float(str(answered["waited_ms"])) == 41.0


def test_only_the_unanswered_command_is_without_a_known_end(recorded: Database) -> None:
    found = ask(recorded, containing("status IN ('sending'"))
    assert [row["status"] for row in found] == ["acknowledged", "sent"]
