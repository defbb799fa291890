"""What a row of an export holds: its columns, and the text of each value.

Every value is exact. Amounts are their canonical decimal text in every format, Parquet too: a
column of Parquet has one scale for all its rows, and amounts have none. Times are UTC with
microseconds, digests hexadecimal (bytes in Parquet).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import sqlalchemy
from attrs import frozen
from sqlalchemy import Integer, LargeBinary

from recorder.database.columns import Amount, Flag, UtcTime
from recorder.exchange.amounts import canonical_amount
from recorder.log.rules.event import Event
from recorder.timestamps import time_us

#: A row of any table: values as the columns' types give them, in the order of the fields.
Row = tuple[Any, ...]


class Kind(StrEnum):
    """What the values of a column are."""

    TEXT = "text"
    INTEGER = "integer"
    FLAG = "flag"
    AMOUNT = "amount"
    TIME = "time"
    BYTES = "bytes"


@frozen
class Field:
    """One column of an export."""

    name: str
    kind: Kind


#: The log's, in the order in which a line of it has them.
EVENT_FIELDS = (
    Field("account", Kind.TEXT),
    Field("position", Kind.INTEGER),
    Field("received_at", Kind.TIME),
    Field("elapsed_ns", Kind.INTEGER),
    Field("connection_id", Kind.TEXT),
    Field("origin", Kind.TEXT),
    Field("type", Kind.TEXT),
    Field("encoding", Kind.TEXT),
    Field("payload", Kind.TEXT),
    Field("digest", Kind.BYTES),
)


def fields_of(table: sqlalchemy.Table) -> tuple[Field, ...]:
    """Return the columns of a table of the schema, in its order."""
    return tuple(Field(column.name, _kind(column.type)) for column in table.c)


def _kind(of: object) -> Kind:
    kinds: Iterable[tuple[type, Kind]] = (
        (Amount, Kind.AMOUNT),
        (UtcTime, Kind.TIME),
        (Flag, Kind.FLAG),
        (Integer, Kind.INTEGER),
        (LargeBinary, Kind.BYTES),
    )
    return next((kind for known, kind in kinds if isinstance(of, known)), Kind.TEXT)


def event_row(event: Event) -> Row:
    """Return the event in the order of `EVENT_FIELDS`."""
    return (
        event.account,
        event.position,
        event.received_at,
        event.elapsed_ns,
        event.connection_id,
        event.origin,
        event.type,
        event.encoding,
        event.payload,
        event.digest,
    )


def iso_utc(moment: datetime) -> str:
    """Return an aware UTC time as ``YYYY-MM-DDTHH:MM:SS.ffffff+00:00``."""
    return moment.isoformat(timespec="microseconds")


def _hexadecimal(value: bytes) -> str:
    return bytes(value).hex()


def _decimal_text(value: Decimal) -> str:
    return canonical_amount(value)


#: How a value is written where there are only texts, numbers and true or false.
TO_JSON: dict[Kind, Callable[[Any], Any]] = {
    Kind.AMOUNT: _decimal_text,
    Kind.TIME: iso_utc,
    Kind.BYTES: _hexadecimal,
}


class UnreadableLine(ValueError):
    """No event can be made of a line; the text reports why."""


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """One line of an exported log; all keys are there, and no others."""

    account: str
    position: int
    received_at: str
    # What a database can hold.
    elapsed_ns: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None
    connection_id: str | None
    origin: str
    type: str
    encoding: str
    payload: str
    digest: str


_LINES = msgspec.json.Decoder(_Line)
_DIGEST_BYTES = 32


def event_of_line(line: bytes) -> Event:
    """Return the event that a line of an exported log holds. Raises UnreadableLine."""
    try:
        parsed = _LINES.decode(line)
        digest = bytes.fromhex(parsed.digest)
        received_us = _microseconds(parsed.received_at)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise UnreadableLine(f"no event can be read from it: {error}") from error
    if len(digest) != _DIGEST_BYTES or parsed.digest != digest.hex():
        raise UnreadableLine("its digest is not 32 bytes in hexadecimal")
    texts = (parsed.account, parsed.connection_id or "", parsed.origin, parsed.type, parsed.payload)
    # Only where an escape could have made one.
    if b"\\u0000" in line and any("\x00" in text for text in texts):
        raise UnreadableLine("it holds a NUL, which no database's text can")
    return Event(
        parsed.account,
        parsed.position,
        received_us,
        parsed.elapsed_ns,
        parsed.connection_id,
        parsed.origin,
        parsed.type,
        parsed.payload,
        parsed.encoding,
        digest,
    )


def _microseconds(text: str) -> int:
    """Return microseconds since 1970 of what `iso_utc` wrote. Raises ValueError for all else."""
    day, between, time = text[:10], text[10:11], text[11:26]
    received_us = time_us(f"{day} {time}")
    if between != "T" or text[26:] != "+00:00":
        raise ValueError("received_at is no time as YYYY-MM-DDTHH:MM:SS.ffffff+00:00")
    return received_us
