"""``recorder verify --export``: prove the log that an export holds."""

from __future__ import annotations

from attrs import define, field

from recorder.cli.call import Call
from recorder.cli.exits import DAMAGED, OK, WRONG
from recorder.cli.output import Output, count_of, quoted
from recorder.cli.progress import shown_progress
from recorder.errors import ConfigurationError, ExportDamaged
from recorder.export.reading import Reading, read_log
from recorder.export.rows import LOG
from recorder.log.rules.chain import Damage
from recorder.log.rules.checkpoint import Finding
from recorder.log.rules.checkpoint_comparison import Comparison
from recorder.log.rules.event import EMPTY_HEAD, Event, Head
from recorder.log.sql.checkpoint_file import KnownCheckpoints

#: What is reported where a log was proved by itself alone.
NO_CHECKPOINT = "no checkpoint to compare with, so a cut tail would not show"
NO_CHECKPOINT_OF_IT = "no checkpoint of this account to compare with"


def verify_export(call: Call, known: KnownCheckpoints, why_not: str) -> int:
    """Verify all that an export holds, and print what was found; return the exit code.

    ``why_not`` is why there are no checkpoints to compare with, empty where there are. Raises
    ConfigurationError or FilesFailed for what could not be looked at.
    """
    if call.arguments.account is not None:
        raise ConfigurationError("--export proves the whole export; leave --account away")
    folder, output = call.arguments.export, call.output
    manifest = read_log(folder)
    total = sum(file.rows for file in manifest.files if file.table == LOG)
    reading = Reading(folder, manifest)
    compared = {
        account: _Compared(known.comparisons.get(account) or Comparison(), head)
        for account, head in {
            **dict.fromkeys(known.comparisons, EMPTY_HEAD),
            **reading.heads,
        }.items()
    }
    try:
        with shown_progress(output.err, f"verifying {folder}", total) as on_progress:
            for batch in reading.batches(on_progress):
                for event in batch:
                    compared[event.account].see(event)
    except ExportDamaged as damage:
        known_better = damage.account in compared and compared[damage.account].comparison.so_far()
        if known_better:
            return _print_contradicted(output, str(damage.account), known_better)
        return _print_damaged(output, damage.account, damage.position, damage.what)
    code = OK
    for account, each in sorted(compared.items()):
        if contradicted := each.end():
            code = _print_contradicted(output, account, contradicted)
            continue
        missing = why_not or ("" if each.is_any else NO_CHECKPOINT_OF_IT)
        _print_sound(output, account, each, missing, known)
        code = code or (WRONG if missing and not why_not else OK)
    return code


@define
class _Compared:
    """How far one account's log agrees with its checkpoints."""

    comparison: Comparison
    after: Head
    head: Head = field(init=False)
    received_us: int | None = None

    def __attrs_post_init__(self) -> None:
        self.head = self.after
        self.comparison.begin(self.after.position)

    @property
    def is_any(self) -> bool:
        """Return whether there are checkpoints of it."""
        return self.comparison.count > 0

    def see(self, event: Event) -> None:
        """Take in the event that follows."""
        self.head, self.received_us = Head(event.position, event.digest), event.received_us
        if event.position == self.comparison.awaited:
            self.comparison.see(self.head, event.received_us)

    def end(self) -> Damage | None:
        """Return what a checkpoint contradicts."""
        return self.comparison.end(self.head, self.received_us)


def _print_damaged(
    output: Output,
    account: str | None,
    position: int | None,
    what: str,
    finding: Finding = Finding.ALTERED,
) -> int:
    row = {
        "account": account,
        "result": "damaged",
        "finding": finding,
        "position": position,
        "what": what,
    }
    of = "the export" if account is None else f"account {quoted(account)}"
    at = "" if position is None else f" at position {position}"
    output.fact(row, f"{of}: DAMAGED{at}: {what}")
    return DAMAGED


def _print_contradicted(output: Output, account: str, by: Damage) -> int:
    return _print_damaged(output, account, by.position, by.what, by.finding)


def _print_sound(
    output: Output, account: str, found: _Compared, not_compared: str, known: KnownCheckpoints
) -> None:
    """Report that the log is sound, behind position ``after`` where it was not all there is."""
    after, head, comparison = found.after.position, found.head, found.comparison
    events, digest = head.position - after, head.digest.hex()
    behind = f" behind position {after}" if after else ""
    signatures = "checked" if known.are_signatures_checked else "unchecked"
    reported = f"checkpoints that agree: {comparison.agreeing}, signatures {signatures}"
    output.fact(
        {
            "account": account,
            "result": "sound",
            "events": events,
            "position": head.position,
            "digest": digest,
            "checkpoints": comparison.agreeing if found.is_any else None,
            "checkpoint_position": comparison.agreed if found.is_any else None,
            "signatures": signatures if found.is_any else None,
            "not_compared": not_compared or None,
            **({"after": after} if after else {}),
        },
        f"account {quoted(account)}: sound{behind}, {count_of(events, 'event', 'events')};"
        f" head {head.position} {digest}; {not_compared or reported}",
    )
