"""A small recorded history to ask the commands about, and a way to call them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from typing import Any

from attrs import frozen

from recorder.cli import main
from recorder.database.engine import Database, in_unit
from recorder.lease.sql import Lease, take
from recorder.log.rules.event import Draft, Event, Note, noted
from recorder.log.sql.read import head
from recorder.outbox.sql.queue import ensure_control
from recorder.projections import PROJECTIONS
from recorder.projections.sql.tables import Memory, project
from recorder.timestamps import from_us
from tests.log.drafts import write

LIMIT_ORDER = '{"side":"BUY","pair":"BTCZAR","quantity":"0.001","price":"1000000"}'
OPEN_ORDER_ID = "01972090-c325-7c8d-beed-203ff3630ba6"
#: Turns the text red, then clears the screen: what a hostile exchange would like to reach us with.
ESCAPES = "\x1b[31mred\x1b[2J [bold]x[/bold] \u202etxt"


@frozen
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The JSON objects of the output, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    def isatty(self) -> bool:
        return True


def ask(url: str, *argv: str, environment: Mapping[str, str] | None = None) -> Answer:
    """Call a command in this process, on this database."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(argv, {"RECORDER_DATABASE_URL": url, **(environment or {})})
    return Answer(code, out.getvalue(), err.getvalue())


def now_us() -> int:
    """Return the present; what commands call fresh is measured against it."""
    return (datetime.now(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def received(kind: str, sentence: Mapping[str, object], *, account: str = "main") -> Draft:
    """Return the draft of a frame that came in just now."""
    payload = json.dumps({"type": kind, **sentence})
    return Draft(account, now_us(), 5, "c-1", "received", kind, payload)


def balance(currency: str, available: str, reserved: str = "0", total: str | None = None) -> Draft:
    """Return the draft of a BALANCE_UPDATE."""
    sentence = {
        "currency": {"symbol": currency, "shortName": currency},
        "available": available,
        "reserved": reserved,
        "total": available if total is None else total,
        "updatedAt": from_us(now_us()).isoformat(),
    }
    return received("BALANCE_UPDATE", {"data": sentence})


def open_order(order_id: str = OPEN_ORDER_ID, **fields: str) -> dict[str, object]:
    """Return one order as a list of open orders names it."""
    return {
        "orderId": order_id,
        "side": "sell",
        "quantity": "0.0001",
        "price": "2100000",
        "currencyPair": "BTCZAR",
        "createdAt": "2026-05-30T09:40:47.525Z",
        "originalQuantity": "0.0001",
        "filledPercentage": "0.00",
        "type": "limit",
        "status": "Placed",
        "updatedAt": "2026-05-30T09:40:47.526Z",
        "timeInForce": "GTC",
        **fields,
    }


def start_notes(account: str = "main") -> list[Draft]:
    """Return the drafts of a start and a connection."""

    def note(kind: Note, connection_id: str | None = None, **facts: object) -> Draft:
        return noted(account, now_us(), kind, facts, connection_id=connection_id)

    return [
        note(Note.RECORDER_STARTED, version="1", epoch=1, last_event_at=None),
        note(Note.CONNECTION_OPENED, "c-1", url="wss://x"),
        note(Note.CONNECTION_AUTHENTICATED, "c-1"),
    ]


def snapshot_note() -> Draft:
    """Return the draft that ends a snapshot."""
    facts = {"complete": True, "balances": True, "open_orders": True, "currencies": 2}
    return noted("main", now_us(), Note.SNAPSHOT_COMPLETE, facts, connection_id="c-1")


def record_scene(database: Database) -> tuple[Event, ...]:
    """Write a start, two balances, one open order and its snapshot; fold them; hold the lease."""
    own(database)
    written = write(
        database,
        *start_notes(),
        balance("BTC", "0.00002887"),
        balance("ZAR", "100.50", "900000.000000000000000001", "900100.500000000000000001"),
        balance("XRP", "0"),
        received("OPEN_ORDERS_UPDATE", {"data": [open_order()]}),
        snapshot_note(),
    )
    fold(database)
    return written


def own(database: Database, account: str = "main", *, ended: bool = False) -> Lease:
    """Take the account's lease, one that has run out if so wished, and give it a switch."""
    now = from_us(now_us()) - timedelta(hours=1 if ended else 0)
    ttl = timedelta(minutes=5)
    lease = in_unit(database.writer, take, account, holder="host/boot/1/2", now=now, ttl=ttl)
    in_unit(database.writer, ensure_control, account, now)
    return lease


def fold(database: Database, account: str = "main") -> None:
    """Bring every projection of the account to the head."""
    last = in_unit(database.reader, head, account).position
    for projection in PROJECTIONS:
        in_unit(
            database.projector,
            project,
            projection,
            Memory(),
            account,
            up_to=last,
            limit=10_000,
            now=from_us(now_us()),
        )
