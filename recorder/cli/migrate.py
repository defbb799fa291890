"""``recorder migrate``: the database's schema, and how to bring it up to date."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime

from sqlalchemy import Connection, inspect, select

from recorder.cli.call import Call
from recorder.cli.exits import OK
from recorder.cli.flags import add_output, add_settings
from recorder.database.engine import Database, in_unit, open_database
from recorder.database.migrate import EXPECTED, current_revision, downgrade, look, migrate
from recorder.database.schema import leases
from recorder.errors import ConfigurationError, LeaseHeld
from recorder.lease.holder import is_dead


def configure(parser: ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "--to",
        metavar="REV",
        help=f"go back to an older revision; base drops every table [default: {EXPECTED}]",
    )
    parser.add_argument(
        "--yes", action="store_true", help="with --to: yes, drop tables and what they hold"
    )
    parser.add_argument("--show", action="store_true", help="only report which revision it is at")
    add_settings(parser, ("database_url",))
    add_output(parser)


def run(call: Call) -> int:
    """Change the schema, or show its revision."""
    asked = call.arguments
    if asked.show:
        with call.database(check_schema=False) as database:
            found = in_unit(database.reader, look)
            shown = found or "no revision"
            call.output.fact(
                {"revision": found, "expected": EXPECTED},
                f"{database.url_shown} is at {shown}; this program expects {EXPECTED}",
            )
        return OK
    if asked.to not in (None, EXPECTED) and not asked.yes:
        raise ConfigurationError(
            f"going back to {asked.to!r} drops tables and what they hold, the log among them:"
            " stop the recorder, make a copy, then add --yes"
        )
    with open_database(call.settings().database_url, application="recorder-migrate") as database:
        before, after = _change(database, asked.to, call.now())
        done = "is at" if before == after else f"went from {before or 'an empty database'} to"
        call.output.fact(
            {"from": before, "to": after}, f"{database.url_shown} {done} {after or 'base'}"
        )
    return OK


def _change(database: Database, to: str | None, now: datetime) -> tuple[str | None, str | None]:
    before = in_unit(database.writer, _revision)
    if to in (None, EXPECTED):
        migrate(database)
    else:
        in_unit(database.reader, _refuse_under_a_recorder, now)
        downgrade(database, to)
    return before, in_unit(database.writer, _revision)


def _refuse_under_a_recorder(connection: Connection, now: datetime) -> None:
    """Raise LeaseHeld where a living recorder would lose its tables."""
    if not inspect(connection).has_table(leases.name):
        return
    for row in connection.execute(select(leases)):
        if row.expires_at > now and not is_dead(row.holder):
            raise LeaseHeld(
                f"a recorder ({row.holder}) runs on account {row.account!r}: stop it before its"
                " tables are dropped"
            )


def _revision(connection: Connection) -> str | None:
    return current_revision(connection)
