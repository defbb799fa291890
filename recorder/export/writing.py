"""Writes an export: tables of one moment first, then the log up to where it stood at that moment.

*The other tables* are read in one transaction, so that they agree with each other. On PostgreSQL a
cursor of the server brings them; on SQLite the WAL can't start again while that transaction lasts,
so it is kept to them alone.

*The log* only ever grows, so it needs no such moment. It is read page by page, each in a short
transaction of its own, and a recorder beside it notices nothing. Each event is checked on its way:
an export that stands holds a log that was sound.

*Days*: files are named for the day (UTC) of their rows. The log's keep the order of positions, also
where a clock was set back: an event then stays in the file of the latest day so far.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Protocol, cast

import sqlalchemy
from attrs import define, field, frozen
from sqlalchemy import Connection

from recorder import __version__
from recorder.database.engine import Database, in_unit
from recorder.database.migrate import EXPECTED
from recorder.database.schema import metadata
from recorder.errors import LogDamaged
from recorder.export.folder import (
    NAME,
    File,
    HashedFile,
    Manifest,
    Part,
    Stretch,
    file_errors,
    mark,
    packed,
    staged,
    write_manifest,
)
from recorder.export.formats import Format, Rows, open_rows, require
from recorder.export.rows import (
    FETCHED_ROWS,
    LOG,
    LogStretch,
    Period,
    count_rows,
    day_column,
    log_stretch,
    require_period,
    stream_rows,
)
from recorder.export.values import EVENT_FIELDS, Field, Row, event_row, fields_of
from recorder.log.rules.chain import Damage, check_event
from recorder.log.rules.event import Event, Head
from recorder.log.sql.read import events_after, read_page
from recorder.timestamps import from_us

_DAY_US = 86_400_000_000
#: The file of rows without a time.
_UNDATED = "undated"
#: Called with a label and the number of rows to come; returns what is called with how many of them
#: are written.
Progress = Callable[[str, int], "Step"]
#: Called with the number of rows of the present table that are written.
Step = Callable[[int], object]


@frozen
class Order:
    """What is to be exported, and how."""

    accounts: Collection[str]
    tables: Sequence[str]
    form: Format
    period: Period = field(factory=Period)
    packed: bool = False
    by_day: bool = True


class Files(Protocol):
    """Where the rows go, one file at a time."""

    def open(self, table: str, day: str | None) -> _Open:
        """Return what takes the rows of the next file."""
        ...

    def close(self, opened: _Open) -> None:
        """Finish that file."""
        ...


@define
class _Open:
    """A file that is being written, and its entry in the manifest."""

    rows: Rows
    table: str
    day: str | None
    path: str = ""
    count: int = 0
    parts: list[Part] = field(factory=list)

    def write(self, rows: Sequence[Row]) -> None:
        self.rows.write(rows)
        self.count += len(rows)


def export(
    database: Database,
    order: Order,
    target: Path,
    progress: Progress,
    *,
    now: datetime,
    overwrite: bool = False,
) -> Manifest:
    """Write the export to the folder ``target``, and return its manifest.

    The folder is there, whole and on the disk, when this returns; if it raises, there is nothing of
    it. Raises ConfigurationError for a folder, a period or a format that can't be, LogDamaged for a
    log that isn't sound, FilesFailed where the disk is full, and what the database raises.
    """
    _check(order)
    with (
        file_errors(target),
        staged(target, overwrite=overwrite) as folder,
        _Folder(folder, order) as files,
    ):
        log = _write(database, order, files, progress)
        manifest = Manifest(
            format=order.form,
            compression="gzip" if order.packed else None,
            created_at=now.astimezone(UTC).isoformat(timespec="microseconds"),
            recorder=__version__,
            schema=EXPECTED,
            rows={name: _counted(files.written, name) for name in order.tables},
            log=log,
            files=tuple(files.written),
        )
        about = HashedFile(folder / NAME)
        with about:
            about.write(write_manifest(manifest))
    return manifest


def pour(database: Database, order: Order, to: IO[bytes], progress: Progress) -> None:
    """Write the rows of the order's only table to ``to``, which gets no manifest.

    Raises what `export` raises, and the OSError of ``to``.
    """
    _check(order)
    _write(database, order, _Stream(to, order), progress)


def _check(order: Order) -> None:
    require(order.form)
    for name in order.tables:
        require_period(metadata.tables[name], order.period)


def _counted(files: Sequence[File], table: str) -> int:
    return sum(file.rows for file in files if file.table == table)


def _write(
    database: Database, order: Order, files: Files, progress: Progress
) -> dict[str, Stretch]:
    stretches = in_unit(database.reader, _write_tables, order, files, progress)
    walks = [_Walk(database, each) for each in stretches]
    _write_log(walks, order, files, progress)
    return {walk.account: Stretch(mark(walk.after), mark(walk.head)) for walk in walks}


def _write_tables(
    connection: Connection, order: Order, files: Files, progress: Progress
) -> list[LogStretch]:
    """Write all tables but the log, as of one moment; return how far the log is then."""
    for name in order.tables:
        if name != LOG:
            _write_table(connection, metadata.tables[name], order, files, progress)
    if LOG not in order.tables:
        return []
    return [log_stretch(connection, account, order.period) for account in sorted(order.accounts)]


def _write_table(
    connection: Connection,
    table: sqlalchemy.Table,
    order: Order,
    files: Files,
    progress: Progress,
) -> None:
    step = progress(str(table.name), count_rows(connection, table, order.accounts, order.period))
    rows = stream_rows(connection, table, order.accounts, order.period)
    written = 0
    with _Days(files, str(table.name)) as days:
        if not (order.by_day and day_column(table) is not None):
            # The file is there also where the table is empty.
            days.turn(None)
        for day, some in _by_day(rows, table if order.by_day else None):
            days.turn(day).write(some)
            written += len(some)
            step(written)


def _by_day(
    rows: Iterator[sqlalchemy.Row[*tuple[object, ...]]], table: sqlalchemy.Table | None
) -> Iterator[tuple[str | None, list[Row]]]:
    """Cut rows that come in the order of their time into lists of one day each, none too long."""
    column = None if table is None else day_column(table)
    place = None if column is None or table is None else list(table.c).index(column)
    held: list[Row] = []
    today: str | None = None
    for row in rows:
        day = None if place is None else _day_of(cast("datetime | None", row[place]))
        if held and (day != today or len(held) >= FETCHED_ROWS):
            yield today, held
            held = []
        today = day
        held.append(tuple(row))
    if held:
        yield today, held


def _day_of(moment: datetime | None) -> str:
    return _UNDATED if moment is None else moment.astimezone(UTC).date().isoformat()


@define
class _Days:
    """The file of one day at a time."""

    files: Files
    table: str
    _opened: _Open | None = None

    def turn(self, day: str | None) -> _Open:
        """Return the day's file; that of another day is finished."""
        if self._opened is None or self._opened.day != day:
            self.finish()
            self._opened = self.files.open(self.table, day)
        return self._opened

    def finish(self) -> None:
        """Finish the file that is being written, if any."""
        opened, self._opened = self._opened, None
        if opened is not None:
            self.files.close(opened)

    def __enter__(self) -> _Days:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        # After an error nothing is to be saved: all of it goes.
        if kind is None:
            self.finish()


@define
class _Walk:
    """The way through one account's stretch of the log: how far it is, and on which day."""

    _database: Database
    _stretch: LogStretch
    head: Head = field(init=False)
    #: Days since 1970 of the next event, or of the latest before it; None at the end.
    day: int | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.head = self.after
        after = self.after.position
        first = in_unit(self._database.reader, events_after, self.account, after, limit=1)
        self.day = first[0].received_us // _DAY_US if first and after < self.last else None

    @property
    def account(self) -> str:
        return self._stretch.account

    @property
    def after(self) -> Head:
        return self._stretch.after

    @property
    def last(self) -> int:
        return self._stretch.last

    def batches(self, *, stop_at_midnight: bool) -> Iterator[list[Event]]:
        """Yield the events that follow, up to the end of their day or of the stretch."""
        while self.head.position < self.last:
            batch, is_over = self._checked(self._page(), stop_at_midnight)
            if batch:
                yield batch
            if is_over:
                return
        self.day = None

    def _page(self) -> list[Event]:
        position = self.head.position
        page = in_unit(self._database.reader, read_page, self.account, position, up_to=self.last)
        if not page.events:
            raise self._damaged(position + 1, "missing")
        return page.events

    def _checked(self, page: list[Event], stop_at_midnight: bool) -> tuple[list[Event], bool]:
        """Return the page's events of the present day, and whether others follow in it."""
        assert self.day is not None
        for count, event in enumerate(page):
            day = max(self.day, event.received_us // _DAY_US)
            if day > self.day and stop_at_midnight:
                self.day = day
                return page[:count], True
            checked = check_event(self.head, event)
            if isinstance(checked, Damage):
                raise self._damaged(checked.position, checked.what)
            self.head, self.day = checked, day
        return page, False

    def _damaged(self, position: int, what: str) -> LogDamaged:
        return LogDamaged(
            f"account {self.account!r}, position {position}: {what}; nothing was exported:"
            " run `recorder verify`"
        )


def _write_log(walks: Sequence[_Walk], order: Order, files: Files, progress: Progress) -> None:
    if LOG not in order.tables:
        return
    total = sum(walk.last - walk.after.position for walk in walks)
    step = progress(LOG, total)
    written = 0
    with _Days(files, LOG) as days:
        if not order.by_day:
            days.turn(None)
        while under_way := [walk.day for walk in walks if walk.day is not None]:
            today = min(under_way)
            for walk in walks:
                if walk.day is None or (order.by_day and walk.day != today):
                    continue
                opened = days.turn(_day_text(today) if order.by_day else None)
                for count in _write_walk(walk, order, opened):
                    written += count
                    step(written)


def _write_walk(walk: _Walk, order: Order, opened: _Open) -> Iterator[int]:
    """Write what follows to the file, and note which positions it got; yield each batch's rows."""
    before = walk.head.position
    for batch in walk.batches(stop_at_midnight=order.by_day):
        opened.write([*map(event_row, batch)])
        yield len(batch)
    opened.parts.append(Part(walk.account, before + 1, walk.head.position))


def _day_text(day: int) -> str:
    return from_us(day * _DAY_US).date().isoformat()


@define
class _Folder:
    """The files of a folder: ``TABLE/DAY.jsonl``, or ``TABLE.jsonl`` where there are no days."""

    folder: Path
    order: Order
    written: list[File] = field(factory=list)
    _opened: _Open | None = None
    _raw: HashedFile | None = None
    _packed: IO[bytes] | None = None

    def __enter__(self) -> _Folder:
        return self

    def __exit__(self, *_: object) -> None:
        """Close what an error left open; it goes with the folder, so no further error is raised of
        it.
        """
        rows = None if self._opened is None else self._opened.rows
        for each in (rows, self._packed, self._raw):
            if each is not None:
                with suppress(OSError, ValueError):
                    each.close()

    def open(self, table: str, day: str | None) -> _Open:
        form, is_packed = self.order.form, self.order.packed
        ending = form.value + (".gz" if is_packed and form is not Format.PARQUET else "")
        path = f"{table}.{ending}" if day is None else f"{table}/{day}.{ending}"
        (self.folder / path).parent.mkdir(exist_ok=True)
        self._raw = HashedFile(self.folder / path)
        to = cast(IO[bytes], self._raw)
        if is_packed and form is not Format.PARQUET:
            to = self._packed = packed(self._raw)
        rows = open_rows(form, to, _fields(table), packed=is_packed)
        self._opened = _Open(rows, table, day, path)
        return self._opened

    def close(self, opened: _Open) -> None:
        opened.rows.close()
        raw, over = self._raw, self._packed
        assert raw is not None
        if over is not None:
            over.close()
        raw.close()
        self._opened = self._raw = self._packed = None
        self.written.append(
            File(
                path=opened.path,
                table=opened.table,
                day=opened.day,
                rows=opened.count,
                bytes=raw.size,
                sha256=raw.sha256,
                parts=tuple(opened.parts),
            )
        )


@define
class _Stream:
    """One file that another opened and will close."""

    to: IO[bytes]
    order: Order

    def open(self, table: str, day: str | None) -> _Open:
        return _Open(open_rows(self.order.form, self.to, _fields(table), packed=False), table, day)

    def close(self, opened: _Open) -> None:
        opened.rows.close()
        self.to.flush()


def _fields(table: str) -> tuple[Field, ...]:
    return EVENT_FIELDS if table == LOG else fields_of(metadata.tables[table])
