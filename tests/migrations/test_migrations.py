from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.dialects import registry
from sqlalchemy.schema import CreateIndex

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
from recorder.database.prepared import driver_connection
from recorder.database.schema import metadata
from recorder.database.schema_files import read_files, statements
from recorder.errors import SchemaMismatch
from tests.log.drafts import frame, run_sql, write

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


def test_an_older_schema_is_refused_with_the_command_to_run(
    database: Database,
) -> None:
    downgrade(database, "0016")
    with pytest.raises(SchemaMismatch, match=r"older than .*; run `recorder migrate`"):
        bring_to_current(database)
    assert revision_of(database) == "0016"


@pytest.mark.parametrize("revision", ["0001", "0007", "0015"])
def test_a_retired_schema_is_refused_with_the_way_over_and_left_alone(
    database: Database, revision: str
) -> None:
    write(database, frame("first"))
    run_sql(database, f"UPDATE alembic_version SET version_num = '{revision}'")
    for attempt in (bring_to_current, migrate):
        with pytest.raises(
            SchemaMismatch, match=rf"\({revision}\).*nothing was changed"
        ) as refused:
            attempt(database)
        assert "`recorder export`" in str(refused.value)
        assert "`recorder import`" in str(refused.value)
    assert revision_of(database) == revision
    assert run_sql(database, "SELECT payload FROM events") == [("first",)]


def test_a_newer_schema_is_refused_and_left_alone(database: Database) -> None:
    run_sql(database, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaMismatch, match="newer"):
        bring_to_current(database)
    with pytest.raises(SchemaMismatch, match="newer"):
        migrate(database)
    assert revision_of(database) == "9999"


def test_a_database_of_another_program_is_refused_and_left_alone(empty: Database) -> None:
    run_sql(empty, "CREATE TABLE customers (name text)")
    for attempt in (bring_to_current, migrate):
        with pytest.raises(SchemaMismatch, match="of its own"):
            attempt(empty)
    assert inspect(empty.writer).get_table_names() == ["customers"]


@pytest.mark.parametrize("revision", ["1a2b3c", "0007"])
def test_a_database_that_another_program_migrates_is_not_taken_for_a_recorders(
    empty: Database, revision: str
) -> None:
    run_sql(
        empty,
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)",
        f"INSERT INTO alembic_version VALUES ('{revision}')",
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


def test_going_back_to_base_and_up_again_with_rows_inside(database: Database) -> None:
    fill(database)
    before = catalogue(database)
    downgrade(database, "base")
    assert catalogue(database) == {"table alembic_version"}
    migrate(database)
    assert catalogue(database) == before
    assert differences(database) == []
    fill(database)


def fill(database: Database) -> None:
    """Put rows into tables of every kind."""
    assert len(write(database, frame("first"), frame("second"))) == 2
    run_sql(
        database,
        "INSERT INTO outbox (account, command, payload)"
        f" VALUES ('main', 'PLACE_LIMIT_ORDER', '{ORDER.replace(':', chr(92) + ':')}')",
        "INSERT INTO limits (account, pair, max_quantity) VALUES ('main', '*', '1.5')",
        "UPDATE outbox SET status = 'sending'",
        "UPDATE outbox SET status = 'queued', attempts = 1",
    )


def test_an_outbox_of_0016_becomes_the_present_one_with_its_rows(
    sqlite: Database, tmp_path: Path
) -> None:
    with open_database(f"sqlite:///{tmp_path / 'older.db'}") as older:
        in_unit(older.writer, create_0016)
        fill(older)
        run_sql(
            older,
            "CREATE VIEW their_view AS SELECT count(*) FROM outbox",
            "CREATE TABLE their_table (outbox_id INTEGER)",
            "CREATE TRIGGER their_trigger AFTER INSERT ON outbox"
            " BEGIN INSERT INTO their_table VALUES (NEW.outbox_id); END",
        )
        before = {name: run_sql(older, f"SELECT * FROM {name}") for name in OUTBOX}
        migrate(older)
        assert {name: run_sql(older, f"SELECT * FROM {name}") for name in OUTBOX} == before
        assert schema_of(older) == schema_of(sqlite) | {
            row for row in schema_of(older) if str(row[1]).startswith("their_")
        }
        assert run_sql(older, "SELECT * FROM their_view") == [(1,)]
        run_sql(older, "INSERT INTO outbox (account, command, payload)" + VALUES)
        assert run_sql(older, "SELECT outbox_id FROM outbox") == [(1,), (2,)]
        assert run_sql(older, "SELECT * FROM their_table") == [(2,)]


OUTBOX = ("outbox", "outbox_transitions")
VALUES = f" VALUES ('main', 'PLACE_LIMIT_ORDER', '{ORDER.replace(':', chr(92) + ':')}')"


def create_0016(connection: Connection) -> None:
    """Create the schema as it was, in which a refusal only ended the statement."""
    driver = driver_connection(connection)
    for text_ in read_files("sqlite").values():
        older = text_.replace("RAISE(ROLLBACK", "RAISE(ABORT").replace(" ON CONFLICT ROLLBACK", "")
        older = re.sub(r" *CONSTRAINT outbox_client_msg_id .*\n", "", older)
        for statement in statements(older):
            driver.execute(statement)
    driver.execute("CREATE UNIQUE INDEX outbox_client_msg_id ON outbox (account, client_msg_id)")
    driver.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    driver.execute("INSERT INTO alembic_version VALUES ('0016')")


def schema_of(database: Database) -> set[Sequence[object]]:
    asked = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE '%alembic_version%'"
    return set(run_sql(database, asked))


def test_an_outbox_of_0016_on_postgresql_keeps_its_index_as_a_constraint(
    postgres: Database,
) -> None:
    run_sql(
        postgres,
        "ALTER TABLE outbox DROP CONSTRAINT outbox_client_msg_id",
        "CREATE UNIQUE INDEX outbox_client_msg_id ON outbox (account, client_msg_id)",
        "UPDATE alembic_version SET version_num = '0016'",
    )
    migrate(postgres)
    assert differences(postgres) == []


def test_both_dialects_have_the_same_files() -> None:
    folders = [migrations_path() / "sql" / dialect for dialect in ("sqlite", "postgresql")]
    sqlite, postgresql = ({path.name for path in folder.iterdir()} for folder in folders)
    assert sqlite == postgresql


def test_an_unknown_revision_to_go_back_to_is_refused(database: Database) -> None:
    with pytest.raises(SchemaMismatch, match="can't go back"):
        downgrade(database, "7777")


def test_metadata_and_migrations_agree(database: Database) -> None:
    assert differences(database) == []


def differences(database: Database) -> list[object]:
    def unit(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))

    return in_unit(database.writer, unit)


def test_indexes_have_the_same_conditions_in_metadata_and_database(sqlite: Database) -> None:
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    found = {name: " ".join(str(sql).split()) for name, sql in run_sql(sqlite, query)}
    indexes = [index for table in metadata.sorted_tables for index in table.indexes]
    made = {index.name: str(CreateIndex(index).compile(sqlite.writer)) for index in indexes}
    assert made == found


def test_only_flags_lose_their_comparison_on_postgresql() -> None:
    indexes = [index for table in metadata.sorted_tables for index in table.indexes]
    dialect = registry.load("postgresql")()
    made = {str(index.name): str(CreateIndex(index).compile(dialect=dialect)) for index in indexes}
    assert made["orders_live"].endswith("WHERE live")
    assert made["outbox_in_order"].endswith("WHERE status = 'queued' AND in_order")
    assert made["outbox_transitions_client_msg_id"].endswith("WHERE seq = 1")


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
        "controls_no_delete",
        "controls_sign",
        "events_follow",
        "events_no_delete",
        "events_no_update",
        "events_rowid",
        "limits_sign",
        "outbox_check",
        "outbox_check_change",
        "outbox_check_reason",
        "outbox_check_times",
        "outbox_first_transition",
        "outbox_lookups_follow",
        "outbox_lookups_no_delete",
        "outbox_lookups_no_update",
        "outbox_no_delete",
        "outbox_other_transition",
        "outbox_recorder_transition",
        "outbox_transitions_follow",
        "outbox_transitions_no_delete",
        "outbox_transitions_no_update",
    },
    "postgresql": {
        "controls_no_delete",
        "controls_notify",
        "controls_sign",
        "events_follow",
        "events_no_change",
        "limits_sign",
        "outbox_check",
        "outbox_check_change",
        "outbox_first_transition",
        "outbox_lookups_no_change",
        "outbox_next_transition",
        "outbox_no_delete",
        "outbox_notify",
        "outbox_notify_requeued",
        "outbox_notify_waiting",
        "outbox_transitions_no_change",
    },
}


def test_the_triggers_and_the_view_are_there(database: Database) -> None:
    found = catalogue(database)
    views = {"event_json", "coverage", "balance_movements", "balance_statements", "foreign_orders"}
    assert {f"view {name}" for name in views} == {
        name for name in found if name.startswith("view ")
    }
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
