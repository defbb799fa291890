"""``recorder export`` writes the log, or any table, to files; ``recorder import`` loads a log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from attrs import asdict

from recorder.cli.call import Call
from recorder.cli.command import FACTS, choice, command, period, position_or_time, switch, value
from recorder.cli.exits import OK
from recorder.cli.output import quoted, shown_progress
from recorder.database.engine import in_unit, open_database
from recorder.database.migrate import bring_to_current
from recorder.display import counted
from recorder.errors import ConfigurationError
from recorder.export.folder import Manifest
from recorder.export.formats import Format
from recorder.export.reading import load, read_log, require_from_the_start
from recorder.export.rows import LOG, TABLES, Period
from recorder.export.writing import Order, Progress, Step, export, pour

STDOUT = "-"
_ALL = "all"


@command(
    value("target", str, "DIR", "a folder that does not exist yet; - is standard output"),
    choice(
        "--table",
        (*TABLES, _ALL),
        f"{', '.join(TABLES)}, or all; may be given several times [default: events]",
        action="append",
        dest="tables",
        metavar="TABLE",
    ),
    choice(
        "--format",
        Format,
        "jsonl, csv or parquet [default: jsonl, which can be verified and imported]",
        dest="file_format",
        default=str(Format.JSONL),
    ),
    choice("--compress", ("gzip",), "compress the files"),
    *period(
        "from this position or time on (2026-01-31T12:00:00Z)",
        "up to and including this position, or before this time",
        parse=position_or_time,
    ),
    switch("--no-partition", "one file a table instead of one a day"),
    switch("--overwrite", "replace the export that is in DIR"),
    prints=FACTS,
)
def export_command(call: Call) -> int:
    """Export, and print what was written."""
    asked = call.arguments
    with call.database() as database, _shown(call) as progress:
        order = _order(call, in_unit(database.reader, call.recorded_accounts))
        if asked.target == STDOUT:
            pour(database, order, call.output.out.buffer, progress)
            return OK
        target = Path(asked.target)
        manifest = export(
            database, order, target, progress, now=call.now(), overwrite=asked.overwrite
        )
    _report(call, target, manifest)
    return OK


def _order(call: Call, accounts: list[str]) -> Order:
    """Return what to export. Raises ConfigurationError for what can't be."""
    asked, since, until = call.arguments, call.arguments.from_at, call.arguments.until_at
    tables = asked.tables or [LOG]
    # A position and a time can't be compared.
    by_time = isinstance(since, datetime) and isinstance(until, datetime)
    by_position = isinstance(since, int) and isinstance(until, int)
    if (by_time and since >= until) or (by_position and since > until):
        raise ConfigurationError("there is nothing between --from and --to: use an earlier --from")
    order = Order(
        accounts=accounts,
        tables=TABLES if _ALL in tables else tuple(dict.fromkeys(tables)),
        form=Format(asked.file_format),
        period=Period(since, until),
        packed=asked.compress == "gzip",
        by_day=not (asked.no_partition or asked.target == STDOUT),
    )
    is_one_text = len(order.tables) == 1 and not order.packed and order.form is not Format.PARQUET
    if asked.target == STDOUT and not is_one_text:
        raise ConfigurationError(
            "standard output takes one table, as jsonl or csv and not compressed; name a folder"
        )
    return order


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
            account: {"after": stretch.after.position, **asdict(stretch.head)}
            for account, stretch in manifest.log.items()
        },
    }
    rows = counted(sum(manifest.rows.values()), "row", "rows")
    files = counted(len(manifest.files), "file", "files")
    heads = "".join(
        f"\naccount {account!r}: head {stretch.head.position} {stretch.head.digest}"
        for account, stretch in manifest.log.items()
    )
    call.output.fact(row, f"{target}: {rows} in {files}{heads}")


@command(value("folder", Path, "DIR", "what `recorder export` made"), settings=("database_url",))
def import_command(call: Call) -> int:
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
        position, digest = head.position, head.digest.hex()
        facts = {"account": account, "result": "imported", "events": position}
        call.output.fact(
            {**facts, "position": position, "digest": digest},
            f"account {quoted(account)}: {counted(position, 'event', 'events')} imported;"
            f" head {position} {digest}",
        )
    call.output.remark(
        "the tables are folded from the log by the next `recorder run`,"
        " or now by `recorder rebuild --all`"
    )
    return OK
