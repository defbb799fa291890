"""Writes a statement: its tables as files, its page, and a manifest with the SHA-256 of each.

All tables are read in one transaction, the log after that, as it only grows. The requested
folder appears when it is complete, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import msgspec
import sqlalchemy
from attrs import asdict, define, evolve, field, frozen
from sqlalchemy import Connection

from recorder import __version__
from recorder.database.migrate import EXPECTED
from recorder.database.schema import differences, gaps, orders, reconciliations, trades
from recorder.errors import ConfigurationError
from recorder.export.folder import HashedFile, file_errors, staged
from recorder.export.formats import Format, open_rows, require
from recorder.export.values import Field, Kind, fields_of, iso_utc
from recorder.gaps.sql.gaps import count_gaps, read_gaps, read_known, read_unobserved, tail
from recorder.log.rules.coverage import Totals, seconds_between, timeline, totals
from recorder.projections.rules.books import Explained
from recorder.queries.books import Period, explain, folded_up_to, unread
from recorder.reconciliation.sql.fill_checks import unmatched_fills
from recorder.statement import sql as read
from recorder.statement.page import render
from recorder.statement.rules.caveats import caveats
from recorder.statement.rules.charts import Chart, Thinned
from recorder.statement.rules.report import End, OrderSums, Proof, Report, Seen, TradeSums

PAGE = "statement.html"
MANIFEST = "manifest.json"
KIND = "recorder statement"
VERSION = 1
#: The formats in which the tables are written.
FORMATS = (Format.CSV, Format.PARQUET)
_BATCH_ROWS = 1_000


@frozen
class Asked:
    """What a statement is requested of. ``is_running``: whether a recorder runs now."""

    account: str
    from_at: datetime
    until_at: datetime
    now: datetime
    form: Format
    is_running: bool = False
    unknowable: Sequence[str] = ()


def _fields(columns: str) -> tuple[Field, ...]:
    """Return columns of a text: each is a name and a kind."""
    return tuple(Field(name, Kind(kind)) for name, kind in map(str.split, columns.split(",")))


def _of_table(table: sqlalchemy.Table, names: Iterable[str] = ()) -> tuple[Field, ...]:
    """Return the named columns of a table of the schema, or all but the account."""
    known = {each.name: each for each in fields_of(table) if each.name != "account"}
    return tuple(known[name] for name in names or known)


#: The tables of a statement and their columns, in the order in which they are written.
TABLES: dict[str, tuple[Field, ...]] = {
    "balances": _fields("""
        currency text, opening amount, opening_basis text, opening_position integer,
        opening_at time, closing amount, closing_basis text, closing_position integer,
        closing_at time, moved amount, residual amount, in_flight flag, adds_up flag
    """),
    "books": _fields("""
        currency text, kind text, amount amount, movements integer, backfilled integer,
        without_amount integer, reported_later integer, assumed_fees amount
    """),
    "movements": _fields("""
        at time, currency text, kind text, leg text, amount amount, type text, natural_id text,
        order_id text, pair text, source text, fee_basis text, source_table text,
        position integer, item integer, received_at time
    """),
    "orders": (*_of_table(orders, read.ORDER_COLUMNS), Field("foreign", Kind.FLAG)),
    "open_orders": (
        Field("at_end", Kind.TEXT),
        *_of_table(orders, read.OPEN_ORDER_COLUMNS),
        *_fields("position integer, received_at time, certain flag"),
    ),
    "trades": _of_table(trades),
    "coverage": _fields("part text, cause text, seconds amount"),
    "gaps": _of_table(gaps),
    "comparisons": _of_table(reconciliations),
    "differences": _of_table(differences),
    "heads": _fields("end text, position integer, received_at time, digest bytes"),
}


@frozen
class File:
    """One file beside the manifest."""

    path: str
    table: str | None
    rows: int | None
    bytes: int
    sha256: str


@frozen
class Manifest:
    """The description of a statement; ``sound`` is true if there are no ``caveats``."""

    account: str
    from_at: str
    until_at: str
    made_at: str
    as_of_position: int
    sound: bool
    caveats: tuple[str, ...]
    verified_events: int | None
    heads: dict[str, Mapping[str, Any]]
    format: Format
    files: tuple[File, ...]
    recorder: str = __version__
    schema: str = EXPECTED
    kind: str = KIND
    version: int = VERSION


#: Reads the account's whole log again, in a transaction of its own; None to skip that.
Prove = Callable[[], Proof]
#: Runs what reads all tables in one transaction.
Look = Callable[[Callable[[Connection], Report]], Report]


def write_statement(
    look: Look, asked: Asked, target: Path, prove: Prove | None
) -> tuple[Report, list[str]]:
    """Write the statement to the folder ``target``; return what it reports, and its warnings.

    Raises ConfigurationError for a folder, a format or a period that can't be, FilesFailed where
    the disk is full, and what the database raises; then nothing of it stays.
    """
    require(asked.form)
    _require_free(target)
    with file_errors(target), staged(target, overwrite=False) as folder:
        files = _Folder(folder, asked.form)
        report = look(partial(_read, asked=asked, files=files))
        report = evolve(report, proof=prove() if prove else None)
        found = caveats(report)
        files.put(PAGE, render(report).encode())
        manifest = _manifest(report, found, asked.form, files.written)
        files.put(MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    return report, found


def _require_free(target: Path) -> None:
    with file_errors(target):
        if target.is_dir() and any(target.iterdir()):
            raise ConfigurationError(
                f"{target} is not empty: a statement gets a folder of its own, so name another"
            )


@define
class _Folder:
    """The files that are written, one at a time."""

    folder: Path
    form: Format
    written: list[File] = field(factory=list)

    def rows(self, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write a table; its rows may be many."""
        fields = TABLES[table]
        with self._file(f"{table}.{self.form}", table) as (to, count):
            writer = open_rows(self.form, cast(IO[bytes], to), fields, packed=False)
            held: list[tuple[Any, ...]] = []
            for row in rows:
                held.append(tuple(row[each.name] for each in fields))
                if len(held) >= _BATCH_ROWS:
                    writer.write(held)
                    count[0] += len(held)
                    held = []
            writer.write(held)
            count[0] += len(held)
            writer.close()

    def put(self, path: str, text: bytes) -> None:
        """Write a file that is no table."""
        with self._file(path, None) as (to, _):
            to.write(text)

    @contextmanager
    def _file(self, path: str, table: str | None) -> Any:
        to, count = HashedFile(self.folder / path), [0]
        with to:
            yield to, count
        rows = None if table is None else count[0]
        self.written.append(File(path, table, rows, to.size, to.sha256))


def _manifest(report: Report, found: list[str], form: Format, files: Sequence[File]) -> Manifest:
    return Manifest(
        account=report.account,
        from_at=iso_utc(report.from_at),
        until_at=iso_utc(report.until_at),
        made_at=iso_utc(report.made_at),
        as_of_position=report.as_of,
        sound=not found,
        caveats=tuple(found),
        verified_events=report.proof.events if report.proof else None,
        heads={
            each.name: {"position": each.position, "digest": each.digest.hex()}
            for each in report.ends
        },
        format=form,
        files=tuple(files),
    )


# What is read in the one transaction


def _read(connection: Connection, *, asked: Asked, files: _Folder) -> Report:
    account = asked.account
    folded = folded_up_to(connection, account)
    since = read_known(connection, account).since
    if not folded or since is None:
        raise ConfigurationError(
            f"nothing of account {account!r} is recorded and folded yet: start `recorder run`"
        )
    if asked.until_at <= since:
        raise ConfigurationError(
            f"nothing of account {account!r} is recorded in that period: the first recorder started"
            f" at {since.isoformat()}"
        )
    period = Period(asked.from_at, asked.until_at, folded)
    currencies = explain(connection, account, period)
    ends = read.heads_of(connection, account, asked.from_at, asked.until_at)
    order_sums, trade_sums = OrderSums(), TradeSums()
    report = Report(
        account=account,
        from_at=asked.from_at,
        until_at=asked.until_at,
        made_at=asked.now,
        version=__version__,
        as_of=folded,
        ends=ends,
        proof=None,
        seen=_seen(connection, asked),
        currencies=currencies,
        orders=order_sums,
        trades=trade_sums,
        gaps=read_gaps(connection, account, asked.from_at, asked.until_at),
        comparisons=read.comparisons_of(connection, account, period),
        differences=read.differences_of(connection, account, period),
        open_orders=read.open_at_ends(connection, account, period),
        behind=read.behind(connection, account, ends[1].position),
        unread=unread(connection, account, period),
        unmatched=[each.order_id for each in unmatched_fills(connection, account, period)],
        in_doubt=read.in_doubt(connection, account, asked.until_at),
        unknowable=asked.unknowable,
        charts=_charts(connection, account, period, currencies),
    )
    _write_tables(connection, report, period, files)
    return evolve(report, rows={each.table or "": each.rows or 0 for each in files.written})


def _write_tables(connection: Connection, report: Report, period: Period, files: _Folder) -> None:
    """Write all tables, and count on the way what may be too much to be held."""
    files.rows("balances", map(_balance_row, report.currencies))
    files.rows("books", _book_rows(report.currencies))
    files.rows("movements", read.movements_of(connection, report.account, period))
    lived = read.orders_of(connection, report.account, period)
    files.rows("orders", _passed(lived, report.orders.add))
    files.rows("open_orders", report.open_orders)
    filled = read.trades_of(connection, report.account, period)
    files.rows("trades", _passed(filled, report.trades.add))
    files.rows("coverage", _coverage_rows(report.seen))
    files.rows("gaps", report.gaps)
    files.rows("comparisons", report.comparisons)
    files.rows("differences", report.differences)
    files.rows("heads", map(_head_row, report.ends))


def _seen(connection: Connection, asked: Asked) -> Seen:
    account, from_at, until_at = asked.account, asked.from_at, asked.until_at
    known = read_known(connection, account)
    begin = max(from_at, known.since or until_at)
    unobserved_intervals = read_unobserved(connection, account, begin, until_at)
    unobserved_intervals += tail(known, until_at, is_running=asked.is_running)
    stretches = timeline(unobserved_intervals, begin, until_at)
    counts = count_gaps(connection, account, from_at, until_at)
    return Seen(
        sums=totals(stretches),
        unrecorded_s=seconds_between(from_at, begin),
        unhealed=sum(number for _, state, number in counts if state != "healed"),
        stretches=stretches,
    )


def _charts(
    connection: Connection, account: str, period: Period, currencies: Sequence[Explained]
) -> list[Chart]:
    """Return the balance over time of every currency of which one was reported in the period."""
    found = []
    begin, end = period.begin, period.end
    assert isinstance(begin, datetime) and isinstance(end, datetime)
    for reported in currencies:
        if reported.currency is None or not (
            reported.lines or reported.opening.total != reported.closing.total
        ):
            continue
        thinned = Thinned(begin, end)
        for step in read.balance_steps(connection, account, reported.currency, period):
            thinned.add(step)
        found.append(Chart.of(reported.currency, reported.opening.total, begin, end, thinned))
    return found


def _balance_row(reported: Explained) -> Mapping[str, Any]:
    return {
        "currency": reported.currency,
        "opening": reported.opening.total,
        "opening_basis": reported.opening.basis.value,
        "opening_position": reported.opening.position,
        "opening_at": reported.opening.at,
        "closing": reported.closing.total,
        "closing_basis": reported.closing.basis.value,
        "closing_position": reported.closing.position,
        "closing_at": reported.closing.at,
        "moved": reported.moved,
        "residual": reported.residual,
        "in_flight": reported.in_flight,
        "adds_up": reported.adds_up,
    }


def _book_rows(currencies: Sequence[Explained]) -> Iterable[Mapping[str, Any]]:
    """Yield a row for each kind of movement of each currency, and one for what is left."""
    nothing = dict.fromkeys((each.name for each in TABLES["books"]), None)
    for reported in currencies:
        for line in reported.lines:
            yield {"currency": reported.currency, **asdict(line)}
        residual = {"currency": reported.currency, "kind": "residual", "amount": reported.residual}
        yield nothing | residual


def _passed(
    rows: Iterable[Mapping[str, Any]], add: Callable[[Mapping[str, Any]], None]
) -> Iterable[Mapping[str, Any]]:
    """Yield rows, each after it was added to a sum."""
    for row in rows:
        add(row)
        yield row


def _coverage_rows(seen: Seen) -> Iterable[Mapping[str, Any]]:
    sums = seen.sums or Totals(Decimal(0), Decimal(0), Decimal(0), ())
    yield {"part": "observed", "cause": None, "seconds": sums.observed_s}
    for cause, unobserved, healed in sums.causes:
        for part, seconds in (("unobserved", unobserved), ("healed", healed)):
            if seconds:
                yield {"part": part, "cause": cause, "seconds": seconds}
    yield {"part": "unrecorded", "cause": None, "seconds": seen.unrecorded_s}


def _head_row(end: End) -> Mapping[str, Any]:
    return {
        "end": end.name,
        "position": end.position,
        "received_at": end.received_at,
        "digest": end.digest,
    }
