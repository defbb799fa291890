"""What the lists of positions and conditional orders say that are fetched over REST.

A list that was fetched whole is an event whose type is one of `FuturesList` and whose payload is
the answer as it came. Its rows are the same messages as frames make. A row that can't be read makes
the list one that says nothing: from part of a list no absence can be concluded.

Such an event must hold what was asked without ``skip``; a list as long as a page may have more
behind it, and is not ``whole``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import StrEnum

from attrs import frozen

from recorder.exchange.fields import FieldError, Fields
from recorder.exchange.messages import (
    AddConditionalOrder,
    Message,
    OpenPositionUpdate,
    Unrecognised,
)
from recorder.exchange.readers import futures
from recorder.exchange.rest import decode_rows
from recorder.exchange.rest_requests import PAGE_ROWS_MAX, Kind


class FuturesList(StrEnum):
    """The type of a ``fetched`` event whose payload is a list of this kind."""

    OPEN_POSITIONS = "REST_OPEN_POSITIONS"
    CLOSED_SUMMARY = "REST_CLOSED_POSITIONS_SUMMARY"
    CONDITIONALS = "REST_CONDITIONAL_ORDERS"
    CONDITIONAL_HISTORY = "REST_CONDITIONAL_ORDER_HISTORY"


FUTURES_FETCHED_AS: Mapping[Kind, FuturesList] = {
    Kind.OPEN_POSITIONS: FuturesList.OPEN_POSITIONS,
    Kind.CLOSED_POSITIONS_SUMMARY: FuturesList.CLOSED_SUMMARY,
    Kind.CONDITIONALS: FuturesList.CONDITIONALS,
    Kind.CONDITIONAL_HISTORY: FuturesList.CONDITIONAL_HISTORY,
}


@frozen
class ClosedPosition:
    """What a position came to. ``realised_pnl`` has the fees taken off."""

    position_id: str
    realised_pnl: Decimal | None


@frozen
class ListedConditional:
    """A conditional order of a list, with the exchange's word for its state where it says one."""

    order: AddConditionalOrder
    status: str | None


@frozen
class OpenPositions(Message):
    """The positions that are held; ``is_whole`` where none can be missing."""

    positions: tuple[OpenPositionUpdate, ...]
    is_whole: bool


@frozen
class ClosedPositions(Message):
    """Positions that were closed, in a page of them: absence from it means nothing."""

    positions: tuple[ClosedPosition, ...]


@frozen
class Conditionals(Message):
    """The conditional orders that wait for their price."""

    orders: tuple[ListedConditional, ...]
    is_whole: bool


@frozen
class ConditionalHistory(Message):
    """Conditional orders in any state, in a page of them: absence from it means nothing."""

    orders: tuple[ListedConditional, ...]


def read_futures_list(type_: str, text: str) -> Message:
    """Return what a fetched list says. Never raises: what can't be read is `Unrecognised`."""
    reader = _READERS.get(type_)
    if reader is None:
        return Unrecognised(type_, "answers of this type are not folded")
    try:
        return reader(type_, [_object(place, row) for place, row in enumerate(decode_rows(text))])
    except FieldError as error:
        return Unrecognised(type_, str(error))


def _open_positions(type_: str, rows: list[Fields]) -> Message:
    positions = []
    for row in rows:
        position = futures.position(type_, _as_frame(row))
        assert isinstance(position, OpenPositionUpdate)
        positions.append(position)
    return OpenPositions(type_, tuple(positions), len(rows) < PAGE_ROWS_MAX)


def _closed_positions(type_: str, rows: list[Fields]) -> Message:
    closed = (
        ClosedPosition(row.required_text("positionId"), row.amount("realisedPnl")) for row in rows
    )
    return ClosedPositions(type_, tuple(closed))


def _conditionals(type_: str, rows: list[Fields]) -> Message:
    listed = tuple(_listed(type_, row) for row in rows)
    return Conditionals(type_, listed, len(rows) < PAGE_ROWS_MAX)


def _conditional_history(type_: str, rows: list[Fields]) -> Message:
    return ConditionalHistory(type_, tuple(_listed(type_, row) for row in rows))


def _listed(type_: str, row: Fields) -> ListedConditional:
    order = futures.add_conditional(type_, _as_frame(row))
    assert isinstance(order, AddConditionalOrder)
    return ListedConditional(order, row.text("orderStatusType", "status"))


def _as_frame(row: Fields) -> Fields:
    return Fields({"data": row.members}, row.path)


def _object(place: int, row: object) -> Fields:
    if not isinstance(row, dict):
        raise FieldError(f"[{place}] is no JSON object")
    return Fields(row, f"[{place}].")


_READERS: Mapping[str, Callable[[str, list[Fields]], Message]] = {
    FuturesList.OPEN_POSITIONS: _open_positions,
    FuturesList.CLOSED_SUMMARY: _closed_positions,
    FuturesList.CONDITIONALS: _conditionals,
    FuturesList.CONDITIONAL_HISTORY: _conditional_history,
}
