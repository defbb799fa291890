"""What the demo shows: one look at the tables, as one screen or as one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import frozen
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from sqlalchemy import Connection, func, select

from recorder.database.schema import balances, events, open_orders, outbox
from recorder.display import plain, short_time, shown
from recorder.queries.account_status import AccountStatus, read_account_status, warnings

#: Rows read for a panel; how many of them are shown, the height of the screen decides.
EVENTS = 40
COMMANDS = 20
#: Characters of a payload that a line has room for.
EXCERPT = 200


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
    layout = Layout()
    layout.split_column(
        Layout(_headline(view, now), size=1),
        Layout(name="state", ratio=3, minimum_size=7),
        Layout(_panel("log: SELECT * FROM events", _events(view)), ratio=5, minimum_size=6),
        Layout(_panel("outbox: SELECT * FROM outbox", _commands(view)), ratio=3, minimum_size=5),
        Layout(Text(plain(sentence), no_wrap=True, overflow="ellipsis", style="dim"), size=1),
    )
    layout["state"].split_row(
        Layout(_panel("SELECT * FROM balances", _balances(view))),
        Layout(_panel("SELECT * FROM open_orders", _orders(view))),
    )
    return layout


def _headline(view: View, now: datetime) -> Text:
    reported = warnings(view.status, now)
    state = reported[0] if reported else "recording"
    line = f" recorder demo   position {view.status.position}   {state}"
    style = "bold white on red" if reported else "bold white on dark_green"
    return Text(line, style=style, no_wrap=True, overflow="ellipsis")


@frozen
class _Fitting:
    """The rows that a panel has room for: of a stream the last ones, for what is new is at its end.

    ``head`` names the columns of a table, with the side they are aligned to; a stream has none.
    """

    rows: Sequence[Sequence[Text]]
    head: Sequence[tuple[str, str]] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = (options.height or len(self.rows)) - bool(self.head)
        if self.head:
            yield self._with_head(self._first(room))
        else:
            yield self._as_lines(self.rows[-room:] if room > 0 else [])

    def _first(self, room: int) -> Sequence[Sequence[Text]]:
        """Return the first rows; where there is no room for all, how many more there are."""
        if len(self.rows) <= room or room < 1:
            return self.rows[: max(room, 0)]
        left = Text(f"… {len(self.rows) - room + 1} more", style="dim")
        return [*self.rows[: room - 1], [left]]

    def _with_head(self, rows: Sequence[Sequence[Text]]) -> Table:
        table = Table(box=None, expand=True, pad_edge=False)
        for title, side in self.head:
            right = side == "right"
            table.add_column(
                Text(title, style="dim"), justify="right" if right else "left", no_wrap=True
            )
        for row in rows:
            table.add_row(*row)
        return table

    def _as_lines(self, rows: Sequence[Sequence[Text]]) -> Table:
        """Return rows whose last cell takes what is left of the line."""
        table = Table.grid(expand=True, padding=(0, 2))
        for row in rows:
            if not table.columns:
                for _ in row[:-1]:
                    table.add_column(no_wrap=True)
                table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
            table.add_row(*row)
        return table


def _panel(title: str, inside: _Fitting) -> Panel:
    return Panel(inside, title=Text(title, style="dim"), title_align="left", box=box.ROUNDED)


def _balances(view: View) -> _Fitting:
    head = (("currency", "left"), ("available", "right"), ("reserved", "right"))
    return _Fitting(
        [_cells(row, "currency", "available", "reserved") for row in view.balances], head
    )


def _orders(view: View) -> _Fitting:
    head = (("side", "left"), ("pair", "left"), ("price", "right"), ("remaining", "right"))
    names = ("side", "pair", "price", "remaining_quantity")
    return _Fitting([_cells(row, *names) for row in view.orders], head)


def _cells(row: Mapping[str, Any], *names: str) -> list[Text]:
    return [Text(shown(row[name])) for name in names]


def _events(view: View) -> _Fitting:
    return _Fitting([_event(row) for row in view.events])


def _event(row: Mapping[str, Any]) -> list[Text]:
    arrow, style = _ORIGINS[row["origin"]]
    return [
        Text(str(row["position"]), style="dim"),
        Text(short_time(row["received_at"])[11:23], style="dim"),
        Text(f"{arrow} {plain(row['type'])}", style=style),
        Text(plain(row["payload"][:EXCERPT])),
    ]


_ORIGINS = {
    "received": ("<", "cyan"),
    "sent": (">", "yellow"),
    "fetched": ("<", "cyan"),
    "noted": ("·", "dim"),
}


def _commands(view: View) -> _Fitting:
    return _Fitting([_command(row) for row in view.commands])


def _command(row: Mapping[str, Any]) -> list[Text]:
    return [
        Text(str(row["outbox_id"]), style="dim"),
        Text(row["command"]),
        Text(row["status"], style=_STATUS_STYLES.get(row["status"], "yellow")),
        Text(plain(row["reason"] or row["payload"])[:EXCERPT]),
    ]


_STATUS_STYLES = {"accepted": "green", "rejected": "red", "in_doubt": "bold red"}
