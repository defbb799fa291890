"""What to request about a command whose outcome is open, and what the answers prove.

A *look-up* of a command requests every state of its order (``history/detail``). Where that settles
nothing, it requests all open orders; where VALR doesn't give the states, the present one. The
result is one `Finding`:

- ``effect`` and ``refused`` are proof, whenever they are found.
- ``absent`` (no such order in any state, nor in the list) and ``unchanged`` (the order to be
  cancelled or modified is as before) are also found when the command is only slow: see
  `lookup_schedule` for when they count.
- ``unclear`` (an order of that name that may be another) and ``no_answer`` prove nothing.

*Placing*: an order with the name that the recorder made, or with VALR's id, is the command's. One
with a caller's name must also have the pair, side and quantity, and not be older than the command,
for callers use names again. *Cancelling and modifying*: the order's own state decides. A remaining
quantity is proof only in a state that a change made, because fills bring it about too. That there
was no change is proved by all states of the order alone, or by one that none can precede.
*A batch*: each of its orders decides (`combined`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol

from attrs import evolve, field, frozen

from recorder.errors import Refused
from recorder.exchange.commands import (
    CANCEL_ORDER,
    PLACE_BATCH_ORDERS,
    PLACING,
    Leg,
    WireNames,
    encode_command,
    generated_customer_order_id,
    parse_command,
)
from recorder.exchange.fields import plain_words
from recorder.exchange.lists import RestOrder
from recorder.exchange.rest import (
    CredentialsRefused,
    Declined,
    ExchangeUnavailable,
    NoSuchOrder,
    OrdersFound,
    Outcome,
    RateLimited,
    Unreadable,
)
from recorder.exchange.rest_requests import NAME_CHARS_MAX, OrderName
from recorder.outbox.rules.evidence import CANCELLED, ENDED, status_word

#: Our clock and the exchange's differ by less; a request signed further off is refused.
CLOCK_JUMPED = timedelta(seconds=5)
#: Characters of an answer that are kept with the row.
ANSWER_CHARS_MAX = 500

#: The statuses of an order that was neither changed nor filled in part.
_UNTOUCHED = frozenset({"placed", "active"})
_MODIFIED = frozenset({"ordermodified", "orderpricehasbeenmodifiedduetoslippagelimits"})
#: The statuses of an open order. One that is unknown proves neither that it is open nor its end.
_OPEN = _UNTOUCHED | _MODIFIED | {"partiallyfilled"}


class Finding(StrEnum):
    """What a look-up found of a command."""

    EFFECT = "effect"
    REFUSED = "refused"
    ABSENT = "absent"
    UNCHANGED = "unchanged"
    UNCLEAR = "unclear"
    NO_ANSWER = "no_answer"


PROOF = frozenset({Finding.EFFECT, Finding.REFUSED})
NOTHING_SEEN = frozenset({Finding.ABSENT, Finding.UNCHANGED})


def _kept_words(text: str) -> str:
    return plain_words(text)[:ANSWER_CHARS_MAX]


@frozen
class Found:
    """A finding and, in a few words, what the answer reported.

    ``order_id`` is that of the order that was placed, ``reason`` the exchange's for a refusal.
    ``is_over``: the order has ended, so it need not be among the open ones. ``is_too_late``: it
    ended and was never changed, so a change that has arrived has failed.
    """

    finding: Finding
    answer: str = field(converter=_kept_words)
    order_id: str | None = None
    reason: str = field(default="", converter=_kept_words)
    is_over: bool = False
    is_too_late: bool = False


class Row(Protocol):
    """What looking a command up needs of its row."""

    @property
    def account(self) -> str: ...
    @property
    def outbox_id(self) -> int: ...
    @property
    def client_msg_id(self) -> str: ...
    @property
    def command(self) -> str: ...
    @property
    def payload(self) -> str: ...
    @property
    def order_id(self) -> str | None: ...


@frozen
class OrderQuery:
    """One order to look for. ``is_certain``: an order of this name is the one that is meant."""

    command: str
    pair: str
    name: OrderName
    is_certain: bool
    #: When the command went out, by our clock.
    since: datetime
    #: The members of the request.
    terms: Mapping[str, Any] = field(factory=dict)
    #: (time, status) of each state that the exchange reported before the command went out; None
    #: where it had reported no such order.
    reported_before: frozenset[tuple[datetime | None, str | None]] | None = None

    def amount(self, name: str) -> Decimal | None:
        """Return an amount of the request; None where it has none."""
        text = self.terms.get(name)
        return Decimal(text) if isinstance(text, str) else None


def order_queries(row: Row, since: datetime) -> tuple[OrderQuery, ...]:
    """Return the orders that show what became of a command; none if its payload can't be read.

    For a batch, those that it places before those that it changes.
    """
    made = generated_customer_order_id(row.account, row.outbox_id, row.client_msg_id)
    try:
        legs = parse_command(row.command, row.payload).legs
        names = encode_command(row.command, row.payload, row.client_msg_id, WireNames(), made)
    except Refused:
        return ()
    payload = json.loads(row.payload)
    is_batch = row.command == PLACE_BATCH_ORDERS
    terms = [one["data"] for one in payload["requests"]] if is_batch else [payload]
    known = None if is_batch else row.order_id
    found = tuple(
        _query(leg, name, known, since, reported)
        for leg, name, reported in zip(legs, names.customer_order_ids, terms, strict=True)
    )
    return tuple(sorted(found, key=lambda each: each.command not in PLACING))


def _query(
    leg: Leg, name: str | None, known: str | None, since: datetime, terms: Mapping[str, Any]
) -> OrderQuery:
    # An id of VALR that can't stand in a path is not used.
    is_usable = known is not None and len(known) <= NAME_CHARS_MAX and known not in (".", "..")
    order_id = known if is_usable else leg.order_id
    if order_id is not None:
        return OrderQuery(leg.command, leg.pair, OrderName.order_id(order_id), True, since, terms)
    assert name is not None, "an order without VALR's id has a name"
    made_by_us = leg.command in PLACING and leg.customer_order_id is None
    by_name = OrderName.customer_order_id(name)
    return OrderQuery(leg.command, leg.pair, by_name, made_by_us, since, terms)


# What an answer proves


def read_states(query: OrderQuery, outcome: Outcome, *, is_whole: bool = True) -> Found:
    """Return what the states of an order prove; ``is_whole``: these are all that it ever had."""
    if isinstance(outcome, NoSuchOrder):
        if outcome.in_any_state:
            return Found(Finding.ABSENT, "no such order in any state")
        return Found(Finding.UNCLEAR, "no such order, but maybe one that has ended")
    if not isinstance(outcome, OrdersFound):
        return no_answer(outcome)
    by_order: dict[str, list[RestOrder]] = {}
    for state in outcome.orders:
        by_order.setdefault(state.order_id, []).append(state)
    orders = list(by_order.values())
    if query.command in PLACING:
        meant = [states for states in orders if _can_be(query, states)]
        if len(meant) != 1:
            return Found(Finding.UNCLEAR, f"{len(orders)} of that name, {len(meant)} may be this")
        return _placed(meant[0])
    if len(orders) != 1:
        return Found(Finding.UNCLEAR, f"{len(orders)} orders of that name")
    if query.command == CANCEL_ORDER:
        return _cancelled(query, orders[0])
    return _modified(query, orders[0], is_whole)


def read_open(query: OrderQuery, before: Found, outcome: Outcome) -> Found:
    """Return what the list of open orders proves, after what the order's states had proved."""
    if before.finding in PROOF or before.finding is Finding.NO_ANSWER:
        return before
    if not isinstance(outcome, OrdersFound):
        return no_answer(outcome)
    listed = [order for order in outcome.orders if order.is_named(query.name)]
    if len(listed) > 1:
        return Found(Finding.UNCLEAR, f"{len(listed)} open orders of that name")
    if query.command in PLACING:
        return _open_placed(query, before, listed)
    if not listed:
        return _not_open(before)
    if query.command != CANCEL_ORDER and _shows(query, listed[0]):
        return _looks_changed(query, listed[0], "the open order shows the change")
    if before.finding is Finding.UNCLEAR:
        return before
    return Found(Finding.UNCHANGED, f"{before.answer}; it is among the open orders")


def combined(
    queries: Sequence[OrderQuery], found: Sequence[Found], *, has_arrived: bool = False
) -> Found:
    """Return what the findings on each of a command's orders prove of the command.

    ``found`` are those on the first of ``queries``. An order that a batch places is its own: one
    that was taken is the batch's effect, and one that failed proves that the batch had arrived. An
    order that it cancels or changes may have been changed by another command. So that is the
    batch's effect only if the batch is known to have arrived, or nothing proves the contrary; and
    an earlier end of such an order doesn't prove that the batch arrived.
    """
    if len(found) == 1 == len(queries):
        return found[0]
    of_own = [each for query, each in zip(queries, found, strict=False) if query.command in PLACING]
    of_others = found[len(of_own) :]
    for each in of_own:
        if each.finding is Finding.EFFECT:
            return each
    own, others = {each.finding for each in of_own}, {each.finding for each in of_others}
    kinds = own | others
    answer = ", ".join(f"{kind.value}: {_many(found, kind)}" for kind in sorted(kinds))
    if Finding.NO_ANSWER in kinds or not kinds:
        return Found(Finding.NO_ANSWER, answer or "nothing can be requested about it")
    if Finding.EFFECT in others:
        nothing_against = not own and not others & NOTHING_SEEN
        is_its = has_arrived or Finding.REFUSED in own or nothing_against
        return Found(Finding.EFFECT if is_its else Finding.UNCLEAR, answer)
    if kinds == {Finding.REFUSED}:
        return evolve(found[0], answer=answer, reason=f"every order failed: {found[0].reason}")
    is_nothing = own <= NOTHING_SEEN and others <= NOTHING_SEEN | {Finding.REFUSED}
    return Found(Finding.ABSENT if is_nothing else Finding.UNCLEAR, answer)


def no_answer(outcome: Outcome) -> Found:
    """Return that an answer proves nothing, and why."""
    match outcome:
        case RateLimited():
            answer = "asked too often (429)"
        case CredentialsRefused(status=status, message=message):
            answer = f"the credentials were refused ({status}): {message}"
        case ExchangeUnavailable(status=status):
            answer = f"the exchange can't answer now ({status})"
        case Declined(status=status, code=code, message=message):
            answer = f"the request was declined ({status}, code {code}): {message}"
        case Unreadable(status=status, reason=reason):
            answer = f"the answer can't be read ({status}): {reason}"
        case _:
            answer = "the answer is to another request"
    return Found(Finding.NO_ANSWER, answer)


def _many(found: Iterable[Found], kind: Finding) -> int:
    return sum(each.finding is kind for each in found)


def _can_be(query: OrderQuery, states: Sequence[RestOrder]) -> bool:
    """Return whether this can be the order that the command placed."""
    latest = _latest(states)
    if (latest.pair or query.pair).upper() != query.pair.upper():
        return False
    if (latest.side or query.terms["side"]).lower() != query.terms["side"].lower():
        return False
    if query.is_certain:
        return True
    quantity = query.amount("quantity") or query.amount("baseAmount")
    quantities = {state.original_quantity for state in states}
    is_of_then = latest.created_at is not None and latest.created_at >= query.since - CLOCK_JUMPED
    return is_of_then and (quantity is None or quantity in quantities)


def _placed(states: Sequence[RestOrder]) -> Found:
    latest = _latest(states)
    word = status_word(latest.status or "")
    answer = f"the order {latest.order_id} is {latest.status}"
    if not word:
        return Found(Finding.UNCLEAR, f"the order {latest.order_id} has no status")
    if word == "failed":
        reason = latest.failed_reason or "the exchange gave no reason"
        return Found(Finding.REFUSED, answer, latest.order_id, reason)
    return Found(Finding.EFFECT, answer, latest.order_id)


def _open_placed(query: OrderQuery, before: Found, listed: Sequence[RestOrder]) -> Found:
    if not listed:
        return _not_open(before)
    if not _can_be(query, listed):
        return Found(Finding.UNCLEAR, "an open order of that name may be another")
    order_id = listed[0].order_id
    return Found(Finding.EFFECT, f"the order {order_id} is among the open orders", order_id)


def _not_open(before: Found) -> Found:
    """Return what is known of an order that the list of open orders doesn't name."""
    if before.finding is Finding.UNCHANGED and not before.is_over:
        return Found(Finding.UNCLEAR, f"{before.answer}, but it is not among the open orders")
    return evolve(before, answer=f"{before.answer}; not among the open orders")


def _cancelled(query: OrderQuery, states: Sequence[RestOrder]) -> Found:
    latest = _latest(states)
    word = status_word(latest.status or "")
    answer = f"the order is {latest.status}"
    if word in _OPEN:
        return Found(Finding.UNCHANGED, answer)
    if not _is_over(word):
        return Found(Finding.UNCLEAR, answer)
    if not query.is_certain and not _is_since(query, latest):
        return Found(Finding.UNCLEAR, f"{answer}, but since before the cancel; it may be another")
    if word in CANCELLED:
        return Found(Finding.EFFECT, answer)
    how = "the order had failed" if word == "failed" else f"the order ended first: {latest.status}"
    return Found(Finding.REFUSED, answer, reason=how)


def _modified(query: OrderQuery, states: Sequence[RestOrder], is_whole: bool) -> Found:
    latest = _latest(states)
    ever = [state for state in states if status_word(state.status or "") in _MODIFIED]
    # By our clock, and by what was reported before, for that clock may have been wrong.
    reported = query.reported_before or frozenset()
    later = [state for state in ever if (state.updated_at, state.status) not in reported]
    changes = [state for state in later if _is_since(query, state)]
    if any(_shows(query, state) for state in changes):
        return Found(Finding.EFFECT, "a state of the order shows the change")
    if _shows(query, latest):
        return _looks_changed(query, latest, "a state of the order shows the change")
    if changes:
        return Found(Finding.UNCLEAR, "the order was changed since, to something else")
    if query.reported_before is not None and any(_shows(query, state) for state in later):
        answer = "a state of the order shows the change, but one from before by our clock"
        return Found(Finding.UNCLEAR, answer)
    # A name may be another order's, only our clock dates a change before the command, and there may
    # be more states than the one reported.
    is_untouched = query.is_certain and not ever and len(states) > 1
    return _not_modified(query, latest, is_whole, is_untouched)


def _not_modified(
    query: OrderQuery, latest: RestOrder, is_whole: bool, is_untouched: bool
) -> Found:
    """Return what an order proves that has no state with a change since the command.

    ``is_untouched``: it has none with an earlier change either.
    """
    word, answer = status_word(latest.status or ""), f"the order is {latest.status}"
    if not is_whole and word not in _UNTOUCHED:
        return Found(Finding.UNCLEAR, f"{answer}; what it was in between isn't reported")
    if word in _OPEN:
        return Found(Finding.UNCHANGED, f"{answer}, as it was")
    # Where a change matches, this strategy ends the order.
    if not _is_over(word) or query.terms["modifyMatchStrategy"] == "CANCEL_ORIGINAL":
        return Found(Finding.UNCLEAR, answer)
    reason = f"the order ended first: {latest.status}"
    answer = f"{answer}, and no state of it shows a change"
    return Found(Finding.UNCHANGED, answer, None, reason, is_over=True, is_too_late=is_untouched)


def _is_over(word: str) -> bool:
    return word in CANCELLED or word in ENDED or word == "failed"


def _is_since(query: OrderQuery, state: RestOrder) -> bool:
    return state.updated_at is not None and state.updated_at >= query.since - CLOCK_JUMPED


def _shows(query: OrderQuery, state: RestOrder) -> bool:
    """Return whether an order's state shows all that a modification asked for."""
    requested = (
        (query.amount("newPrice"), state.price),
        (query.amount("newTotalQuantity"), state.original_quantity),
        (query.amount("newRemainingQuantity"), state.remaining_quantity),
    )
    return all(value is None or value == shown for value, shown in requested)


def _looks_changed(query: OrderQuery, state: RestOrder, answer: str) -> Found:
    """Return what a state proves that is as requested, though a fill may have made it so."""
    is_changed = status_word(state.status or "") in _MODIFIED
    if query.amount("newRemainingQuantity") is None or is_changed:
        return Found(Finding.EFFECT, answer)
    return Found(
        Finding.UNCLEAR, "the remaining quantity is as requested, but a fill may have done that"
    )


def _latest(states: Sequence[RestOrder]) -> RestOrder:
    """Return the newest state. The exchange lists it first; if times contradict, they win."""
    timed = [(state.updated_at, state) for state in states if state.updated_at is not None]
    if len(timed) < len(states):
        return states[0]
    return max(timed, key=lambda each: each[0])[1]
