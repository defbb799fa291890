"""``recorder verify``: prove that the log is whole, or name the first position where it isn't.

A chain of digests can't show that its tail was cut off, or that all of it was chained again. Two
things can: checkpoints, which are outside the database, and tables that are ahead of the log. With
``--export`` the log is that of an export, and no database is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TextIO

from attrs import field, frozen
from sqlalchemy import Connection, Table, func, select

from recorder.cli.call import Call
from recorder.cli.command import DATABASE, argument, command, value
from recorder.cli.exits import DAMAGED, OK, WRONG
from recorder.cli.output import Output, quoted, shown_progress
from recorder.config import Settings
from recorder.database.engine import Database, in_unit
from recorder.database.schema import events, projections
from recorder.display import counted
from recorder.errors import ConfigurationError, ExportDamaged, RecorderError
from recorder.export.reading import Reading, read_log
from recorder.export.rows import LOG
from recorder.log.rules.checkpoint import Finding
from recorder.log.rules.checkpoint_comparison import Comparison
from recorder.log.rules.event import EMPTY_HEAD, Head
from recorder.log.sql.checkpoint_file import (
    KnownCheckpoints,
    read_checkpoints,
    rotated_files,
    trusted_keys,
)
from recorder.log.sql.verify import Damage, Verified, first_strays, verify_account
from recorder.queries.account_status import known_accounts

CHECKPOINT_SETTINGS = ("checkpoint_file", "checkpoint_key_file", "checkpoint_public_file")
#: The value of ``--checkpoints`` that compares with none.
NONE = "none"
NO_CHECKPOINT = "no checkpoint to compare with, so a cut tail would not show"
NO_CHECKPOINT_OF_IT = "no checkpoint of this account to compare with"


@frozen
class Known:
    """What to compare with: checkpoints, or the reason why with none, and whether that is wrong."""

    checkpoints: KnownCheckpoints = field(factory=KnownCheckpoints)
    why_not: str = ""
    is_wrong: bool = False


@command(
    argument(
        "--checkpoints",
        action="append",
        metavar="FILE",
        help="compare with the checkpoints in this file, again for several; none: with no file"
        " [default: checkpoint_file, and what it was rotated to]",
    ),
    value(
        "--export",
        Path,
        "DIR",
        "prove the log in this folder, which `recorder export` made, and ask no database",
    ),
    settings=(*DATABASE, *CHECKPOINT_SETTINGS),
)
def verify_command(call: Call) -> int:
    """Verify one account, or all. What could not be looked at is code 2, and never "sound"."""
    codes: list[int] = []
    try:
        if call.arguments.export is not None:
            return _verify_export(call)
        # Before the log is read: a running recorder makes new ones.
        known = known_checkpoints(call.settings(), call.arguments.checkpoints or ())
        codes += _print_bad_lines(call.output, known)
        if known.is_wrong:
            call.output.warn(known.why_not)
            codes.append(WRONG)
        with call.database() as database:
            there = in_unit(database.reader, known_accounts)
            strays = in_unit(database.reader, first_strays)
            # Also an account of which only a checkpoint knows.
            asked = sorted({*there, *strays, *known.checkpoints.comparisons})
            if call.named_account() is not None or not asked:
                asked = in_unit(database.reader, call.accounts)
            for account in asked:
                codes.append(_verify(call.output, database, account, there, known, strays))
    except RecorderError as error:
        call.output.warn(f"could not be verified: {error}")
        codes.append(WRONG)
    return DAMAGED if DAMAGED in codes else max(codes)


def known_checkpoints(settings: Settings, named: Sequence[str] = ()) -> Known:
    """Read what there is to compare with: the files that are named, else those of the settings.

    Raises ConfigurationError for what can't be read.
    """
    if NONE in named:
        return Known(why_not="not compared with checkpoints, as was asked for")
    files = [Path(each) for each in named]
    if not files and settings.checkpoint_file:
        files = rotated_files(Path(settings.checkpoint_file))
        if not files:
            return Known(
                why_not=f"there is no checkpoint file {settings.checkpoint_file}, so nothing was"
                " compared with it: `recorder checkpoint` writes one now; --checkpoints none"
                " leaves it out",
                is_wrong=True,
            )
    if not files:
        return Known(why_not=NO_CHECKPOINT)
    trusted = trusted_keys(settings.checkpoint_public_file, settings.checkpoint_key_file)
    return Known(read_checkpoints(files, trusted))


def _verify(
    output: Output,
    database: Database,
    account: str,
    there: list[str],
    known: Known,
    strays: Mapping[str, int],
) -> int:
    comparison = known.checkpoints.comparisons.get(account)
    if account not in there and account not in strays and comparison is None:
        output.warn(f"there is nothing to verify: the database knows no account {quoted(account)}")
        return WRONG
    found = walk_log(output.err, database, account, comparison, strays)
    if isinstance(found, Damage):
        return _print_damage(output, account, found)
    return _print_sound(output, account, found.head, comparison, known)


def walk_log(
    err: TextIO,
    database: Database,
    account: str,
    comparison: Comparison | None,
    strays: Mapping[str, int],
) -> Verified | Damage:
    """Read the account's whole log, and compare it with checkpoints and tables."""
    # Before the log: while it is read, a running recorder moves on.
    farthest = in_unit(database.reader, _last_position, projections, account)
    # No more of the last row than its position: it may be one that can't be read.
    total = in_unit(database.reader, _last_position, events, account)
    with shown_progress(err, f"verifying {account}", total) as on_progress:
        walk = partial(
            verify_account,
            account=account,
            on_progress=on_progress,
            comparison=comparison,
            stray=strays.get(account),
        )
        found = in_unit(database.reader, walk)
    if isinstance(found, Verified) and found.events < farthest:
        what = f"missing: tables were folded up to position {farthest}"
        return Damage(found.events + 1, what, Finding.CUT_TAIL)
    return found


def _last_position(connection: Connection, table: Table, account: str) -> int:
    last = select(func.max(table.c.position)).where(table.c.account == account)
    return connection.execute(last).scalar_one() or 0


# An export


def _verify_export(call: Call) -> int:
    """Verify all that an export holds, by the checkpoints that were named for it.

    Not by those of the settings: they go on, and the export, which is of one moment, does not.
    """
    named, known = call.arguments.checkpoints or (), Known(why_not=NO_CHECKPOINT)
    if named:
        known = known_checkpoints(call.settings(), named)
    codes = _print_bad_lines(call.output, known)
    if call.arguments.account is not None:
        raise ConfigurationError("--export proves the whole export; leave --account away")
    folder, output = call.arguments.export, call.output
    manifest = read_log(folder)
    reading, total = (
        Reading(folder, manifest),
        sum(f.rows for f in manifest.files if f.table == LOG),
    )
    after = {**dict.fromkeys(known.checkpoints.comparisons, EMPTY_HEAD), **reading.heads}
    comparisons = {name: known.checkpoints.comparisons.get(name) or Comparison() for name in after}
    received_us: dict[str, int] = {}
    for account, head in after.items():
        comparisons[account].begin(head.position)
    try:
        with shown_progress(output.err, f"verifying {folder}", total) as on_progress:
            for batch in reading.batches(on_progress):
                for event in batch:
                    received_us[event.account] = event.received_us
                    if event.position == comparisons[event.account].awaited:
                        head = Head(event.position, event.digest)
                        comparisons[event.account].see(head, event.received_us)
    except ExportDamaged as damage:
        reached = comparisons.get(damage.account or "")
        return _print_damage(output, damage.account, (reached and reached.so_far()) or damage)
    for account, comparison in sorted(comparisons.items()):
        head = reading.heads.get(account, EMPTY_HEAD)
        if contradicted := comparison.end(head, received_us.get(account)):
            codes.append(_print_damage(output, account, contradicted))
            continue
        compared = comparison if comparison.count else None
        begin = after[account].position
        codes.append(_print_sound(output, account, head, compared, known, begin))
    return max(codes, key=(OK, WRONG, DAMAGED).index, default=OK)


# Results


def _print_damage(output: Output, account: str | None, found: Damage | ExportDamaged) -> int:
    finding = found.finding if isinstance(found, Damage) else Finding.ALTERED
    of = "the export" if account is None else f"account {quoted(account)}"
    at = "" if found.position is None else f" at position {found.position} ({finding})"
    facts = {"account": account, "result": "damaged", "finding": finding}
    output.fact(
        {**facts, "position": found.position, "what": found.what},
        f"{of}: DAMAGED{at}: {found.what}",
    )
    return DAMAGED


def _print_bad_lines(output: Output, known: Known) -> list[int]:
    """Print what is wrong with the checkpoints themselves; return an exit code for each."""
    for bad in known.checkpoints.bad.values():
        what = bad.why.what
        if bad.more:
            what += f" (and {counted(bad.more, 'line', 'lines')} like it)"
        finding = bad.why.finding
        facts = {"account": bad.why.account, "result": "damaged", "finding": finding}
        where = {"file": str(bad.file), "line": bad.number}
        output.fact(
            {**facts, "position": bad.why.position, "what": what, **where},
            f"checkpoints DAMAGED ({finding}): line {bad.number} of {bad.file} {what}",
        )
    return [DAMAGED for _ in known.checkpoints.bad]


def _print_sound(
    output: Output,
    account: str,
    head: Head,
    comparison: Comparison | None,
    known: Known,
    after: int = 0,
) -> int:
    """Report that the log is sound, behind position ``after`` where it was not all there is."""
    digest, number = head.digest.hex(), head.position - after
    not_compared = known.why_not or ("" if comparison else NO_CHECKPOINT_OF_IT)
    signatures = "checked" if known.checkpoints.are_signatures_checked else "unchecked"
    behind = f" behind position {after}" if after else ""
    output.fact(
        {
            "account": account,
            "result": "sound",
            "events": number,
            "position": head.position,
            "digest": digest,
            "checkpoints": comparison.agreeing if comparison else None,
            "checkpoint_position": comparison.agreed if comparison else None,
            "signatures": signatures if comparison else None,
            "not_compared": not_compared or None,
            **({"after": after} if after else {}),
        },
        f"account {quoted(account)}: sound{behind}, {counted(number, 'event', 'events')};"
        f" head {head.position} {digest}; {not_compared or _agreement(comparison, known)}",
    )
    # A comparison that was wanted and could not be made is no success.
    return WRONG if not_compared and not known.why_not else OK


def _agreement(comparison: Comparison | None, known: Known) -> str:
    assert comparison is not None
    agreeing = counted(comparison.agreeing, "checkpoint agrees", "checkpoints agree")
    sentence = f"{agreeing}, the last at position {comparison.agreed}"
    if not known.checkpoints.are_signatures_checked:
        sentence += "; signatures were not checked, for no public key is named"
    if torn := known.checkpoints.torn:
        sentence += f"; {counted(torn, 'line', 'lines')} cut short, as by a crash, left out"
    return sentence
