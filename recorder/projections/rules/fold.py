"""The fold: what a projection is, and what one event changes.

A projection is a pure function of the rows it has made so far and one event; it returns changes
and touches nothing. Its caller (`projections.sql.tables` in the daemon, a dictionary in tests)

1. asks ``keys(message)`` which rows the fold may look at and loads them into a `Rows`,
2. calls ``fold(rows, event, message)``,
3. puts the changes into the `Rows` and, at the end of the batch, into the tables, in one
   transaction with the checkpoint.

Because a fold sees only its own rows and the event, the same events give the same tables however
they are cut into batches; rebuild is the same run from position 1. An event that can't be folded
raises `Unfoldable`; none of its changes is taken, and the next event is folded as usual.

``resident`` rows (all of a table, or those whose column of that name is true) are always in the
`Rows`, so that a full list can be compared with what stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from attrs import define, field, frozen

from recorder.exchange.messages import Message
from recorder.log.rules.event import Event

Key = tuple[Any, ...]
#: Column name → Decimal, aware datetime, str, int, bool or None. Never a float; no ``account``.
Row = Mapping[str, Any]


class Alike(NamedTuple):
    """Asks for every row whose ``column`` has this value: for rows whose key isn't known.

    It stands among the keys that a fold asks for. The rows found are held under their own keys.
    """

    column: str
    value: Any


#: How the reason begins where only details of an event could not be folded.
IN_PART = "folded in part: "


class Unfoldable(ValueError):
    """This event has content that the projection can't hold; the text describes it."""


@frozen
class Table:
    """One table of a projection.

    ``key`` names the columns that identify a row beside ``account``. ``once`` tables only grow:
    a row whose ``key`` stands already is not added again (that is how a repeated frame collapses).
    ``resident`` is None, ``"*"`` for all rows, or the name of a boolean column.
    """

    name: str
    key: tuple[str, ...]
    once: bool = False
    resident: str | None = None


@frozen
class Put:
    """Set the row with this key to these values, whole (a column left out becomes null)."""

    table: str
    key: Key
    values: Row


@frozen
class Remove:
    """Delete the row with this key."""

    table: str
    key: Key


@frozen
class Add:
    """Add a row; without effect if its key stands already.

    A key with None in it never equals another: such rows are always added. A row that later folds
    may look at is ``kept`` for them; those of ``once`` tables never are.
    """

    table: str
    key: Key
    values: Row
    kept: bool = False


Change = Put | Remove | Add


class Projection(Protocol):
    """One projection. ``version`` rises when the same events would give other rows."""

    @property
    def name(self) -> str:
        """Its name in ``projections``."""
        ...

    @property
    def version(self) -> int:
        """Rises when the same events would give other rows."""
        ...

    @property
    def types(self) -> frozenset[str]:
        """Types of the events that it folds; others pass it by."""
        ...

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables that it writes; it is their only writer."""
        ...

    def keys(self, message: Message) -> Iterable[tuple[str, Key]]:
        """Return (table, key) of every non-resident row that folding ``message`` may look at."""
        ...

    def fold(self, rows: Rows, event: Event, message: Message) -> Sequence[Change]:
        """Return what ``event`` changes. Raises Unfoldable."""
        ...


@define
class Rows:
    """The rows of one account that a fold may look at, as they stand after the changes so far."""

    tables: dict[str, dict[Key, Row]] = field(factory=dict)

    def get(self, table: str, key: Key) -> Row | None:
        """Return the row, or None where there is none."""
        return self.tables.get(table, {}).get(key)

    def all(self, table: str) -> Mapping[Key, Row]:
        """Return the rows held of this table: at least all resident ones."""
        return self.tables.get(table, {})

    def take(self, change: Change) -> None:
        """Apply one change. Of added rows, only those marked ``kept`` are kept."""
        if isinstance(change, Put):
            self.tables.setdefault(change.table, {})[change.key] = change.values
        elif isinstance(change, Remove):
            self.tables.get(change.table, {}).pop(change.key, None)
        elif change.kept:
            self.tables.setdefault(change.table, {}).setdefault(change.key, change.values)
