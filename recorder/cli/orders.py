"""``recorder orders``: the live orders and what became of the others."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import define, frozen
from sqlalchemy import Connection, Select, not_, select

from recorder.cli.call import Call
from recorder.cli.current_state import CERTAIN, AsOfAnswer, add_as_of, is_as_of
from recorder.cli.exits import OK, WRONG
from recorder.cli.flags import DATABASE, add_output, add_settings, whole
from recorder.cli.output import Column, quoted
from recorder.database.engine import in_unit
from recorder.database.schema import open_orders, order_history, orders
from recorder.display import shown
from recorder.errors import ConfigurationError
from recorder.queries.account_status import read_account_status, warnings
from recorder.queries.as_of_rows import ORDERS as AS_OF_ORDERS
from recorder.queries.as_of_rows import Rows, foreign_among

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


def configure(parser: ArgumentParser) -> None:
    """Add this command's arguments."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="every order ever seen, the newest last")
    which.add_argument(
        "--open", action="store_true", help="what the exchange's last full list of orders reports"
    )
    which.add_argument("--history", metavar="ORDER_ID", help="every transition of one order")
    parser.add_argument(
        "--limit", type=whole(1), metavar="N", help="at most N rows (of --all: the newest)"
    )
    add_as_of(parser)
    add_settings(parser, DATABASE)
    add_output(parser)


def run(call: Call) -> int:
    """Print the orders. An unknown order is exit code 2."""
    if is_as_of(call):
        return _run_at(call)

    def look(connection: Connection) -> bool:
        return any([_print(call, connection, account) for account in call.accounts(connection)])

    with call.database() as database:
        found = in_unit(database.reader, look)
    return WRONG if call.arguments.history is not None and not found else OK


def _run_at(call: Call) -> int:
    """Print what was open at a moment; one of which nothing is known is exit code 2."""
    asked = call.arguments
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
        limit=asked.limit or (None if call.output.as_json else TABLE_ROWS),
    ).run(call)


def _marked(connection: Connection, account: str, rows: Rows) -> Rows:
    """Return rows of orders with ``foreign``: whether no command of ours placed the order."""
    foreign = foreign_among(connection, account, [row["order_id"] for row in rows])
    return [{**row, "foreign": row["order_id"] in foreign} for row in rows]


def _print(call: Call, connection: Connection, account: str) -> bool:
    """Print the rows of one account and its warnings; return whether there are any rows."""
    output, asked = call.output, call.arguments
    question = _question(call, account)
    limit = asked.limit or (None if output.as_json else TABLE_ROWS)
    rows = _Rows(connection, account, question.statements, limit, marks=FOREIGN in question.columns)
    if not output.as_json:
        output.line(f"account {quoted(account)}")
    output.rows(question.columns, rows, empty=question.empty)
    if rows.count == limit and asked.limit is None:
        output.remark(f"{limit:,} rows shown at the most; --limit N shows more, --json all")
    for warning in warnings(
        read_account_status(connection, account), call.now(), question.projection
    ):
        output.warn(warning)
    return rows.count > 0


@frozen
class _Question:
    """What was asked for: statements whose rows follow each other, and how to show them."""

    projection: str
    columns: tuple[Column, ...]
    statements: tuple[Select[*tuple[Any, ...]], ...]
    empty: str


def _question(call: Call, account: str) -> _Question:
    asked, name = call.arguments, quoted(account)
    if asked.history is not None:
        empty = f"account {name} knows no order {quoted(asked.history)}"
        return _Question("orders", HISTORY, (_history(account, asked.history),), empty)
    if asked.open:
        empty = f"the last list of open orders of account {name} was empty, or none came yet"
        return _Question("open_orders", OPEN, (_listed(account),), empty)
    empty = f"no order of account {name} was ever seen"
    if asked.all:
        return _Question("orders", ORDERS, (_newest(account, asked.limit),), empty)
    return _Question("orders", ORDERS, (_ended(account), _live(account)), empty)


def _history(account: str, order_id: str) -> Select[*tuple[Any, ...]]:
    mine = (order_history.c.account == account, order_history.c.order_id == order_id)
    return select(order_history).where(*mine).order_by(order_history.c.position)


def _listed(account: str) -> Select[*tuple[Any, ...]]:
    order = (open_orders.c.created_at, open_orders.c.order_id)
    return select(open_orders).where(open_orders.c.account == account).order_by(*order)


def _newest(account: str, limit: int | None) -> Select[*tuple[Any, ...]]:
    """Return every order, or the newest ``limit``, the newest last."""
    mine = select(orders).where(orders.c.account == account)
    if limit is None:
        return mine.order_by(orders.c.last_position)
    newest = mine.order_by(orders.c.last_position.desc()).limit(limit).subquery()
    return select(newest).order_by(newest.c.last_position)


def _ended(account: str) -> Select[*tuple[Any, ...]]:
    mine = select(orders).where(orders.c.account == account, not_(orders.c.live))
    newest = mine.order_by(orders.c.last_position.desc()).limit(RECENT).subquery()
    return select(newest).order_by(newest.c.last_position)


def _live(account: str) -> Select[*tuple[Any, ...]]:
    return (
        select(orders)
        # Without statistics SQLite would rather walk through all orders there ever were.
        .with_hint(orders, "INDEXED BY orders_live", "sqlite")
        .where(orders.c.account == account, orders.c.live)
        .order_by(orders.c.last_position)
    )


@define
class _Rows:
    """The rows of all statements, ``limit`` at the most, a page of them in memory at a time.

    Where it ``marks`` them, each has ``foreign``: whether another placed that order.
    """

    connection: Connection
    account: str
    statements: tuple[Select[*tuple[Any, ...]], ...]
    limit: int | None
    marks: bool
    count: int = 0

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        streaming = self.connection.execution_options(yield_per=PAGE_ROWS)
        for statement in self.statements:
            left = None if self.limit is None else self.limit - self.count
            with streaming.execute(statement.limit(left)) as rows:
                for page in rows.mappings().partitions(PAGE_ROWS):
                    self.count += len(page)
                    found: Rows = [dict(row) for row in page]
                    yield from (
                        _marked(self.connection, self.account, found) if self.marks else found
                    )
