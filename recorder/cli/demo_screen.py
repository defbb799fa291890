"""What the demo shows: one look at the tables, as one screen or as one line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import frozen
from rich import box
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from sqlalchemy import Connection, func, select

from recorder.cli.output import Column
from recorder.database.schema import balances, events, open_orders, outbox
from recorder.display import plain, short_time
from recorder.queries.account_status import AccountStatus, read_account_status, warnings

#: Rows read for a panel; how many of them are shown, the height of the screen decides.
EVENTS = 40
COMMANDS = 20
#: Characters of a payload that a line has room for.
EXCERPT = 200
BALANCES = (Column("currency"), Column("available", right=True), Column("reserved", right=True))
ORDERS = (
    Column("side"),
    Column("pair"),
    Column("price", right=True),
    Column("remaining_quantity", "remaining", right=True),
)
_ORIGINS = {
    "received": ("<", "cyan"),
    "sent": (">", "yellow"),
    "fetched": ("<", "cyan"),
    "noted": ("·", "dim"),
}
_STATUS_STYLES = {"accepted": "green", "rejected": "red", "in_doubt": "bold red"}

Cells = Sequence[Text]


@frozen
class View:
    """What the tables report, all of one moment."""

    status: AccountStatus
    balances: Sequence[Mapping[str, Any]]
    orders: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]
    commands: Sequence[Mapping[str, Any]]
    #: Status → how many commands have it.
    statuses: Mapping[str, int]


def read_view(connection: Connection, account: str) -> View:
    """Look at the tables, in one snapshot."""

    def rows(table: Any, order: Any, limit: int = 50) -> list[Mapping[str, Any]]:
        wanted = select(table).where(table.c.account == account).order_by(order).limit(limit)
        return [dict(row) for row in connection.execute(wanted).mappings()]

    counted = select(outbox.c.status, func.count()).where(outbox.c.account == account)
    statuses = connection.execute(counted.group_by(outbox.c.status)).all()
    return View(
        status=read_account_status(connection, account),
        balances=rows(balances, balances.c.currency),
        orders=rows(open_orders, open_orders.c.created_at),
        events=rows(events, events.c.position.desc(), EVENTS)[::-1],
        commands=rows(outbox, outbox.c.outbox_id.desc(), COMMANDS)[::-1],
        statuses={status: number for status, number in sorted(map(tuple, statuses))},
    )


def one_line(view: View, elapsed_s: float) -> str:
    """Return the view as one line, for where there is no terminal."""
    statuses = ", ".join(f"{number} {status}" for status, number in view.statuses.items())
    return (
        f"{elapsed_s:4.0f} s  position {view.status.position:>5}"
        f"  balances {len(view.balances)}  open orders {len(view.orders)}"
        f"  outbox: {statuses or 'empty'}"
    )


def screen(view: View, now: datetime, sentence: str) -> Layout:
    """Return the view as one screen; ``sentence`` is its last line."""
    reported = warnings(view.status, now)
    state = reported[0] if reported else "recording"
    headline = f" recorder demo   position {view.status.position}   {state}"
    style = "bold white on red" if reported else "bold white on dark_green"
    layout = Layout()
    layout.split_column(
        Layout(_one_line(headline, style), size=1),
        Layout(name="state", ratio=3, minimum_size=7),
        Layout(
            _panel("log: SELECT * FROM events", map(_event, view.events)), ratio=5, minimum_size=6
        ),
        Layout(
            _panel("outbox: SELECT * FROM outbox", map(_command, view.commands)),
            ratio=3,
            minimum_size=5,
        ),
        Layout(_one_line(plain(sentence), "dim"), size=1),
    )
    layout["state"].split_row(
        Layout(_table("SELECT * FROM balances", view.balances, BALANCES)),
        Layout(_table("SELECT * FROM open_orders", view.orders, ORDERS)),
    )
    return layout


def _one_line(text: str, style: str) -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _table(title: str, rows: Iterable[Mapping[str, Any]], columns: Sequence[Column]) -> Panel:
    cells = [[Text(each.show(row[each.name])) for each in columns] for row in rows]
    return _panel(title, cells, columns)


def _panel(title: str, rows: Iterable[Cells], columns: Sequence[Column] = ()) -> Panel:
    inside = _Fitting(list(rows), columns)
    return Panel(inside, title=Text(title, style="dim"), title_align="left", box=box.ROUNDED)


@frozen
class _Fitting:
    """The rows that a panel has room for: of a table the first ones, of a stream the last.

    A stream has no ``columns``; the last cell of a row takes what is left of the line.
    """

    rows: Sequence[Cells]
    columns: Sequence[Column]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = max((options.height or len(self.rows)) - bool(self.columns), 0)
        hidden = max(len(self.rows) - room, 0)
        if self.columns:
            table, rows = Table(box=None, expand=True, pad_edge=False), self.rows[:room]
            for each in self.columns:
                side: JustifyMethod = "right" if each.right else "left"
                title = Text(each.title or each.name, style="dim")
                table.add_column(title, justify=side, no_wrap=True)
            if hidden and rows:
                rows = [*rows[:-1], [Text(f"… {hidden + 1} more", style="dim")]]
        else:
            table, rows = Table.grid(expand=True, padding=(0, 2)), self.rows[hidden:]
            for _ in rows[0][:-1] if rows else ():
                table.add_column(no_wrap=True)
            table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        for row in rows:
            table.add_row(*row)
        yield table


def _event(row: Mapping[str, Any]) -> Cells:
    arrow, style = _ORIGINS[row["origin"]]
    return [
        Text(str(row["position"]), style="dim"),
        Text(short_time(row["received_at"])[11:23], style="dim"),
        Text(f"{arrow} {plain(row['type'])}", style=style),
        Text(plain(row["payload"][:EXCERPT])),
    ]


def _command(row: Mapping[str, Any]) -> Cells:
    return [
        Text(str(row["outbox_id"]), style="dim"),
        Text(row["command"]),
        Text(row["status"], style=_STATUS_STYLES.get(row["status"], "yellow")),
        Text(plain(row["reason"] or row["payload"])[:EXCERPT]),
    ]
