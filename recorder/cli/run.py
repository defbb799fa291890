"""``recorder run``: the daemon, and how it logs.

A line of the log is one line even where it quotes the exchange, so that no text can forge a second.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
from functools import partial
from typing import TextIO

import trio

from recorder.cli.call import Call
from recorder.cli.command import NEITHER, command, switch
from recorder.cli.exits import OK, exit_code
from recorder.display import iso_time, plain
from recorder.errors import RecorderError
from recorder.signals import run_until_signal
from recorder.timestamps import from_us

#: How long a thread may keep the interpreter from another that waits, in seconds. The default of
#: 5 ms would be added to each hop between the event loop and a thread that folds.
SWITCH_INTERVAL_S = 0.0005


@command(
    switch("--log-json", "log JSON objects, one a line"),
    switch("--verbose", "log what is done, not only changes"),
    settings=None,
    prints=NEITHER,
)
def run_command(call: Call) -> int:
    """Record until SIGTERM or SIGINT. Everything that was read is durable when this returns."""
    settings = call.settings(credentials=True)
    level = logging.DEBUG if call.arguments.verbose else logging.INFO
    log_to(call.output.err, as_json=call.arguments.log_json, level=level)
    tune_interpreter()
    trio.run(run_until_signal, settings, partial(leave, call.output.err))
    return OK


def leave(err: TextIO, error: RecorderError | None) -> None:
    """End the process at once, whatever its threads are waiting for."""
    if error is not None:
        print(f"recorder: {error}", file=err)
    err.flush()
    os._exit(OK if error is None else exit_code(error))


def tune_interpreter() -> None:
    """Tune this process to answer within milliseconds for its whole lifetime."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # A hundred thousand objects of imported modules never die; looking through them all at every
    # full collection would stop the process for 50 ms.
    gc.collect()
    gc.freeze()


class PlainLines(logging.Formatter):
    """``2026-01-31T12:00:00.000000Z INFO recorder.daemon: …``."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname} {record.name}: {record.getMessage()}"
        # A bug's traceback stays readable: it is ours, not the exchange's.
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return plain(line) + trace


class JsonLines(logging.Formatter):
    """One JSON object a line: at, level, logger, message, and exception where there was one."""

    def format(self, record: logging.LogRecord) -> str:
        sentence = {
            "at": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            sentence["exception"] = self.formatException(record.exc_info)
        return json.dumps(sentence)


def log_to(stream: TextIO, *, as_json: bool, level: int = logging.INFO) -> None:
    """Send everything that is logged to ``stream``; of other packages only from WARNING on."""
    lines = logging.StreamHandler(stream)
    lines.setFormatter(JsonLines() if as_json else PlainLines())
    logging.basicConfig(handlers=[lines], level=logging.WARNING, force=True)
    logging.getLogger("recorder").setLevel(level)


def _time(record: logging.LogRecord) -> str:
    return iso_time(from_us(int(record.created * 1_000_000)))
