"""``recorder demo``: a simulated exchange, a recorder and a trader, all at work on one screen.

They are what they are elsewhere: the recorder speaks to the exchange over a socket, the trader
queues orders with plain INSERTs and knows the market only from the recorder's tables, and what is
shown is read with SQL. Nothing of the caller's own settings is used, so that a demo never touches
a real account or a real log.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shlex
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import nullcontext
from decimal import ROUND_DOWN, Decimal
from functools import partial
from pathlib import Path

import trio
from attrs import define
from rich.live import Live
from sqlalchemy import Connection, text

from recorder.cli.call import Call
from recorder.cli.command import NEITHER, argument, command, value, whole
from recorder.cli.demo_screen import one_line, read_view, screen
from recorder.cli.exits import DAMAGED, OK, only
from recorder.cli.output import Output
from recorder.cli.run import log_to
from recorder.config import read_settings
from recorder.daemon import run_daemon
from recorder.database.engine import Database, in_unit, open_database
from recorder.display import counted
from recorder.errors import RecorderError
from recorder.exchange.amounts import canonical_amount
from recorder.log.sql.verify import Damage, verify_account
from recorder.runtime import Runtime
from recorder.simulator import Simulator, SimulatorConfig, serve

ACCOUNT = "demo"
#: Duration in seconds where no terminal can send Ctrl-C.
SECONDS = 30
#: Seconds between two looks at the tables: on a screen, and in lines.
LOOK_S = 0.25
LINE_S = 2.0
#: Seconds between two orders of the trader, and between two moves of the market.
ORDER_S = 1.5
TICK_S = 0.5
#: When the connection is dropped once, in seconds, to show a gap open and close. No order is on its
#: way then.
CUT_S = 5.2
QUERIES = (
    "SELECT currency, available, reserved, total FROM balances",
    "SELECT position, received_at, origin, type FROM events ORDER BY position DESC LIMIT 10",
    "SELECT outbox_id, command, status, reason, order_id FROM outbox",
)


@command(
    value(
        "--seconds",
        whole(1),
        "N",
        f"end after N seconds [default: on a terminal at Ctrl-C, elsewhere after {SECONDS}]",
    ),
    value("--seed", whole(0), "SEED", "of the market's moves [1]", default=1),
    argument(
        "--database-url",
        dest="demo_database_url",
        metavar="URL",
        help="record into this database, as account 'demo' [default: a new SQLite file here]",
    ),
    settings=(),
    prints=NEITHER,
)
def demo_command(call: Call) -> int:
    """Show it until Ctrl-C or the end of its time, then print what is left and queries for it."""
    url = call.arguments.demo_database_url
    while not url:
        if not (path := Path(f"recorder-demo-{secrets.token_hex(2)}.db")).exists():
            url = f"sqlite:///{path}"
    is_terminal = call.output.out.isatty()
    # A line in between would tear the screen; what ends the recorder is printed at the end anyway.
    level = logging.CRITICAL if is_terminal else logging.WARNING
    log_to(call.output.err, as_json=False, level=level)
    seconds = call.arguments.seconds or (float("inf") if is_terminal else SECONDS)
    try:
        trio.run(_demonstrate, call, url, seconds, is_terminal)
    except BaseExceptionGroup as group:
        if (error := only(RecorderError, group)) is None:
            raise
        raise error from group
    return _print_summary(call.output, url)


async def _demonstrate(call: Call, url: str, seconds: float, is_terminal: bool) -> None:
    """Start the exchange, then the recorder, then trader and screen; stop the other way round."""
    config = SimulatorConfig(
        seed=call.arguments.seed, tick_s=TICK_S, autoplay=True, keep_sent=False
    )
    stop = trio.Event()
    async with trio.open_nursery() as exchange:
        simulator: Simulator = await exchange.start(partial(serve, config))
        flags = {
            "database_url": url,
            "account": ACCOUNT,
            "ws_url": simulator.ws_url,
            "rest_url": simulator.rest_url,
            "trading": "1",
        }
        credentials = {"VALR_API_KEY": config.key, "VALR_API_SECRET": config.secret}
        # The null device is an empty file: without a name, a recorder.toml here would be read.
        settings = read_settings(credentials, flags, file=Path(os.devnull))
        async with trio.open_nursery() as recorder:
            await recorder.start(partial(run_daemon, settings, Runtime(), stop=stop))
            with open_database(url, application="recorder-demo") as database:
                await _show_until_over(_Show(call, simulator, database, is_terminal), seconds)
            stop.set()
        exchange.cancel_scope.cancel()


async def _show_until_over(show: _Show, seconds: float) -> None:
    with (
        trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals,
        trio.move_on_after(seconds),
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch_signals, signals, nursery.cancel_scope)
            nursery.start_soon(show.trade)
            nursery.start_soon(show.look)
            nursery.start_soon(show.cut_once)


async def _watch_signals(signals: AsyncIterator[int], everything: trio.CancelScope) -> None:
    async for _ in signals:
        everything.cancel()


@define(eq=False)
class _Show:
    """The trader, the screen, and one accident; the screen's last line shows the last action."""

    call: Call
    simulator: Simulator
    database: Database
    is_terminal: bool
    sentence: str = "the first order follows"

    async def trade(self) -> None:
        """Queue an order now and then."""
        step = 0
        while True:
            await trio.sleep(ORDER_S)
            queued = await trio.to_thread.run_sync(
                in_unit, self.database.writer, queue_next, ACCOUNT, step
            )
            step += 1
            if queued:
                self.sentence = f"INSERT INTO outbox: {queued}   (Ctrl-C ends)"

    async def cut_once(self) -> None:
        """Drop the connection as a network does, without a close frame."""
        await trio.sleep(CUT_S)
        await self.simulator.drop("cut")
        self.sentence = (
            "the connection was dropped: what may have been missed is a row of the table gaps"
        )

    async def look(self) -> None:
        """Read the tables and show them, again and again."""
        began, output = trio.current_time(), self.call.output
        drawn = Live(console=output.console, screen=True, auto_refresh=False)
        with drawn if self.is_terminal else nullcontext():
            while True:
                view = await trio.to_thread.run_sync(
                    in_unit, self.database.reader, read_view, ACCOUNT
                )
                if self.is_terminal:
                    drawn.update(screen(view, self.call.now(), self.sentence), refresh=True)
                else:
                    output.line(one_line(view, trio.current_time() - began))
                    output.out.flush()
                await trio.sleep(LOOK_S if self.is_terminal else LINE_S)


def _print_summary(output: Output, url: str) -> int:
    """Prove the log, and print where everything is now."""
    with open_database(url) as database:
        prove = partial(verify_account, account=ACCOUNT, on_progress=lambda _: None)
        proof = in_unit(database.reader, prove)
        shown, is_sqlite = database.url_shown, database.dialect == "sqlite"
        path = database.url.database or ""
    output.line()
    if isinstance(proof, Damage):
        output.line(f"the log is DAMAGED at position {proof.position}: {proof.what}")
        return DAMAGED
    output.line(f"Recorded {counted(proof.events, 'event', 'events')}, and verified them all.")
    output.line(f"They stay in {path if is_sqlite else shown}. Ask it:")
    for query in QUERIES:
        asked = f"sqlite3 {shlex.quote(path)} {shlex.quote(query)}" if is_sqlite else f"{query};"
        output.line(f"  {asked}")
    # A URL from the command line may hold a password: nothing of it is repeated.
    flag = shlex.quote(url) if is_sqlite else "URL"
    # What this person types to call the recorder, wherever that is installed.
    program, beside = "recorder", Path(sys.executable).with_name("recorder")
    if not shutil.which(program):
        module = f"{sys.executable} -m recorder"
        program = shlex.quote(os.path.relpath(beside)) if beside.exists() else module
    for name in ("status", "balances", "outbox", "verify"):
        output.line(f"  {program} {name} --database-url {flag}")
    return OK


# The trader

PAIR = "BTCZAR"
QUEUE = "INSERT INTO outbox (account, command, payload) VALUES (:account, :command, :payload)"
LAST_PRICE = (
    "SELECT price FROM trades WHERE account = :account AND pair = :pair"
    " ORDER BY position DESC LIMIT 1"
)
OLDEST_ORDER = (
    "SELECT order_id, pair FROM open_orders WHERE account = :account"
    " ORDER BY created_at, order_id LIMIT 1"
)
#: Turn → side, price as a share of the last one, quantity.
_LIMITS = {
    1: ("BUY", Decimal("0.97"), "0.001"),
    2: ("SELL", Decimal("1.01"), "0.0008"),
    3: ("BUY", Decimal("0.999"), "0.0015"),
    4: ("BUY", Decimal("0.98"), "1000"),
}


def queue_next(connection: Connection, account: str, step: int) -> str | None:
    """Queue the order of this step; return what was queued, or None if there is none.

    The steps go round: buy at the market, bid below it, offer above it, bid near it, ask for more
    than the account has (the exchange refuses that), cancel the oldest order.
    """
    turn = step % 6
    # Text on SQLite, NUMERIC on PostgreSQL; exact either way.
    price = connection.execute(text(LAST_PRICE), {"account": account, "pair": PAIR}).scalar()
    order: dict[str, object] = {"side": "BUY", "pair": PAIR, "quoteAmount": "1000"}
    name = "PLACE_MARKET_ORDER"
    if price is not None and turn == 5:
        row = connection.execute(text(OLDEST_ORDER), {"account": account}).one_or_none()
        if row is None:
            return None
        name, order = "CANCEL_ORDER", {"orderId": row.order_id, "pair": row.pair}
    elif price is not None and turn:
        side, share, quantity = _LIMITS[turn]
        bid = (Decimal(price) * share).quantize(Decimal(1), rounding=ROUND_DOWN)
        terms = {"quantity": quantity, "price": canonical_amount(bid), "postOnly": True}
        name, order = "PLACE_LIMIT_ORDER", {"side": side, "pair": PAIR, **terms}
    payload = json.dumps(order, separators=(",", ":"))
    connection.execute(text(QUEUE), {"account": account, "command": name, "payload": payload})
    return f"{name} {payload}"
