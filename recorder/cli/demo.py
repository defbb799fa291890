"""``recorder demo``: a simulated exchange, a recorder and a trader, all at work on one screen.

They are what they are elsewhere: the recorder speaks to the exchange over a socket, the trader
queues orders with plain INSERTs, and what is shown is read with SQL. Nothing of the caller's own
settings is used, so that a demo never touches a real account or a real log.
"""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import shutil
import signal
import sys
from argparse import ArgumentParser
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import trio
from attrs import define
from rich.live import Live

from recorder.cli.call import Call
from recorder.cli.demo_screen import one_line, read_view, screen
from recorder.cli.demo_trader import queue_next
from recorder.cli.exits import DAMAGED, OK
from recorder.cli.flags import whole
from recorder.cli.groups import only
from recorder.cli.logs import log_to
from recorder.cli.output import Output, count_of
from recorder.config import Settings, read_settings
from recorder.daemon import run_daemon
from recorder.database.engine import Database, in_unit, open_database
from recorder.errors import RecorderError
from recorder.log.sql.verify import Damage, verify_account
from recorder.runtime import Runtime
from recorder.simulator import Simulator, SimulatorConfig, serve

ACCOUNT = "demo"
#: Duration in seconds where no terminal can send Ctrl-C.
SECONDS = 30
#: Between two looks at the tables, in seconds: on a screen, and in lines.
LOOK_S = 0.25
LINE_S = 2.0
#: Between two orders of the trader, in seconds.
ORDER_S = 1.5
#: When the line is cut once, in seconds, to show a gap open and close. No order is on its way then.
CUT_S = 5.2
#: Between two moves of the market, in seconds.
TICK_S = 0.5
QUERIES = (
    "SELECT currency, available, reserved, total FROM balances",
    "SELECT position, received_at, origin, type FROM events ORDER BY position DESC LIMIT 10",
    "SELECT outbox_id, command, status, reason, order_id FROM outbox",
)


def configure(parser: ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "--seconds",
        type=whole(1),
        metavar="N",
        help=f"end after N seconds [default: on a terminal at Ctrl-C, elsewhere after {SECONDS}]",
    )
    parser.add_argument("--seed", type=whole(0), default=1, help="of the market's moves [1]")
    parser.add_argument(
        "--database-url",
        dest="demo_database_url",
        metavar="URL",
        help="record into this database, as account 'demo' [default: a new SQLite file here]",
    )


def run(call: Call) -> int:
    """Show it until Ctrl-C or the end of its time, then print what is left and queries for it."""
    url = call.arguments.demo_database_url or f"sqlite:///{_new_file()}"
    is_terminal = call.output.out.isatty()
    # A line in between would tear the screen; what ends the recorder is reported at the end anyway.
    level = logging.CRITICAL if is_terminal else logging.WARNING
    log_to(call.output.err, as_json=False, level=level)
    seconds = call.arguments.seconds or (None if is_terminal else SECONDS)
    try:
        trio.run(_demonstrate, call, url, seconds, is_terminal)
    except BaseExceptionGroup as group:
        if (error := only(RecorderError, group)) is None:
            raise
        raise error from group
    return _print_summary(call.output, url)


def _new_file() -> Path:
    """Return a path here that nothing stands at yet. The recorder makes the file."""
    while (path := Path(f"recorder-demo-{secrets.token_hex(2)}.db")).exists():
        pass
    return path


async def _demonstrate(call: Call, url: str, seconds: int | None, is_terminal: bool) -> None:
    """Start the exchange, then the recorder, then trader and screen; stop the other way round."""
    config = SimulatorConfig(
        seed=call.arguments.seed, tick_s=TICK_S, autoplay=True, keep_sent=False
    )
    stop = trio.Event()
    async with trio.open_nursery() as exchange:
        simulator: Simulator = await exchange.start(partial(serve, config))
        settings = _settings(url, simulator, config)
        async with trio.open_nursery() as recorder:
            await recorder.start(partial(run_daemon, settings, Runtime(), stop=stop))
            with open_database(url, application="recorder-demo") as database:
                await _show_until_over(_Show(call, simulator, database, is_terminal), seconds)
            stop.set()
        exchange.cancel_scope.cancel()


def _settings(url: str, simulator: Simulator, config: SimulatorConfig) -> Settings:
    """Return settings from nowhere but here: neither environment nor recorder.toml are asked."""
    flags = {
        "database_url": url,
        "account": ACCOUNT,
        "ws_url": simulator.ws_url,
        "rest_url": simulator.rest_url,
        "trading": "1",
    }
    credentials = {"VALR_API_KEY": config.key, "VALR_API_SECRET": config.secret}
    # The null device is an empty file: without a name, a recorder.toml here would be read.
    return read_settings(credentials, flags, file=Path(os.devnull))


async def _show_until_over(show: _Show, seconds: int | None) -> None:
    with (
        trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals,
        trio.move_on_after(float("inf") if seconds is None else seconds),
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
            self.sentence = (
                f"INSERT INTO outbox: {queued}   (Ctrl-C ends)" if queued else self.sentence
            )

    async def cut_once(self) -> None:
        """Drop the connection as a network does, without a close frame."""
        await trio.sleep(CUT_S)
        await self.simulator.drop("cut")
        self.sentence = (
            "the connection was dropped: what may have been missed is a row of the table gaps"
        )

    async def look(self) -> None:
        """Read the tables and show them, again and again."""
        began = trio.current_time()
        with self._live() as live:
            while True:
                view = await trio.to_thread.run_sync(
                    in_unit, self.database.reader, read_view, ACCOUNT
                )
                if live is None:
                    self.call.output.line(one_line(view, trio.current_time() - began))
                    self.call.output.out.flush()
                else:
                    live.update(screen(view, self.call.now(), self.sentence), refresh=True)
                await trio.sleep(LINE_S if live is None else LOOK_S)

    def _live(self) -> AbstractContextManager[Live | None]:
        if not self.is_terminal:
            return nullcontext()
        return Live(console=self.call.output.console, screen=True, auto_refresh=False)


def _print_summary(output: Output, url: str) -> int:
    """Prove the log, and report where everything is now."""
    with open_database(url) as database:
        proof = in_unit(
            database.reader, partial(verify_account, account=ACCOUNT, on_progress=lambda _: None)
        )
        shown, is_sqlite = database.url_shown, database.dialect == "sqlite"
        path = database.url.database or ""
    output.line("")
    if isinstance(proof, Damage):
        output.line(f"the log is DAMAGED at position {proof.position}: {proof.what}")
        return DAMAGED
    output.line(f"Recorded {count_of(proof.events, 'event', 'events')}, and verified them all.")
    output.line(f"They stay in {path if is_sqlite else shown}. Ask it:")
    for query in QUERIES:
        asked = f"sqlite3 {shlex.quote(path)} {shlex.quote(query)}" if is_sqlite else f"{query};"
        output.line(f"  {asked}")
    # A URL from the command line may hold a password: nothing of it is repeated.
    flag = shlex.quote(url) if is_sqlite else "URL"
    for command in ("status", "balances", "outbox", "verify"):
        output.line(f"  {_command()} {command} --database-url {flag}")
    return OK


def _command() -> str:
    """Return what this person types to call the recorder, wherever that is installed."""
    beside = Path(sys.executable).with_name("recorder")
    if shutil.which("recorder") or not beside.exists():
        return "recorder" if shutil.which("recorder") else f"{sys.executable} -m recorder"
    return shlex.quote(os.path.relpath(beside))
