"""The content of a statement of one account and one period of the exchange's time.

The end belongs to the period, its beginning doesn't. All values are as known at position ``as_of``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from attrs import define, field, frozen

from recorder.exchange.amounts import EXACT
from recorder.log.rules.coverage import Stretch, Totals
from recorder.projections.rules.books import Explained
from recorder.projections.rules.order_statements import END_UNKNOWN
from recorder.statement.rules.charts import Chart


@frozen
class End:
    """A position of the log and its digest: position 0, without a time, is before all events."""

    name: str
    position: int
    received_at: datetime | None
    digest: bytes


@frozen
class Proof:
    """What reading the whole log again has shown.

    ``damage`` is empty where it is sound. ``checkpoints`` agree with it, or ``not_compared``
    reports why it was held against none.
    """

    events: int = 0
    damage: str = ""
    checkpoints: int = 0
    not_compared: str = ""


@define
class OrderSums:
    """Counts the orders that lived in the period as their rows pass by."""

    lived: int = 0
    foreign: int = 0
    #: By our word for the state, as it is known now.
    states: dict[str, int] = field(factory=dict)

    def add(self, row: Mapping[str, Any]) -> None:
        """Count one row of an order."""
        self.lived += 1
        self.foreign += row["foreign"]
        self.states[row["state"]] = self.states.get(row["state"], 0) + 1

    @property
    def of_unknown_end(self) -> int:
        """Orders with an unknown final state."""
        return self.states.get(END_UNKNOWN, 0)


@define
class PairSums:
    """What was traded of one pair on one side. ``value`` is in the quote currency, before fees."""

    fills: int = 0
    quantity: Decimal = Decimal(0)
    value: Decimal = Decimal(0)
    fees: dict[str, Decimal] = field(factory=dict)
    backfilled: int = 0
    #: Fills without a price or a quantity, which are in no sum.
    without_amount: int = 0


@define
class TradeSums:
    """Adds up the fills of the period as their rows pass by, exactly."""

    pairs: dict[tuple[str, str], PairSums] = field(factory=dict)

    def add(self, row: Mapping[str, Any]) -> None:
        """Count one row of ``trades``."""
        key = (row["pair"] or "", row["side"] or "")
        sums = self.pairs.setdefault(key, PairSums())
        sums.fills += 1
        sums.backfilled += row["source"] == "backfill"
        price, quantity, fee = row["price"], row["quantity"], row["fee"]
        if price is None or quantity is None:
            sums.without_amount += 1
        else:
            sums.quantity = EXACT.add(sums.quantity, quantity)
            sums.value = EXACT.add(sums.value, EXACT.multiply(price, quantity))
        if fee is not None:
            named = row["fee_currency"] or ""
            sums.fees[named] = EXACT.add(sums.fees.get(named, Decimal(0)), fee)


@frozen
class Seen:
    """How much of the period was seen.

    ``sums`` is of the part since the first start, None where there is none of it or a clock was set
    back; ``unrecorded_s`` of the period lie before it. ``unhealed`` gaps touch the period,
    those without length among them.
    """

    sums: Totals | None
    unrecorded_s: Decimal
    unhealed: int
    stretches: Sequence[Stretch] = ()


@frozen
class Report:
    """All that a statement reports. Rows of tables are mappings from the names of their columns."""

    account: str
    from_at: datetime
    until_at: datetime
    made_at: datetime
    version: str
    as_of: int
    ends: Sequence[End]
    proof: Proof | None
    seen: Seen
    currencies: Sequence[Explained]
    orders: OrderSums
    trades: TradeSums
    gaps: Sequence[Mapping[str, Any]]
    comparisons: Sequence[Mapping[str, Any]]
    differences: Sequence[Mapping[str, Any]]
    #: What was open at both ends; each row has ``at_end`` and ``certain``.
    open_orders: Sequence[Mapping[str, Any]]
    #: Projections that stand before the period's last event, and where.
    behind: Mapping[str, int]
    #: Events of the period that could not be folded into balances or ledger, or only in part.
    unread: int
    #: Orders whose fills trades and ledger don't report alike.
    unmatched: Sequence[str]
    #: Commands queued by the period's end whose outcome isn't known.
    in_doubt: int
    unknowable: Sequence[str]
    charts: Sequence[Chart] = ()
    #: Rows per table, as they are in the files.
    rows: Mapping[str, int] = field(factory=dict)
