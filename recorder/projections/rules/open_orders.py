"""The live orders, as the last full list reported.

Each OPEN_ORDERS_UPDATE states the whole set, so the table becomes that set: what is not listed
goes, what is listed unchanged keeps its ``position``. A list of which one element can't be read is
no full list, and changes nothing. Where none came and REST reports that it is empty, our note of
that counts as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from recorder.exchange.messages import Message, OpenOrder, OpenOrdersUpdate
from recorder.log.rules.event import Event, Note
from recorder.projections.rules.fold import Change, Key, Put, Remove, Row, Rows, Table
from recorder.projections.rules.reading import is_note, is_received, unfoldable

OPEN_ORDERS = Table("open_orders", ("order_id",), resident="*")


class OpenOrders:
    """The fold of OPEN_ORDERS_UPDATE, and of the note that stands for an empty one."""

    name = "open_orders"
    version = 2
    types = frozenset({"OPEN_ORDERS_UPDATE", Note.NO_OPEN_ORDERS.value})
    tables = (OPEN_ORDERS,)

    def keys(self, message: Message) -> Iterable[tuple[str, Key]]:
        """All rows are resident."""
        return ()

    def fold(self, rows: Rows, event: Event, message: Message) -> Sequence[Change]:
        """Return what differs between the list and the table."""
        present = rows.all("open_orders")
        if is_note(event, Note.NO_OPEN_ORDERS):
            return [Remove("open_orders", key) for key in present]
        if not is_received(event):
            return ()
        if not isinstance(message, OpenOrdersUpdate):
            raise unfoldable(message)
        listed = {(order.order_id,): _row(order, event.position) for order in message.orders}
        gone: list[Change] = [Remove("open_orders", key) for key in present if key not in listed]
        return gone + [
            Put("open_orders", key, row)
            for key, row in listed.items()
            if key not in present or not _same(row, present[key])
        ]


def order_terms(order: OpenOrder) -> dict[str, object]:
    """Return the columns that a listed order states."""
    return {
        "customer_order_id": order.customer_order_id,
        "pair": order.pair,
        "side": order.side,
        "type": order.order_type,
        "time_in_force": order.time_in_force,
        "allow_margin": order.allow_margin,
        "price": order.price,
        "stop_price": order.stop_price,
        "original_quantity": order.original_quantity,
        "remaining_quantity": order.remaining_quantity,
        "status": order.status,
        "created_at": order.created_at,
        "updated_at": order.updated_at,
    }


def _row(order: OpenOrder, position: int) -> Row:
    return {
        "order_id": order.order_id,
        **order_terms(order),
        "filled_percentage": order.filled_percentage,
        "position": position,
    }


def _same(row: Row, old: Row) -> bool:
    return all(value == old[name] for name, value in row.items() if name != "position")
