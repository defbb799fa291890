"""``recorder import``: load an exported log into a database that has none of it."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from recorder.cli.call import Call
from recorder.cli.exits import OK
from recorder.cli.flags import add_output, add_settings
from recorder.cli.output import count_of, quoted
from recorder.cli.progress import shown_progress
from recorder.database.engine import open_database
from recorder.database.migrate import bring_to_current
from recorder.export.loading import load, require_from_the_start
from recorder.export.reading import read_log
from recorder.export.rows import LOG


def configure(parser: ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="what `recorder export` made")
    add_settings(parser, ("database_url",))
    add_output(parser)


def run(call: Call) -> int:
    """Import every account of the export, all of it or nothing."""
    folder = call.arguments.folder
    manifest = read_log(folder)
    require_from_the_start(folder, manifest)
    total = sum(file.rows for file in manifest.files if file.table == LOG)
    with open_database(call.settings().database_url, application="recorder-cli") as database:
        bring_to_current(database)
        with shown_progress(call.output.err, f"importing {folder}", total) as on_progress:
            heads = load(database, folder, manifest, on_progress)
    for account, head in sorted(heads.items()):
        call.output.fact(
            {
                "account": account,
                "result": "imported",
                "events": head.position,
                "position": head.position,
                "digest": head.digest.hex(),
            },
            f"account {quoted(account)}: {count_of(head.position, 'event', 'events')} imported;"
            f" head {head.position} {head.digest.hex()}",
        )
    call.output.remark(
        "the tables are folded from the log by the next `recorder run`,"
        " or now by `recorder rebuild --all`"
    )
    return OK
