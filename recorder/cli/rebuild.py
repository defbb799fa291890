"""``recorder rebuild``: fold tables again from the log, or (``--check``) only compare.

A check sees one moment of the database and changes nothing, so it may run beside a recorder. A
rebuild replaces what a recorder writes, so it takes the account's lease for as long as it lasts.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from recorder.cli.call import Call
from recorder.cli.exits import DAMAGED, OK
from recorder.cli.flags import DATABASE, add_output, add_settings
from recorder.cli.output import count_of, quoted
from recorder.cli.progress import shown_progress
from recorder.database.engine import Database, in_unit
from recorder.display import shown
from recorder.errors import ConfigurationError, LeaseHeld
from recorder.lease.holder import is_alive_here, is_dead, this_holder
from recorder.lease.sql import Lease, has_run_out, release, take
from recorder.log.sql.read import head
from recorder.projections import PROJECTIONS
from recorder.projections.rules.fold import Projection
from recorder.projections.sql import rebuild

#: Longer than any rebuild: the lease can't be renewed while the tables are being replaced. One that
#: was killed leaves it behind, and the next start on the same host sees that its holder is dead.
LEASE_TTL = timedelta(hours=6)
#: Differences printed of one projection.
SHOWN_MAX = 20


def configure(parser: ArgumentParser) -> None:
    """Add this command's arguments."""
    names = ", ".join(projection.name for projection in PROJECTIONS)
    parser.add_argument("projections", nargs="*", metavar="PROJECTION", help=f"any of {names}")
    parser.add_argument("--all", action="store_true", help="all projections")
    parser.add_argument(
        "--check",
        action="store_true",
        help="change nothing: compare the tables with the log (of all projections by default)",
    )
    add_settings(parser, DATABASE)
    add_output(parser)


def run(call: Call) -> int:
    """Rebuild or check the projections of one account, or of all."""
    chosen = _chosen(call)
    with call.database() as database:
        codes = [OK]
        for account in in_unit(database.reader, call.recorded_accounts):
            if call.arguments.check:
                codes += [_check(call, database, account, each) for each in chosen]
                continue
            with _owned(call, database, account):
                for projection in chosen:
                    _rebuild(call, database, account, projection)
    return max(codes)


def _chosen(call: Call) -> Sequence[Projection]:
    asked = call.arguments
    by_name = {projection.name: projection for projection in PROJECTIONS}
    unknown = [quoted(name) for name in asked.projections if name not in by_name]
    if unknown:
        raise ConfigurationError(
            f"there is no projection {', '.join(unknown)}; there are {', '.join(by_name)}"
        )
    if asked.projections and not asked.all:
        return [by_name[name] for name in dict.fromkeys(asked.projections)]
    if not (asked.all or asked.check):
        raise ConfigurationError("name the projections to rebuild, or use --all")
    return PROJECTIONS


@contextmanager
def _owned(call: Call, database: Database, account: str) -> Iterator[None]:
    """Hold the account's lease. Raises LeaseHeld where a recorder does."""
    try:
        lease = in_unit(
            database.writer,
            take,
            account,
            holder=this_holder(),
            now=_lease_now(call, database),
            ttl=LEASE_TTL,
            dead=is_dead,
            over=_is_over,
        )
    except LeaseHeld as error:
        raise LeaseHeld(f"{error}; --check only compares, and may run beside it") from error
    try:
        yield
    finally:
        now = _lease_now(call, database)
        in_unit(database.writer, release, account, epoch=lease.epoch, now=now)


def _lease_now(call: Call, database: Database) -> datetime | None:
    """Return the time for a lease; None where the database's own clock gives it."""
    return None if database.dialect == "postgresql" else call.now()


def _is_over(lease: Lease, now: datetime) -> bool:
    """Return whether the lease is free. A holder that runs on this machine always keeps it."""
    return has_run_out(lease, now) and not is_alive_here(lease.holder)


def _rebuild(call: Call, database: Database, account: str, projection: Projection) -> None:
    total = in_unit(database.reader, head, account).position
    with shown_progress(call.output.err, f"{account}: {projection.name}", total) as on_progress:
        done = rebuild.rebuild(database, account, projection, on_progress, now=call.now())
    failed = f", {done.failures:,} of them could not be folded" if done.failures else ""
    call.output.fact(
        {
            "account": account,
            "projection": projection.name,
            "result": "rebuilt",
            "position": done.position,
            "failures": done.failures,
        },
        f"account {quoted(account)}: {projection.name} rebuilt up to position"
        f" {done.position:,}{failed}",
    )


def _check(call: Call, database: Database, account: str, projection: Projection) -> int:
    output = call.output
    total = in_unit(database.reader, head, account).position
    with shown_progress(output.err, f"{account}: {projection.name}", total) as on_progress:
        found = rebuild.check(database, account, projection, on_progress)
    differences = found.differences[:SHOWN_MAX]
    listed = [{"table": it.table, "key": list(it.key), "how": it.how} for it in differences]
    result = "differs" if listed else "same"
    sentence = f"account {quoted(account)}: {projection.name} at position {found.position:,}: "
    sentence += (
        f"{count_of(len(found.differences), 'difference', 'differences')} found"
        if listed
        else "as the log reports"
    )
    output.fact(
        {
            "account": account,
            "projection": projection.name,
            "result": result,
            "position": found.position,
            "differences": listed,
        },
        sentence,
    )
    if not output.as_json:
        for it in differences:
            key = ", ".join(map(shown, it.key))
            output.line(f"  {it.table} ({key}): {_HOW[it.how]}")
    return DAMAGED if listed else OK


_HOW = {
    "missing": "the log makes this row, and the table lacks it",
    "extra": "the table has this row, and the log doesn't make it",
    "different": "the table reports something else than the log",
}
