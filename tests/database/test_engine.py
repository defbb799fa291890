from __future__ import annotations

import sqlite3
import stat
import threading
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, text

from recorder.database.engine import Database, in_unit, normal_url, open_database
from recorder.database.failures import translated
from recorder.errors import (
    CommitUncertain,
    ConfigurationError,
    RecorderError,
    StorageFailed,
    StorageUnavailable,
)
from recorder.log.rules.event import EMPTY_HEAD
from recorder.log.sql.append import append
from tests.log.drafts import frame, run_sql, write


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("postgresql://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgres://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/d"),
        ("sqlite:///here.db", "sqlite+pysqlite:///here.db"),
    ],
)
def test_a_bare_url_gets_our_driver(given: str, taken: str) -> None:
    assert str(normal_url(given)) == taken


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:memory?mode=memory&uri=true",
        "sqlite:///a.db?cache=shared",
        "mysql://root:hunter2@h/d",
        "postgresql+asyncpg://root:hunter2@h/d",
        "postgresql://root:hunter2@h:port/d",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        normal_url(url)
    assert "sqlite:///" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_no_text_of_a_database_shows_its_password() -> None:
    opened = open_database("postgresql://root:hunter2@nowhere.invalid/d?password=hunter2")
    with pytest.raises(RecorderError) as failed:
        in_unit(opened.writer, lambda connection: connection.execute(text("SELECT 1")))
    assert "hunter2" not in repr(opened) + opened.url_shown + str(failed.value)


def test_a_file_of_ours_is_private_to_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    opened = open_database(f"sqlite:///{path}")
    in_unit(opened.writer, lambda connection: connection.execute(text("CREATE TABLE t (a)")))
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    opened.close()


def test_reading_creates_no_file(tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    opened = open_database(f"sqlite:///{path}")
    with pytest.raises(StorageFailed, match="can't be opened"):
        in_unit(opened.reader, lambda connection: connection.execute(text("SELECT 1")))
    assert not path.exists()


def test_the_log_is_synchronous_and_projections_need_not_be(database: Database) -> None:
    asked = "PRAGMA synchronous" if database.dialect == "sqlite" else "SHOW synchronous_commit"

    def setting(connection: Connection) -> str:
        return str(connection.execute(text(asked)).scalar_one())

    found = [in_unit(engine, setting) for engine in (database.writer, database.projector)]
    assert found == (["2", "1"] if database.dialect == "sqlite" else ["on", "off"])


def test_a_reader_can_not_write(database: Database) -> None:
    def insert(connection: Connection) -> None:
        connection.execute(text("INSERT INTO controls (account, trading) VALUES ('main', 'on')"))

    with pytest.raises(StorageFailed, match="can't be written"):
        in_unit(database.reader, insert)


def test_a_reader_sees_one_moment(database: Database) -> None:
    write(database, frame())

    def count_twice(connection: Connection) -> tuple[int, int]:
        counting = text("SELECT count(*) FROM events")
        before = connection.execute(counting).scalar_one()
        write(database, frame())
        return before, connection.execute(counting).scalar_one()

    assert in_unit(database.reader, count_twice) == (1, 1)


def test_a_unit_that_raises_leaves_nothing(database: Database) -> None:
    def half(connection: Connection) -> None:
        append(connection, {"main": EMPTY_HEAD}, [frame()])
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        in_unit(database.writer, half)
    assert run_sql(database, "SELECT count(*) FROM events") == [(0,)]


def test_any_thread_may_run_units(database: Database) -> None:
    def run() -> None:
        write(database, frame())

    run()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert run_sql(database, "SELECT count(*) FROM events") == [(2,)]


def test_a_missing_table_asks_for_a_migration(empty_database_url: str) -> None:
    opened = open_database(empty_database_url)
    with pytest.raises(StorageFailed, match="recorder migrate"):
        run_sql(opened, "SELECT * FROM events")
    opened.close()


def test_another_programs_lock_is_waited_out_and_then_temporary(tmp_path: Path) -> None:
    path = tmp_path / "busy.db"
    opened = open_database(f"sqlite:///{path}")
    run_sql(opened, "CREATE TABLE t (a)", "PRAGMA busy_timeout=1")
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageUnavailable, match="busy"):
            run_sql(opened, "INSERT INTO t VALUES (1)")
        other.execute("ROLLBACK")
    other.close()
    run_sql(opened, "INSERT INTO t VALUES (1)")
    opened.close()


def test_a_full_disk_calls_for_a_person(tmp_path: Path) -> None:
    opened = open_database(f"sqlite:///{tmp_path / 'full.db'}")
    run_sql(opened, "CREATE TABLE t (a)", "PRAGMA max_page_count=4")
    with pytest.raises(StorageFailed, match="free some space"):
        run_sql(opened, "INSERT INTO t VALUES (zeroblob(100000))")
    opened.close()


def test_a_file_that_is_no_database_calls_for_a_person(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("this is no database, however long it may be " * 100)
    opened = open_database(f"sqlite:///{path}")
    with pytest.raises(StorageFailed, match="damaged"):
        run_sql(opened, "SELECT 1")
    opened.close()


def test_a_disk_that_fails_is_not_called_a_damaged_database() -> None:
    failed = sqlite3.OperationalError("disk I/O error")
    failed.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    answer = str(translated(failed))
    assert "disk" in answer
    assert "damaged" not in answer
    assert "restore" not in answer


@pytest.mark.parametrize(
    ("code", "kind", "answer"),
    [
        ("53100", StorageFailed, "free some space"),
        ("25006", StorageFailed, "can't be written"),
        ("42P01", StorageFailed, "recorder migrate"),
        ("58030", StorageFailed, "disk"),
        ("XX001", StorageFailed, "damaged"),
        ("53300", StorageUnavailable, "did not take it now"),
        ("40P01", StorageUnavailable, "did not take it now"),
        ("57P01", StorageUnavailable, "did not take it now"),
    ],
)
def test_an_error_of_a_server_is_for_the_operator_or_for_a_retry(
    code: str, kind: type[RecorderError], answer: str
) -> None:
    error = translated(psycopg.errors.lookup(code)("something"))
    assert type(error) is kind
    assert answer in str(error)


def test_a_folder_that_is_not_there_calls_for_a_person(tmp_path: Path) -> None:
    opened = open_database(f"sqlite:///{tmp_path / 'nowhere' / 'a.db'}")
    with pytest.raises(StorageFailed, match="check the path"):
        run_sql(opened, "SELECT 1")


def test_a_wrong_database_name_calls_for_a_person(postgres_server: str) -> None:
    opened = open_database(postgres_server.replace("/postgres?", "/none_such?"))
    with pytest.raises(StorageFailed, match="database name"):
        run_sql(opened, "SELECT 1")


def test_a_server_that_is_away_is_temporary(tmp_path: Path) -> None:
    opened = open_database(f"postgresql://postgres@/d?host={tmp_path}")
    with pytest.raises(StorageUnavailable, match="can't be reached"):
        run_sql(opened, "SELECT 1")


class Terminated:
    """Ends the server's side of a connection, as an administrator or a crash would."""

    def __init__(self, server: str) -> None:
        self.server = server

    def __call__(self, connection: Connection) -> None:
        backend = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with psycopg.connect(self.server, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])


@pytest.fixture
def terminate(postgres_server: str) -> Terminated:
    return Terminated(postgres_server)


def test_a_connection_lost_before_commit_is_temporary_and_leaves_nothing(
    postgres: Database, terminate: Terminated
) -> None:
    def lost(connection: Connection) -> None:
        append(connection, {"main": EMPTY_HEAD}, [frame()])
        terminate(connection)
        append(connection, {"main": EMPTY_HEAD}, [frame()])

    with pytest.raises(StorageUnavailable) as failed:
        in_unit(postgres.writer, lost)
    assert not isinstance(failed.value, CommitUncertain)
    # The next unit gets a connection that works.
    assert run_sql(postgres, "SELECT count(*) FROM events") == [(0,)]


def test_a_connection_lost_during_commit_leaves_the_outcome_unknown(
    postgres: Database, terminate: Terminated
) -> None:
    def lost(connection: Connection) -> None:
        append(connection, {"main": EMPTY_HEAD}, [frame()])
        terminate(connection)

    with pytest.raises(CommitUncertain, match="may have taken effect"):
        in_unit(postgres.writer, lost)


def test_a_statement_that_takes_too_long_is_temporary(postgres: Database) -> None:
    with pytest.raises(StorageUnavailable, match="statement timeout"):
        run_sql(postgres, "SET LOCAL statement_timeout = 1", "SELECT pg_sleep(5)")
