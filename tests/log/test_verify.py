from __future__ import annotations

from collections.abc import Callable

import pytest

from recorder.database.engine import Database, in_unit
from recorder.log.rules.event import Draft, Head
from recorder.log.sql.read import PAGE_BYTES, PAGE_ROWS
from recorder.log.sql.verify import Damage, Verified, verify_account
from tests.log.drafts import NOW_US, frame, run_sql, write


def verified(database: Database, on_progress: Callable[[int], object] = id) -> Verified | Damage:
    return in_unit(database.reader, verify_account, "main", on_progress)


@pytest.fixture
def log(database: Database) -> Database:
    """A log of five events of one account, between those of another."""
    write(
        database,
        frame('{"type":"PONG"}', kind="PONG", account="other"),
        frame('{"type":"PONG"}', kind="PONG"),
        frame("no json"),
        frame("AAEC", encoding="base64"),
        Draft("main", NOW_US, None, None, "noted", "X", '{"type":"X","data":{}}'),
        Draft("main", NOW_US, 1, "c", "fetched", "ORDER_HISTORY", "[]"),
        frame(account="other"),
    )
    return database


def tamper(database: Database, *statements: str) -> None:
    """Change the log as an attacker can who owns the database and switches the triggers off."""
    if database.dialect == "postgresql":
        run_sql(database, "ALTER TABLE events DISABLE TRIGGER ALL", *statements)
        return
    triggers = run_sql(
        database, "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'events'"
    )
    run_sql(database, *(f"DROP TRIGGER {name}" for (name,) in triggers), *statements)


def test_a_log_as_it_was_written_is_proved(log: Database) -> None:
    last = run_sql(log, "SELECT digest FROM events WHERE account = 'main' AND position = 5")
    assert verified(log) == Verified(5, Head(5, bytes(last[0][0])))  # type: ignore[call-overload]


def test_an_empty_log_is_proved(database: Database) -> None:
    assert verified(database) == Verified(0, Head(0, bytes(32)))


CONTENT = [
    ("payload", '\'{"type":"PONG"} \''),
    ("received_at", "'2026-03-01 12:00:00.123457'"),
    ("connection_id", "'c-2'"),
    ("connection_id", "NULL"),
    ("origin", "'sent'"),
    ("type", "'PING'"),
    ("type", "''"),
    ("encoding", "'base64'"),
]


@pytest.mark.parametrize(("column", "value"), CONTENT)
def test_a_changed_event_is_damage_at_its_position(log: Database, column: str, value: str) -> None:
    value = value.replace(":", "\\:")
    tamper(log, f"UPDATE events SET {column} = {value} WHERE account = 'main' AND position = 1")
    damage = verified(log)
    assert isinstance(damage, Damage)
    assert damage.position == 1


@pytest.mark.parametrize("position", [1, 2, 3, 4])
def test_a_missing_event_is_damage_at_its_position(log: Database, position: int) -> None:
    tamper(log, f"DELETE FROM events WHERE account = 'main' AND position = {position}")
    damage = verified(log)
    assert isinstance(damage, Damage)
    assert (damage.position, damage.what) == (
        position,
        f"missing; the next one that stands is {position + 1}",
    )


def test_a_closed_up_hole_is_damage(log: Database) -> None:
    move = "UPDATE events SET position = {} WHERE account = 'main' AND position = {}"
    tamper(
        log,
        "DELETE FROM events WHERE account = 'main' AND position = 3",
        move.format(3, 4),
        move.format(4, 5),
    )
    damage = verified(log)
    assert isinstance(damage, Damage)
    assert damage.position == 3


def test_events_that_changed_places_are_damage(log: Database) -> None:
    move = "UPDATE events SET position = {} WHERE account = 'main' AND position = {}"
    tamper(log, move.format(99, 2), move.format(2, 3), move.format(3, 99))
    damage = verified(log)
    assert isinstance(damage, Damage)
    assert damage.position == 2


def test_an_event_of_another_account_is_damage(log: Database) -> None:
    tamper(
        log,
        "DELETE FROM events WHERE account = 'main' AND position = 5",
        "UPDATE events SET account = 'main', position = 5 WHERE account = 'other' AND position = 2",
    )
    damage = verified(log)
    assert isinstance(damage, Damage)
    assert damage.position == 5


@pytest.mark.parametrize("position", [0, -7])
def test_a_position_before_the_first_is_damage(log: Database, position: int) -> None:
    free = (
        "PRAGMA ignore_check_constraints = ON"
        if log.dialect == "sqlite"
        else "ALTER TABLE events DROP CONSTRAINT events_position"
    )
    change = f"UPDATE events SET position = {position} WHERE account = 'main' AND position = 1"
    tamper(log, free, change)
    damage = verified(log)
    assert isinstance(damage, Damage)
    assert (damage.position, damage.what) == (position, "out of order; expected 1")


def test_a_cut_tail_is_another_head_and_no_damage(log: Database) -> None:
    whole = verified(log)
    tamper(log, "DELETE FROM events WHERE account = 'main' AND position = 5")
    cut = verified(log)
    assert isinstance(cut, Verified)
    assert (cut.events, cut == whole) == (4, False)


def test_a_rewritten_chain_is_another_head(log: Database) -> None:
    whole = verified(log)
    tamper(log, "DELETE FROM events WHERE account = 'main'")
    write(log, *(frame("forged") for _ in range(5)))
    forged = verified(log)
    assert isinstance(forged, Verified)
    assert forged.events == 5
    assert forged != whole


#: What a row can hold once the table's own rules are out of the way.
ROTTEN = [
    ("received_at", "'yesterday'"),
    ("received_at", "NULL"),
    ("received_at", "12"),
    ("received_at", "x'ff00'"),
    ("payload", "NULL"),
    ("payload", "x'ff'"),
    ("payload", "CAST(x'ff' AS TEXT)"),
    ("payload", "5"),
    ("origin", "'invented'"),
    ("origin", "NULL"),
    ("encoding", "7.5"),
    ("type", "CAST(x'c328' AS TEXT)"),
    ("connection_id", "CAST(x'80' AS TEXT)"),
    ("digest", "NULL"),
    ("digest", "'short'"),
    ("digest", "CAST(x'ff' AS TEXT)"),
    ("elapsed_ns", "'soon'"),
    ("elapsed_ns", "CAST(x'ff' AS TEXT)"),
    ("position", "'two'"),
    ("position", "NULL"),
    ("position", "2.5"),
    ("position", "x'ff'"),
]


@pytest.mark.parametrize(("column", "value"), ROTTEN)
def test_no_rotten_row_stops_the_proof_with_an_error(
    sqlite: Database, column: str, value: str
) -> None:
    write(sqlite, frame("1"), frame("2"), frame("3"))
    tamper(
        sqlite,
        "ALTER TABLE events RENAME TO sound",
        "CREATE TABLE events (account, position, received_at, elapsed_ns, connection_id, origin,"
        " type, payload, encoding, digest)",
        "INSERT INTO events SELECT * FROM sound",
        f"UPDATE events SET {column} = {value} WHERE position = 2",
    )
    damage = verified(sqlite)
    assert isinstance(damage, Damage)
    assert damage.position in (1, 2)


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "0044-03-15 BC", "20000-01-01"])
def test_no_time_that_python_lacks_stops_the_proof_with_an_error(
    postgres: Database, moment: str
) -> None:
    write(postgres, frame("1"), frame("2"))
    tamper(postgres, f"UPDATE events SET received_at = '{moment}' WHERE position = 2")
    damage = verified(postgres)
    assert isinstance(damage, Damage)
    assert damage.position == 2


def test_progress_is_reported_and_the_end_reached_across_pages(database: Database) -> None:
    write(database, *(frame(str(number)) for number in range(PAGE_ROWS + 5)))
    write(database, frame("x" * PAGE_BYTES), frame("y" * PAGE_BYTES))
    reported: list[int] = []
    done = verified(database, reported.append)
    assert isinstance(done, Verified)
    assert done.events == PAGE_ROWS + 7
    assert reported[0] <= PAGE_ROWS
    assert reported == sorted(reported)
    assert reported[-1] == done.events
