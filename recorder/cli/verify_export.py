"""``recorder verify --export``: prove the log that an export holds."""

from __future__ import annotations

from recorder.cli.call import Call
from recorder.cli.exits import DAMAGED, OK
from recorder.cli.output import Output, count_of, quoted
from recorder.cli.progress import shown_progress
from recorder.errors import ConfigurationError, ExportDamaged
from recorder.export.reading import check_export, read_log
from recorder.storage.export import LOG
from recorder.storage.verify import Verified

#: What is said where a log was proved by itself alone.
NO_CHECKPOINT = "no checkpoint to compare with, so a cut tail would not show"


def verify_export(call: Call) -> int:
    """Verify all that an export holds, and print what was found; return the exit code.

    Raises ConfigurationError or FilesFailed for what could not be looked at.
    """
    if call.arguments.account is not None:
        raise ConfigurationError("--export proves the whole export; leave --account away")
    folder, output = call.arguments.export, call.output
    manifest = read_log(folder)
    total = sum(file.rows for file in manifest.files if file.table == LOG)
    try:
        with shown_progress(output.err, f"verifying {folder}", total) as on_progress:
            heads = check_export(folder, manifest, on_progress)
    except ExportDamaged as damage:
        return _print_damaged(output, damage.account, damage.position, damage.what)
    for account, found in sorted(heads.items()):
        after = manifest.log[account].after.position
        _print_sound(output, account, Verified(found.position - after, found), after)
    return OK


def _print_damaged(output: Output, account: str | None, position: int | None, what: str) -> int:
    row = {"account": account, "result": "damaged", "position": position, "what": what}
    of = "the export" if account is None else f"account {quoted(account)}"
    at = "" if position is None else f" at position {position}"
    output.say(row, f"{of}: DAMAGED{at}: {what}")
    return DAMAGED


def _print_sound(output: Output, account: str, found: Verified, after: int) -> None:
    """Say that the log is sound, behind position ``after`` where it was not all there is."""
    digest = found.head.digest.hex()
    behind = f" behind position {after}" if after else ""
    output.say(
        {
            "account": account,
            "result": "sound",
            "events": found.events,
            "position": found.head.position,
            "digest": digest,
            "checkpoints": None,
            "checkpoint_position": None,
            "signatures": None,
            "not_compared": NO_CHECKPOINT,
            **({"after": after} if after else {}),
        },
        f"account {quoted(account)}: sound{behind}, {count_of(found.events, 'event', 'events')};"
        f" head {found.head.position} {digest}; {NO_CHECKPOINT}",
    )
