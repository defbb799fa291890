"""Runs the migrations, all in one transaction, on the connection that `recorder` hands over.

Started by Alembic's own command line there is no such connection; then the database is the one in
RECORDER_DATABASE_URL. Logging is left as it is.
"""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import Connection

from recorder.database.engine import in_unit, open_database
from recorder.database.migrate import look
from recorder.database.schema import metadata


def run(connection: Connection) -> None:
    look(connection)
    context.configure(
        connection=connection,
        target_metadata=metadata,
        # SQLite's DDL rolls back as well, once BEGIN is ours (see recorder.database.sqlite).
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def main() -> None:
    if context.is_offline_mode():
        raise SystemExit("the migrations look at the database, so they can't be printed as SQL")
    given = context.config.attributes.get("connection")
    if given is not None:
        run(given)
        return
    database = open_database(os.environ.get("RECORDER_DATABASE_URL", "sqlite:///recorder.db"))
    try:
        in_unit(database.writer, run)
    finally:
        database.close()


main()
