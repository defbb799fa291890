"""``recorder verify``: prove that the log is whole, or name the first position where it isn't.

A chain of digests can't show that its tail was cut off. Two things can: a head that was noted
elsewhere (each call prints one to compare with), and tables that stand further than the log.
"""

from __future__ import annotations

from argparse import ArgumentParser
from functools import partial

from sqlalchemy import Connection, func, select

from recorder.cli.call import Call
from recorder.cli.exits import DAMAGED, OK, WRONG
from recorder.cli.flags import DATABASE, add_output, add_settings
from recorder.cli.output import Output, count_of, quoted
from recorder.cli.progress import shown_progress
from recorder.cli.standing import known_accounts
from recorder.errors import RecorderError
from recorder.storage.engine import Database, in_unit
from recorder.storage.read import head
from recorder.storage.schema import projections
from recorder.storage.verify import Damage, Verified, verify_account


def configure(parser: ArgumentParser) -> None:
    """Add this command's arguments."""
    add_settings(parser, DATABASE)
    add_output(parser)


def run(call: Call) -> int:
    """Verify one account, or all. What could not be looked at is code 2, and never "sound"."""
    try:
        with call.database() as database:
            known = in_unit(database.reader, known_accounts)
            accounts = in_unit(database.reader, call.accounts)
            codes = [_verify(call.output, database, account, known) for account in accounts]
    except RecorderError as error:
        call.output.warn(f"could not be verified: {error}")
        return WRONG
    return DAMAGED if DAMAGED in codes else max(codes)


def _verify(output: Output, database: Database, account: str, known: list[str]) -> int:
    if account not in known:
        output.warn(f"there is nothing to verify: the database knows no account {quoted(account)}")
        return WRONG
    # Before the log: while it is read, a running recorder moves on.
    farthest = in_unit(database.reader, _farthest_checkpoint, account)
    total = in_unit(database.reader, _last_position, account)
    with shown_progress(output.err, f"verifying {account}", total) as on_progress:
        found = in_unit(
            database.reader, partial(verify_account, account=account, on_progress=on_progress)
        )
    if isinstance(found, Verified) and found.events < farthest:
        found = Damage(found.events + 1, f"missing: tables were folded up to position {farthest}")
    if isinstance(found, Damage):
        output.say(
            {
                "account": account,
                "result": "damaged",
                "position": found.position,
                "what": found.what,
            },
            f"account {quoted(account)}: DAMAGED at position {found.position}: {found.what}",
        )
        return DAMAGED
    _print_sound(output, account, found)
    return OK


def _print_sound(output: Output, account: str, found: Verified) -> None:
    digest = found.head.digest.hex()
    output.say(
        {
            "account": account,
            "result": "sound",
            "events": found.events,
            "position": found.head.position,
            "digest": digest,
        },
        f"account {quoted(account)}: sound, {count_of(found.events, 'event', 'events')};"
        f" head {found.head.position} {digest}",
    )


def _last_position(connection: Connection, account: str) -> int:
    return head(connection, account).position


def _farthest_checkpoint(connection: Connection, account: str) -> int:
    farthest = select(func.max(projections.c.position)).where(projections.c.account == account)
    return connection.execute(farthest).scalar_one() or 0
