"""Every query of the README runs on both databases, and finds what is there to be found."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from recorder.log.event import EMPTY_HEAD, Draft, Note, noted
from recorder.projections import PROJECTIONS
from recorder.storage import outbox
from recorder.storage.append import append
from recorder.storage.engine import Database, in_unit
from recorder.storage.tables import Memory, project

README = Path(__file__).parents[2] / "README.md"
QUERIES = re.findall(r"```sql\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ORDER = {
    "orderId": "o-1",
    "side": "buy",
    "quantity": "0.5",
    "price": "100",
    "currencyPair": "BTCZAR",
    "originalQuantity": "1",
    "status": "Placed",
    "type": "limit",
    "updatedAt": "2026-01-01T00:00:00.000Z",
}
FRAMES = [
    ("BALANCE_UPDATE", {"currency": "BTC", "available": "1.5", "reserved": "0", "total": "1.5"}),
    ("OPEN_ORDERS_UPDATE", [ORDER]),
    (
        "ORDER_STATUS_UPDATE",
        {
            "orderId": "o-2",
            "orderStatusType": "Filled",
            "currencyPair": "BTCZAR",
            "originalQuantity": "2",
            "remainingQuantity": "0",
            "executedPrice": "100",
            "executedQuantity": "2",
            "executedFee": "0.002",
            "orderSide": "buy",
            "orderUpdatedAt": "2026-01-01T00:00:01.000Z",
        },
    ),
    (
        "NEW_ACCOUNT_TRADE",
        {
            "id": "t-1",
            "orderId": "o-2",
            "price": "100",
            "quantity": "2",
            "currencyPair": "BTCZAR",
            "side": "buy",
            "fee": "0.002",
            "feeCurrency": "BTC",
            "tradedAt": "2026-01-01T00:00:01.000Z",
        },
    ),
    (
        "NEW_ACCOUNT_HISTORY_RECORD",
        {
            "transactionType": {"type": "LIMIT_BUY", "description": "Limit Buy"},
            "debitCurrency": "ZAR",
            "debitValue": "200",
            "creditCurrency": "BTC",
            "creditValue": "2",
            "id": "l-1",
        },
    ),
    ("SEND_STATUS_UPDATE", {"uniqueId": "w-1", "status": "SEND_BROADCASTED", "confirmations": 0}),
    # The first order is gone from the list, and no status has told how it ended.
    ("OPEN_ORDERS_UPDATE", []),
]


@pytest.fixture
def recorded(database: Database) -> Database:
    """A database in which each query has something to find."""
    started = noted("main", 1, Note.RECORDER_STARTED, {"epoch": 1, "last_event_at": None})
    drafts = [started] + [
        Draft("main", 2, 2, "c1", "received", kind, json.dumps({"type": kind, "data": content}))
        for kind, content in FRAMES
    ]
    in_unit(database.writer, append, {"main": EMPTY_HEAD}, drafts)
    for projection in PROJECTIONS:
        in_unit(
            database.projector,
            project,
            projection,
            Memory(),
            "main",
            up_to=len(drafts),
            limit=100,
            now=NOW,
        )
    cancel = '{"pair":"BTCZAR","orderId":"o-1"}'
    in_unit(database.writer, outbox.enqueue, "main", "CANCEL_ORDER", cancel)
    return database


def test_the_readme_asks_ten_questions() -> None:
    assert len(QUERIES) >= 10


@pytest.mark.parametrize("number", range(len(QUERIES)))
def test_a_query_of_the_readme_finds_what_is_there(recorded: Database, number: int) -> None:
    def ask(connection: Connection) -> int:
        return len(connection.execute(text(QUERIES[number].replace(":", r"\:"))).all())

    assert in_unit(recorded.reader, ask) > 0
