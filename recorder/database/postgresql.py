"""Opens PostgreSQL's engines.

A worker thread that waits on a dead server can't be interrupted, so every wait has a limit: to
connect, for a statement, for an idle transaction, for a peer that no longer answers TCP.

What we rely on is set in each connection when it is opened, and then asked back: whatever the
server's, the database's or the role's defaults are, and whatever stands between. Nothing is sent as
a startup parameter that a pooler would refuse or ignore.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import psycopg
from attrs import define
from sqlalchemy import URL, Dialect, Engine, NullPool, create_engine, event

from recorder.database.pooler import refuse_transaction_pooler
from recorder.errors import ConfigurationError

#: The first with `IS JSON` and pg_input_is_valid().
OLDEST = 16
CONNECT_TIMEOUT_S = 10
STATEMENT_TIMEOUT = "30s"
#: A process that was stopped inside a transaction loses its locks after this time.
IDLE_IN_TRANSACTION_TIMEOUT = "10s"
#: An unacknowledged write breaks the connection after this time.
TCP_USER_TIMEOUT_MS = 20_000
#: Per engine: connections kept open, more at a peak, and seconds to wait for one.
_POOL = {"pool_size": 4, "max_overflow": 12, "pool_timeout": 30}
_ONE_SNAPSHOT = {"isolation_level": "REPEATABLE READ"}

_KEEPALIVES = {
    "keepalives": 1,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": TCP_USER_TIMEOUT_MS,
}
_BOUNDED = {
    "statement_timeout": STATEMENT_TIMEOUT,
    "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_TIMEOUT,
}
_UNBOUNDED = dict.fromkeys(_BOUNDED, "0")
#: How values are written and read, and what a transaction is, in every connection.
_PINNED = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "default_transaction_read_only": "off",
    "lock_timeout": "0",
    "idle_session_timeout": "0",
}
#: Since PostgreSQL 17.
_TRANSACTION_TIMEOUT = {"transaction_timeout": "0"}
#: Limits that the URL's own ``options`` may set otherwise.
_LIMITS = frozenset({*_BOUNDED, "lock_timeout", "idle_session_timeout", "transaction_timeout"})
_OPTION = re.compile(r"(?:-c\s*|--)([\w.-]+)\s*=")
_SET = (
    "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS s (name, value)"
)
_ASK = "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS s (name)"


@define
class _Schema:
    """The search path that the first connection found; all others have the same."""

    path: str | None = None


def open_engines(url: URL, application: str) -> dict[str, Engine]:
    """Return the engines by name. Server and session are checked at each connection."""
    schema = _Schema()

    def engine(settings: dict[str, str], **options: Any) -> Engine:
        made = create_engine(
            url,
            connect_args=_connect_arguments(url, application),
            # Payloads show what an account holds, so they stay out of tracebacks.
            hide_parameters=True,
            **(options if "poolclass" in options else _POOL | options),
        )
        wanted = _PINNED | settings
        given = {name.lower() for name in _OPTION.findall(str(url.query.get("options", "")))}

        @event.listens_for(made, "do_connect")
        def connect(
            dialect: Dialect, _record: object, args: Any, named: Any
        ) -> psycopg.Connection[Any]:
            def open_another() -> psycopg.Connection[Any]:
                return cast("psycopg.Connection[Any]", dialect.connect(*args, **named))

            connection = open_another()
            try:
                refuse_transaction_pooler(connection, open_another)
                _check_server(connection)
                chosen = {name: wanted[name] for name in wanted.keys() - (given & _LIMITS)}
                _pin(connection, chosen, schema)
            except BaseException:
                connection.close()
                raise
            return connection

        return made

    durable, derived = {"synchronous_commit": "on"}, {"synchronous_commit": "off"}
    return {
        # Durable, whatever the server's or the role's default is.
        "writer": engine(_BOUNDED | durable),
        # Projections lost in a crash of the server are folded again from the log.
        "projector": engine(_BOUNDED | derived),
        "reader": engine(_UNBOUNDED | {"default_transaction_read_only": "on"}, **_ONE_SNAPSHOT),
        # A temporary table is gone with its connection.
        "scratch": engine(_UNBOUNDED | durable, poolclass=NullPool, **_ONE_SNAPSHOT),
    }


def _connect_arguments(url: URL, application: str) -> dict[str, Any]:
    """Return libpq's arguments. Those of the URL win."""
    ours: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": application,
        "client_encoding": "utf8",
        **_KEEPALIVES,
    }
    return {name: value for name, value in ours.items() if name not in url.query}


def _check_server(connection: psycopg.Connection[Any]) -> None:
    version = connection.info.server_version // 10_000
    if version < OLDEST:
        raise ConfigurationError(f"the server is PostgreSQL {version}; {OLDEST} or newer is needed")
    encoding = connection.execute("SHOW server_encoding").fetchone()
    if encoding != ("UTF8",):
        raise ConfigurationError(
            f"the database's encoding is {encoding and encoding[0]}; create it with ENCODING"
            " 'UTF8', so that it can hold every frame"
        )


def _pin(connection: psycopg.Connection[Any], wanted: Mapping[str, str], schema: _Schema) -> None:
    """Set what we rely on for the session, and ask it back. Raises ConfigurationError."""
    if schema.path is None:
        schema.path = _search_path(connection)
    newer = _TRANSACTION_TIMEOUT if connection.info.server_version >= 170_000 else {}
    wanted = {**newer, **wanted, "search_path": schema.path}
    connection.execute(_SET, [[*wanted], [*wanted.values()]])
    connection.commit()
    # In a transaction of its own: what a pooler didn't keep shows.
    checked = wanted | {"client_encoding": "UTF8", "session_replication_role": "origin"}
    held = dict(connection.execute(_ASK, [[*checked]]).fetchall())
    connection.rollback()
    for name, value in checked.items():
        if held[name] != value:
            raise ConfigurationError(
                f"the server keeps {name} at {held[name]!r}, and the recorder relies on {value!r};"
                " nothing was written. Give it a direct connection, and a role for which this"
                " isn't set otherwise"
            )


def _search_path(connection: psycopg.Connection[Any]) -> str:
    """Return the schemas that the role's search path finds now, quoted."""
    asked = (
        "SELECT string_agg(quote_ident(name), ', ' ORDER BY place)"
        " FROM unnest(current_schemas(false)) WITH ORDINALITY AS s (name, place)"
    )
    row = connection.execute(asked).fetchone()
    if row is None or row[0] is None:
        raise ConfigurationError(
            "no schema of the role's search_path exists, so there is no place for the tables;"
            " create one, or set search_path for the role"
        )
    return str(row[0])
