"""Opens PostgreSQL's engines.

A worker thread that waits on a dead server can't be interrupted, so every wait has a limit: to
connect, for a statement, for an idle transaction, for a peer that no longer answers TCP.
"""

from __future__ import annotations

from typing import Any

import psycopg
from sqlalchemy import URL, Engine, NullPool, create_engine, event

from recorder.errors import ConfigurationError

#: The first with `IS JSON` and pg_input_is_valid().
OLDEST = 16
CONNECT_TIMEOUT_S = 10
STATEMENT_TIMEOUT_MS = 30_000
#: A process that was stopped inside a transaction loses its locks after this time.
IDLE_IN_TRANSACTION_TIMEOUT_MS = 10_000
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
    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
    "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_TIMEOUT_MS),
}


def open_engines(url: URL, application: str) -> dict[str, Engine]:
    """Return the engines by name. The server's version is checked at the first connection."""

    def engine(settings: dict[str, str], **options: Any) -> Engine:
        made = create_engine(
            url,
            connect_args=_connect_arguments(url, application, settings),
            # Payloads show what an account holds, so they stay out of tracebacks.
            hide_parameters=True,
            **(options if "poolclass" in options else _POOL | options),
        )
        event.listen(made, "connect", _check_server)
        return made

    durable, derived = {"synchronous_commit": "on"}, {"synchronous_commit": "off"}
    return {
        # Durable, whatever the server's or the role's default is.
        "writer": engine(_BOUNDED | durable),
        # Projections lost in a crash of the server are folded again from the log.
        "projector": engine(_BOUNDED | derived),
        "reader": engine({"default_transaction_read_only": "on"}, **_ONE_SNAPSHOT),
        # A temporary table is gone with its connection.
        "scratch": engine(durable, poolclass=NullPool, **_ONE_SNAPSHOT),
    }


def _connect_arguments(url: URL, application: str, settings: dict[str, str]) -> dict[str, Any]:
    """Return libpq's arguments. Those of the URL win."""
    ours: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": application,
        "client_encoding": "utf8",
        **_KEEPALIVES,
    }
    missing = {name: value for name, value in ours.items() if name not in url.query}
    session = settings | {"TimeZone": "UTC"}
    options = "".join(f"-c {name}={value} " for name, value in session.items())
    return missing | {"options": options + str(url.query.get("options", ""))}


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
