from __future__ import annotations

import pytest

from recorder.database.engine import Database
from tests.log.drafts import frame, run_sql, write

#: Payloads that trip a careless query over JSON.
ODD = [
    "",
    "not json",
    "{",
    '{"a":1',
    "NaN",
    '{"a":NaN}',
    '{"a":Infinity}',
    '{"a":"\\u0000"}',
    '{"a":"\\ud800"}',
    '{"a":"\\ud800\\ud800"}',
    '{"a":1e999999}',
    '{"a":-1e-999999}',
    '{"a":' + "9" * 200_000 + "}",
    "[" * 100_000,
    "[" * 100_000 + "]" * 100_000,
    '{"a":' * 50_000 + "1" + "}" * 50_000,
    '{"a":1,"a":2}',
    "'",
    "\ufeff{}",
]


def test_a_query_over_all_events_never_trips(database: Database) -> None:
    write(database, *(frame(payload) for payload in ODD), frame('{"a":"found"}'))
    asked = "SELECT position FROM event_json WHERE payload ->> 'a' = 'found'"
    if database.dialect == "sqlite":
        asked = "SELECT position FROM event_json WHERE payload ->> '$.a' = 'found'"
    assert run_sql(database, asked) == [(len(ODD) + 1,)]
    run_sql(database, "SELECT * FROM event_json ORDER BY account, position")


def test_only_json_is_in_the_view(database: Database) -> None:
    write(
        database,
        frame('{"type":"PONG"}', kind="PONG"),
        frame("no json"),
        frame("[1, 2]"),
        frame("1234", encoding="base64"),
    )
    rows = run_sql(database, "SELECT position, type, payload FROM event_json ORDER BY position")
    assert [row[:2] for row in rows] == [(1, "PONG"), (3, "")]
    whole = '{"type":"PONG"}' if database.dialect == "sqlite" else {"type": "PONG"}
    assert rows[0][2] == whole


def test_the_views_columns_are_documented_ones(database: Database) -> None:
    write(database, frame())
    columns = "account, position, received_at, connection_id, origin, type, payload"
    assert len(run_sql(database, f"SELECT {columns} FROM event_json")) == 1


@pytest.mark.parametrize("payload", ["{}", "not json"])
def test_one_event_is_looked_up_without_reading_the_others(
    postgres: Database, payload: str
) -> None:
    write(postgres, *(frame(payload) for _ in range(2000)))
    asked = (
        "EXPLAIN (ANALYZE, TIMING OFF) SELECT payload FROM event_json"
        " WHERE account = 'main' AND position = 7"
    )
    plan = "\n".join(str(line) for (line,) in run_sql(postgres, "ANALYZE events", asked))
    assert "events_pkey" in plan
