"""``recorder migrate``: the database's schema, and how to bring it up to date."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, inspect, select

from recorder.cli.call import Call
from recorder.cli.command import argument, command, switch
from recorder.cli.exits import OK
from recorder.database.engine import in_unit, open_database
from recorder.database.migrate import EXPECTED, current_revision, downgrade, look, migrate
from recorder.database.schema import leases
from recorder.errors import ConfigurationError, LeaseHeld
from recorder.lease.holder import is_dead


@command(
    argument(
        "--to",
        metavar="REV",
        help=f"go back to an older revision; base drops every table [default: {EXPECTED}]",
    ),
    switch("--yes", "with --to: yes, drop tables and what they hold"),
    switch("--show", "only report which revision it is at"),
    settings=("database_url",),
)
def migrate_command(call: Call) -> int:
    """Change the schema, or show its revision."""
    asked, output = call.arguments, call.output
    if asked.show:
        with call.database(check_schema=False) as database:
            found = in_unit(database.reader, look)
            sentence = f"is at {found or 'no revision'}; this program expects {EXPECTED}"
            facts = {"revision": found, "expected": EXPECTED}
            output.fact(facts, f"{database.url_shown} {sentence}")
        return OK
    is_back = asked.to not in (None, EXPECTED)
    if is_back and not asked.yes:
        raise ConfigurationError(
            f"going back to {asked.to!r} drops tables and what they hold, the log among them:"
            " stop the recorder, make a copy, then add --yes"
        )
    with open_database(call.settings().database_url, application="recorder-migrate") as database:
        before = in_unit(database.writer, current_revision)
        if is_back:
            in_unit(database.reader, _refuse_under_a_recorder, call.now())
            downgrade(database, asked.to)
        else:
            migrate(database)
        after = in_unit(database.writer, current_revision)
        done = "is at" if before == after else f"went from {before or 'an empty database'} to"
        facts = {"from": before, "to": after}
        output.fact(facts, f"{database.url_shown} {done} {after or 'base'}")
    return OK


def _refuse_under_a_recorder(connection: Connection, now: datetime) -> None:
    """Raise LeaseHeld where a running recorder would lose its tables."""
    if not inspect(connection).has_table(leases.name):
        return
    for row in connection.execute(select(leases)):
        if row.expires_at > now and not is_dead(row.holder):
            raise LeaseHeld(
                f"a recorder ({row.holder}) runs on account {row.account!r}: stop it before its"
                " tables are dropped"
            )
