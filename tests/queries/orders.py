"""Commands to queue, and two ways to queue them: through our code, and as any program does."""

from __future__ import annotations

import json

from recorder.database.engine import Database, in_unit
from recorder.outbox.sql.queue import enqueue
from tests.log.drafts import run_sql

LIMIT = {"side": "BUY", "pair": "BTCZAR", "quantity": "0.001", "price": "1000000"}
MARKET = {"side": "SELL", "pair": "BTCZAR", "baseAmount": "0.5"}
CANCEL = {"pair": "BTCZAR", "orderId": "o-1"}
MODIFY = {
    "pair": "BTCZAR",
    "orderId": "o-1",
    "modifyMatchStrategy": "RETAIN_ORIGINAL",
    "newPrice": "1000001",
}
BATCH = {"requests": [{"type": "PLACE_LIMIT", "data": LIMIT}]}
VALID = {
    "PLACE_LIMIT_ORDER": LIMIT,
    "PLACE_MARKET_ORDER": MARKET,
    "CANCEL_ORDER": CANCEL,
    "MODIFY_ORDER": MODIFY,
    "PLACE_BATCH_ORDERS": BATCH,
}


def queue(
    database: Database,
    command: str = "PLACE_LIMIT_ORDER",
    payload: object = None,
    **options: object,
) -> int:
    answer = VALID[command] if payload is None else payload
    given = answer if isinstance(answer, str) else json.dumps(answer)
    return in_unit(database.writer, lambda c: enqueue(c, "main", command, given, **options))  # type: ignore[arg-type]


def insert(database: Database, **columns: object) -> None:
    """Insert as another program would, without our code."""
    names = ", ".join(columns)
    values = ", ".join(f":{name}" for name in columns)
    run_sql(database, f"INSERT INTO outbox ({names}) VALUES ({values})", **columns)
