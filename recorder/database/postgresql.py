"""PostgreSQL as the recorder wants it.

A worker thread that waits on a dead server can't be interrupted, so every wait has an end: for
connecting, for a statement, for an idle transaction, for a peer that no longer answers TCP.
"""

from __future__ import annotations

from typing import Any

import psycopg
from sqlalchemy import URL, Engine, NullPool, create_engine, event

from recorder.errors import ConfigurationError

#: `IS JSON` and pg_input_is_valid() came with it.
OLDEST = 16
CONNECT_TIMEOUT_S = 10
STATEMENT_TIMEOUT_MS = 30_000
#: A process that was stopped inside a transaction gives its locks back after this time.
IDLE_IN_TRANSACTION_TIMEOUT_MS = 10_000
#: An unacknowledged write breaks the connection after this time.
TCP_USER_TIMEOUT_MS = 20_000
#: Connections kept open and opened at most, per engine.
POOL_SIZE = 4
POOL_OVERFLOW = 12
POOL_TIMEOUT_S = 30

_KEEPALIVES = {
    "keepalives": 1,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": TCP_USER_TIMEOUT_MS,
}
_BOUNDED = {
    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
    "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_TIMEOUT_MS),
}


def open_engines(url: URL, application: str) -> dict[str, Engine]:
    """Return the engines by name; the server is looked at when the first of them connects."""

    def engine(settings: dict[str, str], **options: Any) -> Engine:
        arguments = _connect_arguments(url, application, settings)
        return _engine(url, arguments, **(_KEPT_OPEN | options))

    durable, derived = {"synchronous_commit": "on"}, {"synchronous_commit": "off"}
    return {
        # Durable, whatever the server's or the role's default is.
        "writer": engine(_BOUNDED | durable),
        # What a crash of the server takes from the projections is folded again from the log.
        "projector": engine(_BOUNDED | derived),
        "reader": engine({"default_transaction_read_only": "on"}, **_ONE_SNAPSHOT),
        # A temporary table is gone with its connection.
        "scratch": _engine(
            url,
            _connect_arguments(url, application, durable),
            poolclass=NullPool,
            **_ONE_SNAPSHOT,
        ),
    }


_ONE_SNAPSHOT = {"isolation_level": "REPEATABLE READ"}
_KEPT_OPEN = {
    "pool_size": POOL_SIZE,
    "max_overflow": POOL_OVERFLOW,
    "pool_timeout": POOL_TIMEOUT_S,
}


def _engine(url: URL, arguments: dict[str, Any], **options: Any) -> Engine:
    engine = create_engine(
        url,
        connect_args=arguments,
        # Payloads don't belong into tracebacks: they say what an account holds.
        hide_parameters=True,
        **options,
    )
    event.listen(engine, "connect", _check_server)
    return engine


def _connect_arguments(url: URL, application: str, settings: dict[str, str]) -> dict[str, Any]:
    """Return libpq's arguments. What the URL states itself wins."""
    ours: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": application,
        "client_encoding": "utf8",
        **_KEEPALIVES,
    }
    stated = {name: value for name, value in ours.items() if name not in url.query}
    options = "".join(f"-c {name}={value} " for name, value in (settings | _UTC).items())
    return stated | {"options": options + str(url.query.get("options", ""))}


_UTC = {"TimeZone": "UTC"}


def _check_server(connection: psycopg.Connection[Any], _record: object) -> None:
    version = connection.info.server_version // 10_000
    if version < OLDEST:
        raise ConfigurationError(f"the server is PostgreSQL {version}; {OLDEST} or newer is needed")
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise ConfigurationError(
            f"the database's encoding is {encoding}; create it with ENCODING 'UTF8',"
            " so that it can hold every frame"
        )
