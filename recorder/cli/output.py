"""Prints answers: tables for a person on a terminal, one JSON object a line for a program.

A table is as wide as what it holds. Where the screen is narrower, columns that can be spared go
first, then every row is printed as a block of lines: an id that is cut or broken is no id.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from attrs import define, field, frozen

from recorder.display import json_value, plain, plain_lines, shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Row = Mapping[str, Any]
#: Wider than any table: what a table wants is measured against it.
_UNBOUNDED = 1_000_000


class Answer(Protocol):
    """The answer for one account: for programs, for people, and why it may not be true."""

    @property
    def warnings(self) -> Sequence[str]: ...
    def facts(self) -> Row: ...
    def print_page(self, output: Output) -> None: ...


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
    #: None asks the terminal. A file or a pipe has no width, and is spared no column.
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

    def rows(self, columns: Sequence[Column], rows: Iterable[Row], *, empty: str) -> int:
        """Print rows, and return their number; without any, print what that means."""
        count = 0
        if self.as_json:
            for row in rows:
                self.json_line(row)
                count += 1
        elif kept := list(rows):
            count = len(kept)
            self._table(columns, kept)
        if not count:
            self.remark(empty)
        return count

    def json_line(self, row: Row) -> None:
        """Print one JSON object on a line of its own, in ASCII."""
        print(json.dumps(json_value(row), separators=(",", ":")), file=self.out)

    def fact(self, row: Row, sentence: str) -> None:
        """Print one fact: ``row`` for a program, ``sentence`` for a person."""
        if self.as_json:
            self.json_line(row)
        else:
            self.line(sentence)

    def labelled(self, lines: Mapping[str, str]) -> None:
        """Print sentences, each behind its label."""
        width = max(map(len, lines))
        for label, text in lines.items():
            self.line(f"{label:<{width}}  {text}")

    def line(self, text: str = "") -> None:
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


def print_answers(output: Output, answers: Iterable[Answer | str]) -> bool:
    """Print an answer per account; return False if one is only the reason why there is none."""
    is_all = True
    for answer in answers:
        if isinstance(answer, str):
            output.warn(answer)
            is_all = False
            continue
        if output.as_json:
            output.json_line(answer.facts())
        else:
            answer.print_page(output)
        for warning in answer.warnings:
            output.warn(warning)
    return is_all


def quoted(text: str) -> str:
    """Return a name as a sentence holds it."""
    return f"'{plain(text)}'"


@contextmanager
def shown_progress(err: TextIO, label: str, total: int) -> Iterator[Callable[[int], object]]:
    """Yield a function of a position; on a terminal it shows how far of ``total`` that is."""
    if not err.isatty():
        yield lambda position: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    with Progress(console=Console(file=err), transient=True) as bars:
        bar = bars.add_task(escape(plain(label)), total=max(total, 1))
        yield lambda position: bars.update(bar, completed=position)
