"""What a message proves about commands, and about which rows.

VALR repeats ``clientMsgId`` in its first answer only. Later frames are about orders: by
order id, by customer order id, or by the id of a modification. Evidence therefore names the
ids by which its row is found, the commands that it is about, and what it proves:

- *any command*: a rate limit's answer proves that the exchange hasn't looked at it, and names the
  one sending that it is about (`wire_msg_id`).
- *placing*: its ``…_WS_RESPONSE`` proves that it was received. Done: ORDER_PROCESSED with success,
  any status but Failed, the list of open orders, a fill. Not done: an error in the answer,
  ORDER_PROCESSED without success, status Failed, FAILED_ORDER.
- *cancelling*: received: CANCEL_ORDER_WS_RESPONSE. Done: status Cancelled. Not done: an error, the
  order ended in another way first, or FAILED_CANCEL_ORDER. The last names the order alone, so it
  proves nothing of a cancel in doubt, and nothing where several are under way: one of them may
  have done what the other failed to do again.
- *modifying*: received: MODIFY_ORDER_WS_RESPONSE. Done or not done: MODIFY_ORDER_OUTCOME, which
  names the change; done: status Order Modified, if it shows what was asked for. Others may change
  the same order, so what doesn't name the change proves nothing of one in doubt. The end of the
  order proves nothing: the change may have come before it.
- *a batch*: received: its answer, if any request in it was taken. Done: an effect of any order that
  it placed. Not done: an error, every request refused. It is judged as a whole; what became of each
  order is in ``orders``.

Absence proves nothing here: full lists race with answers in both directions.

A customer order id is unique among open orders only. A row that knows its order's id is therefore
found by that alone, and one that doesn't by the caller's id only if no other row could be meant.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol, TypeVar

from attrs import evolve, frozen

from recorder.exchange.commands import (
    CANCEL_ORDER,
    COMMANDS,
    MODIFY_ORDER,
    PLACE_BATCH_ORDERS,
    PLACE_LIMIT_ORDER,
    PLACE_MARKET_ORDER,
    PLACING,
    batch_of_leg,
    wire_msg_id,
)
from recorder.exchange.messages import (
    BatchOutcome,
    CommandResponse,
    FailedCancelOrder,
    FailedOrder,
    Message,
    ModifyOrderOutcome,
    NewAccountTrade,
    OpenOrdersUpdate,
    OrderProcessed,
    OrderStatusUpdate,
    RateLimitExceeded,
)
from recorder.outbox.rules.states import TERMINAL, Fact, Status

#: Characters of the exchange's reason that a row keeps.
REASON_CHARS_MAX = 500

_ANY = frozenset(COMMANDS)
_BATCH = frozenset({PLACE_BATCH_ORDERS})
_CANCEL = frozenset({CANCEL_ORDER})
_MODIFY = frozenset({MODIFY_ORDER})
_DOUBTFUL = frozenset({Status.IN_DOUBT.value, Status.NOT_PLACED.value})
#: An effect of an order is one of the batch that placed it; its failure is not the batch's.
_PLACING_ALSO_BY_BATCH = PLACING | _BATCH


@frozen
class Evidence:
    """A fact about the commands that `concerned` finds by these ids.

    ``reason`` is for the row, empty if there is none.
    """

    fact: Fact
    commands: frozenset[str]
    client_msg_id: str | None = None
    order_id: str | None = None
    customer_order_id: str | None = None
    modify_request_id: str | None = None
    reason: str = ""
    #: It proves nothing of commands in doubt: it may be about another's.
    only_under_way: bool = False
    #: What the order shows now, by the payload's names; a change must have asked for just that.
    shows: Mapping[str, Decimal | None] | None = None


class Row(Protocol):
    """What judging needs of an outbox row."""

    @property
    def command(self) -> str: ...
    @property
    def payload(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def client_msg_id(self) -> str: ...
    @property
    def order_id(self) -> str | None: ...
    @property
    def customer_order_id(self) -> str | None: ...
    @property
    def modify_request_id(self) -> str | None: ...
    @property
    def sent_position(self) -> int | None: ...
    @property
    def attempts(self) -> int: ...


AnyRow = TypeVar("AnyRow", bound=Row)


def evidence(message: Message) -> tuple[Evidence, ...]:
    """Return what ``message`` proves; nothing for most messages."""
    read = _READERS.get(type(message))
    return () if read is None else tuple(read(message))


def ids_of(row: Row) -> set[str]:
    """Return all ids by which evidence may find the row; they are distinguished by
    `concerned`.
    """
    sending = wire_msg_id(row.client_msg_id, row.attempts)
    ids = (sending, row.order_id, row.customer_order_id, row.modify_request_id)
    return {each for each in ids if each}


def ids_in(found: Evidence) -> set[str]:
    """Return the ids that a row must have one of for the evidence to be about it."""
    name = found.customer_order_id
    ids = (found.client_msg_id, found.order_id, name, found.modify_request_id)
    return {each for each in (*ids, batch_of_leg(name) if name else None) if each}


def concerned(found: Evidence, rows: Iterable[AnyRow], position: int) -> list[AnyRow]:
    """Return those of ``rows`` that the evidence at ``position`` of the log is about.

    ``rows`` are one account's, at least all that share an id with the evidence; all that are under
    way, if it speaks of those alone. Rows whose outcome is final, and rows sent after that
    position, are not concerned.
    """
    rows = list(rows)
    able = [row for row in rows if row.command in found.commands and _is_open(row, position)]
    if found.only_under_way:
        able = [row for row in able if row.status not in _DOUBTFUL]
    if found.shows is not None:
        able = [row for row in able if _asked_for(row, found.shows)]
    if found.client_msg_id is not None:
        named = [
            row
            for row in able
            if wire_msg_id(row.client_msg_id, row.attempts) == found.client_msg_id
        ]
        # Two, if a caller has named a command as another one's second sending is named.
        return _only(named)
    if found.modify_request_id is not None:
        return [row for row in able if row.modify_request_id == found.modify_request_id]
    certain, possible = _by_order(found, able), _by_name(found, able)
    if found.commands == _CANCEL:
        meant = certain + possible
        if not found.only_under_way:
            return meant
        under_way = (row for row in rows if _is_open(row, position))
        others = (row for row in under_way if not any(row is each for each in meant))
        return [] if any(_may_cancel(row, found) for row in others) else _only(meant)
    return _only(certain + possible) if found.commands == _MODIFY else _only(certain or possible)


def ids_learnt(found: Evidence, row: Row) -> dict[str, str]:
    """Return the ids that the evidence adds to a row that it concerns, by column."""
    reported = {"order_id": found.order_id, "modify_request_id": found.modify_request_id}
    known = {"order_id": row.order_id, "modify_request_id": row.modify_request_id}
    return {name: text for name, text in reported.items() if text and not known[name]}


def _is_open(row: Row, position: int) -> bool:
    if row.status in TERMINAL or row.status == Status.QUEUED:
        return False
    return row.sent_position is None or row.sent_position < position


def _may_cancel(row: Row, found: Evidence) -> bool:
    """Return whether a command under way may cancel the order that the evidence names.

    One names an order by VALR's id, another by the caller's: only what can be compared differs.
    """
    if row.status in _DOUBTFUL or row.command not in _CANCEL | _BATCH:
        return False
    if row.command in _BATCH:
        legs = json.loads(row.payload).get("requests", ())
        targets = [leg["data"] for leg in legs if leg["type"] == CANCEL_ORDER]
    else:
        targets = [{"orderId": row.order_id, "customerOrderId": row.customer_order_id}]
    named = {"orderId": found.order_id, "customerOrderId": found.customer_order_id}
    return any(
        all(
            target.get(name) is None or answer is None or target[name] == answer
            for name, answer in named.items()
        )
        for target in targets
    )


def _asked_for(row: Row, shows: Mapping[str, Decimal | None]) -> bool:
    """Return whether an order that shows this is as the row's change would have it."""
    asked = json.loads(row.payload)
    wishes = {name: asked[name] for name in shows if asked.get(name) is not None}
    return bool(wishes) and all(shows[name] == Decimal(wishes[name]) for name in wishes)


def _by_order(found: Evidence, rows: Iterable[AnyRow]) -> list[AnyRow]:
    return [row for row in rows if found.order_id and row.order_id == found.order_id]


def _by_name(found: Evidence, rows: Iterable[AnyRow]) -> list[AnyRow]:
    """Return rows found by the customer order id, which could be another order's by now."""
    name = found.customer_order_id
    if not name:
        return []
    batch = batch_of_leg(name)
    return [
        row
        for row in rows
        if (not row.order_id or not found.order_id or row.command in _BATCH)
        and (row.customer_order_id == name or (row.command in _BATCH and _same(row, batch)))
    ]


def _same(row: Row, batch: str | None) -> bool:
    return batch is not None and row.customer_order_id == batch


def _only(rows: list[AnyRow]) -> list[AnyRow]:
    return rows if len(rows) == 1 else []


# Answers to commands


def _answer(message: CommandResponse) -> Iterable[Evidence]:
    ids = Evidence(
        Fact.ACKNOWLEDGED,
        _answered_commands(message),
        client_msg_id=message.client_msg_id,
        order_id=message.order_id,
        customer_order_id=message.customer_order_id,
        modify_request_id=message.modify_request_id,
    )
    if message.error is not None:
        return [_refused(ids, message.error.message)]
    if message.outcomes:
        return [_batch_answer(message.outcomes, ids)]
    if message.requested is False:
        return [_refused(ids, "the exchange did not take the request")]
    return [ids]


def _batch_answer(outcomes: Sequence[BatchOutcome], ids: Evidence) -> Evidence:
    taken = [outcome for outcome in outcomes if outcome.accepted]
    if not taken:
        why = outcomes[0].error.message if outcomes[0].error else "no reason given"
        return _refused(ids, f"every request was refused; the first: {why}")
    # One placed order is enough to find the batch again by.
    placed = [one.order_id for one in taken if (one.request_type or "").startswith("PLACE")]
    return evolve(ids, order_id=placed[0] if placed else None)


def _answered_commands(message: CommandResponse) -> frozenset[str]:
    """Return the commands that the answer may be to; VALR publishes no name for a batch's."""
    kind = message.type
    if message.outcomes or "BATCH" in kind:
        return _BATCH
    for word, commands in _ANSWER_WORDS.items():
        if word in kind:
            return commands
    return _ANY


_ANSWER_WORDS: Mapping[str, frozenset[str]] = {
    "PLACE_LIMIT": frozenset({PLACE_LIMIT_ORDER}),
    "PLACE_MARKET": frozenset({PLACE_MARKET_ORDER}),
    "CANCEL": _CANCEL,
    "MODIFY": _MODIFY,
}


def _rate_limit(message: RateLimitExceeded) -> Iterable[Evidence]:
    if message.client_msg_id is None:
        return []
    answer = "rate limit exceeded"
    return [Evidence(Fact.RATE_LIMITED, _ANY, client_msg_id=message.client_msg_id, reason=answer)]


# What became of orders


def _processed(message: OrderProcessed) -> Iterable[Evidence]:
    if message.success:
        return [_effect(message.order_id, message.customer_order_id)]
    # No word on cancels: a new order with a name in use fails while the old one stands.
    return [_failed(message.order_id, message.customer_order_id, message.failure_reason)]


def _status(message: OrderStatusUpdate) -> Iterable[Evidence]:
    order_id, name = message.order_id, message.customer_order_id
    word = status_word(message.status)
    if word == "failed":
        # By order id alone: the failed order may only share its name with the one to be cancelled.
        ended = Evidence(Fact.REFUSED_BY_EXCHANGE, _CANCEL, order_id=order_id)
        return [
            _failed(order_id, name, message.failed_reason),
            _refused(ended, "the order had failed"),
        ]
    found = [_effect(order_id, name)]
    if word in CANCELLED:
        found.append(Evidence(Fact.EFFECT_SEEN, _CANCEL, None, order_id, name))
    elif word in ENDED:
        ended = Evidence(Fact.REFUSED_BY_EXCHANGE, _CANCEL, None, order_id, name)
        found.append(_refused(ended, f"the order ended first: {message.status}"))
    elif word == "ordermodified":
        shows = {
            "newPrice": message.price,
            "newTotalQuantity": message.original_quantity,
            "newRemainingQuantity": message.remaining_quantity,
        }
        found.append(Evidence(Fact.EFFECT_SEEN, _MODIFY, None, order_id, name, shows=shows))
    return found


#: Words (`status_word`) of an order that is cancelled, and of one that ended in another way.
CANCELLED = frozenset({"cancelled", "canceled"})
ENDED = frozenset({"filled", "expired", "partiallyfilledandcancelledduetoslippage"})


def status_word(status: str) -> str:
    """Return an order's status as VALR's spellings of it have it in common."""
    return "".join(status.split()).replace("_", "").lower()


def _listed(message: OpenOrdersUpdate) -> Iterable[Evidence]:
    return [_effect(order.order_id, order.customer_order_id) for order in message.orders]


def _filled(message: NewAccountTrade) -> Iterable[Evidence]:
    return [_effect(message.order_id, message.customer_order_id)]


def _failed_order(message: FailedOrder) -> Iterable[Evidence]:
    return [_failed(message.order_id, message.customer_order_id, message.message)]


def _failed_cancel(message: FailedCancelOrder) -> Iterable[Evidence]:
    ids = Evidence(
        Fact.REFUSED_BY_EXCHANGE, _CANCEL, None, message.order_id, message.customer_order_id
    )
    return [evolve(_refused(ids, message.message), only_under_way=True)]


def _modified(message: ModifyOrderOutcome) -> Iterable[Evidence]:
    found = Evidence(
        Fact.EFFECT_SEEN,
        _MODIFY,
        None,
        message.order_id,
        message.customer_order_id,
        message.modify_request_id,
        only_under_way=message.modify_request_id is None,
    )
    return [found if message.success else _refused(found, message.reason)]


def _effect(order_id: str | None, name: str | None) -> Evidence:
    return Evidence(Fact.EFFECT_SEEN, _PLACING_ALSO_BY_BATCH, None, order_id, name)


def _failed(order_id: str | None, name: str | None, reason: str | None) -> Evidence:
    return _refused(Evidence(Fact.REFUSED_BY_EXCHANGE, PLACING, None, order_id, name), reason)


def _refused(ids: Evidence, reason: str | None) -> Evidence:
    answer = (reason or "the exchange gave no reason")[:REASON_CHARS_MAX]
    return evolve(ids, fact=Fact.REFUSED_BY_EXCHANGE, reason=answer)


_READERS: Mapping[type, Callable[[Any], Iterable[Evidence]]] = {
    CommandResponse: _answer,
    RateLimitExceeded: _rate_limit,
    OrderProcessed: _processed,
    OrderStatusUpdate: _status,
    OpenOrdersUpdate: _listed,
    NewAccountTrade: _filled,
    FailedOrder: _failed_order,
    FailedCancelOrder: _failed_cancel,
    ModifyOrderOutcome: _modified,
}
