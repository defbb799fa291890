from __future__ import annotations

import threading
from hashlib import sha256

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from recorder.database.engine import Database, in_unit
from recorder.errors import LeaseLost, RecorderError, StorageFailed
from recorder.log.rules.digest import digest_event
from recorder.log.rules.event import EMPTY_HEAD, Draft, Head, storable_payload
from recorder.log.sql.append import ROWS_MAX, SENT_MAX, Appended, append, chained, read_head
from recorder.log.sql.read import events_after
from tests.log.drafts import NOW_US, frame, run_sql, write


def append_behind(database: Database, heads: dict[str, Head], *drafts: Draft) -> Appended:
    return in_unit(database.writer, append, heads, drafts)


def test_positions_count_without_a_hole_per_account(database: Database) -> None:
    written = write(
        database, frame(account="a"), frame(account="b"), frame(account="a"), frame(account="a")
    )
    assert [(event.account, event.position) for event in written] == [
        ("a", 1),
        ("b", 1),
        ("a", 2),
        ("a", 3),
    ]
    assert write(database, frame(account="b"))[0].position == 2


def test_what_was_appended_is_what_is_read(database: Database) -> None:
    drafts = [
        frame('{"type":"PONG"}', kind="PONG"),
        Draft("main", 0, None, None, "noted", "X", "payload", "text"),
        Draft("main", -1, -(2**62), "", "fetched", "", "\t\n\\ \\. \r 'quoted' \"é😀", "text"),
        Draft("main", 253_402_300_799_999_999, 2**62, "c", "sent", "", "AA==", "base64"),
    ]
    written = write(database, *drafts)
    read = in_unit(database.reader, events_after, "main", 0, limit=10)
    assert tuple(read) == written
    assert [event.payload for event in read] == [draft.payload for draft in drafts]


def test_the_digest_chains_every_event_to_the_one_before(database: Database) -> None:
    first, second = write(database, frame("one"), frame("two"))
    assert first.digest == digest_event(bytes(32), 1, frame("one"))
    assert second.digest == digest_event(first.digest, 2, frame("two"))


def test_the_digest_is_the_documented_one(database: Database) -> None:
    def field(value: str) -> bytes:
        return len(value.encode()).to_bytes(4, "big") + value.encode()

    values = ["1", "main", "1", str(NOW_US), "c-1", "received", "PONG", "text", '{"é":1}']
    expected = sha256(bytes(32) + b"".join(map(field, values))).digest()
    [event] = write(database, frame('{"é":1}', kind="PONG"))
    assert event.digest == expected


@pytest.mark.parametrize(
    "rows",
    [1, 2, 3, SENT_MAX, SENT_MAX + 1, ROWS_MAX - 1, ROWS_MAX, ROWS_MAX + 1, 3 * ROWS_MAX + 77],
)
def test_a_batch_of_any_size_is_appended_whole_and_in_order(database: Database, rows: int) -> None:
    drafts = [frame(str(number)) for number in range(rows)]
    written = write(database, *drafts)
    assert in_unit(database.reader, read_head, "main") == Head(rows, written[-1].digest)
    read = in_unit(database.reader, events_after, "main", 0, limit=rows + 1)
    assert [event.payload for event in read] == [draft.payload for draft in drafts]


def test_an_empty_batch_appends_nothing(database: Database) -> None:
    assert append_behind(database, {}) == Appended({}, ())


def test_the_head_of_an_empty_log_is_position_zero(database: Database) -> None:
    assert in_unit(database.reader, read_head, "main") == EMPTY_HEAD


def test_a_process_that_lost_the_account_can_not_append(database: Database) -> None:
    write(database, frame("the new owner's"))
    with pytest.raises(LeaseLost, match="another process appended"):
        append_behind(database, {"main": EMPTY_HEAD}, frame("the old owner's"))
    assert run_sql(database, "SELECT payload FROM events") == [("the new owner's",)]


def test_an_append_that_would_leave_a_hole_is_refused_whole(database: Database) -> None:
    ahead = {"main": Head(7, bytes(32)), "other": EMPTY_HEAD}
    with pytest.raises(LeaseLost, match="does not follow"):
        append_behind(database, ahead, frame(account="other"), frame())
    assert run_sql(database, "SELECT * FROM events") == []


def test_of_two_processes_that_append_at_once_one_loses(database: Database) -> None:
    both_ready = threading.Barrier(2)
    outcomes: list[str] = []

    def race(name: str) -> None:
        def unit(connection: Connection) -> None:
            append(connection, {"main": EMPTY_HEAD}, [frame(name)] * 3)

        both_ready.wait()
        try:
            in_unit(database.writer, unit)
        except RecorderError as error:
            outcomes.append(type(error).__name__)
        else:
            outcomes.append("appended")

    threads = [threading.Thread(target=race, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["LeaseLost", "appended"]
    assert run_sql(database, "SELECT count(*), max(position) FROM events") == [(3, 3)]


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    raw=st.lists(
        st.one_of(st.text(), st.text("\\.Nnrt\n\r\t\v\x85"), st.binary()), min_size=1, max_size=5
    ),
    # Few and many rows go different ways.
    times=st.sampled_from([1, SENT_MAX + 1]),
)
def test_whatever_was_on_the_wire_comes_back(
    database: Database, raw: list[str | bytes], times: int
) -> None:
    stored = [storable_payload(wire) for wire in raw] * times
    written = write(database, *(frame(text, encoding=how) for text, how in stored))
    after = written[0].position - 1
    read = in_unit(database.reader, events_after, "main", after, limit=len(stored))
    assert [(event.payload, event.encoding) for event in read] == stored
    assert read == list(written)


def test_chaining_needs_no_database() -> None:
    made = chained({"main": EMPTY_HEAD}, [frame("a"), frame("b")])
    assert made.heads == {"main": Head(2, made.events[1].digest)}


APPEND_ONLY = [
    "UPDATE events SET payload = 'forged' WHERE position = 1",
    "UPDATE events SET position = position + 10",
    "DELETE FROM events WHERE position = 2",
    "DELETE FROM events",
]


@pytest.mark.parametrize("statement", APPEND_ONLY)
def test_no_one_can_change_the_log(database: Database, statement: str) -> None:
    written = write(database, frame("one"), frame("two"))
    with pytest.raises(StorageFailed, match="append-only"):
        run_sql(database, statement)
    assert tuple(in_unit(database.reader, events_after, "main", 0, limit=9)) == written


@pytest.mark.parametrize("truncate", ["TRUNCATE events", "TRUNCATE events CASCADE"])
def test_the_log_can_not_be_truncated(postgres: Database, truncate: str) -> None:
    write(postgres, frame())
    with pytest.raises(StorageFailed, match="append-only"):
        run_sql(postgres, truncate)


def test_triggers_switched_off_for_replication_still_refuse(postgres: Database) -> None:
    write(postgres, frame())
    with pytest.raises(StorageFailed, match="append-only"):
        run_sql(postgres, "SET LOCAL session_replication_role = replica", "DELETE FROM events")


COLUMNS = "account, position, received_at, origin, type, payload, encoding, digest"
VALUES = "'2026-03-01 12:00:00.000000', 'received', '', 'forged', 'text', zeroblob(32)"
REPLACEMENTS = [
    f"INSERT OR REPLACE INTO events ({COLUMNS}) VALUES ('main', 1, {VALUES})",
    f"REPLACE INTO events ({COLUMNS}) VALUES ('main', 2, {VALUES})",
    f"REPLACE INTO events (rowid, {COLUMNS}) VALUES (1, 'main', 3, {VALUES})",
    f"REPLACE INTO events (rowid, {COLUMNS}) VALUES (-1, 'main', 3, {VALUES})",
    f"INSERT INTO events ({COLUMNS}) VALUES ('main', 1, {VALUES})"
    " ON CONFLICT DO UPDATE SET payload = excluded.payload",
    "UPDATE OR REPLACE events SET position = 2 WHERE position = 1",
]


@pytest.mark.parametrize("recursive_triggers", ["ON", "OFF"])
@pytest.mark.parametrize("statement", REPLACEMENTS)
def test_sqlites_replace_can_not_change_the_log(
    sqlite: Database, statement: str, recursive_triggers: str
) -> None:
    written = write(sqlite, frame("one"), frame("two"))
    with pytest.raises(RecorderError, match="events: "):
        run_sql(sqlite, f"PRAGMA recursive_triggers = {recursive_triggers}", statement)
    assert tuple(in_unit(sqlite.reader, events_after, "main", 0, limit=9)) == written


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("origin", "'invented'"),
        ("encoding", "'hex'"),
        ("position", "0"),
        ("digest", "'too short'"),
        ("payload", "NULL"),
        ("type", "NULL"),
    ],
)
def test_a_row_that_is_no_event_is_refused(database: Database, column: str, value: str) -> None:
    digest = "zeroblob(32)" if database.dialect == "sqlite" else "decode(repeat('00', 32), 'hex')"
    given = {
        "account": "'main'",
        "position": "1",
        "received_at": "'2026-03-01 12:00:00.000000'",
        "origin": "'received'",
        "type": "''",
        "payload": "''",
        "encoding": "'text'",
        "digest": digest,
    } | {column: value}
    insert = f"INSERT INTO events ({', '.join(given)}) VALUES ({', '.join(given.values())})"
    with pytest.raises(RecorderError):
        run_sql(database, insert)
    assert run_sql(database, "SELECT * FROM events") == []
