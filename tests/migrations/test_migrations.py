from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from recorder.database.engine import Database, in_unit, open_database
from recorder.database.migrate import (
    EXPECTED,
    bring_to_current,
    current_revision,
    downgrade,
    migrate,
    migrate_unit,
    migrations_path,
)
from recorder.database.schema import metadata
from recorder.errors import SchemaMismatch
from recorder.outbox.sql.queue import queued
from recorder.projections.rules.futures import Futures
from recorder.projections.sql.tables import Memory, plan
from tests.log.drafts import frame, run_sql, write
from tests.projections.test_futures import closing, position

REPOSITORY = Path(__file__).resolve().parents[2]

ORDER = '{"side":"BUY","pair":"BTCZAR","quantity":"0.001","price":"1000000"}'


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[Database]:
    with open_database(empty_database_url) as opened:
        yield opened


def revision_of(database: Database) -> str | None:
    return in_unit(database.writer, current_revision)


def test_the_expected_revision_is_the_last_one() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations_path()))
    assert ScriptDirectory.from_config(config).get_heads() == [EXPECTED]


def test_an_empty_database_is_brought_to_the_current_schema_once(empty: Database) -> None:
    assert bring_to_current(empty)
    assert not bring_to_current(empty)
    assert revision_of(empty) == EXPECTED


def test_an_older_schema_is_refused_with_the_command_to_run(database: Database) -> None:
    downgrade(database, "0003")
    with pytest.raises(SchemaMismatch, match="recorder migrate"):
        bring_to_current(database)
    migrate(database)
    assert not bring_to_current(database)


def test_a_newer_schema_is_refused_and_left_alone(database: Database) -> None:
    run_sql(database, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaMismatch, match="newer"):
        bring_to_current(database)
    with pytest.raises(SchemaMismatch, match="newer"):
        migrate(database)
    assert revision_of(database) == "9999"


def test_a_database_of_somebody_else_is_refused_and_left_alone(empty: Database) -> None:
    run_sql(empty, "CREATE TABLE customers (name text)")
    for attempt in (bring_to_current, migrate):
        with pytest.raises(SchemaMismatch, match="of its own"):
            attempt(empty)
    assert inspect(empty.writer).get_table_names() == ["customers"]


def test_a_database_that_another_program_migrates_is_not_taken_for_a_newer_recorders(
    empty: Database,
) -> None:
    run_sql(
        empty,
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)",
        "INSERT INTO alembic_version VALUES ('1a2b3c')",
        "CREATE TABLE customers (name TEXT)",
    )
    for bring in (bring_to_current, migrate):
        with pytest.raises(SchemaMismatch, match="aren't the recorder's"):
            bring(empty)


def test_two_daemons_that_start_at_once_on_an_empty_database_share_it(
    empty_database_url: str,
) -> None:
    outcomes: list[bool] = []

    def start() -> None:
        opened = open_database(empty_database_url)
        outcomes.append(bring_to_current(opened))
        opened.close()

    daemons = [threading.Thread(target=start) for _ in range(4)]
    for daemon in daemons:
        daemon.start()
    for daemon in daemons:
        daemon.join()
    assert sorted(outcomes) == [False, False, False, True]


def test_going_back_and_forth_keeps_the_log(database: Database) -> None:
    events = write(database, frame("first"), frame("second"))
    run_sql(
        database,
        "INSERT INTO outbox (account, command, payload)"
        f" VALUES ('main', 'PLACE_LIMIT_ORDER', '{ORDER.replace(':', chr(92) + ':')}')",
    )
    run_sql(
        database,
        "INSERT INTO limits (account, pair, max_quantity) VALUES ('main', '*', '1.5')",
        "UPDATE outbox SET status = 'sending'",
        "UPDATE outbox SET status = 'queued', attempts = 1",
    )
    for revision in (
        "0010",
        "0009",
        "0008",
        "0007",
        "0006",
        "0005",
        "0004",
        "0003",
        "0002",
        "0001",
    ):
        downgrade(database, revision)
        assert revision_of(database) == revision
    migrate(database)
    assert differences(database) == []
    write(database, frame("third"))
    assert run_sql(database, "SELECT payload FROM events ORDER BY position") == [
        ("first",),
        ("second",),
        ("third",),
    ]
    assert len(events) == 2


def test_futures_are_folded_from_the_beginning_of_a_log_and_beside_it(database: Database) -> None:
    drafts = [position("1", "01"), closing()]
    write(database, *drafts)
    downgrade(database, "0008")
    values = "'main', 'balances', 2, 1, '2026-01-01 00:00:00.000000Z'"
    columns = "account, projection, position, version, updated_at"
    run_sql(database, f"INSERT INTO projections ({columns}) VALUES ({values})".replace(":", r"\:"))
    migrate(database)
    # A plan is what needs no transaction that writes.
    planned = in_unit(database.reader, plan, Futures(), Memory(), "main", up_to=2, limit=100)
    assert planned is not None
    assert (planned.checkpoint, planned.position, planned.events) == (0, 2, 2)


def test_going_back_to_base_leaves_nothing_of_ours(database: Database) -> None:
    before = catalogue(database)
    downgrade(database, "base")
    assert catalogue(database) == {"table alembic_version"}
    migrate(database)
    assert catalogue(database) == before


def test_an_unknown_revision_to_go_back_to_is_refused(database: Database) -> None:
    with pytest.raises(SchemaMismatch, match="can't go back"):
        downgrade(database, "7777")


def test_metadata_and_migrations_say_the_same(database: Database) -> None:
    assert differences(database) == []


def differences(database: Database) -> list[object]:
    def unit(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))

    return in_unit(database.writer, unit)


def test_every_key_begins_with_the_account(database: Database) -> None:
    def keys(connection: Connection) -> dict[str, list[str]]:
        found = inspect(connection)
        names = set(found.get_table_names()) - {"alembic_version"}
        return {name: found.get_pk_constraint(name)["constrained_columns"] for name in names}

    expected = {table.name: [c.name for c in table.primary_key] for table in metadata.sorted_tables}
    if database.dialect == "sqlite":
        # SQLite numbers rows by itself only where the number is the whole key.
        expected["outbox"] = ["outbox_id"]
    assert in_unit(database.reader, keys) == expected


TRIGGERS = {
    "sqlite": {
        "controls_sign",
        "controls_stay",
        "events_follow",
        "events_no_delete",
        "events_no_update",
        "events_rowid",
        "limits_sign",
        "outbox_check",
        "outbox_check_closely",
        "outbox_check_times",
        "outbox_first_transition",
        "outbox_keep",
        "outbox_lookups_follow",
        "outbox_lookups_no_delete",
        "outbox_lookups_no_update",
        "outbox_no_delete",
        "outbox_no_replace",
        "outbox_our_transition",
        "outbox_ours",
        "outbox_readable",
        "outbox_readable_reason",
        "outbox_readable_times",
        "outbox_requeue_keep",
        "outbox_requeue_settled",
        "outbox_their_transition",
        "outbox_transitions_follow",
        "outbox_transitions_no_delete",
        "outbox_transitions_no_update",
    },
    "postgresql": {
        "controls_sign",
        "controls_stay",
        "controls_tell",
        "events_follow",
        "events_no_change",
        "limits_sign",
        "outbox_able",
        "outbox_able_again",
        "outbox_check",
        "outbox_check_closely",
        "outbox_first_transition",
        "outbox_keep",
        "outbox_lookups_no_change",
        "outbox_next_transition",
        "outbox_no_delete",
        "outbox_requeue_keep",
        "outbox_requeue_settled",
        "outbox_tell",
        "outbox_tell_again",
        "outbox_tell_waiting",
        "outbox_transitions_no_change",
    },
}


def test_the_triggers_and_the_view_are_there(database: Database) -> None:
    found = catalogue(database)
    views = {"event_json", "coverage", "balance_movements", "balance_statements"}
    assert {f"view {name}" for name in views} <= found
    triggers = {name.removeprefix("trigger ") for name in found if name.startswith("trigger ")}
    assert triggers == TRIGGERS[database.dialect]


def catalogue(database: Database) -> set[str]:
    """Everything that stands in the database and isn't SQLite's or PostgreSQL's own."""
    if database.dialect == "sqlite":
        asked = (
            "SELECT type || ' ' || name FROM sqlite_master"
            " WHERE name NOT LIKE 'sqlite_%' AND type <> 'index'"
        )
    else:
        asked = """
            SELECT CASE relkind WHEN 'r' THEN 'table ' ELSE 'view ' END || relname FROM pg_class
            WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'v')
            UNION SELECT 'trigger ' || tgname FROM pg_trigger WHERE NOT tgisinternal
            UNION SELECT 'function ' || proname FROM pg_proc
            WHERE pronamespace = current_schema()::regnamespace
        """.replace("::", "\\:\\:")
    return {str(name) for (name,) in run_sql(database, asked)}


def test_tables_on_sqlite_hold_what_they_declare(sqlite: Database) -> None:
    asked = "SELECT name FROM pragma_table_list WHERE type = 'table' AND NOT strict"
    found = {name for (name,) in run_sql(sqlite, asked)}
    assert {name for name in found if not str(name).startswith("sqlite_")} == {"alembic_version"}


def test_migrating_leaves_logging_alone(empty: Database) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), logging.getLogger("recorder.log").disabled)
    bring_to_current(empty)
    assert before == (root.level, list(root.handlers), logging.getLogger("recorder.log").disabled)


def test_alembics_own_command_line_works_in_a_checkout(empty_database_url: str) -> None:
    def alembic(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "alembic", *arguments],
            cwd=REPOSITORY,
            env=os.environ | {"RECORDER_DATABASE_URL": empty_database_url},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    alembic("upgrade", "head")
    assert f"{EXPECTED} (head)" in alembic("current")
    alembic("downgrade", "base")
    assert EXPECTED not in alembic("current")


ROLES = ("recorder_reader", "recorder_enqueuer", "recorder_daemon")


def test_the_roles_are_there(postgres: Database) -> None:
    asked = "SELECT rolname FROM pg_roles WHERE rolname LIKE 'recorder%' AND NOT rolcanlogin"
    assert {name for (name,) in run_sql(postgres, asked)} == set(ROLES)


def test_who_may_not_create_roles_may_migrate(postgres_server: str, postgres_template: str) -> None:
    assert postgres_template, "another database has made the roles"

    def migrate_as_a_plain_user(connection: Connection) -> None:
        for role in ROLES:
            connection.execute(text(f"ALTER ROLE {role} RENAME TO hidden_{role}"))
        connection.execute(text("CREATE ROLE plain_user"))
        connection.execute(text("CREATE SCHEMA plain AUTHORIZATION plain_user"))
        connection.execute(text("SET LOCAL search_path = plain"))
        connection.execute(text("SET LOCAL ROLE plain_user"))
        migrate_unit(connection)
        assert current_revision(connection) == EXPECTED
        raise UndoError

    opened = open_database(postgres_server)
    with pytest.raises(UndoError):
        in_unit(opened.writer, migrate_as_a_plain_user)
    opened.close()


class UndoError(Exception):
    """Rolls everything back, roles included: they are the server's and others use them."""


def test_gaps_from_before_count_as_blind_once_the_view_is_there(database: Database) -> None:
    begun = frame("{}", at_us=1_767_225_600_000_000)
    write(database, begun)
    downgrade(database, "0008")
    columns = "account, gap_id, cause, state, is_open, last_position_before, from_at, until_at"
    times = {
        1: ("first_start", None, "2026-01-01 00:00:10.000000+00:00"),
        2: ("killed", "2026-01-01 01:00:00.000001+00:00", "2026-01-01 01:00:01.000000+00:00"),
        # The clock was set back in between.
        3: ("killed", "2026-01-01 02:00:00.000000+00:00", "2026-01-01 01:30:00.000000+00:00"),
    }
    for gap_id, (cause, begin, end) in times.items():
        zone = slice(26) if database.dialect == "sqlite" else slice(None)
        run_sql(
            database,
            f"INSERT INTO gaps ({columns}) VALUES ('main', :gap_id, :cause, 'closed', :no, 0,"
            " CAST(:begin AS {0}), CAST(:end AS {0}))".format(
                "text" if database.dialect == "sqlite" else "timestamptz"
            ),
            gap_id=gap_id,
            cause=cause,
            no=False,
            begin=begin and begin[zone],
            end=end[zone],
        )
    migrate(database)
    asked = "SELECT cause, sum(microseconds) FROM coverage WHERE cause IN ('first_start', 'killed')"
    found = [tuple(map(str, row)) for row in run_sql(database, f"{asked} GROUP BY cause")]
    assert sorted(found) == [("first_start", "10000000"), ("killed", "999999")]


def test_ledger_rows_from_before_are_movements_whose_fees_are_assumed(database: Database) -> None:
    downgrade(database, "0011")
    columns = "account, position, natural_id, type, credit_currency, credit_value"
    run_sql(
        database,
        f"INSERT INTO ledger ({columns}, fee_currency, fee_value, received_at) VALUES"
        " ('main', 1, 'a', 'LIMIT_BUY', 'BTC', '0.99', 'BTC', '0.01', '2026-01-01 00\\:00\\:00Z')",
    )
    migrate(database)
    asked = "SELECT kind, leg, fee_basis, amount FROM balance_movements ORDER BY leg"
    assert [tuple(map(str, row)) for row in run_sql(database, asked)] == [
        ("fill_in", "credit", "None", "0.99"),
        ("fee", "fee", "assumed", "-0.01"),
        ("fill_in", "fee_part", "assumed", "0.01"),
    ]
    downgrade(database, "0011")
    assert run_sql(database, "SELECT natural_id FROM ledger") == [("a",)]
    migrate(database)


@pytest.mark.parametrize("column", ["not_before", "expires_at", "created_at"])
def test_a_queued_command_with_a_time_that_is_none_ends_refused_by_the_migration(
    database: Database, column: str
) -> None:
    is_sqlite = database.dialect == "sqlite"
    downgrade(database, "0014")
    for time in ("2030-02-30 00:00:00" if is_sqlite else "infinity", "2030-02-28 00:00:00"):
        queue_plainly(database, column, ":time", time=time)
    migrate(database)
    assert fates(database) == [("refused", UNREADABLE), ("queued", None)]


@pytest.mark.parametrize("column", ["client_msg_id", "created_by", "reason", "payload"])
def test_a_queued_command_with_bytes_that_are_no_text_ends_refused_by_the_migration(
    sqlite: Database, column: str
) -> None:
    downgrade(sqlite, "0014")
    for told in ("c3a9", "ff"):
        written = (
            told if column != "payload" else ORDER[:-1].encode().hex() + f"2c226e223a22{told}227d"
        )
        queue_plainly(sqlite, column, f"CAST(x'{written}' AS TEXT)")
    migrate(sqlite)
    (read, _), unread = fates(sqlite)
    assert (read, unread) == ("queued", ("refused", UNREADABLE))
    (row,) = in_unit(sqlite.reader, lambda c: queued(c, "main", datetime.now(UTC), 9))
    assert row.outbox_id == 1


UNREADABLE = "it holds a time or a text that no recorder can read"


def queue_plainly(database: Database, column: str, value: str, **values: object) -> None:
    """Queue an order as another program does, with one column more, or another payload."""
    columns = {"account": "'main'", "command": "'PLACE_LIMIT_ORDER'", "payload": ":payload"}
    told = columns | {column: value}
    run_sql(
        database,
        f"INSERT INTO outbox ({', '.join(told)}) VALUES ({', '.join(told.values())})",
        payload=ORDER,
        **values,
    )


def fates(database: Database) -> list[tuple[object, ...]]:
    asked = "SELECT status, reason FROM outbox ORDER BY outbox_id"
    return [tuple(row) for row in run_sql(database, asked)]
