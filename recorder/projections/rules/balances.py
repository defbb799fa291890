"""What is held: the latest report of each currency, and every value it ever had.

A BALANCE_UPDATE is the whole balance of one currency. One whose ``updatedAt`` is older than what
stands from the same connection is late and changes nothing; where the times are equal or unknown,
the later position wins. The first report of a connection always counts: nothing sent before
the connection was made can arrive on it, and a single wrong time would otherwise hold a currency
for ever.

The exchange names every held currency on connecting, and leaves out what is not held. So once a
snapshot is known to be complete, a currency that it did not name is no longer held: its amounts
become zero with the basis ``inferred_zero``. Its ``updated_at`` stays: a late update still can't
bring the old value back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from recorder.exchange.messages import BalanceUpdate, Message
from recorder.log.rules.event import Event, Note
from recorder.projections.rules.fold import Add, Change, Key, Put, Row, Rows, Table
from recorder.projections.rules.reading import NoteMessage, is_note, is_received, unfoldable

BALANCES = Table("balances", ("currency",), resident="*")
HISTORY = Table("balance_history", ("currency", "position"), once=True)

REPORTED = "reported"
INFERRED_ZERO = "inferred_zero"

_AMOUNTS = (
    "available",
    "reserved",
    "total",
    "lend_reserved",
    "borrow_reserved",
    "borrowed_amount",
    "total_in_reference",
    "total_in_reference_weighted",
)
_VALUES = (*_AMOUNTS, "reference_currency", "basis", "updated_at")


class Balances:
    """The fold of BALANCE_UPDATE and of complete snapshots."""

    name = "balances"
    version = 3
    types = frozenset({"BALANCE_UPDATE", Note.SNAPSHOT_COMPLETE.value})
    tables = (BALANCES, HISTORY)

    def keys(self, message: Message) -> Iterable[tuple[str, Key]]:
        """All rows are resident."""
        return ()

    def fold(self, rows: Rows, event: Event, message: Message) -> Sequence[Change]:
        """Return the changes of a balance, or of the currencies that a snapshot left out."""
        if is_note(event, Note.SNAPSHOT_COMPLETE):
            if not isinstance(message, NoteMessage):
                raise unfoldable(message)
            return _not_named(rows, event) if message.facts.flag("balances") else ()
        if not is_received(event) or event.type != "BALANCE_UPDATE":
            # Among these is a frame that only bears the name of our note.
            return ()
        if not isinstance(message, BalanceUpdate):
            raise unfoldable(message)
        return _reported(rows, event, message)


def _reported(rows: Rows, event: Event, message: BalanceUpdate) -> Sequence[Change]:
    values = {name: getattr(message, name) for name in _VALUES if name != "basis"}
    values["basis"] = REPORTED
    old = rows.get("balances", (message.currency,))
    if old is None:
        return _replaced(message.currency, values, event)
    if old["connection_id"] == event.connection_id:
        is_news = not (_is_late(message, old) or _same(values, old))
        return _replaced(message.currency, values, event) if is_news else ()
    if _same(values, old):
        # It names the currency: a later snapshot can't call it absent by this connection.
        named = {**old, "connection_id": event.connection_id}
        return (Put("balances", (message.currency,), named),)
    return _replaced(message.currency, values, event)


def _is_late(message: BalanceUpdate, old: Row) -> bool:
    stands = old["updated_at"]
    return message.updated_at is not None and stands is not None and message.updated_at < stands


def _not_named(rows: Rows, event: Event) -> Sequence[Change]:
    changes: list[Change] = []
    for (currency,), old in sorted(rows.all("balances").items()):
        if old["connection_id"] == event.connection_id or old["basis"] == INFERRED_ZERO:
            continue
        values = {name: old[name] for name in _VALUES}
        for name in _AMOUNTS:
            values[name] = None if old[name] is None else Decimal(0)
        values["basis"] = INFERRED_ZERO
        changes += _replaced(currency, values, event)
    return changes


def _replaced(currency: str, values: Mapping[str, object], event: Event) -> Sequence[Change]:
    key, position = (currency,), event.position
    row = {**values, "currency": currency, "position": position}
    return (
        Put("balances", key, {**row, "connection_id": event.connection_id}),
        Add("balance_history", (currency, position), {**row, "received_at": event.received_at}),
    )


def _same(values: Mapping[str, object], old: Row) -> bool:
    return all(values[name] == old[name] for name in _VALUES)
