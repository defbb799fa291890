"""Opens the database and runs units of work on it.

One `Database` has four engines, because four kinds of work need different guarantees:

- *writer* is durable before it returns: the log, the outbox, the leases.
- *projector* may lose its last commits in a crash of the machine, since its tables are folded again
  from the log.
- *reader* can't write, and sees one snapshot per unit.
- *scratch* sees one snapshot per unit too, and may keep temporary tables as long as its connection.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Concatenate, ParamSpec, Self, TypeVar

from attrs import define, field, frozen
from sqlalchemy import URL, Connection, Engine, Transaction, make_url
from sqlalchemy.exc import ArgumentError

from recorder.database import postgresql, sqlite
from recorder.database.failures import ForeignError, commit_errors, translated_errors
from recorder.database.prepared import driver_connection, pipelined
from recorder.errors import ConfigurationError

P = ParamSpec("P")
T = TypeVar("T")
Unit = Callable[Concatenate[Connection, P], T]

_SQLITE_DRIVERS = ("sqlite", "sqlite+pysqlite")
_POSTGRES_DRIVERS = ("postgresql", "postgres", "postgresql+psycopg")
_USE = "use sqlite:///path/to/file.db or postgresql://user@host/database"


@frozen
class Database:
    """An opened database: its engines, and its URL as it may be shown."""

    #: "sqlite" or "postgresql".
    dialect: str
    #: The URL without secrets.
    url_shown: str
    url: URL = field(repr=False)
    writer: Engine = field(repr=False)
    projector: Engine = field(repr=False)
    reader: Engine = field(repr=False)
    scratch: Engine = field(repr=False)

    def close(self) -> None:
        """Close every connection that no unit is using."""
        for engine in (self.writer, self.projector, self.reader, self.scratch):
            engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def normal_url(url: str) -> URL:
    """Return the URL with the driver we use. Raises ConfigurationError, which never shows the URL.

    A bare ``postgresql://`` or ``postgres://`` is taken for psycopg.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError(f"the database URL can't be read; {_USE}") from error
    if parsed.drivername in _POSTGRES_DRIVERS:
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in _SQLITE_DRIVERS:
        raise ConfigurationError(f"no database driver {parsed.drivername!r}; {_USE}")
    path = parsed.database or ""
    if not path or path.startswith(("file:", ":memory:")):
        raise ConfigurationError(f"a log must outlive its process, so it needs a file; {_USE}")
    if parsed.query:
        raise ConfigurationError(f"a SQLite URL takes no options; {_USE}")
    return parsed.set(drivername="sqlite+pysqlite")


def open_database(
    url: str, *, application: str = "recorder", has_checkpointer: bool = False
) -> Database:
    """Return the database behind ``url``. Connects to it only when the first unit runs.

    ``application`` is the name that PostgreSQL shows for our connections. With
    ``has_checkpointer`` the caller empties SQLite's write-ahead log, and no COMMIT does. Raises
    ConfigurationError for a URL, a SQLite library or (with the first unit) a server we can't use.
    """
    parsed = normal_url(url)
    dialect = parsed.get_backend_name()
    if dialect == "sqlite":
        engines = sqlite.open_engines(parsed, 0 if has_checkpointer else sqlite.WAL_PAGES_MAX)
    else:
        engines = postgresql.open_engines(parsed, application)
    # No options either: one of them may be a password.
    shown = parsed.set(query={}).render_as_string(hide_password=True)
    return Database(dialect, shown, parsed, **engines)


@define(eq=False)
class PersistentConnection:
    """Runs units on one connection that it keeps open, one at a time: for what runs all the time.

    A unit that fails closes the connection, for whatever reason; the next one opens another.
    """

    engine: Engine
    _connection: Connection | None = None

    def run(self, unit: Callable[..., T], *args: object, write_only: bool = False) -> T:
        """Do the same as `in_unit`. A ``write_only`` unit reads nothing, and writes only a little.

        On PostgreSQL such a unit is one round trip with its BEGIN and COMMIT. What the database
        refuses of it is then found at the COMMIT.
        """
        try:
            with translated_errors():
                self._connection = connection = self._connection or self.engine.connect()
                transaction = connection.begin()
                if write_only:
                    # The COMMIT is sent with the rest, so any break leaves it uncertain.
                    with commit_errors(), pipelined(connection, 0):
                        result = unit(connection, *args)
                        transaction.commit()
                    return result
                return _committed(transaction, unit(connection, *args))
        except BaseException:
            self.close(is_sound=False)
            raise

    def close(self, *, is_sound: bool = True) -> None:
        """Return the connection to its engine, or close it for good where it isn't sound."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if not is_sound:
            # By the driver itself: SQLAlchemy takes a transaction whose COMMIT failed for over.
            with suppress(*ForeignError):
                driver_connection(connection).rollback()
            connection.invalidate()
        with suppress(*ForeignError):
            connection.close()


def in_unit(engine: Engine, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what ``unit(connection, …)`` returns, once its transaction is committed.

    Raises StorageUnavailable, StorageFailed, LeaseLost or Refused for an error of the database, and
    any error of the unit: nothing was committed then. Only CommitUncertain leaves it open.
    """
    with translated_errors(), engine.connect() as connection:
        transaction = connection.begin()
        return _committed(transaction, unit(connection, *args, **kwargs))


def _committed(transaction: Transaction, result: T) -> T:
    with commit_errors():
        transaction.commit()
    return result
