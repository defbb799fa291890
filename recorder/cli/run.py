"""``recorder run``: the daemon."""

from __future__ import annotations

import gc
import logging
import os
import sys
from argparse import ArgumentParser
from functools import partial
from typing import TextIO

import trio

from recorder.cli.call import Call
from recorder.cli.exits import OK, exit_code
from recorder.cli.flags import add_settings
from recorder.cli.logs import log_to
from recorder.errors import RecorderError
from recorder.signals import run_until_signal

#: How long a thread may keep the interpreter from another that waits, in seconds. The default of
#: 5 ms would be added to each hop between the event loop and a thread that folds.
SWITCH_INTERVAL_S = 0.0005


def configure(parser: ArgumentParser) -> None:
    """Add this command's arguments: every setting there is."""
    parser.add_argument("--log-json", action="store_true", help="log JSON objects, one a line")
    parser.add_argument("--verbose", action="store_true", help="log what is done, not only changes")
    add_settings(parser)


def run(call: Call) -> int:
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
