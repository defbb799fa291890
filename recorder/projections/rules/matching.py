"""Match the stream's rows with those of a history: no row twice, none missing. Pure.

Fills and transactions have the exchange's id, as a rule in both places, and then the id joins them:
the first report of a row adds it, and a second report of it changes nothing.

Some shapes of the stream's frames have no id. Then rows that are equal in all that both report are
counted: of *n* that a history reports (each with an id of its own) and *m* that frames without an
id reported, there are as many as the larger number. So a history adds only as many as the stream
lacks, and a later frame adds only what no history has reported. Which of two equal rows got which
id can't be known, and makes no difference.

Where even that can't be decided (a frame without an id, and without its time or pair) the row is
marked ``undecided``: a history may hold it a second time. One that no history has listed stays
``alone``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import define, frozen

from recorder.projections.rules.fold import Add, Alike, Change, Key, Put, Remove, Row, Rows

STREAM, BACKFILL = "stream", "backfill"

BY_ID = "id"
COUNTED = "counted"
ALONE = "alone"
UNDECIDED = "undecided"

#: What is about the telling, not about what was reported.
_OURS = frozenset({"position", "item", "natural_id", "source", "matched_by", "received_at"})


@frozen
class Matching:
    """How the rows of one table are joined.

    ``equal`` names what has to be reported and equal; what is ``alike`` may be untold, by both
    alike.
    """

    table: str
    id_column: str
    at_column: str
    equal: tuple[str, ...]
    alike: tuple[str, ...] = ()

    def asked_of_frame(self, row_id: str | None, at: object) -> Iterable[tuple[str, Key]]:
        """Return what folding a frame may look at: nothing, if it has an id."""
        return [] if row_id is not None or at is None else [(self.table, Alike(self.at_column, at))]

    def asked_of_page(self, rows: Iterable[tuple[str | None, object]]) -> list[tuple[str, Key]]:
        """Return what folding a page of these (id, time) may look at."""
        asked: list[tuple[str, Key]] = []
        for row_id, at in rows:
            if row_id is not None:
                asked.append((self.table, (row_id,)))
            if at is not None:
                asked.append((self.table, Alike(self.at_column, at)))
        return asked

    def of_frame(self, rows: Rows, row: Row) -> Sequence[Change]:
        """Return what a row that the stream reported changes."""
        row_id = row[self.id_column]
        if row_id is not None:
            reported = {**row, "natural_id": row_id, "source": STREAM, "matched_by": BY_ID}
            return (Add(self.table, (row_id,), reported, kept=True),)
        if any(row[name] is None for name in self.equal):
            return (self._put(_unnamed(row, UNDECIDED)),)
        for known in self._equals(rows, row):
            if known["source"] == BACKFILL and known["matched_by"] == BY_ID:
                return (self._put({**known, "matched_by": COUNTED}),)
        return (self._put(_unnamed(row, ALONE)),)

    def of_page(self, rows: Rows, reported: Sequence[Row]) -> Sequence[Change]:
        """Return what a page of rows that a history reported changes. Each has an id."""
        page = _Page(rows, self)
        changes: list[Change] = []
        for row in reported:
            row_id = row[self.id_column]
            if page.stands(row_id):
                continue
            alone = page.take_alone(row)
            if alone is None:
                matched = {**row, "natural_id": row_id, "source": BACKFILL, "matched_by": BY_ID}
            else:
                # The frame's row gets the id, and whatever else it lacked.
                changes.append(Remove(self.table, (alone["natural_id"],)))
                filled = {name: row[name] for name in alone.keys() - _OURS if alone[name] is None}
                matched = {**alone, **filled, "natural_id": row_id, "matched_by": COUNTED}
            page.add(row_id, matched)
            changes.append(self._put(matched))
        return changes

    def is_equal(self, row: Row, other: Row) -> bool:
        """Return whether these may be one: equal in what both report, and of no other order."""
        orders = row["order_id"], other["order_id"]
        reported = (*self.equal, *self.alike)
        return all(row[name] == other[name] for name in reported) and (
            None in orders or orders[0] == orders[1]
        )

    def _equals(self, rows: Rows, row: Row) -> list[Row]:
        found = [known for known in rows.all(self.table).values() if self.is_equal(known, row)]
        return sorted(found, key=_place)

    def _put(self, row: Row) -> Put:
        return Put(self.table, (row["natural_id"],), row)


@define
class _Page:
    """What a page is compared with, found in one pass over the rows at hand."""

    rows: Rows
    matching: Matching
    _alone: dict[Any, list[Row]] | None = None
    _new: dict[str, Row] | None = None

    def stands(self, row_id: str) -> bool:
        """Return whether a row of this id stands, or was reported earlier in the page."""
        new = self._new or {}
        return row_id in new or self.rows.get(self.matching.table, (row_id,)) is not None

    def add(self, row_id: str, row: Row) -> None:
        """Remember a row that the page made."""
        if self._new is None:
            self._new = {}
        self._new[row_id] = row

    def take_alone(self, row: Row) -> Row | None:
        """Take a frame's row without an id that may be the same, the first reported; or None."""
        if self._alone is None:
            self._alone = self._read_alone()
        waiting = self._alone.get(row[self.matching.at_column], [])
        for place, each in enumerate(waiting):
            if self.matching.is_equal(each, row):
                return waiting.pop(place)
        return None

    def _read_alone(self) -> dict[Any, list[Row]]:
        alone: dict[Any, list[Row]] = {}
        known = self.rows.all(self.matching.table).values()
        for row in sorted((each for each in known if each["matched_by"] == ALONE), key=_place):
            alone.setdefault(row[self.matching.at_column], []).append(row)
        return alone


def _unnamed(row: Row, matched: str) -> Row:
    natural_id = f"@{row['position']}"
    return {**row, "natural_id": natural_id, "source": STREAM, "matched_by": matched}


def _place(row: Row) -> tuple[int, int]:
    return row["position"], row["item"]
