"""``recorder verify``: prove that the log is whole, or name the first position where it isn't.

A chain of digests can't show that its tail was cut off, or that all of it was chained again. Two
things can: checkpoints, which lie outside the database, and tables that stand further than the log.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TextIO

from attrs import field, frozen
from sqlalchemy import Connection, func, select

from recorder.cli.call import Call
from recorder.cli.exits import DAMAGED, OK, WRONG
from recorder.cli.flags import DATABASE, add_output, add_settings
from recorder.cli.output import Output, count_of, quoted
from recorder.cli.progress import shown_progress
from recorder.cli.verify_export import NO_CHECKPOINT, NO_CHECKPOINT_OF_IT, verify_export
from recorder.config import Settings
from recorder.database.engine import Database, in_unit
from recorder.database.schema import events, projections
from recorder.errors import RecorderError
from recorder.log.rules.checkpoint import Finding
from recorder.log.rules.checkpoint_comparison import Comparison
from recorder.log.sql.checkpoint_file import (
    BadLine,
    KnownCheckpoints,
    read_checkpoints,
    rotated_files,
)
from recorder.log.sql.checkpoint_keys import trusted_keys
from recorder.log.sql.verify import Damage, Verified, first_strays, verify_account
from recorder.queries.account_status import known_accounts

CHECKPOINT_SETTINGS = ("checkpoint_file", "checkpoint_key_file", "checkpoint_public_file")
#: What ``--checkpoints`` reports to compare with none.
NONE = "none"


def configure(parser: ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "--checkpoints",
        action="append",
        metavar="FILE",
        help="compare with the checkpoints in this file, again for several; none: with no file"
        " [default: checkpoint_file, and what it was rotated to]",
    )
    parser.add_argument(
        "--export",
        type=Path,
        metavar="DIR",
        help="prove the log in this folder, which `recorder export` made, and ask no database",
    )
    add_settings(parser, (*DATABASE, *CHECKPOINT_SETTINGS))
    add_output(parser)


@frozen
class Known:
    """What to compare with: checkpoints, or the reason why with none, and whether that is wrong."""

    checkpoints: KnownCheckpoints = field(factory=KnownCheckpoints)
    why_not: str = ""
    is_wrong: bool = False


def run(call: Call) -> int:
    """Verify one account, or all. What could not be looked at is code 2, and never "sound"."""
    codes: list[int] = []
    try:
        if call.arguments.export is not None:
            return _verify_export(call)
        # Before the log is read: a running recorder makes new ones.
        known = known_checkpoints(call.settings(), call.arguments.checkpoints or ())
        codes += [_print_bad(call.output, bad) for bad in known.checkpoints.bad.values()]
        if known.is_wrong:
            call.output.warn(known.why_not)
            codes.append(WRONG)
        with call.database() as database:
            there = in_unit(database.reader, known_accounts)
            strays = in_unit(database.reader, first_strays)
            for account in _asked(call, database, {*there, *strays}, known):
                codes.append(_verify(call.output, database, account, there, known, strays))
    except RecorderError as error:
        call.output.warn(f"could not be verified: {error}")
        codes.append(WRONG)
    return DAMAGED if DAMAGED in codes else max(codes)


def _verify_export(call: Call) -> int:
    """Verify an export, by the checkpoints that were named for it.

    Not by those of the settings: they go on, and the export, which is of one moment, does not.
    """
    named, known = call.arguments.checkpoints or (), Known(why_not=NO_CHECKPOINT)
    if named:
        known = known_checkpoints(call.settings(), named)
    codes = [_print_bad(call.output, bad) for bad in known.checkpoints.bad.values()]
    return max([verify_export(call, known.checkpoints, known.why_not), *codes], key=_gravity)


def _gravity(code: int) -> int:
    return (OK, WRONG, DAMAGED).index(code)


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


def _asked(call: Call, database: Database, there: set[str], known: Known) -> list[str]:
    """Return the accounts to verify, also one of which only a checkpoint knows."""
    if call.named_account() is None and (found := {*there, *known.checkpoints.comparisons}):
        return sorted(found)
    return in_unit(database.reader, call.accounts)


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
    return _print_sound(output, account, found, comparison, known)


def walk_log(
    err: TextIO,
    database: Database,
    account: str,
    comparison: Comparison | None,
    strays: Mapping[str, int],
) -> Verified | Damage:
    """Read the account's whole log, and hold it against checkpoints and tables."""
    # Before the log: while it is read, a running recorder moves on.
    farthest = in_unit(database.reader, _farthest_checkpoint, account)
    total = in_unit(database.reader, _last_position, account)
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


def _print_damage(output: Output, account: str, found: Damage) -> int:
    output.fact(
        {
            "account": account,
            "result": "damaged",
            "finding": found.finding,
            "position": found.position,
            "what": found.what,
        },
        f"account {quoted(account)}: DAMAGED at position {found.position}"
        f" ({found.finding}): {found.what}",
    )
    return DAMAGED


def _print_bad(output: Output, bad: BadLine) -> int:
    """Print what is wrong with the checkpoints themselves."""
    more = f" (and {count_of(bad.more, 'line', 'lines')} like it)" if bad.more else ""
    output.fact(
        {
            "account": bad.why.account,
            "result": "damaged",
            "finding": bad.why.finding,
            "position": bad.why.position,
            "what": bad.why.what + more,
            "file": str(bad.file),
            "line": bad.number,
        },
        f"checkpoints DAMAGED ({bad.why.finding}): line {bad.number} of {bad.file}"
        f" {bad.why.what}{more}",
    )
    return DAMAGED


def _print_sound(
    output: Output, account: str, found: Verified, comparison: Comparison | None, known: Known
) -> int:
    digest, checkpoints = found.head.digest.hex(), known.checkpoints
    not_compared = known.why_not
    if not not_compared and comparison is None:
        not_compared = NO_CHECKPOINT_OF_IT
    signatures = "checked" if checkpoints.are_signatures_checked else "unchecked"
    output.fact(
        {
            "account": account,
            "result": "sound",
            "events": found.events,
            "position": found.head.position,
            "digest": digest,
            "checkpoints": comparison.agreeing if comparison else None,
            "checkpoint_position": comparison.agreed if comparison else None,
            "signatures": signatures if comparison else None,
            "not_compared": not_compared or None,
        },
        f"account {quoted(account)}: sound, {count_of(found.events, 'event', 'events')};"
        f" head {found.head.position} {digest}; {not_compared or _agreement(comparison, known)}",
    )
    # A comparison that was wanted and could not be made is no success.
    return WRONG if not_compared and not known.why_not else OK


def _agreement(comparison: Comparison | None, known: Known) -> str:
    assert comparison is not None
    agreeing = count_of(comparison.agreeing, "checkpoint agrees", "checkpoints agree")
    sentence = f"{agreeing}, the last at position {comparison.agreed}"
    if not known.checkpoints.are_signatures_checked:
        sentence += "; signatures were not checked, for no public key is named"
    if torn := known.checkpoints.torn:
        sentence += f"; {count_of(torn, 'line', 'lines')} cut short, as by a crash, left out"
    return sentence


def _last_position(connection: Connection, account: str) -> int:
    # No more of the row than this: it may be one that can't be read.
    last = select(func.max(events.c.position)).where(events.c.account == account)
    return connection.execute(last).scalar_one() or 0


def _farthest_checkpoint(connection: Connection, account: str) -> int:
    farthest = select(func.max(projections.c.position)).where(projections.c.account == account)
    return connection.execute(farthest).scalar_one() or 0
