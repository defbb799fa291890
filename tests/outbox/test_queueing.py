from __future__ import annotations

import json

import pytest
from sqlalchemy import Connection, text

from recorder.database.engine import Database, in_unit
from recorder.errors import Refused
from recorder.outbox.sql.queue import (
    find,
    queued,
)
from tests.log.drafts import NOW, run_sql
from tests.queries.orders import CANCEL, LIMIT, MARKET, MODIFY, VALID, insert, queue


@pytest.mark.parametrize("command", VALID)
def test_a_plain_insert_needs_account_command_and_payload_only(
    database: Database, command: str
) -> None:
    insert(database, account="main", command=command, payload=json.dumps(VALID[command]))
    [row] = in_unit(database.reader, lambda c: queued(c, "main", NOW, 10))
    assert (row.outbox_id, row.command, row.priority) == (1, command, 0)
    assert json.loads(row.payload) == VALID[command]
    assert len(row.client_msg_id) == 32


def test_what_a_caller_leaves_out_has_a_default(database: Database) -> None:
    before = run_sql(database, "SELECT CURRENT_TIMESTAMP")[0][0]
    queue(database)
    [row] = in_unit(database.reader, lambda c: find(c, "main", client_msg_id=client_msg_id(c)))
    assert row.status == "queued"
    assert row.created_by == ("sqlite" if database.dialect == "sqlite" else "postgres")
    assert row.created_at.tzinfo is not None
    assert str(before)[:13] <= row.created_at.isoformat(" ")[:13]
    if database.dialect == "sqlite":
        [(stored,)] = run_sql(database, "SELECT created_at FROM outbox")
        assert len(str(stored)) == len("YYYY-MM-DD HH:MM:SS.ffffff")


def client_msg_id(connection: Connection) -> str:
    return str(connection.execute(text("SELECT client_msg_id FROM outbox")).scalar_one())


REFUSED = [
    ("PLACE_STOP_ORDER", LIMIT, "command must be one of"),
    ("PLACE_LIMIT_ORDER", "", "payload must be a JSON object"),
    ("PLACE_LIMIT_ORDER", "no json", "payload must be a JSON object"),
    ("PLACE_LIMIT_ORDER", "[]", "payload must be a JSON object"),
    ("PLACE_LIMIT_ORDER", "null", "payload must be a JSON object"),
    ("PLACE_LIMIT_ORDER", '{"a":NaN}', "payload must be a JSON object"),
    (
        "PLACE_LIMIT_ORDER",
        {**LIMIT, "note": "x" * 100_000},
        "payload must be a JSON object of at most",
    ),
    ("PLACE_LIMIT_ORDER", json.dumps(LIMIT)[:-1] + ',"price":"2"}', "names a field twice"),
    ("PLACE_LIMIT_ORDER", {}, "side must be"),
    ("PLACE_LIMIT_ORDER", {**LIMIT, "side": "buy"}, 'side must be "BUY" or "SELL"'),
    ("PLACE_LIMIT_ORDER", {**LIMIT, "side": None}, "side must be"),
    ("PLACE_LIMIT_ORDER", {**LIMIT, "side": ["BUY"]}, "side must be"),
    ("PLACE_LIMIT_ORDER", {**LIMIT, "pair": ""}, "pair must be a string"),
    ("PLACE_LIMIT_ORDER", {**LIMIT, "pair": 7}, "pair must be a string"),
    ("PLACE_LIMIT_ORDER", {**LIMIT, "quantity": 0.001}, "quantity must be a positive decimal"),
    ("PLACE_LIMIT_ORDER", {**LIMIT, "customerOrderId": 5}, "customerOrderId must be a string"),
    ("PLACE_MARKET_ORDER", {**MARKET, "quoteAmount": "5"}, "exactly one of baseAmount"),
    ("PLACE_MARKET_ORDER", {**MARKET, "baseAmount": None}, "exactly one of baseAmount"),
    ("PLACE_MARKET_ORDER", {**MARKET, "baseAmount": "-1"}, "baseAmount must be a positive"),
    ("CANCEL_ORDER", {"pair": "BTCZAR"}, "exactly one of orderId and customerOrderId"),
    ("CANCEL_ORDER", {**CANCEL, "customerOrderId": "c"}, "exactly one of orderId"),
    ("CANCEL_ORDER", {"orderId": "o"}, "pair must be a string"),
    ("CANCEL_ORDER", {"pair": "P", "orderId": {}}, "orderId must be a string"),
    ("MODIFY_ORDER", {**MODIFY, "modifyMatchStrategy": None}, "modifyMatchStrategy must be"),
    ("MODIFY_ORDER", {**MODIFY, "orderId": None}, "exactly one of orderId"),
    ("PLACE_BATCH_ORDERS", {}, "requests must be an array of 1 to 20"),
    ("PLACE_BATCH_ORDERS", {"requests": []}, "requests must be an array of 1 to 20"),
    ("PLACE_BATCH_ORDERS", {"requests": {"a": 1}}, "requests must be an array of 1 to 20"),
    ("PLACE_BATCH_ORDERS", {"requests": [{}] * 21}, "requests must be an array of 1 to 20"),
]


@pytest.mark.parametrize(("command", "payload", "message"), REFUSED)
def test_what_can_not_be_sent_is_refused_with_the_field_named(
    database: Database, command: str, payload: object, message: str
) -> None:
    with pytest.raises(Refused, match=message):
        queue(database, command, payload)
    assert run_sql(database, "SELECT * FROM outbox") == []
    assert run_sql(database, "SELECT * FROM outbox_transitions") == []


def test_a_payload_too_deep_for_the_server_is_refused_like_any_other(database: Database) -> None:
    for depth in (1_500, 16_000):
        with pytest.raises(Refused):
            queue(database, payload='{"a":' * depth + "1" + "}" * depth)


NO_AMOUNTS = [
    *("", "0", "0.0", "00", ".", ".5", "5.", "-1", "+1", "1e3", "1E-3", "1,000", "1.2.3", "0x1"),
    *(" 1", "1 ", "1\n", "NaN", "Infinity", "١", "1\x000", "1_0", "1..2", "½"),
]


@pytest.mark.parametrize("amount", NO_AMOUNTS)
def test_an_amount_is_a_positive_plain_decimal(database: Database, amount: str) -> None:
    with pytest.raises(Refused, match=r"price must be a positive decimal|no character"):
        queue(database, payload={**LIMIT, "price": amount})


@pytest.mark.parametrize("amount", ["1", "0.1", "00.10", "123456789012345678901234567890.5"])
def test_any_positive_plain_decimal_is_an_amount(database: Database, amount: str) -> None:
    queue(database, payload={**LIMIT, "price": amount})
    ((text,),) = run_sql(database, "SELECT payload FROM outbox WHERE status = 'queued'")
    assert json.loads(str(text))["price"] == amount


@pytest.mark.parametrize("name", ["account", "command", "payload"])
def test_nothing_required_may_be_null(database: Database, name: str) -> None:
    columns = {"account": "main", "command": "CANCEL_ORDER", "payload": json.dumps(CANCEL)}
    with pytest.raises(Refused):
        insert(database, **(columns | {name: None}))


@pytest.mark.parametrize("text", ["\ud800", "a\x00b"])
def test_text_that_no_database_holds_is_refused(database: Database, text: str) -> None:
    with pytest.raises(Refused, match="client_msg_id"):
        queue(database, client_msg_id=text)
    with pytest.raises(Refused, match="payload"):
        queue(database, payload='{"a":"' + text + '"}')


def test_a_new_command_is_queued_and_nothing_else(database: Database) -> None:
    with pytest.raises(Refused, match="status of a new command"):
        insert(
            database,
            account="main",
            command="CANCEL_ORDER",
            payload=json.dumps(CANCEL),
            status="accepted",
        )


def test_a_client_message_id_queues_one_command_once(database: Database) -> None:
    first = queue(database, client_msg_id="idempotency-key")
    with pytest.raises(Refused, match="exists already"):
        queue(database, client_msg_id="idempotency-key")
    assert [
        row.outbox_id for row in in_unit(database.reader, lambda c: queued(c, "main", NOW, 9))
    ] == [first]


def test_an_idempotent_insert_is_silent_the_second_time(database: Database) -> None:
    statement = (
        "INSERT INTO outbox (account, command, payload, client_msg_id)"
        " VALUES ('main', 'CANCEL_ORDER', :payload, 'key')"
        " ON CONFLICT (account, client_msg_id) DO NOTHING"
    )
    for _ in range(2):
        run_sql(database, statement, payload=json.dumps(CANCEL))
    assert run_sql(database, "SELECT count(*) FROM outbox") == [(1,)]


REPLACEMENTS = [
    "INSERT OR REPLACE INTO outbox (account, command, payload, client_msg_id)"
    " SELECT account, command, payload, client_msg_id FROM outbox",
    "REPLACE INTO outbox (account, command, payload, client_msg_id)"
    " SELECT account, command, payload, client_msg_id FROM outbox",
    "REPLACE INTO outbox (outbox_id, account, command, payload)"
    " SELECT outbox_id, account, command, payload FROM outbox",
    "REPLACE INTO outbox (outbox_id, account, command, payload)"
    " SELECT outbox_id, 'other', command, payload FROM outbox",
    "INSERT INTO outbox (outbox_id, account, command, payload)"
    " SELECT -1, account, command, payload FROM outbox",
    "INSERT INTO outbox (account, command, payload, client_msg_id)"
    " SELECT account, command, payload, client_msg_id FROM outbox WHERE true"
    " ON CONFLICT DO UPDATE SET status = 'queued'",
]


@pytest.mark.parametrize("recursive_triggers", ["ON", "OFF"])
@pytest.mark.parametrize("statement", REPLACEMENTS)
def test_sqlites_replace_never_queues_a_sent_command_again(
    sqlite: Database, statement: str, recursive_triggers: str
) -> None:
    outbox_id = queue(sqlite)
    run_sql(sqlite, "UPDATE outbox SET status = 'sending'")
    with pytest.raises(Refused):
        run_sql(sqlite, f"PRAGMA recursive_triggers = {recursive_triggers}", statement)
    assert run_sql(sqlite, "SELECT outbox_id, status FROM outbox") == [(outbox_id, "sending")]


@pytest.mark.parametrize("moment", ["2026-03-01 12:00:00", "2026-03-01 12:00:00.123456"])
def test_a_time_on_sqlite_is_taken_as_it_sorts(sqlite: Database, moment: str) -> None:
    insert(
        sqlite,
        account="main",
        command="CANCEL_ORDER",
        payload=json.dumps(CANCEL),
        expires_at=moment,
        not_before=moment,
    )
    [row] = in_unit(sqlite.reader, lambda c: queued(c, "main", NOW, 9))
    assert row.expires_at is not None
    assert row.expires_at.replace(microsecond=0) == NOW.replace(microsecond=0)


@pytest.mark.parametrize(
    "moment",
    ["tomorrow", "2026-03-01", "2026-03-01T12:00:00", "1772366400", "2026-03-01 12:00:00+02:00"],
)
@pytest.mark.parametrize("column", ["expires_at", "not_before"])
def test_any_other_time_on_sqlite_is_refused(sqlite: Database, column: str, moment: str) -> None:
    columns = {"account": "main", "command": "CANCEL_ORDER", "payload": json.dumps(CANCEL)}
    with pytest.raises(Refused, match=column):
        insert(sqlite, **columns, **{column: moment})
    queue(sqlite)
    with pytest.raises(Refused, match=column):
        run_sql(sqlite, f"UPDATE outbox SET {column} = :moment", moment=moment)
