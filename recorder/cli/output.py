"""Prints answers: tables for a person on a terminal, one JSON object a line for a program.

A table is as wide as what it holds. Where the screen is narrower, columns that can be spared go
first, then every row is printed as a block of lines: an id that is cut or broken is no id.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from attrs import define, field, frozen

from recorder.display import json_value, plain, plain_lines, shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Row = Mapping[str, Any]
#: Wider than any table: what a table wants is measured against it.
_UNBOUNDED = 1_000_000


@frozen
class Column:
    """One column of a table: which value of a row it shows, and under which title.

    A ``spare`` column is left out where the screen is too narrow; numbers are aligned right.
    """

    name: str
    title: str = ""
    right: bool = False
    spare: bool = False
    show: Callable[[Any], str] = shown


@define
class Output:
    """Where one command's answer goes, and in which form."""

    as_json: bool
    out: TextIO
    err: TextIO
    #: None lets the terminal report. A file or a pipe has no width, and is spared no column.
    width: int | None = None
    _console: Console | None = field(default=None, init=False)

    @property
    def console(self) -> Console:
        """The terminal, asked for its width and colours when the first table is printed."""
        if self._console is None:
            from rich.console import Console

            width = self.width if self.width or self.out.isatty() else _UNBOUNDED
            self._console = Console(
                file=self.out, width=width, highlight=False, markup=False, emoji=False
            )
        return self._console

    def rows(self, columns: Sequence[Column], rows: Iterable[Row], *, empty: str) -> None:
        """Print rows; without any, print what that means (on the error stream for programs)."""
        if self.as_json:
            found = False
            for row in rows:
                found = True
                self.json_line(row)
        else:
            kept = list(rows)
            found = bool(kept)
            if found:
                self._table(columns, kept)
        if not found:
            self.remark(empty)

    def json_line(self, row: Row) -> None:
        """Print one JSON object on a line of its own, in ASCII."""
        print(json.dumps(json_value(row), separators=(",", ":")), file=self.out)

    def fact(self, row: Row, sentence: str) -> None:
        """Print one fact: ``row`` for a program, ``sentence`` for a person."""
        if self.as_json:
            self.json_line(row)
        else:
            self.line(sentence)

    def line(self, text: str) -> None:
        """Print a sentence. The terminal breaks it, so that what is copied from it is whole."""
        print(plain_lines(text), file=self.out)

    def remark(self, text: str) -> None:
        """Print what a person should know beside the answer, away from what a program reads."""
        print(plain_lines(text), file=self.err if self.as_json else self.out)

    def warn(self, text: str) -> None:
        """Print to the error stream what a person must not overlook."""
        print(f"recorder: {plain_lines(text)}", file=self.err)

    def _table(self, columns: Sequence[Column], rows: Sequence[Row]) -> None:
        wanted = list(columns)
        while self._natural_width(wanted, rows) > self.console.width:
            spare = [column for column in wanted if column.spare]
            if not spare:
                self._blocks(columns, rows)
                return
            wanted.remove(spare[-1])
        self.console.print(_table(wanted, rows))
        if len(wanted) < len(columns):
            left_out = ", ".join(_title(c) for c in columns if c not in wanted)
            self.remark(f"left out on this narrow screen: {left_out}")

    def _natural_width(self, columns: Sequence[Column], rows: Sequence[Row]) -> int:
        from rich.measure import Measurement

        options = self.console.options.update_width(_UNBOUNDED)
        return Measurement.get(self.console, options, _table(columns, rows)).maximum

    def _blocks(self, columns: Sequence[Column], rows: Sequence[Row]) -> None:
        width = max(len(_title(column)) for column in columns)
        for number, row in enumerate(rows):
            if number:
                print(file=self.out)
            for column in columns:
                print(
                    f"{_title(column):<{width}}  {column.show(row.get(column.name))}", file=self.out
                )


def _table(columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for column in columns:
        table.add_column(
            Text(_title(column)), justify="right" if column.right else "left", no_wrap=True
        )
    for row in rows:
        # A Text is never read as markup, whatever the exchange called its currencies.
        table.add_row(*(Text(column.show(row.get(column.name))) for column in columns))
    return table


def _title(column: Column) -> str:
    return column.title or column.name


def count_of(number: int, one: str, many: str) -> str:
    """Return ``1 event`` or ``2 events``."""
    return f"{number:,} {one if number == 1 else many}"


def quoted(text: str) -> str:
    """Return a name as a sentence holds it."""
    return f"'{plain(text)}'"
