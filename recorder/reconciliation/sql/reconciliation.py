"""What is to be compared with the exchange, what we passed through meanwhile, and what it found."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from attrs import fields, frozen
from sqlalchemy import Connection, Row, Select, and_, func, insert, or_, select, update

from recorder.database.schema import (
    backfill_runs,
    backfills,
    balance_history,
    balances,
    differences,
    gaps,
    ledger,
    order_history,
    orders,
    reconciliation_requests,
    reconciliations,
    trades,
    transfers,
)
from recorder.exchange.amounts import canonical_amount
from recorder.exchange.lists import Fetched
from recorder.log.sql.read import event_at
from recorder.log.sql.read import head as read_head
from recorder.projections.rules.diffing import WHOLE, Difference, Held, OpenState
from recorder.projections.rules.matching import BACKFILL
from recorder.projections.rules.order_states import is_live
from recorder.projections.rules.reconciliations import CLEAN, DIFFERING

#: What has to be folded up to an answer before it is compared.
FOLDS = ("balances", "open_orders", "orders", "trades", "ledger", "transfers", "connections")
#: How many orders are asked for at once.
CHUNK = 500


@frozen
class Made:
    """A row of `reconciliations`."""

    reconciliation_id: int
    requested_by: str
    state: str
    reason: str | None
    started_at: datetime
    ended_at: datetime | None
    from_at: datetime | None
    until_at: datetime | None
    balances: int | None
    open_orders: int | None
    history_rows: int | None
    differences: int


@frozen
class Missed:
    """A row that a history reported and no frame had: when, and what differed."""

    difference: Difference
    answer_position: int


def head_position(connection: Connection, account: str) -> int:
    """Return the last position of the log."""
    return read_head(connection, account).position


def next_request(connection: Connection, account: str) -> str | None:
    """Return the oldest request that nothing was made for yet."""
    of = reconciliation_requests.c
    asked = (
        select(of.request_id)
        .where(of.account == account, of.reconciliation_id.is_(None))
        .order_by(of.requested_at, of.request_id)
        .limit(1)
    )
    return connection.execute(asked).scalar_one_or_none()


def request(connection: Connection, account: str, by: str) -> str:
    """Ask for a comparison; return the id of the request."""
    reported = {"account": account, "requested_by": by}
    of = reconciliation_requests
    return str(
        connection.execute(insert(of).values(reported).returning(of.c.request_id)).scalar_one()
    )


def mark_taken(
    connection: Connection,
    positions: Sequence[int],
    *,
    account: str,
    request_id: str,
    now: datetime,
) -> None:
    """Note on a request which comparison is made for it: the one of the first of these events."""
    of = reconciliation_requests.c
    reported = {"reconciliation_id": positions[0], "updated_at": now}
    row = (of.account == account) & (of.request_id == request_id)
    connection.execute(update(reconciliation_requests).where(row).values(reported))


def broken_off(connection: Connection, account: str) -> list[int]:
    """Return the comparisons that no note has ended."""
    of = reconciliations.c
    asked = select(of.reconciliation_id).where(of.account == account, of.is_open)
    return [int(each) for each in connection.execute(asked).scalars()]


def why_not_now(connection: Connection, account: str, *, is_backfilled: bool) -> str | None:
    """Return why our state isn't known now, or what was missed isn't fetched yet; None if it is."""
    of = gaps.c
    ours = (of.account == account,)
    if connection.execute(select(of.gap_id).where(*ours, of.state == "open").limit(1)).first():
        return "there is no connection whose snapshot is complete"
    if is_backfilled and _waits_for_backfill(connection, account):
        return "what an earlier gap hid is still being fetched"
    return None


def _waits_for_backfill(connection: Connection, account: str) -> bool:
    run = and_(backfill_runs.c.account == gaps.c.account, backfill_runs.c.gap_id == gaps.c.gap_id)
    waiting = (
        select(gaps.c.gap_id)
        .outerjoin(backfill_runs, run)
        .where(
            gaps.c.account == account,
            gaps.c.state == "closed",
            or_(backfill_runs.c.run_id.is_(None), backfill_runs.c.is_open),
        )
        .limit(1)
    )
    return connection.execute(waiting).first() is not None


def was_cut(connection: Connection, account: str, since: int) -> bool:
    """Return whether observation was lost behind this position."""
    of = gaps.c
    lost = or_(of.gap_id > since, of.state == "open", of.last_loss_position > since)
    return (
        connection.execute(select(of.gap_id).where(of.account == account, lost)).first() is not None
    )


def balances_window(
    connection: Connection, account: str, first: int, last: int
) -> dict[str, list[Held]]:
    """Return what each balance was at ``first``, and everything it became up to ``last``."""
    h, other = balance_history, balance_history.alias()
    latest = (
        select(func.max(other.c.position))
        .where(
            other.c.account == balances.c.account,
            other.c.currency == balances.c.currency,
            other.c.position <= first,
        )
        .correlate(balances)
        .scalar_subquery()
    )
    columns = (h.c.currency, h.c.available, h.c.reserved, h.c.total, h.c.position)
    at_first = and_(
        h.c.account == balances.c.account,
        h.c.currency == balances.c.currency,
        h.c.position == latest,
    )
    held = select(*columns).select_from(balances.join(h, at_first))
    since = select(*columns).where(h.c.account == account, h.c.position.between(first + 1, last))
    rows = [
        *connection.execute(held.where(balances.c.account == account)),
        *connection.execute(since.order_by(h.c.position)),
    ]
    window: dict[str, list[Held]] = {}
    for row in rows:
        held_then = Held(row.available, row.reserved, row.total, row.position)
        window.setdefault(row.currency, []).append(held_then)
    return window


def orders_window(
    connection: Connection, account: str, first: int, last: int, named: Collection[str]
) -> dict[str, list[OpenState]]:
    """Return how orders stood at ``first`` and since: those live, changed since, or named."""
    h = order_history.c
    live = (
        select(orders.c.order_id)
        # Without statistics SQLite would rather walk through all orders there ever were.
        .with_hint(orders, "INDEXED BY orders_live", "sqlite")
        .where(orders.c.account == account, orders.c.live)
    )
    changed = select(h.order_id).where(h.account == account, h.position.between(first + 1, last))
    asked = {*named, *connection.execute(live).scalars(), *connection.execute(changed).scalars()}
    window: dict[str, list[OpenState]] = {}
    ordered = sorted(asked)
    for start in range(0, len(ordered), CHUNK):
        for row in connection.execute(_transitions(account, last, ordered[start : start + CHUNK])):
            open_state = OpenState(
                row.state, is_live(row.state), row.price, row.remaining_quantity, row.position
            )
            passed = window.setdefault(row.order_id, [])
            if passed and open_state.position <= first:
                passed.clear()
            passed.append(open_state)
    return window


def _transitions(account: str, last: int, order_ids: Sequence[str]) -> Select[tuple[object, ...]]:
    h = order_history.c
    return (
        select(h.order_id, h.position, h.state, h.price, h.remaining_quantity)
        .where(h.account == account, h.order_id.in_(order_ids), h.position <= last, h.applied)
        .order_by(h.order_id, h.position)
    )


def history_since(
    connection: Connection, account: str, until: datetime, longest: timedelta
) -> datetime | None:
    """Return from when on the histories are to be compared: behind what was compared before.

    None where nothing was recorded yet.
    """
    of = reconciliations.c
    compared = of.state.in_((CLEAN, DIFFERING))
    last = select(func.max(of.until_at)).where(of.account == account, compared)
    before = connection.execute(last).scalar_one()
    first = event_at(connection, account, 1)
    if first is None:
        return None
    return max(each for each in (before, first.received_at, until - longest) if each is not None)


def ask_history(
    connection: Connection,
    positions: Sequence[int],
    *,
    account: str,
    since: datetime,
    until: datetime,
) -> None:
    """Ask the back-fill for a period, for the comparison that began at the first event."""
    reported = {
        "account": account,
        "backfill_id": history_request(positions[0]),
        "from_at": since,
        "until_at": until,
        "requested_by": f"reconciliation {positions[0]}",
    }
    connection.execute(insert(backfills).values(reported))


def history_request(run_id: int) -> str:
    """Return the id under which a comparison asks the back-fill."""
    return f"reconciliation-{run_id}"


def filled_in(
    connection: Connection, account: str, run_id: int, since: datetime, until: datetime
) -> list[Missed]:
    """Return what a back-fill's answers reported, of this period, that no frame had reported."""
    run = connection.execute(
        select(backfill_runs.c.last_position).where(
            backfill_runs.c.account == account, backfill_runs.c.run_id == run_id
        )
    ).scalar_one()
    found = []
    for table, name, at, words in _ADDED:
        moment = table.c[at]
        asked = select(table).where(
            table.c.account == account,
            table.c.position.between(run_id, run),
            table.c.source == BACKFILL,
            moment.between(since, until),
        )
        for row in connection.execute(asked.order_by(table.c.position)):
            key = str(row._mapping[_KEYS[name]])
            reported = _words(row, words)
            found.append(Missed(Difference(name, key, WHOLE, None, reported, None), row.position))
    return found + _orders_changed(connection, account, (run_id, run), since, until)


#: Table, its name as a list, its time, and what is shown of a row.
_ADDED = (
    (trades, "trades", "traded_at", ("pair", "side", "price", "quantity")),
    (ledger, "ledger", "event_at", ("type", "debit_value", "debit_currency", "credit_value",
                                    "credit_currency")),
    (transfers, "transfers", "created_at", ("direction", "amount", "currency")),
)  # fmt: skip
_KEYS = {"trades": "trade_id", "ledger": "transaction_id", "transfers": "transfer_id"}


def _orders_changed(
    connection: Connection,
    account: str,
    between: tuple[int, int],
    since: datetime,
    until: datetime,
) -> list[Missed]:
    h = order_history.c
    asked = select(order_history).where(
        h.account == account,
        h.position.between(*between),
        h.event_type == Fetched.ORDER_HISTORY.value,
        h.applied,
        h.updated_at.between(since, until),
    )
    found = []
    for row in connection.execute(asked.order_by(h.position, h.order_id)).all():
        before = connection.execute(
            select(h.state, h.position)
            .where(
                h.account == account,
                h.order_id == row.order_id,
                h.position < row.position,
                h.applied,
            )
            .order_by(h.position.desc())
            .limit(1)
        ).one_or_none()
        ours = before and before.state
        difference = Difference(
            "orders", row.order_id, "state", ours, row.state, before and before.position
        )
        found.append(Missed(difference, row.position))
    return found


def _words(row: Row[tuple[object, ...]], names: Sequence[str]) -> str:
    values = [row._mapping[name] for name in names]
    texts = [canonical_amount(each) if isinstance(each, Decimal) else each for each in values]
    return " ".join(str(each) for each in texts if each is not None)


def open_differences(connection: Connection, account: str) -> list[tuple[int, Difference]]:
    """Return (id, difference) of every difference that hasn't ended, the oldest first."""
    of = differences.c
    asked = select(differences).where(of.account == account, of.is_open).order_by(of.difference_id)
    return [(row.difference_id, _difference(row)) for row in connection.execute(asked)]


def _difference(row: Row[tuple[object, ...]]) -> Difference:
    reported = row._mapping
    names = ("list", "key", "field", "ours", "theirs", "position")
    return Difference(*(reported[name] for name in names))


def reconciliation_of(connection: Connection, account: str, request_id: str) -> Made | None:
    """Return the comparison that was made for a request, once its table has it."""
    of = reconciliation_requests.c
    asked = select(of.reconciliation_id).where(of.account == account, of.request_id == request_id)
    made = connection.execute(asked).scalar_one_or_none()
    return None if made is None else _made(connection, account, made)


def _made(connection: Connection, account: str, reconciliation_id: int) -> Made | None:
    of = reconciliations.c
    asked = select(reconciliations).where(
        of.account == account, of.reconciliation_id == reconciliation_id
    )
    row = connection.execute(asked).one_or_none()
    return None if row is None else _read_made(row)


def past(connection: Connection, account: str, limit: int) -> list[Made]:
    """Return the last comparisons, the newest first."""
    of = reconciliations.c
    asked = select(reconciliations).where(of.account == account)
    rows = connection.execute(asked.order_by(of.reconciliation_id.desc()).limit(limit))
    return [_read_made(row) for row in rows]


def _read_made(row: Row[tuple[object, ...]]) -> Made:
    reported = row._mapping
    return Made(**{each.name: reported[each.name] for each in fields(Made)})


def differences_of(
    connection: Connection, account: str, reconciliation_id: int
) -> list[dict[str, object]]:
    """Return the rows of `differences` that a comparison found."""
    of = differences.c
    asked = select(differences).where(
        of.account == account, of.reconciliation_id == reconciliation_id
    )
    return [dict(row) for row in connection.execute(asked.order_by(of.difference_id)).mappings()]
