"""The formats of an exported table: JSON lines, CSV, Parquet. Rows go in by the thousand at most.

Each is written in one pass and in bounded memory, into anything that takes bytes.
docs/how-to/export-and-import.md shows a value in each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import IO, TYPE_CHECKING, Any, Protocol

from attrs import define, field

from recorder.errors import ConfigurationError
from recorder.export.values import TO_JSON, Field, Kind, Row

if TYPE_CHECKING:
    import pyarrow

#: A row group of Parquet is held in memory while it grows: so many rows, …
GROUP_ROWS = 50_000
#: … or characters of text, whichever comes first.
GROUP_CHARACTERS = 8 * 1024 * 1024


class Format(StrEnum):
    """What a file of an export is; also the ending of its name."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


class Rows(Protocol):
    """Takes the rows of one file, in order."""

    def write(self, rows: Sequence[Row]) -> None:
        """Write rows, whose values stand in the order of the fields."""
        ...

    def close(self) -> None:
        """Write what is still held. The file beneath stays open."""
        ...


def open_rows(form: Format, to: IO[bytes], fields: Sequence[Field], *, packed: bool) -> Rows:
    """Return what writes rows in this format.

    ``packed`` compresses Parquet from within; for the others the caller hands over a file that
    that does it. Raises ConfigurationError where Parquet's library is not installed.
    """
    if form is Format.JSONL:
        return _JsonLines(to, fields)
    if form is Format.CSV:
        return _Csv(to, fields)
    return _Parquet(to, fields, packed)


def require(form: Format) -> None:
    """Raise ConfigurationError, saying what to install, where the format can't be written."""
    if form is Format.PARQUET:
        _pyarrow()


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigurationError(
            "Parquet needs pyarrow, which is not installed: pip install 'valr-recorder[parquet]',"
            " or take --format jsonl or csv"
        ) from error
    return pyarrow


@define
class _JsonLines:
    """One object a line, in ASCII: whatever a reader takes for the end of a line is escaped."""

    to: IO[bytes]
    fields: Sequence[Field]
    _encode: Callable[[object], str] = json.JSONEncoder(separators=(",", ":")).encode

    def write(self, rows: Sequence[Row]) -> None:
        names = [each.name for each in self.fields]
        lines = [
            self._encode(dict(zip(names, row, strict=True)))
            for row in _converted(rows, self.fields)
        ]
        self.to.write(("\n".join(lines) + "\n").encode("ascii") if lines else b"")

    def close(self) -> None:
        """Nothing is held back."""


@define
class _Csv:
    """RFC 4180 in UTF-8 with a line of names; null is nothing, an empty text is ``""``."""

    to: IO[bytes]
    fields: Sequence[Field]

    def __attrs_post_init__(self) -> None:
        self.to.write((",".join(each.name for each in self.fields) + "\r\n").encode())

    def write(self, rows: Sequence[Row]) -> None:
        lines = [",".join(map(_cell, row)) + "\r\n" for row in _converted(rows, self.fields)]
        self.to.write("".join(lines).encode())

    def close(self) -> None:
        """Nothing is held back."""


#: A cell that has one of these is quoted; Python's csv can't report null from an empty text.
_SPECIAL = frozenset(',"\r\n')


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if not text or not _SPECIAL.isdisjoint(text) or text != text.strip():
        return '"' + text.replace('"', '""') + '"'
    return text


def _converted(rows: Sequence[Row], fields: Sequence[Field]) -> list[list[Any]]:
    """Return the rows with each value as JSON or CSV holds it."""
    changed = [(place, TO_JSON[it.kind]) for place, it in enumerate(fields) if it.kind in TO_JSON]
    made = []
    for row in rows:
        values = list(row)
        for place, convert in changed:
            if values[place] is not None:
                values[place] = convert(values[place])
        made.append(values)
    return made


@define
class _Parquet:
    """Row groups of a bounded size; amounts are texts, so that no scale cuts them."""

    to: IO[bytes]
    fields: Sequence[Field]
    packed: bool
    _arrow: Any = field(factory=_pyarrow, init=False)
    _held: list[Row] = field(factory=list, init=False)
    _characters: int = field(default=0, init=False)
    _schema: pyarrow.Schema = field(init=False)
    _writer: pyarrow.parquet.ParquetWriter = field(init=False)

    def __attrs_post_init__(self) -> None:
        types = {
            Kind.TEXT: self._arrow.string(),
            Kind.AMOUNT: self._arrow.string(),
            Kind.INTEGER: self._arrow.int64(),
            Kind.FLAG: self._arrow.bool_(),
            Kind.TIME: self._arrow.timestamp("us", tz="UTC"),
            Kind.BYTES: self._arrow.binary(),
        }
        self._schema = self._arrow.schema([(it.name, types[it.kind]) for it in self.fields])
        self._writer = self._arrow.parquet.ParquetWriter(
            self.to, self._schema, compression="gzip" if self.packed else "snappy"
        )

    def write(self, rows: Sequence[Row]) -> None:
        texts = [place for place, it in enumerate(self.fields) if it.kind is Kind.TEXT]
        for row in rows:
            self._held.append(row)
            self._characters += sum(len(row[place] or "") for place in texts)
            if len(self._held) >= GROUP_ROWS or self._characters >= GROUP_CHARACTERS:
                self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if not self._held:
            return
        columns = []
        for place, it in enumerate(self.fields):
            values = [row[place] for row in self._held]
            if it.kind is Kind.AMOUNT:
                convert = TO_JSON[Kind.AMOUNT]
                values = [None if value is None else convert(value) for value in values]
            columns.append(self._arrow.array(values, type=self._schema.field(it.name).type))
        self._writer.write_table(self._arrow.Table.from_arrays(columns, schema=self._schema))
        self._held.clear()
        self._characters = 0
