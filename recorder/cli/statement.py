"""``recorder statement``: a period's report, as tables in files and one page to read and sign."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from recorder.cli.call import Call
from recorder.cli.command import DATABASE, FACTS, choice, command, period, switch, value
from recorder.cli.exits import DAMAGED, OK
from recorder.cli.gaps import UNKNOWABLE
from recorder.cli.output import quoted
from recorder.cli.verify import CHECKPOINT_SETTINGS, known_checkpoints, walk_log
from recorder.database.engine import Database, in_unit
from recorder.display import counted
from recorder.errors import ConfigurationError
from recorder.export.formats import Format
from recorder.log.sql.verify import Damage, first_strays
from recorder.queries.account_status import known_accounts, read_account_status
from recorder.statement.rules.report import Proof
from recorder.statement.writing import FORMATS, PAGE, Asked, write_statement


@command(
    value("target", str, "DIR", "a folder that does not exist yet"),
    *period(
        "behind this time (a time with a zone, as 2026-01-31T00:00:00Z)",
        "up to and including this time",
        required=("--from", "--to"),
    ),
    choice(
        "--format",
        FORMATS,
        "of the tables: csv or parquet [default: csv]",
        dest="file_format",
        default=str(Format.CSV),
    ),
    switch(
        "--no-verify",
        "don't read the whole log again to prove it; the statement names that as a caveat",
    ),
    settings=(*DATABASE, *CHECKPOINT_SETTINGS),
    prints=FACTS,
)
def statement_command(call: Call) -> int:
    """Write the statement: exit code 0 if it is sound, 1 if it has caveats, 2 if none was made."""
    target = Path(call.arguments.target)
    with call.database() as database:
        asked = _asked(call, database)
        prove = None if call.arguments.no_verify else _prover(call, database, asked.account)
        report, caveats = write_statement(partial(in_unit, database.reader), asked, target, prove)
    page = target / PAGE
    facts = {
        "statement": str(page),
        "account": report.account,
        "as_of_position": report.as_of,
        "sound": not caveats,
        "caveats": caveats,
        "rows": report.rows,
    }
    verdict = counted(len(caveats), "caveat", "caveats") if caveats else "sound"
    call.output.fact(facts, "\n- ".join([f"{page}: {verdict}", *caveats]))
    return DAMAGED if caveats else OK


def _asked(call: Call, database: Database) -> Asked:
    """Return what is wanted. Raises ConfigurationError for a period that can't be."""
    given, now, account = call.arguments, call.now(), call.one_account()
    if account not in in_unit(database.reader, known_accounts):
        raise ConfigurationError(
            f"there is nothing to state: the database knows no account {quoted(account)}"
        )
    if given.from_at >= given.until_at:
        raise ConfigurationError("the period ends before it begins: use an earlier --from")
    if given.until_at > now:
        raise ConfigurationError(
            "the period isn't over: use a --to that has been, or make the statement later"
        )
    return Asked(
        account,
        given.from_at,
        given.until_at,
        now,
        Format(given.file_format),
        is_running=in_unit(database.reader, read_account_status, account).is_running(now),
        unknowable=UNKNOWABLE,
    )


def _prover(call: Call, database: Database, account: str) -> Callable[[], Proof]:
    # Before the log is read: a running recorder makes new ones.
    known = known_checkpoints(call.settings())
    if known.is_wrong:
        raise ConfigurationError(known.why_not)
    comparison = known.checkpoints.comparisons.get(account)

    def prove() -> Proof:
        for bad in known.checkpoints.bad.values():
            return Proof(damage=f"line {bad.number} of its checkpoints {bad.why.what}")
        strays = in_unit(database.reader, first_strays)
        found = walk_log(call.output.err, database, account, comparison, strays)
        if isinstance(found, Damage):
            return Proof(damage=f"position {found.position} ({found.finding}): {found.what}")
        if comparison is None:
            why_not = known.why_not or "there is no checkpoint of this account"
            return Proof(found.events, not_compared=why_not)
        return Proof(found.events, checkpoints=comparison.agreeing)

    return prove
