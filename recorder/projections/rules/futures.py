"""Positions of futures and conditional orders: one fold, as few accounts have any.

Three things speak of them: frames, the end of a snapshot (a fact of our own), and lists fetched
over REST. What each proves is reported where it is folded, in `positions` and `conditionals`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from recorder.exchange.fields import FieldError
from recorder.exchange.lists import (
    ClosedPositions,
    ConditionalHistory,
    Conditionals,
    FuturesList,
    OpenPositions,
)
from recorder.exchange.messages import (
    AddConditionalOrder,
    Message,
    OpenPositionUpdate,
    PositionClosed,
    ReducePosition,
    RemoveConditionalOrder,
)
from recorder.log.rules.event import Event, Note
from recorder.projections.rules import conditionals, positions
from recorder.projections.rules.fold import Change, Key, Rows, Unfoldable
from recorder.projections.rules.reading import (
    NoteMessage,
    is_fetched,
    is_note,
    is_received,
    unfoldable,
)

_FRAMES = frozenset(
    {
        "OPEN_POSITION_UPDATE",
        "REDUCE_POSITION",
        "POSITION_CLOSED",
        "ADD_CONDITIONAL_ORDER",
        "REMOVE_CONDITIONAL_ORDER",
    }
)
_LISTS = frozenset(each.value for each in FuturesList)


class Futures:
    """The fold of everything that speaks of positions and conditional orders."""

    name = "futures"
    version = 3
    types = _FRAMES | _LISTS | {Note.SNAPSHOT_COMPLETE.value}
    tables = (
        positions.POSITIONS,
        positions.HISTORY,
        conditionals.CONDITIONALS,
        conditionals.HISTORY,
    )

    def keys(self, message: Message) -> Iterable[tuple[str, Key]]:
        """Return the positions and orders that the message names."""
        match message:
            case OpenPositionUpdate() | ReducePosition() | PositionClosed():
                return [("positions", positions.key_of(message))]
            case OpenPositions():
                return [("positions", positions.key_of(each)) for each in message.positions]
            case ClosedPositions():
                return [("positions", (each.position_id,)) for each in message.positions]
            case AddConditionalOrder() | RemoveConditionalOrder():
                return [("conditional_orders", (message.order_id,))]
            case Conditionals() | ConditionalHistory():
                return [("conditional_orders", (each.order.order_id,)) for each in message.orders]
        return []

    def fold(self, rows: Rows, event: Event, message: Message) -> Sequence[Change]:
        """Return what the event changes. Raises Unfoldable."""
        if is_note(event, Note.SNAPSHOT_COMPLETE):
            if not isinstance(message, NoteMessage):
                raise unfoldable(message)
            left = positions.left_out(rows, event, is_complete=_names_all_positions(message))
            return [*left, *conditionals.left_out(rows, event)]
        if is_received(event) and event.type in _FRAMES:
            return _fold_frame(rows, event, message)
        if is_fetched(event) and event.type in _LISTS:
            return _fold_list(rows, event, message)
        # Among these is a frame that only bears the name of a note or a list of ours.
        return ()


def _names_all_positions(message: NoteMessage) -> bool:
    try:
        # The second one is reported only where a frame could not be read that may have named one.
        facts = message.facts
        return bool(facts.flag("complete")) and facts.flag("positions") is not False
    except FieldError as error:
        raise Unfoldable(str(error)) from error


def _fold_frame(rows: Rows, event: Event, message: Message) -> Sequence[Change]:
    match message:
        case OpenPositionUpdate():
            return positions.reported(rows, event, message)
        case ReducePosition():
            return positions.reduced(rows, event, message)
        case PositionClosed():
            return positions.closed(rows, event, message)
        case AddConditionalOrder():
            return conditionals.added(rows, event, message)
        case RemoveConditionalOrder():
            return conditionals.removed(rows, event, message)
    raise unfoldable(message)


def _fold_list(rows: Rows, event: Event, message: Message) -> Sequence[Change]:
    match message:
        case OpenPositions():
            return positions.listed(rows, event, message)
        case ClosedPositions():
            return positions.summed_up(rows, event, message)
        case Conditionals():
            return conditionals.listed(rows, event, message)
        case ConditionalHistory():
            return conditionals.reported_ends(rows, event, message)
    raise unfoldable(message)
