"""Whatever the server's defaults are and whatever stands before it, a session is as we need it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import psycopg
import pytest
from sqlalchemy import text

from recorder.client import PlaceLimitOrder, enqueue
from recorder.database.engine import Database, in_unit, open_database
from recorder.database.failures import translated
from recorder.database.migrate import bring_to_current, current_revision
from recorder.errors import ConfigurationError, StorageFailed, StorageUnavailable
from tests.cli.scene import ask, balance, fold
from tests.cli.tampering import run_script
from tests.conftest import new_postgres_database
from tests.database.pooler import transaction_pooler
from tests.log.drafts import frame, run_sql, write

#: Each would change how values are written or read, what a transaction is, or how long it may take.
HOSTILE = {
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Pacific/Chatham",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "transform_null_equals": "on",
    "lc_numeric": "C.UTF-8",
    "lc_monetary": "C.UTF-8",
    "lc_time": "C.UTF-8",
    "lc_messages": "C.UTF-8",
    "row_security": "off",
    "client_encoding": "LATIN1",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "synchronous_commit": "off",
    "statement_timeout": "200",
    "lock_timeout": "1",
    "idle_session_timeout": "500",
    "idle_in_transaction_session_timeout": "500",
    "client_min_messages": "debug5",
    "array_nulls": "off",
    "quote_all_identifiers": "on",
    "plpgsql.variable_conflict": "use_variable",
}


@pytest.fixture
def empty_url(postgres_server: str) -> Iterator[str]:
    with new_postgres_database(postgres_server, "template0") as url:
        yield url


def name_of(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


def set_default(server: str, url: str, name: str, value: str) -> None:
    """Set a default of the database, as its administrator would."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name_of(url)} SET {name} = '{value}'")


@pytest.mark.parametrize("name", HOSTILE)
def test_no_default_of_the_server_changes_what_is_written_or_read(
    postgres_server: str, empty_url: str, name: str
) -> None:
    set_default(postgres_server, empty_url, name, HOSTILE[name])
    with open_database(empty_url) as database:
        assert bring_to_current(database)
        write(database, balance("BTC", "0.10", total="1234567890.123456789"))
        write(database, frame('{"type":"PONG","message":"Grüße €😀"}', kind="PONG"))
        fold(database)
        plain = empty_url.replace("+psycopg", "")
        options = "-c statement_timeout=0 -c lock_timeout=0 -c default_transaction_read_only=off"
        with psycopg.connect(plain, options=options) as bot:
            expires = datetime(2099, 12, 3, 4, 5, 6, 789_000, tzinfo=UTC)
            order = PlaceLimitOrder(side="BUY", pair="BTCZAR", quantity="1", price=2)
            enqueue(bot, "main", order, expires_at=expires)
        assert run_sql(database, "SELECT expires_at FROM outbox") == [(expires,)]
        assert run_sql(database, "SELECT total FROM balances") == [
            (Decimal("1234567890.123456789"),)
        ]
    assert ask(empty_url, "verify", "--account", "main").code == 0
    [row] = ask(empty_url, "balances", "--account", "main", "--json").rows
    assert row["total"] == "1234567890.123456789"
    assert run_script(empty_url).code == 0


def test_a_search_path_that_changes_does_not_lead_to_other_tables(
    postgres_server: str, postgres_url: str
) -> None:
    with open_database(postgres_url) as database:
        write(database, balance("BTC", "1"))
        set_default(postgres_server, postgres_url, "search_path", "elsewhere")
        database.writer.dispose()
        assert run_sql(database, "SELECT count(*) FROM events") == [(1,)]


@pytest.mark.parametrize(
    ("name", "value", "answer"),
    [
        ("search_path", "nowhere", "search_path"),
        ("session_replication_role", "replica", "session_replication_role at 'replica'"),
    ],
)
def test_a_setting_that_can_not_be_lived_with_is_refused(
    postgres_server: str, postgres_url: str, name: str, value: str, answer: str
) -> None:
    set_default(postgres_server, postgres_url, name, value)
    with (
        open_database(postgres_url) as database,
        pytest.raises(ConfigurationError, match=answer),
    ):
        run_sql(database, "SELECT 1")


def test_the_options_of_the_url_set_limits_and_nothing_else(postgres_url: str) -> None:
    given = "&options=-c%20statement_timeout%3D7s%20-c%20DateStyle%3DGerman"
    asked = "SELECT current_setting('statement_timeout'), current_setting('DateStyle')"
    with open_database(postgres_url + given) as database:
        assert run_sql(database, asked) == [("7s", "ISO, YMD")]


@pytest.mark.parametrize("takes", [-1, 0])
@pytest.mark.parametrize("ignores_options", [False, True])
@pytest.mark.parametrize("servers", [0, 2, 3])
def test_a_pooler_in_transaction_mode_is_refused_before_anything_is_written(
    empty_url: str, takes: int, ignores_options: bool, servers: int
) -> None:
    with transaction_pooler(empty_url, takes=takes, ignores_options=ignores_options) as url:
        others = [psycopg.connect(url) for _ in range(servers)]
        for each in others:
            each.execute("SELECT 1")
        for each in others:
            each.rollback()
        found = ask(url, "migrate")
        assert found.code == 2
        assert "pooler in transaction" in found.err
        assert "session mode, or PostgreSQL's direct address" in found.err
        for each in others:
            assert each.execute("SHOW DateStyle").fetchone() == ("ISO, MDY",)
            each.close()
    with open_database(empty_url) as database:
        assert in_unit(database.writer, current_revision) is None


def test_options_that_a_pooler_refuses_are_named(empty_url: str) -> None:
    with transaction_pooler(empty_url) as url:
        found = ask(f"{url}&options=-c%20statement_timeout%3D7s", "migrate")
    assert found.code == 3
    assert "a connection pooler refuses the options of the database URL" in found.err


AWAY, BUG = (StorageUnavailable, "did not take it now"), (StorageFailed, "the database refused (")
ACCESS, MIGRATE = (StorageFailed, "refused access"), (StorageFailed, "recorder migrate")
POOLER, DAMAGED = (StorageFailed, "connection pooler"), (StorageFailed, "damaged")
#: What each class of SQLSTATE means for the log, and the codes that differ from their class.
CLASSES = {
    **dict.fromkeys(("02", "03", "0A", "0B", "0F", "0L", "0P", "0Z", "20", "21", "22"), BUG),
    **dict.fromkeys(("23", "24", "25", "27", "2B", "2D", "2F", "34", "38", "39", "3B"), BUG),
    **dict.fromkeys(("09", "10", "42", "44", "54", "55", "58", "F0", "HV", "P0", "XX"), BUG),
    **dict.fromkeys(("08", "40", "53", "57", "72"), AWAY),
    **dict.fromkeys(("28", "3D", "3F"), ACCESS),
    "26": POOLER,
}
CODES = {
    "25006": (StorageFailed, "can't be written"),
    "25P03": AWAY,
    "25P04": AWAY,
    "42501": ACCESS,
    "42P05": POOLER,
    **dict.fromkeys(("42P01", "42703", "42704", "42883"), MIGRATE),
    "53100": (StorageFailed, "free some space"),
    "55006": AWAY,
    "55P03": AWAY,
    "57P04": ACCESS,
    "58030": (StorageFailed, "disk"),
    **dict.fromkeys(("58P01", "58P02", "XX001", "XX002"), DAMAGED),
}


def every_code() -> list[str]:
    """Return the SQLSTATE of each error that the driver knows of."""
    classes = vars(sys.modules["psycopg.errors"]).values()
    errors = [
        each for each in classes if isinstance(each, type) and issubclass(each, psycopg.Error)
    ]
    return sorted({str(each.sqlstate) for each in errors if each.sqlstate is not None})


@pytest.mark.parametrize("code", every_code())
def test_each_error_of_a_server_is_diagnosed_by_its_code(code: str) -> None:
    kind, advice = CODES.get(code, CLASSES[code[:2]])
    error = translated(psycopg.errors.lookup(code)("relation events does not exist"))
    assert type(error) is kind
    assert advice in str(error)
    assert ("recorder migrate" in str(error)) == (code in ("42P01", "42703", "42704", "42883"))


def test_the_codes_are_all_there() -> None:
    assert len(every_code()) > 200


def test_an_idle_connection_is_kept_whatever_the_default(
    postgres_server: str, postgres_url: str
) -> None:
    set_default(postgres_server, postgres_url, "idle_session_timeout", "300")
    with open_database(postgres_url) as database:
        server = run_sql(database, "SELECT pg_backend_pid()")
        time.sleep(0.5)
        assert run_sql(database, "SELECT pg_backend_pid()") == server


def test_each_further_connection_is_pinned_as_well(postgres: Database) -> None:
    for _ in range(2):
        shown = in_unit(postgres.writer, lambda one: one.execute(text("SHOW TimeZone")).scalar())
        assert shown == "UTC"
        postgres.writer.dispose()
