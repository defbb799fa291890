"""Every order ever seen, in its latest state, and each of its transitions.

Orders are reported by several kinds of frames, in no promised order, and full lists race with all
of them. The exchange's time decides, and without one, what can't be undone:

- A statement with an older ``updatedAt`` than what stands is late: it goes into the history, marked
  as not applied, and changes nothing else.
- At the same ``updatedAt`` the state that lies further on wins (open, partially filled, ended), and
  of two alike the one with less remaining. Where price or original quantity of a live order differ,
  it was changed at that moment: "Order Modified" comes after what it changed; if neither is one,
  the later event counts, unless its state is less far on. An end stays an end on any terms.
- An end is final, unless a report with a newer time contradicts it. A list that still shows
  an ended order is a list made before the end.
- An order that the last full list named and this one doesn't is no longer open. How it ended, only
  a status can report; until one does, its state is ``end_unknown``. The same goes for an order
  known from an earlier connection that a list on a new one doesn't name. An order that no list has
  named yet is never judged by absence on its own connection: the list may be older than the order.

An execution counts once: each leaves less of the order than the one before, a repeated frame
doesn't. Where less was counted than was executed, an execution was missed: then the average
price and the fee are unknown, and both are null.

A page of the order history reports the latest state of each order, with what all its fills came to.
It is a report like any other, and late if the stream has reported something newer. Where it is
about the present state, it fills in what was missed: its totals replace what was counted. A second
report of it changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

from recorder.exchange.lists import Fetched, HistoryPage, RestOrder
from recorder.exchange.messages import (
    CommandResponse,
    FailedCancelOrder,
    FailedOrder,
    Message,
    ModifyOrderOutcome,
    NewAccountTrade,
    OpenOrder,
    OpenOrdersUpdate,
)
from recorder.log.rules.event import Event, Note
from recorder.projections.rules.fold import Add, Change, Key, Put, Row, Rows, Table
from recorder.projections.rules.matching import BACKFILL, STREAM
from recorder.projections.rules.order_statements import (
    END_UNKNOWN,
    FAILED,
    OPEN,
    PARTIALLY_FILLED,
    RANKS,
    UNKNOWN,
    Execution,
    Statement,
    Totals,
    is_live,
    listed_statement,
    rest_statement,
    statement_of,
)
from recorder.projections.rules.reading import is_fetched, is_note, is_received, unfoldable
from recorder.projections.rules.validity import order_validity

ORDERS = Table("orders", ("order_id",), resident="live")
HISTORY = Table("order_history", ("order_id", "position"), once=True)

#: Products of two amounts are exact in it; averages are rounded to this many places.
_EXACT = Context(prec=1_000)
AVERAGE_PLACES = Decimal("1E-18")

_TERMS = (
    "customer_order_id",
    "pair",
    "side",
    "type",
    "time_in_force",
    "allow_margin",
    "price",
    "stop_price",
    "original_quantity",
    "remaining_quantity",
    "status",
    "created_at",
    "updated_at",
)
_OURS = (
    "executed_quantity",
    "executed_price",
    "counted_quantity",
    "counted_remaining",
    "executed_value",
    "counted_fee",
    "average_price",
    "fee",
    "fee_currency",
    "reason",
)
_VALIDITY = ("began_at", "ended_at", "validity_by_time", "ended_position", "validity_by_position")
#: A change of one of these is a transition.
_TELLING = ("state", "status", "price", "stop_price", "original_quantity", "remaining_quantity")


class Orders:
    """The fold of everything that speaks of orders."""

    name = "orders"
    version = 4
    types = frozenset(
        {
            "PLACE_LIMIT_WS_RESPONSE",
            "PLACE_MARKET_WS_RESPONSE",
            "ORDER_PROCESSED",
            "ORDER_STATUS_UPDATE",
            "OPEN_ORDERS_UPDATE",
            "FAILED_ORDER",
            "FAILED_CANCEL_ORDER",
            "MODIFY_ORDER_OUTCOME",
            "INSTANT_ORDER_COMPLETED",
            "NEW_ACCOUNT_TRADE",
            Fetched.ORDER_HISTORY.value,
            Note.NO_OPEN_ORDERS.value,
        }
    )
    tables = (ORDERS, HISTORY)

    def keys(self, message: Message) -> Iterable[tuple[str, Key]]:
        """Return the orders that the message names."""
        if isinstance(message, OpenOrdersUpdate):
            return [("orders", (order.order_id,)) for order in message.orders]
        if isinstance(message, HistoryPage):
            return [("orders", (order.order_id,)) for order in _rest_orders(message)]
        order_id = getattr(message, "order_id", None)
        return [("orders", (order_id,))] if order_id else []

    def fold(self, rows: Rows, event: Event, message: Message) -> Sequence[Change]:
        """Return what the message changes in the orders that it names, or leaves out."""
        if is_fetched(event):
            return _fold_page(rows, event, message)
        if is_note(event, Note.NO_OPEN_ORDERS):
            return _fold_list(rows, event, ())
        if not is_received(event):
            return ()
        match message:
            case OpenOrdersUpdate():
                return _fold_list(rows, event, message.orders)
            case FailedCancelOrder() | ModifyOrderOutcome():
                return _attempt(rows, event, message)
            case NewAccountTrade():
                return _filled(rows, event, message)
        statement = statement_of(message)
        if statement is not None:
            return _state(rows.get("orders", (statement.order_id,)), event, statement)
        if isinstance(message, (CommandResponse, FailedOrder)):
            return ()
        raise unfoldable(message)


def _fold_list(rows: Rows, event: Event, orders: Iterable[OpenOrder]) -> Sequence[Change]:
    changes: list[Change] = []
    listed = {order.order_id: order for order in orders}
    for order in listed.values():
        old = rows.get("orders", (order.order_id,))
        changes += _state(old, event, listed_statement(order))
    for key, old in rows.all("orders").items():
        elsewhere = old["connection_id"] != event.connection_id
        if old["live"] and key[0] not in listed and (old["listed"] or elsewhere):
            ended = Statement(key[0], END_UNKNOWN, {}, listed=False)
            changes += _state(old, event, ended)
    return changes


def _rest_orders(page: HistoryPage) -> Iterable[RestOrder]:
    return (row for _, row in page.rows if isinstance(row, RestOrder))


def _fold_page(rows: Rows, event: Event, message: Message) -> Sequence[Change]:
    if event.type != Fetched.ORDER_HISTORY:
        return ()
    if not isinstance(message, HistoryPage):
        raise unfoldable(message)
    changes: list[Change] = []
    seen = set()
    for order in _rest_orders(message):
        # One that the page reports twice has changed while it was made; the newer one leads.
        if order.order_id not in seen:
            seen.add(order.order_id)
            changes += _fetched(rows, event, rest_statement(order))
    return changes


def _fetched(rows: Rows, event: Event, statement: Statement) -> Sequence[Change]:
    """Return what a fetched state changes: all of it if it is news, else what it fills in."""
    old = rows.get("orders", (statement.order_id,))
    if old is None or (_applies(old, statement) and not _is_stale(old, statement)):
        return _state(old, event, statement)
    row = dict(old)
    if _is_about(old, statement):
        row |= {name: value for name, value in statement.answer.items() if old[name] is None}
    elif statement.totals is None or statement.totals.quantity != old["executed_quantity"]:
        return ()
    # Older or not: nothing was executed that these totals don't have.
    if statement.totals is not None:
        _take_totals(row, statement.totals, old["remaining_quantity"])
    _settle_quantities(row)
    if row == old:
        return ()
    row["last_position"] = event.position
    put = Put("orders", (statement.order_id,), row)
    if all(row[name] == old[name] for name in _TELLING):
        return (put,)
    return (put, _transition(row, event, statement, applied=True))


def _is_stale(old: Row, statement: Statement) -> bool:
    """Report an answer made before the list that no longer names the order: it revives nothing."""
    reported, stands = statement.updated_at, old["updated_at"]
    is_newer = reported is not None and stands is not None and reported > stands
    return old["state"] == END_UNKNOWN and is_live(statement.state) and not is_newer


def _is_about(old: Row, statement: Statement) -> bool:
    """Return whether the statement is about the very state that stands."""
    reported = statement.terms
    return (
        statement.updated_at is not None
        and statement.updated_at == old["updated_at"]
        and RANKS[statement.state] == RANKS[old["state"]]
        and old["remaining_quantity"] in (None, reported["remaining_quantity"])
    )


def _state(old: Row | None, event: Event, statement: Statement) -> Sequence[Change]:
    """Return the order's row and transition after the statement."""
    is_new = old is None
    row = dict(old) if old is not None else _blank(statement.order_id, event)
    if old is not None and not _applies(old, statement):
        return _late(old, event, statement)
    if is_new or _advances(row, statement):
        row["state"] = statement.state
    row |= statement.answer
    counted = _count(row, statement)
    _settle_quantities(row)
    if statement.reason:
        row["reason"] = statement.reason
    row["live"] = is_live(row["state"])
    if statement.listed is not None or not row["live"]:
        row["listed"] = bool(statement.listed and row["live"])
    row |= order_validity(row, statement.updated_at, event.position, event.received_at)
    is_same_line = is_fetched(event) or (old or {}).get("connection_id") == event.connection_id
    if old is not None and row == old and is_same_line:
        return ()
    if not is_fetched(event):
        row["connection_id"] = event.connection_id
    row["last_position"] = event.position
    put = Put("orders", (statement.order_id,), row)
    if is_new or counted or any(row[name] != (old or {}).get(name) for name in _TELLING):
        return (put, _transition(row, event, statement, applied=True))
    return (put,)


def _applies(old: Row, statement: Statement) -> bool:
    """Return whether the statement is news, or late."""
    reported, stands = statement.updated_at, old["updated_at"]
    ended = not old["live"] and old["state"] != END_UNKNOWN
    if reported is not None and stands is not None and reported != stands:
        return bool(reported > stands)
    if ended:
        # Nothing without a newer time undoes an end; a first one with a time may report more of it.
        return stands is None and reported is not None and RANKS[statement.state] == RANKS[FAILED]
    if reported is None or stands is None:
        return True
    if old["live"] and is_live(statement.state) and _has_other_terms(old, statement):
        is_change = _is_modified(statement.terms.get("status"))
        if is_change or _is_modified(old["status"]):
            return is_change
        return RANKS[statement.state] >= RANKS[old["state"]]
    if RANKS[statement.state] != RANKS[old["state"]]:
        return RANKS[statement.state] > RANKS[old["state"]] or old["state"] == END_UNKNOWN
    remaining = statement.terms.get("remaining_quantity")
    return (
        remaining is None
        or old["remaining_quantity"] is None
        or (remaining <= old["remaining_quantity"])
    )


def _advances(row: Row, statement: Statement) -> bool:
    """Return whether the state follows: what has no time can only lead onward."""
    if statement.updated_at is not None or statement.state == END_UNKNOWN:
        return True
    return row["state"] == END_UNKNOWN or RANKS[statement.state] > RANKS[row["state"]]


def _late(old: Row, event: Event, statement: Statement) -> Sequence[Change]:
    """Return the history of a statement that came too late, unless it only repeats what stands."""
    same = all(value == old[name] for name, value in statement.answer.items() if name in _TELLING)
    if (same and statement.updated_at in (None, old["updated_at"])) or statement.listed:
        return ()
    return (_transition({**old, **statement.answer}, event, statement, applied=False),)


def _count(row: dict[str, Any], statement: Statement) -> bool:
    """Add the report's execution to the order's sums; return whether it counted."""
    done = statement.execution
    remaining = statement.terms.get("remaining_quantity")
    if _is_modified(statement.terms.get("status")):
        row["counted_remaining"] = None
    if statement.totals is not None:
        return _take_totals(row, statement.totals, remaining)
    if done is None or done.quantity is None:
        return False
    before = row["counted_remaining"]
    if remaining is not None and before is not None and remaining >= before:
        return False
    row["counted_remaining"] = remaining
    if done.price is not None:
        # Without a price it counts as missed.
        value = _EXACT.multiply(done.price, done.quantity)
        row["executed_price"] = done.price
        row["counted_quantity"] = _EXACT.add(row["counted_quantity"] or Decimal(0), done.quantity)
        row["executed_value"] = _EXACT.add(row["executed_value"] or Decimal(0), value)
    if done.fee is not None:
        row["counted_fee"] = _EXACT.add(row["counted_fee"] or Decimal(0), done.fee)
    return True


def _take_totals(row: dict[str, Any], totals: Totals, remaining: Decimal | None) -> bool:
    """Let the totals stand for what was counted; they are of all executions so far."""
    reported = {
        "counted_quantity": totals.quantity,
        "counted_remaining": remaining,
        "executed_value": totals.value,
        "counted_fee": row["counted_fee"] if totals.fee is None else totals.fee,
    }
    if all(row[name] == value for name, value in reported.items()):
        return False
    row |= reported
    return True


def _is_modified(status: object) -> bool:
    """Return whether the order's quantity was set again, so that more may remain than before."""
    return isinstance(status, str) and "modified" in status.lower()


def _has_other_terms(old: Row, statement: Statement) -> bool:
    """Return whether the statement is about the order before or after a change of its terms."""
    reported = ((statement.terms.get(name), old[name]) for name in ("price", "original_quantity"))
    return any(None not in pair and pair[0] != pair[1] for pair in reported)


def _settle_quantities(row: dict[str, Any]) -> None:
    original, remaining = row["original_quantity"], row["remaining_quantity"]
    known = [row["counted_quantity"]] if row["counted_quantity"] is not None else []
    if original is not None and remaining is not None and remaining <= original:
        known.append(_EXACT.subtract(original, remaining))
    if known:
        row["executed_quantity"] = max(known)
    if counted := row["counted_quantity"]:
        is_whole = counted == row["executed_quantity"]
        average = _EXACT.divide(row["executed_value"], counted)
        average = average.quantize(AVERAGE_PLACES, ROUND_HALF_EVEN, _EXACT)
        row["average_price"] = average if is_whole else None
        row["fee"] = row["counted_fee"] if is_whole else None
    if row["state"] == OPEN and row["executed_quantity"]:
        row["state"] = PARTIALLY_FILLED


def _attempt(
    rows: Rows, event: Event, message: FailedCancelOrder | ModifyOrderOutcome
) -> Sequence[Change]:
    """Return the history row of an attempt to cancel or modify; the order itself is unchanged."""
    if message.order_id is None:
        return ()
    old = rows.get("orders", (message.order_id,)) or _blank(message.order_id, event)
    reason = message.message if isinstance(message, FailedCancelOrder) else message.reason
    if isinstance(message, ModifyOrderOutcome) and not message.success:
        reason = reason or "the order was not modified"
    attempt = Statement(message.order_id, old["state"], {}, reason=reason)
    return (_transition(old, event, attempt, applied=True),)


def _filled(rows: Rows, event: Event, message: NewAccountTrade) -> Sequence[Change]:
    """Return what a fill shows of its order: that it exists, and the currency of its fee."""
    if message.order_id is None:
        return ()
    old = rows.get("orders", (message.order_id,))
    if old is not None:
        if old["fee_currency"] is not None or message.fee_currency is None:
            return ()
        return (Put("orders", (message.order_id,), {**old, "fee_currency": message.fee_currency}),)
    terms = {
        "customer_order_id": message.customer_order_id,
        "pair": message.pair,
        "side": message.side,
        "fee_currency": message.fee_currency,
    }
    return _state(None, event, Statement(message.order_id, UNKNOWN, terms))


def _blank(order_id: str, event: Event) -> dict[str, Any]:
    return {
        **dict.fromkeys((*_TERMS, *_OURS)),
        "order_id": order_id,
        "state": UNKNOWN,
        "live": True,
        "listed": False,
        "connection_id": event.connection_id,
        "first_position": event.position,
        "last_position": event.position,
        "source": BACKFILL if is_fetched(event) else STREAM,
        **dict.fromkeys(_VALIDITY),
    }


def _transition(row: Row, event: Event, statement: Statement, *, applied: bool) -> Add:
    done = statement.execution or Execution(None, None, None)
    values = {
        "order_id": statement.order_id,
        "position": event.position,
        "event_type": event.type,
        "status": statement.terms.get("status"),
        "state": row["state"] if applied else statement.state,
        "applied": applied,
        "price": row["price"],
        "original_quantity": row["original_quantity"],
        "remaining_quantity": row["remaining_quantity"],
        "executed_price": done.price,
        "executed_quantity": done.quantity,
        "executed_fee": done.fee,
        "reason": statement.reason,
        "updated_at": statement.updated_at,
        "received_at": event.received_at,
    }
    return Add("order_history", (statement.order_id, event.position), values)
