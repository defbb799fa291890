"""``recorder rebuild``: fold tables again from the log, or (``--check``) only compare.

A check sees one moment of the database and changes nothing, so it may run beside a recorder. A
rebuild replaces what a recorder writes, so it takes the account's lease for as long as it lasts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from recorder.cli.call import Call
from recorder.cli.command import argument, command, switch
from recorder.cli.exits import DAMAGED, OK
from recorder.cli.output import quoted, shown_progress
from recorder.database.engine import Database, in_unit
from recorder.display import counted, shown
from recorder.errors import ConfigurationError, LeaseHeld
from recorder.lease.holder import is_alive_here, is_dead, this_holder
from recorder.lease.sql import has_run_out, release, take
from recorder.log.sql.read import head
from recorder.projections import PROJECTIONS
from recorder.projections.rules.fold import Projection
from recorder.projections.sql import rebuild

#: Longer than any rebuild: the lease can't be renewed while the tables are being replaced. One that
#: was killed leaves it behind, and the next start on the same host sees that its holder is dead.
LEASE_TTL = timedelta(hours=6)
#: Differences printed of one projection.
SHOWN_MAX = 20
_BY_NAME = {projection.name: projection for projection in PROJECTIONS}
_HOW = {
    "missing": "the log makes this row, and the table lacks it",
    "extra": "the table has this row, and the log doesn't make it",
    "different": "the table holds something else than the log makes",
}


@command(
    argument("projections", nargs="*", metavar="PROJECTION", help=f"any of {', '.join(_BY_NAME)}"),
    switch("--all", "all projections"),
    switch(
        "--check", "change nothing: compare the tables with the log (of all projections by default)"
    ),
)
def rebuild_command(call: Call) -> int:
    """Rebuild or check the projections of one account, or of all."""
    chosen, codes = _chosen(call), [OK]
    with call.database() as database:
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
    unknown = [quoted(name) for name in asked.projections if name not in _BY_NAME]
    if unknown:
        raise ConfigurationError(
            f"there is no projection {', '.join(unknown)}; there are {', '.join(_BY_NAME)}"
        )
    if asked.projections and not asked.all:
        return [_BY_NAME[name] for name in dict.fromkeys(asked.projections)]
    if not (asked.all or asked.check):
        raise ConfigurationError("name the projections to rebuild, or use --all")
    return PROJECTIONS


@contextmanager
def _owned(call: Call, database: Database, account: str) -> Iterator[None]:
    """Hold the account's lease. Raises LeaseHeld where a recorder does."""
    # On PostgreSQL the time of a lease is that of the database's own clock.
    has_clock = database.dialect == "postgresql"
    try:
        lease = in_unit(
            database.writer,
            take,
            account,
            holder=this_holder(),
            now=None if has_clock else call.now(),
            ttl=LEASE_TTL,
            dead=is_dead,
            # A holder that runs on this machine keeps its lease, also one that has run out.
            over=lambda lease, now: has_run_out(lease, now) and not is_alive_here(lease.holder),
        )
    except LeaseHeld as error:
        raise LeaseHeld(f"{error}; --check only compares, and may run beside it") from error
    try:
        yield
    finally:
        now = None if has_clock else call.now()
        in_unit(database.writer, release, account, epoch=lease.epoch, now=now)


def _rebuild(call: Call, database: Database, account: str, projection: Projection) -> None:
    name, total = projection.name, in_unit(database.reader, head, account).position
    with shown_progress(call.output.err, f"{account}: {name}", total) as on_progress:
        done = rebuild.rebuild(database, account, projection, on_progress, now=call.now())
    failed = (
        f", {done.failures:,} of them could not be folded, or only in part" if done.failures else ""
    )
    facts = {"account": account, "projection": name, "result": "rebuilt"}
    call.output.fact(
        {**facts, "position": done.position, "failures": done.failures},
        f"account {quoted(account)}: {name} rebuilt up to position {done.position:,}{failed}",
    )


def _check(call: Call, database: Database, account: str, projection: Projection) -> int:
    output, name = call.output, projection.name
    total = in_unit(database.reader, head, account).position
    with shown_progress(output.err, f"{account}: {name}", total) as on_progress:
        found = rebuild.check(database, account, projection, on_progress)
    differences = found.differences[:SHOWN_MAX]
    listed = [{"table": it.table, "key": list(it.key), "how": it.how} for it in differences]
    verdict = f"{counted(len(found.differences), 'difference', 'differences')} found"
    result = {"account": account, "projection": name, "result": "differs" if listed else "same"}
    output.fact(
        {**result, "position": found.position, "differences": listed},
        f"account {quoted(account)}: {name} at position {found.position:,}:"
        f" {verdict if listed else 'as the log makes it'}",
    )
    if not output.as_json:
        for it in differences:
            output.line(f"  {it.table} ({', '.join(map(shown, it.key))}): {_HOW[it.how]}")
    return DAMAGED if listed else OK
