from __future__ import annotations

import json

import pytest

from recorder.database.engine import Database, in_unit
from recorder.outbox.sql.queue import (
    ensure_control,
)
from tests.log.drafts import NOW, run_sql
from tests.queries.orders import CANCEL

ENQUEUE = (
    "INSERT INTO outbox (account, command, payload, client_msg_id)"
    " VALUES ('main', 'CANCEL_ORDER', :payload, 'mine') RETURNING outbox_id"
)


def as_role(role: str) -> str:
    return f"SET LOCAL ROLE {role}"


def test_the_enqueuer_queues_and_throws_the_switch(postgres: Database) -> None:
    in_unit(postgres.writer, lambda c: ensure_control(c, "main", NOW))
    enqueuer = as_role("recorder_enqueuer")
    assert run_sql(postgres, enqueuer, ENQUEUE, payload=json.dumps(CANCEL)) == [(1,)]
    run_sql(postgres, enqueuer, "UPDATE controls SET trading = 'off' WHERE account = 'main'")
    assert len(run_sql(postgres, "SELECT * FROM outbox_transitions")) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM events",
        "SELECT * FROM balances",
        "SELECT payload FROM outbox",
        "UPDATE outbox SET status = 'accepted'",
        "INSERT INTO outbox (account, command, payload, created_by)"
        " VALUES ('main', 'CANCEL_ORDER', '{}', 'another')",
        "INSERT INTO outbox_transitions VALUES ('main', 1, 1)",
        "UPDATE controls SET changed_by = 'another'",
        "UPDATE leases SET epoch = 99",
    ],
)
def test_the_enqueuer_can_do_nothing_else(postgres: Database, statement: str) -> None:
    with pytest.raises(Exception, match="permission denied"):
        run_sql(postgres, as_role("recorder_enqueuer"), statement)


@pytest.mark.parametrize(
    "table",
    [
        *("events", "event_json", "balances", "outbox", "outbox_lookups", "leases"),
        *("balance_movements", "balance_statements"),
        *("positions", "position_history", "conditional_orders", "conditional_order_history"),
    ],
)
def test_the_reader_reads_everything_and_writes_nothing(postgres: Database, table: str) -> None:
    reader = as_role("recorder_reader")
    run_sql(postgres, reader, f"SELECT * FROM {table}")
    if table == "event_json":
        return
    with pytest.raises(Exception, match=r"permission denied|cannot delete from view"):
        run_sql(postgres, reader, f"DELETE FROM {table}")
