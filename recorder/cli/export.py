"""``recorder export``: write the log, or any table, to files."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

from recorder.cli.call import Call
from recorder.cli.exits import OK
from recorder.cli.flags import DATABASE, add_settings, position_or_time
from recorder.cli.output import count_of
from recorder.cli.progress import shown_progress
from recorder.database.engine import in_unit
from recorder.errors import ConfigurationError
from recorder.export.formats import Format
from recorder.export.manifest import Manifest
from recorder.export.rows import LOG, TABLES, Period
from recorder.export.writing import Order, Progress, Step, export, pour

STDOUT = "-"
_ALL = "all"


def configure(parser: ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "target", metavar="DIR", help="a folder that does not exist yet; - is standard output"
    )
    parser.add_argument(
        "--table",
        action="append",
        dest="tables",
        metavar="TABLE",
        choices=(*TABLES, _ALL),
        help=f"{', '.join(TABLES)}, or all; may be given several times [default: events]",
    )
    parser.add_argument(
        "--format",
        dest="file_format",
        choices=tuple(map(str, Format)),
        default=str(Format.JSONL),
        help="jsonl, csv or parquet [default: jsonl, which can be verified and imported]",
    )
    parser.add_argument("--compress", choices=("gzip",), help="compress the files")
    parser.add_argument(
        "--from",
        dest="since",
        type=position_or_time,
        metavar="WHEN",
        help="from this position or time on (2026-01-31T12:00:00Z)",
    )
    parser.add_argument(
        "--to",
        dest="until",
        type=position_or_time,
        metavar="WHEN",
        help="up to and including this position, or before this time",
    )
    parser.add_argument(
        "--no-partition", action="store_true", help="one file a table instead of one a day"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the export that stands in DIR"
    )
    add_settings(parser, DATABASE)
    parser.add_argument_group("output").add_argument(
        "--json",
        action="store_const",
        const="json",
        dest="form",
        help="report as JSON what was written [default where the output is no terminal]",
    )


def run(call: Call) -> int:
    """Export, and print what was written."""
    asked = call.arguments
    with call.database() as database, _shown(call) as progress:
        accounts = in_unit(database.reader, call.recorded_accounts)
        order = _order(call, accounts)
        if asked.target == STDOUT:
            pour(database, order, _stdout(call, order), progress)
            return OK
        target = Path(asked.target)
        manifest = export(
            database, order, target, progress, now=call.now(), overwrite=asked.overwrite
        )
    _report(call, target, manifest)
    return OK


def _order(call: Call, accounts: list[str]) -> Order:
    asked = call.arguments
    tables = asked.tables or [LOG]
    if _is_empty(asked.since, asked.until):
        raise ConfigurationError(
            "there is nothing between --from and --to: report an earlier --from"
        )
    return Order(
        accounts=accounts,
        tables=TABLES if _ALL in tables else tuple(dict.fromkeys(tables)),
        form=Format(asked.file_format),
        period=Period(asked.since, asked.until),
        packed=asked.compress == "gzip",
        by_day=not (asked.no_partition or asked.target == STDOUT),
    )


def _is_empty(since: int | datetime | None, until: int | datetime | None) -> bool:
    """Return whether nothing can be between. A position and a time are not to be compared."""
    if isinstance(since, datetime) and isinstance(until, datetime):
        return since >= until
    return isinstance(since, int) and isinstance(until, int) and since > until


def _stdout(call: Call, order: Order) -> IO[bytes]:
    if len(order.tables) != 1 or order.packed or order.form is Format.PARQUET:
        raise ConfigurationError(
            "standard output takes one table, as jsonl or csv and not compressed; report a folder"
        )
    to: IO[bytes] = call.output.out.buffer
    return to


@contextmanager
def _shown(call: Call) -> Iterator[Progress]:
    """Show the table that is being written, one bar after the other."""
    with ExitStack() as bar:

        def progress(table: str, total: int) -> Step:
            bar.close()
            return bar.enter_context(shown_progress(call.output.err, f"exporting {table}", total))

        yield progress


def _report(call: Call, target: Path, manifest: Manifest) -> None:
    row = {
        "export": str(target),
        "format": manifest.format,
        "files": len(manifest.files),
        "rows": manifest.rows,
        "log": {
            account: {
                "after": stretch.after.position,
                "position": stretch.head.position,
                "digest": stretch.head.digest,
            }
            for account, stretch in manifest.log.items()
        },
    }
    rows = count_of(sum(manifest.rows.values()), "row", "rows")
    files = count_of(len(manifest.files), "file", "files")
    heads = "".join(
        f"\naccount {account!r}: head {stretch.head.position} {stretch.head.digest}"
        for account, stretch in manifest.log.items()
    )
    call.output.fact(row, f"{target}: {rows} in {files}{heads}")
