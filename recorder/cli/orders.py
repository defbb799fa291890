"""``recorder orders``: the live orders and what became of the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen
from sqlalchemy import Connection, Select, not_, select

from recorder.cli.call import Call
from recorder.cli.command import argument, command, exclusive, switch, value, whole
from recorder.cli.current_state import AS_OF, CERTAIN, AsOfAnswer, is_as_of
from recorder.cli.exits import OK, WRONG
from recorder.cli.output import Column, quoted
from recorder.database.schema import open_orders, order_history, orders
from recorder.display import shown
from recorder.errors import ConfigurationError
from recorder.queries.account_status import read_account_status, warnings
from recorder.queries.as_of import ORDERS as AS_OF_ORDERS
from recorder.queries.as_of import Rows, foreign_among

Statement = Select[*tuple[Any, ...]]

#: Ended orders that are shown beside the live ones.
RECENT = 20
#: Rows of one table unless --limit sets another number; a program gets all.
TABLE_ROWS = 1_000
#: Rows fetched at a time.
PAGE_ROWS = 500


def _mark(value: Any) -> str:
    return "foreign" if value is True else "" if value is False else shown(value)


#: Whether another placed it; a program gets true or false.
FOREIGN = Column("foreign", "whose", spare=True, show=_mark)
_TERMS = (
    Column("side"),
    # A price is meaningless without its pair.
    Column("pair"),
    Column("price", right=True),
    Column("remaining_quantity", "remaining", right=True, spare=True),
    Column("original_quantity", "quantity", right=True, spare=True),
)
_LAST = (
    Column("customer_order_id", spare=True),
    FOREIGN,
    Column("updated_at", "updated (UTC)", spare=True),
)
ORDERS = (
    Column("order_id"),
    Column("state"),
    *_TERMS,
    Column("executed_quantity", "executed", right=True, spare=True),
    Column("average_price", "average", right=True, spare=True),
    Column("reason", spare=True),
    *_LAST,
)
OPEN = (Column("order_id"), *_TERMS, Column("status", spare=True), *_LAST)
PAST = (Column("order_id"), Column("state"), *_TERMS, CERTAIN, *_LAST)
HISTORY = (
    Column("position", right=True),
    Column("received_at", "received (UTC)"),
    Column("event_type", "event"),
    Column("state"),
    Column("remaining_quantity", "remaining", right=True),
    Column("executed_quantity", "executed", right=True, spare=True),
    Column("executed_price", "at price", right=True, spare=True),
    Column("reason", spare=True),
    Column("applied", spare=True),
)


@command(
    exclusive(
        switch("--all", "every order ever seen, the newest last"),
        switch("--open", "what the exchange's last full list of orders reports"),
        argument("--history", metavar="ORDER_ID", help="every transition of one order"),
    ),
    value("--limit", whole(1), "N", "at most N rows (of --all: the newest)"),
    *AS_OF,
)
def orders_command(call: Call) -> int:
    """Print the orders. An unknown order is exit code 2, as is a past of which nothing is known."""
    asked = call.arguments
    limit = asked.limit or (None if call.output.as_json else TABLE_ROWS)
    if is_as_of(call):
        if asked.all or asked.open or asked.history is not None:
            raise ConfigurationError(
                "--at shows the orders that were open then: leave --all, --open and --history out"
            )
        return AsOfAnswer(
            "orders",
            AS_OF_ORDERS,
            PAST,
            lambda account, _: f"no open order of account {account} is known of then",
            marked=_marked,
            limit=limit,
        ).run(call)

    def look(connection: Connection) -> bool:
        accounts = call.accounts(connection)
        return any([_print(call, connection, account, limit) for account in accounts])

    found = call.read(look)
    return WRONG if asked.history is not None and not found else OK


def _marked(connection: Connection, account: str, rows: Rows) -> Rows:
    """Return rows of orders with ``foreign``: whether no command of ours placed the order."""
    foreign = foreign_among(connection, account, [row["order_id"] for row in rows])
    return [{**row, "foreign": row["order_id"] in foreign} for row in rows]


def _print(call: Call, connection: Connection, account: str, limit: int | None) -> bool:
    """Print the rows of one account and its warnings; return whether there are any rows."""
    output, question = call.output, _question(call, account)
    rows = _rows(connection, account, question, limit)
    if not output.as_json:
        output.line(f"account {quoted(account)}")
    count = output.rows(question.columns, rows, empty=question.empty)
    if count == limit and call.arguments.limit is None:
        output.remark(f"{limit:,} rows shown at the most; --limit N shows more, --json all")
    status = read_account_status(connection, account)
    for warning in warnings(status, call.now(), question.projection):
        output.warn(warning)
    return count > 0


@frozen
class _Question:
    """What was asked for: statements whose rows follow each other, and how to show them."""

    projection: str
    columns: tuple[Column, ...]
    statements: Sequence[Statement]
    empty: str


def _question(call: Call, account: str) -> _Question:
    asked, name = call.arguments, quoted(account)
    if asked.history is not None:
        line = order_history.c
        history = select(order_history).where(line.order_id == asked.history)
        history = history.where(line.account == account).order_by(line.position)
        empty = f"account {name} knows no order {quoted(asked.history)}"
        return _Question("orders", HISTORY, (history,), empty)
    if asked.open:
        listed = select(open_orders).where(open_orders.c.account == account)
        listed = listed.order_by(open_orders.c.created_at, open_orders.c.order_id)
        empty = f"the last list of open orders of account {name} was empty, or none came yet"
        return _Question("open_orders", OPEN, (listed,), empty)
    mine: Statement = select(orders).where(orders.c.account == account)
    if asked.all:
        statements = [_newest_last(mine, asked.limit)]
    else:
        statements = [_newest_last(mine.where(not_(orders.c.live)), RECENT), live_orders(account)]
    return _Question("orders", ORDERS, statements, f"no order of account {name} was ever seen")


def _newest_last(of_orders: Statement, limit: int | None) -> Statement:
    """Return all, or the newest ``limit``, the newest last."""
    if limit is None:
        return of_orders.order_by(orders.c.last_position)
    newest = of_orders.order_by(orders.c.last_position.desc()).limit(limit).subquery()
    return select(newest).order_by(newest.c.last_position)


def live_orders(account: str) -> Statement:
    """Return the statement of the orders that are live now."""
    return (
        select(orders)
        # Without statistics SQLite would rather walk through all orders there ever were.
        .with_hint(orders, "INDEXED BY orders_live", "sqlite")
        .where(orders.c.account == account, orders.c.live)
        .order_by(orders.c.last_position)
    )


def _rows(
    connection: Connection, account: str, question: _Question, limit: int | None
) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of all statements, ``limit`` at the most, a page of them in memory at a time.

    Each has ``foreign`` where that is a column: whether another placed that order.
    """
    streaming, left = connection.execution_options(yield_per=PAGE_ROWS), limit
    for statement in question.statements:
        with streaming.execute(statement.limit(left)) as found:
            for page in found.mappings().partitions(PAGE_ROWS):
                left = None if left is None else left - len(page)
                rows: Rows = [dict(row) for row in page]
                yield from (
                    _marked(connection, account, rows) if FOREIGN in question.columns else rows
                )
