"""What no recorder could read is refused at the INSERT; what the recorder writes is its alone."""

from __future__ import annotations

import json
from time import process_time

import pytest

from recorder.database.engine import Database
from recorder.errors import Refused
from tests.log.drafts import run_sql
from tests.queries.orders import LIMIT, insert, queue

OURS = (
    "epoch",
    "connection_id",
    "customer_order_id",
    "order_id",
    "modify_request_id",
    "sent_position",
    "acknowledged_position",
    "resolved_position",
)
NUMBERS = {"epoch", "sent_position", "acknowledged_position", "resolved_position"}
NO_TIMES = {
    "sqlite": (
        "2030-02-30 00:00:00",
        "2030-06-31 12:00:00.000",
        "2030-02-28 24:00:00",
        "0000-01-01 00:00:00",
        "2030-02-28 00:00:00.12x456",
        "yesterday",
        "",
    ),
    "postgresql": ("infinity", "-infinity", "20000-01-01", "4000-01-01 BC"),
}
TIMES = {
    "sqlite": ("2028-02-29 23:59:59.999999", "2030-01-01 00:00:59.123", "2030-12-31 23:59:59"),
    "postgresql": ("2028-02-29 23:59:59.999999+00", "tomorrow"),
}


def order(database: Database, **columns: object) -> None:
    reported = {"account": "main", "command": "PLACE_LIMIT_ORDER", "payload": json.dumps(LIMIT)}
    insert(database, **{**reported, **columns})


@pytest.mark.parametrize("column", ["not_before", "expires_at", "created_at"])
def test_a_time_that_is_none_is_refused_by_its_name(database: Database, column: str) -> None:
    for time in NO_TIMES[database.dialect]:
        with pytest.raises(Refused, match=f"{column} must"):
            order(database, **{column: time})
    for time in TIMES[database.dialect]:
        order(database, **{column: time})


def test_a_time_can_not_be_changed_to_one_that_is_none(database: Database) -> None:
    queue(database)
    for column in ("not_before", "expires_at"):
        with pytest.raises(Refused, match=f"{column} must"):
            run_sql(
                database,
                f"UPDATE outbox SET {column} = :time",
                time=NO_TIMES[database.dialect][0],
            )


@pytest.mark.parametrize("column", ["client_msg_id", "created_by", "reason"])
def test_bytes_that_are_no_text_are_refused_by_their_columns_name(
    sqlite: Database, column: str
) -> None:
    # PostgreSQL takes none by itself.
    for wrong in ("x'ff'", "x'c3'", "x'80'", "x'eda080'", "x'610062'", "x'c3a9e9'"):
        with pytest.raises(Refused, match=f"{column} must be UTF-8"):
            run_sql(
                sqlite,
                f"INSERT INTO outbox (account, command, payload, {column})"
                f" VALUES ('main', 'PLACE_LIMIT_ORDER', :payload, CAST({wrong} AS TEXT))",
                payload=json.dumps(LIMIT),
            )
    order(sqlite, **{column: "café ₿ \U0001f600"})


def test_a_payload_in_another_encoding_is_refused(sqlite: Database) -> None:
    wrong = json.dumps({**LIMIT, "note": "?"}).replace("?", "caf\u00e9").encode("latin-1").hex()
    with pytest.raises(Refused, match="payload must be UTF-8"):
        run_sql(
            sqlite,
            "INSERT INTO outbox (account, command, payload)"
            f" VALUES ('main', 'PLACE_LIMIT_ORDER', CAST(x'{wrong}' AS TEXT))",
        )
    order(sqlite, payload=json.dumps({**LIMIT, "note": "café"}, ensure_ascii=False))


def test_a_long_text_is_looked_through_without_holding_the_database_up(sqlite: Database) -> None:
    began_s = process_time()
    order(sqlite, reason="é" * 200_000)
    with pytest.raises(Refused, match="reason must be UTF-8"):
        order(sqlite, reason="é" * 200_000 + "\0")
    # Each costs a fifth of a second; counted from the beginning for each character, half a minute.
    assert process_time() - began_s < 5


def test_a_payload_that_is_missing_is_called_so(database: Database) -> None:
    with pytest.raises(Refused, match="payload must be a JSON object"):
        order(database, payload=None)


def test_an_account_without_a_name_is_refused(database: Database) -> None:
    with pytest.raises(Refused, match="account must be given"):
        order(database, account="")


@pytest.mark.parametrize("column", OURS)
def test_what_the_recorder_writes_is_not_for_callers_to_set(
    database: Database, column: str
) -> None:
    value: object = 7 if column in NUMBERS else "x"
    with pytest.raises(Refused, match=f"{column} is for the recorder"):
        order(database, **{column: value})
    queue(database)
    with pytest.raises(Refused, match=f"{column} changes with the status"):
        run_sql(database, f"UPDATE outbox SET {column} = :value", value=value)
    with pytest.raises(Refused, match=f"{column} changes with the status"):
        run_sql(database, f"UPDATE outbox SET status = 'withdrawn', {column} = :value", value=value)


def test_the_reason_of_an_end_stays_what_it_was(database: Database) -> None:
    queue(database)
    run_sql(database, "UPDATE outbox SET status = 'withdrawn', reason = 'mine'")
    with pytest.raises(Refused, match="reason changes with the status"):
        run_sql(database, "UPDATE outbox SET reason = 'theirs'")
